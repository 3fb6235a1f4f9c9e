"""CIDEr-D against pycocoevalcap, whose document frequencies come from the very references it scores."""

import contextlib
import io
import json
from pathlib import Path

import pytest

from rlcap.scorers.text.cider import CiderD
from rlcap.scorers.text.ngrams import tokenize

COCO = Path(__file__).parents[3] / "shared" / "real" / "coco" / "annotations" / "captions_val2017.json"
TOY = [
    ["a man rides a brown horse", "a man on a horse in a field", "someone riding a horse"],
    ["two dogs play on the beach", "a pair of dogs running on sand"],
    ["a red bus waits at the stop", "the red bus is parked by the road", "a bus"],
    ["a man with a dog on the road", "a man walks his dog"],
]


def theirs(captions, references):
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.cider.cider import Cider

    def plain(text):
        return " ".join(tokenize(text))

    gts = {i: [plain(text) for text in texts] for i, texts in enumerate(references)}
    res = {i: [plain(caption)] for i, caption in enumerate(captions)}
    with contextlib.redirect_stdout(io.StringIO()):
        return Cider().compute_score(gts, res)[1].tolist()


def test_equals_pycocoevalcap_on_a_toy_corpus():
    captions = ["a man on a horse", "two dogs on the sand sand sand", "a bus at the road", "horse"]
    cider = CiderD.fit(TOY)
    ours = [cider.score(caption, texts) for caption, texts in zip(captions, TOY, strict=True)]
    assert ours == pytest.approx(theirs(captions, TOY), abs=1e-6)
    assert ours[0] > 1


def test_equals_pycocoevalcap_on_coco():
    if not COCO.exists():
        pytest.skip(f"no {COCO.name}")
    by_image = {}
    for annotation in json.loads(COCO.read_text())["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation["caption"])
    texts = list(by_image.values())[:150]
    captions, references = [own[0] for own in texts], [own[1:] for own in texts]
    cider = CiderD.fit(references)
    ours = [cider.score(caption, own) for caption, own in zip(captions, references, strict=True)]
    assert ours == pytest.approx(theirs(captions, references), abs=1e-6)
    assert 0.2 < sum(ours) / len(ours) < 2


def test_a_score_does_not_depend_on_company_and_survives_the_disk(tmp_path):
    cider = CiderD.fit(TOY)
    cider.save(tmp_path / "cider.json")
    again = CiderD.load(tmp_path / "cider.json")
    assert again.score("a man on a horse", TOY[0]) == cider.score("a man on a horse", TOY[0]) > 0
    assert list(tmp_path.iterdir()) == [tmp_path / "cider.json"]


def test_a_fragment_scores_below_the_whole():
    cider = CiderD.fit(TOY)
    assert cider.score("a man on a", TOY[0]) < cider.score("a man on a horse", TOY[0])
    assert cider.score("", TOY[0]) == 0


def test_invalid_input_is_reported(tmp_path):
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        CiderD.fit([["a dog"]])
    with pytest.raises(ValueError, match="at least one reference"):
        CiderD.fit(TOY).score("a dog", [])
    (tmp_path / "bad.json").write_text('{"schema": 2}')
    with pytest.raises(ValueError, match=r"bad\.json .*schema 2"):
        CiderD.load(tmp_path / "bad.json")
