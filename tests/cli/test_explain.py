"""`rlcap explain`: the advantage of a sampled caption, from the files of a run alone."""

import json
import math
import random

import pytest
import torch
import yaml

from rlcap.algo.advantages import combine
from rlcap.cli import main as cli
from rlcap.reward.running_statistics import RunningMoments, RunningStd

NAMES, WEIGHTS, SIZE = ("length", "repetition"), (1.0, 0.5), 4
STEPS = (1, 2, 3)


def write_run(folder, normalize="group", parts=1, **train):
    """Write a run of three steps with two groups each, as the trainer would; a tenth of the scores is an abstention."""
    rng = random.Random(0)
    running, moments = RunningStd(NAMES), RunningMoments(NAMES)
    folder.mkdir(exist_ok=True)
    rows = []
    for step in STEPS:
        values = torch.tensor(
            [[math.nan if rng.random() < 0.1 else -rng.random() for _ in NAMES] for _ in range(2 * SIZE)]
        )
        settings = {"aggregate": train.get("aggregate", "normalize_then_sum"), "whiten": train.get("whiten", True)}
        combined = combine(
            values, WEIGHTS, SIZE, normalize=normalize, reward_ranges=(1.0, 1.0), running_std=running.stds(),
            baseline=moments.means(), **settings,
        )  # fmt: skip
        running.update(combined.std_pooled.tolist())
        moments.update(values.T.tolist())
        for i, (scores, advantage) in enumerate(zip(values.tolist(), combined.advantages.tolist(), strict=True)):
            told = {name: None if math.isnan(score) else score for name, score in zip(NAMES, scores, strict=True)}
            abstained = {name: "no reference" for name, score in told.items() if score is None}
            head = {"step": step, "sample_id": "ab"[i // SIZE], "caption": f"caption {step}.{i}"}
            rows.append({**head, "advantage": advantage, "scores": told, "abstained": abstained, "notes": {}})
    mix = {
        name: {"reward": name, "weight": weight, "normalize": None if normalize == "group" else normalize, "params": {}}
        for name, weight in zip(NAMES, WEIGHTS, strict=True)
    }
    config = {"train": {"captions_per_image": SIZE, **train}, "mix": mix}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for part in range(parts):  # a process writes whole groups
        mine = [row for row in rows if parts == 1 or row["sample_id"] == "ab"[part]]
        name = "rollouts.jsonl" if not part else f"rollouts-{part}.jsonl"
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in mine))
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        *({"normalize": choice} for choice in ("group", "batch", "running", "none")),
        {"whiten": False},
        *({"aggregate": f"sum_{how}"} for how in ("then_normalize", "then_center", "then_leave_one_out", "minus_running_mean")),
        {"parts": 2},
    ],
    ids=str,
)  # fmt: skip
def test_every_row_is_the_written_one(tmp_path, capsys, settings):
    run = write_run(tmp_path, **settings)
    for step in STEPS:
        for row in range(1, 2 * SIZE + 1):
            assert cli.main(["explain", str(run), "--step", str(step), "--row", str(row)]) == 0, capsys.readouterr().out
            told = capsys.readouterr().out
            assert f"caption {step}.{row - 1}" in told
            assert ", the same" in told


def test_the_table_shows_each_term(tmp_path, capsys):
    run = tmp_path
    scores = [(-0.0, -0.5), (-1.0, None), (-1.0, -0.5), (-1.0, -0.5)]
    values = [0.25 * 1.5, -0.125, -0.125, -0.125]  # mean −0.75 and std 0.5; nothing else differs, and the only group
    write_run(run, whiten=False)
    (run / "rollouts.jsonl").write_text(
        "".join(
            json.dumps(
                {"step": 7, "sample_id": "a", "caption": "A.", "advantage": 4 * value,
                 "scores": dict(zip(NAMES, pair, strict=True)), "abstained": {} if pair[1] is not None else {"repetition": "no words"}}
            ) + "\n"
            for pair, value in zip(scores, values, strict=True)
        )
    )  # fmt: skip
    assert cli.main(["explain", str(run), "--row", "1"]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert lines["length"] == ["length", "0.0000", "-0.7500", "0.5000", "1.5000", "1", "1.5000"]
    assert lines["repetition"] == ["repetition", "-0.5000", "-0.5000", "0.0000", "0.0000", "0.5", "0.0000"]
    assert lines["advantage"] == ["advantage", "1.5000"]
    assert cli.main(["explain", str(run), "--row", "2"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("repetition")]
    assert line.split() == ["repetition", "abstains", "–", "0.0000", "–", "0.5", "0.0000", "no", "words"]


def test_a_difference_is_told(tmp_path, capsys):
    run = write_run(tmp_path)
    file = run / "rollouts.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[-1]["advantage"] += 0.5
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli.main(["explain", str(run), "--row", "8"]) == 1
    assert "which DIFFERS by 0.5000" in capsys.readouterr().out
    write_run(tmp_path, kl="sequence")
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli.main(["explain", str(run), "--row", "8"]) == 0
    assert "The difference of 0.5000 is −train.beta × the caption's KL" in capsys.readouterr().out


def with_spans(run, spans):
    rows = [json.loads(line) | {"spans": spans} for line in (run / "rollouts.jsonl").read_text().splitlines()]
    (run / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_what_was_said_of_parts_is_printed_strongest_first(tmp_path, capsys):
    run = write_run(tmp_path)
    assert cli.main(["explain", str(run), "--row", "1"]) == 0
    assert "parts of the caption" not in capsys.readouterr().out
    many = [[i % 9, i % 9 + 1, (-1) ** i * i / 10, f"number\n{i}"] for i in range(11)]
    with_spans(run, {"repetition": [[0, 7, -1.0, "repeated"]], "length": many})
    assert cli.main(["explain", str(run), "--row", "1"]) == 0
    told = (
        capsys.readouterr()
        .out.split("what the rewards said of parts of the caption, strongest first\n")[1]
        .splitlines()
    )
    assert told[:2] == ["repetition: 1 part", '  -1.0000  "caption"  repeated']
    assert told[2] == "length: 11 parts, the 3 weakest left out"
    assert told[3].split() == ["1.0000", '"a"', "number", "10"]
    assert [line.split()[-1] for line in told[3:-1]] == ["10", "9", "8", "7", "6", "5", "4", "3"]
    assert told[-1].startswith("train.credit=caption: all tokens have the caption's advantage")


def test_credit_to_claims_is_told(tmp_path, capsys):
    run = write_run(tmp_path, credit="claim")
    with_spans(run, {"length": [[0, 7, -1.0, ""]]})
    assert cli.main(["explain", str(run), "--row", "1"]) == 0
    told = capsys.readouterr().out
    assert ", the same" in told
    assert "train.credit=claim: the advantage above is the caption's. Its tokens have advantages of their own" in told
    assert "rlcap/algo/credit.py" in told
    with_spans(run, {"length": [[7, 0, -1.0, ""]]})
    assert cli.main(["explain", str(run), "--row", "1"]) == 2
    assert "the spans of a at step 3 are not [start, end, value, label]" in capsys.readouterr().err


def test_rows_are_listed_by_step_and_image(tmp_path, capsys):
    run = write_run(tmp_path)
    assert cli.main(["explain", str(run)]) == 0
    assert "8 captions of step 3" in capsys.readouterr().out
    assert cli.main(["explain", str(run), "--step", "2", "--sample", "b"]) == 0
    told = capsys.readouterr().out
    assert "4 captions of step 2" in told
    assert "caption 2.4" in told.splitlines()[2]
    assert cli.main(["explain", str(run), "--step", "2", "--sample", "b", "--row", "1"]) == 0
    assert "step 2, row 5 of 8, image b (group: rows 5 to 8)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "train", "message"),
    [
        (["--step", "9"], {}, "has captions of the steps 1, 2, 3"),
        (["--row", "9"], {}, "--row 9: step 3 has 8 such captions"),
        (["--sample", "c"], {}, "--sample c: step 3 has a, b"),
        ([], {"captions_per_image": 5}, "no groups of train.captions_per_image=5"),
        ([], {"aggregate": "sum_minus_greedy"}, "compares with greedy captions"),
        ([], {"lam": 0.9}, "is a PPO run"),
    ],
)
def test_what_can_not_be_explained_is_one_line(tmp_path, capsys, arguments, train, message):
    run = write_run(tmp_path)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["train"] |= train
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(["explain", str(run), *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_folder_without_captions(tmp_path, capsys):
    assert cli.main(["explain", str(tmp_path)]) == 2
    assert "is no GRPO run" in capsys.readouterr().err
    (write_run(tmp_path) / "rollouts.jsonl").unlink()
    assert cli.main(["explain", str(tmp_path)]) == 2
    assert "its rollouts.jsonl is missing or empty" in capsys.readouterr().err
