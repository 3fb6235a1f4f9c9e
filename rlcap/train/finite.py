"""Stops a run whose numbers are not finite any more, before it spoils what was already learnt.

A loss, a gradient or a weight becomes infinite or NaN when the learning rate is too high, when a model overflows in float16,
or when a file was damaged. From then on every step learns nothing, and a checkpoint would overwrite a good one. The checks
stand at each boundary: the loaded weights, the log-probabilities of the sampled captions, the loss of each micro-batch, the
norm of the gradient before each optimiser step, and the weights before each save.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from rlcap.errors import NotFiniteError
from rlcap.io.atomic import make_folder, storage_errors, write_text
from rlcap.train.checkpoints import STATE, list_checkpoints


def find_not_finite(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Return the names of the floating-point tensors that contain an infinite value or a NaN."""
    return [name for name, tensor in tensors if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())]


def describe_names(names: list[str]) -> str:
    """Return how many tensors there are and the first name, for a message."""
    return f"{len(names)} tensors, such as {names[0]}"


class FiniteTraining:
    """A mixin for trainers that stops at the first number that is not finite.

    The batch that caused it is written to `failed-step-N/` in the run folder. The last checkpoint stays as it is.
    """

    args: Any
    state: Any
    model: Any
    processing_class: Any
    _last_inputs: Any = None
    """The inputs of the last micro-batch: a mapping, or a list of rows."""

    def training_step(self, model: torch.nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Run one forward and backward pass, and check its loss.

        Raises:
            NotFiniteError: The loss is not finite.
        """
        self._last_inputs = inputs
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        if not bool(torch.isfinite(loss).all()):
            raise self.not_finite(f"the loss is {float(loss)}")
        return loss

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[misc]
        if norm is not None and not bool(torch.isfinite(torch.as_tensor(norm)).all()):
            gradients = ((name, p.grad) for name, p in model.named_parameters() if p.grad is not None)
            names = find_not_finite(gradients)
            where = f" ({describe_names(names)})" if names else ""
            raise self.not_finite(f"the norm of the gradient is {float(norm)}{where}")
        return norm

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self.check_weights()
        step = self.state.global_step
        with storage_errors(self.args.output_dir, f"the checkpoint of step {step}"):
            super()._save_checkpoint(model, trial)  # type: ignore[misc]

    def check_weights(self) -> None:
        """Check the trained weights.

        Raises:
            NotFiniteError: One of them is not finite.
        """
        trained = ((name, p.data) for name, p in self.model.named_parameters() if p.requires_grad)
        if names := find_not_finite(trained):
            raise self.not_finite(f"the trained weights are not finite ({describe_names(names)})")

    def not_finite(self, cause: str) -> NotFiniteError:
        """Save the last batch and return the error that stops the run.

        Args:
            cause: What is not finite.
        """
        checkpoints, step = Path(self.args.output_dir), self.state.global_step + 1
        folder = checkpoints.parent / f"failed-step-{step}"
        save_batch(self._last_inputs, folder, cause, self.processing_class)
        kept = next((path for path in list_checkpoints(checkpoints) if (path / STATE).is_file()), None)
        advice = f"lower train.learning_rate (now {self.args.learning_rate:g}), then continue with resume=auto"
        return NotFiniteError(
            f"step {step}: {cause}. The batch is in {folder}; the last checkpoint is {kept.name if kept else 'none'}. "
            + (advice if kept else f"lower train.learning_rate (now {self.args.learning_rate:g}) and start again")
        )


def save_batch(inputs: Any, folder: Path, cause: str, tokenizer: Any = None) -> None:
    """Write the tensors of a batch as safetensors, and its captions and the cause as JSON.

    Args:
        inputs: The inputs of the last micro-batch: a mapping, whose values that are not tensors are left out, or a list of rows.
        folder: The folder to write.
        cause: What was not finite.
        tokenizer: Turns ids into text; None leaves the text out.
    """
    make_folder(folder, "the batch that failed")
    named = inputs if isinstance(inputs, Mapping) else {}
    tensors = {
        name: value.detach().cpu().contiguous().clone() for name, value in named.items() if torch.is_tensor(value)
    }
    with storage_errors(folder, "the batch that failed"):
        save_file(tensors, folder / "batch.safetensors")
    content: dict[str, Any] = {"cause": cause, "tensors": {name: list(value.shape) for name, value in tensors.items()}}
    if isinstance(inputs, list):
        content["rows"] = [
            {key: str(value) for key, value in row.items()} for row in inputs if isinstance(row, Mapping)
        ]
    ids = tensors.get("completion_ids", tensors.get("input_ids"))
    if ids is not None and hasattr(tokenizer, "batch_decode"):
        content["texts"] = tokenizer.batch_decode(ids.clamp(min=0), skip_special_tokens=True)
    write_text(folder / "cause.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n", "the batch that failed")
