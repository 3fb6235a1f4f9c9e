"""During training, the next evaluation prints an alarm if rewards rise while held-out metrics get worse."""

import json
from types import SimpleNamespace

from rlcap.train.evaluation import Evaluation
from rlcap.train.run_folder import RunFolder


def run_of(tmp_path, end):
    (tmp_path / "captions").mkdir()
    for step, rate in ((0, 0.1), (8, end)):
        rows = [
            {"sample_id": str(i), "image": "", "caption": "a ball.", "split": "validation",
             "metrics": {"hallucination_rate": rate + 0.01 * (i % 3)}}
            for i in range(20)
        ]  # fmt: skip
        (tmp_path / "captions" / f"{step}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open(tmp_path / "metrics.jsonl", "w") as file:
        for step in range(1, 9):
            metrics = {"reward/clip/mean": step / 8, "reward/clip/std_within_group": 0.2}
            file.write(json.dumps({"step": step, "metrics": metrics}) + "\n")
    return SimpleNamespace(folder=RunFolder(tmp_path))


def test_an_alarm_is_printed_during_the_run(tmp_path, capsys):
    Evaluation._print_alarms(run_of(tmp_path, 0.4), 8)
    told = capsys.readouterr().out
    assert "step 8, OVER-OPTIMIZATION on validation: Rewards rose (clip)" in told
    assert "false claims among claims" in told


def test_no_alarm_is_printed_without_over_optimization(tmp_path, capsys):
    Evaluation._print_alarms(run_of(tmp_path, 0.05), 8)
    assert capsys.readouterr().out == ""
