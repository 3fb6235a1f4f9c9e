"""Supervised fine-tuning on captions by maximum likelihood, which gives the starting adapter of reinforcement.

The loss covers the tokens of the captions only. The module uses the Trainer of transformers, because TRL's SFTTrainer would
decode all images before training.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from rlcap.config.supervised import SFTConfig
from rlcap.data.control import ControlSampler, Instruction, words_in
from rlcap.errors import ConfigError
from rlcap.io.images import open_image
from rlcap.policy.captioner import Captioner
from rlcap.policy.families.registry import make_captioner
from rlcap.policy.loading import Policy
from rlcap.policy.prompt import pad
from rlcap.train.arguments import supervised_arguments
from rlcap.train.callbacks import CheckpointState, EpochOrder
from rlcap.train.finite import FiniteTraining
from rlcap.train.run_folder import RunFolder
from rlcap.types import NO_CONTROL, Control, Sample

IGNORED = -100
"""Label of a position that is not learnt."""


class Captions(Dataset):
    """A data set of images and texts.

    With the target `references`, a sample has another of its references in each epoch. All of them have their turn before
    one is used again. With the target `formats`, the format is drawn anew in each epoch. The choice depends on seed, sample
    id and epoch alone.

    Args:
        samples: The training samples.
        target: `paragraph`, `references` or `formats`.
        seed: Seed of the choice.
        formats: Caption format → its share, for the target `formats`.

    Raises:
        ConfigError: The target is unknown, or a sample lacks it.
    """

    def __init__(
        self, samples: Sequence[Sample], target: str, seed: int, formats: Mapping[str, float] | None = None
    ) -> None:
        if target not in ("paragraph", "references", "formats"):
            raise ConfigError(f"train.target must be paragraph, references or formats, got {target!r}")
        self.samples, self.target, self.seed, self.formats = samples, target, seed, dict(formats or {})
        self.epoch = 0
        for sample in samples:
            found = {"paragraph": sample.paragraph, "references": sample.references}
            if not (self._formats_of(sample) if target == "formats" else found[target]):
                raise ConfigError(f"sample {sample.id!r} has no {target}; set train.target to what the data has")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.samples[index]
        if self.target == "paragraph":
            return {"image": sample.image, "text": sample.paragraph, "control": sample.control}
        if self.target == "formats":
            return self._in_some_format(sample)
        count = len(sample.references)
        turn, place = divmod(self.epoch, count)
        order = random.Random(f"{self.seed}:{sample.id}:{turn}").sample(range(count), count)
        text = sample.references[order[place]]
        return {"image": sample.image, "text": text, "control": _asking_for(sample.control, text)}

    def _formats_of(self, sample: Sample) -> dict[str, str]:
        """Return the texts of a sample in the formats that have a share."""
        texts = sample.meta.get("formats")
        found = texts if isinstance(texts, Mapping) else {}
        return {name: text for name, text in found.items() if text and self.formats.get(name)}

    def _in_some_format(self, sample: Sample) -> dict[str, Any]:
        texts = self._formats_of(sample)
        shares = {name: self.formats[name] for name in sorted(texts)}
        drawn = ControlSampler({"format": shares}, self.seed).draw(sample.control, sample.id, self.epoch)
        text = texts[str(drawn.format)]
        return {"image": sample.image, "text": text, "control": _asking_for(drawn, text)}


def _asking_for(control: Control, text: str) -> Control:
    """Return a control whose length, if it asks for one, is that of the text that is learned this time."""
    return control if control.length is None else replace(control, length=words_in(text) or None)


class Turns(TrainerCallback):
    """Sets the epoch of the data set on every process."""

    def __init__(self, rows: Captions) -> None:
        self.rows = rows

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Set the epoch of the data set."""
        self.rows.epoch = int(state.epoch or 0)  # a run that resumes in the middle of an epoch starts with a fraction


class CaptionCollator:
    """Converts rows into the tokens of their captions, with the end token, their instructions, and the paths of their images.

    Args:
        captioner: The captioner, whose `encode` makes the same tokens for every recipe.
        instruction: The instruction that all rows share.
    """

    def __init__(self, captioner: Captioner, instruction: str | Instruction) -> None:
        self.captioner, self.instruction = captioner, instruction

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return `labels` of shape (N, C), −100 on padding, N `images` and N `instructions`."""
        instructions = self.captioner.instruct(self.instruction, [row.get("control", NO_CONTROL) for row in rows])
        texts = [row["text"] for row in rows]
        tokens = [torch.tensor(self.captioner.encode(*pair)) for pair in zip(texts, instructions, strict=True)]
        labels = pad(tokens, IGNORED, side="right")
        # transformers counts the learnt tokens of a step from `shift_labels`, and would leave out the first of `labels`
        images = [row["image"] for row in rows]
        return {"labels": labels, "shift_labels": labels, "images": images, "instructions": instructions}


def build_trainer(
    policy: Policy,
    samples: Sequence[Sample],
    config: SFTConfig,
    instruction: str | Instruction,
    folder: RunFolder,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trainer:
    """Return a transformers Trainer for the run.

    Args:
        policy: The captioner to train.
        samples: Training samples, each with the text that `train.target` names.
        config: The checked configuration.
        instruction: The instruction that all rows share; the control of a sample adds its words.
        folder: The run folder, to which checkpoints are written.
        callbacks: Callbacks of the run, such as those of `OpenRun.callbacks`.

    Raises:
        ConfigError: A sample lacks the target, the captioner can't read the control of a sample, or the batch can't be divided among the
            processes.
    """
    train = config.train
    arguments = TrainingArguments(
        **supervised_arguments(config, folder),
        weight_decay=train.weight_decay,
        warmup_steps=max(1, train.steps // 20),
    )
    rows = Captions(samples, train.target, train.seed, train.formats)
    first_controls = (rows[i]["control"] for i in range(len(rows)))
    policy.captioner.instruct(instruction, list(dict.fromkeys(first_controls)))  # raises before the run begins
    callbacks = [EpochOrder(), Turns(rows), CheckpointState(folder, train.keep_checkpoints), *callbacks]
    trainer = SFTTrainer(policy, instruction, args=arguments, train_dataset=rows, callbacks=callbacks)
    trainer.remove_callback(PrinterCallback)  # the progress bar and metrics.jsonl show what it would print
    return trainer


class SFTTrainer(FiniteTraining, Trainer):
    """A Trainer whose loss is the mean of −log p over the caption tokens of an optimiser step.

    Prompts, tokens and log-probabilities come from `rlcap.policy.captioner.Captioner`, as in reinforcement and evaluation. So
    an adapter learns exactly the prompt that it will be given, and exactly the end token at which generation stops.
    """

    loss_is_scaled_for_ga = True  # by the number of tokens of the whole step

    def __init__(self, policy: Policy, instruction: str | Instruction, **arguments: Any) -> None:
        collator: Any = CaptionCollator(policy.captioner, instruction)
        super().__init__(model=policy.model, data_collator=collator, **arguments)
        self.processor = policy.processor
        self.model_accepts_loss_kwargs = True  # transformers then counts the tokens of the step

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the sum of −log p over the caption tokens of a micro-batch, divided by the tokens of the whole step."""
        captioner = make_captioner(model, self.processor)
        prompts = captioner.prepare([open_image(path) for path in inputs["images"]], inputs["instructions"])
        labels = inputs["labels"].to(captioner.base.device)
        mask = (labels != IGNORED).long()
        ids = labels.masked_fill(mask == 0, captioner.pad_id)
        log_probs = captioner.log_probs(prompts, ids, mask, shared=False).log_probs  # one caption for each prompt
        total = mask.sum() if num_items_in_batch is None else num_items_in_batch
        processes = self.accelerator.num_processes if num_items_in_batch is not None else 1
        return -log_probs.sum() / total * processes  # the mean over processes follows
