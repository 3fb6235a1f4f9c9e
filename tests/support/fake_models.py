"""Stand-ins for the models that rewards ask: they have no weights, and an answer depends on its question alone."""

import hashlib
import re
from types import SimpleNamespace

import numpy as np
import torch
from fake_backends import FakeBackend

from rlcap.io.images import open_image
from rlcap.judge.parsing import Verdict
from rlcap.judge.templates import extract_delimited
from rlcap.policy.listener import HeardCaption
from rlcap.probing.perturbations import content_words
from rlcap.rewards.claims.parsing import Claim, format_claims
from rlcap.rewards.listener import Listener
from rlcap.scorers.text.ngrams import tokenize
from rlcap.scorers.text.phrases import count_flagged_sentences
from rlcap.scorers.text.sentences import split_sentences


def unit(seed, dim=16):
    digest = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).digest()
    vector = torch.from_numpy(np.frombuffer(digest[:dim], np.uint8).astype(np.float32)) - 100
    return vector / vector.norm()


class HashClip:
    """Vectors by hash: of a text's words, and of an image's pixels (which reveals broken files)."""

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
    """P(entailed) is the share of the claim's words in the premise; the rest is half open, half contradicted."""

    truncated_share = 0.0

    def probabilities(self, premises, hypotheses):
        rows = []
        for premise, claim in zip(premises, hypotheses, strict=True):
            said, known = set(tokenize(claim)), set(tokenize(premise))
            share = len(said & known) / len(said) if said else 0.0
            rows.append([share, (1 - share) / 2, (1 - share) / 2])
        return torch.tensor(rows).reshape(-1, 3)


class WordGrammar:
    """A text with more different words is better formed, and likelier."""

    words = 50

    def probabilities(self, texts):
        return torch.tensor([len(set(tokenize(text))) / (1 + len(tokenize(text))) for text in texts])

    def log_probs(self, texts):
        return torch.tensor([-float(len(tokenize(text)) % 7) if tokenize(text) else float("nan") for text in texts])


class WordVectors:
    """A sentence encoder: vectors by hash of the words."""

    def vectors(self, texts):
        return torch.stack([unit(" ".join(tokenize(text))) for text in texts]) if texts else torch.zeros(0, 16)


class Believer:
    """A vision-language model: P(yes) depends on the question's length, the preference on the caption's."""

    truncated_share = 0.0

    def probabilities(self, images, questions):
        return [len(question) % 11 / 10 for question in questions]

    def scores(self, images, texts):
        return [float(len(text) % 23) for text in texts]


class WordF1:
    """The best F1 of the sets of words over the references."""

    def best_f1(self, captions, references):
        return [
            max(self._f1(caption, text) for text in texts) for caption, texts in zip(captions, references, strict=True)
        ]

    @staticmethod
    def _f1(caption, text):
        one, two = set(tokenize(caption)), set(tokenize(text))
        return 2 * len(one & two) / max(len(one) + len(two), 1)


class CountingJudge(FakeBackend):
    """A backend that grades a caption by its number of words, and calls it wrong where the caption says so."""

    name = "counting"

    def generate(self, content, system_prompt=None, **_):
        words = tokenize(extract_delimited("caption", content))
        return Verdict("counted", ("it says so",) if "wrong" in words else (), (), float(min(len(words), 10))).text()


class SeeingJudge(CountingJudge):
    """The same backend, which is also given the image."""

    name, accepts_images = "seeing", True

    def generate(self, content, system_prompt=None, **_):
        text, image = content
        assert image.startswith(b"\xff\xd8")
        return super().generate(text)


class WordClaims(FakeBackend):
    """A backend that takes each sentence for a claim.

    A claim is true where most of its content words are in one fact (which it then states), abstract where it talks
    about itself, and false where none of its words is known.
    """

    name = "word-claims"

    def generate(self, content, system_prompt=None, **_):
        facts = [
            set(content_words(line.partition(". ")[2])) for line in extract_delimited("facts", content).splitlines()
        ]
        return format_claims(
            [self.claim(sentence, facts) for sentence in split_sentences(extract_delimited("caption", content))]
        )

    @staticmethod
    def claim(sentence, facts):
        words = set(content_words(sentence))
        shares = [len(words & fact) / max(len(words), 1) for fact in facts]
        best = max(range(len(facts)), key=lambda i: shares[i])
        true = True if shares[best] >= 0.6 else None if shares[best] > 0.25 else False
        return Claim(
            sentence.replace("|", "/").replace("\n", " "),
            true,
            not count_flagged_sentences(sentence),
            best if true else None,
        )


class OneHot:
    """Each word is its own direction: equal words have a cosine of 1, others of 0."""

    def word_vectors(self, texts):
        found = {}
        for text in texts:
            words = [word for word in (word.strip(".!").lower() for word in text.split()) if word]
            vectors = torch.zeros(len(words), 997)
            for row, word in enumerate(words):
                vectors[row, sum(map(ord, word)) % 997] = 1
            found[text] = (words, vectors)
        return found


class HashListener:
    """A listening model whose log-probability of a word is a hash of the word and the image's pixels."""

    def __init__(self):
        self.passes = 0

    def prompts(self, paths):
        return [open_image(path).resize((2, 2)).tobytes() for path in paths]

    def hear(self, captions, images):
        self.passes += 1
        heard = []
        for caption, row in zip(captions, images, strict=True):
            matches = list(re.finditer(r"\S+", caption))
            table = torch.tensor(
                [
                    [-abs(float(unit(match.group() + str(pixels))[0])) * 5 for match in matches]
                    for pixels in self.prompts(row)
                ]
            )
            heard.append(HeardCaption(table, [match.span() for match in matches]))
        return heard


def make_listener(**options):
    """Return a listener reward that needs no model."""
    listener = Listener(**options)
    listener._model = HashListener()
    return listener
