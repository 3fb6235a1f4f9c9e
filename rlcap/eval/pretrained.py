"""Loads a captioner for use, from a base model with an adapter or from a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rlcap.config.loading import load_config
from rlcap.config.schema import ModelConfig
from rlcap.config.supervised import SFTConfig
from rlcap.data.control import Instruction
from rlcap.data.prompts import INSTRUCTION
from rlcap.data.source import load_instruction
from rlcap.errors import InputError
from rlcap.eval.captioning import caption_samples
from rlcap.eval.run_files import run_config
from rlcap.policy.loading import Policy, load_policy
from rlcap.types import NO_CONTROL, Control, Sample

MAX_NEW_TOKENS = 200
"""Default for the maximum length of a caption, in tokens."""


class PretrainedCaptioner:
    """Writes greedy captions of images.

    Args:
        policy: The model and its processor.
        instruction: The instruction to the captioner.
        max_new_tokens: Maximum length of a caption, in tokens.
        device: Device of the model; None for a GPU if there is one.
        control: What is asked of all captions.
    """

    def __init__(
        self,
        policy: Policy,
        instruction: str | Instruction,
        max_new_tokens: int,
        device: str | None = None,
        control: Control = NO_CONTROL,
    ) -> None:
        self.policy, self.instruction, self.max_new_tokens = policy, instruction, max_new_tokens
        self.control = control
        self.policy.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()

    def caption(
        self,
        images: Sequence[str | Path],
        *,
        batch_size: int = 16,
        progress: bool = False,
        control: Control = NO_CONTROL,
    ) -> list[str]:
        """Return the captions of N image files, in order.

        Args:
            images: Paths of N images.
            batch_size: Images per batch.
            progress: Whether to show a progress bar.
            control: What is asked of these captions, in place of what the captioner asks of all.

        Raises:
            ConfigError: The model can't read the control.
            ImageError: An image can't be opened; the message names it.
        """
        return caption_samples(
            self.policy.model,
            self.policy.processor,
            [Sample(str(i), str(path), control=control.over(self.control)) for i, path in enumerate(images)],
            instruction=self.instruction,
            max_new_tokens=self.max_new_tokens,
            batch_size=batch_size,
            progress=progress,
        )


def load_captioner(
    model: str | Path,
    adapter: str | Path | None = None,
    *,
    instruction: str | Instruction | None = None,
    max_new_tokens: int | None = None,
    device: str | None = None,
) -> PretrainedCaptioner:
    """Return a captioner that is ready to caption images.

    Args:
        model: A run folder, which determines weights, instruction, control and maximum length. Or the folder, hub name or address
            (`lab:captioner`) of an image-text-to-text model.
        adapter: Folder, hub name or address of a LoRA adapter for the model; None if `model` is a run.
        instruction: The instruction to the captioner; None for that of the run, or `rlcap.data.prompts.INSTRUCTION`.
        max_new_tokens: Maximum length of a caption, in tokens; None for that of the run, or 200.
        device: Device such as `cuda:0`; None for a GPU if there is one.

    Raises:
        ConfigError: A model or an adapter can't be found or loaded.
        InputError: The run has no trained weights, or was given together with an adapter.
    """
    control = NO_CONTROL
    if (Path(model) / "config.yaml").is_file():
        if adapter is not None:
            raise InputError(f"{model} is a run with its own adapter: leave out adapter={adapter}")
        values = read_run(Path(model))
        data = load_config(SFTConfig, None, []).data.model_copy(update=values["data"])
        shared = load_instruction(data)
        instruction = shared if instruction is None else replace(shared, text=Instruction.of(instruction).text)
        control = Control.parse(data.control)
        max_new_tokens = max_new_tokens or values["generation"].get("max_new_tokens")
        config = ModelConfig.parse(values["model"], "model")
    else:
        config = ModelConfig(base=str(model), adapter=str(adapter) if adapter is not None else None)
    return PretrainedCaptioner(
        load_policy(config), instruction or INSTRUCTION, max_new_tokens or MAX_NEW_TOKENS, device, control
    )


def read_run(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the sections `model`, `data` and `generation` of a run of any recipe.

    In the section `model`, the trained weights take the place of those with which the run started.

    Raises:
        InputError: The folder is not a run folder, or the run has not saved trained weights yet.
    """
    values, tuned = read_run_config(folder), folder / "adapter"
    if not tuned.is_dir():
        raise InputError(
            f"{folder} has no adapter, because the run did not end; checkpoints/ may contain one for model.adapter"
        )
    is_whole_model = not (tuned / "adapter_config.json").is_file()  # the result of model.trainable=full
    loaded = {"base": str(tuned), "adapter": None} if is_whole_model else {"adapter": str(tuned)}
    kept = ("source", "options", "instruction", "control", "control_phrases")
    return {
        "model": values["model"] | loaded,
        "data": {key: values["data"][key] for key in kept if key in values["data"]},
        "generation": values.get("generation", {}),
    }


def read_run_config(folder: Path) -> dict[str, Any]:
    """Return the configuration of a run as it is in config.yaml.

    Raises:
        InputError: The folder is not a run folder.
    """
    values = run_config(folder)
    if not values or "model" not in values or "data" not in values:
        raise InputError(f"{folder} is not a run folder: it has no config.yaml with the sections model and data")
    return values
