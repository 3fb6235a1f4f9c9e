"""Replaces groups whose captions all got the same total by groups of other images.

A group without any difference in its total gives no gradient, but costs as much as any other (DAPO, arXiv 2503.14476, §3.2, samples
until no such group is left). Here other images from a reserve take its place, at most a set number of times. Which images are in the
reserve is a function of (seed, step, place in the round), so that a resumed run draws the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from rlcap.algo.groups import any_in_group, group_index
from rlcap.reward.mix import MixScores
from rlcap.train.rollout import Rollout
from rlcap.types import RewardBatch


def groups_without_signal(advantages: Tensor, group: int) -> list[int]:
    """Return the numbers of the groups in which every one of the (N,) advantages is 0.

    Args:
        advantages: (N,) advantages of the captions; the captions of a group are adjacent.
        group: captions per group.
    """
    live = any_in_group(advantages.abs() > 0, group_index(group, len(advantages)))
    return [i for i, is_live in enumerate(live[::group].tolist()) if not is_live]


def draw_reserve(images: int, seed: int, step: int, place: int, count: int) -> list[int]:
    """Return the indices of images that may take a place in a round, in the order in which they are tried.

    Args:
        images: number of training images.
        seed: seed of the run.
        step: optimiser steps before the round.
        place: number of the group in the round, over all processes.
        count: how many are drawn.
    """
    generator = np.random.Generator(np.random.PCG64([seed, step, place, 1]))
    return generator.choice(images, size=min(count, images), replace=False).tolist()


def replace_groups(
    rollout: Rollout, fresh: Rollout, places: Sequence[tuple[int, int]], group: int, pad: int
) -> Rollout:
    """Return a rollout in which some groups are those of another rollout.

    Args:
        rollout: the rollout of B groups.
        fresh: another rollout of the same kind.
        places: pairs (number of the group to replace, number of the group in `fresh`).
        group: captions per group.
        pad: token that fills up rows.
    """
    source = dict(places)
    count = len(rollout.prompts)
    # Row i of the result is row `rows[i]` of both rollouts one after the other.
    rows = [
        len(rollout.rows) + source[b] * group + g if b in source else b * group + g
        for b in range(count)
        for g in range(group)
    ]
    prompts = [*rollout.prompts, *fresh.prompts]
    data_rows = [*rollout.rows, *fresh.rows]
    first, second = rollout.batch, fresh.batch
    batch = RewardBatch(
        [[*first.written, *second.written][i] for i in rows],
        [[*first.samples, *second.samples][i] for i in rows],
        [[*first.distractor_images, *second.distractor_images][i] for i in rows],
        [[*first.truncated, *second.truncated][i] for i in rows],
    )

    def tensors(name: str, fill: float) -> Tensor | None:
        one, other = getattr(rollout, name), getattr(fresh, name)
        return None if one is None or other is None else _join(one, other, fill)[rows]

    kept_prompts = [source[b] + count if b in source else b for b in range(count)]
    ids, mask, sampled = tensors("ids", pad), tensors("mask", 0), tensors("sampled_log_probs", 0)
    assert ids is not None
    assert mask is not None
    assert sampled is not None
    return replace(
        rollout,
        rows=[data_rows[i] for i in rows],
        prompts=[prompts[i] for i in kept_prompts],
        ids=ids,
        mask=mask,
        batch=batch,
        scores=_join_scores(rollout.scores, fresh.scores, rows),
        sampled_log_probs=sampled,
        old_log_probs=tensors("old_log_probs", 0),
        ref_log_probs=tensors("ref_log_probs", 0),
        greedy=None
        if rollout.greedy is None or fresh.greedy is None
        else _join_scores(rollout.greedy, fresh.greedy, kept_prompts),
        greedy_captions=[[*rollout.greedy_captions, *fresh.greedy_captions][i] for i in kept_prompts]
        if rollout.greedy
        else (),
    )


def _join(one: Tensor, other: Tensor, fill: float) -> Tensor:
    width = max(one.shape[1], other.shape[1])
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1]), value=fill) for part in (one, other)])


def _join_scores(one: MixScores, other: MixScores, rows: Sequence[int]) -> MixScores:
    scores = {name: [[*one.scores[name], *other.scores[name]][i] for i in rows] for name in one.names}
    return replace(one, values=torch.cat([one.values, other.values])[rows], scores=scores)
