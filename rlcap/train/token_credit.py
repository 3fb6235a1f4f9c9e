"""From the spans that rewards return to the values of a caption's tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlcap.policy.token_offsets import token_offsets
from rlcap.reward.mix import MixScores
from rlcap.types import Score, Span


def token_values(scores: MixScores, captions: Sequence[str], ids: Tensor, mask: Tensor, tokenizer: Any) -> Tensor:
    """Return (N, K, C) what each term says of each token: the sum of the values of the spans that hold it.

    NaN in all tokens of a caption to which a term gave no spans, or on which it abstained. The end token belongs only to spans over
    the whole caption.

    Args:
        scores: the scores of N captions.
        captions: N captions as they were written.
        ids: (N, C) tokens.
        mask: (N, C), 1 on the tokens that are learned.
        tokenizer: the captioner's tokenizer.
    """
    return _fill(scores, captions, ids, mask, tokenizer, _sum_of_spans)


def end_values(scores: MixScores, captions: Sequence[str], ids: Tensor, mask: Tensor, tokenizer: Any) -> Tensor:
    """Return (N, K, C) the value of each span at its last token, and 0 elsewhere; NaN as in `token_values`.

    The value of a span over the whole caption stands at the caption's last token, which can be the end token.
    """
    return _fill(scores, captions, ids, mask, tokenizer, _ends_of_spans)


def span_means(scores: MixScores, captions: Sequence[str]) -> Tensor:
    """Return (N, K) the mean value of each caption's characters; NaN as in `token_values`.

    It stands for the mean over tokens where the tokens of the captions are not known.
    """
    means = torch.full((len(captions), len(scores.names)), torch.nan, dtype=torch.float64)
    for k, name in enumerate(scores.names):
        for i, (score, caption) in enumerate(zip(scores.scores[name], captions, strict=True)):
            if has_credit(score):
                means[i, k] = sum(span.value * (span.end - span.start) for span in score.spans or ()) / max(
                    len(caption), 1
                )
    return means


def has_credit(score: Score) -> bool:
    """Return whether a score says something of parts of the caption, if only that nothing is to be said of any."""
    return score.value is not None and score.spans is not None


def _fill(
    scores: MixScores, captions: Sequence[str], ids: Tensor, mask: Tensor, tokenizer: Any, convert: Any
) -> Tensor:
    values = torch.full((len(captions), len(scores.names), ids.shape[1]), torch.nan, dtype=torch.float64)
    for i, caption in enumerate(captions):
        own = {k: scores.scores[name][i] for k, name in enumerate(scores.names)}
        with_credit = {k: score for k, score in own.items() if has_credit(score)}
        if not with_credit:
            continue
        length = int(mask[i].sum())
        offsets = np.asarray(token_offsets(tokenizer, ids[i, :length].tolist()), dtype=np.int64).reshape(-1, 2)
        for k, score in with_credit.items():
            values[i, k] = 0.0
            values[i, k, :length] = torch.from_numpy(convert(score.spans or (), offsets, len(caption)))
    return values


def _sum_of_spans(spans: Sequence[Span], offsets: np.ndarray, length: int) -> np.ndarray:
    """Return (T,) the sum of the values of the spans that overlap each of T tokens."""
    starts, ends = offsets[:, 0], offsets[:, 1]
    begin, finish, value = (np.array([getattr(s, f) for s in spans], float) for f in ("start", "end", "value"))
    # A span misses a token if it begins at the token's end or later, or ends at its start or earlier: never both.
    later = math.fsum(value) - _cumulative(begin, value, ends)
    earlier = _cumulative(finish, value, starts + 1)
    whole = math.fsum(v for b, f, v in zip(begin, finish, value, strict=True) if b == 0 and f >= length)
    return np.where(starts == ends, whole, math.fsum(value) - later - earlier)


def _cumulative(positions: np.ndarray, value: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return for each limit the sum of the values whose position lies below it."""
    order = np.argsort(positions, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(value[order])])
    return sums[np.searchsorted(positions[order], limits, side="left")]


def _ends_of_spans(spans: Sequence[Span], offsets: np.ndarray, length: int) -> np.ndarray:
    """Return (T,) the sum of the values of the spans that end in each of T tokens."""
    result = np.zeros(len(offsets))
    if not len(offsets):
        return result
    for span in spans:
        is_whole = span.start == 0 and span.end >= length
        inside = np.flatnonzero((offsets[:, 0] < span.end) & (offsets[:, 0] < offsets[:, 1]))
        result[len(offsets) - 1 if is_whole or not len(inside) else inside[-1]] += span.value
    return result
