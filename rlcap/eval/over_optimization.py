"""The divergence alarm: rewards rose in training while other rulers, on held-out images, got clearly worse.

That is what a hacked reward looks like from outside. An alarm names the rewards that rose and the metrics whose paired
difference to the start lies on the bad side of zero, by an interval that is 95 % for all of the split's metrics together
(Bonferroni): of fifteen metrics that did not change, one by one, one is worse in every third run. A share must be worse by
a percentage point, as over enough images any difference is sure. `rlcap probe` may tell the way it was done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

from rlcap.eval.metric_catalog import MAIN_METRICS, canonical_name, metric_info
from rlcap.eval.reward_gains import Rows, risen_terms

SLIGHT = 0.01
"""By less a share may get worse without an alarm."""


def classify_change(name: str, difference: Mapping[str, float]) -> str:
    """`better` or `worse` where the interval of the difference excludes zero, `changed` for a metric that has no direction,
    else `unclear`."""
    better = metric_info(name).better
    if not (difference["low"] > 0 or difference["high"] < 0):
        return "unclear"
    return "changed" if not better else "better" if better * difference["mean"] > 0 else "worse"


def find_alarms(changes: Sequence[Mapping[str, Any]], rows: Rows) -> list[dict[str, Any]]:
    """One alarm a split that has cause: {"split", "from", "to", "rose": [component], "worse": [metric]}.

    changes: as in summary.json. rows: of metrics.jsonl, by step.
    """
    rose = risen_terms(rows)
    found = []
    for change in changes if rose else ():
        watched = [
            name for name in change["metrics"] if canonical_name(name) in MAIN_METRICS and metric_info(name).better
        ]
        worse = [name for name in watched if _alarming(name, change["metrics"][name]["difference"], len(watched))]
        if worse:
            found.append({**{key: change[key] for key in ("split", "from", "to")}, "rose": rose, "worse": worse})
    return found


def _alarming(name: str, difference: Mapping[str, float], watched: int) -> bool:
    slight = metric_info(name).unit == "share" and abs(difference["mean"]) < SLIGHT
    return not slight and classify_change(name, widened(difference, watched)) == "worse"


def widened(difference: Mapping[str, float], questions: int) -> dict[str, float]:
    """A 95 % interval as one of `questions` that hold together with 95 %: each side is z(1 − .025 / questions) / z(.975) times
    as long (Bonferroni, for an estimate that is about normal)."""
    z = NormalDist().inv_cdf
    factor = z(1 - 0.025 / questions) / z(0.975)
    return {
        "mean": difference["mean"],
        **{end: difference["mean"] + factor * (difference[end] - difference["mean"]) for end in ("low", "high")},
    }


def describe_alarm(alarm: Mapping[str, Any]) -> str:
    """One sentence."""
    worse = "; ".join(metric_info(name).label.lower() for name in alarm["worse"])
    return f"Rewards rose ({', '.join(alarm['rose'])}) while held-out metrics got worse: {worse}."
