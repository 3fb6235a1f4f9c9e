"""PickScore: would people who choose among generated images choose this image for this text?

measures  r = exp(logit scale) · cos(image, caption) under a CLIP model that was fine-tuned on people's choices
range     [-100, 100]; about 15 to 25 for matching pairs with PickScore_v1
needs     image
cost      one pass of CLIP-H/14 per image and per caption
source    PickScore (Kirstain et al., NeurIPS 2023), made for images from texts. It was never trained to rank several
          captions of one image: between detailed captions it was near chance (51.0 % of DetailCaps-4870, CycleReward's
          table)
hack      as for any CLIP: shuffles of right words, repetition. Texts are cut after 77 tokens; `text_truncated` logs how
          many
guards    grammar, repetition, length
fails     cut_off, word_shuffle, one_false, one_missing, rambling, injection, praise, hedged; on 7 to 50 % of 42 images,
          measured with the lab's CLIP, fine-tuned on choices between near-duplicates (benchmarks/lab_judges.py). The
          published weights were not run
"""

from __future__ import annotations

from typing import Any

from rlcap.io.images import embed_readable, open_image
from rlcap.reward.base import Reward, RewardOutput
from rlcap.types import RewardBatch, Score


class PickScore(Reward):
    """PickScore as a reward. The empty caption gets the lowest value.

    Args:
        model: folder or hub name of a model, or a `PreferenceScorer`.
        processor: folder or hub name of the processor; PickScore_v1 uses that of laion/CLIP-ViT-H-14-laion2B-s32B-b79K.
        device: where the model runs.
    """

    name, range, needs, version = "pick_score", (-100.0, 100.0), frozenset({"image"}), "1"

    def __init__(
        self,
        model: Any = "yuvalkirstain/PickScore_v1",
        processor: str | None = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        device: str = "cpu",
    ) -> None:
        if isinstance(model, str):
            from rlcap.scorers.preference import PreferenceScorer

            model = PreferenceScorer.load(model, processor, device)
        self.model = model

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions. A row whose image can't be read abstains."""
        paths = (sample.image for sample in batch.samples if sample.image)
        images, errors = embed_readable(lambda these: [open_image(path) for path in these], paths)
        rows = [i for i, s in enumerate(batch.samples) if s.image in images and batch.captions[i]]
        pairs = list(dict.fromkeys((batch.samples[i].image, batch.captions[i]) for i in rows))
        pair_scores = self.model.scores([images[path] for path, _ in pairs], [caption for _, caption in pairs])
        values = dict(zip(pairs, pair_scores, strict=True))
        metrics = {"text_truncated": self.model.truncated_share}
        scores = []
        for sample, caption in zip(batch.samples, batch.captions, strict=True):
            if sample.image not in images:
                scores.append(Score.abstain(errors.get(sample.image, "no image path")))
            else:
                value = values.get((sample.image, caption), self.range[0])
                scores.append(Score(max(self.range[0], min(self.range[1], value))))
        return RewardOutput(scores, metrics)
