"""benchmarks/lab_judges.py: claims are as true or false as asked for, the converted CLIP equals the lab's, and the
models load."""

import random
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from lab_judges import clip_processor, convert_to_transformers, draw_claim, make_answerer, make_chooser

from rlcap.io.images import open_image
from rlcap.lab.assets import ASSETS
from rlcap.lab.source import draw_scene, load_split
from rlcap.lab.world.truth import check_caption
from rlcap.rewards.pick_score import PickScore
from rlcap.rewards.vqa_score import VqaScore
from rlcap.scorers.clip import ClipScorer
from rlcap.scorers.preference import PreferenceScorer
from rlcap.types import RewardBatch

TEXTS = ["There is a red ball.", "A blue fish and two trees.", "The background is green."]


def test_claims_are_true_or_false_as_asked():
    rng = random.Random(0)
    for _ in range(20):
        scene = draw_scene(rng, "test")
        assert not check_caption(draw_claim(scene, True, rng, "test"), scene).wrong
        assert check_caption(draw_claim(scene, False, rng, "test"), scene).wrong


def test_the_labs_clip_says_the_same_in_transformers_format():
    samples = load_split("test", 3)
    ours = PreferenceScorer(
        convert_to_transformers(load_file(ASSETS / "retriever" / "open_clip_model.safetensors")), clip_processor()
    ).scores([open_image(sample.image) for sample in samples], TEXTS)
    clip = ClipScorer.load(f"local-dir:{ASSETS / 'retriever'}")
    images = clip.image_embeddings([sample.image for sample in samples])
    near = (clip.text_embeddings(TEXTS, "whole").vectors * images).sum(-1)
    assert ours == pytest.approx((clip.logit_scale * near).tolist(), abs=1e-4)


def test_both_load_as_the_rewards_load_what_is_published(tmp_path):
    torch.manual_seed(0)
    make_answerer(tmp_path / "answerer", images=8, steps=2, log=lambda _: None, batch=4)
    make_chooser(tmp_path / "chooser", images=8, steps=2, log=lambda _: None, batch=4)
    batch = RewardBatch(TEXTS, load_split("test", 3))
    yes = [score.value for score in VqaScore(str(tmp_path / "answerer")).score(batch)]
    near = [score.value for score in PickScore(str(tmp_path / "chooser"), processor=None).score(batch)]
    assert all(0 <= value <= 1 for value in yes)
    assert len(set(near)) == 3
