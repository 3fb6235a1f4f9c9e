"""CHAIR: does the caption mention objects that are not in the image?

measures  r = −CHAIR_i = −(mentions of absent objects / mentions of objects); with form f1 the harmonic mean of two
          shares: mentioned classes that are present, and present classes that are mentioned
range     [-1, 0], or [0, 1] as f1; the highest value means that every mention is right
needs     references or meta["objects"]; present objects = annotated objects ∪ objects in the references
cost      none; it only looks words up
source    Rohrbach et al., EMNLP 2018, with another list of synonyms and more phrases that mention no object. Of 656
          mentions on 79 COCO photos, 93.6 % are annotated, against 93.1 % of 640 by the published rules; in 25,014
          captions, 224 persons and 272 are mentioned in no other caption of the image. CHAIR_i and CHAIR_s of each
          batch are logged
hack      naming one certain object and no other. Words outside the vocabulary cost nothing, and neither do wrong
          colours, counts and places. Without annotations, a true object that no annotator mentioned counts as false
guards    f1 asks for all objects. A caption without any object gets the lowest value where objects are present (the
          published CHAIR gives it the highest). Hallucination and critique cover the rest
fails     word_shuffle, one_false; measured for f1 on 100 COCO photos (42 % and 7 %). With form chair no probe wins on more
          than 5 %, but most of them tie
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Literal

from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.objects.vocabulary import Vocabulary
from rlcap.scorers.text.ngrams import word_positions
from rlcap.types import RewardBatch, Sample, Score, Span


def chair_i(mentions: Iterable[str], present: Iterable[str]) -> float:
    """Return absent mentions / all mentions, in [0, 1].

    Two absent mentions of eight give .25; no mention gives 0.
    """
    present_labels, labels = set(present), list(mentions)
    return sum(label not in present_labels for label in labels) / len(labels) if labels else 0.0


def corpus_chair(counts: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Return the published CHAIR of N ≥ 1 captions: `chair_i`, `chair_i_count` and `chair_s`.

    `chair_i` is a ratio of sums, so that a caption with many mentions counts more: 0 absent mentions of 1 and 3 of 4
    give .6, where the captions' mean is .375. `chair_i_count` is the number of mentions.

    Args:
        counts: the absent mentions and all mentions of each caption.
    """
    absent, total = (sum(column) for column in zip(*counts, strict=True))
    return {
        "chair_i": absent / max(total, 1),
        "chair_i_count": float(total),
        "chair_s": sum(wrong > 0 for wrong, _ in counts) / len(counts),
    }


def object_f1(mentions: Iterable[str], present: Iterable[str]) -> float:
    """Return 2 · |mentioned ∩ present| / (|mentioned| + |present|) over classes, in [0, 1]; 1 where both are empty."""
    mentioned, present_labels = set(mentions), set(present)
    return (
        2 * len(mentioned & present_labels) / (len(mentioned) + len(present_labels))
        if mentioned or present_labels
        else 1.0
    )


def mention_spans(caption: str, vocabulary: Vocabulary, present: Container[str]) -> tuple[Span, ...]:
    """Return a span for each mention of an object: 1 for one that is present, −1 for one that is not."""
    positions = word_positions(caption)
    spans = []
    for label, first, after in vocabulary.find_mentions(caption):
        known = [position for position in positions[first:after] if position]
        if known:
            is_present = label in present
            text = f"{label} is {'' if is_present else 'not '}in the image"
            spans.append(Span(known[0][0], known[-1][1], 1.0 if is_present else -1.0, text))
    return tuple(spans)


class Chair(Reward):
    """CHAIR as a reward.

    An image about which nothing is known (no reference, no `objects` in its meta) abstains.

    Args:
        vocabulary: None for COCO's 80 classes, a file with one class per line (name, synonyms, …), a mapping from class
            to names, or a `Vocabulary`.
        form: `chair` or `f1`.
        references: whether the objects in the references count as present, as in the published metric.
    """

    name, range, version = "chair", (-1.0, 0.0), "2"

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
        """Return the classes that are in the image, or None where nothing is known about it."""
        annotated: Any = sample.meta.get("objects")
        if not isinstance(annotated, list | tuple | set):
            annotated = None
        texts = sample.references if self.references else ()
        if annotated is None and not texts:
            return None
        labels = [self.vocabulary.label(str(name)) for name in annotated or ()]
        return {label for label in labels if label} | {
            label for text in texts for label in self.vocabulary.mentions(text)
        }

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions, and log `chair_i` and `chair_s` over it."""
        scores: list[Score] = []
        counts: list[tuple[int, int]] = []  # absent and all mentions of each caption
        for caption, sample in zip(batch.captions, batch.samples, strict=True):
            present = self.present(sample)
            if present is None:
                scores.append(Score.abstain("neither references nor meta['objects'] say what is in the image"))
                continue
            spans = mention_spans(caption, self.vocabulary, present)
            mentions = self.vocabulary.mentions(caption)
            counts.append((sum(label not in present for label in mentions), len(mentions)))
            if self.form == "f1":
                scores.append(Score(object_f1(mentions, present), spans=spans))
            else:
                value = -chair_i(mentions, present) if mentions or not present else self.range[0]
                scores.append(Score(value, spans=spans))
        return RewardOutput(scores, corpus_chair(counts) if counts else {})
