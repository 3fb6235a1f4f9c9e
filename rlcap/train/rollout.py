"""A rollout: the captions of one generation round, from their images to what the update learns from.

A round's tensors hold one row a caption, the G captions of an image side by side; its prompts are one an image. Both are
cut into micro-batches here, so that the captions of an image share the pass over its image and instruction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlcap.data.sampler import sampling_uniforms
from rlcap.io.images import open_image
from rlcap.policy.captioner import Captioner, GeneratedCaptions
from rlcap.policy.prompt import Prompt
from rlcap.reward.mix import MixScores
from rlcap.types import RewardBatch


@dataclass(frozen=True, slots=True)
class Rollout:
    """N = B·G captions of this process's B images."""

    rows: Sequence[Mapping[str, Any]]
    """N rows of the data set."""
    prompts: Sequence[Prompt]
    """B."""
    ids: Tensor
    """(N, C) tokens, padded on the right."""
    mask: Tensor
    """(N, C) 1 up to and with the end token."""
    batch: RewardBatch
    """The captions as the rewards see them."""
    scores: MixScores
    """Their scores; (N, K) values, NaN where a component abstained."""
    sampled_log_probs: Tensor
    """(N, C) as generation saw them; 0 where the mask is."""
    old_log_probs: Tensor | None
    """(N, C) under the policy that wrote them; None where the update's own first pass gives the same."""
    ref_log_probs: Tensor | None
    """(N, C) under the reference model; None without a KL term."""
    greedy: Tensor | None = None
    """(N, K) the scores of each image's greedy caption, where those are the baseline."""

    def batch_of(self, signal: Mapping[str, Tensor], items: Tensor) -> dict[str, Any]:
        """What TRL's loss takes. `signal`: further tensors of N rows. `items`: tokens of the round, over all processes."""
        nothing = self.ids.new_zeros(len(self.ids), 0)  # the prompt is read apart from the captions
        tensors = {
            "prompt_ids": nothing,
            "prompt_mask": nothing,
            "completion_ids": self.ids,
            "completion_mask": self.mask,
            "old_per_token_logps": self.old_log_probs,
            "ref_per_token_logps": self.ref_log_probs,
            **signal,
        }
        present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        return {**present, "prompts": list(self.prompts), "num_items_in_batch": items}


def micro_batches(batch: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
    """A round cut into micro-batches of `size` captions. A micro-batch holds whole groups, or a part of one.

    Raises ValueError where `size` captions would be parts of several groups.
    """
    count = len(batch["completion_ids"])
    group = count // len(batch["prompts"])
    if size % group and group % size:
        raise ValueError(f"a micro-batch of {size} captions cuts groups of {group} unevenly")
    parts = []
    for start in range(0, count, size):
        rows = slice(start, start + size)
        part = {n: v[rows] if torch.is_tensor(v) and v.dim() else v for n, v in batch.items()}
        part["prompts"] = batch["prompts"][start // group : -(-(start + size) // group)]
        parts.append(part)
    return parts


def as_rows(
    ids: Sequence[str], captions: Sequence[str], advantages: Tensor, scores: MixScores
) -> Iterator[dict[str, Any]]:
    """What the run folder keeps of N captions: of each its scores, the reasons of abstentions, and what judges noted.

    advantages: (N,), or (N, C), of which the mean over tokens is kept.
    """
    for i, (id, caption) in enumerate(zip(ids, captions, strict=True)):
        mine = {name: scores.scores[name][i] for name in scores.names}
        yield {
            "sample_id": id,
            "caption": caption,
            "advantage": float(advantages[i].mean()),
            "scores": {name: score.value for name, score in mine.items()},
            "abstained": {name: score.reason for name, score in mine.items() if score.abstained},
            "notes": {name: score.note for name, score in mine.items() if score.note},
        }


def prepare(captioner: Captioner, rows: Sequence[Mapping[str, Any]], group: int, instruction: str) -> list[Prompt]:
    """The prompts of N rows in groups of `group`: each image is opened and seen once."""
    return captioner.prepare([open_image(row["image_path"]) for row in rows[::group]], instruction)


def write(
    captioner: Captioner,
    prompts: Sequence[Prompt],
    rows: Sequence[Mapping[str, Any]],
    *,
    seed: int,
    step: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
) -> GeneratedCaptions:
    """Sample the captions of N rows; which ones is a function of the weights, (seed, step) and each row's `sample_id`."""
    group = len(rows) // len(prompts)
    drawn = [sampling_uniforms(seed, step, row["sample_id"], group, max_new_tokens) for row in rows[::group]]
    return captioner.generate(
        prompts,
        group,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        sampling_uniforms=torch.from_numpy(np.concatenate(drawn)),
    )


def mean_of_all(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return each metric's mean over the processes that have it, as if one process had judged all captions.

    A process whose captions have no bag has no recall. The mean of a reward counts for as much as the share of captions on which the reward
    did not abstain.
    """
    names = dict.fromkeys(name for mine in metrics for name in mine)
    found = {}
    for name in names:
        known = [(mine[name], _judged(mine, name)) for mine in metrics if name in mine]
        found[name] = sum(value * weight for value, weight in known) / sum(weight for _, weight in known)
    return found


def _judged(metrics: Mapping[str, float], name: str) -> float:
    component, _, what = name.rpartition("/")
    return 1 - metrics.get(f"{component}/abstain_rate", 0.0) if what in ("mean", "weighted_mean") else 1.0
