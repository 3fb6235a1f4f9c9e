"""Object detection by any detection model of transformers, with fixed classes or by names that the preset gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlcap.errors import ConfigError
from rlcap.experts.base import Expert, ExpertInput, Statement
from rlcap.io.addresses import resolve_address
from rlcap.judge.image_crops import Box
from rlcap.scorers.loading import explain_load_errors

FIX = "give the folder or hub name of an object-detection model, such as facebook/detr-resnet-50"


class Detector(Expert):
    """Finds objects with boxes.

    Args:
        model: Folder or hub name of an `AutoModelForObjectDetection`, or, with `labels`, of an
            `AutoModelForZeroShotObjectDetection` such as google/owlv2-base-patch16-ensemble.
        labels: Names of the objects that a zero-shot model looks for; None for a model with classes of its own.
        threshold: The lowest score of a box, in [0, 1].
        device: Where the model runs.
    """

    def __init__(
        self, model: str, labels: Sequence[str] | None = None, threshold: float = 0.5, device: str = "cpu"
    ) -> None:
        if labels is not None and not labels:
            raise ConfigError("labels is empty: name objects, or leave labels out for a model with classes of its own")
        self.model, self.labels, self.threshold, self.device = model, labels, threshold, device
        self._loaded: tuple[Any, Any] | None = None

    def files(self) -> Sequence[str]:
        """Return the folder of the model."""
        return (resolve_address(self.model),)

    def describe(self, inputs: Sequence[ExpertInput]) -> list[list[Statement]]:
        """Return an object statement for each box, the surest first."""
        import torch

        model, processor = self._load()
        images = [one.open() for one in inputs]
        texts: dict[str, Any] = {} if self.labels is None else {"text": [list(self.labels)] * len(images)}
        padding = {} if self.labels is None else {"padding": True}
        batch = processor(images=images, return_tensors="pt", **texts, **padding).to(self.device)
        with torch.inference_mode():
            output = model(**batch)
        sizes = [(image.height, image.width) for image in images]
        if self.labels is None:
            found = processor.post_process_object_detection(output, threshold=self.threshold, target_sizes=sizes)
            names = [[model.config.id2label[int(i)] for i in one["labels"]] for one in found]
        else:
            found = processor.post_process_grounded_object_detection(
                output, threshold=self.threshold, target_sizes=sizes, text_labels=texts["text"]
            )
            names = [list(one["text_labels"]) for one in found]
        return [
            _statements(one, row, size)
            for one, row, size in zip(found, names, sizes, strict=True)
        ]  # fmt: skip

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import (
                AutoImageProcessor,
                AutoModelForObjectDetection,
                AutoModelForZeroShotObjectDetection,
                AutoProcessor,
            )

            folder = resolve_address(self.model)
            kind: Any = AutoModelForObjectDetection if self.labels is None else AutoModelForZeroShotObjectDetection
            reader: Any = AutoImageProcessor if self.labels is None else AutoProcessor
            with explain_load_errors("detector", self.model, FIX):
                model = kind.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
                processor = reader.from_pretrained(folder, trust_remote_code=False)
            self._loaded = model.to(self.device).eval().requires_grad_(False), processor
        return self._loaded


def _statements(found: Any, names: Sequence[str], size: tuple[int, int]) -> list[Statement]:
    """Return the statements of one image; `size` is its (height, width) in pixels."""
    height, width = size
    statements = []
    for score, name, (left, top, right, bottom) in zip(
        found["scores"].tolist(), names, found["boxes"].tolist(), strict=True
    ):
        sides = (left / width, top / height, right / width, bottom / height)
        box = Box(*(min(max(side, 0.0), 1.0) for side in sides))
        if box.left < box.right and box.top < box.bottom and name:
            statements.append(Statement(name, "object", score=score, box=box))
    return sorted(statements, key=lambda one: -(one.score or 0.0))
