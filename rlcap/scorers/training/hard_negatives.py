"""Captions made wrong the way captioners get them wrong: by what similar images show.

mistakes = Mistakes(captions_of_each_image, encoder)
mistakes.draw(random.Random(0))       # Example(references=("Two men …", …), right="A man …", wrong="A woman …")

A caption that people wrote of an image is right, though the image's other captions don't mention all that it says. It becomes
wrong when one word gives way to the word that a similar image's caption has in its place, or when it is that caption itself.
So a model that tells the two apart learns what may go unmentioned and what is an error, which entailment alone does not say.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rlcap.scorers.grounding import STOP_WORDS

NEAREST, FARTHEST = 5, 40
"""Ranks of the similar images: the very nearest may show the same, and their captions be right."""
WHOLE = 0.5
"""Share of the wrong captions that are a similar image's whole caption. Some of these are right, too; leaving those out whose
words all find support taught less."""
TRIES = 10_000
"""Draws without a wrong caption after which there is none to be found: captions from a template."""


@dataclass(frozen=True, slots=True)
class Example:
    """One image's captions, one of them held against the others."""

    references: tuple[str, ...]
    right: str
    wrong: str


class HardNegatives:
    """N images' captions, each once encoded. encoder: a `TokenMatchingScorer`.

    Raises ValueError for fewer images than `FARTHEST` that have two different captions with words.
    """

    def __init__(self, images: Sequence[Sequence[str]], encoder: Any) -> None:
        kept = [list(dict.fromkeys(text.strip() for text in texts if text.strip())) for texts in images]
        self._words: dict[str, tuple[list[str], Tensor]] = encoder.word_vectors(
            dict.fromkeys(text for texts in kept for text in texts)
        )
        told = [[text for text in texts if self._claims(text)] for texts in kept]
        self.images = [texts for texts in told if len(texts) > 1]
        if len(self.images) < FARTHEST:
            raise ValueError(
                f"{len(self.images)} images with two different captions; mistakes need {FARTHEST} at least"
            )
        self._near = find_nearest(torch.stack([self._mean(texts) for texts in self.images]), FARTHEST)[:, NEAREST:]

    def draw(self, rng: random.Random) -> Example:
        """Another example each time. ValueError where similar images say nothing different."""
        for _ in range(TRIES):
            image = rng.randrange(len(self.images))
            references = list(self.images[image])
            right = references.pop(rng.randrange(len(references)))
            rng.shuffle(references)
            similar = self.images[int(self._near[image][rng.randrange(self._near.shape[1])])]
            whole = rng.choice(similar)
            wrong = whole if rng.random() < WHOLE else self._one_word(right, whole, references, rng)
            if wrong is not None and wrong not in (right, *references):
                return Example(tuple(references), right, wrong)
        raise ValueError(f"no wrong caption found in {TRIES:,} tries: similar images' captions say nothing different")

    def _one_word(self, text: str, similar: str, references: Sequence[str], rng: random.Random) -> str | None:
        """`text` with a word of `similar` that neither it nor a reference says, in place of the word most like it."""
        (words, vectors), (others, theirs) = self._words[text], self._words[similar]
        known = {word for said in (text, *references) for word in self._words[said][0]}
        new = [i for i in self._claims(similar) if others[i] not in known]
        if not new:
            return None
        chosen, own = rng.choice(new), self._claims(text)
        place = own[int((vectors[own] @ theirs[chosen]).argmax())]
        return replace_word(text, words[place], others[chosen])

    def _claims(self, text: str) -> list[int]:
        """Places of the words that claim something."""
        return [i for i, word in enumerate(self._words[text][0]) if word not in STOP_WORDS]

    def _mean(self, texts: Sequence[str]) -> Tensor:
        return functional.normalize(torch.cat([self._words[text][1] for text in texts]).mean(0), dim=0)


def find_nearest(vectors: Tensor, count: int) -> Tensor:
    """(N, D) → (N, count) rows of the nearest others by cosine, nearest first, once what all have in common is taken away."""
    own = functional.normalize(vectors - vectors.mean(0), dim=1)
    found = []
    for start in range(0, len(own), 1024):
        cosines = own[start : start + 1024] @ own.T
        cosines[torch.arange(len(cosines)), torch.arange(start, start + len(cosines))] = -2
        found.append(cosines.topk(min(count, len(own) - 1), dim=1).indices)
    return torch.cat(found)


def replace_word(text: str, word: str, by: str) -> str | None:
    """The text with the first `word`, in whatever case, become `by`, with a capital where it had one; None where it does not
    stand there by itself. Case must not tell a wrong caption from a right one."""
    found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)
    if found is None:
        return None
    new = by[:1].upper() + by[1:] if found.group()[:1].isupper() else by
    return text[: found.start()] + new + text[found.end() :]
