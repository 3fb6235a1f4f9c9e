"""The lab's oracle of objects: it lists the objects that a caption names.

It stands in for a language model and answers what `rlcap.rewards.aloha:Aloha` asks. It sees no scene: it lists each
thing that `rlcap.lab.world.truth` reads, with its attributes, and the background. Objects in a sentence that guesses
("maybe there is a ball") are marked as possible.

>>> list_objects("there is a red ball. maybe there are two boats.")
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
    """Return the objects of a text in the lab's language, each once, as the lines of the list have them."""
    objects: list[str] = []
    for sentence in _END.split(text):
        mentions, _, grounds = parse_caption(sentence)
        things = [" ".join([*(m.attributes[a] for a in _ADJECTIVES if a in m.attributes), m.kind]) for m in mentions]
        objects += [f"{thing} (possibly)" if is_guess(sentence) else thing for thing in (*things, *grounds)]
    return list(dict.fromkeys(objects))


class OracleObjects(Oracle):
    """A judge backend for `rlcap.rewards.aloha:Aloha`."""

    name = "oracle-objects-1"
    reads_sample = False  # it reads the text alone

    def answer(self, request: JudgeRequest) -> str:
        """Return one line for each object.

        Raises:
            ValueError: where the prompt has no delimited caption.
        """
        caption = _CAPTION.search(request.text)
        if caption is None:
            raise ValueError("the prompt needs a delimited part <caption>")
        lines = [f"- {thing}" for thing in list_objects(caption[1])]
        return "\n".join(["<objects>", *(lines or ["none"]), "</objects>"])
