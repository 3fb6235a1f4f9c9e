"""The steps of `rlcap curate` on the command line, and the loop with its commands replaced."""

import argparse
import json

import pytest
from PIL import Image

from rlcap.cli import curate_loop
from rlcap.cli import main as cli
from rlcap.data.loading import load_samples
from rlcap.errors import InputError

LENGTH = ["--reward", "length", "mix.length.params={target: 100}"]


@pytest.fixture
def source(tmp_path):
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i, 9, 9)).save(tmp_path / f"{i}.png")
    rows = [{"id": str(i), "image": f"{i}.png", "paragraph": "A wall. " * (i + 1)} for i in range(12)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def curate(*line):
    return cli.main(["curate", *map(str, line)])


def test_filter_then_mix_keep_the_lineage(source, tmp_path, capsys):
    kept, mixed = tmp_path / "kept.jsonl", tmp_path / "mixed.jsonl"
    assert curate("filter", f"data.source={source}", *LENGTH, "--keep", 0.25, "--out", kept) == 0
    assert "3 of 12 rows" in capsys.readouterr().out
    assert [sample.id for sample in load_samples(kept)] == ["9", "10", "11"]
    assert curate("mix", f"data.source={source}", "--with", kept, "--original", 0, "--out", mixed) == 0
    assert "3 with the recaption, 0 with the original caption, 9 without" in capsys.readouterr().out
    steps = [[entry["step"] for entry in sample.meta["lineage"]] for sample in load_samples(mixed)]
    assert steps == [["mix"]] * 9 + [["filter", "mix"]] * 3


def test_score_writes_all_rows(source, tmp_path):
    out = tmp_path / "scored.jsonl"
    assert curate("score", f"data.source={source}", *LENGTH, "--out", out) == 0
    scores = [sample.meta["score"] for sample in load_samples(out)]
    assert scores == sorted(scores)
    assert len(scores) == 12


def test_wrong_options_are_told_in_one_line(source, tmp_path, capsys):
    line = [f"data.source={source}", *LENGTH, "--out", tmp_path / "best.jsonl"]
    assert curate("best", *line, "--temperature", 0) == 2
    assert "greedy captions do not differ" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        curate("filter", *line, "--keep", 0)
    assert "must be above 0" in capsys.readouterr().err


# ---- loop ------------------------------------------------------------------------------------------------------------


def options(tmp_path, **others):
    values = {"source": "photos.jsonl", "preset": "p.yaml", "expert": "draft", "rows_key": "data.source", "config": tmp_path / "sft.yaml"}  # fmt: skip
    return argparse.Namespace(**(values | others))


def test_a_round_fuses_with_the_present_captioner_and_trains_on_its_rows(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(curate_loop, "_run", lambda *words: lines.append(words))
    curate_loop._fuse(options(tmp_path), ["data.train=4"], tmp_path, ("runs/a", None))
    curate_loop._train(options(tmp_path), ["train.steps=2"], tmp_path)
    fuse, train = lines
    assert fuse[:2] == ("fuse", "photos.jsonl")
    assert {"data.train=4", "experts.draft.params.model=runs/a", "experts.draft.params.adapter=null"} <= set(fuse)
    assert train[:2] == ("train", "sft")
    assert {"train.steps=2", f"data.source={tmp_path / 'rows.jsonl'}", f"--output_dir={tmp_path / 'run'}"} <= set(train)
    assert "resume=auto" not in train


def test_a_run_that_was_stopped_is_resumed_and_one_that_has_ended_is_left_alone(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(curate_loop, "_run", lambda *words: lines.append(words))
    (tmp_path / "run" / "adapter").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("{}")
    curate_loop._train(options(tmp_path), [], tmp_path)
    assert lines[0][-1] == "resume=auto"
    (tmp_path / "run" / "run.json").write_text('{"ended": true}')
    curate_loop._train(options(tmp_path), [], tmp_path)
    assert len(lines) == 1


def test_a_command_that_fails_stops_the_loop():
    with pytest.raises(InputError, match="run the loop again to continue"):
        curate_loop._run("fuse", "nowhere.jsonl", "--preset", "nowhere")


def test_overrides_belong_to_a_part():
    parts = curate_loop.split_overrides(["fuse.data.train=4", "--train.train.steps=2", "measure.data.test=0"])
    assert parts == {"fuse": ["data.train=4"], "train": ["train.steps=2"], "measure": ["data.test=0"]}
    with pytest.raises(InputError, match=r"begins with fuse\., train\. or measure\."):
        curate_loop.split_overrides(["data.train=4"])


def test_the_table_has_a_column_for_each_round():
    rounds = [{"metrics": {"a": {"mean": 0.5}}}, {"metrics": {"a": {"mean": 0.25}, "b": {"mean": 1.0}}}]
    lines = curate_loop.table(rounds).splitlines()
    assert lines[0].split() == ["metric", "round", "0", "round", "1"]
    assert [line.split() for line in lines[1:]] == [["a", "0.500", "0.250"], ["b", "–", "1.000"]]
