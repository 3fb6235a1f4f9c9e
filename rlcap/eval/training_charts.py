"""The report's charts over training: what was rewarded, above what other rulers saw on held-out images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rlcap.eval.catalogue import about
from rlcap.eval.charts import Chart, Line, line_chart, smooth
from rlcap.eval.run_files import RunFiles

HELD_OUT = ("bag5_recall_at_1", "fact_recall", "hallucination_rate", "nli_contradiction", "nli_entailment")
RISEN = 0.25
"""From how many standard deviations within a group on a reward counts as risen."""


def _x_range(files: RunFiles) -> tuple[float, float]:
    return 0, max([files.summary["steps"], *(row["step"] for row in files.metrics), 1])


def _series(files: RunFiles, name: str) -> list[tuple[float, float]]:
    found = [(row["step"], row["metrics"].get(name)) for row in files.metrics]
    return [(step, float(value)) for step, value in found if value is not None]


def _components(files: RunFiles) -> list[str]:
    names = dict.fromkeys(name for row in files.metrics for name in row["metrics"])
    return [name.split("/")[1] for name in names if name.startswith("reward/") and name.endswith("/mean")]


def _gain(files: RunFiles, component: str) -> list[tuple[float, float]]:
    """The component's rise since the start, in units of its usual spread within a group of captions of one image."""
    points = _series(files, f"reward/{component}/mean")
    spread = [value for _, value in _series(files, f"reward/{component}/std_within_group") if value > 0]
    unit = float(np.median(spread)) if spread else float(np.std([value for _, value in points])) or 1.0
    start = float(np.mean([value for _, value in points[: max(1, len(points) // 20)]]))
    return [(step, (value - start) / unit) for step, value in points]


def _window(points: Sequence[tuple[float, float]]) -> int:
    return max(1, len(points) // 12) | 1


def reward_chart(files: RunFiles) -> Chart | None:
    """Every component on one scale, with rules where the bags grew; None without rewards."""
    lines = []
    for component in _components(files):
        raw, gain = _series(files, f"reward/{component}/mean"), _gain(files, component)
        ends = smooth(raw, _window(raw))
        lines.append(
            Line(
                component,
                smooth(gain, _window(gain)),
                note=f"{ends[0][1]:.3g} → {ends[-1][1]:.3g}".replace("-", "−"),
                faint=gain,
            )
        )
    bags = _series(files, "stage/bag_size")
    grown = [(step, f"bags of {size:g}") for (step, size), (_, old) in zip(bags[1:], bags, strict=False) if size != old]
    title = "Rewards in training: rise since the start, in standard deviations within a group"
    return line_chart(title, lines, _x_range(files), show=_signed, floor=0, rules=grown)


def _split(files: RunFiles) -> str:
    return Counter(e["split"] for e in files.summary["evaluations"]).most_common(1)[0][0]


def _held_out(files: RunFiles, split: str, name: str) -> Line | None:
    found = [
        (e["step"], e["metrics"][name])
        for e in files.summary["evaluations"]
        if e["split"] == split and name in e["metrics"]
    ]
    if not found:
        return None
    what = about(name)
    return Line(
        what.label,
        [(step, value["mean"]) for step, value in found],
        band=[(step, value["low"], value["high"]) for step, value in found] if len(found) > 1 else (),
        note=f"{what.format(found[0][1]['mean'])} → {what.format(found[-1][1]['mean'])}",
        dots=True,
    )


def held_out_chart(files: RunFiles) -> Chart | None:
    """Metrics with their intervals, over the same steps as `reward_chart`, of the split that was evaluated most often."""
    split = _split(files)
    lines = [line for name in HELD_OUT if (line := _held_out(files, split, name))]
    return line_chart(
        f"Held-out images ({split}), by other rulers than the rewards'", lines, _x_range(files), show=_percent, floor=0
    )


def _signed(value: float) -> str:
    return f"{value:+g}".replace("-", "−") if value else "0"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def other_charts(files: RunFiles) -> list[Chart]:
    """Length, CIDEr-D, abstentions and the health of the training: what the run has of them."""
    split = _split(files)
    words = _series(files, "completions/mean_words")
    length = [Line("sampled in training", smooth(words, _window(words)), faint=words)] if words else []
    if held := _held_out(files, split, "mean_words"):
        length.append(Line("greedy, held out", held.points, held.band, held.note, dots=True))
    abstain_rates = {c: _series(files, f"reward/{c}/abstain_rate") for c in _components(files)}
    abstained = [
        Line(component, smooth(points, _window(points)))
        for component, points in abstain_rates.items()
        if any(value for _, value in points)
    ]
    charts = [line_chart("Length in words", length, _x_range(files))]
    if cider := _held_out(files, split, "cider_d"):
        charts.append(line_chart("CIDEr-D", [cider], _x_range(files)))
    charts.append(line_chart("Abstentions, share of captions", abstained, _x_range(files), show=_percent, floor=0))
    for name, title in (
        ("dead_groups", "Groups without any difference in reward"),
        ("kl", "KL divergence from the reference"),
        ("grad_norm", "Gradient norm"),
    ):
        points = _series(files, name)
        charts.append(
            line_chart(title, [Line("", smooth(points, _window(points)), faint=points)], _x_range(files), floor=0)
        )
    return [chart for chart in charts if chart]


def risen_rewards(files: RunFiles) -> list[str]:
    """The components that rose by more than `RISEN` over training."""
    gains = {component: _gain(files, component) for component in _components(files)}
    return [component for component, gain in gains.items() if smooth(gain, _window(gain))[-1][1] > RISEN]
