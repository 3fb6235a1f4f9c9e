"""A reinforcement recipe from its configuration to the trainer, and from the trained policy to the report.

    context = prepare_run(config, "grpo", started)
    trainer = GRPOTrainer(**context.trainer_kwargs())
    context.run(trainer)

What every recipe of the kind has in common stands here, in the order in which it happens.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import set_seed

from rlcap.config.schema import GRPOConfig, mix_entries
from rlcap.data import curriculum as curricula
from rlcap.data.batching import Batching, plan
from rlcap.data.source import instruction_for, load_splits
from rlcap.errors import ConfigError
from rlcap.eval.over_optimization import describe_alarm
from rlcap.eval.report.page import write_report
from rlcap.eval.summary import summarise
from rlcap.policy.loading import Policy, load_policy
from rlcap.policy.visual_tokens import count_visual_tokens, describe_visual_tokens
from rlcap.reward.mix import RewardMix, check_mix
from rlcap.train.callbacks import BudgetStop, Interrupt, MetricsFile, Progress, RunFolderInit, Schedule
from rlcap.train.clock import Clock
from rlcap.train.evaluation import Evaluation, build_evaluator
from rlcap.train.memory_check import check_memory
from rlcap.train.run_folder import RunFolder, step_of
from rlcap.train.saving import save_tuned
from rlcap.types import Sample


def say(text: str) -> None:
    """Print, once for all processes."""
    if PartialState().is_main_process:
        print(text)


@dataclass
class RunContext:
    """One process's part of a run; `prepare_run` makes it."""

    recipe: str
    config: GRPOConfig
    folder: RunFolder
    checkpoint: Path | None
    """What the run goes on from."""
    clock: Clock
    splits: Mapping[str, Sequence[Sample]]
    instruction: str
    batching: Batching
    curriculum: curricula.Curriculum
    mix: RewardMix
    policy: Policy
    evaluation: Evaluation

    @property
    def gallery(self) -> dict[str, str]:
        """Id → path of the training images, which bags are made of."""
        return {sample.id: sample.image for sample in self.splits["train"]}

    def trainer_kwargs(self) -> dict[str, Any]:
        """The arguments of `GRPOTrainer` and its kin."""
        facts = {"trainable_parameters": self.policy.trainable_parameters, "processes": PartialState().num_processes}
        before = {"seconds_before": self.clock.before}
        return {
            "model": self.policy.model,
            "processor": self.policy.processor,
            "samples": self.splits["train"],
            "config": self.config,
            "batching": self.batching,
            "folder": self.folder,
            "mix": self.mix,
            "curriculum": self.curriculum,
            "gallery": self.gallery,
            "instruction": self.instruction,
            "callbacks": [
                RunFolderInit(
                    functools.partial(
                        self.folder.begin, self.config, self.splits, step_of(self.checkpoint), **before, **facts
                    )
                ),
                Progress(self.mix.names, self.recipe),
                MetricsFile(self.folder, self.clock),
                Schedule(self.evaluation, self.config.evaluation.every),
                BudgetStop(self.mix, self.batching.steps_per_generation_round()),
                Interrupt(self.batching.steps_per_generation_round()),
            ],
        }

    def run(self, trainer: Any) -> None:
        """Try the largest image, train, and leave adapter, summary and report in the run folder."""
        self.evaluation.trainer = trainer
        if not trainer.is_deepspeed_enabled:  # which shards the weights later
            captioner, tokens = self.policy.captioner, self.config.generation.max_new_tokens
            value_model = getattr(trainer, "value_model", None)
            paths = list(self.gallery.values())
            say(check_memory(captioner, paths, self.batching, self.instruction, tokens, value_model).describe())
        if self.checkpoint:
            trainer.restore(self.checkpoint)
        trainer.train(resume_from_checkpoint=str(self.checkpoint) if self.checkpoint else None)
        save_tuned(trainer, self.policy.processor, self.folder.adapter)
        if PartialState().is_main_process:
            summary = summarise(self.folder.root, self.clock.seconds())
            for alarm in summary["alarms"]:
                print(f"OVER-OPTIMIZATION on {alarm['split']}: {describe_alarm(alarm)}")
            print(f"report: {write_report(self.folder.root)}")
            if "wandb" in self.config.report_to:
                from rlcap.train.wandb_tables import log_tables

                log_tables(self.folder)


def describe_bags(samples: Sequence[Sample], curriculum: curricula.Curriculum) -> str:
    """One line for the start of a run: whether the images have the look-alikes that the curriculum asks for."""
    stages = getattr(curriculum, "stages", (curriculum,))
    level, largest = stages[0].level, max(getattr(s, "bag_size", None) or max(s.sizes) for s in stages)
    if level == "random":
        return f"bags: random images, up to {largest - 1} beside an image's own"
    counts = [len(sample.distractors.get(level, ())) for sample in samples]
    if not any(counts):
        return (
            f"bags: WARNING no training image has look-alikes of level {level!r}, and captions are compared with random images "
            "alone; `rlcap bags mine` finds some (data.bags)"
        )
    short = sum(count < largest - 1 for count in counts)
    some = f"; {short} of {len(counts)} have fewer, and smaller bags" if short else ""
    return f"bags: up to {largest - 1} look-alikes of level {level!r} beside an image's own{some}"


def prepare_run(config: GRPOConfig, recipe: str, started: float) -> RunContext:
    """Everything before the trainer. started: `time.monotonic()` at the recipe's start.

    Raises InputError where something that the user gave can't be used; nothing has been written by then.
    """
    # Told that there is no GPU, accelerate joins CPU processes over gloo; untold, each would believe it is alone.
    state = PartialState(cpu=not torch.cuda.is_available())
    set_seed(config.train.seed)
    folder = RunFolder.choose(recipe, config.name, config.output_dir, config.resume)
    checkpoint = folder.checkpoint(config.resume, config.train.steps) if config.resume else None
    if config.resume:
        say(f"resuming from {checkpoint or 'the beginning: there is no whole checkpoint yet'}")
        folder.check_same_run(recipe, config.train.seed)
    clock = Clock(folder, started)

    # ---- what can be refused before anything is loaded: batches, curriculum, mix ---------------------------------
    train = config.train
    if train.use_vllm and not torch.cuda.is_available():
        raise ConfigError(
            "train.use_vllm is for GPUs, and this machine has none that torch can use: train.use_vllm=false"
        )
    batching = plan(
        train.images_per_step,
        train.captions_per_image,
        train.micro_batch,
        processes=state.num_processes,
        num_iterations=train.iterations,
        minibatches=train.minibatches,
    )
    curriculum = curricula.parse(config.curriculum)
    asked = mix_entries(config.mix)
    check_mix(asked, ("device", "gallery"))

    # ---- data: rows with paths; the main process draws the lab's images, the others find them ----------------------
    with state.main_process_first():
        splits, lines = load_splits(config.data)
    if checkpoint:
        folder.check_same_run(recipe, config.train.seed, splits)
    say("\n".join(lines))
    instruction, images = instruction_for(config.data), [sample.image for sample in splits["train"]]
    say(batching.describe())
    say(curricula.describe(curriculum))
    say(describe_bags(splits["train"], curriculum))

    # ---- frozen scorers, before any DeepSpeed configuration exists -------------------------------------------------
    mix = RewardMix.from_config(
        asked,
        context={"device": str(state.device), "gallery": images},
        max_abstain=train.max_abstain,
    )
    evaluator = build_evaluator(config, splits, instruction, folder, str(state.device))

    # ---- the policy: base + adapter; the reference model is the adapter as it is now -------------------------------
    policy = load_policy(config.model)
    say(policy.describe())
    say(describe_visual_tokens(count_visual_tokens(policy.captioner, images)))
    evaluation = Evaluation(evaluator, policy, mix, splits, folder, config.evaluation)
    return RunContext(
        recipe, config, folder, checkpoint, clock, splits, instruction, batching, curriculum, mix, policy, evaluation
    )
