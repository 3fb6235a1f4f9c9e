"""Every documented family can be trained by SFT, GRPO and PPO, and the saved weights are the trained ones."""

import json

import captioners
import pytest
import torch
from captioners import images
from peft import PeftModel
from transformers import AutoModelForImageTextToText

from rlcap.config.schema import GenerationConfig, GRPOConfig, ModelConfig, PPOConfig, PPOTrainConfig, TrainConfig
from rlcap.config.supervised import SFTConfig, SFTTrainConfig
from rlcap.data.batching import plan
from rlcap.data.curriculum import parse
from rlcap.eval.captioning import caption_samples
from rlcap.policy.families.registry import FAMILIES
from rlcap.policy.loading import load_policy
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.mix import RewardMix, RewardTerm
from rlcap.train.run_folder import RunFolder
from rlcap.train.saving import save_tuned
from rlcap.types import Sample, Score

INSTRUCTION = "describe the image"
TRAIN = {
    "steps": 2,
    "images_per_step": 2,
    "captions_per_image": 4,
    "micro_batch": 4,
    "learning_rate": 0.05,
    "save_every": 9,
}


class Letters(Reward):
    """Not the same for two captions, whatever a model without sense babbles."""

    name, range, needs = "letters", (0.0, 1.0), frozenset()

    def score(self, batch):
        return RewardOutput([Score(sum(map(ord, caption)) % 97 / 97) for caption in batch.captions])


QUICK = ("blip-2", "qwen2_5_vl", "vision-encoder-decoder")
"""Families of each kind that are always tried; the others are slow together."""


@pytest.fixture(
    scope="module", params=[f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in sorted(FAMILIES)]
)
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    captioners.build(request.param.replace("-", "_").replace(" with ", "_"), folder)
    return folder


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rows = []
    for i, image in enumerate(images(4)):
        image.save(folder / f"{i}.png")
        rows.append(Sample(str(i), str(folder / f"{i}.png"), references=("a red ball .",), paragraph="a red ball ."))
    return rows


def adapter(policy):
    return {n: p.detach().cpu().clone() for n, p in policy.model.named_parameters() if ".default." in n}


def captions(model, processor, samples):
    return caption_samples(model, processor, samples, instruction=INSTRUCTION, max_new_tokens=6)


def assert_learnt_and_saved(policy, before, base, saved, samples):
    after = adapter(policy)
    assert any(not before[name].equal(after[name]) for name in before)
    assert all(torch.isfinite(value).all() for value in after.values())
    plain = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), saved).eval()
    assert captions(plain, policy.processor, samples) == captions(policy.model, policy.processor, samples)


def test_supervised_training_works(folder, samples, tmp_path):
    from rlcap.train.sft import build_trainer

    policy = load_policy(ModelConfig(base=str(folder), adapter=None))
    before = adapter(policy)
    config = SFTConfig(train=SFTTrainConfig(steps=3, batch_size=4, micro_batch=2, learning_rate=0.05))
    trainer = build_trainer(policy, samples, config, INSTRUCTION, RunFolder(tmp_path / "run"))
    result = trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < losses[0]
    assert result.global_step == 3
    policy.model.save_pretrained(tmp_path / "adapter")
    assert_learnt_and_saved(policy, before, folder, tmp_path / "adapter", samples)


def trainer_of(policy, samples, folder, algorithm="grpo", **train):
    from rlcap.train.grpo import GRPOTrainer
    from rlcap.train.ppo import PPOTrainer

    kinds = {"grpo": (GRPOTrainer, GRPOConfig, TrainConfig), "ppo": (PPOTrainer, PPOConfig, PPOTrainConfig)}
    trainer_kind, config_kind, train_kind = kinds[algorithm]
    config = config_kind(train=train_kind(**TRAIN, **train), generation=GenerationConfig(max_new_tokens=6))
    run = RunFolder(folder)
    run.root.mkdir()
    return trainer_kind(
        policy.model, policy.processor, samples, config=config,
        batching=plan(2, 4, 4, num_iterations=train.get("iterations", 1)), folder=run,
        mix=RewardMix({"letters": RewardTerm(Letters())}), curriculum=parse(2), gallery={s.id: s.image for s in samples}, instruction=INSTRUCTION,
    )  # fmt: skip


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_reinforcement_works(folder, samples, tmp_path, algorithm):
    policy = load_policy(ModelConfig(base=str(folder), adapter=None))
    before = adapter(policy)
    trainer = trainer_of(policy, samples, tmp_path / "run", algorithm)
    trainer.train()
    save_tuned(trainer, trainer.processor, trainer.folder.adapter)
    rows = [json.loads(line) for line in trainer.folder.rollouts(0).read_text().splitlines()]
    assert len(rows) == 2 * 2 * 4
    assert len({row["scores"]["letters"] for row in rows}) > 1
    assert_learnt_and_saved(policy, before, folder, trainer.folder.adapter, samples)


@pytest.mark.parametrize("family", ["blip", "git", "llava"])
def test_reinforcement_works_with_checkpointed_layers(family, samples, tmp_path):
    captioners.build(family, tmp_path / "model")
    policy = load_policy(ModelConfig(base=str(tmp_path / "model"), adapter=None))
    before = adapter(policy)
    trainer_of(policy, samples, tmp_path / "run", gradient_checkpointing=True).train()
    assert any(not before[name].equal(value) for name, value in adapter(policy).items())


@pytest.mark.parametrize("trainable", ["lora-language", "projector"])
def test_a_frozen_vision_encoder_runs_once_per_image_and_round(samples, tmp_path, trainable):
    """In generation, old and reference log-probabilities and both passes of the update together."""
    captioners.build("llava", tmp_path / "model")
    policy = load_policy(ModelConfig(base=str(tmp_path / "model"), adapter=None, trainable=trainable))
    trainer = trainer_of(policy, samples, tmp_path / "run", iterations=2, beta=0.1)
    before, calls = adapter(policy), []
    layers = trainer.captioner(policy.model).base.model.vision_tower.encoder.layers
    for i, layer in enumerate(layers):
        layer.register_forward_hook(lambda *_, i=i: calls.append(i))
    trainer.train()
    assert trainer.state.global_step == 2
    assert calls == 2 * [*range(len(layers))], "two images were captioned in the one round"
    assert any(not before[name].equal(value) for name, value in adapter(policy).items())
