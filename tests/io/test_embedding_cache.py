import multiprocessing

import numpy as np
import pytest

from rlcap.io.cache import cache_folder
from rlcap.io.embedding_cache import EmbeddingCache


def rows(n, dim=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def test_vectors_are_returned_in_the_order_of_the_keys(tmp_path):
    cache = EmbeddingCache(tmp_path, "local-dir:some/model", 8)
    vectors = rows(3)
    cache.put(["a", "b", "c"], vectors)
    found, got = EmbeddingCache(tmp_path, "local-dir:some/model", 8).get(["c", "nobody", "a", "c"])
    assert found.tolist() == [True, False, True, True]
    np.testing.assert_array_equal(got, np.stack([vectors[2], np.zeros(8), vectors[0], vectors[2]]))


def test_names_and_types_do_not_mix(tmp_path):
    EmbeddingCache(tmp_path, "model/a", 8).put(["k"], rows(1))
    assert len(EmbeddingCache(tmp_path, "model a", 8)) == 0
    assert len(EmbeddingCache(tmp_path, "model/a", 8, "float16")) == 0
    assert len(EmbeddingCache(tmp_path, "model/a", 8)) == 1


def test_half_precision(tmp_path):
    cache = EmbeddingCache(tmp_path, "m", 8, "float16")
    cache.put(["k"], rows(1))
    np.testing.assert_allclose(cache.get(["k"])[1], rows(1), rtol=1e-3)


def test_a_key_keeps_its_first_vector_and_repeated_keys_need_no_space(tmp_path):
    cache = EmbeddingCache(tmp_path, "m", 8)
    cache.put(["a", "a"], rows(2))
    cache.put(["a"], rows(1, seed=9))
    assert (cache.folder / "vectors").stat().st_size == 8 * 4
    np.testing.assert_array_equal(cache.get(["a"])[1], rows(2)[1:])


@pytest.mark.parametrize(("file", "tail"), [("keys", b"\x07" * 20), ("vectors", b"\x07" * 45)])
def test_an_incomplete_record_is_ignored_and_removed(tmp_path, file, tail):
    cache = EmbeddingCache(tmp_path, "m", 8)
    cache.put(["a", "b"], rows(2))
    with (cache.folder / file).open("ab") as handle:
        handle.write(tail)
    again = EmbeddingCache(tmp_path, "m", 8)
    assert len(again) == 2
    again.put(["c"], rows(1, seed=5))
    found, got = EmbeddingCache(tmp_path, "m", 8).get(["a", "b", "c"])
    assert found.all()
    np.testing.assert_array_equal(got, np.concatenate([rows(2), rows(1, seed=5)]))


def test_a_damaged_row_counts_as_missing_and_can_be_replaced(tmp_path):
    cache = EmbeddingCache(tmp_path, "m", 8)
    cache.put(["a", "b"], rows(2))
    with (cache.folder / "vectors").open("r+b") as handle:
        handle.seek(3)
        handle.write(b"\xff")
    fresh = EmbeddingCache(tmp_path, "m", 8)
    assert fresh.get(["a", "b"])[0].tolist() == [False, True]
    fresh.put(["a"], rows(1))
    assert fresh.get(["a", "b"])[0].all()


def test_keys_whose_digest_ends_in_zero_bytes_survive(tmp_path):
    # numpy strips trailing zeros of fixed-length bytes; about one key in 256 ends in one.
    keys = [str(i) for i in range(1000)]
    EmbeddingCache(tmp_path, "m", 2).put(keys, rows(1000, 2))
    found, got = EmbeddingCache(tmp_path, "m", 2).get(keys)
    assert found.all()
    np.testing.assert_array_equal(got, rows(1000, 2))


def test_a_reader_sees_later_writes_of_another_process(tmp_path):
    reader = EmbeddingCache(tmp_path, "m", 8)
    EmbeddingCache(tmp_path, "m", 8).put(["a"], rows(1))
    assert reader.get(["a"])[0].all()


def _write(folder, worker):
    cache = EmbeddingCache(folder, "m", 8)
    for i in range(20):
        cache.put([f"{worker}-{i}", f"shared-{i}"], np.full((2, 8), i, np.float32))


def test_writers_take_turns(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(tmp_path, w)) for w in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    cache = EmbeddingCache(tmp_path, "m", 8)
    keys = [f"{w}-{i}" for w in (0, 1, 2, "shared") for i in range(20)]
    found, got = cache.get(keys)
    assert found.all()
    assert len(cache) == 80
    np.testing.assert_array_equal(got[:, 0], list(range(20)) * 4)


def test_errors_name_the_shapes(tmp_path):
    cache = EmbeddingCache(tmp_path, "m", 8)
    with pytest.raises(ValueError, match=r"\(1, 8\), got \(1, 7\)"):
        cache.put(["a"], np.zeros((1, 7)))
    with pytest.raises(ValueError, match="'a' is not finite"):
        cache.put(["a"], np.full((1, 8), np.nan))
    with pytest.raises(ValueError, match="float64"):
        EmbeddingCache(tmp_path, "m", 8, "float64")


def test_the_folder_can_be_chosen_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("RLCAP_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("RLCAP_CACHE")
    assert cache_folder().parts[-2:] == (".cache", "rlcap")


def test_records_without_their_rows_do_not_count(tmp_path):
    cache = EmbeddingCache(tmp_path, "m", 8)
    cache.put(["a", "b"], rows(2))
    with (cache.folder / "vectors").open("r+b") as handle:
        handle.truncate(8 * 4 + 3)
    fresh = EmbeddingCache(tmp_path, "m", 8)
    assert fresh.get(["a", "b"])[0].tolist() == [True, False]
    fresh.put(["b"], rows(1, seed=3))
    np.testing.assert_array_equal(EmbeddingCache(tmp_path, "m", 8).get(["b"])[1], rows(1, seed=3))
