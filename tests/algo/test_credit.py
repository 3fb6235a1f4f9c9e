"""Credit to tokens: golden values, and the properties that tie it to credit to captions."""

from __future__ import annotations

import itertools

import pytest
import torch

from rlcap.algo.advantages import AGGREGATE, combine
from rlcap.algo.credit import credit_scales, token_advantages, token_moments
from rlcap.algo.total import standardised_parts, totals_with_credit

NAN = float("nan")


def mask_of(lengths, width):
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


def advantages(values, tokens, mask, shares, groups=4, weights=(1.0, 2.0), **options):
    combined = combine(values, weights, groups, **options)
    kept = {key: options[key] for key in ("normalize", "aggregate") if key in options}
    baseline = options.get("baseline")
    scales = credit_scales(*token_moments(tokens, mask), weights, groups, baseline=baseline, **kept)
    return token_advantages(combined, tokens, mask, scales.centres, scales.factors, shares), combined


def random_case(seed=0, captions=8, terms=2, width=6, abstain=0.2):
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(captions, terms, generator=generator)
    values[torch.rand(captions, terms, generator=generator) < abstain] = NAN
    mask = mask_of(torch.randint(1, width + 1, (captions,), generator=generator).tolist(), width)
    return values, mask


@pytest.mark.parametrize(
    ("aggregate", "normalize"),
    [*itertools.product(AGGREGATE, ["group"]), *itertools.product(["normalize_then_sum"], ["batch", "none"])],
)
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_one_span_over_the_whole_caption_is_the_caption_level_form(aggregate, normalize, share):
    values, mask = random_case()
    options = {"aggregate": aggregate, "normalize": normalize}
    if aggregate == "sum_minus_greedy":
        options["baseline"] = torch.rand(8, 2, generator=torch.Generator().manual_seed(1))
    if aggregate == "sum_minus_running_mean":
        options["baseline"] = [0.3, 0.6]
    tokens = values[:, :, None].expand(-1, -1, mask.shape[1])
    result, combined = advantages(values, tokens, mask, [share, share], **options)
    expected = combined.advantages[:, None] * mask
    assert result.abs().sum() > 0
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=1e-6)


def test_golden_values():
    # Two captions of two tokens. Token values (0, −1) and (0, 0): caption means −.5 and 0, mean of both −.25.
    # Deviations squared, averaged in each caption: (.0625 + .5625) / 2 + .0625 = .375; std = √(.375 / 1) = .6124.
    values = torch.tensor([[0.0], [0.0]])
    tokens = torch.tensor([[[0.0, -1.0]], [[0.0, 0.0]]])
    result, _ = advantages(values, tokens, mask_of([2, 2], 2), [0.5], groups=2, weights=[1.0], whiten=False)
    unit = 0.375**0.5
    expected = 0.5 * torch.tensor([[0.25, -0.75], [0.25, 0.25]]) / unit
    torch.testing.assert_close(result, expected)


def test_each_caption_weighs_the_same_whatever_its_length():
    tokens = torch.tensor([[[1.0] * 10], [[0.0] + [NAN] * 9]]).nan_to_num(0.0)
    mask = mask_of([10, 1], 10)
    means, squares = token_moments(tokens, mask)
    scales = credit_scales(means, squares, [1.0], 2)
    assert scales.centres[:, 0].tolist() == [0.5, 0.5]


def test_a_share_of_zero_changes_nothing_and_neither_do_terms_without_spans():
    values, mask = random_case(1)
    tokens = torch.rand(8, 2, 6)
    result, combined = advantages(values, tokens, mask, [0.0, 0.0])
    torch.testing.assert_close(result, combined.advantages[:, None] * mask)
    nothing, _ = advantages(values, torch.full((8, 2, 6), NAN), mask, [1.0, 1.0])
    torch.testing.assert_close(nothing, combined.advantages[:, None] * mask)


def test_an_abstention_is_neutral():
    values = torch.tensor([[0.1], [0.5], [0.9], [NAN]])
    tokens = torch.rand(4, 1, 3, generator=torch.Generator().manual_seed(2))
    tokens[3] = NAN
    mask = mask_of([3, 3, 3, 3], 3)
    options = {"weights": [1.0], "whiten": False}
    with_it, _ = advantages(values, tokens, mask, [0.5], groups=torch.tensor([0, 0, 0, 0]), **options)
    without, _ = advantages(values[:3], tokens[:3], mask[:3], [0.5], groups=torch.tensor([0, 0, 0]), **options)
    torch.testing.assert_close(with_it[:3], without)
    assert with_it[3].tolist() == [0, 0, 0]


def test_a_group_whose_tokens_do_not_differ_keeps_its_captions_advantage():
    values = torch.tensor([[0.1], [0.9]])
    tokens = torch.zeros(2, 1, 3)  # nothing is wrong in either caption
    result, combined = advantages(values, tokens, mask_of([3, 2], 3), [0.7], groups=2, weights=[1.0])
    torch.testing.assert_close(result, combined.advantages[:, None] * mask_of([3, 2], 3))


def test_padding_changes_nothing():
    values, mask = random_case(3)
    tokens = torch.rand(8, 2, 6, generator=torch.Generator().manual_seed(3))
    short, _ = advantages(values, tokens, mask, [0.3, 0.8])
    wide = torch.cat([tokens, torch.full((8, 2, 4), 9.0)], 2)
    wide_mask = torch.cat([mask, torch.zeros(8, 4, dtype=mask.dtype)], 1)
    long, _ = advantages(values, wide, wide_mask, [0.3, 0.8])
    torch.testing.assert_close(long[:, :6], short)
    assert not long[:, 6:].any()


def test_only_the_tokens_of_a_false_span_are_pushed_down_relative_to_their_caption():
    values = torch.tensor([[0.2], [0.8], [0.5], [0.5]])
    tokens = torch.zeros(4, 1, 4)
    tokens[0, 0, 2] = -1.0
    result, _ = advantages(values, tokens, mask_of([4] * 4, 4), [0.5], weights=[1.0])
    assert result[0, 2] < result[0, 0] == result[0, 1] == result[0, 3]
    assert len(set(result[1].tolist())) == 1


def test_an_empty_caption_gives_no_number_that_is_not_finite():
    values = torch.tensor([[0.2], [0.8]])
    tokens = torch.rand(2, 1, 3)
    result, _ = advantages(values, tokens, mask_of([0, 3], 3), [0.5], groups=2, weights=[1.0])
    assert torch.isfinite(result).all()
    assert not result[0].any()


def test_unknown_formulas_are_refused():
    with pytest.raises(ValueError, match="unknown aggregate 'mean'"):
        credit_scales(torch.ones(2, 1), torch.ones(2, 1), [1.0], 2, aggregate="mean")


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_ppo_pays_a_span_at_its_last_token(share):
    values = torch.tensor([[1.0], [3.0]])
    weights, means, stds = [2.0], [2.0], [0.5]
    parts = standardised_parts(values, weights, means, stds)
    ends = torch.zeros(2, 1, 4)
    ends[:, 0, 3] = values[:, 0]  # one span over the whole caption
    captions, tokens = totals_with_credit(parts, ends, weights, means, stds, [share])
    torch.testing.assert_close(captions + tokens[:, 3], parts.sum(1).float())
    ends[0, 0] = torch.tensor([0.0, -1.0, 0.0, 2.0])
    captions, tokens = totals_with_credit(parts, ends, weights, means, stds, [share])
    assert tokens[0].tolist() == pytest.approx([0.0, -4 * share, 0.0, 8 * share])


def test_ppo_leaves_terms_without_spans_to_the_caption():
    parts = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    ends = torch.full((1, 2, 3), NAN)
    captions, tokens = totals_with_credit(parts, ends, [1.0, 1.0], [NAN, 0.0], [NAN, 1.0], [1.0, 1.0])
    assert captions.tolist() == [3.0]
    assert not tokens.any()
