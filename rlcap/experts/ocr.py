"""Text that is written in the image, read by RapidOCR, whose package brings the weights of PP-OCR."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlcap.errors import ConfigError
from rlcap.experts.base import Expert, ExpertInput, Statement
from rlcap.judge.image_crops import Box
from rlcap.types import says_something


class OCR(Expert):
    """Reads written text with RapidOCR (`pip install "rlcap[ocr]"`).

    Args:
        threshold: The lowest confidence of a line, in [0, 1].
        most: Lines of an image, at most, the surest first.

    Raises:
        ConfigError: The package is not installed.
    """

    def __init__(self, threshold: float = 0.7, most: int = 12) -> None:
        if importlib.util.find_spec("rapidocr_onnxruntime") is None:
            raise ConfigError('the expert ocr needs rapidocr-onnxruntime: pip install "rlcap[ocr]"')
        self.threshold, self.most = threshold, most
        self._engine: Any = None

    def describe(self, inputs: Sequence[ExpertInput]) -> list[list[Statement]]:
        """Return the lines of each image with their boxes."""
        if self._engine is None:
            from rapidocr_onnxruntime import RapidOCR

            self._engine = RapidOCR()
        return [self._read(one) for one in inputs]

    def _read(self, one: ExpertInput) -> list[Statement]:
        pixels = np.asarray(one.open())[:, :, ::-1]  # RapidOCR reads BGR, as OpenCV does
        height, width = pixels.shape[:2]
        lines, _seconds = self._engine(np.ascontiguousarray(pixels))
        statements = []
        for corners, text, score in lines or ():
            if float(score) < self.threshold or not says_something(text):
                continue
            x, y = np.clip(np.asarray(corners, dtype=float).T / [[width], [height]], 0, 1)
            box = Box(float(x.min()), float(y.min()), float(x.max()), float(y.max()))
            statements.append(Statement(text, "text", score=float(score), box=box))
        return sorted(statements, key=lambda line: -(line.score or 0.0))[: self.most]
