"""The tuned weights on disk, the same for every recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save_tuned(trainer: Any, processor: Any, folder: Path) -> None:
    """Write what a trainer tuned, as safetensors.

    It is the adapter, which plain peft loads. Without an adapter it is the whole model with its processor, to be loaded as
    `model.base`. Every process must call this function; the main process writes.

    Args:
        trainer: A transformers Trainer after training.
        processor: The processor of the model.
        folder: Where to write.
    """
    accelerator = trainer.accelerator
    weights = accelerator.get_state_dict(trainer.model_wrapped)  # under ZeRO-3, only the engine can gather them
    if not accelerator.is_main_process:
        return
    model = accelerator.unwrap_model(trainer.model)
    if hasattr(model, "peft_config"):
        model.save_pretrained(folder, state_dict=weights, selected_adapters=["default"])
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    else:
        model.save_pretrained(folder, state_dict=weights)
        processor.save_pretrained(folder)
