"""The atomic claims of a caption, as a judge lists them, and a strict parser of that list.

    <claims>
    - there is a red ball | true | visible | 2
    - the ball is striped | false | visible | none
    - the mood is calm | unknown | abstract | none
    </claims>

Each line holds a claim, whether it is true, whether one could point at it in the image, and the number of the known
fact that it states. The parser refuses every other form, because guessing at a broken reply would add the parser's
errors to the reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlcap.errors import ReplyFormatError
from rlcap.judge.grader import Grader
from rlcap.judge.parsing import read_list, read_sections
from rlcap.judge.templates import delimit
from rlcap.scorers.text.sentences import split_sentences
from rlcap.types import Sample, says_something

_TRUTH = {"true": True, "false": False, "unknown": None}
_KIND = {"visible": True, "abstract": False}


@dataclass(frozen=True, slots=True)
class Claim:
    """One atomic claim of a caption."""

    text: str
    true: bool | None
    """None where the known facts leave it open."""
    pointable: bool
    """Whether the claim is about something that one could point at in the image."""
    fact: int | None
    """Index of the known fact that the claim states, from 0; None where it states none."""


def list_facts(sample: Sample) -> list[str]:
    """Return the known facts of an image: `meta["facts"]` where it exists, otherwise the references' sentences."""
    annotated = sample.meta.get("facts")
    texts = [str(text) for text in annotated] if isinstance(annotated, list | tuple) else []
    if not any(says_something(text) for text in texts):
        texts = [sentence for text in sample.references for sentence in split_sentences(text)]
    return list(dict.fromkeys(text.strip() for text in texts if says_something(text)))


def parse_claims(reply: str, facts: int) -> list[Claim]:
    """Return the claims in a reply.

    Args:
        reply: the judge's reply.
        facts: number of known facts that a claim can refer to.

    Raises:
        ReplyFormatError: for a reply of another form; it says what is wrong.
    """
    (text,) = read_sections(reply, "claims")
    lines = read_list(text)
    return [_parse_line(line, facts) for line in lines]


def _parse_line(line: str, facts: int) -> Claim:
    cells = [cell.strip() for cell in line.removeprefix("-").rsplit("|", 3)]
    if not line.startswith("-") or len(cells) != 4 or not cells[0]:
        raise ReplyFormatError(f"a claim must be a line `- text | true | visible | 2`, got {line[:60]!r}")
    text, true, kind, fact = cells[0], cells[1].lower(), cells[2].lower(), cells[3].lower()
    if true not in _TRUTH or kind not in _KIND:
        raise ReplyFormatError(f"a claim must be true, false or unknown, and visible or abstract, got {line[:60]!r}")
    if fact != "none" and not (fact.isdecimal() and 1 <= int(fact) <= facts):
        raise ReplyFormatError(f"a claim must state one of {facts} facts or none, got {fact[:20]!r}")
    return Claim(text, _TRUTH[true], _KIND[kind], None if fact == "none" else int(fact) - 1)


def format_claims(claims: Sequence[Claim]) -> str:
    """Return the list in the form that the judge is asked for; `parse_claims` reads it back."""
    truth, kind = {v: k for k, v in _TRUTH.items()}, {v: k for k, v in _KIND.items()}
    rows = [
        f"- {c.text} | {truth[c.true]} | {kind[c.pointable]} | {'none' if c.fact is None else c.fact + 1}"
        for c in claims
    ]
    return "<claims>\n" + ("\n".join(rows) or "none") + "\n</claims>"


class ClaimReader(Grader):
    """Reads lists of claims."""

    def prompt_fields(self, caption: str, sample: Sample) -> dict[str, str]:
        """Return the caption and the numbered facts."""
        known = "\n".join(f"{i}. {text}" for i, text in enumerate(list_facts(sample), 1)) or "(nothing is known)"
        return {"facts": delimit("facts", known), "caption": delimit("caption", caption)}

    def has_material(self, sample: Sample) -> bool:
        """Whether any fact of the image is known."""
        return bool(list_facts(sample))

    def parse(self, reply: str, sample: Sample) -> list[Claim]:
        """Read a list of claims.

        Raises:
            ReplyFormatError: for a reply of another form.
        """
        return parse_claims(reply, len(list_facts(sample)))
