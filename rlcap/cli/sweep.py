"""`rlcap sweep`: trains the variants of a sweep file one after the other and compares them, without an account or a network."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.cli.arguments import command, positive
from rlcap.errors import InputError

if TYPE_CHECKING:
    from rlcap.config.sweep import Sweep, Variant

EPILOG = """\
examples:
  rlcap sweep launch/sweeps/mix_weights.yaml --method random --runs 8 --dry-run    list the runs
  rlcap sweep launch/sweeps/mix_weights.yaml --method random --runs 8              train and compare them
  rlcap sweep my_sweep.yaml --seeds 0,1,2                                          each variant with three training seeds
  rlcap sweep my_sweep.yaml train.steps=10                                         override a value in all runs

FILE has the form of a W&B sweep: program, method (grid or random), parameters and command. W&B itself runs sweeps only with an
account. Run the same command again to continue: finished runs are skipped, stopped ones resume, failed ones are tried again.
The output of a run is in NAME-SEED.log beside its folder, and sweep.json says what became of each.
"""


def add(commands: Any) -> None:
    """Add the command."""
    sweep = command(
        commands,
        "sweep",
        _sweep,
        "train the variants of a sweep file one after the other, and compare them; key=value overrides",
        EPILOG,
    )
    sweep.add_argument("file", type=Path, metavar="FILE", help="sweep file, such as launch/sweeps/mix_weights.yaml")
    sweep.add_argument("--out", type=Path, help="folder for the runs (default: runs/sweep-NAME)")
    sweep.add_argument(
        "--method", choices=("grid", "random"), help="how variants are chosen (default: that of the file)"
    )
    sweep.add_argument("--runs", type=positive, help="largest number of variants (default: run_cap of the file)")
    sweep.add_argument("--seed", type=int, default=0, help="seed of the random choice (default: %(default)s)")
    sweep.add_argument(
        "--seeds",
        type=_seeds,
        help="training seeds of each variant, such as 0,1,2 (default: train.seed of the file, or 0)",
    )
    sweep.add_argument(
        "--split", help="held-out split of the comparison (default: validation where the runs have it, else test)"
    )
    sweep.add_argument("--dry-run", action="store_true", help="list the runs and train nothing")
    sweep.set_defaults(takes_overrides=True)


def _seeds(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _sweep(options: argparse.Namespace) -> int:
    from rlcap.config.sweep import command_lines, list_seeds, list_variants, read_sweep
    from rlcap.io.atomic import make_folder, write_json
    from rlcap.io.lock import FolderLock
    from rlcap.io.text import read_json

    sweep = read_sweep(options.file)
    variants = list_variants(sweep, options.method, options.runs, options.seed)
    seeds = options.seeds or list_seeds(sweep)
    out = options.out or Path("runs") / f"sweep-{sweep.name}"
    lines = list(command_lines(sweep, variants, seeds, options.overrides))
    if options.dry_run:
        for variant, seed, arguments in lines:
            state = "finished" if is_finished(out / f"{variant.name}-{seed}") else "to do"
            print(f"{out / f'{variant.name}-{seed}'}  {state}  {' '.join(arguments)}")
        print(f"{len(lines)} runs; variants: {len(variants)}, training seeds of each: {len(seeds)}")
        return 0
    lock = FolderLock(make_folder(out, "the folder of the sweep"), "the sweep")
    path = out / "sweep.json"
    record: dict[str, dict[str, Any]] = read_json(path, "the record of the sweep")["runs"] if path.is_file() else {}
    try:
        for number, (variant, seed, arguments) in enumerate(lines, 1):
            folder = out / f"{variant.name}-{seed}"
            print(f"{number} of {len(lines)}: {folder.name}  {' '.join(variant.overrides)}", flush=True)
            if record.get(folder.name, {}).get("state") != "finished" or not is_finished(folder):
                record[folder.name] = {
                    "parameters": dict(variant.values),
                    "seed": seed,
                    **train(sweep, folder, arguments),
                }
                write_json(path, {"file": str(options.file), "runs": record}, "the record of the sweep", indent=1)
            print(f"  {record[folder.name]['state']}{describe_error(record[folder.name], folder)}", flush=True)
    except KeyboardInterrupt:
        raise InputError("stopped; run the same command to continue") from None
    finally:
        lock.release()
    names = [
        f"{variant.name}-{seed}" for variant, seed, _ in lines
    ]  # the record also keeps runs of an earlier form of the file
    failed = [name for name in names if record[name]["state"] == "failed"]
    whole = [variant for variant in variants if not any(f"{variant.name}-{seed}" in failed for seed in seeds)]
    print(report(out, whole, seeds, options.split))
    if failed:
        print(
            f"{len(failed)} of {len(lines)} runs failed: {', '.join(failed)}; the same command tries them again",
            file=sys.stderr,
        )
    return 1 if failed else 0


def train(sweep: Sweep, folder: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Train one run as a process of its own, unless it is finished.

    Args:
        sweep: The sweep.
        folder: The folder of the run.
        arguments: The arguments of the recipe.

    Returns:
        The entry of the run in sweep.json: its state, `finished` or `failed`, with the last line of a failed run's output.
    """
    if is_finished(folder):
        return {"state": "finished"}
    resume = ["resume=auto"] if (folder / "config.yaml").is_file() else []
    log, start = folder.with_name(f"{folder.name}.log"), time.monotonic()
    with open(log, "a", encoding="utf-8") as output:
        line = [*launch(sweep), *arguments, f"--output_dir={folder}", *resume]
        process = subprocess.Popen(line, stdout=output, stderr=subprocess.STDOUT)
        try:
            code = process.wait()
        except KeyboardInterrupt:  # Ctrl-C reaches the run as well, which finishes its step and saves
            process.wait()
            raise
    seconds = round(time.monotonic() - start, 1)
    if code == 0 and is_finished(folder):
        return {"state": "finished", "seconds": seconds}
    said = [text.strip() for text in log.read_text(encoding="utf-8", errors="replace").splitlines() if text.strip()]
    return {"state": "failed", "seconds": seconds, "exit_code": code, "error": said[-1][-300:] if said else ""}


def launch(sweep: Sweep) -> list[str]:
    """Return the command that starts the recipe, with this Python: by its file, or by its module where there is no clone."""
    launcher = [sys.executable]
    if sweep.launcher[:2] == ("accelerate", "launch"):
        launcher += ["-m", "accelerate.commands.launch", *sweep.launcher[2:]]
    program = Path(sweep.program)
    return [*launcher, str(program)] if program.is_file() else [*launcher, "-m", f"rlcap.recipes.{program.stem}"]


def is_finished(folder: Path) -> bool:
    """Return whether a run reached its last step and wrote its summary."""
    from rlcap.eval.run_files import run_config
    from rlcap.eval.summary import read_summary

    if not (folder / "summary.json").is_file():
        return False
    config = run_config(folder) or {}
    return bool(read_summary(folder)["steps"] >= config.get("train", {}).get("steps", 0))


def describe_error(entry: dict[str, Any], folder: Path) -> str:
    """Return why a run failed, for the console."""
    return f" ({entry['error']}; see {folder}.log)" if entry["state"] == "failed" else ""


def report(out: Path, variants: Sequence[Variant], seeds: Sequence[int], split: str | None) -> str:
    """Return the comparison of the finished variants: their parameters and objective, and what `rlcap compare` prints.

    Args:
        out: The folder of the sweep.
        variants: The variants of which all runs are finished; the first is the baseline.
        seeds: The training seeds.
        split: The held-out split; None for validation where the runs have it, else test.
    """
    from rlcap.eval.compare import compare, to_markdown
    from rlcap.eval.summary import read_summary
    from rlcap.train.result_tables import objective

    folders = [[out / f"{variant.name}-{seed}" for seed in seeds] for variant in variants]
    summaries = [[read_summary(folder) for folder in runs] for runs in folders]
    if not summaries:
        return "no variant is finished"
    held_out = {evaluation["split"] for evaluation in summaries[0][0]["evaluations"]}
    split = split or ("validation" if "validation" in held_out else "test")
    rows = []
    for variant, runs in zip(variants, summaries, strict=True):
        last = [[e["metrics"] for e in summary["evaluations"] if e["split"] == split][-1:] for summary in runs]
        values = [objective(metrics) for found in last for metrics in found]
        rows.append((sum(values) / len(values) if values else float("nan"), variant))
    lines = [f"| variant | objective on {split} | parameters |", "|---|---|---|"]
    lines += [
        f"| {variant.name} | {value:.3f} | {' '.join(variant.overrides)} |"
        for value, variant in sorted(rows, key=lambda row: -row[0])
    ]
    if len(folders) < 2:
        return "\n".join([*lines, "", "one variant is finished, so there is nothing to compare"])
    return "\n".join([*lines, "", to_markdown(compare(folders, split))])
