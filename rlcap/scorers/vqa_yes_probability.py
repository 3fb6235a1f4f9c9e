"""The probability that a vision-language model answers a question with yes, without generating any text.

    scorer = YesProbabilityScorer.load("Qwen/Qwen2.5-VL-3B-Instruct")
    scorer.probabilities([image], ["Is there a dog? Please answer yes or no."])

Any chat model works that transformers loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image

from rlcap.errors import ConfigError
from rlcap.io.addresses import resolve_address
from rlcap.scorers.loading import explain_load_errors, load_complete_model
from rlcap.scorers.text.batches import replace_lone_surrogates

YES_TEXTS = ("Yes", "yes", " Yes", " yes")
NO_TEXTS = ("No", "no", " No", " no")
"""Answers whose first tokens do not count as yes: some tokenizers split off a space, which would begin both answers."""


class YesProbabilityScorer:
    """A frozen chat vision-language model; usually created by `load`."""

    def __init__(self, model: Any, processor: Any, batch_size: int = 8, name: str = "vlm") -> None:
        self.model, self.processor, self.batch_size = model.eval().requires_grad_(False), processor, batch_size
        tokenizer = processor.tokenizer
        tokenizer.padding_side = "left"
        if not getattr(processor, "chat_template", None):
            raise ConfigError(f"{name} has no chat template: give a chat model, since it has to answer questions")
        yes, no = (
            {ids[0] for text in texts if (ids := tokenizer(text, add_special_tokens=False)["input_ids"])}
            for texts in (YES_TEXTS, NO_TEXTS)
        )
        self.ids = sorted(yes - no - {tokenizer.unk_token_id})
        if not self.ids:
            raise ConfigError(f"{name}'s tokenizer has no token for yes; give another model")

    @classmethod
    def load(cls, path_or_name: str, device: str = "cpu", dtype: str | None = None) -> YesProbabilityScorer:
        """Load from a folder or a hub name; safetensors only.

        Args:
            path_or_name: folder or hub name of a chat vision-language model.
            device: where the model runs.
            dtype: precision of the weights; None takes that of the file on a GPU, and single precision on a CPU, where half
                precision is many times slower.

        Raises:
            ConfigError: the model does not exist.
        """
        from transformers import AutoModelForImageTextToText, AutoProcessor

        folder = resolve_address(path_or_name)
        with explain_load_errors(
            "vision-language model", path_or_name, "give the folder or hub name of a chat vision-language model"
        ):
            model = load_complete_model(
                AutoModelForImageTextToText,
                folder,
                "vision-language model",
                path_or_name,
                use_safetensors=True,
                dtype=dtype or ("float32" if device == "cpu" else "auto"),
            )
            processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
        return cls(model.to(device), processor, name=path_or_name)

    @torch.inference_mode()
    def probabilities(self, images: Sequence[Image], questions: Sequence[str]) -> list[float]:
        """Return for each (image, question) the probability in [0, 1] that the answer begins with yes."""
        probabilities: list[float] = []
        for start in range(0, len(images), self.batch_size):
            rows = [
                [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "image": image},
                            {"type": "text", "text": replace_lone_surrogates(question)},
                        ],
                    }
                ]
                for image, question in zip(
                    images[start : start + self.batch_size], questions[start : start + self.batch_size], strict=True
                )
            ]
            inputs = self.processor.apply_chat_template(
                rows,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                processor_kwargs={"return_tensors": "pt", "padding": True},
            ).to(self.model.device, self.model.dtype)
            logits = self.model(**inputs, logits_to_keep=1).logits[:, -1].float()
            probabilities += logits.softmax(-1)[:, self.ids].sum(-1).tolist()
        return probabilities
