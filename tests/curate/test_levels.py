"""Quality levels: edges and ties, scores that survive a kill at any byte, memory that does not grow with texts, and refused logs."""

import json
import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from rlcap.curate import scoring
from rlcap.curate.levels import assign_levels, level_edges, level_of
from rlcap.curate.rows import to_row
from rlcap.curate.scoring import CHUNK, ScoreLog, captions_of
from rlcap.errors import InputError
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.mix import RewardMix, RewardTerm
from rlcap.types import Control, Sample, Score


class Words(Reward):
    """The number of words; it abstains on a caption that begins with a question mark."""

    name, range, needs = "words", (0.0, math.inf), frozenset()

    def __init__(self):
        self.scored = 0

    def score(self, batch):
        self.scored += len(batch)
        return RewardOutput(
            [Score.abstain("unknown") if c.startswith("?") else Score(float(len(c.split()))) for c in batch.captions]
        )


class Letters(Reward):
    name, range, needs = "letters", (0.0, math.inf), frozenset()

    def score(self, batch):
        return RewardOutput([Score(1000.0 * c.count("a")) for c in batch.captions])


def mix(**terms):
    return RewardMix(terms or {"words": RewardTerm(Words())}, max_abstain=1.0)


def rows(count=200):
    return [
        Sample(str(i), f"/photos/{i}.png", ("a wall .",), " ".join(["wall"] * (1 + i * 7 % count)), meta={"licence": i})
        for i in range(count)
    ]


def run(folder, samples, found=None, **options):
    out = folder / "out.jsonl"
    log = ScoreLog(folder / "out.jsonl.scores.jsonl", {"mix": "words"})
    summary = assign_levels(lambda: iter(samples), found or mix(), out, log, **options)
    return [json.loads(line) for line in out.read_text().splitlines()], summary


# ---- levels ----------------------------------------------------------------------------------------------------------


def test_quantile_levels_have_equally_many_rows_and_order_the_scores(tmp_path):
    found, summary = run(tmp_path, rows(), levels=8)
    levels = [row["control"]["level"] for row in found]
    assert Counter(levels) == dict.fromkeys(range(1, 9), 25)
    words = [len(row["paragraph"].split()) for row in found]
    ordered = [level for _, level in sorted(zip(words, levels, strict=True))]
    assert ordered == sorted(ordered)
    assert [level.rows for level in summary.levels] == [25] * 8
    assert summary.levels[7].words / 25 == pytest.approx(188)  # the words of the last eighth: 176 to 200


def test_uniform_levels_have_equally_wide_ranges():
    assert level_edges([0, 1, 1, 1, 1, 8], 4, "uniform") == [2, 4, 6]


def test_equal_scores_have_equal_levels_and_an_empty_level_is_told(tmp_path):
    samples = [Sample(str(i), "/a.png", paragraph="wall " * (1 if i < 90 else i)) for i in range(100)]
    found, summary = run(tmp_path, samples, levels=4)
    assert len({row["control"]["level"] for row in found[:90]}) == 1
    assert "none: too many captions have the same score" in summary.text()
    assert sum(level.rows for level in summary.levels) == 100


def test_the_level_of_a_score_on_an_edge_is_the_higher_one():
    assert [level_of(score, [1.0, 2.0]) for score in (0.9, 1.0, 1.9, 2.0, 9)] == [1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("scores", "seen"), [([2.0, 2.0], "all 2 scores are 2"), ([math.nan], "abstains on every row")]
)
def test_scores_without_a_difference_give_no_levels(scores, seen):
    with pytest.raises(InputError, match=seen):
        level_edges(scores, 4)


def test_a_row_without_a_caption_or_a_judgement_has_no_level(tmp_path):
    samples = [*rows(30), Sample("silent", "/a.png"), Sample("unknown", "/b.png", paragraph="? a wall")]
    samples[0] = Sample("0", "/0.png", paragraph=samples[0].paragraph, control=Control(level=9, style="plain"))
    samples[-1] = Sample("unknown", "/b.png", paragraph="? a wall", control=Control(level=9))
    found, summary = run(tmp_path, samples, levels=2)
    assert "control" not in found[-1]  # the level that it had was another judge's
    assert "control" not in found[-2]
    assert found[0]["control"] == {"level": 1, "style": "plain"}
    assert summary.without == 2
    assert "2 rows have no level" in summary.text()


def test_the_terms_of_a_mix_count_by_their_stds_and_weights(tmp_path):
    samples = [Sample(str(i), "/a.png", paragraph=text) for i, text in enumerate(("b b", "b b b b", "a a", "a a a a"))]
    terms = mix(words=RewardTerm(Words(), 1.0), letters=RewardTerm(Letters(), -2.0))
    log = ScoreLog(tmp_path / "log", {})
    log.complete(samples, terms, "paragraph", 4)
    values = np.array([[2, 0], [4, 0], [2, 2000], [4, 4000]], float)
    expected = ((values - values.mean(0)) / values.std(0)) @ np.array([1.0, -2.0])
    assert list(log.totals(terms.weights)) == pytest.approx(expected.tolist())


def test_references_are_averaged_and_each_is_compared_with_the_others():
    sample = Sample("a", "/a.png", ("one", "two", "three"))
    pairs = captions_of(sample, "references")
    assert [text for text, _ in pairs] == ["one", "two", "three"]
    assert [own.references for _, own in pairs] == [("two", "three"), ("one", "three"), ("one", "two")]


def test_the_score_of_references_is_their_mean(tmp_path):
    samples = [
        Sample("a", "/a.png", ("w", "w w w")),
        Sample("b", "/b.png", ("w w", "? unknown")),
        Sample("c", "/c.png"),
    ]
    log = ScoreLog(tmp_path / "log", {})
    log.complete(samples, mix(), "references", 3)
    totals = list(log.totals([1.0]))
    assert totals[:2] == [2.0, 2.0]
    assert math.isnan(totals[2])


# ---- interruptions and memory ----------------------------------------------------------------------------------------


def test_a_run_that_was_killed_at_any_byte_ends_with_the_same_bytes(tmp_path):
    samples = rows(CHUNK * 3 + 5)
    whole = tmp_path / "whole"
    whole.mkdir()
    run(whole, samples)
    log, out = (whole / "out.jsonl.scores.jsonl").read_bytes(), (whole / "out.jsonl").read_bytes()
    rng = np.random.default_rng(0)
    for i, cut in enumerate([0, 3, len(log), *rng.integers(0, len(log), 10).tolist()]):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "out.jsonl.scores.jsonl").write_bytes(log[:cut])
        reward = Words()
        run(folder, samples, mix(words=RewardTerm(reward)))
        assert (folder / "out.jsonl.scores.jsonl").read_bytes() == log
        assert (folder / "out.jsonl").read_bytes() == out
        complete = max(log[:cut].count(b"\n") - 1, 0) // CHUNK * CHUNK
        assert reward.scored == len(samples) - complete


def test_other_levels_need_no_new_scores(tmp_path):
    samples = rows(CHUNK * 2)
    run(tmp_path, samples, levels=8)
    reward = Words()
    found, _ = run(tmp_path, samples, mix(words=RewardTerm(reward)), levels=2)
    assert reward.scored == 0
    assert {row["control"]["level"] for row in found} == {1, 2}


def test_a_log_of_other_settings_or_rows_is_refused(tmp_path):
    samples = rows(CHUNK)
    run(tmp_path, samples)
    path = tmp_path / "out.jsonl.scores.jsonl"
    with pytest.raises(InputError, match="other settings"):
        ScoreLog(path, {"mix": "letters"}).complete(samples, mix(), "paragraph", CHUNK)
    same = ScoreLog(path, {"mix": "words"})
    with pytest.raises(InputError, match="scores of 64 rows, but the data has 63"):
        same.complete(samples[:-1], mix(), "paragraph", CHUNK - 1)
    changed = [*samples[:-1], Sample(samples[-1].id, "/a.png", paragraph="another text")]
    with pytest.raises(InputError, match="the text of this row has changed"):
        same.complete(changed, mix(), "paragraph", CHUNK)


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "CHUNK", 16)

    def peak(count, folder):
        folder.mkdir()
        log = ScoreLog(folder / "log", {})
        text = "wall " * 2000  # 10 kB
        tracemalloc.start()
        found = mix()
        assign_levels(
            lambda: (Sample(str(i), "/a.png", paragraph=text[: 5000 + 5 * i]) for i in range(count)),
            found,
            folder / "out",
            log,
        )
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    small, large = peak(50, tmp_path / "a"), peak(500, tmp_path / "b")
    assert large < small + 450 * 400  # far less than the 10 kB of a row


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_a_row_finds_its_image_from_its_new_folder(tmp_path):
    sample = Sample("a", "photos/1.png", ("x",), "y", meta={"licence": 1, "id": "not this"})
    row = to_row(sample, tmp_path.__class__("out/levels"))
    assert row == {"id": "a", "image": "../../photos/1.png", "references": ["x"], "paragraph": "y", "licence": 1}
    assert to_row(Sample("a", "/photos/1.png"), tmp_path)["image"] == "/photos/1.png"
