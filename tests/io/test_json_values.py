"""NaN becomes null wherever it stands, and nothing else changes."""

import json
import math

import pytest

from rlcap.eval.statistics import Interval
from rlcap.io.atomic import write_json
from rlcap.io.json_values import nan_to_null


def test_nan_becomes_null_at_any_depth():
    value = {"a": [math.nan, 1.5, (2, math.nan)], "b": {"c": math.nan, "d": "nan"}, "e": None}
    assert nan_to_null(value) == {"a": [None, 1.5, [2, None]], "b": {"c": None, "d": "nan"}, "e": None}
    assert nan_to_null(Interval(0.5, math.nan, 1.0, None, 3)) == {"mean": 0.5, "low": None, "high": 1.0, "df": None, "clusters": 3}  # fmt: skip


def test_an_infinite_number_is_not_hidden():
    with pytest.raises(ValueError, match="not JSON compliant"):
        json.dumps(nan_to_null([math.inf]), allow_nan=False)


def test_every_json_file_is_json(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1.0, math.nan]}, indent=1)
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail) == {"a": [1.0, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", math.inf)
    assert not (tmp_path / "b.json").exists()
