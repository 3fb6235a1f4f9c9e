"""The checkpoints of a run: completing one, finding damage in one, and deleting old ones.

transformers writes the weights, the optimiser and the random generators of a checkpoint. This module then adds STATE, the
last file: it holds what transformers does not save, and size and sha256 of every other file. A checkpoint without STATE is
half-written, and one whose files differ from it is damaged. Both are passed over for an older one.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlcap.errors import ConfigError, InputError
from rlcap.io.atomic import file_checksum, flush_folder, write_text
from rlcap.io.text import read_json

STATE = "rlcap_state.json"
"""Last file of a checkpoint."""
_TRAINER_STATE = "trainer_state.json"
_NAME = re.compile(r"checkpoint-(\d{1,12})")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint of a step in the folder of a run's checkpoints."""
    return folder / f"checkpoint-{step}"


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the folders of checkpoints, the newest first. Whatever else lies in the folder is ignored."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if path.is_dir() and _NAME.fullmatch(path.name)), key=step_of, reverse=True)


def step_of(checkpoint: Path | None) -> int:
    """Return the number of optimiser steps before a checkpoint, which its name states.

    Without a checkpoint the result is −1 and not 0, because the evaluation before the first step is still to be done.

    Raises:
        ConfigError: The path does not have the name of a checkpoint.
    """
    if checkpoint is None:
        return -1
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ConfigError(f"{checkpoint} is not a checkpoint: its name must be checkpoint-STEP, such as checkpoint-40")
    return int(match[1])


def write_state(checkpoint: Path, state: Mapping[str, Any]) -> None:
    """Write the last file of a checkpoint, after all others are flushed to the disk.

    Args:
        checkpoint: Folder of the checkpoint. All its other files must be written.
        state: What resuming needs beside the files of transformers, as plain JSON values.

    Raises:
        StorageError: The file can't be written.
    """
    flush_folder(checkpoint)
    paths = (path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name != STATE)
    files = {
        path.relative_to(checkpoint).as_posix(): {"size": path.stat().st_size, "sha256": file_checksum(path)}
        for path in paths
    }
    content = {"state": dict(state), "files": files}
    # Not by write_json: a running mean without values is NaN, and must be NaN again in the resumed run.
    text = json.dumps({**content, "sha256": _checksum(content)}) + "\n"
    write_text(checkpoint / STATE, text, "the state of the checkpoint")


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the state that `write_state` wrote.

    Raises:
        InputError: The file is missing or damaged.
    """
    state: dict[str, Any] = _read(checkpoint)["state"]
    return state


def find_damage(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint, in words, or None for a complete and undamaged one.

    Every file is read, so that one flipped bit is found.
    """
    if not (checkpoint / STATE).is_file():
        return f"it lacks {STATE}, so it was not written to its end"
    try:
        files = _read(checkpoint)["files"]
    except InputError as error:
        return str(error)
    for name, expected in files.items():
        path = checkpoint / name
        size = path.stat().st_size if path.is_file() else 0
        if size != expected["size"]:
            return f"its {name} has {size:,} of {expected['size']:,} bytes"
        try:
            checksum = file_checksum(path)
        except OSError as error:
            return f"its {name} can't be read ({error.strerror})"
        if checksum != expected["sha256"]:
            return f"its {name} is damaged: its sha256 is not the recorded one"
    state = read_json(checkpoint / _TRAINER_STATE) if _TRAINER_STATE in files else {}
    if isinstance(state, dict) and (held := state.get("global_step", step_of(checkpoint))) != step_of(checkpoint):
        return f"it holds the state of step {held}"
    return None


def delete_old_checkpoints(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` complete checkpoints, and half-written ones that are older than those.

    transformers would delete the old checkpoint before the new one is complete, so that a kill in between could leave none.
    """
    complete = [path for path in list_checkpoints(folder) if (path / STATE).is_file()]
    if len(complete) < keep:
        return
    oldest_kept = step_of(complete[keep - 1])
    for path in list_checkpoints(folder):
        if step_of(path) < oldest_kept:
            shutil.rmtree(path)


def _read(checkpoint: Path) -> dict[str, Any]:
    """Return the content of STATE. Raises InputError where it is not what `write_state` wrote."""
    path = checkpoint / STATE
    content = read_json(path, "the state of the checkpoint")
    if not isinstance(content, dict) or not {"state", "files", "sha256"} <= content.keys():
        raise InputError(f"its {STATE} is damaged or of another version")
    if content.pop("sha256") != _checksum(content):
        raise InputError(f"its {STATE} is damaged: its sha256 is not the recorded one")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
