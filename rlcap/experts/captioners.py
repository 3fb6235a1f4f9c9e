"""Captions of whole images and of boxes, by any captioner that rlcap trains or loads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from rlcap.experts.base import Expert, ExpertInput, Statement, crop
from rlcap.io.addresses import resolve_address
from rlcap.judge.image_crops import window_boxes
from rlcap.types import says_something

if TYPE_CHECKING:
    from rlcap.eval.pretrained import PretrainedCaptioner


class CaptionerExpert(Expert):
    """What captions of images and of boxes have in common: a captioner that is loaded at the first image.

    Args:
        model: A run folder, or the folder, hub name or address of an image-text-to-text model.
        adapter: Folder, hub name or address of a LoRA adapter for the model; None for a run folder.
        instruction: What the captioner is asked; None for the run's own.
        max_new_tokens: Longest caption in tokens; None for the run's own.
        batch_size: Pictures that are captioned at once.
        device: Where the model runs; None for a GPU if there is one.
    """

    def __init__(
        self,
        model: str,
        adapter: str | None = None,
        instruction: str | None = None,
        max_new_tokens: int | None = None,
        batch_size: int = 16,
        device: str | None = None,
    ) -> None:
        self.model, self.adapter, self.instruction = model, adapter, instruction
        self.max_new_tokens, self.batch_size, self.device = max_new_tokens, batch_size, device
        self._captioner: PretrainedCaptioner | None = None

    def files(self) -> Sequence[str]:
        """Return the folders of the model and of its adapter."""
        return tuple(resolve_address(name) for name in (self.model, self.adapter) if name)

    def _caption(self, pictures: Sequence[Image.Image]) -> list[str]:
        """Return the greedy captions of N pictures."""
        import torch

        if self._captioner is None:
            from rlcap.eval.pretrained import load_captioner

            self._captioner = load_captioner(
                self.model,
                self.adapter,
                instruction=self.instruction,
                max_new_tokens=self.max_new_tokens,
                device=self.device,
            )
        captioner, asked = self._captioner.policy.captioner, self._captioner
        (instruction,) = captioner.instruct(asked.instruction, [asked.control])
        captions: list[str] = []
        for start in range(0, len(pictures), self.batch_size):
            with torch.no_grad():
                prompts = captioner.prepare(pictures[start : start + self.batch_size], instruction)
                written = captioner.generate(prompts, 1, max_new_tokens=asked.max_new_tokens, temperature=0)
            captions += captioner.decode(written.ids)
        return captions


class Captioner(CaptionerExpert):
    """Captions whole images."""

    def describe(self, inputs: Sequence[ExpertInput]) -> list[list[Statement]]:
        """Return one caption for each image, none where the captioner says nothing."""
        captions = self._caption([one.open() for one in inputs])
        return [[Statement(text, "caption")] if says_something(text) else [] for text in captions]


class RegionCaptions(CaptionerExpert):
    """Captions boxes: those that a detector found, or sliding windows.

    Args:
        model: As for `CaptionerExpert`.
        adapter: As for `CaptionerExpert`.
        instruction: As for `CaptionerExpert`.
        max_new_tokens: As for `CaptionerExpert`.
        batch_size: As for `CaptionerExpert`.
        device: As for `CaptionerExpert`.
        boxes: Detected boxes of an image, at most, the surest first.
        windows: Sliding windows a side beside the boxes: 2 makes four of them, 0 none.
    """

    reads_known = True

    def __init__(
        self,
        model: str,
        adapter: str | None = None,
        instruction: str | None = None,
        max_new_tokens: int | None = None,
        batch_size: int = 16,
        device: str | None = None,
        boxes: int = 6,
        windows: int = 0,
    ) -> None:
        super().__init__(model, adapter, instruction, max_new_tokens, batch_size, device)
        self.boxes, self.windows = boxes, windows

    def describe(self, inputs: Sequence[ExpertInput]) -> list[list[Statement]]:
        """Return a caption for each box of each image."""
        found = [[box for box, _ in one.boxes(self.boxes)] + window_boxes(self.windows) for one in inputs]
        pictures = []
        for one, boxes in zip(inputs, found, strict=True):
            image = one.open() if boxes else None
            pictures += [crop(image, box) for box in boxes if image is not None]
        captions = iter(self._caption(pictures) if pictures else ())
        return [
            [Statement(text, "region", box=box) for box in boxes if says_something(text := next(captions))]
            for boxes in found
        ]
