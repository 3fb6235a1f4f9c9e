"""The lab's question answerer: it reads a caption and answers questions from it alone.

It stands in for a language model and sees no scene. `rlcap.lab.world.truth` reads what the caption says. Different
answers in the same caption, or answers about several things where the question asks about one, are a contradiction.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from rlcap.judge.backends.base import JudgeRequest
from rlcap.lab.oracles.base import Oracle
from rlcap.lab.world.language import PLACE_PHRASES, PLURALS, RELATION_PHRASES, article
from rlcap.lab.world.questions import ATTRIBUTE_QUESTIONS, COUNT_WORDS
from rlcap.lab.world.scene import Thing, holds
from rlcap.lab.world.truth import parse_caption
from rlcap.lab.world.vocabulary import KINDS, OPPOSITE

_DELIMITED = re.compile(r"^<(\w+)>\n(.*?)\n</\1>$", re.DOTALL | re.MULTILINE)
_KIND_OF = {plural: kind for kind, plural in PLURALS.items()}


def find_answers(caption: str, question: str) -> set[str]:
    """Return what the caption answers to a question of `rlcap.lab.world.questions`, in the words of its options.

    The set is empty where the caption says nothing, and holds several answers where they contradict each other.

    Raises:
        ValueError: for any other question.
    """
    mentions, relations, grounds = parse_caption(caption)
    if question == "What is the background?":
        return set(grounds)
    if question == "Which of these is there?":
        return {article(mention.kind) for mention in mentions}
    if (match := re.fullmatch(r"How many (\w+) are there\?", question)) and match[1] in _KIND_OF:
        own = [mention for mention in mentions if mention.kind == _KIND_OF[match[1]]]
        single = sum(mention.count == 1 and not mention.definite for mention in own)
        amount = max([single, *(mention.count for mention in own)])  # `a boat … a boat … two boats` count as two
        return {COUNT_WORDS.get(amount, "more")} if amount else set()
    match = re.fullmatch(r"Where is the (\w+), seen from the (\w+)\?", question)
    if match and {match[1], match[2]} <= set(KINDS):
        return _relations(match[1], match[2], mentions, relations)
    for name, start in {**ATTRIBUTE_QUESTIONS, "place": "Where"}.items():
        if match := re.fullmatch(rf"{start} is the (\w+)\?", question):
            values = {m.attributes[name] for m in mentions if m.kind == match[1] and name in m.attributes}
            return {PLACE_PHRASES[value] for value in values} if name == "place" else values
    raise ValueError(f"the lab's answerer can't read the question {question[:80]!r}")


def _relations(first: str, second: str, mentions: list, relations: list) -> set[str]:
    """Return the relations that the caption states, and those that follow from the places it states of both things."""
    stated = set()
    for one, relation, two in relations:
        if (mentions[one].kind, mentions[two].kind) == (first, second):
            stated.add(relation)
        if (mentions[two].kind, mentions[one].kind) == (first, second):
            stated.add(OPPOSITE[relation])
    places = {k: {m.attributes["place"] for m in mentions if m.kind == k and "place" in m.attributes} for k in KINDS}
    if len(places[first]) == len(places[second]) == 1:
        (here,), (there,) = places[first], places[second]
        stated |= {r for r in OPPOSITE if holds(r, Thing("", "", "", "", here), Thing("", "", "", "", there))}
    return {RELATION_PHRASES[relation] for relation in stated}


def choose(caption: str, question: str, options: Sequence[str]) -> str:
    """Return the option that fits the caption; where none does, the option that says so, or else the first option."""
    answers = find_answers(caption, question)
    fitting = [option for option in options if option in answers]
    listed = question.startswith("Which of these")
    several = listed or ", seen from the " in question  # several answers may be true, but only one of the options
    if len(fitting) == 1 and (several or len(answers) == 1):
        return fitting[0]
    not_stated = not answers or (listed and not fitting)
    return next(
        (option for option in options if ("does not tell" if not_stated else "contradicts") in option), options[0]
    )


class OracleQuestionAnswerer(Oracle):
    """A judge backend for `rlcap.rewards.caption_qa:CaptionQa`, with questions of `rlcap.lab.world.questions`."""

    name = "oracle-question-answerer-1"
    reads_sample = False  # it reads the text alone

    def answer(self, request: JudgeRequest) -> str:
        """Return a letter.

        Raises:
            ValueError: where the prompt has no delimited caption, question and options.
        """
        parts = dict(_DELIMITED.findall(request.text))
        if not {"caption", "question", "options"} <= set(parts):
            raise ValueError(
                f"the prompt needs the delimited parts caption, question and options; it has {sorted(parts)}"
            )
        options = [line.partition(". ")[2] for line in parts["options"].splitlines()]
        chosen = choose(parts["caption"], parts["question"], options)
        return string.ascii_uppercase[options.index(chosen)]
