"""Values for JSON, which has no NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def nan_to_null(value: Any) -> Any:
    """Return a value with None in place of each NaN in it; named tuples become mappings, and other tuples lists.

    An infinite number stays as it is: it is a mistake, which `json.dumps(…, allow_nan=False)` reports.
    """
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {key: nan_to_null(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_null(inner) for inner in value]
    return value
