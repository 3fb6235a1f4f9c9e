"""Saves the trained weights, in the same way for all recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import ProcessorMixin, Trainer


def save_tuned(trainer: Trainer, processor: ProcessorMixin, folder: Path) -> None:
    """Write the trained weights as safetensors.

    With an adapter, the folder then holds the adapter, which plain peft loads. Without one, it holds the complete model with
    its processor, which a configuration can name as `model.base`. Every process must call this function; only the main
    process writes.

    Args:
        trainer: A trainer after training.
        processor: The processor of the model.
        folder: The folder to write.
    """
    accelerator = trainer.accelerator
    weights = accelerator.get_state_dict(trainer.model_wrapped)  # under ZeRO-3, only the engine can gather them
    if not accelerator.is_main_process:
        return
    model: Any = accelerator.unwrap_model(trainer.model)
    card = folder / "README.md"
    card.unlink(missing_ok=True)  # of an earlier session of the run, whose weights are overwritten now
    if hasattr(model, "peft_config"):
        model.save_pretrained(folder, state_dict=weights, selected_adapters=["default"])
        card.unlink(missing_ok=True)  # peft's empty model card; `rlcap.train.model_card` writes the card of the run
    else:
        model.save_pretrained(folder, state_dict=weights)
        processor.save_pretrained(folder)
