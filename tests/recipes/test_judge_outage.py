"""GRPO with a judge behind HTTP that lies, fails or is down: no caption gets a zero, and no work is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from judge_server import FAULTS, JudgeServer, grade
from safetensors.torch import load_file

from rlcap.io.addresses import resolve_address

ROOT = Path(__file__).parents[2]
KEY = "sk-very-secret-123456"
MIX = ("self_retrieval", "listener", "hallucination", "length", "repetition", "grammar", "style")
SMALL = [
    "train.steps=4", "train.images_per_step=4", "train.captions_per_image=8", "train.micro_batch=32", "train.save_every=4",
    "train.beta=0", "data.train=8", "data.validation=0", "data.test=7", "data.options.prior_breaking=0", "evaluation.panel=0",
    *(f"mix.{name}=null" for name in MIX),
]  # fmt: skip
"""32 captions a step, so that the window of abstentions is full enough after two. Only the judge moves the weights."""


@pytest.fixture
def server():
    with JudgeServer() as server:
        yield server


def train(server, folder, *more):
    judge = {
        "backend": {"type": "openai:m", "base_url": server.url, "api_key_env": "MY_JUDGE_KEY"},
        "cache": ":memory:", "retries": 0, "timeout": 5.0,
    }  # fmt: skip
    line = [
        sys.executable, "recipes/grpo.py", f"--output_dir={folder}", *SMALL,
        f"mix.critique={json.dumps({'reward': 'critique', 'params': {'judge': judge}})}", *more,
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MY_JUDGE_KEY": KEY}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert KEY not in done.stdout + done.stderr
    return done.stdout


def judged(folder):
    """Step → [(caption, score or None, advantage)]."""
    steps = {}
    for line in (folder / "rollouts.jsonl").read_text().splitlines():
        row = json.loads(line)
        steps.setdefault(row["step"], []).append((row["caption"], row["scores"]["critique"], row["advantage"]))
    return steps


def assert_scores_are_true(rows):
    """Each caption has the grade of an honest judge, or none and no advantage."""
    for caption, score, advantage in rows:
        if score is None:
            assert advantage == 0
        else:
            assert score == pytest.approx(grade(caption) / 10)


def test_a_judge_that_fails_in_every_way_gives_no_caption_a_wrong_reward(server, tmp_path):
    kinds = [kind for kind in FAULTS if kind not in ("hang", "bill")]  # one only waits, the other answers correctly
    server.fault = lambda number: kinds[number // 4 % len(kinds)] if number % 4 == 0 else None
    train(server, tmp_path / "run")
    steps = judged(tmp_path / "run")
    assert sorted(steps) == [1, 2, 3, 4]
    rows = [row for rows in steps.values() for row in rows]
    assert_scores_are_true(rows)
    assert sum(score is None for _, score, _ in rows) >= len(kinds)
    assert sum(advantage != 0 for _, _, advantage in rows) > 32
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 4


def adapter(folder):
    return load_file(folder / "adapter_model.safetensors")


def is_same(first, second):
    return all(first[name].float().equal(second[name].float()) for name in first)


def test_an_outage_stops_with_a_checkpoint_and_its_reason_and_the_run_goes_on_afterwards(server, tmp_path):
    folder = tmp_path / "run"
    server.fault = lambda number: "html"
    printed = train(server, folder)
    reason = "saving a checkpoint and stopping: reward term 'critique' abstained on 100% of the last 64 captions (allowed: 50%)"
    assert reason in printed
    assert "ServerReplyError: no chat completion: '<html><body>Please log in" in printed
    assert "then continue with resume=auto" in printed
    assert "stopped after step 2 of 4" in printed
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["checkpoint-2"]
    steps = judged(folder)
    assert {step: {row[1:] for row in rows} for step, rows in steps.items()} == {1: {(None, 0)}, 2: {(None, 0)}}
    start = adapter(Path(resolve_address("lab:adapter")))
    assert is_same(start, adapter(folder / "checkpoints" / "checkpoint-2")), "a caption without a reward moves nothing"

    server.fault = lambda number: None
    printed = train(server, folder, "resume=auto")
    assert "resuming from" in printed
    assert "saving a checkpoint and stopping" not in printed, "the old abstentions must not stop the run again"
    steps = judged(folder)
    assert sorted(steps) == [1, 2, 3, 4]
    rows = steps[3] + steps[4]
    assert None not in {score for _, score, _ in rows}
    assert_scores_are_true(rows)
    assert not is_same(start, adapter(folder / "adapter"))
    assert json.loads((folder / "summary.json").read_text())["steps"] == 4
