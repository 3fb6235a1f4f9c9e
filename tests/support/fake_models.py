"""Stand-ins for the models that rewards ask: no weights, the same answer to the same question, whoever stands beside it."""

import hashlib
from types import SimpleNamespace

import numpy as np
import torch

from rlcap.reward.prompt import fenced
from rlcap.reward.verdict import Verdict
from rlcap.scorers.images import open_image
from rlcap.scorers.ngrams import tokenize


def unit(seed, dim=16):
    digest = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).digest()
    vector = torch.from_numpy(np.frombuffer(digest[:dim], np.uint8).astype(np.float32)) - 100
    return vector / vector.norm()


class HashClip:
    """Vectors by hash: of a text's words, of an image's pixels (which it opens, and so finds broken files)."""

    logit_scale, name = 10.0, "hash"

    def image_embeddings(self, paths):
        return torch.stack([unit(str(open_image(path).resize((2, 2)).tobytes())) for path in paths])

    def text_embeddings(self, texts, pooling="sentences"):
        words = [tokenize(text) for text in texts]
        vectors = torch.zeros(len(texts), 16)
        for vector, row in zip(vectors, words, strict=True):
            if row:
                vector[:] = unit(" ".join(row))
        return SimpleNamespace(vectors=vectors, empty=torch.tensor([not row for row in words]), truncated_fraction=0.0)


class WordNli:
    """Entailed as far as the claim's words are in the premise; the rest is half open and half contradicted."""

    truncated_share = 0.0

    def probabilities(self, premises, hypotheses):
        rows = []
        for premise, claim in zip(premises, hypotheses, strict=True):
            said, known = set(tokenize(claim)), set(tokenize(premise))
            share = len(said & known) / len(said) if said else 0.0
            rows.append([share, (1 - share) / 2, (1 - share) / 2])
        return torch.tensor(rows).reshape(-1, 3)


class WordF1:
    """F1 of the sets of words, the best over references."""

    def best_f1(self, captions, references):
        return [
            max(self._f1(caption, text) for text in texts) for caption, texts in zip(captions, references, strict=True)
        ]

    @staticmethod
    def _f1(caption, text):
        one, two = set(tokenize(caption)), set(tokenize(text))
        return 2 * len(one & two) / max(len(one) + len(two), 1)


class CountingJudge:
    """An engine that grades a caption by its number of words, and calls it wrong where it says so itself."""

    model_string, is_multimodal = "counting", False

    def generate(self, content, system_prompt=None, **_):
        words = tokenize(fenced("caption", content))
        return Verdict("counted", ("it says so",) if "wrong" in words else (), (), float(min(len(words), 10))).text()
