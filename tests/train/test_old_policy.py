"""The old and reference log-probabilities of a round equal those of sampling, and a run resumes only between rounds."""

from types import SimpleNamespace

import captioners
import pytest
import torch
from captioners import images

from rlcap.config.schema import GenerationConfig, GRPOConfig, ModelConfig, TrainConfig
from rlcap.data.batching import plan
from rlcap.data.curriculum import parse
from rlcap.errors import ConfigError
from rlcap.policy.loading import load_policy
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.mix import RewardMix, RewardTerm
from rlcap.train.checkpoints import write_state
from rlcap.train.grpo import GRPOTrainer
from rlcap.train.run_folder import RunFolder
from rlcap.types import Sample, Score


class Length(Reward):
    name, range, needs = "length", (0.0, 100.0), frozenset()

    def score(self, batch):
        return RewardOutput([Score(float(len(caption) % 11)) for caption in batch.captions])


def test_an_untrained_policy_equals_its_reference_despite_dropout_layers(tmp_path):
    captioners.build("qwen2_5_vl", tmp_path / "model")
    policy = load_policy(ModelConfig(base=str(tmp_path / "model"), adapter=None))
    dropped = [m for m in policy.model.modules() if isinstance(m, torch.nn.Dropout)]
    layers = [m for m in policy.model.modules() if hasattr(m, "attention_dropout")]
    for module in dropped:
        module.p = 0.5
    for layer in layers:
        layer.attention_dropout = 0.5
    assert dropped or layers
    samples = []
    for i, image in enumerate(images(2)):
        image.save(tmp_path / f"{i}.png")
        samples.append(Sample(str(i), str(tmp_path / f"{i}.png")))
    train = TrainConfig(steps=1, images_per_step=2, captions_per_image=4, micro_batch=4, beta=0.1, save_every=9)
    run = RunFolder(tmp_path / "run")
    run.root.mkdir()
    trainer = GRPOTrainer(
        policy.model, policy.processor, samples, config=GRPOConfig(train=train, generation=GenerationConfig(max_new_tokens=5)),
        batching=plan(2, 4, 4), folder=run, mix=RewardMix({"length": RewardTerm(Length())}), curriculum=parse(2),
        gallery={s.id: s.image for s in samples}, instruction="describe",
    )  # fmt: skip
    trainer.train()
    kls = [value for row in trainer.state.log_history for name, value in row.items() if name == "kl"]
    assert kls == [pytest.approx(0.0, abs=1e-9)]


def test_a_checkpoint_in_the_middle_of_a_round_is_rejected(tmp_path):
    batching = plan(2, 4, 4, num_iterations=3)
    trainer = SimpleNamespace(batching=batching, load_state_dict=lambda state: None)
    rounds = batching.steps_per_generation_round()
    assert rounds == 3
    for step in (3, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
        write_state(tmp_path / f"checkpoint-{step}", {})
    GRPOTrainer.restore(trainer, tmp_path / "checkpoint-3")
    with pytest.raises(ConfigError, match="a multiple of 3"):
        GRPOTrainer.restore(trainer, tmp_path / "checkpoint-4")
