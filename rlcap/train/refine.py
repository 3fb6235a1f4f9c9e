"""Captions rewritten by critique, and what became of them: preference pairs for DPO, a training set for SFT.

A rewriting is taken where rewards that had no part in it agree: none of them falls, and their weighted sum rises. Every
caption's outcome is on disk as soon as it is known, so that a run that is stopped loses nothing that was paid for.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from rlcap.feedback.revise import Reviser, Revision
from rlcap.reward.mix import RewardMix
from rlcap.train.run_folder import RunFolder, append_lines, read_lines, write_text
from rlcap.types import RewardBatch, Sample

AT_ONCE = 32
"""Captions between two writes."""
BAG = 5
"""Images of the bag that captions are judged in, their own among them."""


def objection(
    before: Mapping[str, float], after: Mapping[str, float], weights: Mapping[str, float], tolerance: float = 0.0
) -> str | None:
    """Why a rewriting is not taken, or None. before, after: reward → value, NaN where it could not judge.

    At weights of 1, (.2, .5) → (.3, .5) is taken; (.2, .5) → (.9, .4) is not: the second fell.
    """
    for name in weights:
        if math.isnan(before[name]) or math.isnan(after[name]):
            return f"{name} could not judge"
        if after[name] < before[name] - tolerance:
            return f"{name} fell"
    rise = sum(weight * (after[name] - before[name]) for name, weight in weights.items())
    return None if rise > 0 else "no reward rose"


def refine(
    captions: Sequence[str],
    samples: Sequence[Sample],
    *,
    reviser: Reviser,
    accept: RewardMix,
    gallery: Mapping[str, str],
    folder: RunFolder,
    instruction: str,
    tolerance: float = 0.0,
) -> list[dict[str, Any]]:
    """Revise and judge N captions of N samples, and write refined.jsonl, pairs.jsonl and sft.jsonl.

    What the folder holds already is left out. `gallery` is id → image path, for bags. The rows of refined.jsonl are returned.
    """
    path = folder.root / "refined.jsonl"
    before = read_lines(path) if path.exists() else []
    # a kill may have left half a last line, behind which nothing could be written
    write_text(path, "".join(json.dumps(row) + "\n" for row in before))
    done = {row["sample_id"] for row in before}
    open_ones = [(caption, s) for caption, s in zip(captions, samples, strict=True) if s.id not in done]
    with tqdm(total=len(open_ones), desc="refine") as bar:
        taken = 0
        for start in range(0, len(open_ones), AT_ONCE):
            texts, rows = map(list, zip(*open_ones[start : start + AT_ONCE], strict=True))
            revisions = reviser.revise_all(texts, rows)
            told = outcomes(texts, rows, revisions, accept, gallery, tolerance)
            append_lines(path, told)
            taken += sum(row["objection"] is None for row in told)
            bar.update(len(told))
            bar.set_postfix(taken=taken)
    known = {sample.id: sample for sample in samples}
    refined = [row for row in read_lines(path) if row["sample_id"] in known]
    write_sets(refined, known, folder, instruction)
    return refined


def outcomes(
    captions: Sequence[str],
    samples: Sequence[Sample],
    revisions: Sequence[Revision],
    accept: RewardMix,
    gallery: Mapping[str, str],
    tolerance: float,
) -> list[dict[str, Any]]:
    """Rows of refined.jsonl: both captions, their rewards, the critiques, and the objection to the new one, if any."""
    bags = [tuple(gallery[i] for i in s.distractors.get("hard", ()) if i in gallery)[: BAG - 1] for s in samples]
    values = [
        accept.score(RewardBatch(list(texts), list(samples), bags)).values.tolist()
        for texts in (captions, [revision.caption for revision in revisions])
    ]
    weights = dict(zip(accept.names, accept.weights, strict=True))
    rows = []
    for i, revision in enumerate(revisions):
        before, after = (dict(zip(accept.names, column[i], strict=True)) for column in values)
        if revision.caption == captions[i]:
            why: str | None = revision.reason or "nothing was changed"
        else:
            why = objection(before, after, weights, tolerance)
        rows.append(
            {
                "sample_id": samples[i].id,
                "image": samples[i].image,
                "caption": revision.caption,
                "original": captions[i],
                "objection": why,
                "critiques": list(revision.critiques),
                "before": _plain(before),
                "after": _plain(after),
            }
        )
    return rows


def write_sets(
    rows: Sequence[Mapping[str, Any]], known: Mapping[str, Sample], folder: RunFolder, instruction: str
) -> None:
    """pairs.jsonl ({image, prompt, chosen, rejected}) and sft.jsonl (rows of data, the new caption as paragraph)."""
    taken = [row for row in rows if row["objection"] is None]
    pairs = [
        {
            "id": row["sample_id"],
            "image": row["image"],
            "prompt": instruction,
            "chosen": row["caption"],
            "rejected": row["original"],
        }
        for row in taken
        if row["original"].strip()
    ]
    sft = [
        {
            "id": row["sample_id"],
            "image": row["image"],
            "references": list(known[row["sample_id"]].references) or [row["caption"]],
            "paragraph": row["caption"],
        }
        for row in taken
    ]
    for name, found in (("pairs.jsonl", pairs), ("sft.jsonl", sft)):
        write_text(folder.root / name, "".join(json.dumps(row) + "\n" for row in found))


def describe(rows: Sequence[Mapping[str, Any]], accept: RewardMix) -> str:
    """A few lines for the terminal: how many were taken, why the others weren't, what the rewards say of those taken."""
    taken = [row for row in rows if row["objection"] is None]
    lines = [f"{len(taken)} of {len(rows)} rewritings taken"]
    reasons = Counter(row["objection"] for row in rows if row["objection"] is not None)
    lines += [f"  not taken, {count}: {reason}" for reason, count in reasons.most_common(6)]
    for name in accept.names if taken else ():
        before, after = (sum(row[key][name] for row in taken) / len(taken) for key in ("before", "after"))
        lines.append(f"  {name} of those taken: {before:.3f} → {after:.3f}")
    return "\n".join(lines)


def _plain(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}
