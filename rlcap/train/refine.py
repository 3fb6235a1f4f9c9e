"""Rewrites captions by critique, and makes training sets of the results: preference pairs for DPO, paragraphs for SFT.

A rewritten caption is accepted if independent rewards improve: none of them falls, and their weighted sum rises. The result
of each caption is written to disk immediately, so an interrupted run loses no calls to a judge that were paid for.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from rlcap.data.control import Instruction, instruct
from rlcap.feedback.revise import Reviser, Revision
from rlcap.io.atomic import append_rows, write_text
from rlcap.io.json_values import nan_to_null
from rlcap.io.text import read_log
from rlcap.reward.mix import RewardMix
from rlcap.train.run_folder import RunFolder
from rlcap.types import RewardBatch, Sample

CHUNK_SIZE = 32
"""Number of captions that are revised between two writes to disk."""
BAG_SIZE = 5
"""Images of the bag in which a caption is scored, including the caption's own image."""


def find_objection(
    before: Mapping[str, float], after: Mapping[str, float], weights: Mapping[str, float], tolerance: float = 0.0
) -> str | None:
    """Return the reason against a rewritten caption; None where it is accepted.

    With weights of 1, a change of the values from (.2, .5) to (.3, .5) is accepted. A change to (.9, .4) is not, because
    the second reward fell.

    Args:
        before: Reward → value of the original caption; NaN where the reward abstained.
        after: Reward → value of the rewritten caption; NaN where the reward abstained.
        weights: Reward → weight in the sum, which must rise.
        tolerance: How far a single reward may fall.
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
    instruction: str | Instruction,
    tolerance: float = 0.0,
) -> list[dict[str, Any]]:
    """Revise and score N captions, and write refined.jsonl, pairs.jsonl and sft.jsonl to the run folder.

    Captions whose results are in the folder already are not revised again.

    Args:
        captions: N captions.
        samples: The samples of the captions.
        reviser: Criticises and rewrites captions.
        accept: The rewards that decide about a rewritten caption.
        gallery: Id → image path, for bags.
        folder: The run folder.
        instruction: The instruction that all samples share. With the words of a sample's control it is the prompt of its preference pair.
        tolerance: How far a single reward may fall.

    Returns:
        The rows of refined.jsonl that belong to the samples.
    """
    path = folder.root / "refined.jsonl"
    before = read_log(path)
    # A killed run may have left half of a last line. Rows appended behind it could not be read.
    write_text(path, "".join(json.dumps(row) + "\n" for row in before))
    done = {row["sample_id"] for row in before}
    remaining = [(caption, s) for caption, s in zip(captions, samples, strict=True) if s.id not in done]
    with tqdm(total=len(remaining), desc="refine") as bar:
        accepted = 0
        for start in range(0, len(remaining), CHUNK_SIZE):
            texts, chunk = map(list, zip(*remaining[start : start + CHUNK_SIZE], strict=True))
            revisions = reviser.revise_all(texts, chunk)
            rows = score_revisions(texts, chunk, revisions, accept, gallery, tolerance)
            append_rows(path, rows, "the refined captions")
            accepted += sum(row["objection"] is None for row in rows)
            bar.update(len(rows))
            bar.set_postfix(accepted=accepted)
    known = {sample.id: sample for sample in samples}
    refined = [row for row in read_log(path) if row["sample_id"] in known]
    write_training_sets(refined, known, folder, instruction)
    return refined


def score_revisions(
    captions: Sequence[str],
    samples: Sequence[Sample],
    revisions: Sequence[Revision],
    accept: RewardMix,
    gallery: Mapping[str, str],
    tolerance: float,
) -> list[dict[str, Any]]:
    """Return the rows of refined.jsonl for N captions.

    A row has both captions, their rewards, the critiques, and the objection to the rewritten caption (or None).

    Args:
        captions: N original captions.
        samples: Their samples.
        revisions: Their revisions.
        accept: The rewards that decide about a rewritten caption.
        gallery: Id → image path, for bags.
        tolerance: How far a single reward may fall.
    """
    bags = [tuple(gallery[i] for i in s.distractors.get("hard", ()) if i in gallery)[: BAG_SIZE - 1] for s in samples]
    values = [
        accept.score(RewardBatch(list(texts), list(samples), bags)).values.tolist()
        for texts in (captions, [revision.caption for revision in revisions])
    ]
    weights = dict(zip(accept.names, accept.weights, strict=True))
    rows = []
    for i, revision in enumerate(revisions):
        before, after = (dict(zip(accept.names, column[i], strict=True)) for column in values)
        if revision.caption == captions[i]:
            objection: str | None = revision.reason or "nothing was changed"
        else:
            objection = find_objection(before, after, weights, tolerance)
        rows.append(
            {
                "sample_id": samples[i].id,
                "image": samples[i].image,
                "caption": revision.caption,
                "original": captions[i],
                "objection": objection,
                "critiques": list(revision.critiques),
                "before": nan_to_null(before),
                "after": nan_to_null(after),
            }
        )
    return rows


def write_training_sets(
    rows: Sequence[Mapping[str, Any]], known: Mapping[str, Sample], folder: RunFolder, instruction: str | Instruction
) -> None:
    """Write pairs.jsonl and sft.jsonl from the accepted captions.

    A row of pairs.jsonl has `image`, `prompt`, `chosen` and `rejected`. A row of sft.jsonl is a row of a data source with
    the rewritten caption as its `paragraph`.

    Args:
        rows: Rows of refined.jsonl.
        known: Id → sample.
        folder: The run folder.
        instruction: The instruction that all samples share.
    """
    accepted = [row for row in rows if row["objection"] is None]
    pairs = [
        {
            "id": row["sample_id"],
            "image": row["image"],
            "prompt": instruct(
                instruction, known[row["sample_id"]].control
            ),  # DPO trains chat models, which read requests
            "chosen": row["caption"],
            "rejected": row["original"],
        }
        for row in accepted
        if row["original"].strip()
    ]
    sft = [
        {
            "id": row["sample_id"],
            "image": row["image"],
            "references": list(known[row["sample_id"]].references) or [row["caption"]],
            "paragraph": row["caption"],
        }
        | ({"control": control.to_dict()} if (control := known[row["sample_id"]].control) else {})
        for row in accepted
    ]
    for name, content in (("pairs.jsonl", pairs), ("sft.jsonl", sft)):
        write_text(folder.root / name, "".join(json.dumps(row) + "\n" for row in content))


def describe(rows: Sequence[Mapping[str, Any]], accept: RewardMix) -> str:
    """Return a few lines for the terminal: accepted captions, frequent objections, and the change of each reward.

    Args:
        rows: Rows of refined.jsonl.
        accept: The rewards that decided.
    """
    accepted = [row for row in rows if row["objection"] is None]
    lines = [f"{len(accepted)} of {len(rows)} rewritten captions accepted"]
    reasons = Counter(row["objection"] for row in rows if row["objection"] is not None)
    lines += [f"  {count} not accepted: {reason}" for reason, count in reasons.most_common(6)]
    for name in accept.names if accepted else ():
        before, after = (sum(row[key][name] for row in accepted) / len(accepted) for key in ("before", "after"))
        lines.append(f"  {name} of accepted captions: {before:.3f} → {after:.3f}")
    return "\n".join(lines)
