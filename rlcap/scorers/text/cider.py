"""CIDEr-D (Vedantam et al., CVPR 2015) with document frequencies that are stored, not taken from what is scored.

    cider = CiderD.fit(training_references)      # one list of references an image
    cider.save("cider.json")
    CiderD.load("cider.json").score("a dog runs", ["a dog is running", "the dog runs"])

The usual implementation counts document frequencies in the scored batch: one image then gets exactly 0, and every number
depends on its company. Here they come from a training corpus once, so a caption's score is its own.

With `eos` every text ends in a mark of its own, which takes part in n-grams (self-critical training, Rennie et al., CVPR
2017, appendix E): without it a policy learns to stop at "a man on a", whose n-grams are all in the references.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rlcap.scorers.text.ngrams import ngrams, tokenize

SCHEMA = 1
ORDERS = (1, 2, 3, 4)
SIGMA = 6.0
"""Width of the Gaussian penalty on the difference of lengths, in words (CIDEr-D, section 5 of the paper)."""
SCALE = 10.0
EOS = "<eos>"
"""No word of `tokenize` looks like it."""


class CiderD:
    """The metric with its document frequencies: n-gram (words joined by a space) → images whose references use it.

    N-grams of a frequency of 1 need not be stored: unknown ones count as 1. eos: see the module docstring; the
    frequencies must have been counted with it.
    """

    def __init__(self, document_frequencies: Mapping[str, int], n_documents: int, eos: bool = False) -> None:
        if n_documents < 2:
            raise ValueError(
                f"CIDEr-D needs document frequencies of at least 2 images, got {n_documents}: with one, every weight is 0"
            )
        self.document_frequencies, self.n_documents, self.eos = dict(document_frequencies), n_documents, eos

    @classmethod
    def fit(cls, references: Iterable[Sequence[str]], eos: bool = False) -> CiderD:
        """Count in how many images' references each n-gram of one to four words occurs.

        Args:
            references: per image its reference captions.
            eos: count an end mark as a word of every text.
        """
        counts: Counter[str] = Counter()
        images = 0
        for texts in references:
            images += 1
            counts.update({gram for text in texts for gram in _grams(_words(text, eos))})
        return cls({gram: count for gram, count in counts.items() if count > 1}, images, eos)

    def score(self, caption: str, references: Sequence[str]) -> float:
        """CIDEr-D of a caption, in [0, 10]: ten times the mean over n and references of the clipped cosine between tf-idf
        vectors, times exp(−(difference in length)² / 2σ²).

        Raises:
            ValueError: no references.
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
        """Write as JSON, whole or not at all."""
        data = {
            "schema": SCHEMA,
            "eos": self.eos,
            "n_documents": self.n_documents,
            "document_frequencies": self.document_frequencies,
        }
        partial = Path(f"{os.fspath(path)}.{os.getpid()}.tmp")
        partial.write_text(json.dumps(data, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> CiderD:
        """Read what `save` wrote. ValueError, naming the file, for anything else."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if data["schema"] != SCHEMA:
                raise ValueError(f"schema {data['schema']!r}, this version reads {SCHEMA}")
            return cls(data["document_frequencies"], data["n_documents"], bool(data.get("eos", False)))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a file of CiderD.save ({error}); fit and save it again") from error

    def _vectors(self, text: str) -> tuple[dict[int, dict[str, float]], int]:
        """tf-idf vectors by order n, and the length in words less one (as in the published code, at least 0)."""
        words = _words(text, self.eos)
        vectors: dict[int, dict[str, float]] = {n: {} for n in ORDERS}
        for gram, count in Counter(_grams(words)).items():
            idf = math.log(self.n_documents) - math.log(max(1, self.document_frequencies.get(gram, 1)))
            vectors[gram.count(" ") + 1][gram] = count * idf
        return vectors, max(len(words) - 1, 0)


def _words(text: str, eos: bool) -> list[str]:
    return [*tokenize(text), EOS] if eos else tokenize(text)


def _grams(words: Sequence[str]) -> Iterable[str]:
    return (" ".join(gram) for n in ORDERS for gram in ngrams(words, n))


def _clipped_cosine(candidate: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Σ min(c, r)·r / (|c|·|r|): a word said too often earns no more than the reference says it."""
    norm = math.hypot(*candidate.values()) * math.hypot(*reference.values())
    if norm == 0:
        return 0.0
    return (
        sum(min(value, reference[gram]) * reference[gram] for gram, value in candidate.items() if gram in reference)
        / norm
    )
