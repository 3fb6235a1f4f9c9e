"""The words that COCO's evaluation counts: PTB's tokens without punctuation, computed without Java.

    tokenize_ptb("The dog's owner can't see it.")     # ["the", "dog", "'s", "owner", "ca", "n't", "see", "it"]

Published CIDEr, BLEU and ROUGE are computed on the lower-cased tokens of Stanford's PTBTokenizer 3.4.1, from which
pycocoevalcap removes some punctuation marks. The rules here follow the observed output of these programs. They differ
from `rlcap.scorers.text.ngrams.tokenize` in four ways:

* clitics are words of their own: "it 's", "ca n't", "can not", "gon na"
* times, dates, decimals, "and/or", "at&t", and also "ground.a" without a space after the full stop are one word
* abbreviations keep their full stop: "st.", "t.v.", "p.m."
* symbols, repeated marks and brackets are words: "&", "$", "#", "!!", "-lrb-"
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

PUNCTUATION = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
"""Tokens that pycocoevalcap removes. It means to remove brackets too, but looks for their names in upper case."""
_ABBREVIATIONS = (
    "adj adm adv asst assoc atty attys ave bldg blvd brig bros capt cf cmdr co col comdr corp cos cpl ct dept det dr drs ens esq est "
    "etc ext ft gen gov govs hon inc insp intl jr lieut lt ltd maj messrs mlle mme mr mrs ms msgr mt natl pfc plc pres prof profs pvt rd "
    "rep reps rev sen sens sfc sgt spc sq sr st ste supt supts sys tel univ vs "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri ala ariz calif colo conn dak fla ga ind kan kans ky "
    "md mich minn mo mont neb nev okla penn tenn va vt wis wyo"
)
"""Words that keep their full stop."""
_STATES = "Ark Del Ill La Mass Miss Ore Pa Tex Wash"
"""Words that keep it with a capital letter alone."""
_BEFORE_NUMBERS = "art fig figs no nos op p pp"
"""Words that keep it before a number."""
_SENTENCE_STARTS = "A An And But He Her His I In It My On She The There They This Two We You"
"""Words before which a single letter is the end of a sentence, and not an initial."""
_SYMBOLS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-", "£": "#", "€": "$", "¢": "cents",
            "½": "1/2", "¼": "1/4", "¾": "3/4", "&amp;": "&", "&lt;": "<", "&gt;": ">", "…": "...", "–": "--", "—": "--"}  # fmt: skip
_QUOTES = str.maketrans(dict.fromkeys("’‘`", "'") | dict.fromkeys("“”«»", '"'))


def _any(words: str) -> str:
    return "|".join(words.split())


_TOKEN = re.compile(
    rf"""
      https?://\S+ | [\w.+-]+@\w[\w-]*\.[\w.-]*\w           # addresses
    | &(?:amp|lt|gt); | </?[a-z]+>
    | [^\W\d_](?:\.[^\W\d_])+\.(?!\w) | ph\.d\.             # p.m.
    | \b(?:{_any(_ABBREVIATIONS)})\.(?!\w) | \b(?-i:{_any(_STATES)})\.(?!\w) | \b(?:{_any(_BEFORE_NUMBERS)})\.(?=\s*\d)
    | \b[^\W\d_]\.(?=\s+\w)(?!\s+(?-i:{_any(_SENTENCE_STARTS)})\b)
    | \d{{1,2}}:\d{{2}}(?=[ap]m\b)                          # 10:30 am
    | '(?:n'(?!\w) | (?:n|em|til|cause)\b | \d\ds?(?=[\s.,;]|$))    # rock 'n' roll, the '60s
    | (?<!\w)'t(?=is\b|was\b) | '(?:s|m|d|re|ve|ll)\b
    | \bc(?:\+\+|\#) | [\#@][^\W\d_]\w*
    | (?<![\w.,])[-+]?\.?\d+(?:[.,:/-]\d+)*(?![\w/&-]|'\w) | (?<=\w)\+\d+
    | \w+(?: [-/&]\w+ | (?<=[^\W\d_])[.!?](?=[^\W\d_])\w+ | [.,:]\d+(?<=\d[.,:]\d) | '(?!\d)\w+ )*
    | \.{{3}} | -{{2,}} | [!?]+ | \*+ | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CLITIC = re.compile(r"(.+?)('n(?:'(?=\w)|\b)|n't\b|'(?:s|m|d|re|ve|ll)\b)(.*)")
_ONE_WORD = re.compile(r"(?:[dlo]|qu|ne|ma)'\w+")
"""Words with an inner apostrophe: o'clock. Others are split at theirs."""
_CONTRACTIONS = {"cannot": 3, "gonna": 3, "gotta": 3, "wanna": 3, "gimme": 3, "lemme": 3, "y'all": 2}
"""Word → the place where it is split in two."""


def tokenize_ptb(text: str) -> list[str]:
    """Split a text into lower-cased PTB tokens, without those that pycocoevalcap removes as punctuation."""
    text = unicodedata.normalize("NFC", text).translate(_QUOTES)
    found = (token for match in _TOKEN.findall(text) for token in _split(match.lower()))
    return [token for token in found if token not in PUNCTUATION and token.strip('-"')]


def _split(token: str) -> Iterator[str]:
    """Split the clitics from a word, and name the symbols as PTB does."""
    if token in _SYMBOLS:
        yield _SYMBOLS[token]
    elif token in _CONTRACTIONS:
        yield token[: _CONTRACTIONS[token]]
        yield token[_CONTRACTIONS[token] :]
    elif clitic := _CLITIC.fullmatch(token):
        first, clitic_itself, rest = clitic.groups()
        yield from _split(first)
        yield clitic_itself
        if rest:
            yield from _split(rest)
    elif "'" in token[1:-1] and token[0].isalnum() and not _ONE_WORD.fullmatch(token):
        yield from token.split("'")
    else:
        yield token
