"""A round is split between groups, and its captions are a function of weights, seed, step and image."""

import pytest
import torch
from captioners import build, images

from rlcap.data.sampler import sampling_uniforms
from rlcap.policy.families.registry import make_captioner
from rlcap.train.rollout import average_over_processes, prepare_prompts, sample_captions, split_into_micro_batches


def make_round(prompts, group):
    rows = torch.arange(prompts * group)
    return {
        "prompts": [f"image {i}" for i in range(prompts)],
        "completion_ids": rows[:, None].expand(-1, 3),
        "advantages": rows * 10,
        "num_items_in_batch": torch.tensor(7),
    }


@pytest.mark.parametrize(
    ("size", "prompts"),
    [(8, [["image 0", "image 1"]]), (4, [["image 0"], ["image 1"]]), (2, [["image 0"]] * 2 + [["image 1"]] * 2)],
)
def test_micro_batches_hold_whole_groups_or_parts_of_one(size, prompts):
    parts = split_into_micro_batches(make_round(2, 4), size)
    assert [part["prompts"] for part in parts] == prompts
    assert torch.cat([part["advantages"] for part in parts]).tolist() == list(range(0, 80, 10))
    for part in parts:
        assert (part["completion_ids"][:, 0] * 10 == part["advantages"]).all()
        assert part["num_items_in_batch"] == 7


def test_a_micro_batch_that_splits_groups_unevenly_is_rejected():
    with pytest.raises(ValueError, match="6 captions does not fit groups of 4"):
        split_into_micro_batches(make_round(3, 4), 6)


def test_a_metric_is_averaged_over_the_processes_that_have_it():
    assert average_over_processes([{"words": 4, "recall": 0.5}, {"words": 8}]) == {"words": 6, "recall": 0.5}


def test_the_mean_of_a_reward_is_weighted_by_the_share_of_scored_captions():
    mostly_abstained = {"reward/a/mean": 1.0, "reward/a/abstain_rate": 0.75, "reward/a/seconds": 1.0}
    complete = {"reward/a/mean": 0.0, "reward/a/abstain_rate": 0.0, "reward/a/seconds": 2.0}
    means = average_over_processes(
        [mostly_abstained, complete, {"reward/a/abstain_rate": 1.0, "reward/a/seconds": 3.0}]
    )
    assert means == pytest.approx({"reward/a/mean": 0.2, "reward/a/abstain_rate": 1.75 / 3, "reward/a/seconds": 2.0})


def test_sampling_uniforms_depend_on_their_arguments_alone():
    first = sampling_uniforms(0, 5, "a", 4, 9)
    assert first.shape == (4, 9)
    assert 0 <= first.min() < first.max() < 1
    assert (first == sampling_uniforms(0, 5, "a", 4, 9)).all()
    for other in (
        sampling_uniforms(1, 5, "a", 4, 9),
        sampling_uniforms(0, 6, "a", 4, 9),
        sampling_uniforms(0, 5, "b", 4, 9),
    ):
        assert (first != other).all()
    assert sampling_uniforms(0, 0, "\ud800 – ü", 1, 1).shape == (1, 1)


def test_captions_do_not_depend_on_the_order_of_images_or_on_earlier_random_draws(tmp_path):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    build("llava", tmp_path)
    captioner = make_captioner(
        AutoModelForImageTextToText.from_pretrained(tmp_path).eval(), AutoProcessor.from_pretrained(tmp_path)
    )
    rows = []
    for i, image in enumerate(images(3)):
        image.save(tmp_path / f"{i}.png")
        rows += [{"image_path": str(tmp_path / f"{i}.png"), "sample_id": str(i)}] * 2

    def captions(rows):
        torch.rand(len(rows))
        prompts = prepare_prompts(captioner, rows, 2, "describe")
        options = {"seed": 3, "step": 1, "max_new_tokens": 7, "temperature": 1.0, "top_p": 1.0}
        written = sample_captions(captioner, prompts, rows, **options)
        return {
            r["sample_id"] + str(i % 2): ids.tolist() for i, (r, ids) in enumerate(zip(rows, written.ids, strict=True))
        }

    forth = captions(rows)
    assert len({tuple(ids) for ids in forth.values()}) > 3
    assert forth == captions(rows[::-1]) == captions(rows[2:]) | captions(rows[:2])
