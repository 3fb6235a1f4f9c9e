"""Attributes of boxes by open_clip: which words of each group fit the box of an object best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlcap.errors import ConfigError
from rlcap.experts.base import Expert, ExpertInput, Statement, crop
from rlcap.io.addresses import resolve_address
from rlcap.scorers.clip import ClipScorer

GROUPS: Mapping[str, tuple[str, ...]] = {
    "material": ("wooden", "metal", "plastic", "glass", "stone", "brick", "leather", "cloth", "paper"),
    "pattern": ("striped", "dotted", "checkered", "plain", "floral"),
    "state": ("new", "old", "broken", "dirty", "clean", "wet", "open", "closed"),
}
"""Group → attributes of which at most one is named."""


class Attributes(Expert):
    """Names the attributes of each box that a detector found, such as `wooden table`.

    Within a group, the probability of an attribute is a softmax over "a photo of a ATTRIBUTE NAME.", with the model's temperature.

    Args:
        clip: An open_clip model, as for `rlcap.experts.tagger`.
        pretrained: The tag of the weights.
        groups: Group → attributes that exclude each other; None for `GROUPS`.
        threshold: The lowest probability of an attribute, in [0, 1].
        boxes: Boxes of an image, at most, the surest first.
        device: Where the model runs.

    Raises:
        ConfigError: A group has fewer than two attributes.
    """

    reads_known = True

    def __init__(
        self,
        clip: str,
        pretrained: str | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        threshold: float = 0.6,
        boxes: int = 8,
        device: str = "cpu",
    ) -> None:
        self.groups = {name: tuple(words) for name, words in (groups or GROUPS).items()}
        if short := [name for name, words in self.groups.items() if len(words) < 2]:
            raise ConfigError(
                f"the attribute group {short[0]!r} needs two attributes or more, of which the best is named"
            )
        self.clip, self.pretrained, self.device = clip, pretrained, device
        self.threshold, self.boxes = threshold, boxes
        self._scorer: ClipScorer | None = None

    def files(self) -> Sequence[str]:
        """Return the folder of the model."""
        return (resolve_address(self.clip).removeprefix("local-dir:"),)

    def describe(self, inputs: Sequence[ExpertInput]) -> list[list[Statement]]:
        """Return a statement for each attribute that is likely enough."""
        if self._scorer is None:
            self._scorer = ClipScorer.load(self.clip, self.pretrained, device=self.device)
        scorer = self._scorer
        found = [one.boxes(self.boxes) for one in inputs]
        crops = []
        for one, boxes in zip(inputs, found, strict=True):
            image = one.open() if boxes else None
            crops += [crop(image, box) for box, _ in boxes if image is not None]
        if not crops:
            return [[] for _ in inputs]
        vectors = iter(scorer.embed_pictures(crops))
        return [
            [statement for box, name in boxes for statement in self._name(scorer, next(vectors), name, box)]
            for boxes in found
        ]

    def _name(self, scorer: ClipScorer, vector: Any, name: str, box: Any) -> list[Statement]:
        statements = []
        for words in self.groups.values():
            texts = scorer.text_embeddings([f"a photo of a {word} {name}." for word in words], pooling="whole").vectors
            shares = (scorer.logit_scale * texts @ vector).softmax(-1).tolist()
            best = max(range(len(words)), key=shares.__getitem__)
            if shares[best] >= self.threshold:
                statements.append(Statement(f"{words[best]} {name}", "attribute", score=shares[best], box=box))
        return statements
