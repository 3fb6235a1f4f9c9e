"""PreferenceModel: would a judge, whose decisions a small model has learnt, prefer this caption to an average one?

measures  s = w · f(image, caption) + b, the log-odds that the judge prefers the caption to an average one of its training; f has the mean
          and the sum, over the distinct sentences t, of v ⊙ t and t with CLIP's vector v of the image, and their number
range     [-10, 10]; larger magnitudes are cut off, and about -3 to 3 for sampled captions
needs     image
cost      one text pass of CLIP per new sentence; image embeddings are cached. The judge is asked only for the training data of `rlcap rm`
source    Bradley-Terry rewards as in FeedQuill (arXiv 2503.07906), which trains two VLMs, on precision and on recall; Compress & Align (arXiv
          2312.06726) trains a referee on people's preferences. Here a linear head on a frozen CLIP is trained on preferences or votes
hack      whatever made captions win in the training data without being read from the image: more sentences, words that true captions have.
          It sees no more than its CLIP does: neither grammar nor, mostly, counts and relations
guards    grammar, repetition, length; asking the judge again about captions of the trained policy; evaluation with another judge
fails     repeated, one_false, rambling, injection, praise, hedged; on 64 to 100 % of 42 images, measured with the lab's retriever, taught 820
          preferences of an oracle between sampled captions, in which 80 % of the preferred captions are the longer ones
"""

from __future__ import annotations

import math
from typing import Any

from rlcap.io.images import embed_readable
from rlcap.reward.base import Reward, RewardOutput
from rlcap.types import RewardBatch, Score

LIMIT = 10.0
"""Largest magnitude of the log-odds."""


class PreferenceModel(Reward):
    """A model of `rlcap rm` as a reward. The empty caption gets the lowest value.

    Args:
        model: The folder that `rlcap rm` wrote, or a `rlcap.scorers.reward_model.RewardModel`.
        device: Where the backbone runs.
        cache_dir: Folder of the cached image embeddings.
    """

    name, range, needs, version = "preference_model", (-LIMIT, LIMIT), frozenset({"image"}), "1"

    def __init__(self, model: Any, device: str = "cpu", cache_dir: str | None = None) -> None:
        if isinstance(model, str):
            from rlcap.scorers.reward_model import RewardModel

            model = RewardModel.load(model, device, cache_dir)
        self.model = model

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions. A row whose image can't be read abstains."""
        paths = (sample.image for sample in batch.samples if sample.image)
        vectors, broken = embed_readable(self.model.clip.image_embeddings, paths)
        rows = [i for i, sample in enumerate(batch.samples) if sample.image in vectors]
        found = self.model.scores_of([vectors[batch.samples[i].image] for i in rows], [batch.captions[i] for i in rows])
        values = dict(zip(rows, found.tolist(), strict=True))
        scores = []
        for i, sample in enumerate(batch.samples):
            if i not in values:
                scores.append(Score.abstain(broken.get(sample.image, "no image path")))
            else:  # only a caption that says nothing has no score
                scores.append(Score(-LIMIT if math.isnan(values[i]) else max(-LIMIT, min(LIMIT, values[i]))))
        return RewardOutput(scores)
