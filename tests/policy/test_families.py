"""Every family agrees with the original model: its forward pass, its `generate`, and the path without a shared prefix."""

from contextlib import contextmanager

import pytest
import torch
from captioners import DEVICE, INSTRUCTIONS, images
from peft import LoraConfig, get_peft_model
from transformers.pytorch_utils import Conv1D

from rlcap.data.control import Instruction
from rlcap.errors import ConfigError
from rlcap.policy.adapters import using_adapter
from rlcap.policy.families.chat import TOKENS
from rlcap.policy.families.encoder_decoder import EncoderDecoderCaptioner
from rlcap.policy.families.registry import make_captioner
from rlcap.policy.language_head import find_separable_head
from rlcap.policy.loading import find_lora_modules
from rlcap.policy.shared_prefix.checkpointing import select_checkpointed
from rlcap.types import Control

SIDES = (56, (56, 28))


def only_chat(captioner):
    if not captioner.reads_several_images:
        pytest.skip("prompts of one image, and no token types")


@pytest.fixture
def adapted(loaded):
    """(model, processor, captioner): a LoRA on the language side, whose second half is not zero."""
    model, processor = loaded
    torch.manual_seed(3)
    lora = LoraConfig(r=4, target_modules=find_lora_modules(model, "lora-language"), init_lora_weights=False)
    peft_model = get_peft_model(model, lora).eval()
    yield peft_model, processor, make_captioner(peft_model, processor)
    peft_model.unload()
    model.requires_grad_(True)


def some_captions(model, count, length=7):
    """(ids, mask) of random words, ragged, none of them a placeholder."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(20, 40, (count, length), generator=generator)
    ends = torch.arange(count) % (length - 2) + 2
    return ids.to(DEVICE), (torch.arange(length) < ends[:, None]).long().to(DEVICE)


def gradients(model, value):
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    actual = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
    return {name: g for name, g in zip(trained, actual, strict=True) if g is not None}


def assert_same_gradients(ours, theirs):
    assert ours.keys() == theirs.keys()
    total = sum(g.square().sum() for g in theirs.values()).sqrt()
    apart = sum((ours[name] - theirs[name]).square().sum() for name in theirs).sqrt()
    assert apart <= 1e-4 * total
    assert total > 0


def weights(mask):
    """An advantage for each token, so that no two count the same."""
    return torch.linspace(-1, 1, mask.numel(), device=mask.device).view(mask.shape) * mask


def test_shared_and_plain_paths_agree(adapted):
    model, _, captioner = adapted
    prompts = captioner.prepare(images(3, SIDES), INSTRUCTIONS)
    if captioner.kind != "vision-encoder-decoder":
        assert len({len(p.tokens["input_ids"]) for p in prompts}) > 1, "prompts of one length test no padding"
    ids, mask = some_captions(model, 9)
    both = [captioner.log_probs(prompts, ids, mask, entropies=True, shared=shared) for shared in (True, False)]
    assert torch.allclose(both[0].log_probs, both[1].log_probs, atol=1e-5, rtol=0)
    assert torch.allclose(both[0].entropies, both[1].entropies, atol=1e-5, rtol=0)
    actual = [gradients(model, (b.log_probs * weights(mask)).sum() + 0.1 * b.entropies.sum()) for b in both]
    assert actual[0].keys()
    assert all("lora" in name for name in actual[0])
    assert_same_gradients(*actual)


def test_shared_and_plain_paths_agree_if_all_parameters_are_trained(loaded):
    model, processor = loaded
    captioner = make_captioner(model, processor)
    prompts = captioner.prepare(images(2, SIDES), "describe")
    assert all(p.features is None and p.vision_states is None for p in prompts)
    ids, mask = some_captions(model, 4)
    both = [captioner.log_probs(prompts, ids, mask, shared=shared).log_probs for shared in (True, False)]
    assert torch.allclose(*both, atol=1e-5, rtol=0)
    actual = [gradients(model, (b * weights(mask)).sum()) for b in both]
    seen = {id(p) for p in vision_encoder(captioner).parameters()}
    assert any(id(p) in seen for name, p in model.named_parameters() if name in actual[0])
    assert_same_gradients(*actual)


def test_log_probs_equal_those_of_the_original_forward_pass(adapted):
    model, _, captioner = adapted
    only_chat(captioner)
    picture = images(1)[0]
    ids, mask = some_captions(model, 2)
    ours = captioner.log_probs(captioner.prepare([picture], "describe"), ids, mask).log_probs
    inputs = stock_inputs(captioner, [picture], "describe")
    for row in range(2):
        length = int(mask[row].sum())
        caption = ids[row : row + 1, :length]
        full = dict(inputs, input_ids=torch.cat([inputs["input_ids"], caption], 1))
        for name in TOKENS[1:]:
            if name in full:
                kind = 1 if name == "attention_mask" or captioner.kind == "paligemma" else 0
                full[name] = torch.cat([full[name], torch.full_like(caption, kind)], 1)
        logits = captioner.base(**full).logits[:, -length - 1 : -1]
        theirs = logits.log_softmax(-1).gather(-1, caption[..., None])[0, :, 0]
        assert torch.allclose(ours[row, :length], theirs, atol=1e-5, rtol=0)
        assert (ours[row, length:] == 0).all()


def vision_encoder(captioner):
    """The vision encoder."""
    if captioner.kind == "git":
        return captioner.base.git.image_encoder.vision_model.encoder
    if captioner.kind == "vision-encoder-decoder":
        return captioner.base.encoder
    return captioner.base.get_encoder(modality="image")


def stock_inputs(captioner, pictures, instruction):
    """What the model's documentation says to give it, from the processor alone."""
    processor, kind = captioner.processor, captioner.kind
    if kind == "vision-encoder-decoder":
        inputs = processor.image_processor(images=pictures, return_tensors="pt")
    elif kind == "git":
        inputs = processor(images=pictures, text=instruction, return_tensors="pt")
        inputs = {n: v if n == "pixel_values" else v[:, :-1] for n, v in inputs.items()}
    elif getattr(processor, "chat_template", None):
        content = [{"type": "image", "image": picture} for picture in pictures] + [
            {"type": "text", "text": instruction}
        ]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
        )  # fmt: skip
    elif kind == "paligemma":
        inputs = processor(images=[pictures], text="<image>" * len(pictures) + instruction, return_tensors="pt")
    else:
        inputs = processor(images=pictures, text=instruction, return_tensors="pt")
    return {name: value.to(DEVICE) for name, value in inputs.items() if torch.is_tensor(value) and name != "labels"}


def own_greedy(captioner, pictures, instruction, length):
    """(ids, log-probs) of the model's own greedy caption."""
    inputs = stock_inputs(captioner, pictures, instruction)
    out = captioner.base.generate(
        **inputs, max_new_tokens=length, do_sample=False, suppress_tokens=captioner.forbidden_token_ids() or None,
        return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    ids = out.sequences[0, -len(out.logits) :]
    return ids.tolist(), torch.stack(out.logits, 1)[0].log_softmax(-1).gather(-1, ids[:, None])[:, 0]


def test_greedy_captions_equal_those_of_generate(adapted):
    _, _, captioner = adapted
    pictures = images(3, SIDES)
    prompts = captioner.prepare(pictures, INSTRUCTIONS)
    written = captioner.generate(prompts, 2, max_new_tokens=8, temperature=0)
    assert torch.equal(written.ids[0::2], written.ids[1::2])
    actual = captioner.log_probs(prompts, written.ids, written.mask).log_probs
    for row, (picture, instruction) in enumerate(zip(pictures, INSTRUCTIONS, strict=True)):
        ids, log_probs = own_greedy(captioner, [picture], instruction, 8)
        kept = written.mask[2 * row].bool()
        assert written.ids[2 * row][kept].tolist() == ids
        assert torch.allclose(actual[2 * row][kept], log_probs, atol=1e-5, rtol=0)


def test_a_ragged_batch_gives_the_same_results_as_single_prompts(adapted):
    model, _, captioner = adapted
    prompts = captioner.prepare(images(3, SIDES), INSTRUCTIONS)
    ids, mask = some_captions(model, 6)
    together = captioner.log_probs(prompts, ids, mask).log_probs
    for i, prompt in enumerate(prompts):
        rows = slice(2 * i, 2 * i + 2)
        alone = captioner.log_probs([prompt], ids[rows], mask[rows]).log_probs
        assert torch.allclose(together[rows], alone, atol=1e-5, rtol=0)


def test_a_prompt_can_have_several_images(adapted):
    model, _, captioner = adapted
    only_chat(captioner)
    pictures = images(4, SIDES)
    prompts = captioner.prepare([pictures[:2], pictures[2:3], pictures[1:4]], INSTRUCTIONS)
    ids, mask = some_captions(model, 6)
    both = [captioner.log_probs(prompts, ids, mask, shared=shared).log_probs for shared in (True, False)]
    assert torch.allclose(*both, atol=1e-5, rtol=0)
    written = captioner.generate(prompts[:1], 1, max_new_tokens=6, temperature=0)
    assert written.ids[0][written.mask[0].bool()].tolist() == own_greedy(captioner, pictures[:2], INSTRUCTIONS[0], 6)[0]


def test_the_image_changes_the_result(adapted):
    model, _, captioner = adapted
    ids, mask = some_captions(model, 1)
    one, other = (
        captioner.log_probs(captioner.prepare([picture], "describe"), ids, mask).log_probs
        for picture in images(2, seed=9)
    )
    assert (one - other).abs().max() > 1e-3


def matrices(captioner):
    """The layers with weights inside the vision encoder, but for the projector where it is one's part."""
    inside = vision_encoder(captioner).named_modules()
    return [
        m for n, m in inside if isinstance(m, torch.nn.Linear | torch.nn.modules.conv._ConvNd) and "merger" not in n
    ]


@contextmanager
def counted(modules):
    """Yields a list, which gets the number of each module whenever it runs."""
    calls = []
    handles = [m.register_forward_hook(lambda *_, i=i: calls.append(i)) for i, m in enumerate(modules)]
    yield calls
    for handle in handles:
        handle.remove()


def a_round(captioner, prompts):
    """Generation, old and reference log-probabilities, two passes of the update."""
    ids, mask = some_captions(captioner.model, 2 * len(prompts))
    captioner.generate(prompts, 2, max_new_tokens=3)
    with torch.no_grad():
        captioner.log_probs(prompts, ids, mask)
        with using_adapter(captioner.base, None):
            captioner.log_probs(prompts, ids, mask)
    for _ in range(2):
        actual = captioner.log_probs(prompts, ids, mask).log_probs
        gradients(captioner.model, (actual * weights(mask)).sum())


def assert_runs_once_an_image(captioner):
    once = matrices(captioner)
    with counted(once) as calls:
        prompts = captioner.prepare(images(1), "describe")
        # idefics and its like cut an image up, but still look at all its pieces at once
        assert sorted(calls) == sorted([*range(len(once))]), "a module that runs twice per image looks like two passes"
        prompts += captioner.prepare(images(1, seed=1), "describe")
        a_round(captioner, prompts)
    assert sorted(calls) == sorted(2 * [*range(len(once))])


def test_a_frozen_vision_side_runs_once_per_image(adapted):
    assert_runs_once_an_image(adapted[-1])


@pytest.fixture
def projecting(loaded):
    """The captioner with a trained projector, language model and vision encoder frozen."""
    model, processor = loaded
    kind = model.config.model_type
    if kind == "blip":
        pytest.skip("no module between vision encoder and decoder")
    if kind == "gemma3":  # a bare matrix, which no LoRA can adapt
        model.requires_grad_(False)
        model.model.multi_modal_projector.requires_grad_(True)
        yield make_captioner(model, processor)
    else:
        torch.manual_seed(3)
        lora = LoraConfig(r=4, target_modules=find_lora_modules(model, "projector"), init_lora_weights=False)
        peft_model = get_peft_model(model, lora).eval()
        yield make_captioner(peft_model, processor)
        peft_model.unload()
    model.requires_grad_(True)


def test_a_frozen_vision_encoder_before_a_trained_projector_runs_once_per_image(projecting):
    assert_runs_once_an_image(projecting)


def test_recorded_vision_states_equal_those_of_a_new_run(projecting, monkeypatch):
    pictures = images(3, SIDES)
    prompts = projecting.prepare(pictures, INSTRUCTIONS)
    if projecting.kind == "vision-encoder-decoder":
        assert prompts[0].features is not None, "its projection comes after the states that are kept"
        monkeypatch.setattr(projecting, "language_modules", list)
    with monkeypatch.context() as patch:
        patch.setattr(projecting, "vision_encoder", None)
        running = projecting.prepare(pictures, INSTRUCTIONS)
    assert all(p.features is None and p.vision_states is None for p in running)
    ids, mask = some_captions(projecting.model, 6)
    rows = [slice(2 * i, 2 * i + 2) for i in range(3)]  # one by one, as it was with those that are kept
    singles = [projecting.log_probs([p], ids[r], mask[r]).log_probs for p, r in zip(running, rows, strict=True)]
    expected = torch.cat(singles)
    expected_gradients = gradients(projecting.model, (expected * weights(mask)).sum())
    for shared in (True, False):
        actual = projecting.log_probs(prompts, ids, mask, shared=shared).log_probs
        assert torch.allclose(actual, expected, atol=1e-5, rtol=0)
        assert_same_gradients(gradients(projecting.model, (actual * weights(mask)).sum()), expected_gradients)
    first = [projecting.generate(p[:1], 1, max_new_tokens=6, temperature=0).ids for p in (prompts, running)]
    assert torch.equal(*first)


def test_checkpointed_layers_share_the_prefix(adapted):
    model, _, captioner = adapted
    prompts = captioner.prepare(images(2, SIDES), INSTRUCTIONS[:2])
    ids, mask = some_captions(model, 4)
    expected_log_probs = captioner.log_probs(prompts, ids, mask).log_probs
    expected = gradients(model, (expected_log_probs * weights(mask)).sum())
    model.gradient_checkpointing_enable({"use_reentrant": False})
    captioner.base.disable_input_require_grads()  # as the trainer does
    model.train()
    try:
        if isinstance(captioner, EncoderDecoderCaptioner):
            with pytest.warns(UserWarning, match="runs its whole prompt again: gradient checkpointing"):
                actual = captioner.log_probs(prompts, ids, mask).log_probs
            assert torch.allclose(actual, expected_log_probs, atol=1e-5, rtol=0)
            return
        runs = []
        layer = select_checkpointed(captioner.layers)[0]
        key = next(part for name, part in layer.named_modules() if name.endswith(("k_proj", "key")))
        handle = key.register_forward_pre_hook(lambda *_: runs.append(1))
        assert captioner.prefix_sharing_blocker() is None
        actual = captioner.log_probs(prompts, ids, mask).log_probs
        assert torch.allclose(actual, expected_log_probs, atol=1e-5, rtol=0)
        assert len(runs) == 2, "once for the prefix, once for the captions"
        assert_same_gradients(gradients(model, (actual * weights(mask)).sum()), expected)
        assert len(runs) == 4, "and again in the backward pass"
        handle.remove()
    finally:
        model.gradient_checkpointing_disable()
        model.eval()


def test_shared_and_plain_paths_agree_in_bfloat16(loaded):
    model, processor = loaded
    model.bfloat16()
    try:
        captioner = make_captioner(model, processor)
        prompts = captioner.prepare(images(2, SIDES), INSTRUCTIONS[:2])
        written = captioner.generate(prompts, 2, max_new_tokens=5)
        with torch.no_grad():
            both = [captioner.log_probs(prompts, written.ids, written.mask, shared=s).log_probs for s in (True, False)]
        assert both[0].dtype == torch.float32
        assert torch.allclose(*both, atol=0.15, rtol=0)
    finally:
        model.float()


LANGUAGE = {
    "blip": ("text_decoder.",), "blip-2": ("language_model.",), "instructblip": ("language_model.",),
    "git": ("git.encoder.",), "idefics3": ("model.text_model.",), "smolvlm": ("model.text_model.",),
    "vision-encoder-decoder": ("decoder.",),
}  # fmt: skip
"""Where the language side is, in families that don't call it `model.language_model`."""


def test_lora_modules_of_each_choice(loaded):
    model = loaded[0]
    kind = model.config.model_type
    side = LANGUAGE.get(kind, ("model.language_model.",))
    language, everything = (set(find_lora_modules(model, choice)) for choice in ("lora-language", "lora-all"))
    linear = {name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear | Conv1D)}
    head = {name for name in linear if name.endswith(("lm_head", "predictions.decoder")) or name == "output"}
    assert len(head) == 1
    assert everything == linear - head
    assert language == {name for name in everything if name.startswith(side)}
    if kind in ("gemma3", "blip"):  # the one's projector is a bare matrix, the other has none
        with pytest.raises(ConfigError, match="matches no linear module"):
            find_lora_modules(model, "projector")
    else:
        projector = set(find_lora_modules(model, "projector"))
        assert projector <= everything - language
        assert {name for name in linear if "merger" in name} <= projector  # Qwen3-VL has several


def test_log_probs_do_not_hold_all_logits_in_memory(adapted, monkeypatch):
    _, _, captioner = adapted
    prompts = captioner.prepare(images(2, SIDES), INSTRUCTIONS[:2])
    ids, mask = some_captions(captioner.model, 4)
    expected_log_probs = captioner.log_probs(prompts, ids, mask).log_probs
    expected = gradients(captioner.model, (expected_log_probs * weights(mask)).sum())
    monkeypatch.setattr("rlcap.policy.language_head.MAX_LOGITS", 200)
    actual = captioner.log_probs(prompts, ids, mask).log_probs
    assert find_separable_head(captioner.text_model()) is not None
    assert torch.allclose(actual, expected_log_probs, atol=1e-5, rtol=0)
    assert_same_gradients(gradients(captioner.model, (actual * weights(mask)).sum()), expected)


def test_a_control_stands_where_the_family_reads_it(loaded):
    """Chat models and InstructBLIP read a request; the others continue a beginning, or read no instruction."""
    model, processor = loaded
    captioner = make_captioner(model, processor)
    has_template = bool(getattr(processor, "chat_template", None))
    wanted = {"vision-encoder-decoder": "none", "instructblip": "request"}
    form = captioner.instruction_form
    assert form == wanted.get(captioner.kind, "request" if has_template else "prefix")
    words = Instruction("describe", {"length": {4: "in the image"}})
    if form == "none":
        with pytest.raises(ConfigError, match="reads no instruction"):
            captioner.instruct(words, [Control(), Control(length=4)])
        return
    expected = "describe in the image" if form == "request" else "in the image describe"
    instructions = captioner.instruct(words, [Control(), Control(length=4)])
    assert instructions == ["describe", expected]
    alone = [captioner.prepare(images(1), text)[0] for text in instructions]
    ids, mask = some_captions(model, 2)
    both = captioner.prepare([*images(1), *images(1)], instructions)
    together = captioner.log_probs(both, ids, mask).log_probs
    single = torch.cat(
        [captioner.log_probs([one], ids[i : i + 1], mask[i : i + 1]).log_probs for i, one in enumerate(alone)]
    )
    torch.testing.assert_close(together, single, atol=1e-4, rtol=1e-4)
    # the words reach the model
    assert not torch.equal(alone[0].tokens["input_ids"], alone[1].tokens["input_ids"])
