"""Hard negatives: captions made wrong with content of similar images, as captioners make mistakes.

    negatives = HardNegatives(captions_of_each_image, encoder)
    negatives.draw(random.Random(0))       # Example(references=("Two men …", …), right="A man …", wrong="A woman …")

A caption that a person wrote for an image is right, even if the image's other captions do not mention all its content.
It becomes wrong when one of its words is replaced by the corresponding word of a similar image's caption. That caption
as a whole is wrong as well. A model that separates right from wrong captions learns the difference between an omission
and an error, which entailment alone does not express.
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
from rlcap.types import says_something

FIRST_RANK, LAST_RANK = 5, 40
"""Ranks of the similar images. The nearest images may show the same content, so that their captions could be right."""
FULL_CAPTION_SHARE = 0.5
"""Share of the wrong captions that are the full caption of a similar image.

Some of these are right as well. Leaving out those whose words all have support gave worse models.
"""
MAX_DRAWS = 10_000
"""Draws without a wrong caption after which the search fails, as it does for captions made from a template."""


@dataclass(frozen=True, slots=True)
class Example:
    """One image's captions: references, a right caption and a wrong one."""

    references: tuple[str, ...]
    """The other captions of the image."""
    right: str
    """A caption of the image."""
    wrong: str
    """A caption with an error."""


class HardNegatives:
    """Draws right and wrong captions from the captions of N images.

    Args:
        images: the captions of each image; each caption is encoded once.
        encoder: a `TokenMatchingScorer`.

    Raises:
        ValueError: fewer than `LAST_RANK` images have two different captions with words.
    """

    def __init__(self, images: Sequence[Sequence[str]], encoder: Any) -> None:
        kept = [list(dict.fromkeys(text.strip() for text in texts if says_something(text))) for texts in images]
        self._words: dict[str, tuple[list[str], Tensor]] = encoder.word_vectors(
            dict.fromkeys(text for texts in kept for text in texts)
        )
        claiming = [[text for text in texts if self._claims(text)] for texts in kept]
        self.images = [texts for texts in claiming if len(texts) > 1]
        if len(self.images) < LAST_RANK:
            raise ValueError(
                f"{len(self.images)} images with two different captions: hard negatives need {LAST_RANK} at least"
            )
        self._near = find_nearest(torch.stack([self._mean(texts) for texts in self.images]), LAST_RANK)[:, FIRST_RANK:]

    def draw(self, rng: random.Random) -> Example:
        """Draw a new example.

        Raises:
            ValueError: the captions of similar images do not differ.
        """
        for _ in range(MAX_DRAWS):
            image = rng.randrange(len(self.images))
            references = list(self.images[image])
            right = references.pop(rng.randrange(len(references)))
            rng.shuffle(references)
            similar = self.images[int(self._near[image][rng.randrange(self._near.shape[1])])]
            other = rng.choice(similar)
            wrong = (
                other if rng.random() < FULL_CAPTION_SHARE else self._replace_one_word(right, other, references, rng)
            )
            if wrong is not None and wrong not in (right, *references):
                return Example(tuple(references), right, wrong)
        raise ValueError(f"no wrong caption found in {MAX_DRAWS:,} draws: the captions of similar images do not differ")

    def _replace_one_word(self, text: str, similar: str, references: Sequence[str], rng: random.Random) -> str | None:
        """Replace the word of `text` that is most similar to a new word of `similar` by this new word.

        A new word occurs neither in `text` nor in a reference. Return None where there is none.
        """
        (words, vectors), (others, theirs) = self._words[text], self._words[similar]
        known = {word for caption in (text, *references) for word in self._words[caption][0]}
        new = [i for i in self._claims(similar) if others[i] not in known]
        if not new:
            return None
        chosen, own = rng.choice(new), self._claims(text)
        place = own[int((vectors[own] @ theirs[chosen]).argmax())]
        return replace_word(text, words[place], others[chosen])

    def _claims(self, text: str) -> list[int]:
        """Return the positions of the words that claim something."""
        return [i for i, word in enumerate(self._words[text][0]) if word not in STOP_WORDS]

    def _mean(self, texts: Sequence[str]) -> Tensor:
        return functional.normalize(torch.cat([self._words[text][1] for text in texts]).mean(0), dim=0)


def find_nearest(vectors: Tensor, count: int) -> Tensor:
    """Return the (N, count) rows of the nearest other vectors by cosine, nearest first.

    The mean of all vectors is subtracted first, since all of them share it.

    Args:
        vectors: (N, D) vectors.
        count: number of neighbours, limited to N − 1.
    """
    centred = functional.normalize(vectors - vectors.mean(0), dim=1)
    neighbours = []
    for start in range(0, len(centred), 1024):
        cosines = centred[start : start + 1024] @ centred.T
        cosines[torch.arange(len(cosines)), torch.arange(start, start + len(cosines))] = -2
        neighbours.append(cosines.topk(min(count, len(centred) - 1), dim=1).indices)
    return torch.cat(neighbours)


def replace_word(text: str, word: str, by: str) -> str | None:
    """Replace the first occurrence of `word` in `text`, in any case, by the word `by`.

    The new word gets a capital where the old one had one, since case must not distinguish wrong captions from right
    ones.

    Returns:
        The new text; None where `word` does not occur as a separate word.
    """
    match = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)
    if match is None:
        return None
    new = by[:1].upper() + by[1:] if match.group()[:1].isupper() else by
    return text[: match.start()] + new + text[match.end() :]
