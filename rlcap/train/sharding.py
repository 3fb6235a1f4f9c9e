"""Ways to share out a model over processes that the recipes can't go."""

from __future__ import annotations

import os

from rlcap.errors import ConfigError


def refuse_fsdp() -> None:
    """ConfigError where `accelerate launch` was told to use FSDP; to be asked before anything is loaded.

    Captions are written, and prefixes shared, by calling parts of a model that FSDP gathers only in a forward of the whole.
    Where there is no GPU accelerate leaves FSDP aside without a word, so that nothing of it can be tried there.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise ConfigError(
            "accelerate is told to use FSDP, under which captions can't be written; where the model fits one GPU take "
            "launch/accelerate/ddp.yaml or zero2.yaml, and where it doesn't zero3.yaml (pip install -e '.[deepspeed]')"
        )
