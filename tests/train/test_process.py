"""An error that the user can fix ends a recipe with one line of its own."""

from __future__ import annotations

import sys

import pytest
from tqdm import tqdm

from rlcap.errors import ConfigError
from rlcap.train.process import run


def test_the_error_does_not_share_its_line_with_a_progress_bar(capsys):
    def main():
        bar = tqdm(total=10, file=sys.stderr, delay=0)
        bar.update(3)
        bar.refresh()
        raise ConfigError("the disk is full")

    with pytest.raises(SystemExit) as stopped:
        run(main)
    assert stopped.value.code == 1
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert "error: the disk is full" in lines
