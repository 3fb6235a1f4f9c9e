"""The learnt preference as a reward: golden values, its limits, abstention, and what it is fooled by."""

import torch
from fake_models import HashClip
from PIL import Image

from rlcap.reward.mix import RewardMix, RewardTerm
from rlcap.rewards.preference_model import LIMIT, PreferenceModel
from rlcap.scorers.reward_model import RewardModel
from rlcap.types import RewardBatch, Sample


def photo(tmp_path):
    Image.new("RGB", (8, 8), (200, 30, 40)).save(tmp_path / "a.png")
    return Sample("a", str(tmp_path / "a.png"))


def counting(weight, bias=0.0):
    """A model whose score is the number of distinct sentences, times a weight."""
    head = torch.zeros(65)
    head[-1] = weight
    return PreferenceModel(RewardModel(HashClip(), head, bias))


def test_golden_score_is_the_head_s_log_odds_and_cut_at_the_limit(tmp_path):
    sample = photo(tmp_path)
    batch = RewardBatch(
        ["A bus.", "A bus. It waits. A bus.", "It is. He is. She is. You are. We are.", ""], [sample] * 4
    )
    assert [score.value for score in counting(1.5, 0.25).score(batch)] == [1.75, 3.25, 7.75, -LIMIT]
    assert [score.value for score in counting(4.0).score(batch)][2] == LIMIT
    assert [score.value for score in counting(-4.0).score(batch)][2] == -LIMIT


def test_broken_and_missing_images_abstain_with_their_reason(tmp_path):
    sample, gone = photo(tmp_path), Sample("b", str(tmp_path / "gone.png"))
    scores = counting(1.0).score(RewardBatch(["A bus."] * 3, [sample, gone, Sample("c", "")])).scores
    assert scores[0].value == 1.0
    assert "gone.png" in scores[1].reason
    assert scores[2].reason == "no image path"


def test_probe_rambling_wins_by_new_sentences_and_not_by_repeated_ones(tmp_path):
    """The card's hack: a model that learnt that more is better pays for new sentences, whatever they say."""
    mix = RewardMix({"judge": RewardTerm(counting(1.0))}, max_abstain=1.0)
    texts = ["A red bus.", "A red bus. A red bus. A red bus.", "A red bus. I like it. It is what it is."]
    values = mix.score(RewardBatch(texts, [photo(tmp_path)] * 3)).values[:, 0].tolist()
    assert values == [1.0, 1.0, 3.0]
