"""The value model of every family: the shared path equals the plain one, the policy is unchanged, saving is exact."""

import pytest
import torch
from captioners import DEVICE, INSTRUCTIONS, build, images
from peft import LoraConfig, PeftModel, get_peft_model

from rlcap.errors import ConfigError
from rlcap.policy.adapters import using_adapter
from rlcap.policy.families.registry import make_captioner
from rlcap.policy.loading import find_lora_modules
from rlcap.policy.value_model import ValueModel

SIDES = (56, (56, 28))


def lora(model, trainable="lora-language"):
    return LoraConfig(r=4, target_modules=find_lora_modules(model, trainable), init_lora_weights=False)


def shaken(value_model):
    """A value model with random values, whose adapter differs from the policy's."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in value_model.named_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter.device) * 0.1)
    return value_model


@pytest.fixture
def policy(loaded):
    """(peft model, captioner, value model)"""
    model, processor = loaded
    torch.manual_seed(3)
    peft_model = get_peft_model(model, lora(model)).eval()
    captioner = make_captioner(peft_model, processor)
    yield peft_model, captioner, shaken(ValueModel.attach(peft_model, captioner))
    peft_model.unload()
    model.requires_grad_(True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen2_5_vl")
    build("qwen2_5_vl", folder)
    return folder


def load(folder, trainable="lora-language"):
    """(peft model, captioner), always the same."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    torch.manual_seed(1)
    peft_model = get_peft_model(model, lora(model, trainable))
    return peft_model, make_captioner(peft_model.to(DEVICE), AutoProcessor.from_pretrained(folder))


def some_captions(count, length=6):
    ids = torch.randint(20, 40, (count, length), generator=torch.Generator().manual_seed(5))
    mask = (torch.arange(length) < (torch.arange(count) % (length - 2) + 2)[:, None]).long()
    return ids.to(DEVICE), mask.to(DEVICE)


def gradients(model, value):
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    actual = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
    return {name: g for name, g in zip(trained, actual, strict=True) if g is not None and g.any()}


def weighted(values, mask):
    return (values * torch.linspace(-1, 1, mask.numel(), device=mask.device).view(mask.shape) * mask).sum()


def test_shared_and_plain_paths_agree_and_the_policy_gets_no_gradient(policy):
    model, captioner, value_model = policy
    prompts = captioner.prepare(images(2, SIDES), INSTRUCTIONS[:2])
    ids, mask = some_captions(6)
    policy_alone = captioner.log_probs(prompts, ids, mask).log_probs
    both = [value_model.values(captioner, prompts, ids, mask, shared=shared) for shared in (True, False)]
    assert both[0].dtype == torch.float32
    assert both[0].shape == ids.shape
    assert both[0][mask > 0].std() > 0
    assert not both[0][mask == 0].any()
    assert torch.allclose(*both, atol=1e-5, rtol=0)
    ours, theirs = (gradients(model, weighted(values, mask)) for values in both)
    assert ours.keys() == theirs.keys() <= value_model.named_parameters().keys()
    assert {"value_head.weight", "value_head.bias"} <= ours.keys()
    assert any(".lora_A.value_model." in name for name in ours)
    total = sum(g.square().sum() for g in theirs.values()).sqrt()
    assert sum((ours[name] - theirs[name]).square().sum() for name in theirs).sqrt() <= 1e-4 * total
    log_probs = captioner.log_probs(prompts, ids, mask).log_probs
    assert torch.equal(log_probs, policy_alone)
    assert not gradients(model, log_probs.sum()).keys() & value_model.named_parameters().keys()


def test_a_value_depends_on_the_tokens_before_it_only(folder):
    model, captioner = load(folder)
    value_model = shaken(ValueModel.attach(model, captioner))
    prompts, (ids, mask) = captioner.prepare(images(1), "describe"), some_captions(1)
    values = value_model.values(captioner, prompts, ids, torch.ones_like(mask))
    other = ids.clone()
    other[0, 3] = 19
    changed = value_model.values(captioner, prompts, other, torch.ones_like(mask)) != values
    assert changed.tolist() == [[False, False, False, False, True, True]]


def test_a_new_value_model_copies_the_policy_and_predicts_zero(folder):
    model, captioner = load(folder)
    prompts, (ids, mask) = captioner.prepare(images(2), "describe"), some_captions(4)
    value_model = ValueModel.attach(model, captioner)
    assert not value_model.values(captioner, prompts, ids, mask).any()
    with using_adapter(model, "value_model"):
        with_value_adapter = captioner.log_probs(prompts, ids, mask).log_probs
    assert torch.equal(with_value_adapter, captioner.log_probs(prompts, ids, mask).log_probs)
    own = sum(p.numel() for p in value_model.named_parameters().values())
    assert own == sum(p.numel() for name, p in model.named_parameters() if ".default." in name) + 32 + 1
    assert f"{own:,} parameters" in value_model.describe()


def test_switching_adapters_freezes_no_parameter(folder):
    model, captioner = load(folder)
    ValueModel.attach(model, captioner)
    model.add_adapter("ref", model.peft_config["default"])
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any(".value_model." in name for name in trained)
    prompts, (ids, mask) = captioner.prepare(images(1), "describe"), some_captions(2)

    def seen():
        return captioner.log_probs(prompts, ids, mask).log_probs

    active = seen()
    with using_adapter(model, None):
        strip_wrapping = seen()
        with using_adapter(model, "ref"):
            assert {name for name, p in model.named_parameters() if p.requires_grad} == trained
            assert not torch.equal(seen(), active)
        assert torch.equal(seen(), strip_wrapping)
    assert torch.equal(seen(), active)
    with model.disable_adapter():
        assert torch.equal(seen(), strip_wrapping)


@pytest.mark.parametrize("trainable", ["lora-language", "lora-all"])
def test_checkpointed_layers_are_recomputed_with_the_value_adapter(folder, trainable):
    model, captioner = load(folder, trainable)
    value_model = shaken(ValueModel.attach(model, captioner))
    prompts, (ids, mask) = captioner.prepare(images(2, SIDES), INSTRUCTIONS[:2]), some_captions(4)

    def compute_gradients():
        values = value_model.values(captioner, prompts, ids, mask)
        return gradients(model, weighted(values, mask) + captioner.log_probs(prompts, ids, mask).log_probs.sum())

    expected = compute_gradients()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    again = compute_gradients()
    assert again.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(again[name], gradient, rtol=1e-4, atol=1e-6), name


def test_a_saved_value_model_is_restored(folder, tmp_path):
    model, captioner = load(folder)
    value_model = shaken(ValueModel.attach(model, captioner))
    prompts, (ids, mask) = captioner.prepare(images(2), "describe"), some_captions(4)
    value_model.save(tmp_path)
    other_model, other_captioner = load(folder)
    other = ValueModel.attach(other_model, other_captioner)
    other.load(tmp_path)
    assert torch.equal(
        value_model.values(captioner, prompts, ids, mask), other.values(other_captioner, prompts, ids, mask)
    )
    assert torch.equal(
        captioner.log_probs(prompts, ids, mask).log_probs, other_captioner.log_probs(prompts, ids, mask).log_probs
    )


def test_the_policys_adapter_is_saved_without_the_value_model(folder, tmp_path):
    from transformers import AutoModelForImageTextToText

    model, captioner = load(folder)
    plain = captioner.log_probs
    value_model = shaken(ValueModel.attach(model, captioner))
    model.save_pretrained(tmp_path, selected_adapters=["default"])
    assert not (tmp_path / "value_model").exists()
    fresh = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(folder), tmp_path).eval()
    assert list(fresh.peft_config) == ["default"]
    prompts, (ids, mask) = captioner.prepare(images(1), "describe"), some_captions(2)
    assert value_model.values(captioner, prompts, ids, mask).any()
    assert torch.equal(
        plain(prompts, ids, mask).log_probs,
        make_captioner(fresh, captioner.processor).log_probs(prompts, ids, mask).log_probs,
    )


def test_invalid_models_and_checkpoints_are_rejected(folder, tmp_path):
    model, captioner = load(folder)
    with pytest.raises(ConfigError, match="trainable=full freezes nothing"):
        ValueModel.attach(model.get_base_model(), captioner)
    value_model = ValueModel.attach(model, captioner)
    with pytest.raises(ConfigError, match="already has an adapter called 'value_model'"):
        ValueModel.attach(model, captioner)
    with pytest.raises(ConfigError, match="not a PPO checkpoint"):
        value_model.load(tmp_path)
    everything, other_captioner = load(folder, "lora-all")
    ValueModel.attach(everything, other_captioner).save(tmp_path)
    with pytest.raises(ConfigError, match=r"belongs to another model: .* more parameters don't match"):
        value_model.load(tmp_path)
