"""Claims: how many of the caption's atomic claims are true, and how many of the known facts does it state?

measures  precision p = Σ credit / claims; the credit is 1 for a true claim that one could point at, `unknown` for a
          claim that the facts leave open, and 0 for false or abstract claims. Recall q = (facts stated + extra) /
          (facts + extra), where extra counts true claims beyond the facts. A fact that several claims state counts 1 if
          one of them is true, or, with repeated_facts dcscore, the share of them that is true. f1 = 2pq / (p + q)
range     [0, 1]; for each of the forms f1, precision and recall
needs     references or meta["facts"], or an image and a judge that sees it
cost      one LLM call per new caption; replies are cached on disk by content
source    DCScore (Painting with Words, ICLR 2025: its F1) and BalCapRL (arXiv 2605.07394: only claims that one could
          point at count). DCScore's recall is that of repeated_facts dcscore, and it gives an open claim nothing
          (unknown 0). With the default, a false claim of a fact costs precision alone: a true and a false claim of one
          fact, of two facts, give a recall of .5, and .25 by DCScore. Theirs ask in three calls and average trials;
          this reward asks once
hack      precision: one safe claim; recall: claims without end, whose cost only precision counts; open claims are worth
          `unknown`; one fact in many claims, where the judge counts them as several
guards    f1 combines both; length, repetition; style for words that claim nothing
fails     word_shuffle; 10 % with the lab's rule-based reader, for f1 (recall: 36 %, precision: none). Repeated and hedged tie,
          and so do one_missing for precision and one_false for recall. A large model's judgement is not measured
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rlcap.judge.config import JudgeSpec
from rlcap.reward.judge_reward import JudgeReward
from rlcap.reward.parameters import check_choice, check_number
from rlcap.rewards.claims.parsing import Claim, ClaimReader, format_claims, list_facts
from rlcap.scorers.text.alignment import locate
from rlcap.types import Sample, Score, Span


def precision(claims: Sequence[Claim], unknown: float = 0.5) -> float:
    """Return the share of true claims among N claims, in [0, 1].

    Three true claims of four, one of them abstract, give .5.

    Args:
        claims: the caption's claims.
        unknown: credit of a claim that what is known leaves open.

    Returns:
        Σ credit / N over claims that one could point at; 0 without claims.
    """
    credit = {True: 1.0, None: unknown, False: 0.0}
    return sum(credit[claim.true] * claim.pointable for claim in claims) / len(claims) if claims else 0.0


def recall(claims: Sequence[Claim], facts: int, repeated_facts: Literal["once", "dcscore"] = "once") -> float:
    """Return (facts stated + extra) / (facts + extra), in [0, 1]; extra counts true claims beyond the known facts.

    Two of four facts and one extra claim give .6. The value is 0 where there are neither facts nor extra claims.

    Args:
        claims: the caption's claims.
        facts: number of known facts.
        repeated_facts: how much a fact counts that several claims state. `once` counts 1 if one of them is true.
            `dcscore` counts the share of them that is true, so that a true and a false claim of one fact give .5.
    """
    right = [claim for claim in claims if claim.true and claim.pointable]
    extra = sum(claim.fact is None for claim in right)
    true_claims = Counter(claim.fact for claim in right if claim.fact is not None)
    all_claims = Counter(claim.fact for claim in claims)
    shares = [count / all_claims[fact] for fact, count in true_claims.items()]
    stated = sum(shares) if repeated_facts == "dcscore" else len(shares)
    return (stated + extra) / (facts + extra) if facts + extra else 0.0


def f1(p: float, q: float) -> float:
    """Return the harmonic mean of two shares; 0 where both are 0."""
    return 2 * p * q / (p + q) if p + q else 0.0


class Claims(JudgeReward):
    """Claims as a reward.

    Args:
        judge: takes the caption apart into claims and checks them; see `rlcap.judge.config:JudgeConfig`.
        form: f1, precision or recall.
        unknown: credit in [0, 1] of a claim that what is known leaves open.
        repeated_facts: how much a fact counts in recall that several claims state: once or dcscore; see `recall`.
    """

    name, range, version = "claims", (0.0, 1.0), "1"
    prompt_file, grader_kind = Path(__file__).parent / "prompt.txt", ClaimReader
    shows_image = True

    def __init__(
        self,
        judge: JudgeSpec,
        form: Literal["f1", "precision", "recall"] = "f1",
        unknown: float = 0.5,
        repeated_facts: Literal["once", "dcscore"] = "once",
    ) -> None:
        check_choice("form", form, ("f1", "precision", "recall"))
        check_choice("repeated_facts", repeated_facts, ("once", "dcscore"))
        check_number("unknown", unknown, low=0, high=1)
        super().__init__(judge)
        self.form, self.unknown, self.repeated_facts = form, unknown, repeated_facts

    def score_verdict(self, verdict: list[Claim], sample: Sample) -> Score:
        """Return the value of a list of claims."""
        p, q = precision(verdict, self.unknown), recall(verdict, len(list_facts(sample)), self.repeated_facts)
        return Score({"f1": f1(p, q), "precision": p, "recall": q}[self.form], note=format_claims(verdict))

    def find_spans(self, verdict: list[Claim], caption: str, sample: Sample) -> tuple[Span, ...]:
        """Return a span for each claim: 1 for a true one, −1 for a false one, 2 · unknown − 1 for an open one.

        A claim that one could not point at has no span.
        """
        value = {True: 1.0, None: 2 * self.unknown - 1, False: -1.0}
        label = {True: "true", None: "unknown", False: "false"}
        return tuple(
            Span(*locate(claim.text, caption), value[claim.true], f"{label[claim.true]}: {claim.text}")
            for claim in verdict
            if claim.pointable
        )
