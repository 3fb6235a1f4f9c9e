"""Sweeps: from a file in the form of W&B's sweeps to the list of runs. Nothing here needs W&B."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcap.config.validation import did_you_mean
from rlcap.config.yaml_text import parse_yaml
from rlcap.errors import ConfigError
from rlcap.io.text import read_text

METHODS = ("grid", "random")
SEED = "train.seed"
"""The parameter whose values are the training seeds of each variant."""
DISTRIBUTIONS = ("uniform", "int_uniform", "log_uniform_values", "categorical", "constant")


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep file."""

    name: str
    """Its `name`, or the name of the file."""
    program: str
    """The recipe, such as `recipes/grpo.py`."""
    method: str
    """How variants are chosen: grid, random or bayes."""
    parameters: Mapping[str, Mapping[str, Any]]
    """Dotted key → its values or distribution."""
    launcher: tuple[str, ...]
    """The words before the program in `command`, such as `accelerate launch`."""
    fixed: tuple[str, ...]
    """The arguments after the program that all runs have."""
    runs: int | None
    """The largest number of variants (`run_cap`)."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One choice of the parameters."""

    values: Mapping[str, Any]
    """Dotted key → value."""

    @property
    def name(self) -> str:
        """Six hexadecimal digits that depend on the values alone, so that a changed file keeps the runs that it still has.

        The name of a configuration file stands before them.
        """
        digits = hashlib.sha256(json.dumps(self.values, sort_keys=True).encode()).hexdigest()[:6]
        return f"{Path(str(self.values['config'])).stem}-{digits}" if "config" in self.values else digits

    @property
    def overrides(self) -> list[str]:
        """The values as the recipes' command line takes them. `config` chooses the configuration file, as with `--config`."""
        return [
            f"--config={value}" if key == "config" else f"{key}={json.dumps(value)}"
            for key, value in self.values.items()
        ]


def read_sweep(path: str | Path) -> Sweep:
    """Read a sweep file.

    Raises:
        ConfigError: The file is no sweep; the message names the key and the fix.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"no sweep file {path}; those of the project are in launch/sweeps/")
    values = parse_yaml(read_text(path, "sweep file", ConfigError), str(path))
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} must hold a mapping with program, method and parameters, got {type(values).__name__}"
        )
    if missing := [key for key in ("program", "method", "parameters") if not values.get(key)]:
        raise ConfigError(f"{path} has no {', '.join(missing)}; launch/sweeps/mix_weights.yaml is an example")
    parameters = values["parameters"]
    for key, space in parameters.items() if isinstance(parameters, dict) else [("parameters", parameters)]:
        if not isinstance(space, dict) or not space.keys() & {"value", "values", "min", "max"}:
            raise ConfigError(
                f"{path}: {key} is {space!r:.80}; write {{values: [a, b]}}, {{value: a}} or {{min: 0.0, max: 1.0}}"
            )
    command = [str(word) for word in values.get("command") or ("${interpreter}", "${program}", "${args}")]
    if "${program}" not in command:
        raise ConfigError(f"{path}: command has no ${{program}}, got {command}")
    place = command.index("${program}")
    fixed = tuple(word for word in command[place + 1 :] if not word.startswith("${"))
    launcher = tuple(word for word in command[:place] if word != "${env}")
    return Sweep(
        str(values.get("name") or path.stem), str(values["program"]), str(values["method"]), parameters, launcher, fixed,
        values.get("run_cap"),
    )  # fmt: skip


def list_variants(sweep: Sweep, method: str | None = None, runs: int | None = None, seed: int = 0) -> list[Variant]:
    """Return the variants of a sweep, each once. `train.seed` is no part of them (`list_seeds`).

    Args:
        sweep: The sweep.
        method: `grid` or `random`; None for that of the file.
        runs: The largest number of variants; None for the file's `run_cap`.
        seed: Seed of the random choice.

    Raises:
        ConfigError: The method is another one, or does not fit the parameters.
    """
    method, runs = method or sweep.method, runs or sweep.runs
    spaces = {key: space for key, space in sweep.parameters.items() if key != SEED}
    if method not in METHODS:
        hint = did_you_mean(method, METHODS)
        raise ConfigError(
            f"method is {method!r}; {hint}known: grid, random, and bayes, which proposes each variant after the results before"
        )
    if method == "random":
        if runs is None:
            raise ConfigError("method random needs the number of variants: run_cap in the file, or --runs 8")
        drawn = (
            {key: _draw(key, space, f"{seed}/{number}/{key}") for key, space in spaces.items()}
            for number in range(runs)
        )
        return list({variant.name: variant for variant in map(Variant, drawn)}.values())
    columns = [[(key, value) for value in _values(key, space)] for key, space in spaces.items()]
    grid = (Variant(dict(choice)) for choice in itertools.product(*columns))
    return list(itertools.islice(grid, runs))


def list_seeds(sweep: Sweep) -> list[int]:
    """Return the training seeds of the file: the values of `train.seed`, or 0."""
    return [int(value) for value in _values(SEED, sweep.parameters.get(SEED, {"value": 0}))]


def command_lines(
    sweep: Sweep, variants: Sequence[Variant], seeds: Sequence[int], more: Sequence[str] = ()
) -> Iterator[tuple[Variant, int, list[str]]]:
    """Yield (variant, seed, arguments of the recipe) of every run, the seeds of a variant one after the other.

    Args:
        sweep: The sweep.
        variants: Its variants.
        seeds: The training seeds of each variant.
        more: Further overrides, which take precedence.
    """
    for variant in variants:
        for seed in seeds:
            # Without an account: a run reports to no tracker unless the command line names one.
            yield variant, seed, [*sweep.fixed, *variant.overrides, f"{SEED}={seed}", "report_to=[]", *more]


def _values(key: str, space: Mapping[str, Any]) -> list[Any]:
    if "values" in space:
        return list(space["values"])
    if "value" in space:
        return [space["value"]]
    raise ConfigError(
        f"method grid needs a list of values for {key}, got {dict(space)}; write values: […], or take --method random"
    )


def _draw(key: str, space: Mapping[str, Any], seed: str) -> Any:
    """Draw a value. The seed holds the key, so that a further parameter does not change the values of the others."""
    rng = random.Random(seed)
    if "values" in space or "value" in space:
        options = _values(key, space)
        return rng.choices(options, space.get("probabilities"))[0]
    low, high = space.get("min"), space.get("max")
    if not isinstance(low, int | float) or not isinstance(high, int | float) or low > high:
        raise ConfigError(f"{key} needs numbers min and max with min ≤ max, got {dict(space)}")
    kind = space.get("distribution") or ("int_uniform" if isinstance(low, int) and isinstance(high, int) else "uniform")
    if kind == "int_uniform":
        return rng.randint(int(low), int(high))
    if kind == "uniform":
        return float(f"{rng.uniform(low, high):.4g}")
    if kind == "log_uniform_values" and low > 0:
        return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.4g}")
    hint = did_you_mean(str(kind), DISTRIBUTIONS)
    raise ConfigError(
        f"{key}: distribution {kind!r} from {low} to {high}; {hint}known: {', '.join(DISTRIBUTIONS)} (log only above 0)"
    )
