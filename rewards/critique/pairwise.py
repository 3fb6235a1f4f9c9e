"""Which of two descriptions of an image is better, asked in both orders, because judges favour a position.

    <reason>The first names the dog, which the second leaves out.</reason>
    <better>first</better>

A caption wins where it wins in both orders, and loses where it loses in both. Orders that disagree are a tie, because
they only show the judge's preference for a position. A reply of any other form is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlcap.errors import ReplyFormatError
from rlcap.judge.grader import Grader
from rlcap.judge.parsing import read_sections
from rlcap.judge.templates import delimit
from rlcap.types import Sample, says_something

POSITION = "caption_stands"
"""Key of `meta`, set by `both_orders`: the caption's position, `first` or `second`."""


@dataclass(frozen=True, slots=True)
class Preference:
    """What the judge said in one order."""

    won: int
    """1 where the caption is better, -1 where the other description is, 0 for neither."""
    reason: str
    """Why, in the judge's words."""


def opponent(sample: Sample) -> str:
    """Return what a caption is compared with: the paragraph, otherwise the first reference, otherwise ""."""
    texts = (sample.paragraph or "", *sample.references)
    return next((text.strip() for text in texts if says_something(text)), "")


def both_orders(caption: str, sample: Sample) -> list[tuple[str, Sample]]:
    """Return the requests about a caption: in first and in second position; none where it has no opponent."""
    if not opponent(sample):
        return []
    return [(caption, replace(sample, meta={**sample.meta, POSITION: position})) for position in ("first", "second")]


def pairwise_value(preferences: Sequence[Preference]) -> float:
    """Return 1 for a win in both orders, 0 for a loss in both, and .5 for ties and for orders that disagree."""
    outcomes = {preference.won for preference in preferences}
    return (1 + outcomes.pop()) / 2 if len(outcomes) == 1 else 0.5


class PreferenceReader(Grader):
    """Reads a `Preference`. Its samples are those of `both_orders`."""

    def prompt_fields(self, caption: str, sample: Sample) -> dict[str, str]:
        """Return the references and both descriptions in the sample's order."""
        pair = (caption, opponent(sample)) if sample.meta[POSITION] == "first" else (opponent(sample), caption)
        texts = {name: delimit(name, text) for name, text in zip(("first", "second"), pair, strict=True)}
        return {"references": super().prompt_fields(caption, sample)["references"], **texts}

    def has_material(self, sample: Sample) -> bool:
        """Whether the caption has an opponent."""
        return bool(opponent(sample))

    def parse(self, reply: str, sample: Sample) -> Preference:
        """Read a preference.

        Raises:
            ReplyFormatError: for a reply of another form.
        """
        reason, better = read_sections(reply, "reason", "better")
        better = better.strip(".").lower()
        if better not in ("first", "second", "neither"):
            raise ReplyFormatError(f"the better one must be first, second or neither, got {better[:20]!r}")
        won = 0 if better == "neither" else 1 if better == sample.meta[POSITION] else -1
        return Preference(won, reason)
