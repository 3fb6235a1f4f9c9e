"""At the start of a run, policy and reference are one model: for every family, choice of `trainable` and kind of adapter.

A run starts, samples its first captions, and compares the log-probabilities of an update with those of the reference. It
stops before the first update. By default a few pairs are tried; `pytest -m slow` tries all.
"""

from itertools import product

import captioners
import peft
import pytest
import torch
from captioners import images
from transformers import AutoModelForImageTextToText

from rlcap.config.schema import GenerationConfig, GRPOConfig, ModelConfig, TrainConfig
from rlcap.data.batching import plan
from rlcap.data.curriculum import parse
from rlcap.errors import ConfigError, ReferenceModelError
from rlcap.policy.adapters import using_adapter
from rlcap.policy.families.registry import FAMILIES
from rlcap.policy.loading import find_lora_modules, load_policy
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.mix import RewardMix, RewardTerm
from rlcap.train.grpo import GRPOTrainer
from rlcap.train.reference import check_can_be_copied
from rlcap.train.run_folder import RunFolder
from rlcap.types import Sample, Score

ROUNDING = 2e-5
"""Largest difference of two log-probabilities of a token in float32; those of the reference are the same bits."""
TRAINABLE = ("lora-language", "lora-all", "projector", "full")
WITHOUT_PROJECTOR = {"blip", "gemma3"}
ADAPTERS = {
    "LoRA": lambda t: peft.LoraConfig(r=4, init_lora_weights=False, target_modules=t),
    "rsLoRA": lambda t: peft.LoraConfig(r=4, use_rslora=True, init_lora_weights=False, target_modules=t),
    "DoRA": lambda t: peft.LoraConfig(r=4, use_dora=True, init_lora_weights=False, target_modules=t),
    "LoRA with dropout": lambda t: peft.LoraConfig(r=4, lora_dropout=0.3, init_lora_weights=False, target_modules=t),
    "LoHa": lambda t: peft.LoHaConfig(r=4, init_weights=False, target_modules=t),
    "LoKr": lambda t: peft.LoKrConfig(r=4, init_weights=False, target_modules=t),
    "MiSS": lambda t: peft.MissConfig(r=4, init_weights=False, target_modules=t),
}
"""Kinds that every family is tried with."""
MORE_ADAPTERS = {
    "LoRA with its own bias": lambda t: peft.LoraConfig(r=4, lora_bias=True, init_lora_weights=False, target_modules=t),
    "trained tokens": lambda t: peft.LoraConfig(r=4, trainable_token_indices=[3, 4], target_modules=t),
    "C3A": lambda t: peft.C3AConfig(block_size=4, init_weights=False, target_modules=t),
    "DeLoRA": lambda t: peft.DeloraConfig(r=4, init_weights=False, target_modules=t),
    "FourierFT": lambda t: peft.FourierFTConfig(n_frequency=8, init_weights=False, target_modules=t),
    "GraLoRA": lambda t: peft.GraloraConfig(r=4, init_weights=False, target_modules=t),
    "HiRA": lambda t: peft.HiraConfig(r=4, target_modules=t),
    "HRA": lambda t: peft.HRAConfig(r=4, init_weights=False, target_modules=t),
    "IA3": lambda t: peft.IA3Config(feedforward_modules=[], init_ia3_weights=False, target_modules=t),
    "layer norms": lambda t: peft.LNTuningConfig(target_modules=["input_layernorm"]),
    "OFT": lambda t: peft.OFTConfig(oft_block_size=4, init_weights=False, target_modules=t),
    "OSF": lambda t: peft.OSFConfig(target_modules=t),
    "PSOFT": lambda t: peft.PsoftConfig(r=4, target_modules=t),
    "RandLoRA": lambda t: peft.RandLoraConfig(r=4, init_weights=False, target_modules=t),
    "RoAd": lambda t: peft.RoadConfig(group_size=4, init_weights=False, target_modules=t),
    "SHiRA": lambda t: peft.ShiraConfig(r=4, init_weights=False, target_modules=t),
    "tokens": lambda t: peft.TrainableTokensConfig(token_indices=[3, 4], target_modules=["embed_tokens"]),
    "VeRA": lambda t: peft.VeraConfig(r=4, init_weights=False, target_modules=t),
    "WaveFT": lambda t: peft.WaveFTConfig(n_frequency=8, init_weights=False, target_modules=t),
}
"""Further kinds, tried with one family."""


class Length(Reward):
    name, range = "length", (0.0, 100.0)

    def score(self, batch):
        return RewardOutput([Score(float(len(caption) % 11)) for caption in batch.captions])


class StartedError(Exception):
    """The run has compared policy and reference, and would make its first update now."""


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """Return the folder of a family's tiny model, built once."""
    folders = {}

    def folder_of(family):
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp("base") / "model"
            captioners.build(family.replace("-", "_").replace(" with ", "_"), folders[family])
        return folders[family]

    return folder_of


def start(policy, folder, monkeypatch, **train):
    """Start a run, and return its trainer, its first captions, and the differences by what the policy is compared with."""
    differences = {}

    def record(name, own, other, mask, _model):
        differences[name] = float((own - other).abs()[mask > 0].max())

    def stop(rollout):
        raise StartedError(rollout)

    samples = [Sample(str(i), str(folder / f"{i}.png")) for i in range(2)]
    for sample, image in zip(samples, images(2), strict=True):
        image.save(sample.image)
    monkeypatch.setattr("rlcap.train.grpo.check_same_policy", record)
    sizes = {"steps": 1, "images_per_step": 2, "captions_per_image": 4, "micro_batch": 4, "beta": 0.1}
    config = GRPOConfig(train=TrainConfig(**sizes, **train), generation=GenerationConfig(max_new_tokens=6))
    run = RunFolder(folder / "run")
    run.root.mkdir(exist_ok=True)
    trainer = GRPOTrainer(
        policy.model, policy.processor, samples, config=config, batching=plan(2, 4, 4), folder=run, curriculum=parse(2),
        mix=RewardMix({"length": RewardTerm(Length())}), gallery={s.id: s.image for s in samples}, instruction="describe",
    )  # fmt: skip
    trainer.compute_training_signal = stop
    with pytest.raises(StartedError) as started:
        trainer.train()
    return trainer, started.value.args[0], differences


def assert_kl_is_zero(rollout, differences):
    assert set(differences) == {"the pass in evaluation mode", "the reference model"}
    assert max(differences.values()) < ROUNDING, differences
    assert (rollout.sampled_log_probs - rollout.ref_log_probs).abs()[rollout.mask > 0].max() < ROUNDING


DEFAULT = {("blip-2", "lora-all"), ("llava", "projector"), ("fast_vlm", "full")}
"""One family each; test_reference.py has `lora-language`. FastVLM has batch norms, which must not use a batch's statistics when all weights are trained."""
FRESH = [
    pytest.param(family, trainable, marks=() if (family, trainable) in DEFAULT else pytest.mark.slow)
    for family, trainable in product(sorted(FAMILIES), TRAINABLE)
    if not (family in WITHOUT_PROJECTOR and trainable == "projector")
]


@pytest.mark.parametrize(("family", "trainable"), FRESH)
def test_kl_is_zero_for_fresh_weights(base, tmp_path, monkeypatch, family, trainable):
    policy = load_policy(ModelConfig(base=str(base(family)), adapter=None, trainable=trainable))
    _, rollout, differences = start(policy, tmp_path, monkeypatch)
    assert_kl_is_zero(rollout, differences)


def save_adapter(base, folder, make):
    """Save an adapter with weights that change what the model says."""
    torch.manual_seed(7)  # another seed than that of the trainer, which initialises the reference
    model = AutoModelForImageTextToText.from_pretrained(base)
    model = peft.get_peft_model(model, make(find_lora_modules(model, "lora-language")))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


QUICK = {("qwen2_5_vl", "LoKr"), ("vision-encoder-decoder", "LoRA")}
TRAINED = [
    pytest.param(family, kind, marks=() if (family, kind) in QUICK else pytest.mark.slow)
    for family, kind in [*product(sorted(FAMILIES), ADAPTERS), *product(["qwen2_5_vl"], MORE_ADAPTERS)]
    if not (family == "vision-encoder-decoder" and kind in ("LoHa", "LoKr", "MiSS"))  # peft has none for GPT-2's layers
]


@pytest.mark.parametrize(("family", "kind"), TRAINED)
def test_kl_is_zero_for_every_kind_of_adapter(base, tmp_path, monkeypatch, family, kind):
    adapter = save_adapter(base(family), tmp_path / "adapter", (ADAPTERS | MORE_ADAPTERS)[kind])
    policy = load_policy(ModelConfig(base=str(base(family)), adapter=str(adapter)))
    trainer, rollout, differences = start(policy, tmp_path, monkeypatch)
    assert_kl_is_zero(rollout, differences)
    with torch.no_grad(), using_adapter(trainer.model, None):
        captioner = trainer.captioner(trainer.model)
        of_base = captioner.log_probs(rollout.prompts, rollout.ids, rollout.mask, temperature=1.0).log_probs
    change = (of_base - rollout.ref_log_probs).abs()[rollout.mask > 0].max()
    assert change > 0.01, "the adapter must change the model, or the reference could be the base"


BASE = "qwen2_5_vl"
TARGET = ["q_proj"]


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (peft.AdaLoraConfig(init_r=4, target_r=2, total_step=9, target_modules=TARGET), "no second ADALORA adapter"),
        (peft.LoraConfig(bias="all", target_modules=TARGET), "no second LORA adapter with bias='all'"),
        (peft.LoraConfig(bias="lora_only", target_modules=TARGET), "no second LORA adapter with bias='lora_only'"),
    ],
    ids=["AdaLoRA", "all biases", "biases of the LoRA"],
)
def test_an_adapter_that_cannot_be_copied_is_refused_by_name(base, config, name):
    model = peft.get_peft_model(AutoModelForImageTextToText.from_pretrained(base(BASE)), config)
    with pytest.raises(ReferenceModelError, match=f"{name}: start from a LoRA .*train.beta=0"):
        check_can_be_copied(model)
    with pytest.raises(ValueError, match=r"supports only 1 (trainable )?adapter"):  # what the user would read otherwise
        model.add_adapter("ref", config)


def test_the_adapters_that_can_be_copied_pass_the_check(base):
    model = AutoModelForImageTextToText.from_pretrained(base(BASE))
    check_can_be_copied(model)
    check_can_be_copied(peft.get_peft_model(model, peft.LoraConfig(target_modules=TARGET)))


@pytest.mark.parametrize(
    ("config", "obstacle"),
    [
        (peft.PolyConfig(r=4, n_tasks=1, n_splits=1, target_modules=TARGET), "POLY adapter, which needs the number of a task"),
        (peft.VBLoRAConfig(r=4, topk=2, num_vectors=8, vector_length=4, target_modules=TARGET), "VBLORA adapter, which shares"),
        (peft.XLoraConfig(hidden_size=32), "XLORA adapter, which mixes other adapters"),
        (peft.AdaptionPromptConfig(adapter_len=2, adapter_layers=1), "ADAPTION_PROMPT adapter, which puts virtual tokens"),
    ],
    ids=["Poly", "VB-LoRA", "X-LoRA", "LLaMA-Adapter"],
)  # fmt: skip
def test_an_adapter_that_a_captioner_cannot_use_is_refused_by_name(base, tmp_path, config, obstacle):
    config.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=f"{obstacle}.*; use one that changes weights, such as LoRA"):
        load_policy(ModelConfig(base=str(base(BASE)), adapter=str(tmp_path)))
