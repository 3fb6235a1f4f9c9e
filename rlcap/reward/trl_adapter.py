"""Turn TRL's reward arguments into a `RewardBatch`.

TRL calls a reward function with `prompts`, `completions` and every further column of the data set, each a list with one
entry for each completion. The rows of rlcap carry

    sample_id           str              the image's id (default: the image path, or a hash of the prompt)
    image_path          str              the image; never called `image`, which TRL feeds to the policy
    references          list[str]        human captions
    paragraph           str | None       the fused paragraph
    distractor_images   list[str]        the bag at the present stage, nearest first, without the image itself
    meta                dict | JSON str  whatever else the source knows
    control             dict | JSON str  what is asked of the caption (`rlcap.types.Control`)
    truncated           bool             whether generation stopped at the token limit

A reward names those that it cannot do without in `needs`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rlcap.errors import ColumnError
from rlcap.types import Control, RewardBatch, Sample

NEEDS: Mapping[str, tuple[str, ...]] = {
    "image": ("image_path",),
    "references": ("references",),
    "paragraph": ("paragraph",),
    "distractors": ("image_path", "distractor_images"),
    "meta": ("meta",),
    "control": ("control",),
}
"""What a reward may need → the columns that carry it."""


def to_reward_batch(
    prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any], needs: Collection[str] = ()
) -> RewardBatch:
    """Build one batch of N captions from TRL's arguments.

    Args:
        prompts: N strings or conversations.
        completions: N strings or conversations.
        columns: name → N values. Other names (TRL's `completion_ids`, `trainer_state`, `log_extra`, …) are ignored.
        needs: keys of `NEEDS` whose columns must be present.

    Raises:
        ColumnError: where lengths differ, where a needed column is absent, or where a column is malformed.
    """
    n = len(completions)
    if len(prompts) != n:
        raise ColumnError(f"{len(prompts)} prompts for {n} completions; pass one prompt for each completion")
    for need in needs:
        for column in NEEDS[need]:
            if columns.get(column) is None:
                raise ColumnError(
                    f"the reward needs {need}, but the data set has no column {column!r}; add it to the rows and set "
                    f"remove_unused_columns=False in GRPOConfig. Columns seen: {', '.join(sorted(columns)) or 'none'}"
                )
    image = _column(columns, "image_path", n)
    ids = _column(columns, "sample_id", n)
    samples = [
        Sample(
            id=str(ids[i]) if ids[i] is not None else image[i] or _prompt_id(prompts[i]),
            image=image[i] or "",
            references=_texts(references, "references", i),
            paragraph=paragraph,
            meta=_meta(meta, i),
            control=_control(control, i),
        )
        for i, (references, paragraph, meta, control) in enumerate(
            zip(
                _column(columns, "references", n),
                _column(columns, "paragraph", n),
                _column(columns, "meta", n),
                _column(columns, "control", n),
                strict=True,
            )
        )
    ]
    return RewardBatch(
        captions=[caption_text(completion) for completion in completions],
        samples=samples,
        distractor_images=[
            _texts(bag, "distractor_images", i) for i, bag in enumerate(_column(columns, "distractor_images", n))
        ],
        truncated=[bool(flag) for flag in _column(columns, "truncated", n)],
    )


def caption_text(completion: Any) -> str:
    """Return the caption of one completion: a string, or the text of a conversation's assistant messages."""
    if isinstance(completion, str):
        return completion
    texts = []
    for message in completion:
        content = message["content"]
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content if part.get("type") == "text")
        texts.append(content or "")
    return "\n".join(texts)


def _column(columns: Mapping[str, Any], name: str, n: int) -> list[Any]:
    values = columns.get(name)
    if values is None:
        return [None] * n
    if isinstance(values, str) or len(values) != n:
        seen = repr(values[:40]) if isinstance(values, str) else f"{len(values)} values"
        raise ColumnError(f"column {name!r} must be a list with one entry for each of {n} completions, got {seen}")
    return list(values)


def _texts(value: Any, name: str, row: int) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):  # a single text would otherwise be taken for a list of characters
        return (value,)
    if not all(isinstance(text, str) for text in value):
        raise ColumnError(f"row {row}: column {name!r} must hold a list of strings, got {value!r:.80}")
    return tuple(value)


def _meta(value: Any, row: int) -> Mapping[str, Any]:
    if value is None:
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value) if value else {}
        except json.JSONDecodeError as error:
            raise ColumnError(f"row {row}: column 'meta' is not JSON ({error}): {value[:80]!r}") from error
    if not isinstance(value, Mapping):
        raise ColumnError(f"row {row}: column 'meta' must be a mapping or a JSON object, got {type(value).__name__}")
    return value


def _control(value: Any, row: int) -> Control:
    try:
        return Control.parse(value)
    except ValueError as error:
        raise ColumnError(f"row {row}: column 'control': {error}") from error


def _prompt_id(prompt: Any) -> str:
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
