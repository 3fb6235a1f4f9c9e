"""VQAScore: does a vision-language model say yes when asked whether the image shows what the caption says?

measures  r = P("Yes" | image, `Does this figure show "{caption}"? Please answer yes or no.`); of a paragraph the mean over its
          sentences, or the smallest (`pooling: least`)
range     [0, 1]
needs     image
cost      one forward of the model a (image, sentence) pair, the image read anew for each
source    VQAScore (Lin et al., ECCV 2024), there with CLIP-FlanT5; here any chat model, whose first answer token is looked at
hack      what the model believes of any image: vague, frequent, small claims; at pairs of detailed captions it was near chance
          (50.2 % of DetailCaps-4870, CycleReward's table)
guards    `least` against dilution; length and claims against vagueness; a judge that reads references
fails     one_word, cut_off, repeated, echo, generic, one_false, one_missing, foreign, hedged; on 7 to 62 % of 42 images, by a
          model of the lab's captioner's size, taught this question (benchmarks/lab_judges.py); `least`: salad too, not
          repeated nor one_false, which tie on a third. No published model was run here
"""

from __future__ import annotations

from typing import Any, Literal

from rlcap.io.images import embed_readable, open_image
from rlcap.judge.templates import sanitize
from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.text.sentences import split_sentences
from rlcap.types import RewardBatch, Score

QUESTION = 'Does this figure show "{caption}"? Please answer yes or no.'


class VqaScore(Reward):
    """model: folder or hub name of a chat vision-language model, or a `YesProbabilityScorer`. question: must hold {caption}. The
    empty caption gets 0 without asking. Quotes in a caption become ', so that it can't end its own."""

    name, range, needs, version = "vqa_score", (0.0, 1.0), frozenset({"image"}), "1"

    def __init__(
        self, model: Any, question: str = QUESTION, pooling: Literal["mean", "least"] = "mean", device: str = "cpu"
    ) -> None:
        if "{caption}" not in question:
            raise ValueError(f"question must hold {{caption}}, got {question!r}")
        if pooling not in ("mean", "least"):
            raise ValueError(f"pooling must be mean or least, got {pooling!r}")
        if isinstance(model, str):
            from rlcap.scorers.vqa_yes_probability import YesProbabilityScorer

            model = YesProbabilityScorer.load(model, device)
        self.model, self.question, self.pooling = model, question, pooling

    def score(self, batch: RewardBatch) -> RewardOutput:
        paths = (sample.image for sample in batch.samples if sample.image)
        images, broken = embed_readable(lambda these: [open_image(path) for path in these], paths)
        sentences = [split_sentences(caption) for caption in batch.captions]
        rows = zip(batch.samples, sentences, strict=True)
        pairs = list(dict.fromkeys((s.image, text) for s, texts in rows if s.image in images for text in texts))
        found = self.model.probabilities([images[path] for path, _ in pairs], [self._asks(text) for _, text in pairs])
        asked = dict(zip(pairs, found, strict=True))
        scores = []
        for sample, texts in zip(batch.samples, sentences, strict=True):
            if sample.image not in images:
                scores.append(Score.abstain(broken.get(sample.image, "no image path")))
                continue
            values = [asked[sample.image, text] for text in texts]
            pooled = min(values, default=0.0) if self.pooling == "least" else sum(values) / max(len(values), 1)
            scores.append(Score(min(1.0, pooled)))
        return RewardOutput(scores)

    def _asks(self, sentence: str) -> str:
        return self.question.replace("{caption}", sanitize(sentence).replace('"', "'"))
