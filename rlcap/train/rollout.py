"""A rollout: the captions of one generation round, from their images to the inputs of the loss.

The tensors of a round have one row per caption, and the G captions of an image are adjacent. The prompts of a round are
one per image. This module splits both into micro-batches, so that the captions of an image share the pass over the image
and the instruction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlcap.data.control import Instruction
from rlcap.data.sampler import sampling_uniforms
from rlcap.io.images import open_image
from rlcap.policy.captioner import Captioner, GeneratedCaptions
from rlcap.policy.prompt import Prompt
from rlcap.reward.mix import MixScores
from rlcap.train.dataset import DatasetRow, control_of
from rlcap.types import RewardBatch, Span


@dataclass(frozen=True, slots=True)
class Rollout:
    """N = B·G scored captions of the B images of one process."""

    rows: Sequence[DatasetRow]
    """N rows of the data set."""
    prompts: Sequence[Prompt]
    """B prompts."""
    ids: Tensor
    """(N, C) token ids, padded on the right."""
    mask: Tensor
    """(N, C), 1 on the tokens that are learned, 0 after the end token."""
    batch: RewardBatch
    """The captions in the form that rewards receive."""
    scores: MixScores
    """Scores of the captions: (N, K) values, NaN where a reward term abstained."""
    sampled_log_probs: Tensor
    """(N, C) log-probabilities of the policy that sampled, at the temperature of the loss; 0 where the mask is 0."""
    old_log_probs: Tensor | None
    """(N, C) log-probabilities under the policy that sampled the captions.

    None where the update itself computes the same values in its first pass.
    """
    ref_log_probs: Tensor | None
    """(N, C) log-probabilities under the reference model; None without a KL term."""
    greedy: MixScores | None = None
    """Scores of the greedy captions of the B images; None where another baseline is used."""
    greedy_captions: Sequence[str] = ()
    """The B greedy captions."""

    def to_loss_inputs(self, signal: Mapping[str, Tensor], token_count: Tensor) -> dict[str, Any]:
        """Return the inputs of TRL's loss for the whole rollout.

        Args:
            signal: Name → tensor of N rows, as `GRPOTrainer.compute_training_signal` returns it.
            token_count: Number of caption tokens of the round over all processes, a scalar.
        """
        empty = self.ids.new_zeros(len(self.ids), 0)  # the captioner runs the prompts separately from the captions
        tensors = {
            "prompt_ids": empty,
            "prompt_mask": empty,
            "completion_ids": self.ids,
            "completion_mask": self.mask,
            "old_per_token_logps": self.old_log_probs,
            "ref_per_token_logps": self.ref_log_probs,
            **signal,
        }
        present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        return {**present, "prompts": list(self.prompts), "num_items_in_batch": token_count}


def split_into_micro_batches(batch: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
    """Split a round into micro-batches of `size` captions.

    A micro-batch holds complete groups, or a part of a single group.

    Args:
        batch: Inputs of the loss: N caption rows under `completion_ids` and other tensors, and B `prompts`. Scalars and
            values that are not tensors are the same in each micro-batch.
        size: Captions in a micro-batch.

    Raises:
        ValueError: A micro-batch would hold parts of several groups.
    """
    count = len(batch["completion_ids"])
    group = count // len(batch["prompts"])
    if size % group and group % size:
        raise ValueError(
            f"a micro-batch of {size} captions does not fit groups of {group}: one must be a multiple of the other"
        )
    parts = []
    for start in range(0, count, size):
        rows = slice(start, start + size)
        part = {n: v[rows] if torch.is_tensor(v) and v.dim() else v for n, v in batch.items()}
        part["prompts"] = batch["prompts"][start // group : -(-(start + size) // group)]
        parts.append(part)
    return parts


def decode_captions(generated: GeneratedCaptions, captioner: Captioner) -> tuple[list[str], list[bool]]:
    """Return the N texts, and for each caption whether it stopped at the token limit instead of an end token."""
    ends = torch.tensor(captioner.end_ids, device=generated.ids.device)
    is_complete = (torch.isin(generated.ids, ends) & (generated.mask > 0)).any(1)
    return captioner.decode(generated.ids), (~is_complete).tolist()


def mask_without_end(generated: GeneratedCaptions, captioner: Captioner) -> Tensor:
    """Return the (N, C) mask of the captions without their end tokens."""
    ends = torch.tensor(captioner.end_ids, device=generated.ids.device)
    return generated.mask * ~torch.isin(generated.ids, ends)


def to_records(
    rows: Sequence[DatasetRow], captions: Sequence[str], signal: Mapping[str, Tensor], scores: MixScores
) -> Iterator[dict[str, Any]]:
    """Yield the rows of `rollouts.jsonl` for N captions.

    A row has the scores of a caption, the reasons of abstentions, the notes of the judges, and what the rewards say of parts of
    the caption.

    Args:
        rows: N rows of the data set.
        captions: N captions.
        signal: `advantages`, (N,) or (N, C) for advantages per token, and with credit to claims `caption_advantages` (N,). A row keeps
            the advantage of the caption, which is the mean of its tokens where there is no other.
        scores: Scores of the N captions.
    """
    advantages = signal.get("caption_advantages", signal["advantages"])
    for i, (row, caption) in enumerate(zip(rows, captions, strict=True)):
        own = {name: scores.scores[name][i] for name in scores.names}
        yield {
            "sample_id": row["sample_id"],
            "image": row["image_path"],
            "caption": caption,
            "advantage": float(advantages[i].mean()),
            "scores": {name: score.value for name, score in own.items()},
            "abstained": {name: score.reason for name, score in own.items() if score.abstained},
            "notes": {name: score.note for name, score in own.items() if score.note},
            "weights": dict(zip(scores.names, scores.weights, strict=True)),
            "spans": {name: _describe_spans(score.spans) for name, score in own.items() if score.spans},
        }


def _describe_spans(spans: Sequence[Span]) -> list[tuple[int, int, float, str]]:
    """Return (start, end, value, label) of each span, with values short enough for a file of many captions."""
    return [(span.start, span.end, round(span.value, 4), span.label) for span in spans]


def prepare_prompts(
    captioner: Captioner, rows: Sequence[DatasetRow], group: int, instruction: str | Instruction
) -> list[Prompt]:
    """Return one prompt per group of `group` rows: each image is opened and encoded once.

    Args:
        captioner: The captioner.
        rows: N rows; the rows of an image are adjacent and have the same control.
        group: Captions per image.
        instruction: The instruction that all rows share.

    Returns:
        N / group prompts.
    """
    firsts = rows[::group]
    instructions = captioner.instruct(instruction, [control_of(row) for row in firsts])
    return captioner.prepare([open_image(row["image_path"]) for row in firsts], instructions)


def sample_captions(
    captioner: Captioner,
    prompts: Sequence[Prompt],
    rows: Sequence[DatasetRow],
    *,
    seed: int,
    step: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
) -> GeneratedCaptions:
    """Sample one caption for each of N rows.

    The captions are a function of the weights, of (seed, step) and of the `sample_id` of each row. The number of processes
    and the order of the rows do not change them.

    Args:
        captioner: The captioner.
        prompts: B prompts, one per group of rows.
        rows: N = B·G rows; the rows of an image are adjacent.
        seed: Seed of the run.
        step: Optimiser steps before this round.
        max_new_tokens: Maximum length C of a caption, in tokens.
        temperature: Sampling temperature; 0 is greedy.
        top_p: Probability mass of nucleus sampling, in (0, 1].
    """
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


def average_over_processes(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the processes that have it, as if one process had scored all captions.

    A process can lack a metric: without bags, for example, it has no recall. The mean of a reward is weighted by the share
    of captions on which the reward did not abstain, and a metric `x` that comes with `x_count` by that count.

    Args:
        metrics: Metric → value, for each process.
    """
    names = dict.fromkeys(name for own in metrics for name in own)
    means = {}
    for name in names:
        weighted = [(own[name], _weigh_process(own, name)) for own in metrics if name in own]
        total = sum(weight for _, weight in weighted)
        means[name] = sum(value * weight for value, weight in weighted) / total if total else weighted[0][0]
    return means


def _weigh_process(metrics: Mapping[str, float], name: str) -> float:
    """Return the weight of a process in the mean of a metric: how much of the batch the metric comes from."""
    if f"{name}_count" in metrics:
        return metrics[f"{name}_count"]
    term, _, statistic = name.rpartition("/")
    return 1 - metrics.get(f"{term}/abstain_rate", 0.0) if statistic in ("mean", "weighted_mean") else 1.0
