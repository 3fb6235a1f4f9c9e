"""Callbacks of the trainers: progress bar, metrics file, checkpoints, scheduled evaluation, and Ctrl-C."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather, gather_object
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlcap.data.sampler import set_epoch
from rlcap.io.atomic import append_rows
from rlcap.reward.mix import RewardMix
from rlcap.train.checkpoints import checkpoint_path, delete_old_checkpoints, write_state
from rlcap.train.clock import Clock
from rlcap.train.run_folder import RunFolder

SUPERVISED = {"loss": "loss", "rewards/margins": "margin"}
"""Metric of supervised training → its label in the progress bar."""


class Progress(TrainerCallback):
    """A progress bar on the main process.

    In reinforcement it shows reward terms, their std within a group, abstentions and the length of captions. In
    supervised training it shows the loss.

    Args:
        terms: Names of the reward terms.
        name: Name of the recipe, which stands before the bar.
    """

    def __init__(self, terms: Sequence[str], name: str = "grpo") -> None:
        self.terms, self.name = tuple(terms), name
        self.bar: Any = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc=self.name, unit="step", dynamic_ncols=True
            )

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        logs: Mapping[str, Any] = given.get("logs") or {}
        if self.bar is None or not logs.keys() & {"loss", "completions/mean_words"}:
            return
        if "completions/mean_words" not in logs:  # in supervised training, the loss shows the progress
            parts = [f"{label} {logs[name]:.3f}" for name, label in SUPERVISED.items() if name in logs]
            self.bar.set_postfix_str(" ".join(parts), refresh=False)
            return
        parts = []
        for name in self.terms:
            mean, std = logs.get(f"reward/{name}/mean"), logs.get(f"reward/{name}/std_within_group")
            abstained = logs.get(f"reward/{name}/abstain_rate") or 0.0
            if mean is not None:
                spread = f"±{std:.2f}" if std is not None and math.isfinite(std) else ""
                parts.append(f"{name} {mean:.2f}{spread}" + (f" abstains {abstained:.0%}" if abstained else ""))
        self.bar.set_postfix_str(f"{' '.join(parts)} words {logs['completions/mean_words']:.0f}", refresh=False)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.bar is not None:
            self.bar.close()


class RunFolderInit(TrainerCallback):
    """Prepares the run folder on the main process, after the trainer has loaded its model and checkpoint.

    A start that fails earlier leaves the run folder unchanged. This callback must come before every callback that writes.

    Args:
        begin: Prepares the folder, such as `RunFolder.begin`. The other processes wait for the main process.
    """

    def __init__(self, begin: Callable[[], None]) -> None:
        self.begin = begin

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            self.begin()
        PartialState().wait_for_everyone()


class CheckpointState(TrainerCallback):
    """Completes each checkpoint with a file that lists all other files, so that a half-written checkpoint is noticed.

    Args:
        folder: The run folder.
        keep: Number of checkpoints that are kept. Older ones are deleted when the new one is complete.
        state: Returns the state that transformers does not save, as plain JSON values.
    """

    def __init__(self, folder: RunFolder, keep: int, state: Callable[[], Mapping[str, Any]] = dict) -> None:
        self.folder, self.keep, self.state = folder, keep, state

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            write_state(checkpoint_path(self.folder.checkpoints, state.global_step), self.state())
            delete_old_checkpoints(self.folder.checkpoints, self.keep)


class MetricsFile(TrainerCallback):
    """Writes one row of metrics.jsonl per optimiser step.

    Args:
        folder: The run folder.
        clock: Gives the seconds of a row, which include the earlier sessions of the run.
    """

    def __init__(self, folder: RunFolder, clock: Clock) -> None:
        self.folder, self.clock = folder, clock

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        logs: Mapping[str, Any] = given.get("logs") or {}
        if not state.is_world_process_zero or not logs.keys() & {"loss", "grad_norm"}:
            return
        kept = {k: v for k, v in logs.items() if isinstance(v, int | float) and math.isfinite(v)}
        row = {"step": state.global_step, "seconds": self.clock.seconds(), "metrics": kept}
        append_rows(self.folder.metrics, [row], "the metrics")


class Schedule(TrainerCallback):
    """Evaluates before the first step, every `every` steps, and after the last step.

    A resumed run has its earlier evaluations on disk and does not repeat them.

    Args:
        evaluate: Called with (step, final). Every process calls it.
        every: Optimiser steps between two evaluations.
    """

    def __init__(self, evaluate: Callable[[int, bool], None], every: int) -> None:
        self.evaluate, self.every, self.last = evaluate, every, -1

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.last = state.global_step
        if state.global_step == 0:
            self.evaluate(0, False)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.every == 0 and state.global_step < state.max_steps:
            self.last = state.global_step
            self.evaluate(state.global_step, False)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.evaluate(state.global_step, True)


class RewardStop(TrainerCallback):
    """Saves a checkpoint and stops all processes when the rewards can't go on: a judge is down, or its budget is spent.

    Args:
        mix: The reward mix, which knows recent abstentions and the budgets of its judges.
        steps: As in `Interrupt`.
    """

    def __init__(self, mix: RewardMix, steps: int = 1) -> None:
        self.mix, self.steps = mix, steps

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> Any:
        if state.global_step % self.steps:
            return control
        reasons = [reason for reason in gather_object([self.mix.stop_reason]) if reason]
        if reasons:
            control.should_save = control.should_training_stop = True
            if state.is_world_process_zero:
                message = f"\nsaving a checkpoint and stopping: {reasons[0]}; then continue with resume=auto"
                print(message, flush=True)
        return control


class EpochOrder(TrainerCallback):
    """Sets the epoch of the sampler at the start of each epoch.

    After resuming, accelerate's wrappers around the sampler would not pass the epoch on.
    """

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **_: Any,
    ) -> None:
        set_epoch(train_dataloader, int(state.epoch or 0))


class Interrupt(TrainerCallback):
    """After Ctrl-C or SIGTERM, lets all processes finish the step, save a checkpoint and stop.

    A second Ctrl-C stops the process immediately.

    Args:
        steps: Optimiser steps that learn from the same captions. A run stops only after the last of them, because a
            checkpoint does not contain the captions that the following steps need.
    """

    def __init__(self, steps: int = 1) -> None:
        self.steps, self.is_requested, self.since = steps, False, 0.0
        self.previous: dict[int, Any] = {}

    def _handle_signal(self, number: int, _frame: FrameType | None) -> None:
        # After Ctrl-C, a launcher also sends a SIGTERM to its processes. This is not a second request.
        if self.is_requested and number == signal.SIGINT and time.monotonic() - self.since > 1:
            raise KeyboardInterrupt
        if not self.is_requested:
            self.is_requested, self.since = True, time.monotonic()
            print("\nstopping with a checkpoint after this step; press Ctrl-C again to stop immediately", flush=True)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous[number] = signal.signal(number, self._handle_signal)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> Any:
        if state.global_step % self.steps == 0 and _is_set_anywhere(self.is_requested):
            control.should_save = control.should_training_stop = True
        return control

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def _is_set_anywhere(flag: bool) -> bool:
    """Return whether the flag is set on any process.

    A signal can reach the processes at different steps, but all of them must stop after the same step.
    """
    if PartialState().num_processes == 1:
        return flag
    flags = torch.tensor([float(flag)], device=PartialState().device)
    return bool(gather(flags).any())
