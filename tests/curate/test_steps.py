"""Score, filter, mix and best-of-N: what is kept, lineage, interruptions at any byte, and memory that does not grow with texts."""

import json
import math
import tracemalloc

import numpy as np
import pytest

from rlcap.curate import best_of_n
from rlcap.curate.best_of_n import CHUNK, CandidateLog, write_best, write_pairs
from rlcap.curate.filtering import best_rows, write_scored
from rlcap.curate.mixing import mix_captions
from rlcap.curate.scoring import ScoreLog
from rlcap.errors import InputError
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.mix import RewardMix, RewardTerm
from rlcap.types import Sample, Score


class Words(Reward):
    """The number of words; it abstains on a caption that begins with a question mark."""

    name, range, needs = "words", (0.0, math.inf), frozenset()

    def score(self, batch):
        return RewardOutput(
            [Score.abstain("unknown") if c.startswith("?") else Score(float(len(c.split()))) for c in batch.captions]
        )


class Letters(Words):
    name = "letters"

    def score(self, batch):
        return RewardOutput([Score(1000.0 * c.count("a")) for c in batch.captions])


def mix(**terms):
    return RewardMix(terms or {"words": RewardTerm(Words())}, max_abstain=1.0)


def rows(count=100):
    return [Sample(str(i), f"/photos/{i}.png", ("a wall .",), "wall " * (1 + i * 7 % count)) for i in range(count)]


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def scored(folder, samples, **options):
    out = folder / "out.jsonl"
    log = ScoreLog(folder / "log", {"mix": "words"})
    return out, write_scored(lambda: iter(samples), mix(), out, log, source="photos.jsonl", **options)


# ---- score and filter ------------------------------------------------------------------------------------------------


def test_score_writes_every_row_with_its_score_and_lineage(tmp_path):
    before = [{"step": "fuse"}]
    samples = [Sample("a", "/a.png", paragraph="x y", meta={"lineage": before}), Sample("b", "/b.png", paragraph="? x")]
    out, summary = scored(tmp_path, samples)
    first, second = read(out)
    assert (first["score"], first["scores"]) == (2.0, {"words": 2.0})
    assert first["lineage"] == [
        {"step": "fuse"},
        {"step": "score", "source": "photos.jsonl", "row": "a", "score": 2.0, "text": "paragraph"},
    ]
    assert (second["score"], second["scores"], second["lineage"][0]["score"]) == (None, {"words": None}, None)
    assert (summary.kept, summary.without, summary.mean) == (2, 1, 2.0)
    assert "1 rows have no score" in summary.text()


def test_filter_keeps_the_best_share_in_the_order_of_the_data(tmp_path):
    samples = rows()
    out, summary = scored(tmp_path, samples, share=0.3)
    found = read(out)
    assert len(found) == summary.kept == 30
    assert min(row["score"] for row in found) == 71  # the scores are 1 to 100
    assert [int(row["id"]) for row in found] == sorted(int(row["id"]) for row in found)
    assert found[0]["lineage"][0]["keep"] == 0.3
    assert summary.mean == 50.5
    assert summary.mean_kept == 85.5


def test_ties_and_rows_without_a_score():
    assert best_rows([1.0, 1.0, 1.0, math.nan], 0.5).tolist() == [True, True, False, False]
    assert best_rows([1.0, 3.0, 2.0], 1.0).all()
    assert best_rows([5.0] * 10, 0.3).sum() == 3  # .3 · 10 is 3.0000000000000004 for a computer's ⌈⌉
    with pytest.raises(InputError, match="no row has a score"):
        best_rows([math.nan], 0.5)


def test_a_filter_that_was_killed_ends_with_the_same_bytes(tmp_path):
    whole, again = tmp_path / "a", tmp_path / "b"
    whole.mkdir(), again.mkdir()
    samples = rows(150)
    expected = scored(whole, samples, share=0.2)[0].read_bytes()
    for cut in (0, 10, 3000, 5000):
        (again / "log").write_bytes((whole / "log").read_bytes()[:cut])
        assert scored(again, samples, share=0.2)[0].read_bytes() == expected


# ---- mix -------------------------------------------------------------------------------------------------------------


def mixed(tmp_path, originals, recaptions, share):
    out = tmp_path / "mixed.jsonl"
    return mix_captions(originals, recaptions, out, share=share, names=("photos", "new")), out


def test_a_share_of_the_rows_keeps_its_caption(tmp_path):
    originals = rows(400)
    recaptions = [Sample(sample.id, sample.image, paragraph="new") for sample in originals if sample.id != "7"]
    summary, out = mixed(tmp_path, originals, recaptions, 0.25)
    found = read(out)
    assert [row["id"] for row in found] == [sample.id for sample in originals]
    assert summary.unmatched == 1
    assert summary.original == pytest.approx(100, abs=25)
    assert sum(row["paragraph"] == "new" for row in found) == summary.recaption == 399 - summary.original
    assert all(row["lineage"][0]["caption"] == ("recaption" if row["paragraph"] == "new" else "original") for row in found)  # fmt: skip
    fewer, _ = mixed(tmp_path, originals, recaptions, 0.1)
    assert fewer.original < summary.original
    assert mixed(tmp_path, originals, recaptions, 0.0)[0].original == 0
    assert mixed(tmp_path, originals, recaptions, 1.0)[0].recaption == 0


def test_an_original_without_a_paragraph_gives_its_first_reference(tmp_path):
    _, out = mixed(tmp_path, [Sample("a", "/a.png", ("x", "y"))], [], 0.5)
    assert read(out)[0]["paragraph"] == "x"


@pytest.mark.parametrize("order", [["1", "0"], ["0", "stranger"]])
def test_recaptions_of_other_rows_or_in_another_order_are_refused(tmp_path, order):
    with pytest.raises(InputError, match="belongs to no row of photos"):
        mixed(tmp_path, rows(3), [Sample(name, "/a.png", paragraph="new") for name in order], 0.5)
    assert not (tmp_path / "mixed.jsonl").exists()


# ---- best-of-N -------------------------------------------------------------------------------------------------------


def three(samples):
    """Captions of one to three words, of which one occurs twice, and an unknown one."""
    return [["w " * (1 + int(s.id) % 3), "w w w w", "w w w w", "? w", ""] for s in samples]


def best(folder, samples, draw=three, found=None):
    log = CandidateLog(folder / "log", {"samples": 5})
    log.complete(samples, draw, found or mix(), len(samples))
    out = folder / "out.jsonl"
    return log, out, write_best(samples, log, found or mix(), out, source="photos", samples=5)


def test_the_best_caption_becomes_the_paragraph(tmp_path):
    log, out, summary = best(tmp_path, rows(10))
    found = read(out)
    assert {row["paragraph"] for row in found} == {"w w w w"}
    assert found[0]["lineage"] == [
        {"step": "best", "source": "photos", "row": "0", "score": 4.0, "samples": 5, "candidates": 4}
    ]
    assert summary.mean_best == 4.0
    assert summary.mean < 4.0
    pairs = tmp_path / "pairs.jsonl"
    assert write_pairs(rows(10), log, mix(), pairs) == 10
    assert read(pairs)[0] == {"image": "/photos/0.png", "chosen": "w w w w", "rejected": "w "}
    assert write_pairs(rows(10), log, mix(), pairs, margin=3.0) == 4  # ids 0, 3, 6, 9 have a caption of one word


def test_a_row_that_no_reward_can_judge_is_left_out_and_told(tmp_path):
    _, out, summary = best(tmp_path, rows(3), lambda chunk: [["? a", "? b"] for _ in chunk])
    assert out.read_text() == ""
    assert summary.without == 3
    assert "3 rows left out" in summary.text()


def test_the_terms_of_a_mix_count_by_their_stds(tmp_path):
    terms = mix(words=RewardTerm(Words(), 1.0), letters=RewardTerm(Letters(), -2.0))
    log = CandidateLog(tmp_path / "log", {})
    texts = ["b b", "b b b b", "a a", "a a a a"]
    log.complete(rows(1), lambda chunk: [texts], terms, 1)
    values = np.array([[2, 0], [4, 0], [2, 2000], [4, 4000]], float)
    expected = ((values - values.mean(0)) / values.std(0)) @ np.array([1.0, -2.0])
    assert next(log.totals(terms.weights)) == pytest.approx(expected.tolist())


def test_sampling_that_was_killed_at_any_byte_ends_with_the_same_bytes(tmp_path):
    samples = rows(CHUNK * 2 + 7)
    (whole := tmp_path / "whole").mkdir()
    _, out, _ = best(whole, samples)
    log = (whole / "log").read_bytes()
    for i, cut in enumerate([0, 5, len(log), *np.random.default_rng(0).integers(0, len(log), 10).tolist()]):
        (folder := tmp_path / str(i)).mkdir()
        (folder / "log").write_bytes(log[:cut])
        asked = []
        _, again, _ = best(folder, samples, lambda chunk, asked=asked: (asked.extend(chunk), three(chunk))[1])
        assert (folder / "log").read_bytes() == log
        assert again.read_bytes() == out.read_bytes()
        assert len(asked) == len(samples) - max(log[:cut].count(b"\n") - 1, 0) // CHUNK * CHUNK


def test_candidates_of_other_settings_or_rows_are_refused(tmp_path):
    best(tmp_path, rows(CHUNK))
    with pytest.raises(InputError, match="other settings"):
        CandidateLog(tmp_path / "log", {"samples": 6}).complete(rows(CHUNK), three, mix(), CHUNK)
    with pytest.raises(InputError, match="captions of other rows: '0' where the data has 'x'"):
        best(tmp_path, [Sample("x", "/x.png"), *rows(CHUNK)[1:]])
    with pytest.raises(InputError, match="has 32 rows, but the data has 3"):
        best(tmp_path, rows(3))


def test_memory_does_not_grow_with_the_captions(tmp_path, monkeypatch):
    monkeypatch.setattr(best_of_n, "CHUNK", 8)

    def peak(count, folder):
        folder.mkdir()
        samples = [Sample(str(i), "/a.png") for i in range(count)]
        tracemalloc.start()
        log, _, _ = best(folder, samples, lambda chunk: [["w " * 3000, "w " * 2000] for _ in chunk])
        write_pairs(samples, log, mix(), folder / "pairs")
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    small, large = peak(20, tmp_path / "a"), peak(200, tmp_path / "b")
    assert large < small + 180 * 1000  # a row has 10 kB of captions
