"""The divergence alarm: rewards rose in training while other rulers, on held-out images, got clearly worse.

That is what a hacked reward looks like from outside. An alarm names the rewards that rose and the metrics whose 95 %
interval of the paired difference to the start lies on the bad side of zero, shares by a percentage point at least;
`rlcap probe` may tell the way it was done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlcap.eval.catalogue import MAIN, about, standard
from rlcap.eval.reward_gains import Rows, risen

SLIGHT = 0.01
"""By less a share may get worse without an alarm: over enough images any difference is sure, and most don't matter."""


def verdict(name: str, difference: Mapping[str, float]) -> str:
    """`better` or `worse` where the interval of the difference excludes zero, `changed` for a metric that has no direction,
    else `unclear`."""
    better = about(name).better
    if not (difference["low"] > 0 or difference["high"] < 0):
        return "unclear"
    return "changed" if not better else "better" if better * difference["mean"] > 0 else "worse"


def alarms(changes: Sequence[Mapping[str, Any]], rows: Rows) -> list[dict[str, Any]]:
    """One alarm a split that has cause: {"split", "from", "to", "rose": [component], "worse": [metric]}.

    changes: as in summary.json. rows: of metrics.jsonl, by step.
    """
    rose = risen(rows)
    found = []
    for change in changes if rose else ():
        worse = [
            name
            for name, values in change["metrics"].items()
            if standard(name) in MAIN and clearly_worse(name, values["difference"])
        ]
        if worse:
            found.append({**{key: change[key] for key in ("split", "from", "to")}, "rose": rose, "worse": worse})
    return found


def clearly_worse(name: str, difference: Mapping[str, float]) -> bool:
    """Whether a metric got worse beyond chance, and a share by `SLIGHT` or more."""
    slight = about(name).unit == "share" and abs(difference["mean"]) < SLIGHT
    return verdict(name, difference) == "worse" and not slight


def told(alarm: Mapping[str, Any]) -> str:
    """One sentence."""
    worse = "; ".join(about(name).label.lower() for name in alarm["worse"])
    return f"Rewards rose ({', '.join(alarm['rose'])}) while held-out metrics got worse: {worse}."
