"""The table of benchmarks/families.py names tests that exist; a renamed test would show as absent there."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from families import COLUMNS, FILES, ROOT


def test_every_column_names_existing_tests():
    defined = {
        name for file in FILES for name in re.findall(r"^def (test_\w+)", (ROOT / file).read_text(), re.MULTILINE)
    }
    named = {name.partition("-")[0] for names in COLUMNS.values() for name in names}
    assert named <= defined
