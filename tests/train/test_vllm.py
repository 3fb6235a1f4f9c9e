"""`use_vllm` uses TRL's own round. A fake engine takes the place of vLLM, which needs a GPU."""

import json
import random
from typing import ClassVar

import pytest
import torch
from captioners import build, images

from rlcap.config.schema import GenerationConfig, GRPOConfig, ModelConfig, TrainConfig
from rlcap.data.batching import plan
from rlcap.data.curriculum import parse
from rlcap.policy.loading import load_policy
from rlcap.reward.mix import RewardMix
from rlcap.train.run_folder import RunFolder
from rlcap.types import Sample


class StandIn:
    """`trl.generation.vllm_generation.VLLMGeneration` as the trainer sees it; it babbles."""

    made: ClassVar[list] = []

    def __init__(self, **options):
        self.options, self.synced, self.asked = options, 0, []
        StandIn.made.append(self)

    def sync_weights(self):
        self.synced += 1

    def generate(self, prompts, images, num_generations, profiler=None):
        self.asked.append((prompts, images, num_generations))
        rng = random.Random(len(self.asked))
        ids = [[rng.randrange(20, 40) for _ in range(rng.randrange(1, 6))] + [2] for _ in prompts]
        log_probs = [[[-1.0] for _ in row] for row in ids]
        return prompts, ids, log_probs, [[[token] for token in row] for row in ids]


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    from rlcap.train.grpo import GRPOTrainer

    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", StandIn)
    build("qwen2_5_vl", tmp_path / "model")
    samples = []
    for i, image in enumerate(images(2)):
        image.save(tmp_path / f"{i}.png")
        samples.append(Sample(str(i), str(tmp_path / f"{i}.png")))
    policy = load_policy(ModelConfig(base=str(tmp_path / "model"), adapter=None))
    train = TrainConfig(
        steps=3, images_per_step=2, captions_per_image=4, micro_batch=4, learning_rate=0.05, save_every=9, use_vllm=True
    )
    config = GRPOConfig(train=train, generation=GenerationConfig(max_new_tokens=6))
    run = RunFolder(tmp_path / "run")
    run.root.mkdir()
    return GRPOTrainer(
        policy.model, policy.processor, samples, config=config, batching=plan(2, 4, 4), folder=run,
        mix=RewardMix.from_config({"length": {"reward": "rlcap.rewards.length:Length", "params": {"target": 3}}}),
        curriculum=parse(2), gallery={s.id: s.image for s in samples}, instruction="describe",
    )  # fmt: skip


def test_captions_of_vllm_are_scored_and_trained_on(trainer):
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if ".default." in n}
    trainer.train()
    (engine,) = StandIn.made
    assert engine.synced == len(engine.asked) == 3
    prompts, seen, _ = engine.asked[0]
    assert len(prompts) == len(seen) == 8
    assert all(len(row) == 1 for row in seen)
    assert engine.options["max_completion_length"] == 6
    rows = [json.loads(line) for line in trainer.folder.rollouts(0).read_text().splitlines()]
    assert len(rows) == 3 * 8
    assert len({row["scores"]["length"] for row in rows}) > 1
    assert any(row["advantage"] for row in rows)
    after = dict(trainer.model.named_parameters())
    assert any(not torch.equal(before[name], after[name]) for name in before)
