"""The reference model of a run: an exact copy of the starting policy, and the check that it is one.

The KL between policy and reference must be 0 before the first update. It is not where an adapter has weights that are not
copied, or where a layer behaves in training as it does not in sampling. Then the penalty pulls towards a model that nobody
chose, and the update computes the gradient of another policy than the one that wrote the captions.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from rlcap.errors import ReferenceModelError
from rlcap.policy.captioner import unwrap_model

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.05}
"""Dtype of the base → largest mean difference of two log-probabilities of a token that counts as rounding."""


def check_can_be_copied(model: torch.nn.Module) -> None:
    """Check that peft lets the model hold a second adapter of the kind of its first, which is the reference.

    Raises:
        ReferenceModelError: It does not. The message names the kind.
    """
    if not isinstance(model, PeftModel):
        return
    config: Any = model.peft_config["default"]
    kind, bias = str(getattr(config.peft_type, "value", config.peft_type)), getattr(config, "bias", "none")
    if kind == "ADALORA" or bias != "none":
        which = f"{kind} adapter" if bias == "none" else f"{kind} adapter with bias={bias!r}"
        raise ReferenceModelError(
            f"the reference model is a copy of the adapter beside it, and peft holds no second {which}: start from a LoRA with "
            "bias='none', or use GRPO or PPO with train.beta=0, which needs no reference"
        )


def copy_to_reference(model: torch.nn.Module) -> None:
    """Copy all weights of the adapter `default` to the adapter `ref`, where a model has both.

    TRL copies the parameters whose name contains ".default.", which leaves out the weights of an adapted embedding and of
    other kinds of adapters.

    Raises:
        ReferenceModelError: A weight of the adapter has no counterpart.
    """
    if not isinstance(model, PeftModel) or "ref" not in model.peft_config:
        return
    weights = get_peft_model_state_dict(model, adapter_name="default")
    with torch.no_grad():
        result: Any = set_peft_model_state_dict(model, weights, adapter_name="ref")
    if result.unexpected_keys:
        kind = str(model.peft_config["default"].peft_type)
        raise ReferenceModelError(
            f"the {kind} adapter can't be copied to the reference model ({result.unexpected_keys[0]} has no counterpart); use "
            "a LoRA, or train.beta=0"
        )


def check_same_policy(name: str, policy: Tensor, other: Tensor, mask: Tensor, model: torch.nn.Module) -> None:
    """Check that two passes give the same log-probabilities before the first update.

    Args:
        name: What `other` comes from, for the message.
        policy: (N, C) log-probabilities of the policy in an update.
        other: (N, C) log-probabilities of the same tokens.
        mask: (N, C), above 0 on the tokens of the captions.
        model: The policy, whose dtype decides the tolerance.

    Raises:
        ReferenceModelError: Their mean difference is more than rounding.
    """
    dtype = unwrap_model(model).dtype
    tolerance = TOLERANCE.get(dtype, 0.05)
    difference = float((policy - other).abs()[mask > 0].float().mean())
    if not difference <= tolerance:
        raise ReferenceModelError(
            f"before the first update, the log-probabilities of the policy differ from those of {name} by {difference:.3g} a "
            f"token on average (allowed in {dtype}: {tolerance:g}); a layer behaves differently in training, such as dropout "
            "or a batch norm, or the adapter has weights that are not copied to the reference"
        )
