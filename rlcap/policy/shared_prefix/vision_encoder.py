"""A frozen vision encoder before a trained projector: it runs once per image, and each pass replays its output.

    encoder = find_vision_encoder(vision_module)                          # the module that holds the vision side
    pixels, states = encode_frozen_vision(encoder, encode_image, pixels)  # `states`: the inputs of the projector
    with encoder.replay_states(states):
        model(**pixels, …)                                                # the model's forward with recorded states

Models accept no input between vision encoder and projector. So a module that returns the recorded states replaces the
vision encoder during a forward. Gradient checkpointing never runs this module again, since nothing in it has a
gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from rlcap.policy.frozen import is_frozen

NAMES = ("vision_tower", "vision_model", "image_encoder")
"""Names under which a module holds its vision encoder."""


class FrozenVisionEncoder(ABC):
    """The part of a model's vision side before its projector."""

    @abstractmethod
    def is_frozen(self) -> bool:
        """Return whether the output stays the same for the whole run."""

    @abstractmethod
    def record_states(self) -> AbstractContextManager[dict[Any, Any]]:
        """Record in this context the states that the projector reads, as `prompt.join_features` takes them."""

    @abstractmethod
    def replay_states(self, states: Mapping[Any, Any]) -> AbstractContextManager[None]:
        """Replay `states` as the output of the vision encoder, which does not run in this context."""


class VisionEncoderModule(FrozenVisionEncoder):
    """A vision encoder that is the module `name` of `owner`; the projector reads its last states or `layers`."""

    def __init__(self, owner: nn.Module, name: str, layers: Sequence[int] = ()) -> None:
        self.owner, self.name, self.layers = owner, name, layers

    def is_frozen(self) -> bool:
        """Return whether the module is frozen."""
        return is_frozen(getattr(self.owner, self.name))

    @contextmanager
    def record_states(self) -> Iterator[dict[str, Any]]:
        """Record the last states or the chosen hidden states, by the names of the module's output."""
        states: dict[str, Any] = {}

        def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
            hidden = {i: output.hidden_states[i] for i in self.layers} if output.hidden_states is not None else {}
            if hidden:
                states["hidden_states"] = hidden
            if not hidden or -1 in hidden:  # some families read the last states from here
                states["last_hidden_state"] = output.last_hidden_state

        handle = getattr(self.owner, self.name).register_forward_hook(record)
        try:
            yield states
        finally:
            handle.remove()

    @contextmanager
    def replay_states(self, states: Mapping[str, Any]) -> Iterator[None]:
        """Replace the module by one that returns the recorded output."""
        with swap_module(self.owner, self.name, ConstantModule(BaseModelOutputWithPooling(**states))):
            yield


class VisionEncoderBlocks(FrozenVisionEncoder):
    """A vision encoder made of patches and blocks inside a module that ends with the projector (`visual` of Qwen)."""

    def __init__(self, visual: Any) -> None:
        self.visual = visual
        last = len(self.visual.blocks) - 1
        self.recorded_blocks = sorted({*getattr(visual, "deepstack_visual_indexes", ()), last})

    def is_frozen(self) -> bool:
        """Return whether everything but the projector is frozen."""
        return is_frozen(self.visual, self.visual.merger, getattr(self.visual, "deepstack_merger_list", None))

    @contextmanager
    def record_states(self) -> Iterator[dict[int, torch.Tensor]]:
        """Record the states after each block that the projector reads, by the number of the block."""
        states: dict[int, torch.Tensor] = {}
        with ExitStack() as handles:
            for i in self.recorded_blocks:
                hook = self.visual.blocks[i].register_forward_hook(lambda *call, i=i: states.update({i: call[-1]}))
                handles.callback(hook.remove)
            yield states

    @contextmanager
    def replay_states(self, states: Mapping[int, torch.Tensor]) -> Iterator[None]:
        """Replace patches and blocks by modules that return the recorded states."""
        # a block whose output nothing reads only has to pass on patches of the right shape
        patches = ConstantModule(states[self.recorded_blocks[-1]])
        blocks = nn.ModuleList(ConstantModule(states.get(i)) for i in range(len(self.visual.blocks)))
        with swap_module(self.visual, "patch_embed", patches), swap_module(self.visual, "blocks", blocks):
            yield


class ConstantModule(nn.Module):
    """A module that returns `output` for any input, or its first input where `output` is None."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, *inputs: Any, **_: Any) -> Any:
        """Return the constant output, or the first input."""
        return inputs[0] if self.output is None else self.output


@contextmanager
def swap_module(owner: nn.Module, name: str, module: nn.Module) -> Iterator[None]:
    """Inside this context, `module` replaces the attribute `name` of `owner`."""
    original = getattr(owner, name)
    setattr(owner, name, module)
    try:
        yield
    finally:
        setattr(owner, name, original)


def find_vision_encoder(vision_module: Any) -> FrozenVisionEncoder | None:
    """Return the vision encoder of the module that holds the vision side; None where no known name exists."""
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
    encode_image: Callable[[dict[str, torch.Tensor]], Any],
    pixels: dict[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], Any]:
    """Run a frozen vision encoder on pixels, and return what the prompt keeps of its images.

    Args:
        vision_encoder: the vision encoder; None where the model has no known one.
        encode_image: runs the vision side on pixels.
        pixels: the processor's image tensors of one prompt.

    Returns:
        (pixels, states). The states are None where the vision encoder is trained or unknown and has to run in each
        pass. Otherwise only the shape of the pixels remains, since models count images by it. The filler is not zero,
        because models treat images of zeros as padding.
    """
    if vision_encoder is None or not vision_encoder.is_frozen():
        return pixels, None
    with torch.no_grad(), vision_encoder.record_states() as states:
        encode_image(pixels)
    shapes = {n: v.new_ones(()).expand(v.shape) if v.is_floating_point() else v for n, v in pixels.items()}
    return shapes, states


def replay_frozen_vision(vision_encoder: FrozenVisionEncoder | None, states: Any) -> AbstractContextManager[None]:
    """Replay states from `encode_frozen_vision` in this context; where they are None, change nothing."""
    if states is None:
        return nullcontext()
    assert vision_encoder is not None  # only a known vision encoder records states
    return vision_encoder.replay_states(states)
