"""Direct preference optimisation on pairs of captions, by TRL's DPO with images.

The reference model is the starting adapter, of which TRL keeps a copy over the same base.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from transformers import PrinterCallback
from trl.trainer.utils import flush_left

from rlcap.config.supervised import DPOConfig
from rlcap.errors import ConfigError, PairsError, ReferenceModelError
from rlcap.io.images import open_image
from rlcap.io.text import read_rows
from rlcap.policy.captioner import unwrap_model
from rlcap.policy.families.chat import ChatCaptioner
from rlcap.policy.loading import Policy
from rlcap.policy.prompt import join_pixels, join_tokens, pad
from rlcap.train.arguments import supervised_arguments
from rlcap.train.callbacks import CheckpointState, EpochOrder
from rlcap.train.checkpoints import read_state
from rlcap.train.finite import FiniteTraining
from rlcap.train.reference import check_can_be_copied, copy_to_reference
from rlcap.train.run_folder import RunFolder
from rlcap.train.trl_compat import NoModelCard

KEYS = ("image", "prompt", "chosen", "rejected")


def read_pairs(path: Path) -> list[dict[str, str]]:
    """Return the rows of a pairs file.

    Raises:
        PairsError: The file is missing or empty, a line is not a pair, or its image can't be found.
    """
    form = f"recipes/refine.py writes one, or rows {{{', '.join(KEYS)}}}"
    return [{key: row[key] for key in KEYS} for row in read_rows(path, "pairs", form, find_flaw, PairsError)]


def fingerprint(pairs: Sequence[Mapping[str, str]]) -> str:
    """Return 16 hexadecimal digits of a sha256 over the pairs and their order."""
    return hashlib.sha256(json.dumps(list(pairs), ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:16]


def find_flaw(row: Any) -> str | None:
    """Return the reason why a row is not a valid pair; None for a valid pair."""
    missing = [key for key in KEYS if not isinstance(row, Mapping) or not isinstance(row.get(key), str)]
    if missing or not row["chosen"].strip() or not row["rejected"].strip():
        return f"a pair needs texts under {', '.join(KEYS)}; missing or empty: {', '.join(missing) or 'a caption'}"
    if not Path(row["image"]).is_file():
        return f"there is no image {row['image']}"
    return "chosen and rejected are the same caption" if row["chosen"] == row["rejected"] else None


def to_dataset(pairs: Sequence[Mapping[str, str]]) -> Dataset:
    """Return the pairs as the conversational rows that TRL expects. Images stay paths until a batch is made."""

    def turn(role: str, text: str) -> list[dict[str, Any]]:
        return [{"role": role, "content": text}]

    rows = [
        {
            "image": pair["image"],
            "prompt": turn("user", pair["prompt"]),
            "chosen": turn("assistant", pair["chosen"]),
            "rejected": turn("assistant", pair["rejected"]),
        }
        for pair in pairs
    ]
    return Dataset.from_list(rows)


class PairCollator:
    """Converts pairs into the inputs of TRL's DPO, with the prompt and the end token of all other recipes.

    TRL's own collator takes the end of a caption from the chat template, which need not have one there.

    Args:
        captioner: The captioner, whose `read_inputs` and `encode` make the tokens.
    """

    def __init__(self, captioner: ChatCaptioner) -> None:
        self.captioner = captioner

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the tensors of N pairs in 2N rows: first all chosen captions, then all rejected ones."""
        captioner, prompts, captions = self.captioner, [], []
        for side in ("chosen", "rejected"):
            for row in rows:
                instruction = row["prompt"][0]["content"]
                prompts.append(captioner.read_inputs(open_image(row["image"]), instruction))
                captions.append(torch.tensor(captioner.encode(row[side][0]["content"], instruction)))
        tokens = join_tokens(prompts, captioner.pad_id)
        device = tokens["input_ids"].device
        ids = pad(captions, captioner.pad_id, side="right").to(device)
        mask = pad([torch.ones_like(row) for row in captions], 0, side="right").to(device)
        added = {name: mask * value for name, value in captioner.caption_types().items()} | {"input_ids": ids}
        joined = {name: torch.cat([value, added[name].to(value.dtype)], 1) for name, value in tokens.items()}
        joined["completion_mask"] = torch.cat([torch.zeros_like(tokens["attention_mask"]), mask], 1)
        attention = joined.pop("attention_mask")
        attention, *values = flush_left(attention, *joined.values())  # positions count from the first token
        return {"attention_mask": attention, **dict(zip(joined, values, strict=True)), **join_pixels(prompts)}


MAX_REWARD_DIFFERENCE = {torch.float32: 0.01, torch.bfloat16: 2.0, torch.float16: 2.0}
"""Dtype of the base → largest difference of a caption's log-probabilities, in nats, that counts as rounding."""


class DPOTrainer(FiniteTraining, NoModelCard, trl.DPOTrainer):
    """`trl.DPOTrainer` with an exact reference, whose count of tokens continues after resuming."""

    _is_checked = False

    def training_step(self, model: torch.nn.Module, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Run one forward and backward pass. In the first one of a run, policy and reference must agree.

        Raises:
            ReferenceModelError: The implicit rewards of the first pairs are not 0.
        """
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not self._is_checked and self.state.global_step == 0:
            rewards = [abs(self._metrics["train"][f"rewards/{kind}"][-1]) for kind in ("chosen", "rejected")]
            tolerance = self.beta * MAX_REWARD_DIFFERENCE[unwrap_model(model).dtype]
            if not max(rewards) <= tolerance:
                raise ReferenceModelError(
                    f"before the first update, policy and reference differ by a reward of {max(rewards):.3g} (allowed: "
                    f"{tolerance:g}); the adapter has weights that are not copied to the reference"
                )
        self._is_checked = True
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside what transformers saves; JSON-able."""
        return {"tokens": int(self._total_train_tokens)}

    def restore(self, checkpoint: Path) -> None:
        """Take up what transformers does not load from a checkpoint."""
        self._total_train_tokens = read_state(checkpoint)["tokens"]


def build_trainer(
    policy: Policy,
    pairs: Sequence[Mapping[str, str]],
    config: DPOConfig,
    folder: RunFolder,
    callbacks: Sequence[Any] = (),
) -> DPOTrainer:
    """Return a trainer for the run.

    Args:
        policy: The captioner to train, with the adapter that is also the reference.
        pairs: Rows of `read_pairs`.
        config: The checked configuration.
        folder: The run folder, to which checkpoints are written.
        callbacks: Callbacks of the run, such as those of `OpenRun.callbacks`.

    Raises:
        ConfigError: The captioner has no chat template, which TRL's DPO needs for the prompt, or the batch can't be divided
            among the processes.
        ReferenceModelError: The adapter can't be copied.
    """
    check_can_be_copied(policy.model)
    captioner = policy.captioner
    if not getattr(policy.processor, "chat_template", None) or not isinstance(captioner, ChatCaptioner):
        raise ConfigError(
            f"TRL's DPO needs a chat template, and {captioner.kind} has none: refine its captions and train on "
            "sft.jsonl (recipes/sft.py) instead"
        )
    train = config.train
    arguments = trl.DPOConfig(
        **supervised_arguments(config, folder),
        warmup_steps=max(1, train.steps // 10),
        beta=train.beta,
        loss_type=["sigmoid", "sft"] if train.sft_weight else ["sigmoid"],
        loss_weights=[1.0, train.sft_weight] if train.sft_weight else None,
        max_length=None,  # without a limit no caption is cut: the image tokens alone could exceed it
        disable_dropout=True,
        activation_checkpointing=False,
    )
    trainer = DPOTrainer(
        model=policy.model,
        args=arguments,
        train_dataset=to_dataset(pairs),
        processing_class=policy.processor,
        data_collator=PairCollator(captioner),
        callbacks=[EpochOrder(), *callbacks],
    )
    copy_to_reference(trainer.model)
    trainer.add_callback(CheckpointState(folder, config.train.keep_checkpoints, trainer.state_dict))
    trainer.remove_callback(PrinterCallback)  # the progress bar and metrics.jsonl show what it would print
    return trainer
