"""Lists of words from which taggers choose."""

from __future__ import annotations

from collections.abc import Sequence

from rlcap.errors import ConfigError
from rlcap.io.text import read_lines
from rlcap.scorers.objects.vocabulary import COCO_80


def read_vocabulary(vocabulary: str | Sequence[str]) -> list[str]:
    """Return the words of a vocabulary, each once.

    Args:
        vocabulary: `coco` for the 80 classes of COCO, the path of a text file with a word or phrase a line, or the words.

    Raises:
        ConfigError: There is no such file, or the vocabulary has fewer than two words.
    """
    if vocabulary == "coco":
        return list(COCO_80)
    lines = read_lines(vocabulary, "vocabulary", ConfigError) if isinstance(vocabulary, str) else list(vocabulary)
    words = list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if len(words) < 2:
        raise ConfigError(f"a vocabulary needs two words or more, got {words}: `coco`, a text file, or a list of words")
    return words
