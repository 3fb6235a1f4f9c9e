"""What two captions of one image say differently, claim by claim, and a strict parser of that list.

    <differences>
    - the ball is blue in the caption, red in the reference | caption
    - only the caption mentions the dog | reference
    - the caption calls it a sofa, the reference a couch | neither
    </differences>

The word after the bar says whose claim is wrong. If one text leaves out what the other rightly says, that counts as its
error, as in ClaimDiff-RL's own prompt. The parser refuses every other form, because guessing at a broken reply would
add the parser's errors to the reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlcap.errors import ReplyFormatError
from rlcap.judge.grader import Grader
from rlcap.judge.parsing import read_list, read_sections
from rlcap.judge.templates import delimit
from rlcap.types import Sample, says_something

WRONG = {"caption": (True, False), "reference": (False, True), "both": (True, True), "neither": (False, False)}
"""Word → (whether the caption is wrong, whether the reference is wrong)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing on which the two captions don't agree."""

    text: str
    wrong: str
    """A key of `WRONG`."""


def reference_text(sample: Sample) -> str:
    """Return what a caption is compared with: the paragraph, otherwise the references in one text, otherwise ""."""
    if sample.paragraph and says_something(sample.paragraph):
        return sample.paragraph.strip()
    return " ".join(dict.fromkeys(text.strip() for text in sample.references if says_something(text)))


def parse_differences(reply: str) -> list[Difference]:
    """Return the differences in a reply, each once.

    Raises:
        ReplyFormatError: for a reply of another form; it says what is wrong.
    """
    (text,) = read_sections(reply, "differences")
    lines = read_list(text)
    return list(dict.fromkeys(map(_parse_line, lines)))


def _parse_line(line: str) -> Difference:
    text, bar, wrong = (cell.strip() for cell in line.removeprefix("-").rpartition("|"))
    if not line.startswith("-") or not bar or not text or wrong.lower() not in WRONG:
        raise ReplyFormatError(f"a difference is a line `- text | {' or '.join(WRONG)}`, got {line[:60]!r}")
    return Difference(text, wrong.lower())


def format_differences(differences: Sequence[Difference]) -> str:
    """Return the list in the form that the judge is asked for; `parse_differences` reads it back."""
    rows = [f"- {one.text} | {one.wrong}" for one in differences] or ["none"]
    return "\n".join(["<differences>", *rows, "</differences>"])


def differential(differences: Sequence[Difference]) -> float:
    """Return d = clip((caption's errors − reference's errors) / differences, −1, 1); 0 without a difference."""
    errors = sum(WRONG[one.wrong][0] - WRONG[one.wrong][1] for one in differences)
    return max(-1.0, min(1.0, errors / len(differences))) if differences else 0.0


class DifferenceReader(Grader):
    """Reads lists of differences between the caption and the `reference_text` of its sample."""

    def prompt_fields(self, caption: str, sample: Sample) -> dict[str, str]:
        """Return the caption, and the reference with what a detector found."""
        reference = delimit("reference", reference_text(sample))
        return {"caption": delimit("caption", caption), "reference": reference + self.detections_text(sample)}

    def has_material(self, sample: Sample) -> bool:
        """Whether the sample has a paragraph or references."""
        return bool(reference_text(sample))

    def parse(self, reply: str, sample: Sample) -> list[Difference]:
        """Read a list of differences.

        Raises:
            ReplyFormatError: for a reply of another form.
        """
        return parse_differences(reply)
