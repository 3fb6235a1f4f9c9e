"""Bayesian search over the parameters of a sweep, by optuna's tree-structured Parzen estimator, without a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlcap.config.sweep import SEED, Sweep, Variant
from rlcap.errors import ConfigError

STARTUP = 4
"""Variants that are drawn at random before the search begins to learn."""


def check_search(sweep: Sweep) -> None:
    """Check that a sweep can be searched.

    Raises:
        ConfigError: optuna is not installed, or a parameter has no range to search.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ConfigError('method bayes needs optuna: pip install "rlcap[sweep]", or take --method random') from None
    for key, space in _spaces(sweep).items():
        _distribution(key, space)


def propose(sweep: Sweep, history: Sequence[tuple[Mapping[str, Any], float]], seed: int) -> Variant:
    """Return the variant to try next. It depends on the arguments alone, so that a stopped sweep continues as it would have.

    Args:
        sweep: The sweep.
        history: (values, objective) of the variants so far, in the order in which they were proposed; higher is better.
        seed: Seed of the search.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution(key, space) for key, space in _spaces(sweep).items()}
    sampler = optuna.samplers.TPESampler(seed=1000 * seed + len(history), n_startup_trials=STARTUP)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for values, objective in history:
        study.add_trial(
            optuna.trial.create_trial(params=dict(values), distributions=distributions, value=float(objective))
        )
    found = study.ask(distributions).params
    return Variant({key: _rounded(value, sweep.parameters[key]) for key, value in found.items()})


def _rounded(value: Any, space: Mapping[str, Any]) -> Any:
    """Return a number from a range with four significant digits, still within the range; another value as it is."""
    if not isinstance(value, float) or "min" not in space:
        return value
    return min(max(float(f"{value:.4g}"), float(space["min"])), float(space["max"]))


def _spaces(sweep: Sweep) -> dict[str, Mapping[str, Any]]:
    return {key: space for key, space in sweep.parameters.items() if key != SEED}


def _distribution(key: str, space: Mapping[str, Any]) -> Any:
    """Return a parameter's space as optuna has it.

    Raises:
        ConfigError: The space has no values and no range, or a distribution that is not known.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if "values" in space or "value" in space:
        return CategoricalDistribution(list(space.get("values", [space.get("value")])))
    low, high = space.get("min"), space.get("max")
    if not isinstance(low, int | float) or not isinstance(high, int | float) or low > high:
        raise ConfigError(f"{key} needs numbers min and max with min ≤ max, got {dict(space)}")
    kind = space.get("distribution") or ("int_uniform" if isinstance(low, int) and isinstance(high, int) else "uniform")
    if kind == "int_uniform":
        return IntDistribution(int(low), int(high))
    if kind in ("uniform", "log_uniform_values") and (kind == "uniform" or low > 0):
        return FloatDistribution(float(low), float(high), log=kind != "uniform")
    raise ConfigError(
        f"{key}: a search knows the distributions uniform, int_uniform and log_uniform_values, got {kind!r}"
    )
