"""A run stops at the first number that is not finite, keeps the last checkpoint, and saves the batch."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from rlcap.errors import NotFiniteError, StorageError
from rlcap.train.callbacks import CheckpointState
from rlcap.train.finite import FiniteTraining, find_not_finite, save_batch
from rlcap.train.run_folder import RunFolder


class Line(torch.nn.Module):
    """y = w · x; the loss is y, its gradient x."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return {"loss": (self.w * x).mean()}


class LineTrainer(FiniteTraining, Trainer):
    pass


def train(folder, values, learning_rate=0.1, **options):
    """Train one step on each value, with a checkpoint after each step."""
    arguments = TrainingArguments(
        output_dir=str(folder.checkpoints), max_steps=len(values), learning_rate=learning_rate, save_steps=1, report_to="none",
        per_device_train_batch_size=1, use_cpu=True, logging_nan_inf_filter=False, disable_tqdm=True, logging_steps=1,
        lr_scheduler_type="constant", optim="sgd", **options,
    )  # fmt: skip
    rows = [{"x": torch.tensor([value])} for value in values]
    trainer = LineTrainer(Line(), arguments, train_dataset=rows, callbacks=[CheckpointState(folder, 2)])
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(rows)
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("bad", "cause"), [(math.nan, "the loss is nan"), (math.inf, "the loss is inf"), (-math.inf, "the loss is -inf")]
)
def test_a_loss_that_is_not_finite(tmp_path, bad, cause):
    folder = RunFolder(tmp_path)
    with pytest.raises(
        NotFiniteError, match=rf"step 3: {cause}\. .*last checkpoint is checkpoint-2\. lower train"
    ) as error:
        train(folder, [1.0, 2.0, bad, 1.0])
    assert "(now 0.1), then continue with resume=auto" in str(error.value)
    saved = load_file(tmp_path / "failed-step-3" / "batch.safetensors")["x"]
    assert saved.flatten().tolist() == pytest.approx([bad], nan_ok=True)
    assert json.loads((tmp_path / "failed-step-3" / "cause.json").read_text())["cause"] == cause
    assert folder.checkpoint("auto", 9).name == "checkpoint-2"


def test_a_gradient_that_is_not_finite_changes_no_weight(tmp_path):
    class Steep(Line):
        def forward(self, x):
            return {"loss": torch.sqrt((self.w * x - x).abs()).sum() + 0 * x.sum()}  # slope ∞ at w = 1

    folder = RunFolder(tmp_path)
    Line.forward, before = Steep.forward, Line.forward
    try:
        with pytest.raises(
            NotFiniteError, match=r"step 1: the norm of the gradient is (nan|inf) \(1 tensors, such as w\)"
        ):
            train(folder, [1.0])
    finally:
        Line.forward = before
    assert not folder.checkpoints.exists() or not list(folder.checkpoints.iterdir())


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(NotFiniteError, match=r"step 2: the trained weights are not finite \(1 tensors, such as w\)"):
        train(folder, [3.0, 1.0], learning_rate=3.0e38, max_grad_norm=0.0)
    assert not list(folder.checkpoints.glob("*/*.safetensors"))


def test_a_finite_run_ends(tmp_path):
    trainer = train(RunFolder(tmp_path), [1.0, 1.0])
    trainer.check_weights()
    assert [path.name for path in tmp_path.iterdir() if "failed" in path.name] == []


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", fail)
    with pytest.raises(StorageError, match=r"the checkpoint of step 1 can't be written to .*: the disk is full"):
        train(RunFolder(tmp_path), [1.0])


def test_find_not_finite():
    tensors = {
        "a": torch.ones(2),
        "b": torch.tensor([1.0, math.nan]),
        "c": torch.tensor([math.inf]),
        "d": torch.tensor([1]),
    }
    assert find_not_finite(tensors.items()) == ["b", "c"]


def test_rows_are_saved_as_text(tmp_path):
    save_batch([{"image": "a.jpg", "text": "A dog."}], tmp_path / "x", "the loss is nan")
    assert json.loads((tmp_path / "x" / "cause.json").read_text())["rows"] == [{"image": "a.jpg", "text": "A dog."}]
