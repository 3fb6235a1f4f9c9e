"""Exports of a run's weights: the adapter with its card, or one complete model into which the adapter is merged.

export_adapter(Path("runs/a"), Path("exported"))
export_merged(Path("runs/a"), Path("exported"), dtype="bfloat16")
push_to_hub(Path("exported"), "me/my-captioner")
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlcap.config.schema import ModelConfig
from rlcap.errors import InputError
from rlcap.eval.pretrained import read_run
from rlcap.io.addresses import resolve_address
from rlcap.io.atomic import flush_folder, storage_errors, write_text
from rlcap.io.text import read_json
from rlcap.train.model_card import CARD, model_card, read_card_files


def export_adapter(run_dir: Path, out: Path) -> Path:
    """Copy the trained weights of a run, with their card, into a folder of their own.

    Args:
        run_dir: The run folder.
        out: The new folder.

    Raises:
        InputError: The run has no weights, or `out` is not empty.
        StorageError: The folder can't be written.
    """
    read_run(run_dir)
    with _new_folder(out) as partial:
        shutil.copytree(run_dir / "adapter", partial, dirs_exist_ok=True)
        if not (partial / CARD).is_file():  # of a run that did not write one; an edited card is copied as it is
            write_text(partial / CARD, model_card(read_card_files(run_dir)), "the model card")
    return out


def export_merged(run_dir: Path, out: Path, dtype: str = "auto") -> Path:
    """Merge the adapter of a run into its base, and save model, processor and generation settings.

    The sum is formed in float32 and rounded once. A base that training held in 4 bits is loaded unquantised.

    Args:
        run_dir: The run folder.
        out: The new folder, which `load_captioner` and plain transformers load.
        dtype: Data type of the saved weights: `float32`, `bfloat16`, or `auto`, which is bfloat16 for a base in bfloat16 and float32
            otherwise.

    Raises:
        InputError: The run has no adapter, or `out` is not empty.
        ConfigError: The base or the adapter can't be loaded.
        StorageError: The folder can't be written.
    """
    # These imports take seconds. They come after the check that the run has an adapter.
    values = read_run(run_dir)["model"]
    if values.get("adapter") is None:
        raise InputError(
            f"{run_dir} trained all weights: {run_dir / 'adapter'} is a complete model already, so leave out --merge"
        )
    import torch
    from transformers import AutoConfig

    from rlcap.policy.loading import load_policy

    with _new_folder(out) as partial:
        config = ModelConfig.parse(values | {"dtype": "float32", "load_in_4bit": False}, "model")
        policy = load_policy(config)
        merged: Any = policy.model.merge_and_unload(safe_merge=True)
        base = resolve_address(config.base)
        own = AutoConfig.from_pretrained(base, trust_remote_code=config.trust_remote_code).dtype
        target = "bfloat16" if own == torch.bfloat16 else "float32"
        merged.to(getattr(torch, target if dtype == "auto" else dtype))
        merged.save_pretrained(partial)
        policy.processor.save_pretrained(partial)
        write_text(partial / CARD, model_card(read_card_files(run_dir), merged=True), "the model card")
    return out


def check_hub(name: str, folder: Path | None = None) -> None:
    """Check what can be known before an upload.

    Args:
        name: Name of the repository, such as `me/my-captioner`.
        folder: A folder with an adapter; None to check the name and the connection only.

    Raises:
        InputError: The name is no name of a repository, the network is switched off, or the adapter names a base that nobody
            else has.
    """
    from huggingface_hub import is_offline_mode
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(f"--push-to-hub {name}: {error}; write OWNER/NAME") from error
    if is_offline_mode():
        raise InputError(
            "--push-to-hub needs the network, and HF_HUB_OFFLINE=1 switches it off: unset it, or leave out --push-to-hub"
        )
    path = folder / "adapter_config.json" if folder else None
    if path is not None and path.is_file():
        base = str(read_json(path, "the adapter's configuration").get("base_model_name_or_path") or "")
        if os.path.isabs(base) or os.path.isdir(base):
            raise InputError(
                f"--push-to-hub: the adapter names its base by the folder {base}, which nobody else has; upload the complete "
                f"model with --merge, or write the base's name on the hub into {path}"
            )


def push_to_hub(folder: Path, name: str, public: bool = False) -> str:
    """Upload a folder to a model repository of the Hugging Face hub, which is created where it does not exist.

    Args:
        folder: The folder, from `export_adapter` or `export_merged`.
        name: Name of the repository, such as `me/my-captioner`.
        public: Whether everyone may see it.

    Returns:
        The address of the repository.

    Raises:
        InputError: As for `check_hub`, or the hub refuses, can't be reached, or has a public repository of this name although
            `public` is false.
    """
    check_hub(name, folder)
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        address = api.create_repo(name, private=not public, exist_ok=True)
        if not public and api.model_info(name).private is False:
            raise InputError(
                f"--push-to-hub {name}: the repository exists and is public; add --public, or choose another name"
            )
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload a captioner trained with rlcap")
    except (HfHubHTTPError, LocalTokenNotFoundError, httpx.HTTPError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"--push-to-hub {name}: the hub can't be reached or refuses ({reason:.200}); `hf auth login` stores a token with the "
            "right to write, and the export itself is complete"
        ) from error
    return str(address)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out`, which takes its place at the end, so that `out` is complete or absent."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out} exists and is not empty; name a new folder")
    with storage_errors(out, "the export"):
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        partial.chmod(0o755)  # mkdtemp makes a folder that only its owner can read
        try:
            yield partial
            flush_folder(partial)
            if out.exists():
                out.rmdir()
            partial.replace(out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
