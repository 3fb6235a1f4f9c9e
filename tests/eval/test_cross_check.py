"""CrossCheck: golden supports, samples of one system, the command, and published captions."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from rlcap.cli import main as cli
from rlcap.eval.metrics.cross_check import cross_check

REAL = Path(__file__).parents[3] / "shared" / "real"


class Words:
    """Finds words."""

    def mentions(self, text):
        return text.split()


def test_support_golden():
    captions = ["cat dog", "cat", "cat bird", "tree"]
    checked = cross_check(captions, ["1", "1", "1", "2"], ["a", "b", "c", "a"], Words())
    assert checked[0].objects == {"cat": 1.0, "dog": 0.0}
    assert (checked[0].support, checked[0].doubted) == (0.0, ["dog"])
    assert (checked[1].support, checked[1].doubted) == (1.0, [])
    assert math.isnan(checked[3].support)
    assert checked[3].doubted == []


def test_samples_of_one_system_check_each_other_only_where_there_is_no_other_system():
    same = cross_check(["cat dog", "cat", "cat"], ["1"] * 3, ["a"] * 3, Words())
    assert [caption.support for caption in same] == [0.0, 1.0, 1.0]
    mixed = cross_check(["cat dog", "cat dog", "cat"], ["1"] * 3, ["a", "a", "b"], Words())
    assert [caption.support for caption in mixed] == [0.0, 0.0, 1.0]  # a's own second sample does not help


def test_a_caption_without_objects_claims_nothing():
    assert [caption.support for caption in cross_check(["", "cat"], ["1", "1"], ["a", "b"], Words())] == [1.0, 0.0]
    with pytest.raises(ValueError, match="give N of each"):
        cross_check(["a"], ["1"], [], Words())


def write(path, captions):
    path.write_text("".join(json.dumps({"sample_id": i, "caption": text}) + "\n" for i, text in enumerate(captions)))
    return str(path)


def test_the_command(tmp_path, capsys):
    first = write(tmp_path / "a.jsonl", ["A dog and a car.", "A cat."])
    second = write(tmp_path / "b.jsonl", ["A dog.", "A cat."])
    out, table = tmp_path / "out.jsonl", tmp_path / "table.json"
    assert cli.main(["crosscheck", first, second, "--out", str(out), "--json", str(table)]) == 0
    assert "a.jsonl (2) | 3 | 1 | 0.500" in capsys.readouterr().out
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["doubted"] for row in rows] == [["car"], [], [], []]
    assert json.loads(table.read_text())[first]["doubted_objects"] == 1
    shared = write(tmp_path / "c.jsonl", ["A dog."])
    assert cli.main(["crosscheck", first, shared]) == 0
    assert "c.jsonl (1) | 1 | 0 | 0.000 (one image has no interval)" in capsys.readouterr().out
    assert cli.main(["crosscheck", first]) != 0
    assert "no image has a second caption" in capsys.readouterr().err


@pytest.mark.skipif(not (REAL / "pope").is_dir(), reason="no published captions")
def test_published_captions_that_mention_what_no_annotator_does_are_found():
    """Five systems on 225 COCO photos: AUC of the support. The best reward with references reaches .78."""
    from rlcap.scorers.objects.vocabulary import Vocabulary

    finder = Vocabulary.coco()
    annotations = json.loads((REAL / "coco" / "annotations" / "captions_val2017.json").read_text())["annotations"]
    known: dict[int, set] = {}
    for row in annotations:
        known.setdefault(row["image_id"], set()).update(finder.mentions(row["caption"]))
    rows = [
        (path.stem, row)
        for path in sorted((REAL / "pope").glob("instruction2_*.json"))
        for row in json.loads(path.read_text())
    ]
    captions, images = [row["caption"] for _, row in rows], [row["image_id"] for _, row in rows]
    checked = cross_check(captions, list(map(str, images)), [system for system, _ in rows], finder)
    support = np.array([caption.support for caption in checked])
    invents = np.array([bool(set(c.objects) - known[image]) for c, image in zip(checked, images, strict=True)])
    low, high = support[invents], support[~invents]
    auc = (low[:, None] < high).mean() + (low[:, None] == high).mean() / 2
    assert len(rows) == 1125
    assert auc > 0.92
