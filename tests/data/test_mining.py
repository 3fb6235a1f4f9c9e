from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rlcap.data.bags import attach_distractors
from rlcap.data.mining import compute_features, exact_neighbours, level_lists, measure_recall, mine, search
from rlcap.errors import BagError
from rlcap.types import Sample


class TableScorer:
    """A scorer that looks vectors up in a table."""

    name = "table"

    def __init__(self, images, texts=None):
        self.images, self.texts = images, texts or {}

    def image_embeddings(self, paths):
        return torch.tensor(np.stack([self.images[path] for path in paths]), dtype=torch.float32)

    def text_embeddings(self, texts, pooling):
        assert pooling == "whole"
        assert len(set(texts)) == len(texts)
        return SimpleNamespace(
            vectors=torch.tensor(np.stack([self.texts[text] for text in texts]), dtype=torch.float32)
        )


def circle(*degrees):
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32)


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def clustered(n, d=32, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((50, d))
    return unit(centres[rng.integers(0, 50, n)] + 0.7 * rng.standard_normal((n, d))).astype(np.float32)


def test_search_is_exact_and_leaves_the_image_itself_out():
    vectors = circle(0, 10, 30, 180)
    found = search(vectors, 2)
    assert found.indices.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    np.testing.assert_allclose(found.scores[0], np.cos(np.deg2rad([10, 30])), rtol=1e-5)
    assert (found.index, found.recall) == ("exact", 1.0)
    assert search(vectors, 99).indices.shape == (4, 3)


def test_duplicates_never_list_the_image_itself():
    found = search(np.repeat(circle(0, 90), 3, 0), 3)
    assert all(row not in others for row, others in enumerate(found.indices.tolist()))


def test_an_approximate_index_reaches_its_recall():
    vectors = clustered(4000)
    found = search(vectors, 20, exact_limit=1000)
    assert found.index.startswith("ivf")
    queries = np.arange(0, 4000, 7)
    measured = measure_recall(found.indices[queries], exact_neighbours(vectors, queries, 20))
    assert measured >= 0.95
    assert found.recall == pytest.approx(measured, abs=0.02)


def test_measure_recall():
    assert measure_recall(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [3, 9]])) == 0.75


def test_features_add_the_mean_reference():
    texts = {"x": circle(90)[0], "y": circle(0)[0]}
    scorer = TableScorer({"a": circle(0)[0], "b": circle(0)[0]}, texts)
    rows = [Sample("a", "a", ("x", "y")), Sample("b", "b")]
    # (1, 0) + ((0, 1) + (1, 0)) / 2 = (1.5, .5)
    np.testing.assert_allclose(compute_features(rows, scorer), [unit(np.array([1.5, 0.5])), [1, 0]], rtol=1e-6)
    np.testing.assert_allclose(compute_features(rows, scorer, text=False), [[1, 0], [1, 0]])


def test_near_identical_pairs_are_dropped_and_counted():
    degrees = {"a": 0, "twin": 5, "b": 30, "c": 65, "far": 170}
    rows = [Sample(id, id) for id in degrees]
    bags = mine(rows, TableScorer({id: circle(d)[0] for id, d in degrees.items()}), neighbours=3, near_identical=0.99)
    assert bags.about["dropped_pairs"] == 1
    assert bags.levels["hard"]["a"] == ("b", "c", "far")
    assert bags.levels["hard"]["twin"] == ("b", "c", "far")
    assert bags.levels["hard"]["b"] == ("twin", "a", "c")
    assert attach_distractors(rows, bags)[0].distractors["hard"] == ("b", "c", "far")
    assert bags.model == "table"


def test_levels_take_ranks_further_down():
    ids = [str(i) for i in range(200)]
    found = search(circle(*np.linspace(0, 90, 200)), 199)
    levels, dropped = level_lists(ids, found, {"hard": 0, "medium": 8, "easy": 32}, 2, 1.1)
    assert levels["hard"]["0"] == ("1", "2")
    assert levels["medium"]["0"] == ("9", "10")
    assert levels["easy"]["0"] == ("33", "34")
    assert dropped == 0


def test_the_documented_starts():
    rows = [Sample(str(i), str(i)) for i in range(100)]
    scorer = TableScorer({str(i): v for i, v in enumerate(clustered(100))})
    assert mine(rows, scorer, neighbours=2).about["first_rank"] == {"hard": 1, "medium": 9, "easy": 33}
    few = mine(rows, scorer, neighbours=32)
    assert few.about["first_rank"] == {"hard": 1, "medium": 34, "easy": 67}
    assert {len(ids) for ids in few.levels["medium"].values()} == {32}


def test_invalid_numbers():
    with pytest.raises(BagError, match="neighbours 0"):
        mine([], TableScorer({}), neighbours=0)
    with pytest.raises(BagError, match="1 images have no neighbours"):
        mine([Sample("a", "a")], TableScorer({"a": circle(0)[0]}))


def test_an_approximate_index_fills_deep_lists():
    found = search(clustered(4000), 400, exact_limit=1000)
    assert (found.indices >= 0).all()
    assert (np.diff(found.scores, axis=1) <= 1e-6).all()


def test_a_scorer_that_distinguishes_nothing_warns():
    rows = [Sample(id, id) for id in "abc"]
    scorer = TableScorer({"a": circle(0)[0], "b": circle(1)[0], "c": circle(2)[0]})
    with pytest.warns(UserWarning, match=r"no neighbour left \(hard: 3, medium: 3, easy: 3\), after 3 pairs"):
        bags = mine(rows, scorer, neighbours=1)
    assert bags.about["images_without_neighbours"]["hard"] == 3
