"""Scores of well-formed sentences: the probability of a grammar classifier, or the likelihood under a language model.

    AcceptabilityScorer.load("textattack/roberta-base-CoLA", label=1).probabilities(texts)
    LikelihoodScorer.load("gpt2").log_probs(texts)

`rlcap.scorers.training.grammar` trains a classifier on your own captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rlcap.scorers.loading import explain_load_errors, load_text_model
from rlcap.scorers.text.batches import length_sorted_batches, replace_lone_surrogates

MAX_TOKENS = 512
"""Largest number of tokens that are read of a text, even where a model could read more."""


def find_acceptable_column(id2label: Mapping[int, str], label: int | None = None) -> int:
    """Return the output column of the label "grammatical" or "acceptable".

    Args:
        id2label: the model's label names.
        label: number of the column, where the names don't tell (LABEL_1).

    Raises:
        ValueError: there is no such column; the message lists the model's labels.
    """
    if label is not None:
        if label not in {int(i) for i in id2label}:
            raise ValueError(f"the model has no label {label}: its labels are {dict(id2label)}")
        return label
    columns = [int(i) for i, name in id2label.items() if str(name).lower() in ("grammatical", "acceptable")]
    if len(columns) != 1:
        raise ValueError(
            f"which of the model's labels {dict(id2label)} means a grammatical sentence? Not exactly one is called "
            "`grammatical` or `acceptable`: give its number as `label`"
        )
    return columns[0]


class AcceptabilityScorer:
    """A frozen sequence classifier with a label for well-formed sentences; usually created by `load`."""

    def __init__(self, model: Any, tokenizer: Any, label: int | None = None, batch_size: int = 64) -> None:
        self.model, self.tokenizer, self.batch_size = model.eval().requires_grad_(False), tokenizer, batch_size
        self.column = find_acceptable_column(model.config.id2label, label)
        self.max_tokens = max_readable_tokens(model, tokenizer)

    @classmethod
    def load(cls, path_or_name: str, label: int | None = None, device: str = "cpu") -> AcceptabilityScorer:
        """Load from a folder or a hub name; safetensors only.

        Raises:
            ConfigError: the model or the label does not exist.
        """
        from transformers import AutoModelForSequenceClassification

        fix = "give the folder or hub name of a classifier of grammatical sentences"
        model, tokenizer = load_text_model(
            AutoModelForSequenceClassification, path_or_name, device, "grammar model", fix
        )
        with explain_load_errors("grammar model", path_or_name, fix):
            return cls(model, tokenizer, label)

    @torch.inference_mode()
    def probabilities(self, texts: Sequence[str]) -> Tensor:
        """Return (N,) float32 P(grammatical) of N texts on the CPU; each distinct text is run once."""
        unique = list(dict.fromkeys(texts))
        scores = dict.fromkeys(unique, 0.0)
        for rows in length_sorted_batches([len(text) for text in unique], self.batch_size):
            encoded = self.tokenizer(
                [replace_lone_surrogates(unique[i]) for i in rows],
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            )
            logits = self.model(**encoded.to(self.model.device)).logits.float()
            scores |= zip((unique[i] for i in rows), logits.softmax(-1)[:, self.column].tolist(), strict=True)
        return torch.tensor([scores[text] for text in texts])


class LikelihoodScorer:
    """A frozen causal language model that scores how likely a text is; usually created by `load`."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 16) -> None:
        self.model, self.tokenizer, self.batch_size = model.eval().requires_grad_(False), tokenizer, batch_size
        start = tokenizer.bos_token_id
        self.start = tokenizer.eos_token_id if start is None else start  # GPT-2 has one special token for both
        if self.start is None:
            raise ValueError(
                "the tokenizer has neither a start nor an end token, and a text must begin with one of them"
            )
        self.max_tokens = max_readable_tokens(model, tokenizer)
        self.words = int(model.config.get_text_config().vocab_size)

    @classmethod
    def load(cls, path_or_name: str, device: str = "cpu") -> LikelihoodScorer:
        """Load from a folder or a hub name; safetensors only.

        Raises:
            ConfigError: the model does not exist.
        """
        from transformers import AutoModelForCausalLM

        fix = "give the folder or hub name of a causal language model"
        return cls(*load_text_model(AutoModelForCausalLM, path_or_name, device, "language model", fix))

    @torch.inference_mode()
    def log_probs(self, texts: Sequence[str]) -> Tensor:
        """Return (N,) float32 mean log-probabilities of the tokens of N texts, in nats, on the CPU.

        This is minus the logarithm of the perplexity. A text without tokens gives NaN. Each distinct text is run once.
        """
        unique = list(dict.fromkeys(texts))
        encoded = [
            self.tokenizer(replace_lone_surrogates(text), add_special_tokens=False, verbose=False)["input_ids"][
                : self.max_tokens - 1
            ]
            for text in unique
        ]
        scores = dict.fromkeys(unique, float("nan"))
        rows_of = [i for i, ids in enumerate(encoded) if ids]
        for batch in length_sorted_batches([len(encoded[i]) for i in rows_of], self.batch_size):
            rows = [rows_of[k] for k in batch]
            width = max(len(encoded[i]) for i in rows)
            ids = torch.full((len(rows), width + 1), self.start)
            mask = torch.zeros(len(rows), width + 1, dtype=torch.long)
            for n, i in enumerate(rows):
                ids[n, 1 : len(encoded[i]) + 1] = torch.tensor(encoded[i])
                mask[n, : len(encoded[i]) + 1] = 1
            ids, mask = ids.to(self.model.device), mask.to(self.model.device)
            logits = self.model(input_ids=ids, attention_mask=mask).logits.float()
            losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
            kept = mask[:, 1:]
            means = -(losses * kept).sum(1) / kept.sum(1)
            scores |= zip((unique[i] for i in rows), means.tolist(), strict=True)
        return torch.tensor([scores[text] for text in texts])


def max_readable_tokens(model: Any, tokenizer: Any) -> int:
    """Return the number of tokens that both model and tokenizer can read, at most `MAX_TOKENS`."""
    limit = getattr(model.config, "max_position_embeddings", None) or MAX_TOKENS
    # RoBERTa's positions begin after that of its padding token
    offset = (
        (getattr(model.config, "pad_token_id", 0) or 0) + 1
        if model.config.model_type in ("roberta", "xlm-roberta", "camembert")
        else 0
    )
    return min(limit - offset, tokenizer.model_max_length, MAX_TOKENS)
