"""The recipes `refine` and `dpo` on a small lab: critique, rewriting, acceptance, and training on the accepted captions."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from rlcap.config.loading import load_config
from rlcap.config.required import require_complete
from rlcap.config.supervised import DPOConfig, RefineConfig
from rlcap.errors import ConfigError, PairsError
from rlcap.train.dpo import read_pairs
from rlcap.train.refine import find_objection

ROOT = Path(__file__).parents[2]


def recipe(name, *arguments, cwd=ROOT):
    command = [sys.executable, ROOT / "recipes" / f"{name}.py", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_caption_is_accepted_only_if_no_reward_falls_and_one_rises():
    weights = {"a": 1.0, "b": 1.0}

    def find(before, after, **options):
        values = (dict(zip("ab", pair, strict=True)) for pair in (before, after))
        return find_objection(*values, weights, **options)

    assert find((0.2, 0.5), (0.3, 0.5)) is None
    assert find((0.2, 0.5), (0.9, 0.4)) == "b fell"
    assert find((0.2, 0.5), (0.9, 0.4), tolerance=0.1) is None
    assert find((0.2, 0.5), (0.2, 0.5)) == "no reward rose"
    assert find((0.2, math.nan), (0.9, 0.9)) == "b could not judge"


@pytest.fixture(scope="module")
def refined(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refined") / "run"
    ran = recipe("refine", "--output_dir", folder, "data.train=28")
    assert ran.returncode == 0, ran.stderr
    return folder, ran.stdout


def test_refine_writes_all_results_and_two_training_sets(refined):
    folder, output = refined
    rows, pairs, sft = (lines(folder / f"{name}.jsonl") for name in ("refined", "pairs", "sft"))
    taken = [row for row in rows if row["objection"] is None]
    assert len(rows) == 28
    assert f"{len(taken)} of 28 rewritten captions accepted" in output
    assert 0 < len(taken) == len(pairs) == len(sft)
    for row, pair in zip(taken, pairs, strict=True):
        assert (pair["chosen"], pair["rejected"]) == (row["caption"], row["original"])
        assert Path(pair["image"]).is_file()
        assert row["critiques"]
        assert sum(row["after"].values()) > sum(row["before"].values())
    assert {row["paragraph"] for row in sft} == {row["caption"] for row in taken}
    assert "INFO:textgrad" not in output


@pytest.mark.slow
def test_a_resumed_refine_run_gives_the_same_pairs(refined, tmp_path):
    folder, _ = refined
    half = tmp_path / "half"
    half.mkdir()
    for name in ("config.yaml", "refined.jsonl"):
        text = (folder / name).read_text()
        (half / name).write_text(text if name == "config.yaml" else "".join(text.splitlines(True)[:20]) + '{"sample')
    assert recipe("refine", "--output_dir", half, "data.train=28").returncode != 0  # holds a run
    ran = recipe("refine", "--output_dir", half, "data.train=28", "resume=auto")
    assert ran.returncode == 0, ran.stderr
    assert (half / "pairs.jsonl").read_text() == (folder / "pairs.jsonl").read_text()


def test_dpo_learns_to_prefer_the_chosen_captions_and_writes_a_report(refined, tmp_path):
    folder, _ = refined
    small = (
        "data.validation=0",
        "data.test=14",
        "data.options.prior_breaking=0",
        "train.steps=4",
        "train.batch_size=8",
        "train.sft_weight=0",
    )
    ran = recipe("dpo", f"pairs={folder / 'pairs.jsonl'}", "--output_dir", tmp_path / "dpo", *small)
    assert ran.returncode == 0, ran.stderr
    rows = [row["metrics"] for row in lines(tmp_path / "dpo" / "metrics.jsonl")]
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)  # the policy is the reference yet
    assert rows[-1]["rewards/margins"] > 0
    summary = json.loads((tmp_path / "dpo" / "summary.json").read_text())
    assert [(e["step"], e["split"], e["n"]) for e in summary["evaluations"]] == [(0, "test", 14), (4, "test", 14)]
    assert (tmp_path / "dpo" / "report.html").is_file()
    assert (tmp_path / "dpo" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no pairs"),
        ("{", "line 1 is not JSON"),
        ('{"image": "x.png", "prompt": "p", "chosen": "a"}', "missing or empty: rejected"),
        ('{"image": "x.png", "prompt": "p", "chosen": "a", "rejected": " "}', "missing or empty: a caption"),
        ('{"image": "x.png", "prompt": "p", "chosen": "a", "rejected": "b"}', "there is no image x.png"),
    ],
)
def test_an_invalid_pairs_file_is_rejected_with_its_path_and_flaw(tmp_path, text, message):
    (tmp_path / "pairs.jsonl").write_text(text)
    with pytest.raises(PairsError, match=message):
        read_pairs(tmp_path / "pairs.jsonl")
    with pytest.raises(PairsError, match="no pairs file"):
        read_pairs(tmp_path / "none.jsonl")


REVISER = "reviser.judge=rlcap.lab.oracles.reviser:OracleReviser"


@pytest.mark.parametrize(
    ("kind", "overrides", "message"),
    [
        (RefineConfig, ["accept={}"], "accept names no reward"),
        (RefineConfig, ["reviser.rounds=0"], "reviser.rounds"),
        (
            RefineConfig,
            [
                "accept.critique.reward=critique",
                REVISER,
                "accept.critique.params.judge=rlcap.lab.oracles.reviser:OracleReviser",
            ],
            "whoever accepts must be another",
        ),
        (
            RefineConfig,
            [
                "accept.critique.reward=critique",
                REVISER,
                "accept.critique.params.judge={backend: 'rlcap.lab.oracles.reviser:OracleReviser'}",
            ],
            "whoever accepts must be another",
        ),
        (DPOConfig, [], "pairs is empty"),
        (DPOConfig, ["pairs=x", "train.batch_size=9", "train.micro_batch=4"], "not a multiple of train.micro_batch 4"),
        (DPOConfig, ["pairs=x", "train.beta=0"], "train.beta"),
    ],
)
def test_a_config_error_names_the_wrong_key(kind, overrides, message):
    accept = (
        ["accept.length.reward=rlcap.rewards.length:Length"]
        if kind is RefineConfig and "accept={}" not in overrides
        else []
    )
    with pytest.raises(ConfigError, match=message):
        require_complete(load_config(kind, None, [*accept, *overrides]))
