"""CHAIR: does the caption mention objects that are not in the image?

measures  r = −CHAIR_i = −(mentions of absent objects / mentions of objects). form f1: harmonic mean of the share of
          mentioned classes that are there and the share of classes there that are mentioned
range     [-1, 0], or [0, 1] as f1; 0, or 1, where every mention is right
needs     references or meta["objects"]; what is there = annotated objects ∪ objects of the references
cost      none: looks words up
source    Rohrbach et al., EMNLP 2018, with another synonym list (of 648 mentions on 79 COCO photos 92.7 % are annotated there,
          93.2 % by the published list) and without a tagger. CHAIR_i and CHAIR_s are logged
hack      name one sure object and speak of none else; anything outside the vocabulary is free, as are wrong colours, counts
          and places; without annotations a true object that no annotator wrote counts as false
guards    f1 asks for all the objects; a caption without any object gets the lowest value where there are some (CHAIR itself
          gives it the highest); hallucination and critique for the rest
fails     salad, one_false; as f1 on 100 COCO photos (42 %, 7 %); as chair none above 5 %, but it ties on most
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.objects.vocabulary import Vocabulary
from rlcap.types import RewardBatch, Sample, Score


def chair_i(mentions: Iterable[str], present: Iterable[str]) -> float:
    """Absent over all mentions, in [0, 1]; 0 where nothing is mentioned. Two of eight absent → .25."""
    there, said = set(present), list(mentions)
    return sum(label not in there for label in said) / len(said) if said else 0.0


def object_f1(mentions: Iterable[str], present: Iterable[str]) -> float:
    """2 · |said ∩ there| / (|said| + |there|) over classes, in [0, 1]; 1 where both are empty."""
    said, there = set(mentions), set(present)
    return 2 * len(said & there) / (len(said) + len(there)) if said or there else 1.0


class Chair(Reward):
    """vocabulary: None for COCO's 80 classes, a file with a class a line (name, synonyms, …), a mapping class → names, or a
    `Vocabulary`. form: `chair` or `f1`. references: whether their objects count as there, as in the published metric.

    An image of which nothing is known abstains: no reference, no `objects` in its meta.
    """

    name, range, version = "chair", (-1.0, 0.0), "1"

    def __init__(
        self,
        vocabulary: Vocabulary | Mapping[str, Iterable[str]] | str | None = None,
        form: Literal["chair", "f1"] = "chair",
        references: bool = True,
    ) -> None:
        if form not in ("chair", "f1"):
            raise ValueError(f"form must be chair or f1, got {form!r}")
        if isinstance(vocabulary, str):
            vocabulary = Vocabulary.read(vocabulary)
        elif isinstance(vocabulary, Mapping):
            vocabulary = Vocabulary(vocabulary)
        self.vocabulary, self.form, self.references = vocabulary or Vocabulary.coco(), form, references
        self.range = (-1.0, 0.0) if form == "chair" else (0.0, 1.0)

    def present(self, sample: Sample) -> set[str] | None:
        """The classes that are in the image, None where nothing is known of it."""
        annotated: Any = sample.meta.get("objects")
        if not isinstance(annotated, list | tuple | set):
            annotated = None
        texts = [text for text in sample.references if text.strip()] if self.references else []
        if annotated is None and not texts:
            return None
        named = [self.vocabulary.label(str(name)) for name in annotated or ()]
        return {label for label in named if label} | {
            label for text in texts for label in self.vocabulary.mentions(text)
        }

    def score(self, batch: RewardBatch) -> RewardOutput:
        scores, rates, metrics = [], [], {}
        for caption, sample in zip(batch.captions, batch.samples, strict=True):
            there = self.present(sample)
            if there is None:
                scores.append(Score.abstain("neither references nor meta['objects'] say what is in the image"))
                continue
            said = self.vocabulary.mentions(caption)
            rates.append(chair_i(said, there))
            if self.form == "f1":
                scores.append(Score(object_f1(said, there)))
            else:
                scores.append(Score(-rates[-1] if said or not there else self.range[0]))
        if rates:
            wrong = sum(rate > 0 for rate in rates)
            metrics = {"chair_i": sum(rates) / len(rates), "chair_s": wrong / len(rates)}
        return RewardOutput(scores, metrics)
