"""The value model of PPO: it predicts the reward still to come, before each token of a caption.

    value_model = ValueModel.attach(model, captioner)           # model: a captioner in peft
    values = value_model.values(captioner, prompts, ids, mask)  # (N, C), with gradient

The value model consists of a second adapter over the policy's frozen base and one linear layer. The adapter has the
same shape as the policy's adapter and starts as a copy of it. The linear layer reads the states from which the base's
last layer computes logits. The base, the vision features and the pass over image and instruction are shared as they are
for the policy, so that the value model needs little extra memory.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn

from rlcap.errors import ConfigError
from rlcap.policy.adapters import using_adapter
from rlcap.policy.captioner import Captioner
from rlcap.policy.prompt import Prompt
from rlcap.policy.shared_prefix.checkpointing import recompute_within

ADAPTER, HEAD = "value_model", "value_head"
"""Names of the adapter and of the linear layer, which is a module of the peft model.

The adapter is not called `value`, because many models have modules of that name, which would be mistaken for the
adapter.
"""
FILE = "value_model.safetensors"
"""Name of the file that `ValueModel.save` writes."""
_OWN = re.compile(rf"(^|\.)({ADAPTER}(\.|$)|{HEAD}\.)")


class ValueModel:
    """The value head and adapter of `model`; `ValueModel.attach` creates them."""

    def __init__(self, model: PeftModel) -> None:
        self.model = model

    @classmethod
    def attach(cls, model: nn.Module, captioner: Captioner) -> ValueModel:
        """Add a value model to `model`: a copy of its adapter `default`, and a head that predicts 0 everywhere.

        Raises:
            ConfigError: the model is not in peft (`trainable: full`), or already has a value model.
        """
        if not isinstance(model, PeftModel):
            raise ConfigError(
                "PPO's value model is an adapter over a frozen base, and model.trainable=full freezes nothing; "
                "choose lora-language, lora-all or projector, or use GRPO, which needs no value model"
            )
        if ADAPTER in model.peft_config:
            raise ConfigError(f"the model already has an adapter called {ADAPTER!r}, the name of PPO's value model")
        config: Any = copy.copy(model.peft_config["default"])
        config.inference_mode, config.init_lora_weights = False, True  # other initialisations would change the base
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
        """The linear layer from states (…, D) to values (…, 1)."""
        return getattr(self.model, HEAD)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters of the value model by their names in the peft model."""
        return {name: p for name, p in self.model.named_parameters() if belongs_to_value_model(name)}

    def require_grad(self) -> None:
        """Make the parameters trainable: peft freezes inactive adapters whenever one is added, loaded or set."""
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
        """Compute the expected reward before each token, with gradient to the value model alone.

        Args:
            captioner: a captioner of the same model, wrapped or not.
            prompts: as for `Captioner.log_probs`.
            ids: as for `Captioner.log_probs`.
            mask: as for `Captioner.log_probs`.
            shared: as for `Captioner.log_probs`.

        Returns:
            (N, C) float32, 0 where the mask is 0.
        """
        use_value_adapter = partial(using_adapter, name=ADAPTER)
        with use_value_adapter(captioner.base), recompute_within(captioner.base, use_value_adapter):
            states = captioner.states(prompts, ids, shared=shared)
        with torch.autocast(states.device.type, enabled=False):
            values = self.head(states.to(self.head.weight.dtype))[..., 0]
        return values.float().masked_fill(mask == 0, 0.0)

    def save(self, folder: Path, state: Mapping[str, torch.Tensor] | None = None) -> None:
        """Write adapter and head to `folder`.

        Args:
            folder: an existing folder.
            state: the state dict of the whole model, where its weights are sharded over processes; by default the
                model's own.
        """
        state = self.model.state_dict() if state is None else state
        own_state = {name: tensor.contiguous().cpu() for name, tensor in state.items() if belongs_to_value_model(name)}
        save_file(own_state, folder / FILE)

    def load(self, folder: Path) -> None:
        """Restore exactly what `save` wrote.

        Raises:
            ConfigError: the folder holds no value model, or one of another model.
        """
        path = folder / FILE
        if not path.is_file():
            raise ConfigError(f"{folder} holds no {FILE}: it is not a PPO checkpoint")
        saved, expected = load_file(path), self.named_parameters()
        differing = [
            name
            for name in sorted(saved.keys() | expected.keys())
            if name not in saved or name not in expected or saved[name].shape != expected[name].shape
        ]
        if differing:
            raise ConfigError(
                f"{path} belongs to another model: {differing[0]} and {len(differing) - 1} more parameters don't match"
            )
        with torch.no_grad():
            for name, parameter in expected.items():
                parameter.copy_(saved[name])

    def describe(self) -> str:
        """Describe the size of the value model in one line, for the start of a run."""
        count = sum(p.numel() for p in self.named_parameters().values())
        return f"{count:,} parameters of the value model are trained, over the same base"


def belongs_to_value_model(name: str) -> bool:
    """Return whether the parameter `name` of a peft model belongs to the value model."""
    return _OWN.search(name) is not None
