"""A caption taken apart into atomic claims by a judge, and reading that list strictly.

    <claims>
    - there is a red ball | true | visible | 2
    - the ball is striped | false | visible | none
    - the mood is calm | unknown | abstract | none
    </claims>

Claim, whether it is true, whether one could point at it, and the number of the known fact that it states. Anything else
is no list: guessing at a broken reply would put the parser's noise into the reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlcap.errors import ReplyFormatError
from rlcap.judge.grader import Grader
from rlcap.judge.parsing import read_list, read_sections
from rlcap.judge.templates import delimit
from rlcap.scorers.text.sentences import split_sentences
from rlcap.types import Sample

_TRUTH = {"true": True, "false": False, "unknown": None}
_KIND = {"visible": True, "abstract": False}


@dataclass(frozen=True, slots=True)
class Claim:
    """One atomic claim of a caption."""

    text: str
    true: bool | None
    """None where what is known doesn't say."""
    pointable: bool
    """Whether it is about something that one could point at in the image."""
    fact: int | None
    """Index into the known facts of the one it states, from 0."""


def list_facts(sample: Sample) -> list[str]:
    """What is known of an image, a fact an entry: `meta["facts"]` where the source has them, else the references'
    sentences."""
    given = sample.meta.get("facts")
    texts = [str(text) for text in given] if isinstance(given, list | tuple) else []
    if not any(text.strip() for text in texts):
        texts = [sentence for text in sample.references for sentence in split_sentences(text)]
    return list(dict.fromkeys(text.strip() for text in texts if text.strip()))


def parse_claims(reply: str, facts: int) -> list[Claim]:
    """The claims in a reply; facts: how many there are to refer to. Raises ReplyFormatError that says what is amiss."""
    (text,) = read_sections(reply, "claims")
    lines = read_list(text)
    return [_claim(line, facts) for line in lines]


def _claim(line: str, facts: int) -> Claim:
    cells = [cell.strip() for cell in line.removeprefix("-").rsplit("|", 3)]
    if not line.startswith("-") or len(cells) != 4 or not cells[0]:
        raise ReplyFormatError(f"a claim is a line `- text | true | visible | 2`, got {line[:60]!r}")
    text, true, kind, fact = cells[0], cells[1].lower(), cells[2].lower(), cells[3].lower()
    if true not in _TRUTH or kind not in _KIND:
        raise ReplyFormatError(f"a claim is true, false or unknown, and visible or abstract, got {line[:60]!r}")
    if fact != "none" and not (fact.isdecimal() and 1 <= int(fact) <= facts):
        raise ReplyFormatError(f"a claim states one of {facts} facts or none, got {fact[:20]!r}")
    return Claim(text, _TRUTH[true], _KIND[kind], None if fact == "none" else int(fact) - 1)


def format_claims(claims: Sequence[Claim]) -> str:
    """The list as it is asked for; `parse_claims` reads it back."""
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
        """Read a list of claims. Raises ReplyFormatError."""
        return parse_claims(reply, len(list_facts(sample)))
