"""What a run is: dataclasses, YAML files, dotted overrides, and every cross-field check in one place.

    config = load_config(GRPOConfig, "my.yaml", ["train.steps=200", "mix.self_retrieval.weight=0.5"])

A YAML file says only what differs from the defaults; an override says one value, and is read as YAML. A key that does
not exist is refused with the nearest one that does.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rlcap.types import ConfigError


@dataclass
class ModelConfig:
    """The policy: a base model and the LoRA adapter that maximum likelihood made."""

    base: str = "lab:captioner"
    """Folder or hub name of an image-text-to-text model; `lab:captioner` is the embedded one."""
    adapter: str | None = "lab:adapter"
    """Folder or hub name of the LoRA adapter to start from (and the reference model); null makes a fresh one."""
    trainable: str = "lora-language"
    """What a fresh adapter adapts: lora-language, lora-all, projector or full."""
    lora_rank: int = 16
    """Rank of a fresh LoRA, 1 or more."""
    lora_alpha: int = 32
    """Scale of a fresh LoRA: alpha / rank multiplies its output."""
    dtype: str = "auto"
    """float32, bfloat16, or auto: bfloat16 on a GPU that has it, else float32."""
    trust_remote_code: bool = False
    """Run code that a hub repository brings. Off unless asked for by name."""


@dataclass
class DataConfig:
    """Where images and texts come from."""

    source: str = "lab"
    """`lab`, a .jsonl file, a COCO captions .json, or the folder of a Hugging Face data set on disk."""
    image_root: str | None = None
    """Folder that image paths are relative to; default: the file's own folder."""
    train: int | None = 560
    """Training images; null takes all that are not held out."""
    validation: int = 35
    """Images that are captioned on a schedule during training."""
    test: int = 308
    """Images that are captioned before the first and after the last step."""
    prior_breaking: int = 154
    """The lab's second test split, of scenes without habits; must be 0 for other sources."""
    seed: int = 0
    """Which rows are held out, and which scenes the lab draws. Not the seed of the training."""
    on_bad: str = "error"
    """What a bad row does: error (stop, naming row and file) or skip (counted)."""
    max_pixels: int = 50_000_000
    """An image of more pixels is refused before it is decoded."""
    bags: str | None = None
    """Bag file of `rlcap bags mine`; the lab and sources without bags need none."""
    instruction: str | None = None
    """What the captioner is asked; null takes the source's default."""


@dataclass
class GenerationConfig:
    """How captions are sampled."""

    max_new_tokens: int = 72
    """Longest caption, in tokens."""
    temperature: float = 1.0
    """Of training's samples, above 0; evaluation is greedy."""
    top_p: float = 1.0
    """Nucleus of training's samples, in (0, 1]."""


@dataclass
class TrainConfig:
    """The optimiser and its clock."""

    steps: int = 40
    """Optimiser steps."""
    images_per_step: int = 8
    """Images that one step learns from."""
    captions_per_image: int = 8
    """Captions sampled for each of them: the group that is compared. Below 4 most groups say nothing."""
    micro_batch: int = 64
    """Captions that fit through one forward and backward pass of a device."""
    iterations: int = 1
    """Optimiser steps on the same captions (μ); above 1 the ratio is clipped."""
    learning_rate: float = 2e-3
    """AdamW's; warm-up over the first tenth, then to a tenth by cosine. 1e-6 to 1e-5 for models of billions."""
    weight_decay: float = 0.0
    """AdamW's."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    beta: float = 0.02
    """KL penalty towards the reference model (the starting adapter), k3 estimator; 0 switches it off."""
    epsilon: float = 0.2
    """PPO clip of the probability ratio; matters when iterations > 1."""
    aggregate: str = "normalize_then_sum"
    """normalize_then_sum (GDPO), sum_then_normalize (GRPO), sum_then_center (Dr. GRPO, MOCHa), sum_then_leave_one_out (RLOO),
    sum_minus_running_mean (REINFORCE as in NDLB, DiscriTune) or sum_minus_greedy (SCST, CLIP-Caption-Reward)."""
    whiten: bool = True
    """Divide the advantage by its std over the step's captions, in normalize_then_sum and sum_minus_…"""
    loss_type: str = "dapo"
    """TRL's token aggregation: dapo (all tokens of the step alike), grpo, dr_grpo, bnpo."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: slower, less memory."""
    save_every: int = 20
    """Steps between checkpoints; rounded up to a generation boundary. The last step is always saved."""
    keep_checkpoints: int = 2
    """How many checkpoints stay on disk."""
    max_abstain: float = 0.5
    """A component that abstains on more than this share of recent captions stops the run."""
    seed: int = 0
    """Of initialisation, order and sampling."""
    use_vllm: bool = False
    """Sample with vLLM through TRL; needs the extra `vllm` and a GPU."""


@dataclass
class EvaluationConfig:
    """The fixed rulers, none of which takes part in the mix."""

    retriever: str = "local-dir:lab:judge-retriever"
    """open_clip model of the R@1 metrics; must differ from the reward's."""
    retriever_pretrained: str | None = None
    """open_clip's pretrained tag or safetensors file for it."""
    nli: str | None = None
    """NLI model of the contradiction metric (real data); null leaves the metric out."""
    every: int = 20
    """Steps between evaluations of the validation split; test splits are read before step 1 and at the end."""
    batch_size: int = 64
    """Images captioned at once."""
    panel: int = 6
    """Validation images followed through training in the report."""


@dataclass
class GRPOConfig:
    """A reinforcement run: `accelerate launch recipes/grpo.py`."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    curriculum: Any = "bagcurri"
    """bagcurri; a bag size; {start of progress: bag size}; {bag_size, level}; or {sizes, target, window}."""
    mix: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Component name → {reward: module:Class, weight, normalize, params}; null removes a component."""
    report_to: list[str] = field(default_factory=list)
    """[wandb] or nothing."""
    name: str | None = None
    """Name of the run; default: recipe and time."""
    output_dir: str | None = None
    """Run folder; default: runs/<name>."""
    resume: str | None = None
    """`auto` takes the newest whole checkpoint of output_dir, or a checkpoint's folder."""


@dataclass
class SFTTrainConfig:
    """Maximum likelihood's optimiser and clock."""

    steps: int = 400
    """Optimiser steps."""
    batch_size: int = 32
    """Images a step."""
    micro_batch: int = 32
    """Images through one forward and backward pass."""
    learning_rate: float = 2e-3
    """AdamW's; linear warm-up over the first 5 %, then to zero by cosine."""
    weight_decay: float = 0.0
    """AdamW's."""
    target: str = "paragraph"
    """What is learnt: paragraph (the fused one) or references (one drawn per epoch)."""
    seed: int = 0
    """Of initialisation and order."""


@dataclass
class SFTConfig:
    """A maximum-likelihood run: `accelerate launch recipes/sft.py`."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig(adapter=None))
    data: DataConfig = field(default_factory=lambda: DataConfig(train=6000, test=0, prior_breaking=0))
    train: SFTTrainConfig = field(default_factory=SFTTrainConfig)
    report_to: list[str] = field(default_factory=list)
    """[wandb] or nothing."""
    name: str | None = None
    """Name of the run; default: recipe and time."""
    output_dir: str | None = None
    """Run folder; default: runs/<name>. The adapter is in its `adapter/`."""


def load_config(
    kind: type, file: str | Path | None = None, overrides: Sequence[str] = (), defaults: str | Path | None = None
):
    """A checked config of `kind` from `defaults` (YAML), then `file` (YAML), then `overrides` (`dotted.key=value`).

    An override may carry leading dashes (`--train.steps=5`), as W&B's sweep agents write them. Raises ConfigError on
    unreadable YAML, unknown keys and values of the wrong type.
    """
    values: dict[str, Any] = {}
    for path in (defaults, file):
        if path is not None:
            values = _merge(values, _read(Path(path)), kind)
    for override in overrides:
        key, separator, text = override.lstrip("-").partition("=")
        if not separator:
            raise ConfigError(f"override {override!r}: write key=value, for instance train.steps=100")
        try:
            value: Any = yaml.safe_load(text) if text else None
        except yaml.YAMLError as error:
            raise ConfigError(f"override {override!r}: {text!r} is not YAML: {error}") from error
        for part in reversed(key.split(".")):
            value = {part: value}
        values = _merge(values, value, kind)
    return _build(kind, values, "")


def dump(config: Any) -> str:
    """The config as YAML, every value written out; `load_config` reads it back."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"no config file {path}; those of the project are in recipes/configs/")
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, got {type(data).__name__}")
    return data


def _merge(old: Mapping[str, Any], new: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """`new` over `old`. Mappings merge key by key, except `curriculum`, whose forms exclude each other."""
    merged = dict(old)
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping) and key != "curriculum":
            merged[key] = _merge(merged[key], value, None)
        else:
            merged[key] = value
    return merged


def _build(kind: Any, values: Any, path: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or 'config'} must be a mapping, got {values!r}")
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), sorted(known), 1)
            hint = f"did you mean {path}{near[0]}? " if near else ""
            raise ConfigError(f"unknown key {path}{key}; {hint}known: {', '.join(sorted(known))}")
    default = kind()
    built: dict[str, Any] = {}
    for name in known:
        hint, current = hints[name], getattr(default, name)
        if dataclasses.is_dataclass(hint):
            given = values.get(name) or {}
            if not isinstance(given, Mapping):
                raise ConfigError(f"{path}{name} must be a mapping, got {given!r}; write {path}{name}.<key>=<value>")
            merged = {**{f.name: getattr(current, f.name) for f in dataclasses.fields(hint)}, **given}
            built[name] = _build(hint, merged, f"{path}{name}.")
        elif name in values:
            built[name] = _typed(values[name], hint, f"{path}{name}")
        else:
            built[name] = current
    return kind(**built)


def _typed(value: Any, hint: Any, path: str) -> Any:
    if hint is Any:
        return value
    choices = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for choice in choices:
        origin = typing.get_origin(choice) or choice
        if choice is type(None) and value is None:
            return None
        if choice is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if choice is float and isinstance(value, str):
            # YAML reads 2e-3 (no dot) as text.
            try:
                return float(value)
            except ValueError:
                continue
        if origin is int and isinstance(value, bool):
            continue
        if origin in (int, str, bool, list, dict) and isinstance(value, origin):
            return value
    wanted = " or ".join("null" if c is type(None) else getattr(c, "__name__", str(c)) for c in choices)
    raise ConfigError(f"{path} must be {wanted}, got {value!r}")


AGGREGATE = (
    "normalize_then_sum",
    "sum_then_normalize",
    "sum_then_center",
    "sum_then_leave_one_out",
    "sum_minus_running_mean",
    "sum_minus_greedy",
)
"""Names that `train.aggregate` may have; the formulas stand in `rlcap.algo.advantages`."""


def check(config: GRPOConfig) -> None:
    """Every rule that spans fields or bounds a value. Raises ConfigError with the key, the value and the fix."""
    train, data, evaluation = config.train, config.data, config.evaluation

    def positive(name: str, value: float) -> None:
        if not 0 < value < math.inf:
            raise ConfigError(f"{name} must be above 0, got {value}")

    def not_negative(name: str, value: float) -> None:
        if not 0 <= value < math.inf:
            raise ConfigError(f"{name} must be 0 or more, got {value}")

    def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
        if value not in known:
            near = difflib.get_close_matches(value, known, 1)
            hint = f" did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{name} is {value!r};{hint} known: {', '.join(known)}")

    for name in (
        "steps",
        "images_per_step",
        "captions_per_image",
        "micro_batch",
        "iterations",
        "learning_rate",
        "save_every",
    ):
        positive(f"train.{name}", getattr(train, name))
    for name in ("beta", "epsilon", "weight_decay"):
        not_negative(f"train.{name}", getattr(train, name))
    positive("train.max_grad_norm", train.max_grad_norm)
    one_of("train.aggregate", train.aggregate, AGGREGATE)
    if data.train is not None:
        positive("data.train", data.train)
    for name in ("validation", "test", "prior_breaking"):
        not_negative(f"data.{name}", getattr(data, name))
    positive("evaluation.batch_size", evaluation.batch_size)
    not_negative("evaluation.panel", evaluation.panel)
    positive("generation.max_new_tokens", config.generation.max_new_tokens)
    positive("generation.temperature", config.generation.temperature)
    positive("evaluation.every", evaluation.every)
    if not 0 < config.generation.top_p <= 1:
        raise ConfigError(f"generation.top_p must lie in (0, 1], got {config.generation.top_p}")
    if train.captions_per_image < 2:
        raise ConfigError(
            f"train.captions_per_image is {train.captions_per_image}: a group needs 2 or more; 8 is usual"
        )
    if data.on_bad not in ("error", "skip"):
        raise ConfigError(f"data.on_bad must be error or skip, got {data.on_bad!r}")
    if data.source != "lab" and data.prior_breaking:
        raise ConfigError("data.prior_breaking is a split of the lab: set it to 0 for your own data")
    if not config.mix or all(entry is None for entry in config.mix.values()):
        raise ConfigError("mix is empty: name at least one reward, as recipes/configs/lab.yaml does")
    for name, entry in config.mix.items():
        if entry is not None and (not isinstance(entry, Mapping) or "reward" not in entry):
            near = difflib.get_close_matches(name, [n for n, e in config.mix.items() if e and "reward" in e], 1)
            hint = f"did you mean mix.{near[0]}? " if near else ""
            raise ConfigError(
                f"mix.{name} names no reward; {hint}a component needs `reward: module:Class`, got {entry!r}"
            )
        for value in (entry or {}).get("params", {}).values() if entry else ():
            if value == evaluation.retriever:
                raise ConfigError(
                    f"evaluation.retriever is also a parameter of mix.{name}: evaluate with another model than you train on"
                )
    if train.use_vllm and data.source == "lab":
        raise ConfigError("train.use_vllm is for GPUs; the lab's captioner is not a model that vLLM serves")
