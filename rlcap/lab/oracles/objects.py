"""The lab's lister of objects: a stand-in for a language model that lists what a caption names.

It answers what `rlcap.rewards.aloha:Aloha` asks, and knows no scene: each thing that `rlcap.lab.world.truth` reads is listed with its
attributes, and the background. In a sentence that guesses ("maybe there is a ball") they are only possible.

>>> named("there is a red ball. maybe there are two boats.")
['red ball', 'boat (possibly)']
"""

from __future__ import annotations

import re

from rlcap.judge.backends.base import JudgeRequest
from rlcap.lab.oracles.base import Oracle
from rlcap.lab.world.truth import parse_caption
from rlcap.scorers.text.hedges import is_guess

_ADJECTIVES = ("size", "colour", "fill")
_END = re.compile(r"[.!?\n]")
_CAPTION = re.compile(r"^<caption>\n(.*?)\n</caption>$", re.DOTALL | re.MULTILINE)


def list_objects(text: str) -> list[str]:
    """The objects of a text in the lab's language, each once, as the lines of the list have them."""
    found: list[str] = []
    for sentence in _END.split(text):
        mentions, _, grounds = parse_caption(sentence)
        things = [" ".join([*(m.attributes[a] for a in _ADJECTIVES if a in m.attributes), m.kind]) for m in mentions]
        found += [f"{thing} (possibly)" if is_guess(sentence) else thing for thing in (*things, *grounds)]
    return list(dict.fromkeys(found))


class OracleObjects(Oracle):
    """An engine for `rlcap.rewards.aloha:Aloha`."""

    name = "oracle-objects-1"
    reads_sample = False  # it goes by the text alone

    def answer(self, request: JudgeRequest) -> str:
        """A line an object. ValueError where the prompt has no caption in its fence."""
        told = _CAPTION.search(request.text)
        if told is None:
            raise ValueError("the prompt needs the fence caption")
        lines = [f"- {thing}" for thing in list_objects(told[1])]
        return "\n".join(["<objects>", *(lines or ["none"]), "</objects>"])
