"""Images on which one variant's caption is much better or much worse than another's, for people who want to see the difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from rlcap.eval.captions_file import Table
from rlcap.eval.metric_catalog import metric_info

MOST = 4
"""Images in each of the two galleries, at most."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The captions of an image by two captioners."""

    id: str
    image: str
    gain: float
    """Sum of the changes of the metrics, each positive where the second caption is better."""
    captions: tuple[str, str]
    false: tuple[list[tuple[int, int, str]], list[tuple[int, int, str]]]
    """False sentences of each caption, where the truth is known."""
    changed: list[tuple[str, float, float]]
    """(metric, first value, second value) of each metric that differs."""


def wins_and_losses(
    first: Table, second: Table, metrics: Sequence[str], most: int = MOST
) -> tuple[list[Pair], list[Pair]]:
    """Return the images whose metrics gain most and lose most from the first captioner to the second.

    Args:
        first: Captions of one captioner.
        second: Captions of another one; images that only one has are left out.
        metrics: Metrics in [0, 1], which are added up.
        most: Images in each list, at most.
    """
    row_of_id = {id: i for i, id in enumerate(first.ids)}
    pairs = []
    for j, id in enumerate(second.ids):
        if id not in row_of_id:
            continue
        i = row_of_id[id]
        changed, gain = [], 0.0
        for name in metrics:
            if name in first.metrics and name in second.metrics:
                before, after = float(first.metrics[name][i]), float(second.metrics[name][j])
                change = metric_info(name).better * (after - before)
                if math.isfinite(change) and change:
                    gain += change
                    changed.append((name, before, after))
        captions, false = (first.captions[i], second.captions[j]), (first.false[i], second.false[j])
        pairs.append(Pair(id, second.images[j], gain, captions, false, changed))
    pairs.sort(key=lambda pair: (-pair.gain, pair.id))
    wins = [pair for pair in pairs if pair.gain > 0][:most]
    losses = [pair for pair in reversed(pairs) if pair.gain < 0][:most]
    return wins, losses


def to_context(pair: Pair, picture: Any) -> dict[str, Any]:
    """Return a pair for the macro `side_by_side`, with its false sentences marked.

    Args:
        pair: The pair.
        picture: The image for the macro `picture`.
    """
    changed = []
    for name, before, after in pair.changed:
        info = metric_info(name)
        verdict = "better" if info.better * (after - before) > 0 else "worse"
        changed.append(
            {"label": info.label, "verdict": verdict, "before": info.format(before), "after": info.format(after)}
        )
    captions = [mark_false(caption, false) for caption, false in zip(pair.captions, pair.false, strict=True)]
    return {"id": pair.id, "picture": picture, "captions": captions, "changed": changed}


def mark_false(caption: str, false: Sequence[tuple[int, int, str]]) -> Markup:
    """Return the caption as HTML with its false sentences underlined and explained."""
    html, end = Markup(), 0
    for start, stop, why in sorted(false):
        html += escape(caption[end:start])
        html += Markup('<u class="false" title="not in the image: {}">{}</u>').format(why, caption[start:stop])
        end = stop
    return html + escape(caption[end:])
