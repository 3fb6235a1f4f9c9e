"""A run starts with a reference that is the policy, with complete and finite weights, and learns the tokens it should."""

import captioners
import pytest
import torch
from captioners import images
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from rlcap.config.schema import GenerationConfig, GRPOConfig, ModelConfig, TrainConfig
from rlcap.data.batching import plan
from rlcap.data.curriculum import parse
from rlcap.errors import ConfigError, ReferenceModelError
from rlcap.policy.loading import load_policy
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.mix import RewardMix, RewardTerm
from rlcap.train.grpo import GRPOTrainer
from rlcap.train.run_folder import RunFolder
from rlcap.types import Sample, Score


class Length(Reward):
    name, range = "length", (0.0, 100.0)

    def score(self, batch):
        return RewardOutput([Score(float(len(caption) % 11)) for caption in batch.captions])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "model"
    captioners.build("qwen2_5_vl", folder)
    return folder


def save_adapter(base, folder, config):
    """Save an adapter with random weights."""
    torch.manual_seed(7)  # another seed than that of the trainer, which initialises the reference
    get_peft_model(AutoModelForImageTextToText.from_pretrained(base), config).save_pretrained(folder)
    return folder


def trainer(policy, folder, generation=None, **train):
    samples = []
    for i, image in enumerate(images(2)):
        image.save(folder / f"{i}.png")
        samples.append(Sample(str(i), str(folder / f"{i}.png")))
    options = {
        "steps": 1,
        "images_per_step": 2,
        "captions_per_image": 4,
        "micro_batch": 4,
        "beta": 0.1,
        "save_every": 9,
    }
    config = GRPOConfig(
        train=TrainConfig(**{**options, **train}), generation=GenerationConfig(max_new_tokens=6, **(generation or {}))
    )
    run = RunFolder(folder / "run")
    run.root.mkdir(exist_ok=True)
    return GRPOTrainer(
        policy.model, policy.processor, samples, config=config, batching=plan(2, 4, 4), folder=run, curriculum=parse(2),
        mix=RewardMix({"length": RewardTerm(Length())}), gallery={s.id: s.image for s in samples}, instruction="describe",
    )  # fmt: skip


EMBEDDING = {"r": 4, "target_modules": ["q_proj", "embed_tokens"], "init_lora_weights": False}
KINDS = {
    "embedding": LoraConfig(**EMBEDDING),
    "bias and DoRA": LoraConfig(r=4, target_modules=["q_proj"], use_dora=True, init_lora_weights=False),
    "saved module": LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], init_lora_weights=False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_of_every_kind_of_lora_is_the_starting_adapter(base, tmp_path, kind):
    adapter = save_adapter(base, tmp_path / "adapter", KINDS[kind])
    made = trainer(load_policy(ModelConfig(base=str(base), adapter=str(adapter))), tmp_path)
    made.train()
    (kl,) = [value for row in made.state.log_history for name, value in row.items() if name == "kl"]
    assert kl == pytest.approx(0.0, abs=1e-7)


def test_a_reference_that_is_not_the_policy_stops_the_run(base, tmp_path, monkeypatch):
    monkeypatch.setattr("rlcap.train.grpo.copy_to_reference", lambda model: None)
    adapter = save_adapter(base, tmp_path / "adapter", LoraConfig(**EMBEDDING))
    made = trainer(load_policy(ModelConfig(base=str(base), adapter=str(adapter))), tmp_path)
    with pytest.raises(ReferenceModelError, match=r"differ from those of the reference model by .* a token on average"):
        made.train()


def test_a_layer_that_behaves_differently_in_training_stops_the_run(base, tmp_path):
    made = trainer(load_policy(ModelConfig(base=str(base), adapter=None)), tmp_path)
    layer = torch.nn.Dropout(0.5)
    head = made.model.get_base_model().get_output_embeddings()
    head.register_forward_pre_hook(lambda module, inputs: (layer(inputs[0]),))
    made.model.add_module("late", layer)
    made.model.get_base_model().add_module("late", layer)
    with pytest.raises(ReferenceModelError, match="differ from those of the pass in evaluation mode"):
        made.train()


def test_adapters_that_change_no_weights_are_refused_by_name(base, tmp_path):
    adapter = tmp_path / "adapter"
    config = PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=2, token_dim=16, num_layers=1, num_attention_heads=1
    )
    get_peft_model(AutoModelForImageTextToText.from_pretrained(base), config).save_pretrained(adapter)
    with pytest.raises(ConfigError, match="PROMPT_TUNING adapter, which puts virtual tokens before the image"):
        load_policy(ModelConfig(base=str(base), adapter=str(adapter)))


def drop_tensors(file, keep):
    weights = load_file(file)
    names = sorted(weights)
    save_file({name: weights[name] for name in names[: int(len(names) * keep)]}, file, metadata={"format": "pt"})


def test_incomplete_weights_are_refused_unless_asked_for(base, tmp_path):
    import shutil

    cut = tmp_path / "cut"
    shutil.copytree(base, cut)
    drop_tensors(cut / "model.safetensors", 2 / 3)
    with pytest.raises(ConfigError, match=r"model\.base .* lacks \d+ tensors, such as .*random numbers"):
        load_policy(ModelConfig(base=str(cut), adapter=None))
    assert load_policy(ModelConfig(base=str(cut), adapter=None, allow_missing_weights=True)).model is not None
    adapter = save_adapter(base, tmp_path / "adapter", LoraConfig(**EMBEDDING))
    drop_tensors(adapter / "adapter_model.safetensors", 1 / 2)
    with pytest.raises(ConfigError, match=r"model\.adapter .* lacks \d+ tensors, such as .*lora_"):
        load_policy(ModelConfig(base=str(base), adapter=str(adapter)))


def test_an_adapter_of_a_deeper_base_is_refused(base, tmp_path):
    adapter = save_adapter(base, tmp_path / "adapter", LoraConfig(r=4, target_modules=["q_proj"]))
    weights = load_file(adapter / "adapter_model.safetensors")
    name, tensor = next((name, tensor) for name, tensor in weights.items() if ".layers.0." in name)
    save_file(
        weights | {name.replace(".layers.0.", ".layers.9."): tensor.clone()},
        adapter / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ConfigError, match=r"has 1 tensors that model\.base .* has no place for, such as .*layers\.9\."):
        load_policy(ModelConfig(base=str(base), adapter=str(adapter)))


def test_weights_that_are_not_finite_are_refused(base, tmp_path):
    adapter = save_adapter(base, tmp_path / "adapter", LoraConfig(r=4, target_modules=["q_proj"]))
    weights = load_file(adapter / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"model\.adapter .* not finite in 1 tensors, such as .*lora_A"):
        load_policy(ModelConfig(base=str(base), adapter=str(adapter)))


def test_the_loss_can_have_another_temperature_than_sampling(base, tmp_path):
    made = trainer(
        load_policy(ModelConfig(base=str(base), adapter=None)), tmp_path, {"temperature": 1.5}, policy_temperature=1.0
    )
    seen = []
    original = made.compute_training_signal
    made.compute_training_signal = lambda rollout: seen.append(rollout) or original(rollout)
    made.train()
    (rollout,) = seen
    captioner = made.captioner(made.model)
    with torch.no_grad():
        at_one, at_sampling = (
            captioner.log_probs(rollout.prompts, rollout.ids, rollout.mask, temperature=t).log_probs for t in (1.0, 1.5)
        )
    # the update has changed the weights by one small step since
    assert torch.allclose(rollout.sampled_log_probs, at_one, atol=0.05)
    assert not torch.allclose(rollout.sampled_log_probs, at_sampling, atol=0.05)
    assert rollout.old_log_probs is not None


def test_the_end_token_can_be_left_out_of_the_loss(base, tmp_path):
    policy = load_policy(ModelConfig(base=str(base), adapter=None))
    inner = policy.model.get_base_model()
    inner.generation_config.eos_token_id = list(range(0, inner.get_output_embeddings().out_features, 2))
    made = trainer(policy, tmp_path, learn_end=False)
    seen = []
    original = made.compute_training_signal
    made.compute_training_signal = lambda rollout: seen.append(rollout) or original(rollout)
    ends = made.captioner(made.model).end_ids
    made.train()
    (rollout,) = seen
    is_end = torch.isin(rollout.ids, torch.tensor(ends))
    assert is_end.any()
    assert not rollout.mask[is_end].any()


def test_greedy_training_captions_of_an_image_are_the_same(base, tmp_path):
    made = trainer(load_policy(ModelConfig(base=str(base), adapter=None)), tmp_path, {"temperature": 0.0})
    seen = []
    original = made.compute_training_signal
    made.compute_training_signal = lambda rollout: seen.append(rollout) or original(rollout)
    made.train()
    ids = seen[0].ids
    assert (ids[:4] == ids[0]).all()
    assert made.temperature == 1.0
