"""Loading of models that a user named.

A library's error becomes one line with the setting, its value, the reason and the fix.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rlcap.errors import ConfigError
from rlcap.io.addresses import resolve_address


@contextmanager
def explain_load_errors(
    what: str, name: str, fix: str, errors: tuple[type[Exception], ...] = (OSError, ValueError)
) -> Iterator[None]:
    """Turn the errors of the loading calls in this context into a `ConfigError`.

    Args:
        what: the configuration's key, or the kind of model.
        name: the folder or hub name as the user wrote it.
        fix: what the user should give instead.
        errors: what the library raises where it can't find or read the model; other errors pass through.

    Raises:
        ConfigError: instead of `errors`, with the first line of the library's message; also for broken weights.
    """
    try:
        yield
    except SafetensorError as error:
        raise ConfigError(
            f"{what} {name!r}: its weights are broken or incomplete ({error}); download or save them again"
        ) from error
    except errors as error:
        place = name.removeprefix("local-dir:")
        exists = ":" in place or Path(place).exists()
        if not exists and (place.startswith(("/", ".", "~")) or place.count("/") > 1):  # no hub name looks like this
            raise ConfigError(f"{what} {name!r}: there is no such file or folder; {fix}") from error
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        absent = "" if exists else " (there is no such file or folder here)"
        raise ConfigError(f"{what} {name!r}{absent} can't be loaded: {reason:.300}; {fix}") from error


def load_complete_model(
    kind: Any, folder: str, what: str, name: str, optional: tuple[str, ...] = (), **options: Any
) -> Any:
    """Load a model of transformers whose file holds all its weights.

    transformers fills weights that the file lacks with random numbers and only warns, for instance the classifier of an NLI
    model where a plain encoder was named. Then the scorer's values mean nothing.

    Args:
        kind: one of transformers' Auto classes.
        folder: the resolved folder or hub name.
        what: the configuration's key, or the kind of model.
        name: the folder or hub name as the user wrote it.
        optional: parts of names of weights that may be missing, because the scorer doesn't use them.
        **options: further options of `from_pretrained`.

    Raises:
        ConfigError: weights are missing.
    """
    model, info = kind.from_pretrained(folder, output_loading_info=True, trust_remote_code=False, **options)
    missing = sorted(key for key in info["missing_keys"] if not any(part in key for part in optional))
    if missing:
        raise ConfigError(
            f"{what} {name!r} lacks {len(missing)} tensors, such as {missing[0]}, which would be filled with random numbers: "
            "the file is incomplete, or it belongs to a model of another kind"
        )
    return model


def load_text_model(
    kind: Any, path_or_name: str, device: str, what: str, fix: str, optional: tuple[str, ...] = ()
) -> tuple[Any, Any]:
    """Load a model in float32 with its tokenizer; safetensors only, and no code of a hub repository is run.

    Args:
        kind: one of transformers' Auto classes.
        path_or_name: folder or hub name.
        device: device of the model.
        what: as for `explain_load_errors`.
        fix: as for `explain_load_errors`.
        optional: as for `load_complete_model`.

    Returns:
        The model and its tokenizer.

    Raises:
        ConfigError: the model does not exist, or weights are missing.
    """
    import torch
    from transformers import AutoTokenizer

    folder = resolve_address(str(path_or_name))
    with explain_load_errors(what, str(path_or_name), fix):
        model = load_complete_model(
            kind, folder, what, str(path_or_name), optional, use_safetensors=True, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return model.to(device), tokenizer
