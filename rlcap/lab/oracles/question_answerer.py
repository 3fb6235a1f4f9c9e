"""The lab's answerer: a stand-in for a language model that has read a caption and answers questions from it alone.

It knows no scene. What the caption says is read by `rlcap.lab.world.truth`; what it says twice and differently, or says of
several things where one was asked about, is a contradiction.
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

_FENCE = re.compile(r"^<(\w+)>\n(.*?)\n</\1>$", re.DOTALL | re.MULTILINE)
_KIND_OF = {plural: kind for kind, plural in PLURALS.items()}


def find_answers(caption: str, question: str) -> set[str]:
    """What the caption answers to a question of `rlcap.lab.world.questions`, in the words of its options: nothing, one answer,
    or several that contradict each other. ValueError for another question."""
    mentions, relations, grounds = parse_caption(caption)
    if question == "What is the background?":
        return set(grounds)
    if question == "Which of these is there?":
        return {article(mention.kind) for mention in mentions}
    if (match := re.fullmatch(r"How many (\w+) are there\?", question)) and match[1] in _KIND_OF:
        own = [mention for mention in mentions if mention.kind == _KIND_OF[match[1]]]
        single = sum(mention.count == 1 and not mention.definite for mention in own)
        amount = max([single, *(mention.count for mention in own)])  # `a boat … a boat … two boats` are two
        return {COUNT_WORDS.get(amount, "more")} if amount else set()
    match = re.fullmatch(r"Where is the (\w+), seen from the (\w+)\?", question)
    if match and {match[1], match[2]} <= set(KINDS):
        return _relations(match[1], match[2], mentions, relations)
    for name, start in {**ATTRIBUTE_QUESTIONS, "place": "Where"}.items():
        if match := re.fullmatch(rf"{start} is the (\w+)\?", question):
            values = {m.attributes[name] for m in mentions if m.kind == match[1] and name in m.attributes}
            return {PLACE_PHRASES[value] for value in values} if name == "place" else values
    raise ValueError(f"the lab's answerer reads no question like {question[:80]!r}")


def _relations(first: str, second: str, mentions: list, relations: list) -> set[str]:
    """Relations said in words, and those that follow from places said of both."""
    found = set()
    for one, relation, two in relations:
        if (mentions[one].kind, mentions[two].kind) == (first, second):
            found.add(relation)
        if (mentions[two].kind, mentions[one].kind) == (first, second):
            found.add(OPPOSITE[relation])
    places = {k: {m.attributes["place"] for m in mentions if m.kind == k and "place" in m.attributes} for k in KINDS}
    if len(places[first]) == len(places[second]) == 1:
        (here,), (there,) = places[first], places[second]
        found |= {r for r in OPPOSITE if holds(r, Thing("", "", "", "", here), Thing("", "", "", "", there))}
    return {RELATION_PHRASES[relation] for relation in found}


def choose(caption: str, question: str, options: Sequence[str]) -> str:
    """The option that fits what the caption says; where none does, the option that says so, or the first of all."""
    answers = find_answers(caption, question)
    fitting = [option for option in options if option in answers]
    listed = question.startswith("Which of these")
    several = listed or ", seen from the " in question  # more than one answer may be true, though not of the options
    if len(fitting) == 1 and (several or len(answers) == 1):
        return fitting[0]
    untold = not answers or (listed and not fitting)
    return next((option for option in options if ("does not tell" if untold else "contradicts") in option), options[0])


class OracleQuestionAnswerer(Oracle):
    """An engine for `rlcap.rewards.caption_qa:CaptionQa`, with questions of `rlcap.lab.world.questions`."""

    name = "oracle-question-answerer-1"
    reads_sample = False  # it goes by the text alone

    def answer(self, request: JudgeRequest) -> str:
        """A letter. ValueError where the prompt has no caption, question and options in fences."""
        fences = dict(_FENCE.findall(request.text))
        if not {"caption", "question", "options"} <= set(fences):
            raise ValueError(f"the prompt needs the fences caption, question and options; it has {sorted(fences)}")
        options = [line.partition(". ")[2] for line in fences["options"].splitlines()]
        chosen = choose(fences["caption"], fences["question"], options)
        return string.ascii_uppercase[options.index(chosen)]
