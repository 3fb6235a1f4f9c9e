"""`rlcap sweep` with a recipe that only writes what training leaves: skips, resumes, records failures and compares."""

import json
import subprocess
import sys

import pytest
import yaml

from rlcap.cli import main as cli
from rlcap.cli.sweep_runs import launch
from rlcap.cli.sweep_search import _rounded
from rlcap.config.sweep import read_sweep

RECIPE = """
import sys, json, time
from pathlib import Path
from rlcap.eval.captions_file import write_rows
from rlcap.eval.summary import summarise

values = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:])
folder, quality = Path(values["output_dir"]), float(values["quality"])
with open(folder.parent / "calls.txt", "a") as file:
    file.write(f"{folder.name} {values.get('resume')}\\n")
folder.mkdir(exist_ok=True)
(folder / "config.yaml").write_text("train: {steps: 40}")
if quality == 0.5 and not (folder.parent / "mended").exists():
    sys.exit("error: this value is broken")
start = 20 if "resume" in values and (folder / "captions").is_dir() else 0
for step, gain in ((0, 0.0), (20, quality / 2), (40, quality)):
    if step < start:
        continue
    rows = [
        {"sample_id": str(i), "image": "", "caption": "a ball.", "split": split,
         "metrics": {"fact_recall": 0.2 + gain + 0.01 * (i % 3), "hallucination_rate": 0.1 + 0.01 * (i % 2)}}
        for i in range(20) for split in ("validation", "test")
    ]
    write_rows(folder, step, rows)
    if step == 20 and "slow" in values and not start:
        time.sleep(30)  # until Ctrl-C, which the sweep sends
        sys.exit("the sweep sent no signal")
summarise(folder)
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.py").write_text(RECIPE)
    parameters = {"quality": {"values": [0.1, 0.3, 0.5]}, "train.seed": {"values": [0, 1]}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"program": "recipe.py", "method": "grid", "parameters": parameters}))
    return path


def sweep(file, *more):
    return cli.main(["sweep", str(file), "--out", str(file.parent / "out"), *more])


def calls(file):
    return (file.parent / "out" / "calls.txt").read_text().split("\n")[:-1]


def test_a_dry_run_lists_the_runs_and_leaves_nothing(file, capsys):
    assert sweep(file, "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "6 runs; variants: 3, training seeds of each: 2" in printed
    assert printed.count("to do") == 6
    assert "quality=0.3 train.seed=1 report_to=[]" in printed
    assert not (file.parent / "out").exists()


def test_a_sweep_records_failures_and_continues(file, capsys):
    assert sweep(file) == 1
    out, error = capsys.readouterr()
    assert "failed (error: this value is broken; see" in out
    assert "2 of 6 runs failed" in error
    runs = json.loads((file.parent / "out" / "sweep.json").read_text())["runs"]
    assert [entry["state"] for entry in runs.values()] == ["finished"] * 4 + ["failed"] * 2
    assert list(runs.values())[-1]["error"] == "error: this value is broken"
    assert list(runs.values())[-1]["exit_code"] == 1
    assert len(calls(file)) == 6

    assert sweep(file, "--dry-run") == 0
    assert capsys.readouterr().out.count("finished") == 4

    (file.parent / "out" / "mended").touch()
    assert sweep(file) == 0
    assert len(calls(file)) == 8  # finished runs are skipped
    assert all(call.endswith(" auto") for call in calls(file)[6:])  # failed ones resume
    runs = json.loads((file.parent / "out" / "sweep.json").read_text())["runs"]
    assert [entry["state"] for entry in runs.values()] == ["finished"] * 6


def test_a_sweep_ends_with_the_comparison(file, capsys):
    (file.parent / "out").mkdir()
    (file.parent / "out" / "mended").touch()
    assert sweep(file) == 0
    printed = capsys.readouterr().out
    objectives = [line for line in printed.splitlines() if line.startswith("|") and "quality=" in line]
    assert [line.split("quality=")[1] for line in objectives] == ["0.5 |", "0.3 |", "0.1 |"]  # the best first
    first = objectives[-1].split()[1]
    assert f"start of {first}" in printed
    assert "2 seeds; bold where they exclude zero" in printed
    assert "**+20.0 [+20.0, +20.0]** better" in printed
    assert f"comparison: {file.parent / 'out' / 'comparison.html'}" in printed
    assert "is best at every goal, clearly in 1 of 2" in (file.parent / "out" / "comparison.html").read_text()
    assert sweep(file, "--split", "test") == 0
    assert "20 images" in capsys.readouterr().out


def test_several_runs_at_once(file, capsys):
    (file.parent / "out").mkdir()
    (file.parent / "out" / "mended").touch()
    assert sweep(file, "--jobs", "3") == 0
    assert len(calls(file)) == 6
    assert "2 seeds; bold where they exclude zero" in capsys.readouterr().out


def test_parts_of_a_sweep_on_several_machines(file, capsys):
    (file.parent / "out").mkdir()
    (file.parent / "out" / "mended").touch()
    assert sweep(file, "--part", "0", "4") == 0
    assert len(calls(file)) == 2
    assert "2 of 2 runs of this part are finished" in capsys.readouterr().out
    for part in "123":
        assert sweep(file, "--part", part, "4") == 0
    assert len(calls(file)) == 6
    assert sweep(file) == 0
    assert len(calls(file)) == 6  # nothing is left to train
    assert "2 seeds; bold where they exclude zero" in capsys.readouterr().out
    assert sweep(file, "--part", "4", "4") == 2
    assert "the parts of 4 are 0 to 3" in capsys.readouterr().err
    assert sweep(file, "--part", "0", "4", "--stop-worse-half", "20") == 2


def test_the_worse_half_is_stopped_and_the_others_go_on(file, capsys):
    assert sweep(file, "--stop-worse-half", "20", "slow=1", "--jobs", "4", "--seeds", "0") == 1  # quality 0.5 is broken
    out = capsys.readouterr().out
    runs = json.loads((file.parent / "out" / "sweep.json").read_text())["runs"]
    assert {entry["parameters"]["quality"]: entry["state"] for entry in runs.values()} == {
        0.1: "stopped",
        0.3: "finished",
        0.5: "failed",
    }
    assert "was stopped at step 20, objective" in out
    assert [call.split()[1] for call in calls(file)] == ["None"] * 3 + [
        "auto"
    ]  # the better one goes on from its checkpoint


def test_a_rung_that_no_run_evaluates_is_named(file, capsys):
    assert sweep(file, "--stop-worse-half", "30", "--runs", "2", "--seeds", "0") == 2
    assert "evaluated the steps [0, 20, 40], not 30" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        sweep(file, "--stop-worse-half", "40,20")
    assert "ascending steps" in capsys.readouterr().err


def test_a_search_learns_from_its_results_and_continues_as_it_would_have(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.py").write_text(RECIPE)
    path = tmp_path / "search.yaml"
    parameters = {"quality": {"min": 0.0, "max": 0.45}}
    path.write_text(yaml.safe_dump({"program": "recipe.py", "method": "bayes", "run_cap": 7, "parameters": parameters}))
    assert sweep(path, "--dry-run") == 0
    assert "7 variants with 1 training seeds each" in capsys.readouterr().out
    assert sweep(path, "--runs", "3") == 0
    assert sweep(path) == 0
    assert "variant 7 of 7" in capsys.readouterr().out
    runs = json.loads((tmp_path / "out" / "sweep.json").read_text())["runs"]
    quality = [entry["parameters"]["quality"] for entry in runs.values()]
    assert len(calls(path)) == len(quality) <= 7  # the first three were not trained again
    assert cli.main(["sweep", str(path), "--out", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again" / "sweep.json").read_text())["runs"]
    assert list(again) == list(runs)
    assert max(quality[4:]) > sum(quality[:4]) / 4  # better than the random ones that it began with
    assert sweep(path, "--stop-worse-half", "20") == 2
    assert "learns from whole runs" in capsys.readouterr().err


def test_a_rounded_value_stays_in_its_range():
    assert _rounded(0.1234567, {"min": 0.0, "max": 1.0}) == 0.1235
    assert _rounded(0.123449, {"min": 0.0, "max": 0.12345}) == 0.1234
    assert _rounded(0.1234499, {"min": 0.12344, "max": 0.12345}) == 0.12344
    assert _rounded(3, {"min": 1, "max": 5}) == 3


def test_one_variant_is_not_compared(file, capsys):
    assert sweep(file, "--runs", "1", "--seeds", "5") == 0
    assert "there is nothing to compare" in capsys.readouterr().out
    assert calls(file)[0].split("-")[1] == "5 None"


def test_another_sweep_in_the_folder_is_refused(file, capsys):
    (file.parent / "out").mkdir()
    hold = "import sys, time; from pathlib import Path; from rlcap.io.lock import FolderLock; lock = FolderLock(Path(sys.argv[1])); print(1, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", hold, str(file.parent / "out")], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        assert sweep(file) == 2
        assert "the sweep in" in capsys.readouterr().err
    finally:
        process.kill()
        process.wait()


def test_a_recipe_without_a_clone_runs_as_a_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "s.yaml"
    values = {"program": "recipes/grpo.py", "method": "grid", "parameters": {"a": {"value": 1}}}
    path.write_text(
        yaml.safe_dump(
            values | {"command": ["accelerate", "launch", "--config_file", "x.yaml", "${program}", "${args}"]}
        )
    )
    assert launch(read_sweep(path))[1:] == [
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        "x.yaml",
        "-m",
        "rlcap.recipes.grpo",
    ]
    path.write_text(yaml.safe_dump(values))
    assert launch(read_sweep(path)) == [sys.executable, "-m", "rlcap.recipes.grpo"]
