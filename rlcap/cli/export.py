"""`rlcap export`: writes the weights of a run for use elsewhere, and uploads them."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import command
from rlcap.errors import InputError

EPILOG = """\
examples:
  rlcap export runs/a --out captioner-lora                     the LoRA adapter with its model card; peft and vLLM load it
  rlcap export runs/a --merge --out captioner                  one complete model: transformers, vLLM and load_captioner load it
  rlcap export runs/a --merge --dtype bfloat16 --out captioner
  rlcap export runs/a --push-to-hub me/my-captioner            upload the adapter to a private repository

Read README.md in the new folder before you publish it, and set its licence. The merged model writes the same captions as base and
adapter together, up to the rounding of --dtype. --push-to-hub uses the token of `hf auth login`.
"""


def add(commands: Any) -> None:
    """Add the command."""
    export = command(
        commands,
        "export",
        _export,
        "write the trained weights of a run as an adapter or, with --merge, as one complete model",
        EPILOG,
    )
    export.add_argument("run_dir", type=Path, metavar="RUN", help="run folder")
    export.add_argument("--out", type=Path, help="new folder for the weights and their model card")
    export.add_argument("--merge", action="store_true", help="merge the adapter into its base")
    export.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        help="data type of the merged weights (default: auto, bfloat16 for a base in bfloat16, else float32)",
    )
    export.add_argument("--push-to-hub", metavar="NAME", help="also upload to this repository of the Hugging Face hub")
    export.add_argument("--public", action="store_true", help="let everyone see the repository (default: private)")


def _export(options: argparse.Namespace) -> None:
    from rlcap.train.export import check_hub, export_adapter, export_merged, push_to_hub

    if not (options.out or options.push_to_hub):
        raise InputError("name a folder with --out DIR, or a repository with --push-to-hub OWNER/NAME")
    if options.dtype and not options.merge:
        raise InputError("--dtype is for --merge; an adapter is copied as it is")
    if options.public and not options.push_to_hub:
        raise InputError("--public is for --push-to-hub")
    if options.push_to_hub:
        # before minutes are spent on the merge
        check_hub(options.push_to_hub, None if options.merge else options.run_dir / "adapter")
    with tempfile.TemporaryDirectory(prefix="rlcap-export-") as temporary:
        out = options.out or Path(temporary) / "export"
        if options.merge:
            export_merged(options.run_dir, out, options.dtype or "auto")
        else:
            export_adapter(options.run_dir, out)
        if options.out:
            print(
                f"{out}: {'a complete model' if options.merge else 'the trained weights'} with its card, {out / 'README.md'}"
            )
        if options.push_to_hub:
            print(push_to_hub(out, options.push_to_hub, options.public))
