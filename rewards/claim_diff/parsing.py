"""What two captions of one image say differently, claim by claim, and whose claim is wrong; reading that list strictly.

    <differences>
    - the ball is blue in the caption, red in the reference | caption
    - only the caption mentions the dog | reference
    - the caption calls it a sofa, the reference a couch | neither
    </differences>

What either leaves out of what the other rightly says counts as its error, as in ClaimDiff-RL's own prompt. Anything else
is no list: guessing at a broken reply would put the parser's noise into the reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlcap.errors import ReplyFormatError
from rlcap.judge.grader import Grader
from rlcap.judge.parsing import read_list, read_sections
from rlcap.judge.templates import delimit
from rlcap.types import Sample

WRONG = {"caption": (True, False), "reference": (False, True), "both": (True, True), "neither": (False, False)}
"""Word → whether the caption, and whether the reference is wrong."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing on which the two don't agree."""

    text: str
    wrong: str
    """A key of `WRONG`."""


def reference_text(sample: Sample) -> str:
    """What a caption is compared with: the paragraph, else the references in one text; "" where there is neither."""
    if sample.paragraph and sample.paragraph.strip():
        return sample.paragraph.strip()
    return " ".join(dict.fromkeys(text.strip() for text in sample.references if text.strip()))


def parse_differences(reply: str) -> list[Difference]:
    """The differences in a reply, each once. Raises ReplyFormatError that says what is amiss."""
    (text,) = read_sections(reply, "differences")
    lines = read_list(text)
    return list(dict.fromkeys(map(_difference, lines)))


def _difference(line: str) -> Difference:
    text, bar, wrong = (cell.strip() for cell in line.removeprefix("-").rpartition("|"))
    if not line.startswith("-") or not bar or not text or wrong.lower() not in WRONG:
        raise ReplyFormatError(f"a difference is a line `- text | {' or '.join(WRONG)}`, got {line[:60]!r}")
    return Difference(text, wrong.lower())


def format_differences(found: Sequence[Difference]) -> str:
    """The list as it is asked for; `parse_differences` reads it back."""
    rows = [f"- {one.text} | {one.wrong}" for one in found] or ["none"]
    return "\n".join(["<differences>", *rows, "</differences>"])


def differential(found: Sequence[Difference]) -> float:
    """d = clip((errors of the caption − errors of the reference) / differences, −1, 1); 0 without a difference."""
    errors = sum(WRONG[one.wrong][0] - WRONG[one.wrong][1] for one in found)
    return max(-1.0, min(1.0, errors / len(found))) if found else 0.0


class DifferenceReader(Grader):
    """Reads lists of differences between the caption and `reference_text` its sample."""

    def prompt_fields(self, caption: str, sample: Sample) -> dict[str, str]:
        """Return the caption, and the reference with what a detector found."""
        reference = delimit("reference", reference_text(sample))
        return {"caption": delimit("caption", caption), "reference": reference + self.detections_text(sample)}

    def has_material(self, sample: Sample) -> bool:
        """Whether the sample has a paragraph or references."""
        return bool(reference_text(sample))

    def parse(self, reply: str, sample: Sample) -> list[Difference]:
        """Read a list of differences. Raises ReplyFormatError."""
        return parse_differences(reply)
