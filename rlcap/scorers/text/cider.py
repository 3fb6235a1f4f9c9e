"""CIDEr-D (Vedantam et al., CVPR 2015) with stored document frequencies.

    cider = CiderD.fit(training_references)      # one list of references per image
    cider.save("cider.json")
    CiderD.load("cider.json").score("a dog runs", ["a dog is running", "the dog runs"])

The usual implementation counts document frequencies in the scored batch. A single image then gets exactly 0, and every
score depends on the rest of the batch. Here the frequencies are counted once in a training corpus, so that a caption's
score depends on the caption and its references alone.

With `eos`, an end mark takes part in the n-grams of every text (self-critical training, Rennie et al., CVPR 2017,
appendix E). Without it, a policy learns to stop at "a man on a", since all n-grams of this text occur in the
references.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rlcap.io.atomic import write_json
from rlcap.io.text import read_json
from rlcap.scorers.text.ngrams import ngrams
from rlcap.scorers.text.tokenizers import TokenizerName, get_tokenizer

SCHEMA = 1
"""Version of the file format."""
ORDERS = (1, 2, 3, 4)
"""Lengths n of the n-grams."""
SIGMA = 6.0
"""Width of the Gaussian penalty on the difference of lengths, in words (CIDEr-D, section 5 of the paper)."""
SCALE = 10.0
"""Factor of the score, as published."""
EOS = "<eos>"
"""The end mark; no tokenizer returns such a word."""


class CiderD:
    """The metric with its document frequencies.

    Args:
        document_frequencies: n-gram (words joined by a space) → number of images whose references contain it. N-grams
            with frequency 1 need not be stored, since unknown n-grams count as 1.
        n_documents: number of images.
        eos: whether texts end with an end mark (see the module docstring); the frequencies must have been counted with
            the same setting.
        tokenizer: what splits texts into words; the frequencies must have been counted with the same one.

    Raises:
        ValueError: there are fewer than two images, or no tokenizer of that name.
    """

    def __init__(
        self,
        document_frequencies: Mapping[str, int],
        n_documents: int,
        eos: bool = False,
        tokenizer: TokenizerName = "words",
    ) -> None:
        if n_documents < 2:
            raise ValueError(
                f"CIDEr-D needs document frequencies of at least 2 images, got {n_documents}: with one, every weight is 0"
            )
        self.document_frequencies, self.n_documents, self.eos = dict(document_frequencies), n_documents, eos
        self.tokenizer, self._tokenize = tokenizer, get_tokenizer(tokenizer)

    @classmethod
    def fit(cls, references: Iterable[Sequence[str]], eos: bool = False, tokenizer: TokenizerName = "words") -> CiderD:
        """Count for each n-gram of one to four words the images whose references contain it.

        Args:
            references: the reference captions of each image.
            eos: whether to count an end mark as a word of every text.
            tokenizer: what splits texts into words.
        """
        counts: Counter[str] = Counter()
        images = 0
        tokenize = get_tokenizer(tokenizer)
        end = [EOS] if eos else []
        for texts in references:
            images += 1
            counts.update({gram for text in texts for gram in _grams([*tokenize(text), *end])})
        return cls({gram: count for gram, count in counts.items() if count > 1}, images, eos, tokenizer)

    def score(self, caption: str, references: Sequence[str]) -> float:
        """Return the CIDEr-D of a caption, in [0, 10].

        The score is ten times the mean over n and references of the clipped cosine between tf-idf vectors, times
        exp(−(difference in length)² / 2σ²).

        Raises:
            ValueError: there are no references.
        """
        if not references:
            raise ValueError("CIDEr-D needs at least one reference; leave images without references out")
        candidate, length = self._vectors(caption)
        total = 0.0
        for text in references:
            reference, other = self._vectors(text)
            penalty = math.exp(-((length - other) ** 2) / (2 * SIGMA**2))
            total += penalty * sum(_clipped_cosine(candidate[n], reference[n]) for n in ORDERS) / len(ORDERS)
        return SCALE * total / len(references)

    def save(self, path: str | os.PathLike) -> None:
        """Write the frequencies as JSON; the file appears only when it is complete."""
        data = {
            "schema": SCHEMA,
            "eos": self.eos,
            "tokenizer": self.tokenizer,
            "n_documents": self.n_documents,
            "document_frequencies": self.document_frequencies,
        }
        write_json(path, data, "the frequencies", ensure_ascii=False)

    @classmethod
    def load(cls, path: str | os.PathLike) -> CiderD:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is not one of `save`; the message names it.
        """
        try:
            data = read_json(path, "frequencies")
            if data["schema"] != SCHEMA:
                raise ValueError(f"schema {data['schema']!r}, this version reads {SCHEMA}")
            options = {"eos": bool(data.get("eos", False)), "tokenizer": data.get("tokenizer", "words")}
            return cls(data["document_frequencies"], data["n_documents"], **options)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} was not written by CiderD.save ({error}); fit and save it again") from error

    def _vectors(self, text: str) -> tuple[dict[int, dict[str, float]], int]:
        """Return the tf-idf vectors by order n, and the number of words minus one (as published), at least 0."""
        words = [*self._tokenize(text), *([EOS] if self.eos else [])]
        vectors: dict[int, dict[str, float]] = {n: {} for n in ORDERS}
        for gram, count in Counter(_grams(words)).items():
            idf = math.log(self.n_documents) - math.log(max(1, self.document_frequencies.get(gram, 1)))
            vectors[gram.count(" ") + 1][gram] = count * idf
        return vectors, max(len(words) - 1, 0)


def _grams(words: Sequence[str]) -> Iterable[str]:
    return (" ".join(gram) for n in ORDERS for gram in ngrams(words, n))


def _clipped_cosine(candidate: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Return Σ min(c, r)·r / (|c|·|r|): repeating a word more often than the reference does earns nothing."""
    norm = math.hypot(*candidate.values()) * math.hypot(*reference.values())
    if norm == 0:
        return 0.0
    return (
        sum(min(value, reference[gram]) * reference[gram] for gram, value in candidate.items() if gram in reference)
        / norm
    )
