"""Draw the figures of the documentation from the stored results of the benchmarks.

    python docs/figures.py             writes docs/images/*.svg

A figure shows the numbers of one file in benchmarks/results/, so that a new measurement needs nothing but this command.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "benchmarks" / "results"
LABELS = {
    "test/hallucinated": "captions with a false claim",
    "test/fact_recall": "facts stated",
    "test/hallucination_rate": "false claims",
    "test/bag5_recall_at_1": "R@1 in bags of 5",
}
plt.rcParams.update(
    {
        "svg.hashsalt": "rlcap",  # equal input gives equal bytes
        "svg.fonttype": "none",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.constrained_layout.use": True,
    }
)
COLOURS = ("#0072b2", "#d55e00")
"""Blue and vermilion of Okabe and Ito, which colour-blind readers can tell apart."""


def results(name: str) -> Any:
    """Return the content of benchmarks/results/NAME.json."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def ends(row: Mapping[str, Any], metric: str) -> tuple[float, float, float]:
    """Return mean, low and high of a metric at the last step."""
    end = row[metric]["end"]
    return end["mean"], end["low"], end["high"]


def draw_frontier(axes: Any, rows: Mapping[str, Any]) -> None:
    """Draw facts against captions with a false claim, one point for each share of credit to claims."""
    points = [(ends(row, "test/hallucinated"), ends(row, "test/fact_recall")) for row in rows.values()]
    axes.plot([x[0] for x, _ in points], [y[0] for _, y in points], color=COLOURS[0], linewidth=1)
    for label, (x, y) in zip(rows, points, strict=True):
        axes.errorbar(
            x[0],
            y[0],
            xerr=[[x[0] - x[1]], [x[2] - x[0]]],
            yerr=[[y[0] - y[1]], [y[2] - y[0]]],
            fmt="o",
            color=COLOURS[0],
            elinewidth=0.6,
        )
        axes.annotate(f"λ = {label}", (x[0], y[0]), xytext=(5, 5), textcoords="offset points")
    axes.set_xlabel(LABELS["test/hallucinated"])
    axes.set_ylabel(LABELS["test/fact_recall"])


def draw_judges(axes: Any, rows: Mapping[str, Any], metric: str) -> None:
    """Draw a metric against how much the judge misreads, without and with credit to claims."""
    at = [100 * float(misreads) for misreads in rows]
    for colour, marker, (credit, label) in zip(
        COLOURS, "so", (("caption", "credit to captions"), ("claim", "credit to claims")), strict=True
    ):
        values = [ends(row[credit], metric) for row in rows.values()]
        axes.plot(at, [v[0] for v in values], marker=marker, color=colour, label=label)
        axes.fill_between(at, [v[1] for v in values], [v[2] for v in values], color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("share of attributes that the judge misreads, in %")
    axes.set_ylabel(LABELS[metric])


def draw_credit() -> Path:
    """Draw what credit to claims does, and how good a judge must be."""
    data = results("credit")
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4))
    draw_frontier(axes[0], data["share"])
    draw_judges(axes[1], data["misreads"], "test/hallucinated")
    draw_judges(axes[2], data["misreads"], "test/fact_recall")
    axes[1].legend(frameon=False)
    return save(figure, "credit")


def save(figure: Any, name: str) -> Path:
    """Write a figure to docs/images without the date, and return its path."""
    path = DOCS / "images" / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return path


def main() -> None:
    """Draw all figures."""
    print(draw_credit())


if __name__ == "__main__":
    main()
