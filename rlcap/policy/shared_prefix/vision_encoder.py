"""A frozen vision tower before a trained projector: run once an image, and what it gave is read anew by each pass.

    tower = tower_of(seer)                   # `vision_module`: the module that has the vision side
    pixels, seen = see(tower, look, pixels)  # `seen` holds what the projector reads, and nothing else
    with tower.answering(seen):
        model(**pixels, …)                   # the model's own forward, but for the tower, which gives `seen`

Models have no way in for what lies between tower and projector. So the tower is taken out for the time of a forward, and
a module that answers stands in its place. Gradient checkpointing never asks it again: nothing in it has a gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from rlcap.policy.frozen import is_frozen

NAMES = ("vision_tower", "vision_model", "image_encoder")
"""What the tower is called by the module that has it."""


class FrozenVisionEncoder(ABC):
    """The part of a model's vision side that comes before its projector."""

    @abstractmethod
    def is_frozen(self) -> bool:
        """Whether what it gives stays the same for the whole run."""

    @abstractmethod
    def record_states(self) -> Iterator[dict[Any, Any]]:
        """Context: a dictionary that a forward within fills with what the projector reads, as `prompt.join_features` takes it."""

    @abstractmethod
    def replay_states(self, seen: Mapping[Any, Any]) -> Iterator[None]:
        """Context: forwards within get `seen` from the tower, which does not run."""


class VisionEncoderModule(FrozenVisionEncoder):
    """A module of its own, `name` of `owner`; the projector reads its last states, or those of the hidden `layers`."""

    def __init__(self, owner: nn.Module, name: str, layers: Sequence[int] = ()) -> None:
        self.owner, self.name, self.layers = owner, name, layers

    def is_frozen(self) -> bool:
        return is_frozen(getattr(self.owner, self.name))

    @contextmanager
    def record_states(self) -> Iterator[dict[str, Any]]:
        seen: dict[str, Any] = {}

        def keep(_module: nn.Module, _inputs: Any, found: Any) -> None:
            hidden = {i: found.hidden_states[i] for i in self.layers} if found.hidden_states is not None else {}
            if hidden:
                seen["hidden_states"] = hidden
            if not hidden or -1 in hidden:  # some families take the last one from here
                seen["last_hidden_state"] = found.last_hidden_state

        handle = getattr(self.owner, self.name).register_forward_hook(keep)
        try:
            yield seen
        finally:
            handle.remove()

    @contextmanager
    def replay_states(self, seen: Mapping[str, Any]) -> Iterator[None]:
        with swap_module(self.owner, self.name, ConstantModule(BaseModelOutputWithPooling(**seen))):
            yield


class VisionEncoderBlocks(FrozenVisionEncoder):
    """Patches and blocks inside a module whose forward ends with the projector (`visual` of the Qwen models)."""

    def __init__(self, visual: nn.Module) -> None:
        self.visual = visual
        last = len(visual.blocks) - 1
        self.read = sorted({*getattr(visual, "deepstack_visual_indexes", ()), last})

    def is_frozen(self) -> bool:
        return is_frozen(self.visual, self.visual.merger, getattr(self.visual, "deepstack_merger_list", None))

    @contextmanager
    def record_states(self) -> Iterator[dict[int, torch.Tensor]]:
        seen: dict[int, torch.Tensor] = {}
        with ExitStack() as handles:
            for i in self.read:
                keep = self.visual.blocks[i].register_forward_hook(lambda *call, i=i: seen.update({i: call[-1]}))
                handles.callback(keep.remove)
            yield seen

    @contextmanager
    def replay_states(self, seen: Mapping[int, torch.Tensor]) -> Iterator[None]:
        # patches of the right shape are all that a block which nothing reads has to give on
        patches = ConstantModule(seen[self.read[-1]])
        blocks = nn.ModuleList(ConstantModule(seen.get(i)) for i in range(len(self.visual.blocks)))
        with swap_module(self.visual, "patch_embed", patches), swap_module(self.visual, "blocks", blocks):
            yield


class ConstantModule(nn.Module):
    """Gives `answer` whatever it is asked, or what it was given where that is None."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *inputs: Any, **_: Any) -> Any:
        return inputs[0] if self.answer is None else self.answer


@contextmanager
def swap_module(owner: nn.Module, name: str, module: nn.Module) -> Iterator[None]:
    """Within, `module` is `name` of `owner`."""
    own = getattr(owner, name)
    setattr(owner, name, module)
    try:
        yield
    finally:
        setattr(owner, name, own)


def find_vision_encoder(vision_module: nn.Module) -> FrozenVisionEncoder | None:
    """The tower in the module that has the vision side; None where there is none under a known name."""
    if hasattr(vision_module, "visual"):
        return VisionEncoderBlocks(vision_module.visual)
    name = next((name for name in NAMES if hasattr(vision_module, name)), None)
    if name is None:
        return None
    layers = getattr(vision_module.config, "vision_feature_layer", None)
    layers = () if layers is None else layers
    return VisionEncoderModule(vision_module, name, (layers,) if isinstance(layers, int) else tuple(layers))


def encode_frozen_vision(
    vision_encoder: FrozenVisionEncoder | None,
    look: Callable[[dict[str, torch.Tensor]], Any],
    pixels: dict[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], Any]:
    """What a prompt keeps of its images: (pixels, what the tower gave). `look` runs the vision side on pixels.

    (pixels, None) where the tower is trained, or not known, and has to run in each pass. Else only the shape is left of the
    pixels, since models count images by it; no zeros, as an image of zeros would count as padding.
    """
    if vision_encoder is None or not vision_encoder.is_frozen():
        return pixels, None
    with torch.no_grad(), vision_encoder.record_states() as seen:
        look(pixels)
    shapes = {n: v.new_ones(()).expand(v.shape) if v.is_floating_point() else v for n, v in pixels.items()}
    return shapes, seen
