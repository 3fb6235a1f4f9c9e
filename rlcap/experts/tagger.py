"""Tags of the whole image: by open_clip over a vocabulary, or by any image classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlcap.experts.base import Expert, ExpertInput, Statement
from rlcap.experts.words import read_vocabulary
from rlcap.io.addresses import resolve_address
from rlcap.scorers.clip import ClipScorer
from rlcap.scorers.loading import explain_load_errors

TEMPLATE = "a photo of {}."


class Tagger(Expert):
    """Tags an image by a CLIP model: the words of a vocabulary whose texts are nearest to the image.

    The score of a word is its probability in a softmax over the vocabulary, with the model's own temperature, as in zero-shot
    classification (Radford et al. 2021, arXiv 2103.00020).

    Args:
        clip: An open_clip model: `local-dir:PATH`, a hub name, or a built-in name with `pretrained`.
        pretrained: The tag of the weights.
        vocabulary: `coco`, a text file, or a list of words.
        template: The text around a word, with {}.
        most: Tags of an image, at most.
        threshold: The lowest probability of a tag, in [0, 1].
        device: Where the model runs.
    """

    def __init__(
        self,
        clip: str,
        pretrained: str | None = None,
        vocabulary: str | Sequence[str] = "coco",
        template: str = TEMPLATE,
        most: int = 5,
        threshold: float = 0.05,
        device: str = "cpu",
    ) -> None:
        self.clip, self.pretrained, self.device = clip, pretrained, device
        self.words, self.template = read_vocabulary(vocabulary), template
        self.most, self.threshold = most, threshold
        self._loaded: tuple[ClipScorer, Any] | None = None

    def files(self) -> Sequence[str]:
        """Return the folder of the model."""
        return (resolve_address(self.clip).removeprefix("local-dir:"),)

    def describe(self, inputs: Sequence[ExpertInput]) -> list[list[Statement]]:
        """Return the tags of each image, the likeliest first."""
        if self._loaded is None:
            scorer = ClipScorer.load(self.clip, self.pretrained, device=self.device)
            embedded = scorer.text_embeddings([self.template.format(word) for word in self.words], pooling="whole")
            self._loaded = scorer, embedded.vectors
        scorer, words = self._loaded
        images = scorer.image_embeddings([one.sample.image for one in inputs])
        shares = (scorer.logit_scale * images @ words.T).softmax(-1).tolist()
        return [self._tags(row) for row in shares]

    def _tags(self, shares: Sequence[float]) -> list[Statement]:
        best = sorted(range(len(shares)), key=lambda i: -shares[i])[: self.most]
        return [Statement(self.words[i], "tag", score=shares[i]) for i in best if shares[i] >= self.threshold]


class Classifier(Expert):
    """Tags an image by an `AutoModelForImageClassification` of transformers.

    Args:
        model: Folder or hub name of the model.
        most: Tags of an image, at most.
        threshold: The lowest probability of a tag, in [0, 1].
        device: Where the model runs.
    """

    def __init__(self, model: str, most: int = 3, threshold: float = 0.1, device: str = "cpu") -> None:
        self.model, self.most, self.threshold, self.device = model, most, threshold, device
        self._loaded: tuple[Any, Any] | None = None

    def files(self) -> Sequence[str]:
        """Return the folder of the model."""
        return (resolve_address(self.model),)

    def describe(self, inputs: Sequence[ExpertInput]) -> list[list[Statement]]:
        """Return the likeliest classes of each image. Of a class with several names ("tabby, tabby cat") the first is taken."""
        import torch

        model, processor = self._load()
        batch = processor(images=[one.open() for one in inputs], return_tensors="pt").to(self.device)
        with torch.inference_mode():
            shares = model(**batch).logits.softmax(-1)
        values, indices = shares.topk(min(self.most, shares.shape[-1]))
        return [
            [
                Statement(model.config.id2label[i].split(",")[0], "tag", score=value)
                for value, i in zip(row, places, strict=True)
                if value >= self.threshold
            ]
            for row, places in zip(values.tolist(), indices.tolist(), strict=True)
        ]

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoImageProcessor, AutoModelForImageClassification

            reader: Any = AutoImageProcessor  # its `from_pretrained` has no types
            folder = resolve_address(self.model)
            fix = "give the folder or hub name of an image classifier, such as google/vit-base-patch16-224"
            with explain_load_errors("classifier", self.model, fix):
                model: Any = AutoModelForImageClassification.from_pretrained(folder, use_safetensors=True)
                processor: Any = reader.from_pretrained(folder)
            self._loaded = model.to(self.device).eval().requires_grad_(False), processor
        return self._loaded
