"""Loading what a user named: a library's error about it becomes one line that says who asked, for what, and what to give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rlcap.types import ConfigError


@contextmanager
def explain_load_errors(
    what: str, name: str, fix: str, errors: tuple[type[Exception], ...] = (OSError, ValueError)
) -> Iterator[None]:
    """Around the calls that load it.

    Args:
        what: the configuration's key, or the kind of model.
        name: the folder or hub name as the user wrote it.
        fix: what to give instead.
        errors: what the library raises where it can't find or read the thing; everything else passes through.

    Raises:
        ConfigError: in place of `errors`, with the first line of the library's message; also for weights that are broken.
    """
    try:
        yield
    except SafetensorError as error:
        raise ConfigError(
            f"{what} {name!r}: its weights are broken or half written ({error}); fetch or save them again"
        ) from error
    except errors as error:
        place = name.removeprefix("local-dir:")
        here = ":" in place or Path(place).exists()
        if not here and (place.startswith(("/", ".", "~")) or place.count("/") > 1):  # no hub has such a name
            raise ConfigError(f"{what} {name!r}: there is no such file or folder; {fix}") from error
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        absent = "" if here else " (there is no such file or folder here)"
        raise ConfigError(f"{what} {name!r}{absent} can't be loaded: {reason:.300}; {fix}") from error


def load_text_model(kind: Any, path_or_name: str, device: str, what: str, fix: str) -> tuple[Any, Any]:
    """(a frozen model in float32, its tokenizer) from a folder or a hub name; safetensors only, none of the repository's own
    code is run.

    Args:
        kind: one of transformers' Auto classes.
        what, fix: as for `explain_load_errors`.

    Raises:
        ConfigError: there is no such model.
    """
    import torch
    from transformers import AutoTokenizer

    with explain_load_errors(what, str(path_or_name), fix):
        model = kind.from_pretrained(path_or_name, use_safetensors=True, trust_remote_code=False, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(path_or_name, trust_remote_code=False)
    return model.to(device), tokenizer
