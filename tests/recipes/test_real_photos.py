"""What real photos need of the recipes: splits that are drawn, towers that stay as they were, no validation, and the whole way."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from rlcap.config import ConfigError, DataConfig, EvaluationConfig, GRPOConfig
from rlcap.data.load import load_splits
from rlcap.types import Sample


def rows_on_disk(folder: Path, n: int) -> Path:
    """n tiny photos sorted by what they show: the first half is one class, the second another."""
    lines = []
    for i in range(n):
        Image.new("RGB", (8 + i, 6), (i, 0, 0)).save(folder / f"{i}.png")
        lines.append(
            json.dumps({"id": f"{i:03}", "image": f"{i}.png", "references": ["a cat" if i < n // 2 else "a dog"]})
        )
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return folder / "rows.jsonl"


def splits_of(source: Path, **changes) -> dict[str, list[Sample]]:
    return load_splits(DataConfig(**{"source": str(source), "prior_breaking": 0, "train": None, **changes}))[0]


def test_splits_of_a_sorted_source_are_drawn_and_never_meet(tmp_path):
    splits = splits_of(rows_on_disk(tmp_path, 60), validation=14, test=16, train=20)
    ids = {name: {sample.id for sample in rows} for name, rows in splits.items()}
    assert {name: len(found) for name, found in ids.items()} == {"train": 20, "validation": 14, "test": 16}
    assert len(set.union(*ids.values())) == 50
    for rows in splits.values():  # taken from an end, each would hold one class alone
        assert {sample.references[0] for sample in rows} == {"a cat", "a dog"}


def test_more_training_images_leave_what_is_held_out_alone(tmp_path):
    source = rows_on_disk(tmp_path, 30)
    few, all_of_them = splits_of(source, validation=3, test=5, train=4), splits_of(source, validation=3, test=5)
    assert few["test"] == all_of_them["test"]
    assert few["validation"] == all_of_them["validation"]
    assert len(all_of_them["train"]) == 22


def test_holding_out_everything_is_refused_by_number(tmp_path):
    with pytest.raises(ConfigError, match="hold out 8 of 8"):
        splits_of(rows_on_disk(tmp_path, 8), validation=4, test=4)


def test_frozen_batch_norm_keeps_its_statistics_in_training():
    from rlcap.policy.load import keep_frozen_statistics

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3), torch.nn.Dropout())
    model[0].requires_grad_(False)
    keep_frozen_statistics(model)
    model.train()
    model(torch.randn(4, 3, 5, 5) + 7)
    assert model[0].running_mean.tolist() == [0, 0, 0]
    assert not model[0].training
    assert model[1].running_mean.abs().sum() > 0  # a trained one still learns them
    assert model[2].training


def test_a_run_without_validation_follows_test_images_from_start_to_end(tmp_path):
    from rlcap.train.evaluate import Evaluation, build_evaluator

    rows = [Sample(str(i), f"{i}.jpg") for i in range(4)]
    evaluation = Evaluation(None, None, None, {"train": rows, "test": rows[2:]}, None, EvaluationConfig(panel=1))
    assert evaluation.panel == rows[2:3]
    assert evaluation(20, False) is None  # in between there is nothing to read: the trainer is not even asked
    with pytest.raises(ConfigError, match=r"data\.test"):
        build_evaluator(GRPOConfig(), {"train": rows}, "", None, "cpu")
