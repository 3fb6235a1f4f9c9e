"""Greedy decoding that prefers the words which the own image makes likelier than other images do.

A token of the own image is chosen by

    log p(t | own) + w · (log p(t | own) − log mean_j p(t | image_j)),

among the tokens with p(t | own) ≥ α · max p(· | own): contrastive decoding (Li et al., ACL 2023, eq. 2 and 3) with images
instead of a weaker model, which is also the pragmatic speaker of Andreas and Klein (EMNLP 2016). It needs no training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from rlcap.policy.captioner import Captioner, GeneratedCaptions, evaluation_mode
from rlcap.policy.prompt import Prompt
from rlcap.policy.shared_prefix.kv_cache import repeat_prefix_with_room


def contrastive_scores(logits: torch.Tensor, weight: float, plausibility: float) -> torch.Tensor:
    """Return (N, V) scores of the next token, −inf where the own image makes it implausible.

    Args:
        logits: (N, J, V) logits given J images, the own image first.
        weight: w, 0 or more; 0 orders tokens as the own image's logits do.
        plausibility: α in [0, 1].
    """
    log_probs = logits.float().log_softmax(-1)
    own = log_probs[:, 0]
    average = torch.logsumexp(log_probs, 1) - math.log(logits.shape[1])
    # A token that is forbidden for every image has own = average = −inf, whose difference is NaN.
    allowed = (own > -torch.inf) & (own.exp() >= plausibility * own.max(-1, keepdim=True).values.exp())
    return torch.where(allowed, own + weight * (own - average), -torch.inf)


@torch.no_grad()
def generate_contrastive(
    captioner: Captioner,
    prompts: Sequence[Sequence[Prompt]],
    *,
    max_new_tokens: int,
    weight: float,
    plausibility: float = 0.1,
) -> GeneratedCaptions:
    """Generate one caption for each of N images, in evaluation mode.

    Args:
        captioner: the captioner.
        prompts: for each image J prompts, of the image itself first and of J − 1 images to compare with; the same J for all.
        max_new_tokens: longest caption in tokens.
        weight: w of the module's formula, 0 or more; 0 is greedy decoding.
        plausibility: α of the module's formula, in [0, 1].

    Returns:
        N rows, with log-probabilities given the own image.

    Raises:
        ValueError: a number is out of its range, or images have different numbers of prompts.
    """
    count = len(prompts[0])
    if any(len(row) != count for row in prompts):
        raise ValueError(f"each image needs the same number of prompts, got {sorted({len(row) for row in prompts})}")
    if not (math.isfinite(weight) and weight >= 0 and 0 <= plausibility <= 1):
        raise ValueError(f"weight must be 0 or more and plausibility in [0, 1], got {weight} and {plausibility}")
    with evaluation_mode(captioner.model):
        prefix = captioner.prefill([prompt for row in prompts for prompt in row])
        logits = prefix.logits
        prefix = prefix.repeat(repeat_prefix_with_room(prefix.cache, 1, max_new_tokens), 1)
        ends = torch.tensor(captioner.end_ids, device=logits.device)
        forbidden = torch.tensor(captioner.forbidden_token_ids(), device=logits.device, dtype=torch.long)
        running = torch.ones(len(prompts), dtype=torch.bool, device=logits.device)
        ids, masks, log_probs = [], [], []
        for step in range(max_new_tokens):
            allowed = logits.index_fill(1, forbidden, -torch.inf).unflatten(0, (len(prompts), count))
            drawn = contrastive_scores(allowed, weight, plausibility).argmax(-1).masked_fill(~running, captioner.pad_id)
            chosen = allowed[:, 0].float().log_softmax(-1).gather(1, drawn[:, None])[:, 0]
            ids.append(drawn)
            masks.append(running)
            log_probs.append(chosen.masked_fill(~running, 0.0))
            running = running & ~torch.isin(drawn, ends)
            if step == max_new_tokens - 1 or not running.any():
                break
            repeated = drawn.repeat_interleave(count)[:, None]
            logits = captioner.decode_step(prefix, repeated, prefix.extend_mask(step + 1))[:, -1]
            prefix = replace(prefix, position=prefix.position + 1)
    return GeneratedCaptions(torch.stack(ids, 1), torch.stack(masks, 1).long(), torch.stack(log_probs, 1))
