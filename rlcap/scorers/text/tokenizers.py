"""The tokenizers that metrics of wording can use, by name.

`words` suits rewards: it knows all scripts, and ignores punctuation and symbols. `ptb` is for values that are compared
with published ones, which are computed on PTB's tokens; it is made for English.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from rlcap.scorers.text.ngrams import tokenize
from rlcap.scorers.text.ptb import tokenize_ptb

TokenizerName = Literal["words", "ptb"]

TOKENIZERS: Mapping[str, Callable[[str], list[str]]] = {"words": tokenize, "ptb": tokenize_ptb}
"""Name → function from a text to its words."""


def get_tokenizer(name: str) -> Callable[[str], list[str]]:
    """Return the tokenizer of a name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in TOKENIZERS:
        raise ValueError(f"tokenizer must be one of {', '.join(TOKENIZERS)}, got {name!r}")
    return TOKENIZERS[name]
