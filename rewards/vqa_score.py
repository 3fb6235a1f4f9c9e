"""VQAScore: does a vision-language model say yes when asked whether the image shows what the caption says?

measures  r = P("Yes" | image, `Does this figure show "{caption}"? Please answer yes or no.`); for a paragraph the mean
          over its sentences, or the smallest value (`pooling: least`)
range     [0, 1]
needs     image
cost      one forward pass of the model per pair of image and sentence; the image is encoded again for each
source    VQAScore (Lin et al., ECCV 2024), there with CLIP-FlanT5; here any chat model, of whose answer only the first
          token counts
hack      what the model believes of any image: vague, frequent, small claims. On pairs of detailed captions it was near
          chance (50.2 % of DetailCaps-4870, CycleReward's table)
guards    `least` against dilution; length and claims against vagueness; a judge that reads references
fails     one_word, cut_off, repeated, echo, generic, one_false, one_missing, foreign, hedged; on 7 to 62 % of 42
          images, measured with a model as small as the lab's captioner and trained on this question
          (benchmarks/lab_judges.py). With `least`, word_shuffle wins too, and repeated and one_false do not, but tie on a
          third. No published model was run
"""

from __future__ import annotations

from typing import Any, Literal

from rlcap.io.images import embed_readable, open_image
from rlcap.judge.templates import sanitize
from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.text.sentences import sentence_spans, split_sentences
from rlcap.types import RewardBatch, Score, Span

QUESTION = 'Does this figure show "{caption}"? Please answer yes or no.'


class VqaScore(Reward):
    """VQAScore as a reward.

    The empty caption gets 0 without a question. Double quotes in a caption become single ones, so that it can't end its
    own quotation.

    Args:
        model: folder or hub name of a chat vision-language model, or a `YesProbabilityScorer`.
        question: the question; it must hold {caption}.
        pooling: `mean` or `least`, over the sentences.
        device: where the model runs.
    """

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
        """Score a batch of captions. A row whose image can't be read abstains."""
        paths = (sample.image for sample in batch.samples if sample.image)
        images, errors = embed_readable(lambda these: [open_image(path) for path in these], paths)
        sentences = [split_sentences(caption) for caption in batch.captions]
        rows = zip(batch.samples, sentences, strict=True)
        pairs = list(dict.fromkeys((s.image, text) for s, texts in rows if s.image in images for text in texts))
        probabilities = self.model.probabilities(
            [images[path] for path, _ in pairs], [self._fill_question(text) for _, text in pairs]
        )
        by_pair = dict(zip(pairs, probabilities, strict=True))
        scores = []
        for sample, caption, texts in zip(batch.samples, batch.captions, sentences, strict=True):
            if sample.image not in images:
                scores.append(Score.abstain(errors.get(sample.image, "no image path")))
                continue
            values = [by_pair[sample.image, text] for text in texts]
            pooled = min(values, default=0.0) if self.pooling == "least" else sum(values) / max(len(values), 1)
            spans = (Span(*at, p, f"yes {p:.2f}") for at, p in zip(sentence_spans(caption), values, strict=True))
            scores.append(Score(min(1.0, pooled), spans=tuple(spans)))
        return RewardOutput(scores)

    def _fill_question(self, sentence: str) -> str:
        return self.question.replace("{caption}", sanitize(sentence).replace('"', "'"))
