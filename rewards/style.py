"""Style: does the caption describe the image, or does it talk about itself, to its judge, and around what it sees?

measures  r = −min(1, Σ over kinds of cost · number of sentences that show it); your own phrases are one more kind
range     [-1, 0]; 0 where no sentence shows any kind
needs     nothing
cost      none; it only matches regular expressions
source    penalties that others added after they saw the hack: bad phrases (VLRM, arXiv 2404.01911), self-praise (seen
          in RubiCap, arXiv 2603.09160), hedges (ClaimDiff-RL). It is a count and not a share, so that further sentences
          don't dilute it
hack      another wording, another language; the empty caption (0). On 25,014 human COCO captions praise, judge and
          markup never occur, guesses in .4 % and openings in 1.8 %; on 400 long human captions guesses in half and
          openings in 38 %
guards    length punishes silence; critique notices what no list contains
fails     none; it only counts phrases, so that all probes but rambling, injection, praise and hedged tie
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.text.phrases import KINDS, count_flagged_sentences
from rlcap.scorers.text.sentences import split_sentences
from rlcap.types import RewardBatch, Score

COSTS: Mapping[str, float] = {
    "praise": 0.5,
    "judge": 0.5,
    "markup": 0.5,
    "hedge": 0.2,
    "opening": 0.05,
    "phrases": 0.25,
}


def penalty(counts: Mapping[str, int], costs: Mapping[str, float]) -> float:
    """Return a value in [-1, 0] for the number of sentences by kind: two hedges at .2 give -.4."""
    return -min(1.0, sum(costs[kind] * count for kind, count in counts.items()))


class Style(Reward):
    """Phrases that do not describe the image as a penalty.

    Args:
        costs: kind (praise, judge, markup, hedge, opening, phrases) → what each sentence that shows it costs; kinds
            that are left out keep their default.
        phrases: your own phrases, matched as whole words, ignoring case.
    """

    name, range, version = "style", (-1.0, 0.0), "1"

    def __init__(self, costs: Mapping[str, float] | None = None, phrases: Sequence[str] = ()) -> None:
        self.costs = {**COSTS, **(costs or {})}
        if unknown := sorted(set(self.costs) - {*KINDS, "phrases"}):
            raise ValueError(f"unknown kind of phrase {unknown[0]!r}; known: {', '.join([*KINDS, 'phrases'])}")
        if negative := {kind: cost for kind, cost in self.costs.items() if cost < 0}:
            raise ValueError(f"costs must be 0 or more, got {negative}")
        self.own = [re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)", re.I) for phrase in phrases]

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions. The note lists the kinds that were found."""
        return RewardOutput([self._one(caption) for caption in batch.captions])

    def _one(self, caption: str) -> Score:
        counts = count_flagged_sentences(caption)
        counts["phrases"] = sum(any(p.search(s) for p in self.own) for s in split_sentences(caption)) if self.own else 0
        listed = ", ".join(f"{kind} {count}" for kind, count in counts.items() if count and self.costs[kind])
        return Score(penalty(counts, self.costs), note=listed or None)
