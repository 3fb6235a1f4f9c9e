"""Which of two descriptions of an image is better: asked in both orders, as judges favour a place.

    <reason>The first names the dog, which the second leaves out.</reason>
    <better>first</better>

A caption has won where it wins in both orders, and lost where it loses in both. Orders that disagree are a tie: what
they tell is the judge's liking for a place. Any other reply is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlcap.errors import ReplyFormatError
from rlcap.judge.grader import Critic
from rlcap.judge.parsing import sections
from rlcap.judge.templates import delimit
from rlcap.types import Sample

PLACE = "caption_stands"
"""Key of the meta of a sample as `both_orders` makes it."""


@dataclass(frozen=True, slots=True)
class Preference:
    """What the judge said in one order."""

    won: int
    """1 where the caption is better, -1 where the other is, 0 for neither."""
    reason: str


def opponent(sample: Sample) -> str:
    """What a caption is compared with: the paragraph, else the first reference; "" where there is neither."""
    texts = (sample.paragraph or "", *sample.references)
    return next((text.strip() for text in texts if text.strip()), "")


def both_orders(caption: str, sample: Sample) -> list[tuple[str, Sample]]:
    """What is asked of a caption: it first, and it second; nothing where it has no opponent."""
    if not opponent(sample):
        return []
    return [(caption, replace(sample, meta={**sample.meta, PLACE: place})) for place in ("first", "second")]


def value(found: Sequence[Preference]) -> float:
    """Mean of win 1, tie .5, loss 0, where orders that disagree are ties: (win, win) → 1, (win, tie) → .5."""
    outcomes = {one.won for one in found}
    return (1 + outcomes.pop()) / 2 if len(outcomes) == 1 else 0.5


class Comparer(Critic):
    """A critic whose verdict is a `Preference`. Its samples are of `both_orders`."""

    def fields(self, caption: str, sample: Sample) -> dict[str, str]:
        pair = (caption, opponent(sample)) if sample.meta[PLACE] == "first" else (opponent(sample), caption)
        told = {name: delimit(name, text) for name, text in zip(("first", "second"), pair, strict=True)}
        return {"references": super().fields(caption, sample)["references"], **told}

    def known(self, sample: Sample) -> bool:
        return bool(opponent(sample))

    def parse(self, reply: str, sample: Sample) -> Preference:
        reason, better = sections(reply, "reason", "better")
        better = better.strip(".").lower()
        if better not in ("first", "second", "neither"):
            raise ReplyFormatError(f"first, second or neither is better, got {better[:20]!r}")
        won = 0 if better == "neither" else 1 if better == sample.meta[PLACE] else -1
        return Preference(won, reason)
