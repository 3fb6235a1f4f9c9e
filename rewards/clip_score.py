"""CLIPScore: how close are caption and image in CLIP's space, and how close are caption and references?

measures  clip_score: 2.5 · max(cos(caption, image), 0). ref_clip_score: harmonic mean of that value and
          max(0, max over references of cos(caption, reference)), which has no factor 2.5
range     [0, 2.5], or [0, 1.43] with references; captions of their own image score about .6 to .9
needs     image, for ref_clip_score references too
cost      one text pass per batch; image embeddings are cached
source    CLIPScore (Hessel et al., EMNLP 2021) as its code computes it: every text begins with "A photo depicts". The
          published metric stops at 77 tokens (`pooling: whole`); by default this reward reads the caption sentence by
          sentence
hack      word shuffles and repetition (CLIP-Caption-Reward needed a grammar reward). It ranks detailed captions at
          chance (51.7 % on DetailCaps), so it can't judge paragraphs. What CLIP can't see (counts, relations) may be
          wrong at no cost
guards    repetition and critique for the language, hallucination for the truth; evaluation with another CLIP
fails     repeated, word_shuffle, one_false, one_missing, praise; measured with the lab's retriever, on 10 to 95 % of 42
          images; the last two win only with references
"""

from __future__ import annotations

from typing import Any

from rlcap.io.images import embed_readable
from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.text.sentences import split_sentences
from rlcap.types import RewardBatch, Score

SCALE = 2.5
PREFIX = "A photo depicts "


def clip_s(cosine: float) -> float:
    """Return 2.5 · max(cos, 0) in [0, 2.5] for a cosine in [-1, 1]; .3 gives .75."""
    return SCALE * min(max(cosine, 0.0), 1.0)


def ref_clip_s(image: float, reference: float) -> float:
    """Return the harmonic mean of CLIP-S and the best cosine with a reference.

    It is 0 where either value is 0; (.75, .8) gives .7742.
    """
    reference = min(max(reference, 0.0), 1.0)
    return 2 * image * reference / (image + reference) if image and reference else 0.0


class ClipScore(Reward):
    """CLIPScore as a reward. The empty caption gets 0, the lowest value.

    Args:
        clip: an open_clip model name (with `pretrained`), or a scorer object.
        pretrained: the tag of the weights.
        pooling: `sentences` (the mean over the caption's sentences) or `whole` (the text up to CLIP's limit).
        prefix: the beginning that is put before every text, or before every sentence.
        device: where the model runs.
        cache_dir: folder of the cached image embeddings.
    """

    name, range, needs, version = "clip_score", (0.0, SCALE), frozenset({"image"}), "1"

    def __init__(
        self,
        clip: Any,
        pretrained: str | None = None,
        pooling: str = "sentences",
        prefix: str = PREFIX,
        device: str = "cpu",
        cache_dir: str | None = None,
    ) -> None:
        if isinstance(clip, str):
            from rlcap.scorers.clip import ClipScorer

            clip = ClipScorer.load(clip, pretrained, device=device, cache_dir=cache_dir)
        self.clip, self.pooling, self.prefix = clip, pooling, prefix

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions, and log the share of texts that were truncated."""
        scores, texts = self._judge(batch)
        return RewardOutput(scores, {"text_truncated": float(texts.truncated_fraction)})

    def _judge(self, batch: RewardBatch) -> tuple[list[Score], Any]:
        images, broken = embed_readable(self.clip.image_embeddings, (s.image for s in batch.samples if s.image))
        texts = self._texts(batch.captions)
        scores = []
        for caption, empty, image in zip(texts.vectors, texts.empty, (s.image for s in batch.samples), strict=True):
            if image not in images:
                scores.append(Score.abstain(broken.get(image, "no image path")))
            else:
                scores.append(Score(0.0 if bool(empty) else clip_s(float(caption @ images[image]))))
        return scores, texts

    def _texts(self, captions: Any) -> Any:
        parts = [split_sentences(text) if self.pooling == "sentences" else [text.strip()] for text in captions]
        prefixed = ["\n".join(self.prefix + part for part in row if part) for row in parts]
        return self.clip.text_embeddings(prefixed, pooling=self.pooling)


class RefClipScore(ClipScore):
    """`ClipScore` combined with the caption's similarity to the references. A row without references abstains."""

    name, range, needs = "ref_clip_score", (0.0, 2 * SCALE / (SCALE + 1)), frozenset({"image", "references"})

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions, and log the share of texts that were truncated."""
        scores, texts = self._judge(batch)
        known = [list(sample.references) for sample in batch.samples]
        unique = {text: i for i, text in enumerate(dict.fromkeys(text for row in known for text in row))}
        vectors = self._texts(list(unique)).vectors
        for i, (score, row) in enumerate(zip(scores, known, strict=True)):
            if not row:
                scores[i] = Score.abstain("no reference to compare with")
            elif score.value is not None:
                best = max(float(texts.vectors[i] @ vectors[unique[text]]) for text in row)
                scores[i] = Score(ref_clip_s(score.value, best))
        return RewardOutput(scores, {"text_truncated": float(texts.truncated_fraction)})
