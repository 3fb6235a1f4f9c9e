"""Contrastive decoding: golden scores, weight 0 equals greedy decoding for every family, and each step equals plain passes."""

from __future__ import annotations

import math

import captioners
import pytest
import torch

from rlcap.policy.contrastive import contrastive_scores, generate_contrastive
from rlcap.policy.families.registry import make_captioner


def test_golden_scores():
    # own (.6, .38, .02), other (.7, .1, .2): means (.65, .24, .11); the third token has less than .1 · .6
    logits = torch.tensor([[[0.6, 0.38, 0.02], [0.7, 0.1, 0.2]]]).log()
    scores = contrastive_scores(logits, weight=2.0, plausibility=0.1)[0].tolist()
    assert scores[0] == pytest.approx(math.log(0.6) + 2 * math.log(0.6 / 0.65), abs=1e-5)
    assert scores[1] == pytest.approx(math.log(0.38) + 2 * math.log(0.38 / 0.24), abs=1e-5)
    assert scores[2] == -math.inf
    assert contrastive_scores(logits, weight=0.0, plausibility=0.0).argmax() == 0


def test_weight_0_is_greedy_decoding(loaded):
    captioner = make_captioner(*loaded)
    prompts = captioner.prepare(captioners.images(3), "describe")
    greedy = captioner.generate(prompts, 1, max_new_tokens=6, temperature=0)
    found = generate_contrastive(
        captioner, [[prompts[0], prompts[1]], [prompts[2], prompts[0]]], max_new_tokens=6, weight=0.0
    )
    assert captioner.decode(found.ids) == [captioner.decode(greedy.ids)[i] for i in (0, 2)]


def test_each_token_is_the_best_by_plain_passes(loaded):
    captioner = make_captioner(*loaded)
    captioner.model.eval()
    prompts = captioner.prepare(captioners.images(2), "describe")
    found = generate_contrastive(captioner, [prompts], max_new_tokens=4, weight=1.0, plausibility=0.0)
    ids = found.ids.repeat(2, 1)
    with torch.no_grad():
        logits = captioner.forward_unshared(prompts, ids)
    logits[..., captioner.forbidden_token_ids()] = -torch.inf
    for step in range(int(found.mask.sum())):
        scores = contrastive_scores(logits[None, :, step], 1.0, 0.0)[0]
        chosen = int(found.ids[0, step])
        assert scores[chosen] >= scores.max() - 1e-3


@pytest.mark.parametrize(("weight", "plausibility"), [(-1.0, 0.1), (math.nan, 0.1), (1.0, 1.5)])
def test_numbers_out_of_range_are_refused(weight, plausibility, loaded):
    captioner = make_captioner(*loaded)
    prompts = captioner.prepare(captioners.images(1), "describe")
    with pytest.raises(ValueError, match="plausibility in"):
        generate_contrastive(captioner, [prompts], max_new_tokens=2, weight=weight, plausibility=plausibility)
