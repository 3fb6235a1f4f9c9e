"""The critic: what reward a caption will still get, judged before each of its tokens.

    critic = Critic.over(model)                          # model: a captioner in peft
    values = critic.values(captioner, prompts, ids, mask)  # (N, C), with gradient

It is an adapter of its own over the policy's frozen base, of the same shape as the policy's and equal to it at the
start, and one linear layer on the states that the base's last layer would make words of. Base, vision features and the
pass over image and instruction are shared as the policy shares them, so that it costs little more memory than none.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn

from rlcap.policy.adapters import using_adapter
from rlcap.policy.captioner import Captioner
from rlcap.policy.prompt import Prompt
from rlcap.policy.shared_prefix.checkpointing import recompute_within
from rlcap.types import ConfigError

ADAPTER, HEAD = "critic", "value_head"
"""Names of the adapter and of the linear layer, which is a module of the peft model. (Many a model has modules called `value`,
whose names would be taken for an adapter's.)"""
FILE = "critic.safetensors"
_OWN = re.compile(rf"(^|\.)({ADAPTER}(\.|$)|{HEAD}\.)")


class ValueModel:
    """Value head and adapter of `model`; `ValueModel.attach` makes them."""

    def __init__(self, model: PeftModel) -> None:
        self.model = model

    @classmethod
    def attach(cls, model: nn.Module, captioner: Captioner) -> ValueModel:
        """Give `model` a critic: its adapter `default` copied as `value_model`, and a head that says 0 of everything.

        Raises ConfigError for a model that is not in peft (`trainable: full`), or has a critic already.
        """
        if not isinstance(model, PeftModel):
            raise ConfigError(
                "PPO's critic is an adapter over the policy's frozen base, and model.trainable=full freezes nothing; "
                "take lora-language, lora-all or projector, or GRPO, which needs no critic"
            )
        if ADAPTER in model.peft_config:
            raise ConfigError(f"the model already has an adapter called {ADAPTER!r}, which is PPO's critic's name")
        config = copy.copy(model.peft_config["default"])
        config.inference_mode, config.init_lora_weights = False, True  # other kinds of start would change the base
        model.add_adapter(ADAPTER, config)
        for name, parameter in model.named_parameters():
            if belongs_to_value_model(name):
                parameter.data.copy_(model.get_parameter(re.sub(rf"\b{ADAPTER}\b", "default", name)).data)
        last = captioner.text_model().get_output_embeddings()
        head = nn.Linear(last.in_features, 1, device=last.weight.device)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        setattr(model, HEAD, head)
        value_model = cls(model)
        value_model.require_grad()
        return value_model

    @property
    def head(self) -> nn.Linear:
        return getattr(self.model, HEAD)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """By their names in the peft model."""
        return {name: p for name, p in self.model.named_parameters() if belongs_to_value_model(name)}

    def require_grad(self) -> None:
        """Let it be trained: peft freezes adapters that are not active whenever one is added, loaded or set."""
        for parameter in self.named_parameters().values():
            parameter.requires_grad_(True)

    def values(
        self,
        captioner: Captioner,
        prompts: Sequence[Prompt],
        ids: torch.Tensor,
        mask: torch.Tensor,
        *,
        shared: bool = True,
    ) -> torch.Tensor:
        """(N, C) expected reward before each token, float32, 0 where the mask is; with gradient to the critic alone.

        `captioner`: of the same model, wrapped or not. The rest as for `Captioner.log_probs`.
        """
        choose = partial(using_adapter, name=ADAPTER)
        with choose(captioner.base), recompute_within(captioner.base, choose):
            states = captioner.states(prompts, ids, shared=shared)
        with torch.autocast(states.device.type, enabled=False):
            values = self.head(states.to(self.head.weight.dtype))[..., 0]
        return values.float().masked_fill(mask == 0, 0.0)

    def save(self, folder: Path, state: Mapping[str, torch.Tensor] | None = None) -> None:
        """Write adapter and head to `folder`. `state`: the model's, where its weights are sharded over processes."""
        state = self.model.state_dict() if state is None else state
        mine = {name: tensor.contiguous().cpu() for name, tensor in state.items() if belongs_to_value_model(name)}
        save_file(mine, folder / FILE)

    def load(self, folder: Path) -> None:
        """Take up what `save` wrote, exactly. Raises ConfigError where it is of another model."""
        path = folder / FILE
        if not path.is_file():
            raise ConfigError(f"{folder} holds no {FILE}: it is not a checkpoint of PPO")
        saved, wanted = load_file(path), self.named_parameters()
        differing = [
            name
            for name in sorted(saved.keys() | wanted.keys())
            if name not in saved or name not in wanted or saved[name].shape != wanted[name].shape
        ]
        if differing:
            raise ConfigError(f"{path} is of another model: {differing[0]} and {len(differing) - 1} more don't match")
        with torch.no_grad():
            for name, parameter in wanted.items():
                parameter.copy_(saved[name])

    def describe(self) -> str:
        """Its size, for the start of a run."""
        count = sum(p.numel() for p in self.named_parameters().values())
        return f"{count:,} parameters of the critic are trained, over the same base"


def belongs_to_value_model(name: str) -> bool:
    """Whether a parameter of a peft model is the critic's, by its name."""
    return _OWN.search(name) is not None
