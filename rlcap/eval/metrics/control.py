"""Metrics of obedience: does a caption have the length and the format that its row asks for?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlcap.scorers.text.lengths import BANDS
from rlcap.scorers.text.ngrams import tokenize
from rlcap.types import Sample


def control_metrics(captions: Sequence[str], samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Return the metrics of N captions of the first N samples, each (N,), without those that no row asks for.

    * `length_error`: |words − requested words| / requested words; NaN for a row that requests no length.
    * `in_format`: 1 where the words of the caption lie in the band of the requested format, else 0; NaN for a row that requests no
      format, or AFC, which has no band.
    """
    error, in_format = np.full(len(captions), np.nan), np.full(len(captions), np.nan)
    for i, (caption, sample) in enumerate(
        zip(captions, samples, strict=False)
    ):  # a limit leaves samples without a caption
        words, control = len(tokenize(caption)), sample.control
        if control.length is not None:
            error[i] = abs(words - control.length) / control.length
        if control.format in BANDS:
            low, high = BANDS[control.format]
            in_format[i] = float(low <= words <= high)
    metrics = {"length_error": error, "in_format": in_format}
    return {name: values for name, values in metrics.items() if not np.isnan(values).all()}
