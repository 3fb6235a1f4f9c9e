"""Claim diff: where caption and reference say different things, whose claim is wrong?

measures  d = clip((wrong claims of the caption − of the reference) / differences, −1, 1); r = .5 − .5 · d, less
          `hedge` · share of the caption's sentences that are hedged; .5 where the two say the same
range     [0, 1]; the empty caption gets 0 without asking anyone
needs     a paragraph or references; a judge that sees the image can also find the reference wrong
cost      one LLM call a new caption; replies are cached on disk by content
source    ClaimDiff-RL, its default `normalized_diff`: an omission is an error, so is a repetition; there the judge sees the
          image and B is a large model's caption. Its ambiguity penalty counts hedging words, ours hedged sentences. Its code
          refuses a reply without a difference; here two that agree are a tie. No weights by severity
hack      padding with differences that are nobody's error, which thin out those that are; agreeing with the reference, right
          or wrong, where the judge is blind, for then nothing gets above .5
guards    length, repetition, claims; `hedge`, as a hedged claim is seldom called wrong; hallucination
fails     none; by the lab's own comparer, against fused paragraphs, salad wins on 5 %. It ties on all where nothing is said
          of the image: repeated, rambling, injection, praise, and hedged without `hedge` (at .2 hedges lose everywhere);
          one_false on 11 %, one_missing on 12 %. A large model's reading is not measured here
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcap.judge.grader import Opinion
from rlcap.reward.base import Reward
from rlcap.reward.judge_reward import Judged
from rlcap.rewards.claim_diff.parsing import Difference, DifferenceReader, differences_text, differential, reference_of
from rlcap.scorers.text.hedges import is_hedged
from rlcap.scorers.text.sentences import split_sentences
from rlcap.types import Sample, Score


def hedged_share(caption: str) -> float:
    """Hedged sentences / sentences, in [0, 1]; 0 where there is none."""
    told = split_sentences(caption)
    return sum(map(is_hedged, told)) / len(told) if told else 0.0


def claim_value(found: Sequence[Difference], hedged: float = 0.0, hedge: float = 0.0) -> float:
    """Three differences, the caption wrong in two and the reference in one: d = 1/3 → 1/3."""
    return max(0.0, 0.5 - 0.5 * differential(found) - hedge * hedged)


class ClaimDiff(Judged, Reward):
    """hedge: off the value in [0, 1] where every sentence is hedged; 0 leaves hedges to the judge. image: whether an engine
    that sees gets the image; views, detected: see `rlcap.rewards.critique:Critique`. engine and the rest: see
    `rlcap.reward.judge_reward:Judged`. Raises CropError for a row whose boxes or classes are none."""

    name, range, version = "claim_diff", (0.0, 1.0), "1"
    prompt_file, critic_kind = Path(__file__).parent / "prompt.txt", DifferenceReader

    def __init__(
        self,
        engine: Any,
        hedge: float = 0.0,
        image: bool = True,
        views: Mapping[str, Any] | None = None,
        detected: bool = False,
        **asking: Any,
    ) -> None:
        if not 0 <= hedge <= 1:
            raise ValueError(f"hedge is in [0, 1], got {hedge}")
        super().__init__(engine, image=image, views=views, detected=detected, **asking)
        self.hedge = hedge

    def asks(self, caption: str, sample: Sample) -> list[tuple[str, Sample]]:
        return super().asks(caption, sample) if reference_of(sample) else []

    def judged(self, opinions: Sequence[Opinion], sample: Sample) -> Score:
        if not opinions:
            return Score.abstain("no reference or paragraph to compare with")
        found = opinions[0].verdict
        if found is None:
            return super().judged(opinions, sample)
        value = claim_value(found, hedged_share(opinions[0].caption) if self.hedge else 0.0, self.hedge)
        return Score(value, note=differences_text(found))
