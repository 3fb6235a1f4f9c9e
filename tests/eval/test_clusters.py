"""Which images count as one observation."""

import warnings

import numpy as np
import pytest

from rlcap.eval.clusters import split_clusters
from rlcap.types import Sample


def samples(*clusters):
    return [Sample(f"image-{i}", "", cluster=cluster) for i, cluster in enumerate(clusters)]


def at(*degrees):
    """Return unit vectors of the plane; two at 10° from each other have a cosine of .985, at 20° one of .940."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], 1)


def test_near_duplicates_are_joined_also_through_a_third_image():
    found = split_clusters(samples("", "", "", "", "", "", ""), at(0, 90, 10, 150, 20, 210, 270))
    assert found == ["image-0", "image-1", "image-0", "image-3", "image-0", "image-5", "image-6"]


def test_a_source_that_names_clusters_is_believed():
    found = split_clusters(samples("a", "b", "", "a", ""), at(0, 0, 0, 180, 5))
    assert found == ["a", "b", "image-2", "a", "image-2"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert split_clusters(samples("a", "a", "a"), at(0, 0, 0)) == ["a"] * 3
        assert split_clusters(samples(""), at(0)) == ["image-0"]


def test_a_retriever_that_finds_everything_alike_is_not_believed():
    with pytest.warns(UserWarning, match="finds 5 of 6 images nearly identical"):
        found = split_clusters(samples(*[""] * 6), at(0, 1, 2, 3, 4, 90))
    assert found == [f"image-{i}" for i in range(6)]


def test_images_are_compared_across_blocks(monkeypatch):
    monkeypatch.setattr("rlcap.eval.clusters._BLOCK", 2)
    assert split_clusters(samples(*[""] * 5), at(0, 90, 180, 270, 5)) == [
        "image-0", "image-1", "image-2", "image-3", "image-0",
    ]  # fmt: skip


def test_a_column_of_the_data_names_the_cluster(tmp_path):
    import json

    from PIL import Image

    from rlcap.data.loading import load_samples

    for name in "ab":
        Image.new("RGB", (8, 8), (ord(name), 0, 0)).save(tmp_path / f"{name}.png")
    rows = [
        {"id": "a", "image": "a.png", "references": ["A."], "cluster": 7},
        {"id": "b", "image": "b.png", "references": ["B."]},
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [sample.cluster for sample in load_samples(tmp_path / "data.jsonl", cache_dir=tmp_path)] == ["7", ""]


def test_the_lab_names_its_families(tmp_path):
    from rlcap.lab.source import load_split

    found = [sample.cluster for sample in load_split("validation", 15, cache=tmp_path)]
    assert len(set(found[:7])) == len(set(found[7:14])) == 1
    assert len(set(found)) == 3
