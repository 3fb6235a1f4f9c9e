"""Style: does the caption describe the image, or talk about itself, to its judge, and around what it sees?

measures  r = −min(1, Σ over kinds of cost · sentences that show it), phrases of your own being one kind more
range     [-1, 0]; 0 where no sentence shows any
needs     nothing
cost      none: regular expressions
source    penalties that were added after the hack: bad phrases (VLRM, arXiv 2404.01911), self-praise (seen in RubiCap, arXiv
          2603.09160), hedges (ClaimDiff-RL). A count, not a share, so that further sentences don't dilute it
hack      another wording, another language; the empty caption (0). On 25,014 human COCO captions praise, judge and markup are
          never found, guesses in .4 %, openings in 1.8 %; on 400 long human ones guesses in half, openings in 38 %
guards    length punishes silence; critique reads what no list holds
fails     none; it counts words, so all but rambling, injection, praise and hedged tie
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
    """Sentences by kind → [-1, 0]: two hedges at .2 → -.4."""
    return -min(1.0, sum(costs[kind] * count for kind, count in counts.items()))


class Style(Reward):
    """costs: by kind (praise, judge, markup, hedge, opening, phrases), what a sentence that shows it costs; kinds that are
    left out keep theirs. phrases: your own, matched as whole words in any case."""

    name, range, version = "style", (-1.0, 0.0), "1"

    def __init__(self, costs: Mapping[str, float] | None = None, phrases: Sequence[str] = ()) -> None:
        self.costs = {**COSTS, **(costs or {})}
        if unknown := sorted(set(self.costs) - {*KINDS, "phrases"}):
            raise ValueError(f"unknown kind of phrase {unknown[0]!r}; known: {', '.join([*KINDS, 'phrases'])}")
        if negative := {kind: cost for kind, cost in self.costs.items() if cost < 0}:
            raise ValueError(f"costs are 0 or more, got {negative}")
        self.own = [re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)", re.I) for phrase in phrases]

    def score(self, batch: RewardBatch) -> RewardOutput:
        return RewardOutput([self._one(caption) for caption in batch.captions])

    def _one(self, caption: str) -> Score:
        counts = count_flagged_sentences(caption)
        counts["phrases"] = sum(any(p.search(s) for p in self.own) for s in split_sentences(caption)) if self.own else 0
        told = ", ".join(f"{kind} {count}" for kind, count in counts.items() if count and self.costs[kind])
        return Score(penalty(counts, self.costs), note=told or None)
