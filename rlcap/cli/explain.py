"""`rlcap explain`: why a sampled caption of a GRPO run got its advantage, computed again from the run folder."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.cli.arguments import command, positive

if TYPE_CHECKING:
    from torch import Tensor

    from rlcap.algo.advantages import Advantages
    from rlcap.config.schema import GRPOConfig

EXAMPLES = """\
examples:
  rlcap explain runs/a --step 2                             the captions of step 2, numbered, with their advantages
  rlcap explain runs/a --step 2 --row 3                     how the third of them got its advantage
  rlcap explain runs/a --step 2 --sample train-0-00081 --row 1

config.yaml says how the advantages are formed, and rollouts.jsonl holds the scores. No model is loaded. The exit code is 1 if the result
differs from the advantage that the run wrote.
"""
TOLERANCE = 1e-3
"""Largest difference from the written advantage that counts as rounding."""


def add(commands: Any) -> None:
    """Add the command."""
    explain = command(commands, "explain", _explain, "how a sampled caption of a GRPO run got its advantage", EXAMPLES)
    explain.add_argument("run_dir", type=Path, metavar="RUN", help="the run folder")
    explain.add_argument("--step", type=positive, help="step of the caption (default: the last one with captions)")
    explain.add_argument("--sample", metavar="ID", help="only the captions of this image")
    explain.add_argument(
        "--row", type=positive, help="number of the caption in the list, from 1 (default: print the list)"
    )


@dataclass(frozen=True, slots=True)
class Round:
    """The captions of one generation round, in the order in which training saw them, with what training made of them."""

    step: int
    rows: Sequence[Mapping[str, Any]]
    """N rows of rollouts.jsonl."""
    values: Tensor
    """(N, K) float32; NaN where a term abstained."""
    names: tuple[str, ...]
    """K terms."""
    weights: tuple[float, ...]
    """K weights."""
    combined: Advantages
    """The advantages, by the run's own settings."""
    normalised: Tensor
    """(N, K) what a term contributes before its weight."""
    baseline: Tensor | None
    """(K,) means of past captions, where the formula compares with them."""


def _explain(options: argparse.Namespace) -> int:
    config = load_run(options.run_dir)
    found = load_round(options.run_dir, config, options.step)
    chosen = choose_rows(found, options.sample)
    if options.row is None:
        print(list_rows(found, chosen))
        return 0
    if options.row > len(chosen):
        from rlcap.errors import InputError

        raise InputError(f"--row {options.row}: step {found.step} has {len(chosen)} such captions")
    text, agrees = describe(found, chosen[options.row - 1], config)
    print(text)
    return 0 if agrees else 1


def load_run(folder: Path) -> GRPOConfig:
    """Return the configuration of a GRPO run.

    Raises:
        InputError: the folder holds no GRPO run.
    """
    from rlcap.config.loading import load_config
    from rlcap.config.schema import GRPOConfig
    from rlcap.errors import InputError
    from rlcap.eval.run_files import run_config

    values = run_config(folder)
    if not values or not values.get("mix"):
        raise InputError(f"{folder} is no GRPO run: it has no config.yaml with a mix")
    if "lam" in values.get("train", {}):
        raise InputError(
            f"{folder} is a PPO run: its advantages belong to tokens and come from the value model, which rollouts.jsonl does not hold"
        )
    return load_config(GRPOConfig, folder / "config.yaml")


def load_round(folder: Path, config: GRPOConfig, step: int | None = None) -> Round:
    """Return the captions of a step with their advantages, computed as in training.

    The statistics of past rounds, which `normalize: running` and `sum_minus_running_mean` need, are built from the earlier rows of the file.

    Args:
        folder: the run folder.
        config: its configuration.
        step: the step; None takes the last one.

    Raises:
        InputError: the folder holds no such step, or its advantages can't be computed from the file.
    """
    import torch

    from rlcap.algo.advantages import combine
    from rlcap.config.schema import mix_entries
    from rlcap.errors import InputError
    from rlcap.reward.running_statistics import RunningMoments, RunningStd

    train, terms = config.train, mix_entries(config.mix)
    if train.aggregate == "sum_minus_greedy":
        raise InputError(
            f"{folder}: train.aggregate=sum_minus_greedy compares with greedy captions, which rollouts.jsonl does not hold"
        )
    names = tuple(terms)
    weights = tuple(float(term["weight"]) for term in terms.values())
    running, moments = RunningStd(names), RunningMoments(names)
    rounds = _read_rounds(folder)
    step = step or max(rounds)
    if step not in rounds:
        raise InputError(f"--step {step}: {folder} has captions of the steps {_shorten(sorted(rounds))}")
    settings: dict[str, Any] = {
        "normalize": [term["normalize"] for term in terms.values()],
        "aggregate": train.aggregate,
        "reward_ranges": [_width(term["reward"]) for term in terms.values()],
    }
    for number in sorted(n for n in rounds if n <= step):
        rows = rounds[number]
        groups = _groups(rows, train.captions_per_image, folder, number)
        values = torch.tensor([[_value(row, name) for name in names] for row in rows])
        own = rows[0].get("weights", {})  # those of constrained terms change from round to round
        weights = tuple(float(own.get(name, weight)) for name, weight in zip(names, weights, strict=True))
        past: dict[str, Any] = {"running_std": running.stds(), "baseline": moments.means()}
        combined = combine(values, weights, groups, whiten=train.whiten, **settings, **past)
        if number == step:
            plain = combine(values, [1.0] * len(names), groups, whiten=False, **settings, **past)
            is_running = train.aggregate == "sum_minus_running_mean"
            baseline = torch.tensor(past["baseline"]) if is_running else None
            return Round(step, rows, values, names, weights, combined, plain.contributions, baseline)
        running.update(combined.std_pooled.tolist())
        moments.update(values.T.tolist())
    raise AssertionError(step)


def _read_rounds(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """Return step → rows, those of all processes one after the other."""
    from rlcap.errors import InputError
    from rlcap.io.text import read_log
    from rlcap.train.run_folder import RunFolder

    rounds: dict[int, list[dict[str, Any]]] = {}
    rank = 0
    while (path := RunFolder(folder).rollouts(rank)).is_file():
        for row in read_log(path):
            rounds.setdefault(int(row["step"]), []).append(row)
        rank += 1
    if not rounds:
        raise InputError(f"{folder} has no captions: its rollouts.jsonl is missing or empty")
    return rounds


def _groups(rows: Sequence[Mapping[str, Any]], size: int, folder: Path, step: int) -> int:
    """Return the captions of an image, after a check that the rows are whole groups."""
    from rlcap.errors import InputError

    runs = [{row["sample_id"] for row in rows[start : start + size]} for start in range(0, len(rows), size)]
    if len(rows) % size or any(len(ids) > 1 for ids in runs):
        counted = Counter(row["sample_id"] for row in rows)
        raise InputError(
            f"{folder}: step {step} has {len(rows)} captions of {len(counted)} images, which are no groups of "
            f"train.captions_per_image={size}: a file of another process is missing, or the last lines were cut off"
        )
    return size


def _value(row: Mapping[str, Any], name: str) -> float:
    value = row["scores"].get(name)
    return math.nan if value is None else float(value)


def _width(reward: str) -> float:
    """Return the width of a reward's range by its class. Advantages depend on it only through the floor of 1e-4 × range."""
    from rlcap.errors import ConfigError
    from rlcap.reward.mix import resolve_reward

    try:
        low, high = resolve_reward(reward).range
    except ConfigError:  # a reward of one's own that is not here any more
        return 1.0
    return high - low


def choose_rows(found: Round, sample: str | None) -> list[int]:
    """Return the numbers of a round's rows, or of those of one image.

    Raises:
        InputError: the round has no such image.
    """
    from rlcap.errors import InputError

    ids = [str(row["sample_id"]) for row in found.rows]
    chosen = [i for i, id in enumerate(ids) if sample in (None, id)]
    if not chosen:
        raise InputError(f"--sample {sample}: step {found.step} has {_shorten(dict.fromkeys(ids))}")
    return chosen


def list_rows(found: Round, chosen: Sequence[int]) -> str:
    """Return a numbered table of captions with their written advantages."""
    from rlcap.cli.tables import align

    lines: list[tuple[str, ...]] = [("row", "sample", "advantage", "caption")]
    for number, i in enumerate(chosen, 1):
        row = found.rows[i]
        lines.append((str(number), str(row["sample_id"]), f"{row['advantage']:+.3f}", " ".join(row["caption"].split())))
    return f"{len(chosen)} captions of step {found.step}\n{align(lines)}"


def describe(found: Round, i: int, config: GRPOConfig) -> tuple[str, bool]:
    """Return how a row got its advantage, and whether the result is the written one.

    Args:
        found: the round.
        i: number of the row in the round, from 0.
        config: the configuration of the run.
    """
    from rlcap.algo.groups import centre, group_index
    from rlcap.cli.tables import align

    row, train = found.rows[i], config.train
    index = group_index(train.captions_per_image, len(found.rows))
    centred, _, spread = centre(found.values, index)
    parts, advantage = found.combined.contributions[i], float(found.combined.advantages[i])
    compared = "past mean" if found.baseline is not None else "group mean"
    lines: list[tuple[str, ...]] = [
        ("term", "raw", compared, "group std", "normalised", "weight", "contribution", "abstained because")
    ]
    for k, name in enumerate(found.names):
        raw = float(found.values[i, k])
        mean = (
            float(found.values[i, k].double() - centred[i, k]) if found.baseline is None else float(found.baseline[k])
        )
        judged = [number(raw), number(mean), number(float(spread[i, k])), number(float(found.normalised[i, k]))]
        cells = judged if not math.isnan(raw) else ["abstains", "–", number(float(spread[i, k])), "–"]
        reason = row.get("abstained", {}).get(name, "")
        lines.append((name, *cells, f"{found.weights[k]:g}", number(float(parts[k])), reason))
    if not any(line[-1] for line in lines[1:]):
        lines = [line[:-1] for line in lines]
    normalize = sorted({term.normalize or "group" for term in config.mix.values() if term is not None})
    how = f"train.aggregate={train.aggregate}" + (
        f", normalize {' and '.join(normalize)}" if train.aggregate == "normalize_then_sum" else ""
    )
    group = [number + 1 for number in range(len(found.rows)) if index[number] == index[i]]
    divisor = find_divisor(found, index, i)
    text = [
        f"step {found.step}, row {i + 1} of {len(found.rows)}, image {row['sample_id']} (group: rows {group[0]} to {group[-1]})",
        " ".join(row["caption"].split()),
        "",
        how,
        align(lines),
        "",
        f"sum of contributions  {number(float(parts.sum()))}",
        f"divided by            {'–' if divisor is None else number(divisor)}  {_what_divides(train)}",
        f"advantage             {number(advantage)}",
    ]
    written = float(row["advantage"])
    agrees = abs(written - advantage) <= TOLERANCE * max(1.0, abs(written))
    if agrees:
        text.append(f"written by the run    {number(written)}, the same")
    elif train.kl == "sequence" and train.beta:
        text.append(f"written by the run    {number(written)}")
        text.append(
            f"The difference of {number(written - advantage)} is −train.beta × the caption's KL (train.kl=sequence), which rollouts.jsonl does "
            "not hold."
        )
        agrees = True
    else:
        text.append(f"written by the run    {number(written)}, which DIFFERS by {number(written - advantage)}")
        text.append(
            "The file or config.yaml was changed, another version of rlcap trained, or a term's std lies at the floor of 1e-4 × its range."
        )
    text += describe_spans(row, uses_credit=train.credit == "claim")
    return "\n".join(text), agrees


def describe_spans(row: Mapping[str, Any], uses_credit: bool) -> list[str]:
    """Return lines with what each term said of which parts of the caption; none where no term said anything.

    Args:
        row: the row of rollouts.jsonl.
        uses_credit: whether the parts changed the advantages of the caption's tokens.
    """
    from rlcap.cli.tables import align
    from rlcap.eval.report.span_marks import quote, strongest_spans
    from rlcap.eval.rollouts import read_spans

    lines = []
    for name, spans in read_spans(row).items():
        listed = strongest_spans(spans)
        left_out = len(spans) - len(listed)
        counted = f"{len(spans)} part{'' if len(spans) == 1 else 's'}"
        lines.append(f"{name}: {counted}" + (f", the {left_out} weakest left out" if left_out else ""))
        cells = [
            (f"{number(span.value):>9}", f'"{quote(row["caption"], span)}"', _one_line(span.label)) for span in listed
        ]
        lines += align(cells).splitlines()
    if not lines:
        return []
    if uses_credit:
        credit = (
            "train.credit=claim: the advantage above is the caption's. Its tokens have advantages of their own, which these parts "
            "change by the formula in rlcap/algo/credit.py."
        )
    else:
        credit = "train.credit=caption: all tokens have the caption's advantage, and these parts did not change it."
    return ["", "what the rewards said of parts of the caption, strongest first", *lines, credit]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def find_divisor(found: Round, index: Tensor, i: int) -> float | None:
    """Return what the sum of row i was divided by, read off a row of its group or else of the round; None where all are zero.

    Args:
        found: the round.
        index: (N,) group numbers.
        i: number of the row.
    """
    sums, advantages = found.combined.contributions.double().sum(1), found.combined.advantages.double()
    for rows in ((index == index[i]).nonzero()[:, 0], advantages.abs().argsort()[-1:]):
        best = rows[advantages[rows].abs().argmax()]
        if advantages[best] != 0:
            return float(sums[best] / advantages[best])
    return None


def _what_divides(train: Any) -> str:
    if train.aggregate == "sum_then_normalize":
        return "std of the group's sums (n − 1)"
    if train.aggregate in ("sum_then_center", "sum_then_leave_one_out") or not train.whiten:
        return "(nothing)"
    return "std (n − 1) over the captions of the groups in which a sum is not 0"


def number(value: float) -> str:
    """Return a number with four digits after the point, or a dash where there is none."""
    return "–" if math.isnan(value) else f"{round(value, 4) + 0.0:.4f}"  # + 0.0: no minus before a zero


def _shorten(names: Any, most: int = 8) -> str:
    listed = [str(name) for name in names]
    return ", ".join(listed[:most]) + (f", … ({len(listed)})" if len(listed) > most else "")
