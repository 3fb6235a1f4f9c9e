"""Advantages: published forms on golden numbers, and abstentions that push nobody."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcap.algo.advantages import AGGREGATE, WITH_BASELINE, combine, group_mean, group_mean_std, leave_one_out

NAN = math.nan


def column(*values):
    return torch.tensor(values, dtype=torch.float32)


def test_grpo_golden():
    assert group_mean_std(column(1, 0, 0, 0), 4).tolist() == [1.5, -0.5, -0.5, -0.5]


def test_centre_only_golden():
    assert group_mean(column(1, 0, 0, 0), 4).tolist() == [0.75, -0.25, -0.25, -0.25]


def test_leave_one_out_golden():
    actual = leave_one_out(column(1, 0, 0, 0, 3, 5, 5, 7), 4)
    expected = [1, -1 / 3, -1 / 3, -1 / 3, 3 - 17 / 3, 0, 0, 7 - 13 / 3]
    torch.testing.assert_close(actual, torch.tensor(expected))
    assert leave_one_out(column(2, NAN, NAN), 3).tolist() == [0, 0, 0]
    torch.testing.assert_close(leave_one_out(column(2, NAN, 5), 3), column(-3, 0, 3))


def test_leave_one_out_of_a_sum():
    values = torch.tensor([[1.0, 10.0], [0.0, 20.0], [0.0, 30.0]])
    actual = combine(values, [2.0, 0.1], 3, aggregate="sum_then_leave_one_out").advantages
    torch.testing.assert_close(actual, leave_one_out(values @ torch.tensor([2.0, 0.1]), 3))


def test_running_mean_golden():
    # NDLB: (l - b) with b the mean of the batches before; here as rewards
    values = column(-4.0, -2.0, -1.0, -3.0)[:, None]
    actual = combine(values, [0.5], 1, aggregate="sum_minus_running_mean", baseline=[-3.0], whiten=False)
    assert actual.advantages.tolist() == [-0.5, 0.5, 1.0, 0.0]


def test_before_the_first_step_the_batch_mean_is_the_baseline():
    values = torch.tensor([[-4.0, 1.0], [-2.0, NAN]])
    actual = combine(values, [1.0, 1.0], 1, aggregate="sum_minus_running_mean", baseline=[NAN, 0.5], whiten=False)
    assert actual.advantages.tolist() == [-0.5, 1.0]


def test_greedy_golden():
    # SCST: each sample less the greedy caption of its image, a caption of either that wasn't judged counting for nothing
    values = torch.tensor([[0.8, 1.0], [0.2, NAN], [0.5, 0.0], [0.9, 1.0]])
    greedy = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.7, NAN], [0.7, NAN]])
    actual = combine(values, [1.0, 2.0], 2, aggregate="sum_minus_greedy", baseline=greedy, whiten=False).advantages
    torch.testing.assert_close(actual, column(0.3 + 1.0, -0.3, -0.2, 0.2))


def test_whitening_divides_and_keeps_the_sign():
    values = column(1.0, 2.0, 3.0, 4.0)[:, None]
    plain, white = (
        combine(values, [1.0], 1, aggregate="sum_minus_running_mean", baseline=[0.5], whiten=w).advantages
        for w in (False, True)
    )
    torch.testing.assert_close(white, plain / plain.std())


@pytest.mark.parametrize("aggregate", WITH_BASELINE)
def test_an_abstention_never_makes_an_advantage_against_a_baseline(aggregate):
    baseline = torch.full((4, 2), 0.25) if aggregate == "sum_minus_greedy" else [5.0, 0.25]
    values = torch.tensor([[NAN, 0.25], [NAN, 0.25], [NAN, NAN], [NAN, 0.25]])
    assert combine(values, [1.0, 1.0], 2, aggregate=aggregate, baseline=baseline).advantages.tolist() == [0.0] * 4


def test_equal_to_trl_normalize_then_sum_without_abstentions():
    values = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([1.0, 0.5, 2.0])
    grouped = values.view(3, 4, 3)
    z = (grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-4)
    total = (z.view(12, 3) * weights).sum(1)
    expected = (total - total.mean()) / (total.std() + 1e-4)
    torch.testing.assert_close(combine(values, weights, 4).advantages, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("aggregate", [name for name in AGGREGATE if name not in WITH_BASELINE])
@pytest.mark.parametrize("normalize", ["group", "batch", "running", "none"])
def test_abstention_on_half_of_equally_good_captions_gives_no_advantage(aggregate, normalize):
    # The level of the abstaining component (5) is far from zero: a sum that drops it would drop the caption.
    values = torch.tensor([[5, 0.3], [NAN, 0.3], [5, 0.3], [NAN, 0.3]] * 2)
    result = combine(values, [1.0, 1.0], 4, normalize=normalize, aggregate=aggregate)
    assert result.advantages.tolist() == [0.0] * 8
    assert result.zero_variance_share == 1.0


def test_abstention_leaves_the_other_component_as_the_only_judge():
    other = [0.9, 0.9, 0.1, 0.1]  # pairs of equally good captions; of each pair the first component judges one
    values = torch.tensor([[0.8, other[0]], [NAN, other[1]], [0.8, other[2]], [NAN, other[3]]])
    a = combine(values, [1.0, 1.0], 4).advantages
    assert a[0] == a[1]
    assert a[2] == a[3]
    assert a[0] > 0 > a[2]


def test_trl_would_have_punished_the_abstention():
    values = torch.tensor([[0.5, 1.0], [NAN, 1.0], [0.5, 1.0], [NAN, 1.0]])
    trl = values.nansum(1)
    assert trl[1] < trl[0]
    assert combine(values, [1.0, 1.0], 4, aggregate="sum_then_normalize").advantages.abs().max() == 0


def test_residue_is_no_signal_and_one_live_group_is_not_blown_up():
    residue = [[0.5], [0.5 + 1e-5], [0.5], [0.5 - 1e-5]]
    dead = combine(torch.tensor(residue), [1.0], 4)
    assert dead.advantages.abs().max() == 0
    values = torch.tensor(residue * 31 + [[1.0], [0.0], [0.0], [0.0]])
    result = combine(values, [1.0], 4)
    assert result.advantages.abs().max() < 2
    assert result.zero_variance_share == pytest.approx(31 / 32)


def test_the_floor_is_relative_to_the_range():
    values = torch.tensor([[0.0], [0.01], [0.0], [0.01]])
    assert combine(values, [1.0], 4, reward_ranges=[1.0]).advantages.abs().max() > 0
    assert combine(values, [1.0], 4, reward_ranges=[1000.0]).advantages.abs().max() == 0
    assert combine(values, [1.0], 4, reward_ranges=[math.inf]).advantages.abs().max() > 0


def test_components_of_different_scale_weigh_the_same():
    values = torch.tensor([[1000.0, 0.0], [0.0, 0.001], [1000.0, 0.0], [0.0, 0.001]])
    assert combine(values, [1.0, 1.0], 4, reward_ranges=[1.0, 0.001]).advantages.abs().max() < 1e-6


def test_batch_scale_keeps_the_difference_between_groups_and_running_uses_what_it_is_given():
    values = column(0, 1, 0, 10)[:, None]
    a = combine(values, [1.0], 2, normalize="batch", whiten=False).advantages
    assert a[3] / a[1] == pytest.approx(10)
    b = combine(values, [1.0], 2, normalize="running", running_std=[2.0], whiten=False).advantages
    assert b.tolist() == [-0.25, 0.25, -2.5, 2.5]


def test_a_lone_judged_caption_and_a_caption_that_nobody_judged_get_zero():
    values = torch.tensor([[1.0, NAN], [NAN, NAN], [NAN, 0.2], [NAN, 0.6]])
    a = combine(values, [1.0, 1.0], 4, whiten=False).advantages
    torch.testing.assert_close(a, torch.tensor([0.0, 0.0, -math.sqrt(0.5), math.sqrt(0.5)]))
    total = combine(values, [1.0, 1.0], 4, aggregate="sum_then_normalize").advantages
    assert total[1] == 0


def test_statistics_tell_within_from_batch():
    result = combine(torch.tensor([[0.0], [0.0], [1.0], [1.0]]), [1.0], 2)
    assert result.std_within_group.tolist() == [0.0]
    assert result.std_batch[0] == pytest.approx(0.57735, abs=1e-4)
    assert result.zero_variance_share_by_term.tolist() == [1.0]


def test_group_ids_in_any_order_equal_contiguous_groups():
    values = torch.randn(12, 2, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    straight = combine(values, [1.0, 0.3], 4).advantages
    shuffled = combine(values[order], [1.0, 0.3], (torch.arange(12) // 4 + 100)[order]).advantages
    torch.testing.assert_close(shuffled, straight[order])


def test_weight_zero_is_logged_but_silent():
    result = combine(torch.tensor([[1.0, 5.0], [0.0, 9.0]]), [0.0, 0.0], 2)
    assert result.advantages.tolist() == [0.0, 0.0]
    assert result.std_within_group[1] > 0


def test_errors_show_the_invalid_value():
    with pytest.raises(ValueError, match="5 captions don't divide into groups of 4"):
        combine(torch.zeros(5, 1), [1.0], 4)
    with pytest.raises(ValueError, match="weights must have one entry for each of 2"):
        combine(torch.zeros(4, 2), [1.0], 4)
    with pytest.raises(ValueError, match="sum_then_normalize"):
        combine(torch.zeros(4, 1), [1.0], 4, aggregate="gdpoo")
    with pytest.raises(ValueError, match="normalize must be"):
        combine(torch.zeros(4, 1), [1.0], 4, normalize="grupo")
    with pytest.raises(ValueError, match="needs a baseline"):
        combine(torch.zeros(4, 1), [1.0], 4, aggregate="sum_minus_greedy")
    with pytest.raises(ValueError, match=r"the shape \(4, 1\) of the values, got \(1,\)"):
        combine(torch.zeros(4, 1), [1.0], 4, aggregate="sum_minus_greedy", baseline=[1.0])
    with pytest.raises(ValueError, match="infinite"):
        combine(torch.tensor([[math.inf], [0.0]]), [1.0], 2)


cell = st.one_of(st.just(NAN), st.floats(-10, 10, width=32))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 4).flatmap(
        lambda k: st.lists(st.lists(cell, min_size=k, max_size=k), min_size=8, max_size=8).map(torch.tensor)
    ),
    st.sampled_from(["group", "batch", "none"]),
    st.sampled_from([name for name in AGGREGATE if name not in WITH_BASELINE]),
)
def test_any_pattern_of_abstentions_is_finite_and_sums_to_zero_in_each_group(values, normalize, aggregate):
    k = values.shape[1]
    result = combine(values, [1.0] * k, 4, normalize=normalize, aggregate=aggregate)
    assert torch.isfinite(result.advantages).all()
    sums = result.advantages.view(2, 4).sum(1).abs()
    assert (sums <= 1e-4 * (1 + result.advantages.abs().max())).all()
    assert (result.advantages[values.isnan().all(1)] == 0).all()
    # A component contributes nothing to a caption on which it abstained.
    assert (result.contributions[values.isnan()] == 0).all()
