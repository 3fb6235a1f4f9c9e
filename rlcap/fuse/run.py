"""Runs a fusion from samples to files: rows, page and summary; killed at any moment, it continues where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from rlcap.errors import BudgetExhaustedError, InputError, JudgeError
from rlcap.fuse.page import PAGE_ROWS, write_page
from rlcap.fuse.pipeline import Failure, Pipeline
from rlcap.fuse.preset import Preset
from rlcap.fuse.progress import Progress, parts_folder
from rlcap.fuse.summary import FusionSummary
from rlcap.io.atomic import write_json
from rlcap.io.cache import content_hash
from rlcap.io.text import iter_log, read_json
from rlcap.types import Sample

BATCH = 16
"""Images of a batch, by default. A killed run computes at most one batch again."""
AGAIN = "run the same command again to continue"


@dataclass(frozen=True, slots=True)
class FusionFiles:
    """The files of a fusion."""

    rows: Path
    """The rows, for `data.source`."""

    @property
    def page(self) -> Path:
        """The page that shows paragraphs with their provenance."""
        return self.rows.with_suffix(".html")

    @property
    def summary(self) -> Path:
        """The summary as JSON."""
        return self.rows.with_suffix(".summary.json")


def run_fusion(
    preset: Preset,
    samples: Sequence[Sample],
    out: Path,
    *,
    batch_size: int = BATCH,
    page_rows: int = PAGE_ROWS,
    cache: str | None = None,
    progress: bool = True,
) -> FusionSummary:
    """Fuse the samples of a source, and write rows, page and summary.

    Args:
        preset: The preset.
        samples: The samples.
        out: The file of rows, `….jsonl`.
        batch_size: Images that are computed together.
        page_rows: Rows that the page shows, at most.
        cache: The file of the experts' statements; None takes one in the cache folder.
        progress: Whether to show a progress bar.

    Raises:
        BudgetExhaustedError: The fuser's budget has no room for another batch. Finished batches stay.
        JudgeError: The fuser does not answer. Finished batches stay.
        InputError: `out` holds the rows of another fusion, or is written by another process.
    """
    files = FusionFiles(out)
    fingerprint = content_hash(preset=preset.fingerprint(), data=_digest(samples), batch=batch_size)
    if out.exists() and not parts_folder(out).exists():
        return _finished(files, fingerprint)
    pipeline = Pipeline(preset, cache)  # before anything is written: a preset that can't be used leaves no trace
    state = Progress(out, fingerprint)
    has_open = True
    try:
        if state.budget is not None:
            pipeline.fuser.judge.budget.load_state_dict(state.budget)
        starts = range(0, len(samples), batch_size)
        with tqdm(total=len(samples), desc="fuse", unit="image", disable=not progress) as bar:
            for batch, start in enumerate(starts):
                part = samples[start : start + batch_size]
                end = start + len(part)
                if not state.is_done(batch):
                    pipeline.fuser.on_reply = partial(_advance, bar, end)
                    _run_batch(pipeline, state, batch, part, out)
                bar.update(end - bar.n)
                bar.set_postfix_str(_spent(pipeline))
        failures = state.merge(len(starts))
        has_open = any(not failure.is_final for failure in failures)
        summary = FusionSummary().add_all(state.outcomes(len(starts)))
        rows = {"fingerprint": fingerprint, "preset": preset.paper, **summary.to_json(), "usage": _usage(pipeline)}
        write_json(files.summary, rows, "the summary", indent=1, ensure_ascii=False)
        write_page(files.page, iter_log(out), preset, summary, page_rows)
    finally:
        state.close(remove=not has_open)
    return summary


def _advance(bar: Any, end: int) -> None:
    """Show a reply of the fuser. A batch has more replies than images where sentences are rewritten."""
    if bar.n < end - 1:
        bar.update(1)


def _run_batch(pipeline: Pipeline, state: Progress, batch: int, samples: Sequence[Sample], out: Path) -> None:
    budget = pipeline.fuser.judge.budget
    if stop := budget.stop_reason:
        raise BudgetExhaustedError(f"fuser: {stop}; raise fuser.limits, and {AGAIN}")
    outcomes = pipeline.fuse(samples)
    state.save(budget.state_dict())
    waiting = [one for one in outcomes if isinstance(one, Failure) and not one.is_final]
    if waiting and budget.exhausted:  # the replies that were paid for are in the cache
        raise BudgetExhaustedError(f"fuser: {budget.exhausted}; raise fuser.limits, and {AGAIN}")
    if waiting and len(waiting) == len(outcomes):
        raise JudgeError(f"fuser {pipeline.fuser.backend.name} answers nothing: {waiting[0].reason}; {AGAIN}")
    for outcome in outcomes:
        if not isinstance(outcome, Failure):
            outcome["image"] = _relative(outcome["image"], out)
    state.write(batch, outcomes)


def _finished(files: FusionFiles, fingerprint: str) -> FusionSummary:
    """Return the summary of a fusion that is complete.

    Raises:
        InputError: The file of rows is no result of this preset and this data.
    """
    known = read_json(files.summary, "the summary") if files.summary.exists() else {}
    if not isinstance(known, dict) or known.get("fingerprint") != fingerprint:
        raise InputError(
            f"{files.rows} exists, and was not made by this preset from this data; remove it, or choose another --out"
        )
    summary = FusionSummary().add_all(iter_log(files.rows))
    summary.failed.update(known["failed"])
    return summary


def _digest(samples: Sequence[Sample]) -> str:
    """Return a digest of ids, texts and sizes of the image files, in order."""
    digest = hashlib.sha256()
    for sample in samples:
        size = os.path.getsize(sample.image) if os.path.isfile(sample.image) else None
        row = [sample.id, list(sample.references), sample.paragraph, size]
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def _relative(image: str, out: Path) -> str:
    """Return an image's path from the folder of the rows where it lies below it, else its absolute path."""
    path, folder = Path(image).absolute(), out.absolute().parent
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _spent(pipeline: Pipeline) -> str:
    """Return what the fuser has cost so far, also before this process."""
    spent = pipeline.fuser.judge.budget.spent
    return f"{spent['tokens']:,.0f} tokens" + (f", ${spent['dollars']:.2f}" if spent["dollars"] else "")


def _usage(pipeline: Pipeline) -> dict[str, Any]:
    """Return what this process asked of the fuser and of the experts."""
    fuser = pipeline.fuser
    return {
        "fuser": {"name": fuser.backend.name, "asked": fuser.asked, "cached": fuser.cached, **fuser.usage.metrics()},
        "spent": dict(fuser.judge.budget.spent),
        "experts": {
            name: {"images": one.images, "cached": one.cached, "seconds": round(one.seconds, 3)}
            for name, one in pipeline.experts.usage.items()
        },
    }
