"""The part that all training recipes have in common: choosing the run folder, resuming from a checkpoint, and saving.

    run = open_run(config, "sft", started)
    run.load_data()
    trainer = build_trainer(..., callbacks=run.callbacks(policy))
    run.train(trainer, policy.processor)

`rlcap.train.run_context` adds the parts of reinforcement: a reward mix, a curriculum and scheduled evaluation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from transformers import TrainerCallback

from rlcap.config.schema import GRPOConfig
from rlcap.config.supervised import DPOConfig, SFTConfig
from rlcap.data.control import Instruction
from rlcap.data.source import load_instruction, load_splits
from rlcap.errors import DataError
from rlcap.policy.captioner import unwrap_model
from rlcap.policy.loading import Policy
from rlcap.policy.unusable_images import find_unusable
from rlcap.train.callbacks import Interrupt, MetricsFile, Progress, RunFolderInit
from rlcap.train.changed_settings import describe_changes
from rlcap.train.checkpoints import step_of
from rlcap.train.clock import Clock
from rlcap.train.run_folder import RunFolder
from rlcap.train.saving import save_tuned
from rlcap.train.trackers import describe_what_is_not_sent
from rlcap.types import Sample


def say(text: str) -> None:
    """Print a text on the main process only."""
    if PartialState().is_main_process:
        print(text)


def join_processes() -> PartialState:
    """Return the state that this process shares with the other processes of the run.

    Without a GPU, accelerate needs the argument `cpu`. With it, accelerate connects the processes over gloo; without it,
    each process would run as if it were the only one.
    """
    return PartialState(cpu=not torch.cuda.is_available())


@dataclass
class OpenRun:
    """A run whose folder is chosen and whose checkpoint is found. `open_run` makes it."""

    recipe: str
    """Name of the recipe, such as `sft`."""
    config: GRPOConfig | SFTConfig | DPOConfig
    """The checked configuration."""
    state: PartialState
    """The processes of the run."""
    folder: RunFolder
    """The run folder. It stays unchanged until training begins."""
    checkpoint: Path | None
    """The checkpoint from which the run continues; None for a run that starts from the beginning."""
    clock: Clock
    """Seconds of the run, earlier sessions included."""
    splits: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    """Name of a split → its samples, after `load_data`."""
    instruction: Instruction = field(default_factory=lambda: Instruction(""))
    """The instruction to the captioner with the words of controls, after `load_data`."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Further entries of `run.json`."""

    def load_data(self) -> None:
        """Load the configured splits and the instruction.

        The main process goes first. It renders the images of a generated data set, and the others then find them on disk.

        Raises:
            ConfigError: The resumed run was started with other images.
            InputError: The data can't be used.
        """
        with self.state.main_process_first():
            self.splits, lines = load_splits(self.config.data)
        if self.checkpoint:
            self.folder.check_same_run(self.recipe, self.config.train.seed, self.splits)
        say("\n".join(lines))
        self.instruction = load_instruction(self.config.data)

    def drop_unusable_images(self, policy: Policy) -> bool:
        """Leave out the samples whose image the captioner can't read, or stop, as `data.on_bad` says.

        Returns:
            Whether a sample was left out.

        Raises:
            DataError: `data.on_bad` is `error`, and there is such an image.
        """
        paths = [sample.image for samples in self.splits.values() for sample in samples]
        unusable = find_unusable(policy.captioner, paths)
        if not unusable:
            return False
        names = [(s.id, s.image) for samples in self.splits.values() for s in samples if s.image in unusable]
        (id, image), count = names[0], len(names)
        if self.config.data.on_bad == "error":
            raise DataError(f"id {id!r}: {image}: {unusable[image]}; or skip such rows with data.on_bad=skip")
        self.splits = {n: [s for s in rows if s.image not in unusable] for n, rows in self.splits.items()}
        say(f"skipped {count} images that the captioner can't read, such as {image}: {unusable[image]}")
        return True

    def callbacks(
        self,
        policy: Policy,
        *,
        terms: Sequence[str] = (),
        schedule: Sequence[TrainerCallback] = (),
        round_steps: int = 1,
        **facts: Any,
    ) -> list[TrainerCallback]:
        """Return the callbacks of the trainer in the order in which they are called.

        Args:
            policy: The model that is trained.
            terms: Names of the reward terms that the progress bar shows.
            schedule: Callbacks that evaluate or stop the run. They come after the callbacks that write metrics.
            round_steps: Optimiser steps that learn from the same captions. An interrupted run stops after the last of them.
            **facts: Further entries of `run.json`.
        """
        self.facts |= {
            "trainable_parameters": policy.trainable_parameters,
            "processes": self.state.num_processes,
            "seconds_before": self.clock.before,
            "instruction": self.instruction.text,
            **facts,
        }
        return [
            RunFolderInit(self._begin),
            Progress(terms, self.recipe),
            MetricsFile(self.folder, self.clock),
            *schedule,
            Interrupt(round_steps),
        ]

    def _begin(self) -> None:
        self.folder.begin(self.config, self.splits, step_of(self.checkpoint), **self.facts)

    def train(self, trainer: Any, processor: Any) -> bool:
        """Train from the checkpoint or from the beginning, and save the trained weights to `adapter/` in the run folder.

        Args:
            trainer: The trainer.
            processor: The processor of the model.

        Returns:
            Whether the run reached its last step. An interrupted run does not, nor does a run whose budget is exhausted.
        """
        self.facts["precision"] = trainer.accelerator.mixed_precision
        self.facts["dtype"] = str(unwrap_model(trainer.model).dtype).removeprefix("torch.")
        if self.checkpoint:
            self.folder.check_precision(self.facts["precision"], self.facts["dtype"])
        trainer.train(resume_from_checkpoint=str(self.checkpoint) if self.checkpoint else None)
        trainer.check_weights()
        save_tuned(trainer, processor, self.folder.adapter)
        step, steps = trainer.state.global_step, trainer.state.max_steps
        if step < steps:
            say(
                f"stopped after step {step} of {steps}; to continue, run the same command with --output_dir "
                f"{self.folder.root} resume=auto"
            )
        return step >= steps


def open_run(config: GRPOConfig | SFTConfig | DPOConfig, recipe: str, started: float) -> OpenRun:
    """Choose the run folder and the checkpoint, and seed the random generators. The run folder stays unchanged.

    Args:
        config: The checked configuration.
        recipe: Name of the recipe, such as `sft`.
        started: `time.monotonic()` at the start of the recipe.

    Raises:
        ConfigError: The folder already holds a run and `resume` is not set, or the run can't be resumed.
    """
    state = join_processes()
    set_seed(config.train.seed)
    folder = RunFolder.choose(recipe, config.name, config.output_dir, config.resume)
    if config.resume and state.is_main_process and folder.root.is_dir():
        folder.lock()  # before anything is read, because another process may still write
    if (left := describe_what_is_not_sent(config.report_to)) and recipe != "sft":  # SFT measures no held-out images
        say(left)
    if "tensorboard" in config.report_to:  # its default would lie among the checkpoints
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder.root / "tensorboard"))
    checkpoint = folder.checkpoint(config.resume, config.train.steps) if config.resume else None
    if config.resume:
        say("\n".join([*folder.passed_over, ""]) if folder.passed_over else "")
        say(f"resuming from {checkpoint or 'the beginning, because there is no complete checkpoint yet'}")
        folder.check_same_run(recipe, config.train.seed)
        if changes := describe_changes(folder.root / "config.yaml", config):
            say("settings that differ from those of the run so far:\n" + "\n".join(f"  {line}" for line in changes))
    return OpenRun(recipe, config, state, folder, checkpoint, Clock(folder, started))
