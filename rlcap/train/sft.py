"""Supervised fine-tuning on captions by maximum likelihood, which gives the starting adapter of reinforcement.

The loss covers the tokens of the captions only. The module uses the Trainer of transformers with a collator of its own,
because TRL's SFTTrainer would decode all images before training.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import PartialState
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from rlcap.config.schema import SFTConfig
from rlcap.errors import ConfigError
from rlcap.io.images import open_image
from rlcap.policy.families.registry import make_captioner
from rlcap.policy.loading import Policy
from rlcap.policy.prompt import pad
from rlcap.train.callbacks import CheckpointState, EpochOrder
from rlcap.train.finite import FiniteTraining
from rlcap.train.run_folder import RunFolder
from rlcap.types import Sample


class Captions(Dataset):
    """A data set of images and texts.

    With the target `references`, a sample has another of its references in each epoch. All of them have their turn before
    one is used again. The choice depends on seed, sample id and epoch alone.

    Args:
        samples: The training samples.
        target: `paragraph` or `references`.
        seed: Seed of the choice among references.

    Raises:
        ConfigError: The target is unknown, or a sample lacks it.
    """

    def __init__(self, samples: Sequence[Sample], target: str, seed: int) -> None:
        if target not in ("paragraph", "references"):
            raise ConfigError(f"train.target must be paragraph or references, got {target!r}")
        self.samples, self.target, self.seed = samples, target, seed
        self.epoch = 0
        for sample in samples:
            if not (sample.paragraph if target == "paragraph" else sample.references):
                raise ConfigError(f"sample {sample.id!r} has no {target}; set train.target to what the data has")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.samples[index]
        if self.target == "paragraph":
            return {"image": sample.image, "text": sample.paragraph}
        count = len(sample.references)
        turn, place = divmod(self.epoch, count)
        order = random.Random(f"{self.seed}:{sample.id}:{turn}").sample(range(count), count)
        return {"image": sample.image, "text": sample.references[order[place]]}


class Turns(TrainerCallback):
    """Sets the epoch of the data set on every process."""

    def __init__(self, rows: Captions) -> None:
        self.rows = rows

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Set the epoch of the data set."""
        self.rows.epoch = int(state.epoch or 0)  # a run that resumes in the middle of an epoch starts with a fraction


class CaptionCollator:
    """Converts rows into model inputs with `labels`, which are −100 on prompt, image and padding tokens.

    Args:
        processor: Processor of a captioner with a chat template.
        instruction: The instruction to the captioner.
    """

    def __init__(self, processor: Any, instruction: str) -> None:
        self.processor, self.instruction = processor, instruction
        tokenizer = processor.tokenizer
        messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": instruction}]}]
        self.prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
        self.prompt_ids = tokenizer(self.prompt)["input_ids"]
        self.end = tokenizer.eos_token

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the model inputs for a batch of rows, with labels on the tokens of the captions only."""
        images = [[open_image(row["image"])] for row in rows]
        texts = [f"{self.prompt} {row['text']}{self.end}" for row in rows]
        inputs = self.processor(images=images, text=texts, padding=True, return_tensors="pt")
        labels = torch.full_like(inputs["input_ids"], -100)
        for row, ids in enumerate(self.processor.tokenizer(texts)["input_ids"]):
            # Rows are padded on the left, and only the prompt contains image tokens, so the answer is the end of the row.
            # Its length comes from the tokens of the whole text, because some tokenizers split an answer differently
            # without the prompt.
            same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(ids, self.prompt_ids, strict=False))
            answer = len(ids) - sum(1 for _ in same)
            labels[row, -answer:] = inputs["input_ids"][row, -answer:]
        return {**inputs, "labels": labels}


def build_trainer(
    policy: Policy,
    samples: Sequence[Sample],
    config: SFTConfig,
    instruction: str,
    folder: RunFolder,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trainer:
    """Return a transformers Trainer for the run.

    Args:
        policy: The captioner to train.
        samples: Training samples, each with the text that `train.target` names.
        config: The checked configuration.
        instruction: The instruction to the captioner.
        folder: The run folder, to which checkpoints are written.
        callbacks: Callbacks of the run, such as those of `OpenRun.callbacks`.

    Raises:
        ConfigError: A sample lacks the target, or the batch can't be divided among the processes.
    """
    train, processes = config.train, PartialState().num_processes
    accumulation, rest = divmod(train.batch_size, train.micro_batch * processes)
    if rest:
        raise ConfigError(
            f"train.batch_size {train.batch_size} can't be divided among {processes} processes in micro-batches of "
            f"{train.micro_batch}; a multiple of {train.micro_batch * processes} can"
        )
    arguments = TrainingArguments(
        output_dir=str(folder.checkpoints),
        max_steps=train.steps,
        per_device_train_batch_size=train.micro_batch,
        gradient_accumulation_steps=accumulation,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, train.steps // 20),
        save_strategy="steps",
        save_steps=train.save_every,
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is not finite must be seen
        disable_tqdm=True,
        report_to=[*config.report_to] or "none",
        run_name=folder.root.name,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        seed=train.seed,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    rows = Captions(samples, train.target, train.seed)
    callbacks = [EpochOrder(), Turns(rows), CheckpointState(folder, train.keep_checkpoints), *callbacks]
    if getattr(policy.processor, "chat_template", None):
        collator = CaptionCollator(policy.processor, instruction)
        trainer: Trainer = SFTTrainer(
            policy.model, arguments, train_dataset=rows, data_collator=collator, callbacks=callbacks
        )
    else:
        trainer = ClassicTrainer(policy, instruction, args=arguments, train_dataset=rows, callbacks=callbacks)
    trainer.remove_callback(PrinterCallback)  # the progress bar and metrics.jsonl show what it would print
    return trainer


class SFTTrainer(FiniteTraining, Trainer):
    """The Trainer of transformers for captioners with a chat template."""


class ClassicTrainer(FiniteTraining, Trainer):
    """A Trainer for captioners without a chat template, such as BLIP, GIT and ViT-GPT2.

    The log-probabilities of the captions come from `rlcap.policy.captioner.Captioner`, as in reinforcement.
    """

    def __init__(self, policy: Policy, instruction: str, **arguments: Any) -> None:
        # The collator only makes a list of rows. `compute_loss` prepares images and texts.
        collate: Any = list
        super().__init__(model=policy.model, data_collator=collate, **arguments)
        self.processor, self.instruction = policy.processor, instruction

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the mean of −log p over the tokens of the captions."""
        captioner = make_captioner(model, self.processor)
        prompts = captioner.prepare([open_image(row["image"]) for row in inputs], self.instruction)
        tokens = [torch.tensor(captioner.encode(row["text"], self.instruction)) for row in inputs]
        ids = pad(tokens, captioner.pad_id, side="right").to(captioner.base.device)
        mask = pad([torch.ones_like(row) for row in tokens], 0, side="right").to(captioner.base.device)
        return -captioner.log_probs(prompts, ids, mask).log_probs.sum() / mask.sum()
