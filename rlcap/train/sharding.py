"""Rejects the ways of sharding a model over processes that the recipes do not support."""

from __future__ import annotations

import os

from rlcap.errors import ConfigError


def refuse_fsdp() -> None:
    """Check that `accelerate launch` does not use FSDP. The recipes call this function before they load anything.

    Generation and shared prefixes call parts of a model separately, but FSDP gathers the weights only in a forward pass of
    the whole model. Without a GPU, accelerate silently ignores FSDP, so the check reads the environment variable.

    Raises:
        ConfigError: The configuration of accelerate asks for FSDP.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise ConfigError(
            "accelerate is configured to use FSDP, with which captions can't be generated; use launch/accelerate/ddp.yaml or "
            "zero2.yaml if the model fits on one GPU, and zero3.yaml (pip install -e '.[deepspeed]') if it does not"
        )
