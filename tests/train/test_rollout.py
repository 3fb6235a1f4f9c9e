"""A round is cut between groups, and its captions are a function of weights, seed, step and image."""

import pytest
import torch
from captioners import build, images

from rlcap.data.sampler import sampling_uniforms
from rlcap.policy.families.registry import make_captioner
from rlcap.train.rollout import mean_of_all, micro_batches, prepare, write


def a_round(prompts, group):
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
    parts = micro_batches(a_round(2, 4), size)
    assert [part["prompts"] for part in parts] == prompts
    assert torch.cat([part["advantages"] for part in parts]).tolist() == list(range(0, 80, 10))
    for part in parts:
        assert (part["completion_ids"][:, 0] * 10 == part["advantages"]).all()
        assert part["num_items_in_batch"] == 7


def test_a_group_is_not_cut_unevenly():
    with pytest.raises(ValueError, match="6 captions cuts groups of 4"):
        micro_batches(a_round(3, 4), 6)


def test_a_metric_is_the_mean_of_the_processes_that_have_it():
    assert mean_of_all([{"words": 4, "recall": 0.5}, {"words": 8}]) == {"words": 6, "recall": 0.5}


def test_a_rewards_mean_counts_the_captions_that_were_judged():
    mostly_down = {"reward/a/mean": 1.0, "reward/a/abstain_rate": 0.75, "reward/a/seconds": 1.0}
    well = {"reward/a/mean": 0.0, "reward/a/abstain_rate": 0.0, "reward/a/seconds": 2.0}
    found = mean_of_all([mostly_down, well, {"reward/a/abstain_rate": 1.0, "reward/a/seconds": 3.0}])
    assert found == pytest.approx({"reward/a/mean": 0.2, "reward/a/abstain_rate": 1.75 / 3, "reward/a/seconds": 2.0})


def test_points_depend_on_their_arguments_alone():
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


def test_captions_do_not_depend_on_the_order_of_images_or_on_what_was_drawn_before(tmp_path):
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
        prompts = prepare(captioner, rows, 2, "describe")
        options = {"seed": 3, "step": 1, "max_new_tokens": 7, "temperature": 1.0, "top_p": 1.0}
        written = write(captioner, prompts, rows, **options)
        return {
            r["sample_id"] + str(i % 2): ids.tolist() for i, (r, ids) in enumerate(zip(rows, written.ids, strict=True))
        }

    forth = captions(rows)
    assert len({tuple(ids) for ids in forth.values()}) > 3
    assert forth == captions(rows[::-1]) == captions(rows[2:]) | captions(rows[:2])
