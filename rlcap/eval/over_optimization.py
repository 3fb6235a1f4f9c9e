"""The alarm for reward over-optimization: rewards rise in training while held-out metrics get clearly worse.

That is what a hacked reward looks like from outside. An alarm names the reward terms that rose and the held-out metrics
that got worse. A metric counts as worse if the interval of its paired difference to the start lies on the bad side of
zero. The intervals are over clusters of images (`rlcap.eval.statistics`), and they hold with 95 % for all watched metrics
of the split together (Bonferroni): with separate 95 % intervals, one of fifteen unchanged metrics would look worse in
every third run. A share must also be worse by at least
a percentage point, because over enough images every difference becomes significant. `rlcap probe` may show how the
reward was hacked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlcap.eval.metric_catalog import MAIN_METRICS, canonical_name, metric_info
from rlcap.eval.reward_gains import Rows, risen_terms
from rlcap.eval.statistics import COVERAGE, t_quantile

MIN_SHARE_CHANGE = 0.01
"""A share that gets worse by less than this raises no alarm."""


def classify_change(name: str, difference: Mapping[str, float]) -> str:
    """Classify the change of a metric by the interval of its difference.

    Args:
        name: The metric, which decides whether higher or lower is better.
        difference: {"mean", "low", "high"} of the difference.

    Returns:
        `unclear` where the interval includes zero or is unknown (NaN), else `better` or `worse`, or `changed` for a metric without a
        direction.
    """
    better = metric_info(name).better
    if not (difference["low"] > 0 or difference["high"] < 0):
        return "unclear"
    return "changed" if not better else "better" if better * difference["mean"] > 0 else "worse"


def find_alarms(changes: Sequence[Mapping[str, Any]], rows: Rows) -> list[dict[str, Any]]:
    """Return one alarm for each split where rewards rose and held-out metrics got worse.

    Args:
        changes: The `changes` of summary.json.
        rows: The rows of metrics.jsonl, in order of step.

    Returns:
        Alarms {"split", "from", "to", "rose": [reward term], "worse": [metric]}.
    """
    rose = risen_terms(rows)
    alarms = []
    for change in changes if rose else ():
        watched = [
            name for name in change["metrics"] if canonical_name(name) in MAIN_METRICS and metric_info(name).better
        ]
        worse = [name for name in watched if _is_alarming(name, change["metrics"][name]["difference"], len(watched))]
        if worse:
            alarms.append({**{key: change[key] for key in ("split", "from", "to")}, "rose": rose, "worse": worse})
    return alarms


def _is_alarming(name: str, difference: Mapping[str, Any], watched: int) -> bool:
    if difference["df"] is None:  # a single cluster
        return False
    is_negligible = metric_info(name).unit == "share" and abs(difference["mean"]) < MIN_SHARE_CHANGE
    return not is_negligible and classify_change(name, widen_interval(difference, watched)) == "worse"


def widen_interval(difference: Mapping[str, Any], count: int) -> dict[str, float]:
    """Widen a 95 % interval so that `count` such intervals hold together with 95 % (Bonferroni).

    Each side becomes t(1 − .025 / count) / t(.975) times as long, with the degrees of freedom of the interval. With few
    clusters that is much: five clusters and fifteen metrics make it twice as long, a normal distribution only 1.5 times.

    Args:
        difference: {"mean", "low", "high", "df"}, a 95 % interval over the clusters of one seed.
        count: The number of intervals, 1 or more.
    """
    df, tail = difference["df"], (1 - COVERAGE) / 2
    factor = float(t_quantile(df, tail / count) / t_quantile(df, tail))
    return {
        "mean": difference["mean"],
        **{end: difference["mean"] + factor * (difference[end] - difference["mean"]) for end in ("low", "high")},
    }


def describe_alarm(alarm: Mapping[str, Any]) -> str:
    """Return one sentence that names the rewards that rose and the metrics that got worse."""
    worse = "; ".join(metric_info(name).label.lower() for name in alarm["worse"])
    return f"Rewards rose ({', '.join(alarm['rose'])}) while held-out metrics got worse: {worse}."
