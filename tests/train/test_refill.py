"""Groups without signal give way to other images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlcap.reward.mix import MixScores
from rlcap.train.refill import draw_reserve, groups_without_signal, replace_groups
from rlcap.train.rollout import Rollout
from rlcap.types import RewardBatch, Sample, Score

ROOT = Path(__file__).parents[2]


def test_groups_without_signal():
    assert groups_without_signal(torch.tensor([0.0, 0.0, 1.0, -1.0, 0.0, 0.0]), 2) == [0, 2]
    assert groups_without_signal(torch.tensor([0.5, -0.5]), 2) == []


def test_the_reserve_depends_on_seed_step_and_place_alone():
    assert draw_reserve(50, 0, 3, 1, 5) == draw_reserve(50, 0, 3, 1, 5)
    assert draw_reserve(50, 0, 3, 1, 5)[:3] == draw_reserve(50, 0, 3, 1, 5)[:3]
    assert draw_reserve(50, 0, 3, 1, 5) != draw_reserve(50, 0, 4, 1, 5)
    assert sorted(draw_reserve(3, 0, 0, 0, 9)) == [0, 1, 2]


def rollout(name, groups, width, group=2):
    count = groups * group
    numbers = torch.arange(count * width).view(count, width) + (100 if name == "fresh" else 0)
    captions = [f"{name} {i}" for i in range(count)]
    scores = {"term": [Score(float(i), note=captions[i]) for i in range(count)]}
    return Rollout(
        rows=[{"sample_id": f"{name}-{i // group}"} for i in range(count)],
        prompts=[f"{name} prompt {b}" for b in range(groups)],
        ids=numbers,
        mask=torch.ones(count, width, dtype=torch.long),
        batch=RewardBatch(captions, [Sample(f"{name}-{i // group}", "x.png") for i in range(count)]),
        scores=MixScores(("term",), torch.arange(count)[:, None].float(), scores, (1.0,), {}),
        sampled_log_probs=numbers.float(),
        old_log_probs=None,
        ref_log_probs=numbers.float(),
    )


def test_a_replaced_group_brings_all_that_belongs_to_it():
    old, fresh = rollout("old", 3, 4), rollout("fresh", 2, 6)
    result = replace_groups(old, fresh, [(1, 1)], 2, pad=-7)
    assert [row["sample_id"] for row in result.rows] == ["old-0"] * 2 + ["fresh-1"] * 2 + ["old-2"] * 2
    assert result.prompts == ["old prompt 0", "fresh prompt 1", "old prompt 2"]
    assert list(result.batch.written) == ["old 0", "old 1", "fresh 2", "fresh 3", "old 4", "old 5"]
    assert [score.note for score in result.scores.scores["term"]] == list(result.batch.written)
    assert result.scores.values[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert result.ids.shape == (6, 6)
    assert result.ids[0].tolist() == [0, 1, 2, 3, -7, -7]
    assert result.ids[2].tolist() == fresh.ids[2].tolist()
    assert result.mask[0].tolist() == [1, 1, 1, 1, 0, 0]
    assert result.ref_log_probs[3].tolist() == fresh.ref_log_probs[3].tolist()
    assert result.old_log_probs is None


def test_nothing_to_replace_leaves_the_rollout(tmp_path):
    old, fresh = rollout("old", 2, 4), rollout("fresh", 1, 3)
    result = replace_groups(old, fresh, [], 2, pad=0)
    assert torch.equal(result.ids, old.ids)
    assert result.prompts == old.prompts


@pytest.mark.slow
def test_a_run_refills_and_is_the_same_twice(tmp_path):
    """Of twelve tokens, mostly as many are words: the length then leaves many groups without any difference."""
    found = []
    for name in ("a", "b"):
        line = [
            sys.executable, "recipes/grpo.py", f"--output_dir={tmp_path / name}", "train.steps=2", "train.images_per_step=4",
            "train.captions_per_image=2", "train.micro_batch=8", "generation.max_new_tokens=12",
            "data.train=14", "data.validation=0", "data.test=7", "data.options.prior_breaking=0", "evaluation.every=10",
            "train.refill=3", *(f"mix.{name}=null" for name in ("self_retrieval", "listener", "hallucination", "grammar")),
        ]  # fmt: skip
        environment = {**os.environ, "RLCAP_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append((tmp_path / name / "rollouts.jsonl").read_text())
    assert found[0] == found[1]
    metrics = [json.loads(line)["metrics"] for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert any(row["refilled_groups"] > 0 for row in metrics)
