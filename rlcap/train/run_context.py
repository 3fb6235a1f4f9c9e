"""The common part of the reinforcement recipes: from the configuration to the trainer, and from training to the report.

    context = prepare_run(config, "grpo", started)
    trainer = GRPOTrainer(**context.trainer_kwargs())
    context.run(trainer)

The code follows the order in which things happen in a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType

from rlcap.config.schema import GRPOConfig, mix_entries
from rlcap.data import curriculum as curricula
from rlcap.data.batching import Batching, plan
from rlcap.errors import ConfigError
from rlcap.eval.over_optimization import describe_alarm
from rlcap.eval.report.page import write_report
from rlcap.eval.summary import summarise
from rlcap.policy.loading import Policy, load_policy
from rlcap.policy.visual_tokens import count_visual_tokens, describe_visual_tokens
from rlcap.reward.context import reward_context
from rlcap.reward.mix import RewardMix, check_mix
from rlcap.train.callbacks import RewardStop, Schedule
from rlcap.train.evaluation import Evaluation, build_evaluator
from rlcap.train.grpo import GRPOTrainer
from rlcap.train.memory_check import check_memory
from rlcap.train.model_card import write_model_card
from rlcap.train.open_run import OpenRun, open_run, say
from rlcap.train.reference import check_can_be_copied
from rlcap.train.trackers import send_results
from rlcap.types import Sample


@dataclass
class RunContext:
    """Everything that one process needs for a reinforcement run. `prepare_run` makes it."""

    opened: OpenRun
    """Run folder, checkpoint, clock and data, which all recipes have."""
    config: GRPOConfig
    """The checked configuration."""
    batching: Batching
    """The batch sizes."""
    curriculum: curricula.Curriculum
    """The curriculum over bags."""
    mix: RewardMix
    """The rewards."""
    policy: Policy
    """The captioner that is trained."""
    evaluation: Evaluation
    """The evaluation during training."""

    @property
    def gallery(self) -> dict[str, str]:
        """Id → path of the training images, from which bags are formed."""
        return {sample.id: sample.image for sample in self.opened.splits["train"]}

    def trainer_kwargs(self) -> dict[str, Any]:
        """Return the arguments of `GRPOTrainer` and its subclasses."""
        round_steps = self.batching.steps_per_generation_round()
        return {
            "model": self.policy.model,
            "processor": self.policy.processor,
            "samples": self.opened.splits["train"],
            "config": self.config,
            "batching": self.batching,
            "folder": self.opened.folder,
            "mix": self.mix,
            "curriculum": self.curriculum,
            "gallery": self.gallery,
            "instruction": self.opened.instruction,
            "callbacks": self.opened.callbacks(
                self.policy,
                terms=self.mix.names,
                schedule=[
                    Schedule(self.evaluation, self.config.evaluation.every),
                    RewardStop(self.mix, round_steps),
                ],
                round_steps=round_steps,
            ),
        }

    def run(self, trainer: GRPOTrainer) -> None:
        """Check the memory, train, and write adapter, model card, summary and report to the run folder.

        Args:
            trainer: The trainer that was made with `trainer_kwargs`.

        Raises:
            BatchingError: The micro-batch does not fit into memory.
        """
        opened, self.evaluation.trainer = self.opened, trainer
        # Under DeepSpeed there is no check: the weights are distributed only when training begins.
        if not trainer.is_deepspeed_enabled:
            captioner, tokens = self.policy.captioner, self.config.generation.max_new_tokens
            value_model = getattr(trainer, "value_model", None)
            paths = list(self.gallery.values())
            say(check_memory(captioner, paths, self.batching, opened.instruction.text, tokens, value_model).describe())
        if opened.checkpoint:
            trainer.restore(opened.checkpoint)
        opened.train(trainer, self.policy.processor)
        if PartialState().is_main_process:
            summary = summarise(opened.folder.root, opened.clock.seconds())
            for alarm in summary["alarms"]:
                print(f"OVER-OPTIMIZATION on {alarm['split']}: {describe_alarm(alarm)}")
            write_model_card(opened.folder.root)
            print(f"report: {write_report(opened.folder.root)}")
            send_results(self.config.report_to, opened.folder)


def describe_bags(samples: Sequence[Sample], curriculum: curricula.Curriculum) -> str:
    """Return one line that says how many similar images the bags of the run can have.

    Args:
        samples: The training samples.
        curriculum: The curriculum, which determines the level and the largest size of bags.
    """
    stages: Sequence[Any] = getattr(curriculum, "stages", (curriculum,))
    level, largest = stages[0].level, max(getattr(s, "bag_size", None) or max(s.sizes) for s in stages)
    if level == "random":
        return f"bags: up to {largest - 1} random images besides the image itself"
    counts = [len(sample.distractors.get(level, ())) for sample in samples]
    if not any(counts):
        return (
            f"bags: WARNING: no training image has similar images of level {level!r}, so captions are compared with random "
            "images only; `rlcap bags mine` finds similar images (data.bags)"
        )
    short = sum(count < largest - 1 for count in counts)
    note = f"; {short} of {len(counts)} images have fewer, and therefore smaller bags" if short else ""
    return f"bags: up to {largest - 1} similar images of level {level!r} besides the image itself{note}"


def prepare_run(config: GRPOConfig, recipe: str, started: float) -> RunContext:
    """Prepare everything that a reinforcement trainer needs. The run folder stays unchanged.

    Args:
        config: The checked configuration.
        recipe: Name of the recipe: `grpo` or `ppo`.
        started: `time.monotonic()` at the start of the recipe.

    Raises:
        InputError: The configuration, the data or the models can't be used.
    """
    opened = open_run(config, recipe, started)

    # ---- checks that need no data and no model: batch sizes, curriculum, reward mix --------------------------------
    train = config.train
    if train.use_vllm and not torch.cuda.is_available():
        raise ConfigError("train.use_vllm needs a GPU, and torch finds none on this machine: set train.use_vllm=false")
    batching = plan(
        train.images_per_step,
        train.captions_per_image,
        train.micro_batch,
        processes=opened.state.num_processes,
        num_iterations=train.iterations,
        minibatches=train.minibatches,
    )
    curriculum = curricula.parse(config.curriculum)
    terms = mix_entries(config.mix)
    check_mix(terms, ("device", "gallery", "base", "instruction"))

    # ---- data: samples with paths of images ------------------------------------------------------------------------
    opened.load_data()
    splits, instruction = opened.splits, opened.instruction
    images = [sample.image for sample in splits["train"]]
    say(batching.describe())
    say(curricula.describe(curriculum))
    say(describe_bags(splits["train"], curriculum))

    # ---- frozen scorers: they load before a DeepSpeed configuration exists, which would shard them too -------------
    device = str(opened.state.device)
    mix = RewardMix.from_config(
        terms,
        context=reward_context(images, base=config.model.base, instruction=instruction.text, device=device),
        max_abstain=train.max_abstain,
        target_rate=train.target_rate,
    )
    say(mix.describe())
    evaluator = build_evaluator(config, splits, instruction, opened.folder, device)

    # ---- policy: base model and adapter; the adapter in its present state is the reference model -------------------
    policy = load_policy(config.model)
    if train.beta:
        check_can_be_copied(policy.model)
    say(policy.describe())
    if opened.drop_unusable_images(policy):
        splits = opened.splits
        images = [sample.image for sample in splits["train"]]
        evaluator = build_evaluator(config, splits, instruction, opened.folder, device)
    if (
        opened.state.distributed_type != DistributedType.DEEPSPEED
    ):  # its processes can't run different numbers of passes
        mix.use_captioner(policy.captioner)
    say(describe_visual_tokens(count_visual_tokens(policy.captioner, images)))
    evaluation = Evaluation(evaluator, policy, mix, splits, opened.folder, config.evaluation)
    return RunContext(opened, config, batching, curriculum, mix, policy, evaluation)
