import re
import warnings

import pytest

from rlcap.data.batching import plan
from rlcap.errors import BatchingError


def test_the_arithmetic():
    batching = plan(8, 8, 8, processes=2, num_iterations=4)
    assert batching.trl() == {
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 4,
        "steps_per_generation": 4,
        "num_generations": 8,
        "num_iterations": 4,
    }
    assert (batching.captions_per_step, batching.captions_per_process) == (64, 32)
    assert batching.describe().splitlines() == [
        "8 images × 8 captions = 64 captions per step",
        "on 2 processes: 4 images, 32 captions each = 4 × a micro-batch of 8",
        "each round of captions is used 4 times",
        "TRL: per_device_train_batch_size=8, gradient_accumulation_steps=4, steps_per_generation=4, num_generations=8, "
        "num_iterations=4",
    ]


@pytest.mark.parametrize(
    ("numbers", "processes", "proposal"),
    [
        ((7, 8, 8), 2, "images_per_step 6 or 8"),
        ((1, 4, 4), 2, "images_per_step 2 or 4"),
        ((9, 4, 16), 2, "images_per_step 8 or 16"),  # 10 / 2 × 4 = 20 is not a multiple of 16
        ((8, 8, 5), 1, "micro_batch 4 or 8"),
        ((8, 8, 100), 1, "micro_batch 32 or 64"),
        ((2, 4, 3), 2, "micro_batch 2 or 4"),
        ((6, 8, 12), 1, "micro_batch 8 or 16"),  # 12 divides 48, but would split every second group
    ],
)
def test_an_impossible_choice_proposes_two_that_work(numbers, processes, proposal):
    with pytest.raises(BatchingError, match=proposal) as caught:
        plan(*numbers, processes=processes)
    name, first, second = re.search(r"(images_per_step|micro_batch) (\d+) or (\d+)$", str(caught.value)).groups()
    for value in (int(first), int(second)):
        images, captions, micro = numbers
        images, micro = (value, micro) if name == "images_per_step" else (images, value)
        assert plan(images, captions, micro, processes=processes).captions_per_process % captions == 0


def test_invalid_numbers():
    for numbers in ((0, 8, 8), (8, 1, 8), (8, 8, 0), (8.0, 8, 8)):
        with pytest.raises(BatchingError, match="whole number"):
            plan(*numbers)


def test_small_groups_warn():
    with pytest.warns(UserWarning, match="captions_per_image is 3"):
        plan(4, 3, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan(4, 4, 4)


def test_minibatches_are_steps_of_one_round():
    batching = plan(4, 4, 8, num_iterations=2, minibatches=3)
    assert (batching.captions_per_step, batching.images_per_round, batching.captions_per_process) == (16, 12, 48)
    assert (batching.accumulation, batching.steps_per_generation_round()) == (2, 6)
    assert batching.trl()["steps_per_generation"] == 3 * batching.trl()["gradient_accumulation_steps"]
    assert "a round generates the captions of 3 steps at once: 12 images" in batching.describe()


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("iterations", "minibatches"), [(1, 1), (2, 1), (2, 3)])
def test_trl_computes_the_same_numbers(tmp_path, monkeypatch, processes, iterations, minibatches):
    from trl import GRPOConfig

    batching = plan(6, 4, 4, processes=processes, num_iterations=iterations, minibatches=minibatches)
    monkeypatch.setattr(GRPOConfig, "world_size", property(lambda self: processes))
    config = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", **batching.trl())
    assert config.generation_batch_size == batching.captions_per_step * minibatches == 24 * minibatches
    assert config.generation_batch_size // config.num_generations == batching.images_per_round
    # one generation is exactly one optimiser step per iteration and minibatch
    assert config.steps_per_generation == config.gradient_accumulation_steps * minibatches
    assert config.per_device_train_batch_size * config.steps_per_generation == batching.captions_per_process
