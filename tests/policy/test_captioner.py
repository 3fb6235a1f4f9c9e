"""Properties that hold for every family, tested on one of them."""

import warnings

import pytest
import torch
from captioners import INSTRUCTIONS, build, images
from peft import LoraConfig, get_peft_model
from torch.nn.functional import pad
from torch.nn.parallel import DistributedDataParallel

from rlcap.errors import ConfigError
from rlcap.policy.families.registry import make_captioner
from rlcap.policy.frozen import is_frozen
from rlcap.policy.loading import find_lora_modules
from rlcap.policy.prompt import join_features, stack_pixels
from rlcap.policy.prompt import pad as pad_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen2_5_vl")
    build("qwen2_5_vl", folder)
    return folder


@pytest.fixture
def captioner(folder):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    torch.manual_seed(1)
    lora = LoraConfig(r=4, target_modules=find_lora_modules(model, "lora-language"), init_lora_weights=False)
    return make_captioner(get_peft_model(model, lora), AutoProcessor.from_pretrained(folder))


def test_the_mask_ends_with_the_end_token(captioner):
    torch.manual_seed(0)
    written = captioner.generate(captioner.prepare(images(2), INSTRUCTIONS[:2]), 16, max_new_tokens=30)
    assert written.ids.shape == written.mask.shape == written.log_probs.shape
    lengths = written.mask.sum(1)
    assert lengths.min() < written.ids.shape[1], "no caption ended early: the test sees nothing"
    for ids, mask, log_probs in zip(written.ids, written.mask, written.log_probs, strict=True):
        length = int(mask.sum())
        assert mask.tolist() == [1] * length + [0] * (len(mask) - length)
        assert not set(ids[: length - 1].tolist()) & set(captioner.end_ids)
        assert length == 30 or ids[length - 1] in captioner.end_ids
        assert (ids[length:] == captioner.pad_id).all()
        assert (log_probs[length:] == 0).all()
        assert (log_probs[:length] < 0).all()


def test_generation_stops_when_all_captions_have_ended(captioner):
    captioner.end_ids = list(range(100))
    assert captioner.generate(captioner.prepare(images(1), "describe"), 3, max_new_tokens=9).ids.shape == (3, 1)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_sampling_log_probs_equal_those_of_the_update(captioner, temperature):
    prompts = captioner.prepare(images(2), INSTRUCTIONS[:2])
    written = captioner.generate(prompts, 4, max_new_tokens=8, temperature=temperature, top_p=0.9)
    actual = captioner.log_probs(prompts, written.ids, written.mask, temperature=temperature)
    assert torch.allclose(actual.log_probs, written.log_probs, atol=1e-5)


def test_no_caption_contains_an_image_placeholder(captioner):
    image = captioner.base.config.image_token_id
    captioner.base.lm_head.weight.data[image] = 0
    captioner.base.lm_head.bias = torch.nn.Parameter(torch.zeros(captioner.base.lm_head.out_features))
    captioner.base.lm_head.bias.data[image] = 50
    written = captioner.generate(captioner.prepare(images(1), "describe"), 4, max_new_tokens=6)
    assert not (written.ids == image).any()


def test_generation_does_not_change_training_flags_and_gradients(captioner):
    captioner.model.train()
    captioner.base.model.visual.eval()
    flags = [module.training for module in captioner.model.modules()]
    written = captioner.generate(captioner.prepare(images(1), "describe"), 2, max_new_tokens=3)
    assert [module.training for module in captioner.model.modules()] == flags
    assert not written.log_probs.requires_grad


def test_reference_is_the_base_or_another_adapter(captioner):
    prompts = captioner.prepare(images(2), INSTRUCTIONS[:2])
    written = captioner.generate(prompts, 2, max_new_tokens=6)
    model = captioner.model

    def both():
        with torch.no_grad():
            actual = [
                captioner.log_probs(prompts, written.ids, written.mask, shared=s).log_probs for s in (True, False)
            ]
        assert torch.allclose(*actual, atol=1e-5)
        return actual[0]

    policy = both()
    with model.disable_adapter():
        base = both()
    model.add_adapter("ref", LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    model.set_adapter("ref")
    other = both()
    model.set_adapter("default")
    assert torch.equal(both(), policy)
    assert (policy - base).abs().max() > 1e-3 < (policy - other).abs().max()


def test_prompts_can_be_used_for_several_updates(captioner):
    prompts = captioner.prepare(images(2), INSTRUCTIONS[:2])
    written = captioner.generate(prompts, 2, max_new_tokens=6)
    optimiser = torch.optim.SGD([p for p in captioner.model.parameters() if p.requires_grad], lr=0.1)
    before = None
    for _ in range(3):
        actual = captioner.log_probs(prompts, written.ids, written.mask).log_probs
        plain = captioner.log_probs(prompts, written.ids, written.mask, shared=False).log_probs
        assert torch.allclose(actual, plain, atol=1e-5)
        assert before is None or not torch.allclose(actual, before)
        before = actual.detach()
        optimiser.zero_grad()
        actual.sum().backward()
        optimiser.step()


def test_a_micro_batch_is_any_slice_of_prompts(captioner):
    prompts = captioner.prepare(images(3, (56, (56, 28))), INSTRUCTIONS)
    written = captioner.generate(prompts, 2, max_new_tokens=6)
    all_log_probs = captioner.log_probs(prompts, written.ids, written.mask).log_probs
    swapped = captioner.log_probs([prompts[2], prompts[0]], written.ids[[4, 5, 0, 1]], written.mask[[4, 5, 0, 1]])
    assert torch.allclose(swapped.log_probs, all_log_probs[[4, 5, 0, 1]], atol=1e-5)


def test_captions_of_one_token_have_log_probs(captioner):
    prompts = captioner.prepare(images(2), "describe")
    ids, mask = torch.full((4, 1), 30), torch.ones(4, 1, dtype=torch.long)
    both = [captioner.log_probs(prompts, ids, mask, shared=shared).log_probs for shared in (True, False)]
    assert torch.allclose(*both, atol=1e-5)


def test_padding_of_captions_changes_nothing(captioner):
    prompts = captioner.prepare(images(2), "describe")
    ids = torch.randint(20, 40, (4, 5))
    mask = torch.ones_like(ids)
    short = captioner.log_probs(prompts, ids, mask).log_probs
    long = captioner.log_probs(prompts, pad(ids, (0, 3), value=7), pad(mask, (0, 3))).log_probs
    assert torch.allclose(long[:, :5], short, atol=1e-5)
    assert (long[:, 5:] == 0).all()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_implementations_agree(captioner, implementation):
    captioner.base.set_attn_implementation(implementation)
    prompts = captioner.prepare(images(2, (56, (56, 28))), INSTRUCTIONS[:2])
    ids = torch.randint(20, 40, (4, 5))
    both = [captioner.log_probs(prompts, ids, torch.ones_like(ids), shared=s).log_probs for s in (True, False)]
    assert torch.allclose(*both, atol=1e-5)


def test_reentrant_checkpointing_uses_the_plain_path_with_a_warning(captioner):
    prompts = captioner.prepare(images(1), "describe")
    ids = torch.randint(20, 40, (2, 5))
    expected = captioner.log_probs(prompts, ids, torch.ones_like(ids)).log_probs
    captioner.model.gradient_checkpointing_enable({"use_reentrant": True})
    captioner.model.train()
    with pytest.warns(UserWarning, match="use_reentrant"):
        actual = captioner.log_probs(prompts, ids, torch.ones_like(ids)).log_probs
    assert torch.allclose(actual, expected, atol=1e-5)
    captioner.model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        captioner.log_probs(prompts, ids, torch.ones_like(ids))


@pytest.mark.parametrize("unused", [False, True])
def test_a_model_in_ddp_gives_the_same_results(captioner, tmp_path, unused):
    prompts = captioner.prepare(images(2), INSTRUCTIONS[:2])
    ids = torch.randint(20, 40, (4, 5))
    mask = torch.ones_like(ids)
    trained = [p for p in captioner.model.parameters() if p.requires_grad]
    expected = torch.autograd.grad(captioner.log_probs(prompts, ids, mask).log_probs.sum(), trained)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        wrapped = make_captioner(
            DistributedDataParallel(captioner.model, find_unused_parameters=unused), captioner.processor
        )
        assert wrapped.base is captioner.base
        for _ in range(2):
            captioner.model.zero_grad()
            wrapped.log_probs(prompts, ids, mask).log_probs.sum().backward()
            for weight, gradient in zip(trained, expected, strict=True):
                assert torch.allclose(weight.grad, gradient, atol=1e-5)
        assert wrapped.generate(prompts, 2, max_new_tokens=3).ids.shape[0] == 4
    finally:
        torch.distributed.destroy_process_group()


def test_captions_that_do_not_divide_among_prompts_are_rejected(captioner):
    prompts = captioner.prepare(images(2), "describe")
    with pytest.raises(ValueError, match="3 captions don't divide evenly among 2 prompts"):
        captioner.log_probs(prompts, torch.zeros(3, 4, dtype=torch.long), torch.ones(3, 4))


def test_the_error_about_an_unknown_family_lists_the_known_ones(captioner):
    captioner.base.config.model_type = "kosmos-9"
    with pytest.raises(ConfigError, match=r"'kosmos-9'.*tested: .*fast_vlm.*qwen3_vl"):
        make_captioner(captioner.model, captioner.processor)


def test_an_adapter_that_is_switched_off_is_not_frozen(captioner):
    language = captioner.decoder
    assert is_frozen(captioner.base, language)
    captioner.model.requires_grad_(False)
    assert is_frozen(captioner.base, language)
    assert not is_frozen(captioner.base, captioner.base.model.visual), "LoRA stands on the language side"


def test_rows_are_padded_on_the_chosen_side():
    rows = [torch.tensor([1, 2]), torch.tensor([3])]
    assert pad_rows(rows, 9).tolist() == [[1, 2], [9, 3]]
    assert pad_rows(rows, 9, "right").tolist() == [[1, 2], [3, 9]]
    stacked = stack_pixels([torch.ones(1, 2, 3), torch.ones(2, 1, 4)])
    assert stacked.shape == (3, 2, 4)
    assert stacked[0, :, 3].tolist() == [0, 0]
    assert stacked[1].tolist() == [[1, 1, 1, 1], [0, 0, 0, 0]]


def test_features_join_by_image_and_by_layer():
    x, y = torch.zeros(1, 2), torch.ones(2, 2)
    assert join_features([x, y]).shape == (3, 2)
    assert len(join_features([[x, y], [x]])) == 3
    assert [len(layer) for layer in join_features([[[x, y], [x, y]], [[x], [x]]])] == [3, 3]
    assert len(join_features([{"a": [x]}, {"a": [y]}])["a"]) == 2
    with pytest.raises(
        ValueError, match=r"shapes \(1, 4, 2\), \(1, 6, 2\) can't be joined .* Override `join_vision_states`"
    ):
        join_features([{"a": torch.zeros(1, 4, 2)}, {"a": torch.zeros(1, 6, 2)}])
