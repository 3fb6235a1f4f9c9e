"""`rlcap curate loop`: a captioner writes drafts, experts correct them, and the captioner learns the result; then again.

This is the self-loop of DetailCaps (arXiv 2405.19092), made of the commands `rlcap fuse` and `rlcap train sft`:

    OUT/loop.json            what the loop was started with
    OUT/rounds.json          the measurements of each round; round 0 is the captioner that the preset names
    OUT/round-1/rows.jsonl   fused paragraphs, with page and summary
    OUT/round-1/run/         the run of SFT with its adapter
    OUT/round-1/captions.jsonl, measurements.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import SOURCE, command, positive
from rlcap.errors import InputError

EPILOG = """\
An override begins with fuse. (the preset, or data of the source), train. (SFT) or measure. (data and metrics of the measurement):

  rlcap curate loop rlcap.lab.source:LabSource --preset recipes/configs/lab_fuse.yaml --config recipes/configs/lab_sft.yaml \\
      --measure recipes/configs/lab.yaml --rows-key data.options.paragraphs --rounds 2 --out loop fuse.data.train=600 train.train.steps=200
  rlcap curate loop photos.jsonl --preset fusecap --config my_sft.yaml --measure my_grpo.yaml --expert captions --rounds 2 --out loop

Each round trains from where the configuration of SFT starts, on paragraphs that the captioner of the round before drafted. The same command
continues after an interruption.
"""
MAIN = "rlcap.cli.main"


def add(curate: Any) -> None:
    """Add the command to the group `curate`."""
    loop = command(curate, "loop", _loop, "caption, verify, fuse and train in rounds; key=value overrides", EPILOG)
    loop.add_argument("source", help=SOURCE)
    loop.add_argument("--preset", required=True, help="preset of `rlcap fuse`: a name or a .yaml file")
    loop.add_argument(
        "--expert", default="draft", help="the expert of the preset that is the captioner (default: %(default)s)"
    )
    loop.add_argument("--config", type=Path, required=True, help="YAML for `rlcap train sft`")
    loop.add_argument("--measure", type=Path, required=True, help="YAML with data and evaluation, as for `rlcap eval`")
    loop.add_argument(
        "--split", default="validation", help="split of --measure that is captioned (default: %(default)s)"
    )
    loop.add_argument("--rows-key", default="data.source", help="key of SFT that names the rows (default: %(default)s)")
    loop.add_argument("--rounds", type=positive, default=2, help="number of rounds (default: %(default)s)")
    loop.add_argument(
        "--max-new-tokens", type=positive, default=200, help="longest measured caption (default: %(default)s)"
    )
    loop.add_argument("--out", type=Path, required=True, help="folder of the loop")
    loop.set_defaults(takes_overrides=True)


def _loop(options: argparse.Namespace) -> None:
    from rlcap.fuse.preset import load_preset
    from rlcap.io.atomic import make_folder, write_json
    from rlcap.io.lock import FolderLock
    from rlcap.io.text import read_json

    parts = split_overrides(options.overrides)
    preset = load_preset(options.preset, [text for text in parts["fuse"] if not text.startswith("data.")])
    if options.expert not in preset.experts:
        raise InputError(f"--expert {options.expert}: the preset has {', '.join(preset.experts)}")
    params = preset.experts[options.expert].params
    if "model" not in params:
        raise InputError(f"--expert {options.expert} has no parameter model, so that it is no captioner of rlcap")
    make_folder(options.out, "the loop")
    lock = FolderLock(options.out, "the loop")
    try:
        names = ("source", "preset", "expert", "split", "rows_key", "max_new_tokens")
        settings = {name: getattr(options, name) for name in names} | {
            "config": str(options.config), "measure": str(options.measure), "overrides": parts,
        }  # fmt: skip
        record = options.out / "loop.json"
        if record.exists() and (known := read_json(record, "the record of the loop")) != settings:
            changed = sorted(key for key in settings if known.get(key) != settings[key])
            raise InputError(f"{options.out} has a loop with other {', '.join(changed)}; choose another --out")
        write_json(record, settings, "the record of the loop", indent=1)
        captioner: tuple[str, str | None] = (str(params["model"]), params.get("adapter"))
        rounds = [measure(options, parts["measure"], options.out / "round-0", captioner, params.get("instruction"))]
        for number in range(1, options.rounds + 1):
            folder = make_folder(options.out / f"round-{number}", "a round of the loop")
            print(f"round {number} of {options.rounds}: drafts of {captioner[0]}", flush=True)
            _fuse(options, parts["fuse"], folder, captioner)
            _train(options, parts["train"], folder)
            captioner = (str(folder / "run"), None)
            rounds.append(measure(options, parts["measure"], folder, captioner))
            write_json(options.out / "rounds.json", rounds, "the rounds of the loop", indent=1)
    finally:
        lock.release()
    print(table(rounds))


def split_overrides(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Return the overrides of fuse, train and measure, without this first word.

    Raises:
        InputError: An override begins with another word.
    """
    parts: dict[str, list[str]] = {"fuse": [], "train": [], "measure": []}
    for text in overrides:
        name, _, rest = text.lstrip("-").partition(".")
        if name not in parts or "=" not in rest:
            raise InputError(
                f"{text}: an override of the loop begins with fuse., train. or measure., as in train.train.steps=200"
            )
        parts[name].append(rest)
    return parts


def _fuse(
    options: argparse.Namespace, overrides: Sequence[str], folder: Path, captioner: tuple[str, str | None]
) -> None:
    """Write the rows of a round; `rlcap fuse` itself continues or recognises finished rows."""
    adapter = json.dumps(captioner[1])
    drafts = f"experts.{options.expert}.params"
    _run(
        "fuse", options.source, "--preset", options.preset, "--out", str(folder / "rows.jsonl"), *overrides,
        f"{drafts}.model={captioner[0]}", f"{drafts}.adapter={adapter}",
    )  # fmt: skip


def _train(options: argparse.Namespace, overrides: Sequence[str], folder: Path) -> None:
    """Train the adapter of a round, unless its run has ended."""
    from rlcap.train.run_folder import ENDED, RunFolder

    run = folder / "run"
    if (run / "adapter").is_dir() and RunFolder(run).facts().get(ENDED):
        return
    resume = ["resume=auto"] if (run / "config.yaml").is_file() else []
    rows = f"{options.rows_key}={folder / 'rows.jsonl'}"
    _run("train", "sft", "--config", str(options.config), f"--output_dir={run}", *overrides, rows, *resume)


def _run(*words: str) -> None:
    """Run a command of rlcap as a process of its own, so that its memory is given back.

    Raises:
        InputError: The command failed; it has told why.
    """
    code = subprocess.run([sys.executable, "-m", MAIN, *words], check=False).returncode
    if code:
        raise InputError(f"`rlcap {' '.join(words)}` ended with {code}; run the loop again to continue")


def measure(
    options: argparse.Namespace,
    overrides: Sequence[str],
    folder: Path,
    captioner: tuple[str, str | None],
    instruction: str | None = None,
) -> dict[str, Any]:
    """Caption the held-out split and return its metrics, or those that the folder has already.

    Args:
        options: The options of the command.
        overrides: Overrides of the configuration --measure.
        folder: The folder of the round.
        captioner: Model and adapter, or a run and None.
        instruction: What the captioner is asked; None for the run's own.
    """
    from rlcap.cli.evaluate import evaluate_captions
    from rlcap.config.loading import load_config
    from rlcap.config.schema import GRPOConfig
    from rlcap.data.source import load_splits
    from rlcap.eval.captioning import caption_samples
    from rlcap.eval.pretrained import load_captioner
    from rlcap.io.atomic import write_json, write_text
    from rlcap.io.text import read_json

    path = folder / "measurements.json"
    if path.exists():
        known: dict[str, Any] = read_json(path, "the measurements")
        return known
    config = load_config(GRPOConfig, options.measure, list(overrides))
    splits, _ = load_splits(config.data)
    if options.split not in splits:
        raise InputError(f"--split {options.split}: the data of --measure has {', '.join(splits)}")
    samples = splits[options.split]
    loaded = load_captioner(*captioner, instruction=instruction, max_new_tokens=options.max_new_tokens)
    captions = caption_samples(
        loaded.policy.model, loaded.policy.processor, samples, instruction=loaded.instruction,
        max_new_tokens=loaded.max_new_tokens, progress=True,
    )  # fmt: skip
    rows = [{"sample_id": sample.id, "caption": text} for sample, text in zip(samples, captions, strict=True)]
    written = folder / "captions.jsonl"
    write_text(written, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "the captions")
    found = {"captioner": captioner[0], "captions": len(rows), "metrics": evaluate_captions(written, config, options.split).metrics}  # fmt: skip
    write_json(path, found, "the measurements", indent=1)
    return found


def table(rounds: Sequence[dict[str, Any]]) -> str:
    """Return the means of all rounds for the terminal, a metric a line."""
    names = dict.fromkeys(name for one in rounds for name in one["metrics"])
    lines = [f"{'metric':<28}" + "".join(f"{f'round {i}':>10}" for i in range(len(rounds)))]
    for name in names:
        means = [one["metrics"].get(name, {}).get("mean") for one in rounds]
        lines.append(f"{name:<28}" + "".join(f"{'–' if mean is None else f'{mean:.3f}':>10}" for mean in means))
    return "\n".join(lines)
