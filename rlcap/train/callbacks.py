"""What happens around optimiser steps: progress bar, metrics file, checkpoints, evaluation by schedule and Ctrl-C."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather, gather_object
from tqdm import tqdm
from transformers import TrainerCallback

from rlcap.data.sampler import set_epoch
from rlcap.reward.mix import RewardMix
from rlcap.train.clock import Clock
from rlcap.train.run_folder import RunFolder, append_lines, write_state

SUPERVISED = {"loss": "loss", "rewards/margins": "margin"}
"""Metric of supervised training → its label in the progress bar."""


class Progress(TrainerCallback):
    """A progress bar on the main process.

    In reinforcement it shows reward components, their std within a group, abstentions and the length of captions. In
    supervised training it shows the loss.
    """

    def __init__(self, components: Sequence[str], name: str = "grpo") -> None:
        self.components, self.name = tuple(components), name
        self.bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc=self.name, unit="step", dynamic_ncols=True
            )

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        if self.bar is None or not logs or not logs.keys() & {"loss", "completions/mean_words"}:
            return
        if "completions/mean_words" not in logs:  # supervised: the loss says how the run is going
            parts = [f"{label} {logs[name]:.3f}" for name, label in SUPERVISED.items() if name in logs]
            self.bar.set_postfix_str(" ".join(parts), refresh=False)
            return
        parts = []
        for name in self.components:
            mean, std = logs.get(f"reward/{name}/mean"), logs.get(f"reward/{name}/std_within_group")
            abstained = logs.get(f"reward/{name}/abstain_rate") or 0.0
            if mean is not None:
                spread = f"±{std:.2f}" if std is not None and math.isfinite(std) else ""
                parts.append(f"{name} {mean:.2f}{spread}" + (f" abstains {abstained:.0%}" if abstained else ""))
        self.bar.set_postfix_str(f"{' '.join(parts)} words {logs['completions/mean_words']:.0f}", refresh=False)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None:
            self.bar.close()


class RunFolderInit(TrainerCallback):
    """Calls `begin()` on the main process when the trainer has loaded its model and checkpoint; the others wait for it.

    A start that fails before that leaves the run folder as it was. It must stand before every callback that writes.
    """

    def __init__(self, begin: Callable[[], None]) -> None:
        self.begin = begin

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self.begin()
        PartialState().wait_for_everyone()


class CheckpointState(TrainerCallback):
    """Completes each checkpoint with the file that says which other files must be there.

    Args:
        folder: The run folder.
        state: Returns what resuming needs beside weights, optimiser and generators; JSON-able.
    """

    def __init__(self, folder: RunFolder, state: Callable[[], Mapping[str, Any]] = dict) -> None:
        self.folder, self.state = folder, state

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            write_state(self.folder.checkpoints / f"checkpoint-{state.global_step}", self.state())


class MetricsFile(TrainerCallback):
    """Writes a row of metrics.jsonl for each optimiser step. Its seconds include the earlier sessions of the run."""

    def __init__(self, folder: RunFolder, clock: Clock) -> None:
        self.folder, self.clock = folder, clock

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        if not state.is_world_process_zero or not logs or ("loss" not in logs and "grad_norm" not in logs):
            return
        kept = {k: v for k, v in logs.items() if isinstance(v, int | float) and math.isfinite(v)}
        append_lines(
            self.folder.metrics, [{"step": state.global_step, "seconds": self.clock.seconds(), "metrics": kept}]
        )


class Schedule(TrainerCallback):
    """Calls `evaluate(step, final)` before the first step, every `every` steps, and after the last.

    A run that resumes has its earlier evaluations on disk and does not repeat them.
    """

    def __init__(self, evaluate: Callable[[int, bool], None], every: int) -> None:
        self.evaluate, self.every, self.last = evaluate, every, -1

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.last = state.global_step
        if state.global_step == 0:
            self.evaluate(0, False)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.every == 0 and state.global_step < state.max_steps:
            self.last = state.global_step
            self.evaluate(state.global_step, False)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.evaluate(state.global_step, True)


class BudgetStop(TrainerCallback):
    """Stops all processes with a checkpoint when the budget of a judge has no room for another step.

    Args:
        mix: The mix of rewards, which knows the budgets of its judges.
        steps: As of `Interrupt`.
    """

    def __init__(self, mix: RewardMix, steps: int = 1) -> None:
        self.mix, self.steps = mix, steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if state.global_step % self.steps:
            return control
        reasons = [reason for reason in gather_object([self.mix.stop_reason]) if reason]
        if reasons:
            control.should_save = control.should_training_stop = True
            if state.is_world_process_zero:
                print(f"\nstopping with a checkpoint: {reasons[0]}; raise it and go on with resume=auto", flush=True)
        return control


class EpochOrder(TrainerCallback):
    """Tells the sampler its epoch, also where accelerate's wrappers would lose it after resuming."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        set_epoch(train_dataloader, int(state.epoch or 0))


class Interrupt(TrainerCallback):
    """After Ctrl-C or SIGTERM, lets all processes finish the step, write a checkpoint and stop.

    A second Ctrl-C stops at once.

    Args:
        steps: Number of optimiser steps that learn from the same captions. A run stops after the last of them: from a
            checkpoint in between it could not go on as if it had never stopped.
    """

    def __init__(self, steps: int = 1) -> None:
        self.steps, self.asked, self.since = steps, False, 0.0
        self.previous: dict[int, Any] = {}

    def _ask(self, number: int, _frame: Any) -> None:
        # A launcher that is stopped by Ctrl-C also sends its processes a SIGTERM, which is not a second request.
        if self.asked and number == signal.SIGINT and time.monotonic() - self.since > 1:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self.since = True, time.monotonic()
            print("\nstopping after this step with a checkpoint; once more stops at once", flush=True)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous[number] = signal.signal(number, self._ask)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if state.global_step % self.steps == 0 and _anywhere(self.asked):
            control.should_save = control.should_training_stop = True
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def _anywhere(flag: bool) -> bool:
    """Return whether the flag is set on any process: a signal may reach them at different steps, but all must stop together."""
    if PartialState().num_processes == 1:
        return flag
    flags = torch.tensor([float(flag)], device=PartialState().device)
    return bool(gather(flags).any())
