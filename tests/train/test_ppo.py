"""PPO on a tiny captioner: the training signal of a round, the two parameter groups of its optimiser, and checkpoints."""

import json
from types import SimpleNamespace

import pytest
import torch
from captioners import build, images
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from rlcap.config.schema import GenerationConfig, PPOConfig, PPOTrainConfig
from rlcap.data.batching import plan
from rlcap.data.curriculum import Constant
from rlcap.policy.loading import find_lora_modules
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.mix import RewardMix, RewardTerm
from rlcap.train.ppo import PPOTrainer
from rlcap.train.run_folder import RunFolder
from rlcap.train.saving import save_tuned
from rlcap.types import Sample, Score


class Vowels(Reward):
    name, range, needs = "vowels", (0.0, 1.0), frozenset()

    def score(self, batch):
        return RewardOutput(
            [Score(sum(word in "aeiou" for word in c.split()) / max(1, len(c.split()))) for c in batch.captions]
        )


class Silent(Reward):
    name, range, needs = "silent", (0.0, 100.0), frozenset()

    def score(self, batch):
        return RewardOutput([Score(50.0) if i == 0 else Score.abstain("no") for i, _ in enumerate(batch.captions)])


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ppo")
    build("llava", folder / "model")
    for i, image in enumerate(images(4)):
        image.save(folder / f"{i}.png")
    return folder


def trainer(material, tmp_path, components=None, **train):
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(material / "model")
    processor = AutoProcessor.from_pretrained(material / "model", padding_side="left")
    policy = get_peft_model(model, LoraConfig(r=4, target_modules=find_lora_modules(model, "lora-language")))
    config = PPOConfig(
        generation=GenerationConfig(max_new_tokens=6),
        train=PPOTrainConfig(
            **{"steps": 4, "images_per_step": 2, "captions_per_image": 4, "micro_batch": 4, "save_every": 2,
               "learning_rate": 1e-2, **train}
        )
    )  # fmt: skip
    folder = RunFolder(tmp_path / "run")
    folder.captions.mkdir(parents=True)
    settings = config.train
    batching = plan(2, 4, 4, num_iterations=settings.iterations, minibatches=settings.minibatches)
    samples = [Sample(str(i), str(material / f"{i}.png"), ("a",)) for i in range(4)]
    return PPOTrainer(
        policy, processor, samples, config=config, batching=batching, folder=folder,
        mix=RewardMix(components or {"vowels": RewardTerm(Vowels())}), curriculum=Constant(2), gallery={}, instruction="describe",
    )  # fmt: skip


def rolled_out(ppo):
    ppo.state.max_steps = 4
    rows = [ppo.train_dataset[i] for i in (0, 1) for _ in range(4)]
    return ppo.generate_rollout([{**row, "distractor_images": []} for row in rows])


def test_the_first_round_learns_from_the_reward_only(material, tmp_path):
    ppo = trainer(material, tmp_path, whiten=False, lam=0.5)
    rollout = rolled_out(ppo)
    learnt = ppo.compute_training_signal(rollout)
    assert {name: tuple(value.shape) for name, value in learnt.items()} == dict.fromkeys(
        ("advantages", "values", "returns"), tuple(rollout.ids.shape)
    )
    assert not learnt["values"].any()  # the value model is untrained
    values = rollout.scores.values[:, 0].double()
    total = (values - values.mean()) / values.std(correction=0)
    last = rollout.mask.sum(1) - 1
    found = learnt["advantages"][torch.arange(8), last]
    torch.testing.assert_close(found.double(), total, atol=1e-3, rtol=1e-3)  # the KL is zero but for rounding
    before = (last > 0).nonzero()[:, 0]
    torch.testing.assert_close(
        learnt["advantages"][before, last[before] - 1], 0.5 * found[before], atol=1e-3, rtol=1e-3
    )
    assert not learnt["advantages"][rollout.mask == 0].any()


def test_an_abstention_is_neutral(material, tmp_path):
    both = {"vowels": RewardTerm(Vowels()), "silent": RewardTerm(Silent(), 3.0)}
    plain, with_silent = trainer(material, tmp_path / "a"), trainer(material, tmp_path / "b", both)
    with_silent.mix.abstentions.limit = 1.0
    rewards = [ppo._totals(rolled_out(ppo))[0] for ppo in (plain, with_silent)]
    assert torch.equal(*rewards)


def test_kl_is_a_reward_per_token_and_its_coefficient_adapts(material, tmp_path):
    ppo = trainer(material, tmp_path, beta=0.5, kl_target=1.0, whiten=False, lam=0.0)
    rollout = rolled_out(ppo)
    far = rollout.sampled_log_probs - 2.0 * rollout.mask
    object.__setattr__(rollout, "ref_log_probs", far)
    learnt = ppo.compute_training_signal(rollout)
    early = rollout.mask.clone()
    early[torch.arange(8), rollout.mask.sum(1) - 1] = 0
    torch.testing.assert_close(learnt["advantages"][early > 0], torch.full((int(early.sum()),), -1.0))
    assert ppo.kl.coefficient == pytest.approx(0.5 * 1.02)
    again = trainer(material, tmp_path / "b", beta=0.5, kl_target=1.0)
    again.load_state_dict(json.loads(json.dumps(ppo.state_dict())))
    assert again.kl == ppo.kl
    assert again.mix.moments.state_dict() == ppo.mix.moments.state_dict()


def test_advantages_are_whitened_over_tokens(material, tmp_path):
    ppo = trainer(material, tmp_path)
    rollout = rolled_out(ppo)
    counted = ppo.compute_training_signal(rollout)["advantages"][rollout.mask > 0]
    assert counted.mean().item() == pytest.approx(0, abs=1e-5)
    assert counted.std().item() == pytest.approx(1, abs=1e-5)


def test_the_value_model_has_its_own_learning_rate_and_gradient_norm(material, tmp_path):
    ppo = trainer(material, tmp_path, value_learning_rate=0.5, max_grad_norm=0.1)
    rates = {}
    names = {id(p): name for name, p in ppo.model.named_parameters()}
    for group in ppo.create_optimizer().param_groups:
        for parameter in group["params"]:
            rates[names[id(parameter)]] = group["lr"]
    assert {name for name, rate in rates.items() if rate == 0.5} == ppo.value_model.named_parameters().keys()
    assert {name for name, rate in rates.items() if rate == 1e-2} == {
        name for name, p in ppo.model.named_parameters() if p.requires_grad and ".default." in name
    }
    for name, parameter in ppo.model.named_parameters():
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, 1e3 if name in ppo.value_model.named_parameters() else 1e-6)
    ppo._clip_grad_norm(ppo.model)
    grads = {name: p.grad for name, p in ppo.model.named_parameters() if p.grad is not None}
    policys = [g for name, g in grads.items() if name not in ppo.value_model.named_parameters()]
    assert all((g == 1e-6).all() for g in policys), "a value model that is far off must not shrink the policy's step"
    norm = sum(g.square().sum() for name, g in grads.items() if name in ppo.value_model.named_parameters()).sqrt()
    assert norm.item() == pytest.approx(0.1, rel=1e-3)


def test_the_loss_is_the_sum_of_policy_and_value_loss(material, tmp_path):
    ppo = trainer(material, tmp_path, value_coefficient=0.3, value_clip=None, beta=0.0)
    ppo.create_optimizer()
    ppo.model.train()
    ppo.current_gradient_accumulation_steps = 2
    rollout = rolled_out(ppo)
    learnt = ppo.compute_training_signal(rollout)
    tokens = rollout.mask.sum()
    loss = ppo._compute_loss(ppo.model, rollout.to_loss_inputs(learnt, tokens))
    policys = -(learnt["advantages"] * rollout.mask).sum() / tokens  # every ratio is one
    critics = 0.5 * (learnt["returns"].square() * rollout.mask).sum() / tokens
    assert loss.item() == pytest.approx((policys + 0.3 * critics).item(), rel=1e-4)
    loss.backward()
    for name, parameter in ppo.model.named_parameters():
        trained = ".default." in name or name in ppo.value_model.named_parameters()
        assert (parameter.grad is not None) == trained, name


@pytest.mark.parametrize("train", [{}, {"minibatches": 2, "gradient_checkpointing": True}, {"kl": "loss"}])
def test_training_changes_policy_and_value_model_but_not_the_reference(material, tmp_path, train):
    ppo = trainer(material, tmp_path, beta=0.1, save_every=9, **train)
    before = {name: p.detach().clone() for name, p in ppo.model.named_parameters()}
    ppo.train()
    moved = {name for name, p in ppo.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if ".default." in name or name in ppo.value_model.named_parameters()}
    logs = [row for row in ppo.state.log_history if "value/loss" in row]
    assert len(logs) == 4
    save_tuned(ppo, ppo.processor, ppo.folder.adapter)
    saved = load_file(ppo.folder.adapter / "adapter_model.safetensors")
    assert len(saved) == sum(".default." in name for name in before)
    assert not any("value_model" in name or "value_head" in name for name in saved)


def rolled(ppo, after):
    rows = [json.loads(line) for line in ppo.folder.rollouts(0).read_text().splitlines()]
    return [row for row in rows if row["step"] > after]


def test_a_checkpoint_restores_the_whole_state(material, tmp_path):
    """To the bit, as the recipe's killed run does (tests/recipes, slow): policy, value model, both of their optimisers, and the KL's
    price are those of the run that was never stopped, or the steps after it would differ."""
    ppo = trainer(material, tmp_path / "a", kl_target=0.5, beta=0.1)
    ppo.train()
    checkpoint = ppo.folder.checkpoints / "checkpoint-2"
    resumed = trainer(material, tmp_path / "b", kl_target=0.5, beta=0.1)
    resumed.restore(checkpoint)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    for (name, one), (_, other) in zip(ppo.model.named_parameters(), resumed.model.named_parameters(), strict=True):
        assert torch.equal(one, other), name
    assert resumed.state_dict() == ppo.state_dict()
    assert resumed.kl.coefficient != 0.1
    assert rolled(resumed, 0) == rolled(ppo, 2) != []
    logs = [[row for row in run.state.log_history if row["step"] > 2 and "value/loss" in row] for run in (ppo, resumed)]
    assert [row["value/loss"] for row in logs[0]] == [row["value/loss"] for row in logs[1]]


def test_full_fine_tuning_is_rejected(material):
    with pytest.raises(ValueError, match="trainable=full freezes nothing"):
        PPOTrainer(
            AutoModelForImageTextToText.from_pretrained(material / "model"),
            AutoProcessor.from_pretrained(material / "model"), [], config=SimpleNamespace(train=PPOTrainConfig()),
        )  # fmt: skip
