"""`rlcap fuse`: turns images and what experts say of them into rows with fused paragraphs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import SOURCE, add_rows, command, positive, rows

EPILOG = """\
examples:
  rlcap fuse rlcap.lab.source:LabSource --preset recipes/configs/lab_fuse.yaml --out runs/fused.jsonl data.train=64
  rlcap fuse photos.jsonl --preset fusecap fuser=openai:gpt-4o-mini fuser.limits.dollars=5 --out fused.jsonl
  rlcap fuse photos.jsonl --preset my_preset.yaml --out fused.jsonl
  rlcap train sft data.source=fused.jsonl                   the rows feed SFT as they are

An override that begins with data. is about the source, every other one about the preset. The same command continues a run that was
stopped, and the rows are the same as without the stop.
"""


def add(commands: Any) -> None:
    """Add the command."""
    fuse = command(
        commands,
        "fuse",
        _fuse,
        "fuse what experts say of images into paragraphs with provenance; key=value overrides",
        EPILOG,
    )
    add_rows(fuse, f"{SOURCE}, or a folder of images")
    fuse.add_argument("--preset", required=True, help="name of a shipped preset, or a .yaml file")
    fuse.add_argument(
        "--out", type=Path, help="jsonl file to write; a page (.html) and a summary (.summary.json) go beside it"
    )
    fuse.add_argument("--batch-size", type=positive, default=16, help="images computed together (default: %(default)s)")
    fuse.add_argument("--page-rows", type=positive, default=40, help="rows that the page shows (default: %(default)s)")
    fuse.add_argument("--cache", help="sqlite file of the experts' statements (default: one in the cache folder)")
    fuse.add_argument("--pairs", type=Path, help="also write chat pairs (jsonl), to teach a local model to fuse")


def _fuse(options: argparse.Namespace) -> None:
    from rlcap.errors import InputError
    from rlcap.fuse.distillation import write_pairs
    from rlcap.fuse.preset import load_preset
    from rlcap.fuse.run import FusionFiles, run_fusion

    if options.out is None or options.out.suffix != ".jsonl":
        raise InputError(f"--out names the file of rows, which ends in .jsonl; got {options.out}")
    about_data = [text for text in options.overrides if text.lstrip("-").startswith("data.")]
    preset = load_preset(options.preset, [text for text in options.overrides if text not in about_data])
    options.overrides = about_data
    samples = rows(options)
    if preset.deviations:
        print(f"{preset.paper}\n" + "\n".join(f"  differs: {line}" for line in preset.deviations))
    summary = run_fusion(
        preset, samples, options.out, batch_size=options.batch_size, page_rows=options.page_rows, cache=options.cache
    )
    files = FusionFiles(options.out)
    print(f"{summary.text()}\n{files.rows}, {files.page}, {files.summary}")
    if options.pairs is not None:
        print(f"{options.pairs}: {write_pairs(options.out, preset, options.pairs)} pairs")
