"""Claims: how many of the caption's atomic claims are true, and how many of the known facts does it state?

measures  precision p = Σ credit / claims, credit 1 for a true pointable claim, `unknown` for an open one, 0 for false or
          abstract ones; recall q = (facts stated + extra) / (facts + extra), extra = true claims beyond the facts;
          f1 = 2pq / (p + q)
range     [0, 1]; for each of the forms f1, precision and recall
needs     references or meta["facts"], or image and a judge that sees
cost      one LLM call a new caption; replies are cached on disk by content
source    DCScore (Painting with Words, ICLR 2025: its F1, several claims of one fact counted once) and BalCapRL (arXiv
          2605.07394: precision counts pointable claims alone). Theirs ask in three calls and average trials; this asks once
hack      precision: one safe claim; recall: claims without end, whose cost only precision counts; open claims are worth
          `unknown`; one fact in many claims, where the judge lets them pass as several
guards    f1 holds both; length, repetition; style for words that are no claims
fails     salad; 13 % by the lab's own reader, for f1 (recall: 30 %, precision: none); repeated and hedged tie, as does
          one_missing for precision and one_false for recall. A large model's reading is not measured here
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rlcap.reward.base import Reward
from rlcap.reward.cache import ReplyCache, default_folder
from rlcap.reward.claim_list import Claim, ClaimReader, claims_text, facts_of
from rlcap.reward.judge import Patience
from rlcap.reward.limits import Limits
from rlcap.reward.prompt import Prompt
from rlcap.types import RewardBatch, Score


def precision(claims: Sequence[Claim], unknown: float = 0.5) -> float:
    """Three true of four, one of them abstract → .5; 0 without claims."""
    credit = {True: 1.0, None: unknown, False: 0.0}
    return sum(credit[claim.true] * claim.pointable for claim in claims) / len(claims) if claims else 0.0


def recall(claims: Sequence[Claim], facts: int) -> float:
    """(facts stated + extra) / (facts + extra): two of four facts and one extra → .6; 0 where there is neither."""
    right = [claim for claim in claims if claim.true and claim.pointable]
    extra = sum(claim.fact is None for claim in right)
    stated = len({claim.fact for claim in right if claim.fact is not None})
    return (stated + extra) / (facts + extra) if facts + extra else 0.0


def f1(p: float, q: float) -> float:
    """Harmonic mean; 0 where both are."""
    return 2 * p * q / (p + q) if p + q else 0.0


class Claims(Reward):
    """engine, prompt, sampling, image, cache and the rest: as for `rewards.critique:Critique`. form: f1, precision or recall.
    unknown: credit in [0, 1] of a claim that what is known leaves open. The empty caption gets 0 without asking anyone."""

    name, range, version = "claims", (0.0, 1.0), "1"

    def __init__(
        self,
        engine: Any,
        form: Literal["f1", "precision", "recall"] = "f1",
        unknown: float = 0.5,
        prompt: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        image: bool = True,
        cache: str | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        backoff: float = 1.0,
        concurrency: int = 8,
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        if form not in ("f1", "precision", "recall") or not 0 <= unknown <= 1:
            raise ValueError(f"form is f1, precision or recall, unknown in [0, 1]; got {form!r} and {unknown}")
        if isinstance(engine, str | Mapping):
            from rlcap.reward.engines import load_engine

            engine = load_engine(engine)
        asked = Prompt.read(prompt or Path(__file__).parent / "prompts" / "claims.txt")
        store = ReplyCache(cache or default_folder() / "claims.sqlite")
        patience = Patience(timeout, retries, backoff, concurrency)
        self.reader = ClaimReader(engine, asked, store, sampling, image, patience, self.version, Limits.of(limits))
        self.judges = (self.reader.judge,)
        self.form, self.unknown = form, unknown

    async def ascore(self, batch: RewardBatch) -> list[Score]:
        rows = [i for i, caption in enumerate(batch.captions) if caption.strip()]
        opinions = await self.reader.read([batch.captions[i] for i in rows], [batch.samples[i] for i in rows])
        self.metrics = {"cache_hits": self.reader.cache_hits}
        scores = [Score(0.0, note="The caption is empty.")] * len(batch)
        for i, opinion in zip(rows, opinions, strict=True):
            if opinion.verdict is None:
                scores[i] = Score.abstain(str(opinion.reason), note=opinion.reply)
                continue
            p, q = precision(opinion.verdict, self.unknown), recall(opinion.verdict, len(facts_of(batch.samples[i])))
            value = {"f1": f1(p, q), "precision": p, "recall": q}[self.form]
            scores[i] = Score(value, note=claims_text(opinion.verdict))
        return scores
