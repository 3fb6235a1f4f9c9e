"""The followed images: few, varied, and the same in every run."""

from tiny import lab_samples

from rlcap.data.panel import choose_panel
from rlcap.types import Sample


def test_no_two_images_of_the_panel_are_of_one_family(tmp_path):
    samples = lab_samples(tmp_path, 70)  # ten families of seven
    chosen = choose_panel(samples, 6)
    assert len({i // 7 for i in chosen}) == 6
    assert chosen == sorted(chosen)


def test_the_panel_does_not_depend_on_the_order_of_the_data(tmp_path):
    samples = lab_samples(tmp_path, 35)
    ids = {samples[i].id for i in choose_panel(samples, 4)}
    backwards = samples[::-1]
    assert ids == {backwards[i].id for i in choose_panel(backwards, 4)}


def test_images_without_distractors_are_spread_over_the_data():
    samples = [Sample(f"{i:03}", f"{i}.jpg") for i in range(300)]
    chosen = choose_panel(samples, 6)
    assert len(chosen) == 6
    assert chosen[-1] - chosen[0] > 100


def test_where_all_resemble_each_other_the_farthest_are_taken():
    ids = ["a", "b", "c", "d"]
    near = {"a": "bcd", "b": "acd", "c": "dba", "d": "cba"}
    samples = [Sample(id, f"{id}.jpg", distractors={"hard": tuple(near[id])}) for id in ids]
    assert {ids[i] in "ab" for i in choose_panel(samples, 2)} == {True, False}


def test_small_splits_and_empty_panels():
    samples = [Sample(f"{i}", f"{i}.jpg") for i in range(3)]
    assert choose_panel(samples, 6) == [0, 1, 2]
    assert choose_panel(samples, 0) == []
    assert choose_panel([], 6) == []
