"""The reward protocol: a TRL function, with abstentions as None."""

import asyncio
import json

import numpy as np
import pytest
import torch

from rlcap.errors import ColumnError, RewardError
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.mix import RewardMix, RewardTerm
from rlcap.reward.trl_adapter import caption_text, to_reward_batch
from rlcap.types import RewardBatch, Sample, Score


class Loud(Reward):
    name, range, needs = "loud", (-1.0, 0.0), frozenset()

    def score(self, batch):
        metrics = {"words": 2.0}
        return RewardOutput(
            [Score(-float("!" in c), note="heard") if c else Score.abstain("nothing was said") for c in batch.captions],
            metrics,
        )


class Slow(Reward):
    name = "slow"

    async def ascore(self, batch):
        await asyncio.sleep(0)
        return RewardOutput([Score(1.0)] * len(batch))


class NeedsReferences(Reward):
    name, needs = "reader", frozenset({"references"})

    def score(self, batch):
        return RewardOutput([Score(float(len(sample.references))) for sample in batch.samples])


def turn(text):
    return [{"role": "assistant", "content": text}]


def test_called_as_trl_does():
    metrics, extra = {}, {}
    values = Loud()(
        prompts=[[{"role": "user", "content": "Describe."}]] * 3,
        completions=[turn("a cat"), turn("a cat!"), turn("")],
        completion_ids=[[1], [2], [3]],
        sample_id=["a", "a", "a"],
        trainer_state=object(),
        log_metric=metrics.__setitem__,
        log_extra=extra.__setitem__,
        unheard_of=[1, 2, 3],
    )
    assert values == [0.0, -1.0, None]
    assert metrics == {"loud/abstain_rate": pytest.approx(1 / 3), "loud/words": 2.0}
    assert extra == {"loud/note": ["heard", "heard", ""]}
    assert Loud().__name__ == "loud"


def test_waiting_rewards_work_in_plain_code_and_inside_a_loop():
    assert Slow()(["p"], ["c"]) == [1.0]

    async def notebook():
        return Slow()(["p"], ["c"])

    assert asyncio.run(notebook()) == [1.0]
    assert Slow().is_async
    assert not Loud().is_async


def test_a_missing_column_is_reported_with_the_fix():
    with pytest.raises(ColumnError, match=r"needs references.*'references'.*remove_unused_columns=False.*sample_id"):
        NeedsReferences()(["p"], ["c"], sample_id=["a"])


def test_lengths_are_checked():
    with pytest.raises(ColumnError, match="2 prompts for 1 completions"):
        to_reward_batch(["p", "p"], ["c"], {})
    with pytest.raises(ColumnError, match=r"'references' must be a list .* 2 completions, got 1 values"):
        to_reward_batch(["p", "p"], ["c", "d"], {"references": [["r"]]})


def test_pack_reads_every_column():
    batch = to_reward_batch(
        ["p", "p"],
        ["a cat", turn([{"type": "text", "text": "ein Hund 🐕"}])],
        {
            "sample_id": [7, 8],
            "image_path": ["a.png", "b.png"],
            "references": [["x", "y"], None],
            "paragraph": ["long", None],
            "distractor_images": [["c.png"], []],
            "meta": ['{"scene": 1}', {"scene": 2}],
            "truncated": [True, False],
        },
    )
    assert list(batch.captions) == ["a cat", "ein Hund 🐕"]
    assert [s.id for s in batch.samples] == ["7", "8"]
    assert batch.samples[0].references == ("x", "y")
    assert batch.samples[1].references == ()
    assert [s.meta["scene"] for s in batch.samples] == [1, 2]
    assert list(batch.distractor_images) == [("c.png",), ()]
    assert list(batch.truncated) == [True, False]


def test_ids_fall_back_to_the_image_and_then_to_the_prompt():
    assert to_reward_batch(["p"], ["c"], {"image_path": ["a.png"]}).samples[0].id == "a.png"
    first, again, other = (to_reward_batch([p], ["c"], {}).samples[0].id for p in ("p", "p", "q"))
    assert first == again != other


def test_a_control_reaches_the_samples_and_a_bad_one_names_the_row():
    with pytest.raises(ColumnError, match="row 1: column 'control': control has the unknown key lenght"):
        to_reward_batch(["p", "p"], ["a", "b"], {"control": ['{"length": 4}', {"lenght": 4}]})
    found = to_reward_batch(["p", "p"], ["a", "b"], {"control": ['{"length": 4}', None]}, needs=["control"])
    assert [sample.control.to_dict() for sample in found.samples] == [{"length": 4}, {}]


def test_bad_meta_names_the_row():
    with pytest.raises(ColumnError, match="row 1: column 'meta' is not JSON"):
        to_reward_batch(["p", "p"], ["c", "c"], {"meta": ["{}", "{oops"]})
    with pytest.raises(ColumnError, match="row 0: column 'meta' must be a mapping"):
        to_reward_batch(["p"], ["c"], {"meta": ["[1]"]})


def test_caption_text_takes_the_text_of_a_conversation():
    assert caption_text(turn("a")) == "a"
    assert caption_text(turn(None)) == ""


def test_a_malformed_reward_class_is_rejected_at_its_definition():
    with pytest.raises(TypeError, match="has no name"):

        class Nameless(Reward):
            def score(self, batch):
                return RewardOutput([])

    with pytest.raises(TypeError, match="judges nothing"):

        class Idle(Reward):
            name = "idle"

    with pytest.raises(TypeError, match=r"needs .'pixels'."):

        class Greedy(Reward):
            name, needs = "greedy", frozenset({"pixels"})

            def score(self, batch):
                return RewardOutput([])


def test_invalid_scores_are_rejected():
    class Short(Reward):
        name = "short"

        def score(self, batch):
            return RewardOutput([])

    class Bare(Reward):
        name = "bare"

        def score(self, batch):
            return RewardOutput([0.5] * len(batch))

    with pytest.raises(ValueError, match="short gave 0 scores for 1"):
        Short()(["p"], ["c"])
    with pytest.raises(TypeError, match=r"bare gave 0.5; return Score\(value\)"):
        Bare()(["p"], ["c"])


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), torch.tensor(0.5), torch.tensor([0.5]), 0.5])
def test_a_number_of_any_kind_becomes_a_float(value):
    score = Score(value)
    assert type(score.value) is float
    assert score.value == 0.5
    json.dumps(score.value)
    assert type(Score(np.int64(1)).value) is type(Score(1).value) is float


@pytest.mark.parametrize("value", ["0.5", True, [0.5], torch.tensor([0.5, 0.5]), np.float32("nan"), float("inf")])
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        Score(value)


@pytest.mark.parametrize("value", [50.0, -1.1, 1.0 + 1e-3])
def test_a_value_outside_the_range_is_refused_by_name(value):
    class Loud(Reward):
        name, range = "loud", (-1.0, 1.0)

        def score(self, batch):
            return RewardOutput([Score(value)] * len(batch))

    mix = RewardMix({"mine": RewardTerm(Loud())})
    with pytest.raises(
        RewardError, match=r"reward term 'mine' failed: ValueError: loud gave .*, outside its range \[-1, 1\]"
    ):
        mix.score(RewardBatch(["a"], [Sample("a", "")]))


def test_a_value_beyond_single_precision_is_refused_by_name():
    class Loud(Reward):
        name, range = "loud", (0.0, float("inf"))

        def score(self, batch):
            return RewardOutput([Score(1e300)] * len(batch))

    with pytest.raises(RewardError, match=r"reward term 'mine' failed: ValueError: loud gave 1e\+300, more"):
        RewardMix({"mine": RewardTerm(Loud())}).score(RewardBatch(["a"], [Sample("a", "")]))


def test_the_start_prints_weights_and_says_what_a_negative_one_does():
    class Flat(Reward):
        name = "flat"

        def score(self, batch):
            return RewardOutput([Score(0.0)] * len(batch))

    text = RewardMix(
        {"a": RewardTerm(Flat()), "b": RewardTerm(Flat(), weight=-2), "c": RewardTerm(Flat(), weight=0)}
    ).describe()
    assert text.startswith("rewards: a × 1, b × -2, c × 0\n")
    assert "WARNING: b has the negative weight -2, so captions that it prefers are avoided" in text
    assert "c has weight 0; it is logged" in text
