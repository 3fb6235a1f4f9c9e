"""Captions with their words coloured by what each reward term said of them.

A row of rollouts.jsonl holds the spans of its caption. For each term that gave some, the caption is shown once. Words are blue and
underlined by a straight line where the spans over them have a positive sum, and orange with a wavy line where it is negative. The
strength is relative to the term's largest absolute sum among the captions that are shown together.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from rlcap.data.panel import hashed
from rlcap.eval.metric_catalog import signed_text
from rlcap.eval.rollouts import Row, read_spans
from rlcap.types import Span

STRONGEST = 8
"""Parts of a caption that a list of the strongest has for each term, at most."""
FAINTEST = 0.05
"""Share of a term's largest absolute sum below which words get no mark."""
QUOTED = 60
"""Characters of a part of a caption that a list quotes, at most."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a caption over which the same spans lie."""

    text: str
    value: float
    """Sum of the values of the spans."""
    spans: tuple[Span, ...]
    """The spans; empty where the reward said nothing."""


def split_at_spans(caption: str, spans: Sequence[Span]) -> list[Part]:
    """Return the parts of a caption, which together are the caption.

    A span that reaches beyond the caption is cut at its end.
    """
    edges = {0, len(caption), *(edge for span in spans for edge in (span.start, span.end) if edge < len(caption))}
    cuts = sorted(edges)
    parts = []
    for start, end in itertools.pairwise(cuts):
        over = tuple(span for span in spans if span.start <= start and span.end >= end)
        parts.append(Part(caption[start:end], sum(span.value for span in over), over))
    return parts


def strongest_spans(spans: Sequence[Span]) -> list[Span]:
    """Return the spans with the largest absolute values, the strongest first, at most `STRONGEST`. Equals keep the order of the caption."""
    return sorted(spans, key=lambda span: (-abs(span.value), span.start, span.end))[:STRONGEST]


def quote(caption: str, span: Span) -> str:
    """Return the text of a span in one line, cut after `QUOTED` characters."""
    text = " ".join(caption[span.start : span.end].split())
    return text if len(text) <= QUOTED else text[: QUOTED - 1] + "…"


def marked_images(rounds: Sequence[Sequence[Row]], most: int) -> list[dict[str, Any]]:
    """Return images whose captions rewards said something of, with coloured captions, for the template.

    Of each image and run these are the captions with the highest and the lowest advantage. Where more images qualify, their hashed
    ids decide.

    Args:
        rounds: Per run the rows of one step. An image must be in all of them.
        most: Images, at most.

    Returns:
        Per image `id`, `image` (its path, or None where no row has it) and `runs`, which has the captions of each run: `rank`,
        `advantage`, `text` and `terms`. Empty where rewards said nothing of parts.
    """
    chosen = [_extremes(rows) for rows in rounds]
    common = [id for id in chosen[0] if all(id in own for own in chosen)] if chosen else []
    told = [id for id in common if any(read_spans(row) for own in chosen for _, row in own[id])]
    kept = sorted(told, key=hashed)[:most]
    scales = _scales([row for own in chosen for id in kept for _, row in own[id]])
    return [
        {
            "id": id,
            "image": next((row["image"] for own in chosen for _, row in own[id] if "image" in row), None),
            "runs": [[_mark_caption(rank, row, scales) for rank, row in own[id]] for own in chosen],
        }
        for id in kept
    ]


def _extremes(rows: Sequence[Row]) -> dict[str, list[tuple[str, Row]]]:
    """Return sample id → (rank, row) of the captions with the highest and the lowest advantage, or of one where all are equal."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row["sample_id"]), []).append(row)
    extremes = {}
    for id, group in groups.items():
        low, high = (choose(group, key=lambda row: float(row["advantage"])) for choose in (min, max))
        differ = float(low["advantage"]) < float(high["advantage"])
        extremes[id] = [("highest", high), ("lowest", low)] if differ else [("equal", high)]
    return extremes


def _scales(rows: Sequence[Row]) -> dict[str, float]:
    """Return term → largest absolute sum of values over a part of any of the captions."""
    scales: dict[str, float] = {}
    for row in rows:
        for name, spans in read_spans(row).items():
            sums = [abs(part.value) for part in split_at_spans(row["caption"], spans)]
            scales[name] = max([scales.get(name, 0.0), *sums])
    return scales


def _mark_caption(rank: str, row: Row, scales: Mapping[str, float]) -> dict[str, Any]:
    caption = row["caption"]
    terms = []
    for name, spans in read_spans(row).items():
        listed = strongest_spans(spans)
        terms.append(
            {
                "name": name,
                "html": mark_parts(split_at_spans(caption, spans), scales[name]),
                "strongest": [(_signed(span.value), quote(caption, span), span.label) for span in listed],
                "left_out": len(spans) - len(listed),
            }
        )
    return {"rank": rank, "advantage": _signed(float(row["advantage"])), "text": caption, "terms": terms}


def mark_parts(parts: Sequence[Part], scale: float) -> Markup:
    """Return a caption as HTML with its parts marked.

    Args:
        parts: The parts of the caption.
        scale: The sum that is marked most strongly.
    """
    html = Markup()
    for part in parts:
        if not part.spans:
            html += escape(part.text)
            continue
        strength = abs(part.value) / scale if scale else 0.0
        kind = "even" if strength < FAINTEST else "up" if part.value > 0 else "down"
        html += Markup('<mark class="{}" style="--v:{:.2f}" title="{}">{}</mark>').format(
            kind, strength, _describe(part), part.text
        )
    return html


def _describe(part: Part) -> str:
    """Return values and labels of the spans over a part, with their sum where there are several."""
    told = [f"{_signed(span.value)} {span.label}".rstrip() for span in part.spans]
    return told[0] if len(told) == 1 else f"{_signed(part.value)} in all: {'; '.join(told)}"


def _signed(value: float) -> str:
    return signed_text(value, 2)
