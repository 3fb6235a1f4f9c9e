"""Whether a configuration can run: every bound of a value and every rule that spans keys, before anything heavy is loaded."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

from rlcap.config.schema import (
    COLUMNS,
    DTYPES,
    TRAINABLE,
    DPOConfig,
    GRPOConfig,
    ModelConfig,
    PPOTrainConfig,
    RefineConfig,
    SFTConfig,
    TrainConfig,
)
from rlcap.errors import ConfigError

AGGREGATE = (
    "normalize_then_sum",
    "sum_then_normalize",
    "sum_then_center",
    "sum_then_leave_one_out",
    "sum_minus_running_mean",
    "sum_minus_greedy",
)
"""Names that `train.aggregate` may have; the formulas stand in `rlcap.algo.advantages`."""
SCHEDULES = ("cosine", "constant")
"""Names that `train.schedule` may have."""
TARGETS = ("paragraph", "references")
"""Names that `train.target` of maximum likelihood may have."""


def check(config: GRPOConfig | SFTConfig | RefineConfig | DPOConfig) -> None:
    """Every rule that spans fields or bounds a value. Raises ConfigError with the key, the value and the fix."""
    _check_shared(config)
    if isinstance(config, RefineConfig):
        _check_refine(config)
        return
    _not_negative("train.seed", config.train.seed)
    for name in config.report_to:
        _one_of("report_to", str(name), ("wandb",))
    if isinstance(config, SFTConfig):
        _check_sft(config)
    elif isinstance(config, DPOConfig):
        _check_dpo(config)
    else:
        _check_grpo(config)


def _check_shared(config: GRPOConfig | SFTConfig | RefineConfig | DPOConfig) -> None:
    data = config.data
    _check_model(config.model)
    if data.train is not None:
        _positive("data.train", data.train)
    for name in ("validation", "test", "prior_breaking"):
        _not_negative(f"data.{name}", getattr(data, name))
    _positive("data.max_pixels", data.max_pixels)
    _one_of("data.on_bad", data.on_bad, ("error", "skip"))
    for name, column in data.columns.items():
        _one_of("a key of data.columns", str(name), COLUMNS)
        if not isinstance(column, str):
            raise ConfigError(f"data.columns.{name} must be the source's name for it, got {column!r}")
    if data.source != "lab" and data.prior_breaking:
        raise ConfigError("data.prior_breaking is a split of the lab: set it to 0 for your own data")


def _check_model(model: ModelConfig) -> None:
    _one_of("model.trainable", model.trainable, TRAINABLE)
    _one_of("model.dtype", model.dtype, DTYPES)
    _positive("model.lora_rank", model.lora_rank)
    _positive("model.lora_alpha", model.lora_alpha)
    if model.adapter is not None and model.trainable == "full":
        raise ConfigError(
            f"model.trainable=full trains every weight, and model.adapter {model.adapter} is a LoRA: set model.adapter=null"
        )
    if model.adapter == "lab:adapter" and model.base != "lab:captioner":
        raise ConfigError(
            f"model.adapter lab:adapter was made on lab:captioner, and model.base is {model.base}: name an adapter made on it "
            "(recipes/sft.py makes one), or model.adapter=null for a fresh one"
        )


def _check_refine(config: RefineConfig) -> None:
    reviser = config.reviser
    _positive("reviser.rounds", reviser.rounds)
    _not_negative("tolerance", config.tolerance)
    _positive("generation.max_new_tokens", config.generation.max_new_tokens)
    if not any(config.accept.values()):
        raise ConfigError("accept names no reward: a rewriting must please one that had no part in it")
    for name, entry in config.accept.items():
        judge = (entry or {}).get("params", {}).get("judge") if isinstance(entry, Mapping) else None
        if judge is not None and _backend_name(judge) == _backend_name(reviser.judge):
            raise ConfigError(f"accept.{name} asks the judge that rewrites: whoever accepts must be another")


def _backend_name(judge: Any) -> Any:
    """Return the name of a judge's backend, without its parameters."""
    if isinstance(judge, Mapping):
        return _backend_name(judge["backend"]) if "backend" in judge else judge.get("type")
    return judge


def _check_dpo(config: DPOConfig) -> None:
    train = config.train
    if not config.pairs:
        raise ConfigError("pairs is empty: name the pairs.jsonl of recipes/refine.py, pairs=runs/NAME/pairs.jsonl")
    for name in ("steps", "batch_size", "micro_batch", "learning_rate", "beta"):
        _positive(f"train.{name}", getattr(train, name))
    _not_negative("train.sft_weight", train.sft_weight)
    if train.batch_size % train.micro_batch:
        raise ConfigError(
            f"train.batch_size {train.batch_size} is not a multiple of train.micro_batch {train.micro_batch}"
        )
    if config.model.trainable == "full" and config.model.adapter is None:
        raise ConfigError("DPO's reference is the starting adapter: model.trainable must be a LoRA")


def _check_sft(config: SFTConfig) -> None:
    train = config.train
    for name in ("steps", "batch_size", "micro_batch", "learning_rate"):
        _positive(f"train.{name}", getattr(train, name))
    _not_negative("train.weight_decay", train.weight_decay)
    _one_of("train.target", train.target, TARGETS)
    if train.batch_size % train.micro_batch:
        raise ConfigError(
            f"train.batch_size {train.batch_size} is not a multiple of train.micro_batch {train.micro_batch}"
        )


LOSS_TYPES = ("dapo", "grpo", "dr_grpo", "bnpo")


def _check_grpo(config: GRPOConfig) -> None:
    train, data, evaluation = config.train, config.data, config.evaluation
    for name in (
        "steps",
        "images_per_step",
        "captions_per_image",
        "micro_batch",
        "iterations",
        "minibatches",
        "learning_rate",
        "save_every",
        "keep_checkpoints",
    ):
        _positive(f"train.{name}", getattr(train, name))
    for name in ("beta", "epsilon", "weight_decay"):
        _not_negative(f"train.{name}", getattr(train, name))
    _positive("train.max_grad_norm", train.max_grad_norm)
    _one_of("train.aggregate", train.aggregate, AGGREGATE)
    _one_of("train.schedule", train.schedule, SCHEDULES)
    _one_of("train.loss_type", train.loss_type, LOSS_TYPES)
    _one_of("train.kl", train.kl, ("token", "loss") if isinstance(train, PPOTrainConfig) else ("loss", "sequence"))
    _positive("evaluation.batch_size", evaluation.batch_size)
    _not_negative("evaluation.panel", evaluation.panel)
    _positive("generation.max_new_tokens", config.generation.max_new_tokens)
    _positive("generation.temperature", config.generation.temperature)
    _positive("evaluation.every", evaluation.every)
    if not 0 < config.generation.top_p <= 1:
        raise ConfigError(f"generation.top_p must lie in (0, 1], got {config.generation.top_p}")
    if train.captions_per_image < 2:
        raise ConfigError(
            f"train.captions_per_image is {train.captions_per_image}: a group needs 2 or more; 8 is usual"
        )
    if not config.mix or all(entry is None for entry in config.mix.values()):
        raise ConfigError(
            "mix is empty: name at least one reward, as recipes/configs/lab.yaml does; a file without one, such as lab_ppo.yaml, "
            "lies over it"
        )
    for name, entry in config.mix.items():
        if entry is not None and (not isinstance(entry, Mapping) or "reward" not in entry):
            near = difflib.get_close_matches(name, [n for n, e in config.mix.items() if e and "reward" in e], 1)
            hint = f"did you mean mix.{near[0]}? " if near else ""
            raise ConfigError(
                f"mix.{name} names no reward; {hint}a component needs `reward: module:Class`, got {entry!r}"
            )
        ppo = isinstance(train, PPOTrainConfig)
        if entry is not None and "normalize" in entry and (ppo or train.aggregate != "normalize_then_sum"):
            way = "PPO, whose critic is the baseline" if ppo else f"train.aggregate={train.aggregate}"
            raise ConfigError(
                f"mix.{name}.normalize has no effect with {way}: leave it out, or aggregate by normalize_then_sum in GRPO"
            )
        params = (entry or {}).get("params") or {}
        if not isinstance(params, Mapping):
            raise ConfigError(f"mix.{name}.params must be a mapping, got {params!r}")
        for value in params.values():
            if value == evaluation.retriever:
                raise ConfigError(
                    f"evaluation.retriever is also a parameter of mix.{name}: evaluate with another model than you train on"
                )
    if train.use_vllm and data.source == "lab":
        raise ConfigError("train.use_vllm is for GPUs; the lab's captioner is not a model that vLLM serves")
    if train.use_vllm and (train.aggregate == "sum_minus_greedy" or train.kl != "loss" or train.minibatches > 1):
        raise ConfigError(
            "train.use_vllm leaves the round to TRL, which has no greedy captions, no KL but in the loss and no minibatches: "
            "set train.aggregate, train.kl=loss and train.minibatches=1, or train.use_vllm=false"
        )
    if isinstance(train, PPOTrainConfig):
        _check_ppo(train)


def _check_ppo(train: PPOTrainConfig) -> None:
    for name in ("gamma", "lam"):
        if not 0 <= getattr(train, name) <= 1:
            raise ConfigError(f"train.{name} must lie in [0, 1], got {getattr(train, name)}")
    for name in ("kl_target", "value_learning_rate", "value_clip"):
        if getattr(train, name) is not None:
            _positive(f"train.{name}", getattr(train, name))
    _positive("train.kl_gain", train.kl_gain)
    _not_negative("train.value_coefficient", train.value_coefficient)
    if train.aggregate != TrainConfig.aggregate:
        raise ConfigError(f"train.aggregate is {train.aggregate!r}, but PPO compares with its critic: leave it out")
    if train.kl_target is not None and (train.kl != "token" or not train.beta):
        raise ConfigError(
            f"train.kl_target steers what a token's KL costs: it needs train.kl=token and train.beta above 0 to start from, "
            f"got {train.kl!r} and {train.beta}"
        )
    if train.use_vllm:
        raise ConfigError("train.use_vllm is GRPO's: PPO writes its captions itself")


def _positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ConfigError(f"{name} must be above 0, got {value}")


def _not_negative(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ConfigError(f"{name} must be 0 or more, got {value}")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        near = difflib.get_close_matches(value, known, 1)
        hint = f" did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{name} is {value!r};{hint} known: {', '.join(known)}")
