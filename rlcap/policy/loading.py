"""Loading of a captioner: base model, processor and LoRA adapter."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import AutoConfig, AutoModelForImageTextToText, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from rlcap.config.schema import ModelConfig
from rlcap.errors import ConfigError
from rlcap.io.addresses import resolve_address
from rlcap.policy.captioner import Captioner
from rlcap.policy.families.registry import FAMILIES, check_family, make_captioner
from rlcap.policy.processor import load_processor
from rlcap.scorers.loading import explain_load_errors

_VISION = re.compile(r"(^|\.)(vision_tower|vision_model|visual|image_encoder|vision_encoder)(\.|$)|^encoder\.")
_PROJECTOR = re.compile(
    r"(^|\.)(multi_modal_projector|mm_projector|connector|modality_projection|merger|deepstack_merger_list|projector|qformer"
    r"|language_projection|visual_projection|enc_to_dec_proj)(\.|$)"
)
_HEAD = re.compile(r"(^|\.)(lm_head|embed_tokens|predictions\.decoder)(\.|$)|^output$")
OBSTACLES = {
    "ADAPTION_PROMPT": "puts virtual tokens into the attention",
    "POLY": "needs the number of a task with every image",
    "VBLORA": "shares its vectors among layers, and peft names none of them in its file layer by layer",
    "XLORA": "mixes other adapters",
}
"""Kind of adapter → why a captioner can't use it. The start of a run tries the other kinds: its KL must be 0."""
_LINEAR = (torch.nn.Linear, Conv1D)  # GPT-2 has a linear layer of its own


@dataclass(frozen=True, slots=True)
class Policy:
    """A captioner that is ready to train."""

    model: Any
    """The model, in peft unless all its parameters are trained."""
    processor: Any
    """The processor that belongs to the model."""
    base: str
    """Folder or hub name of the base model, as the user wrote it."""
    adapter: str | None
    """Folder or hub name of the adapter, as the user wrote it; None for a fresh one."""

    def describe(self) -> str:
        """Describe the trained parameters, in total and by module, as a table for the start of a run."""
        groups: dict[str, int] = {}
        trainable = total = 0
        for name, parameter in self.model.named_parameters():
            if ".ref." in name:
                continue
            total += parameter.numel()
            if parameter.requires_grad:
                trainable += parameter.numel()
                kind = re.sub(r"\.\d+\.", ".*.", re.sub(r"(base_model\.model\.|\.(lora_[AB])\.\w+)", "", name))
                groups[kind] = groups.get(kind, 0) + parameter.numel()
        lines = [f"{trainable:,} of {total:,} parameters are trained ({trainable / total:.2%})"]
        lines += [f"  {count:>12,}  {name}" for name, count in sorted(groups.items())]
        return "\n".join(lines)

    @property
    def captioner(self) -> Captioner:
        """The model as its family's captioner."""
        return make_captioner(self.model, self.processor)

    @property
    def trainable_parameters(self) -> int:
        """Number of parameters that are trained."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)


def pick_dtype(name: str) -> torch.dtype:
    """Return the torch dtype called `name`; `auto` means bfloat16 on a GPU that supports it, and float32 elsewhere."""
    if name == "auto":
        has_bfloat16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if has_bfloat16 else torch.float32
    return getattr(torch, name)


def find_lora_modules(model: torch.nn.Module, trainable: str) -> list[str]:
    """Return the names of the linear modules that the choice `trainable` adapts.

    Raises:
        ConfigError: the model has no such modules.
    """
    names = []
    for name, module in model.named_modules():
        if not isinstance(module, _LINEAR) or _HEAD.search(name):
            continue
        vision, projector = bool(_VISION.search(name)), bool(_PROJECTOR.search(name))
        if (
            trainable == "lora-all"
            or (trainable == "projector" and projector)
            or (trainable == "lora-language" and not vision and not projector)
        ):
            names.append(name)
    if not names:
        kinds = sorted({name.split(".")[-1] for name, m in model.named_modules() if isinstance(m, _LINEAR)})
        raise ConfigError(
            f"model.trainable={trainable!r} matches no linear module of {type(model).__name__}; its linear modules are "
            f"called {', '.join(kinds)}"
        )
    return names


def freeze_batch_norm_statistics(model: torch.nn.Module) -> None:
    """Keep batch norms in evaluation mode, even after `model.train()` and where their weights are trained.

    In training mode, the batch norms of a vision encoder (FastVLM's, Gemma 3n's) would normalise an image by the other
    images of its batch, and would overwrite the statistics that came with the weights. Captions are sampled in evaluation
    mode, so that an update in training mode would compute the gradient of another policy.
    """
    # Any: an instance's `train` is replaced, which the type of the class does not allow
    norms: list[Any] = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for module in norms:
        module.eval()
        module.train = functools.partial(_ignore_mode, module)


def _ignore_mode(module: torch.nn.Module, mode: bool = True) -> torch.nn.Module:
    return module


def _quantised(config: ModelConfig) -> dict[str, Any]:
    """Return the loading options of QLoRA (Dettmers et al. 2023, arXiv 2305.14314, §3): NF4, double quantisation."""
    if not config.load_in_4bit:
        return {}
    if config.trainable == "full":
        raise ConfigError("model.load_in_4bit freezes the base: choose a LoRA for model.trainable instead of full")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError("model.load_in_4bit needs bitsandbytes: pip install bitsandbytes")
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=pick_dtype(config.dtype),
    )
    return {"quantization_config": quantization}


def _warn_of_ignored_keys(config: ModelConfig) -> None:
    """Warn where keys of a fresh adapter are set although an existing adapter is loaded, which they do not change."""
    fresh = ("trainable", "lora_rank", "lora_alpha")
    keys = [key for key in fresh if getattr(config, key) != ModelConfig.model_fields[key].default]
    if keys:
        settings = ", ".join(f"model.{key}={getattr(config, key)}" for key in keys)
        warnings.warn(
            f"{settings}: ignored, since it applies to a fresh adapter and {config.adapter} is loaded as it is "
            "(model.adapter=null makes a fresh one)",
            stacklevel=3,
        )


def _check_complete(key: str, name: str, missing: Collection[str], is_allowed: bool) -> None:
    """Refuse weights of which a part is missing, because transformers and peft would fill it with random numbers."""
    if missing and not is_allowed:
        names = sorted(missing)
        raise ConfigError(
            f"{key} {name} lacks {len(names)} tensors, such as {names[0]}, which would be filled with random numbers: the file "
            "is incomplete or belongs to another architecture; model.allow_missing_weights=true trains it nevertheless"
        )


def _check_finite(model: torch.nn.Module, config: ModelConfig) -> None:
    """Refuse weights that contain an infinite value or a NaN."""
    broken = [n for n, p in model.named_parameters() if p.is_floating_point() and not bool(torch.isfinite(p).all())]
    if broken:
        is_adapter = config.adapter is not None and any("lora" in name or ".default" in name for name in broken)
        what = f"model.adapter {config.adapter}" if is_adapter else f"model.base {config.base}"
        raise ConfigError(
            f"{what} has values that are not finite in {len(broken)} tensors, such as {broken[0]}: the file is damaged, or "
            "the run that made it diverged"
        )


def load_policy(config: ModelConfig) -> Policy:
    """Load the base model, its processor (which pads on the left) and the adapter (loaded and trainable, or fresh).

    Raises:
        ConfigError: a choice or the model family is unknown, or a folder or hub name can't be found or loaded.
    """
    if not config.base:
        raise ConfigError("model.base is empty: name a captioner, such as Qwen/Qwen2.5-VL-3B-Instruct")
    dtype = pick_dtype(config.dtype)
    with explain_load_errors(
        "model.base", config.base, f"give a model's folder or hub name, of the families {', '.join(FAMILIES)}"
    ):
        base = resolve_address(config.base)
        base = os.path.abspath(base) if os.path.isdir(base) else base  # the adapter names its base from any folder
        architecture = AutoConfig.from_pretrained(base, trust_remote_code=config.trust_remote_code)
    check_family(architecture)  # refuse an unknown family before its weights are downloaded
    with explain_load_errors("model.base", config.base, "give a model's folder or hub name"):
        processor = load_processor(base, config.trust_remote_code)
    with explain_load_errors("model.base", config.base, "give a model's folder or hub name"):
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            base,
            dtype=dtype,
            trust_remote_code=config.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            **_quantised(config),
        )
    model, info = loaded
    _check_complete("model.base", config.base, info["missing_keys"], config.allow_missing_weights)
    if config.adapter is not None:
        adapter = resolve_address(config.adapter)
        if Path(adapter).is_dir() and not (Path(adapter) / "adapter_config.json").is_file():
            hint = (
                "; did you mean its folder adapter?"
                if (Path(adapter) / "adapter" / "adapter_config.json").is_file()
                else ""
            )
            raise ConfigError(
                f"model.adapter {config.adapter} holds no adapter_config.json: it is not a peft adapter{hint}"
            )
        with explain_load_errors(
            "model.adapter",
            config.adapter,
            "give a peft adapter that was made on this model.base, or null for a fresh one",
            (OSError, ValueError, RuntimeError),
        ):
            adapter_config: Any = PeftConfig.from_pretrained(adapter)
        kind = str(getattr(adapter_config.peft_type, "value", adapter_config.peft_type))
        obstacle = "puts virtual tokens before the image" if adapter_config.is_prompt_learning else OBSTACLES.get(kind)
        if obstacle:
            raise ConfigError(
                f"model.adapter {config.adapter} is a {kind} adapter, which {obstacle}; use one that changes weights, such as "
                "LoRA"
            )
        with explain_load_errors(
            "model.adapter",
            config.adapter,
            "give a peft adapter that was made on this model.base, or null for a fresh one",
            (OSError, ValueError, RuntimeError),
        ):
            model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
            # `from_pretrained` only warns of missing weights; loading them again says which there are.
            result = model.load_adapter(adapter, "default", is_trainable=True)
        _check_complete("model.adapter", config.adapter, result.missing_keys, config.allow_missing_weights)
        if result.unexpected_keys:
            names = sorted(result.unexpected_keys)
            raise ConfigError(
                f"model.adapter {config.adapter} has {len(names)} tensors that model.base {config.base} has no place for, such as "
                f"{names[0]}: it was trained on another base; name that base, or another adapter"
            )
        own_base = model.peft_config["default"].base_model_name_or_path
        if own_base and os.path.isdir(own_base):
            model.peft_config["default"].base_model_name_or_path = os.path.abspath(own_base)
        _warn_of_ignored_keys(config)
        # On saving, peft looks up the base's vocabulary on the hub; the lab's base is no hub name and needs none.
        warnings.filterwarnings("ignore", message="Could not find a config file in lab:")
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    elif config.trainable == "full":
        model.requires_grad_(True)
    else:
        target_modules = find_lora_modules(model, config.trainable)
        lora = LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=0.0,
            target_modules=target_modules,
            # GPT-2's linear layers store their weights transposed
            fan_in_fan_out=all(isinstance(model.get_submodule(name), Conv1D) for name in target_modules),
        )
        model = get_peft_model(model, lora)
    freeze_batch_norm_statistics(model)
    _check_finite(model, config)
    return Policy(model, processor, config.base, config.adapter)
