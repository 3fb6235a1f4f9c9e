"""The start of a run says what bags there are."""

import pytest

from rlcap.curriculum import parse
from rlcap.train.session import describe_bags
from rlcap.types import Sample


def rows(*counts):
    return [Sample(str(i), f"{i}.png", distractors={"hard": tuple(map(str, range(n)))}) for i, n in enumerate(counts)]


@pytest.mark.parametrize(
    ("curriculum", "counts", "said"),
    [
        (5, (4, 4), "up to 4 look-alikes of level 'hard' beside an image's own"),
        ({0.0: 2, 0.5: 7}, (6, 4, 0), "up to 6 look-alikes of level 'hard' beside an image's own; 2 of 3 have fewer"),
        ({"sizes": [2, 3], "target": 0.5, "window": 2}, (2,), "up to 2 look-alikes"),
        ({"bag_size": 5, "level": "medium"}, (4,), "WARNING no training image has look-alikes of level 'medium'"),
        ({"bag_size": 9, "level": "random"}, (0,), "random images, up to 8"),
    ],
)
def test_bags_are_told(curriculum, counts, said):
    assert said in describe_bags(rows(*counts), parse(curriculum))
