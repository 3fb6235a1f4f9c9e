"""`rlcap sweep`: trains the variants of a sweep file and compares them, without an account or a network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.cli.arguments import command, positive
from rlcap.errors import InputError

if TYPE_CHECKING:
    from rlcap.cli.sweep_runs import Run, SweepRuns
    from rlcap.config.sweep import Sweep, Variant

EPILOG = """\
examples:
  rlcap sweep launch/sweeps/mix_weights.yaml --method random --runs 8 --dry-run    list the runs
  rlcap sweep launch/sweeps/mix_weights.yaml --method random --runs 8              train and compare them
  rlcap sweep my_sweep.yaml --seeds 0,1,2                                          each variant with three training seeds
  rlcap sweep my_sweep.yaml train.steps=10                                         override a value in all runs
  rlcap sweep my_sweep.yaml --jobs 2 --stop-worse-half 20,40                       two runs at once; halve the variants twice

FILE has the form of a W&B sweep: program, method (grid, random or bayes), parameters and command. W&B itself runs sweeps only with an
account; here method bayes searches by optuna. Run the same command again to continue: finished runs are skipped, stopped ones resume, failed ones are tried again.
The output of a run is in NAME-SEED.log beside its folder, and sweep.json says what became of each. comparison.html, in the folder of the
sweep, says which variant to choose and how surely.
"""


def add(commands: Any) -> None:
    """Add the command."""
    sweep = command(
        commands,
        "sweep",
        _sweep,
        "train the variants of a sweep file, and compare them; key=value overrides",
        EPILOG,
    )
    sweep.add_argument("file", type=Path, metavar="FILE", help="sweep file, such as launch/sweeps/mix_weights.yaml")
    sweep.add_argument("--out", type=Path, help="folder for the runs (default: runs/sweep-NAME)")
    sweep.add_argument(
        "--method", choices=("grid", "random", "bayes"), help="how variants are chosen (default: that of the file)"
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
    sweep.add_argument(
        "--jobs", type=positive, default=1, help="runs at once; they share the machine (default: %(default)s)"
    )
    sweep.add_argument(
        "--stop-worse-half",
        type=_steps,
        default=[],
        metavar="STEPS",
        help="evaluated steps, such as 20,40, at which the worse half of the remaining variants is stopped, by the objective",
    )
    sweep.add_argument(
        "--part",
        type=int,
        nargs=2,
        metavar=("I", "N"),
        help="train every Nth run only, from the Ith (0 to N−1), for N machines that share the folder; compare nothing",
    )
    sweep.add_argument("--dry-run", action="store_true", help="list the runs and train nothing")
    sweep.set_defaults(takes_overrides=True)


def _seeds(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _steps(text: str) -> list[int]:
    steps = [int(part) for part in text.split(",")]
    if steps != sorted(set(steps)) or steps[0] < 1:
        raise argparse.ArgumentTypeError(f"{text} are no ascending steps above 0, such as 20,40")
    return steps


def _sweep(options: argparse.Namespace) -> int:
    from rlcap.cli.sweep_runs import SweepRuns, is_finished
    from rlcap.config.sweep import command_lines, list_seeds, list_variants, read_sweep

    sweep = read_sweep(options.file)
    seeds = options.seeds or list_seeds(sweep)
    out = options.out or Path("runs") / f"sweep-{sweep.name}"
    if options.part and (options.stop_worse_half or (options.method or sweep.method) == "bayes"):
        raise InputError(
            "--part trains runs without knowing the others: leave out --stop-worse-half, and take --method grid or random"
        )
    if (options.method or sweep.method) == "bayes":
        return _search(options, sweep, seeds, out)
    variants = list_variants(sweep, options.method, options.runs, options.seed)
    lines = list(command_lines(sweep, variants, seeds, options.overrides))
    if options.part:
        lines = _part(lines, *options.part)
    if options.dry_run:
        for variant, seed, arguments in lines:
            state = "finished" if is_finished(out / f"{variant.name}-{seed}") else "to do"
            print(f"{out / f'{variant.name}-{seed}'}  {state}  {' '.join(arguments)}")
        print(f"{len(lines)} runs; variants: {len(variants)}, training seeds of each: {len(seeds)}")
        return 0
    part = f"part-{options.part[0]}" if options.part else ""
    with _running(out / part):
        runs = SweepRuns(sweep, options.file, out, options.jobs, record=out / part / "sweep.json")
        runs.run(lines, options.stop_worse_half, options.split)
    if part:
        failed = [name for name, entry in runs.record.items() if entry["state"] == "failed"]
        print(
            f"{len(lines) - len(failed)} of {len(lines)} runs of this part are finished; the command without --part compares"
        )
        return 1 if failed else 0
    return _conclude(runs, variants, seeds, options.split)


@contextmanager
def _running(folder: Path) -> Iterator[None]:
    """Hold the folder of a sweep, and say after Ctrl-C how to go on."""
    from rlcap.io.atomic import make_folder
    from rlcap.io.lock import FolderLock

    lock = FolderLock(make_folder(folder, "the folder of the sweep"), "the sweep")
    try:
        yield
    except KeyboardInterrupt:
        raise InputError("stopped; run the same command to continue") from None
    finally:
        lock.release()


def _part(lines: Sequence[Run], index: int, count: int) -> list[Run]:
    if not 0 <= index < count:
        raise InputError(f"--part {index} {count}: the parts of {count} are 0 to {count - 1}")
    return list(lines[index::count])


def _search(options: argparse.Namespace, sweep: Sweep, seeds: Sequence[int], out: Path) -> int:
    """Train the variants that a Bayesian search proposes, each after the results of those before."""
    from rlcap.cli.sweep_runs import SweepRuns, final_objective
    from rlcap.cli.sweep_search import check_search, propose
    from rlcap.config.sweep import command_lines

    count = options.runs or sweep.runs
    check_search(sweep)
    if count is None:
        raise InputError("method bayes needs the number of variants: run_cap in the file, or --runs 8")
    if options.stop_worse_half:
        raise InputError("method bayes learns from whole runs: leave out --stop-worse-half, or take --method random")
    if options.dry_run:
        print(f"{count} variants with {len(seeds)} training seeds each; each variant depends on the results before")
        return 0
    variants: list[Variant] = []
    history: list[tuple[Mapping[str, Any], float]] = []
    with _running(out):
        runs = SweepRuns(sweep, options.file, out, options.jobs, record=out / "sweep.json")
        for number in range(count):
            variant = propose(sweep, history, options.seed)
            print(f"variant {number + 1} of {count}", flush=True)
            runs.run(list(command_lines(sweep, [variant], seeds, options.overrides)), [], options.split)
            folders = [out / f"{variant.name}-{seed}" for seed in seeds]
            if all(runs.record[folder.name]["state"] == "finished" for folder in folders):
                objective = final_objective(folders, options.split)
                best = max([objective, *(value for _, value in history)])
                print(f"  objective {objective:.3f}, best so far {best:.3f}", flush=True)
            else:  # as bad as the worst one, so that the search leaves this region
                objective = min((value for _, value in history), default=0.0)
            history.append((variant.values, objective))
            if variant not in variants:
                variants.append(variant)
    return _conclude(runs, variants, seeds, options.split)


def _conclude(runs: SweepRuns, variants: Sequence[Variant], seeds: Sequence[int], split: str | None) -> int:
    """Print the comparison, and which runs were stopped or failed, and return the exit code."""
    states = {
        f"{variant.name}-{seed}": runs.record[f"{variant.name}-{seed}"]["state"]
        for variant in variants
        for seed in seeds
    }
    failed = [name for name, state in states.items() if state == "failed"]
    whole = [variant for variant in variants if all(states[f"{variant.name}-{seed}"] == "finished" for seed in seeds)]
    print(report(runs.out, whole, seeds, split))
    for name, state in states.items():
        if state == "stopped":
            entry = runs.record[name]
            print(f"{name} was stopped at step {entry['step']}, objective {entry['objective']:.3f}")
    if failed:
        print(
            f"{len(failed)} of {len(states)} runs failed: {', '.join(failed)}; the same command tries them again",
            file=sys.stderr,
        )
    return 1 if failed else 0


def report(out: Path, variants: Sequence[Variant], seeds: Sequence[int], split: str | None) -> str:
    """Return the comparison of the finished variants, and write its page.

    It holds their parameters and objective, and what `rlcap compare` prints.

    Args:
        out: The folder of the sweep.
        variants: The variants of which all runs are finished; the first is the baseline.
        seeds: The training seeds.
        split: The held-out split; None for validation where the runs have it, else test.
    """
    from rlcap.eval.compare import compare, to_markdown
    from rlcap.eval.report.compare_page import write_comparison
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
    found, page = compare(folders, split), out / "comparison.html"
    write_comparison(page, found, folders)
    return "\n".join([*lines, "", to_markdown(found), "", f"comparison: {page}"])
