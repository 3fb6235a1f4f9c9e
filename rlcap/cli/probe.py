"""`rlcap probe`: finds out which worse captions a mix, or a single reward, prefers to good ones."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import command, lab_config, positive, share


def add(commands: Any) -> None:
    """Add the command."""
    probe = command(
        commands,
        "probe",
        _probe,
        "which worse captions does a mix prefer to a good one; key=value overrides. Exit code 1 if a worse caption wins on more than "
        "`--threshold` of the images",
    )
    probe.add_argument(
        "target",
        help="YAML with `mix:` (and `data:`, else the lab's images are used), or one reward: length, rewards/brevity.py:Brevity or "
        "module:Class, its parameters as mix.length.params.low=0.8",
    )
    probe.add_argument(
        "--count", type=positive, default=42, help="number of images, with 16 captions each (default: %(default)s)"
    )
    probe.add_argument(
        "--split", help="split that the images are taken from (default: all rows of a file; `test` of another source)"
    )
    probe.add_argument(
        "--threshold",
        type=share,
        default=0.05,
        help="largest share of images on which the mix may prefer a worse caption (default: %(default)s)",
    )
    probe.add_argument("--json", type=Path, metavar="FILE", help="file for all results")
    probe.set_defaults(takes_overrides=True)


def _probe(options: argparse.Namespace) -> int:
    from rlcap.config.loading import load_config
    from rlcap.config.schema import GRPOConfig
    from rlcap.probing.probe import describe_report, probe, write_json

    if Path(options.target).is_file():
        config = load_config(GRPOConfig, options.target, options.overrides)
        if not config.data.source:
            of_data = [text for text in options.overrides if text.lstrip("-").startswith("data.")]
            config = config.model_copy(update={"data": load_config(GRPOConfig, lab_config(), of_data).data})
            print(f"{options.target} names no data.source: the images of the lab are used.")
    else:  # one reward with its own defaults, on the lab's images unless overrides name other data
        name = options.target.partition(":")[0].removesuffix(".py").rpartition(".")[2].rpartition("/")[2]
        of_mix = [text for text in options.overrides if text.lstrip("-").startswith("mix.")]
        others = [text for text in options.overrides if text not in of_mix]
        mix = load_config(GRPOConfig, None, [f"mix.{name}={{reward: {options.target!r}}}", *of_mix]).mix
        config = load_config(GRPOConfig, lab_config(), others).model_copy(update={"mix": mix})
    found = probe(config, options.count, options.split)
    print(describe_report(found, options.threshold))
    if options.json:
        write_json(found, options.threshold, options.json)
    return 1 if found.failed(options.threshold) else 0
