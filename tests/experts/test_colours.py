"""The colour namer: names of pure and of mixed colours, and the colours of boxes."""

import numpy as np
import pytest
from PIL import Image

from rlcap.experts.base import ExpertInput, Statement
from rlcap.experts.colour_names import name_colours, to_lab
from rlcap.experts.colours import Colours
from rlcap.judge.image_crops import Box
from rlcap.types import Sample


def test_cielab_of_known_colours():
    # values of CIE 1976 under D65, to two decimals, as colour converters give them
    assert to_lab(np.array([255, 255, 255])) == pytest.approx([100, 0, 0], abs=0.02)
    assert to_lab(np.array([255, 0, 0])) == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    assert to_lab(np.array([0, 0, 255])) == pytest.approx([32.30, 79.19, -107.86], abs=0.05)


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((250, 250, 250), "white"), ((10, 10, 10), "black"), ((120, 125, 122), "grey"), ((200, 20, 20), "red"),
        ((20, 160, 40), "green"), ((85, 107, 47), "green"), ((30, 60, 200), "blue"), ((120, 190, 235), "blue"),
        ((250, 220, 30), "yellow"), ((250, 130, 10), "orange"), ((101, 67, 33), "brown"), ((255, 160, 190), "pink"),
        ((120, 30, 150), "purple"),
    ],
)  # fmt: skip
def test_names_of_colours(rgb, name):
    assert name_colours(np.array([rgb]))[0] == (name, 1.0)


def test_shares_add_up():
    pixels = np.array([[255, 0, 0]] * 3 + [[255, 255, 255]])
    assert name_colours(pixels) == [("red", 0.75), ("white", 0.25)]


def picture(path):
    """The left half is a red thing with a green rim, the right half is blue above and white below."""
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[:, :50] = (0, 128, 0)
    pixels[8:92, 8:42] = (220, 20, 20)
    pixels[:55, 50:] = (20, 40, 200)
    pixels[55:, 50:] = 255
    Image.fromarray(pixels).save(path)
    return str(path)


def test_the_middle_of_each_box_is_named(tmp_path):
    known = (
        Statement("ball", "object", "d", 0.9, Box(0, 0, 0.5, 1)),
        Statement("flag", "object", "d", 0.8, Box(0.5, 0, 1, 1)),
        Statement("thing", "object", "d", 0.7),  # without a box
        Statement("region", "region", "r", 0.9, Box(0, 0, 0.5, 1)),
    )
    sample = Sample("a", picture(tmp_path / "a.png"))
    (found,) = Colours().describe([ExpertInput(sample, known)])
    assert [one.text for one in found] == ["red ball", "blue and white flag"]
    assert found[0].box == known[0].box
    assert found[0].kind == "attribute"
    assert found[0].score == pytest.approx(1.0, abs=0.01)
    assert Colours(boxes=1).describe([ExpertInput(sample, known), ExpertInput(sample)])[1] == []
