"""BLEU and ROUGE-L against pycocoevalcap, and against the values that CLIPScore's README prints."""

import json
from pathlib import Path

import pytest

from rlcap.scorers.text.ngrams import tokenize
from rlcap.scorers.text.overlap import bleu, longest_common_subsequence, rouge_l

REAL = Path(__file__).parents[3] / "shared" / "real"
CAPTIONS = [
    "a man on a horse",
    "two dogs on the sand sand sand",
    "bus",
    "",
    "the the the the",
    "a man rides a brown horse",
]
TEXTS = ["a man rides a brown horse", "a man on a horse in a field", "someone riding"]


def plain(text):
    return " ".join(tokenize(text))


def theirs(captions, references):
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.rouge.rouge import Rouge

    gts = {i: [plain(text) for text in texts] for i, texts in enumerate(references)}
    res = {i: [plain(caption)] for i, caption in enumerate(captions)}
    return Bleu(4).compute_score(gts, res, verbose=0)[1], Rouge().compute_score(gts, res)[1].tolist()


def same_as_theirs(captions, references):
    bleus, rouges = theirs(captions, references)
    for order in (1, 2, 3, 4):
        ours = [bleu(caption, texts, order) for caption, texts in zip(captions, references, strict=True)]
        assert ours == pytest.approx(bleus[order - 1], abs=1e-6)
    assert [rouge_l(c, texts) for c, texts in zip(captions, references, strict=True)] == pytest.approx(rouges, abs=1e-6)


def test_equal_pycocoevalcap_on_odd_captions():
    same_as_theirs(CAPTIONS, [TEXTS] * len(CAPTIONS))


def test_equal_pycocoevalcap_on_coco():
    file = REAL / "coco" / "annotations" / "captions_val2017.json"
    if not file.exists():
        pytest.skip(f"no {file.name}")
    by_image = {}
    for annotation in json.loads(file.read_text())["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation["caption"])
    texts = list(by_image.values())[:150]
    same_as_theirs([own[0] for own in texts], [own[1:] for own in texts])


def test_equal_what_clipscores_readme_prints():
    """BLEU-1 of the corpus there; on two captions of like length it is that of all words together."""
    folder = REAL / "golden" / "clipscore"
    if not folder.exists():
        pytest.skip("no golden captions")
    references = json.loads((folder / "refs.json").read_text())
    for name, published_rouge, published_bleu in (("good", 0.4280, 0.6667), ("bad", 0.3121, 0.4815)):
        captions = json.loads((folder / f"{name}_captions.json").read_text())
        rouges = [rouge_l(captions[i], references[i]) for i in references]
        assert sum(rouges) / len(rouges) == pytest.approx(published_rouge, abs=5e-5)
        words = [len(tokenize(captions[i])) for i in references]
        matched = [bleu(captions[i], references[i], 1) * n for i, n in zip(references, words, strict=True)]
        assert sum(matched) / sum(words) == pytest.approx(published_bleu, abs=5e-5)


def test_longest_common_subsequence_golden():
    assert longest_common_subsequence("abcbdab", "bdcaba") == 4
    assert longest_common_subsequence([], "a") == 0


def test_references_are_needed():
    with pytest.raises(ValueError, match="at least one reference"):
        bleu("a", [])
    with pytest.raises(ValueError, match="at least one reference"):
        rouge_l("a", [])
