"""`rlcap rewards new NAME`: a reward of your own, to fill in: its file with a card, and its test.

What it writes works as it stands: it measures the mean length of the words, which nobody wants.
"""

from __future__ import annotations

import importlib.util
import keyword
from collections.abc import Sequence
from pathlib import Path
from string import Template

from rlcap.errors import ConfigError

REWARD = Template('''\
"""$title: how long are the caption's words, in the mean?

measures  r = mean number of characters of a word, 10 at most
range     [0, 10]
needs     nothing
cost      none
source    your own
hack      long words, whatever they mean
guards    a reward that looks at the image
fails     none; not measured yet: rlcap probe $module:$title
"""

from __future__ import annotations

from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.text.ngrams import tokenize
from rlcap.types import RewardBatch, Score


class $title(Reward):
    """One score a caption, in the batch's order. It depends on its own row alone; what can't be judged abstains."""

    name, range, needs, version = "$name", (0.0, 10.0), frozenset(), "1"

    def score(self, batch: RewardBatch) -> RewardOutput:
        return RewardOutput([self._one(caption) for caption in batch.captions])

    def _one(self, caption: str) -> Score:
        words = tokenize(caption)
        if not words:
            return Score(0.0)  # silence is the worst caption, not one that can't be judged
        return Score(min(10.0, sum(map(len, words)) / len(words)))
''')

TEST = Template('''\
"""$title: golden values, and what every reward owes its callers."""

import pytest

from $module import $title
from rlcap.types import RewardBatch, Sample

CAPTIONS = ["A dog sleeps.", "", "x" * 10_000, "Größe 猫 🐕 \\u202e", "...!"]


def judge(captions):
    return $title().score(RewardBatch(captions, [Sample("a", "")] * len(captions), [()] * len(captions)))


def test_golden():
    assert judge(["A dog sleeps."])[0].value == pytest.approx((1 + 3 + 6) / 3)


def test_hostile_captions_have_values_in_the_range():
    low, high = $title.range
    for score in judge(CAPTIONS):
        assert score.abstained or low <= score.value <= high


def test_order_and_company_change_nothing():
    together = judge(CAPTIONS)
    assert judge(CAPTIONS[::-1])[::-1] == list(together)
    assert [judge([caption])[0] for caption in CAPTIONS] == list(together)


def test_called_as_trl_calls_it():
    values = $title()(prompts=["Describe."] * 2, completions=["A dog sleeps.", "Cats."], sample_id=["a", "b"])
    assert len(values) == 2
''')


def write(names: Sequence[str], folder: Path) -> list[Path]:
    """`rewards/NAME.py` and `tests/rewards/test_NAME.py` where `folder` holds the package `rewards`, or NAME.py and
    test_NAME.py in it; the paths.

    Raises ConfigError for anything but one name that can be a module's, and where one of the files exists.
    """
    if len(names) != 1:
        raise ConfigError(f"rlcap rewards new NAME: one name, got {len(names)}")
    (name,) = names
    if not name.isidentifier() or name != name.lower() or keyword.iskeyword(name) or name.startswith("_"):
        raise ConfigError(f"{name!r} can't be a reward's name: small letters, digits and _, as in a_good_name")
    title = "".join(part.capitalize() for part in name.split("_"))
    inside = is_package(folder / "rewards")
    made = {
        folder / ("rewards" if inside else "") / f"{name}.py": REWARD,
        folder / ("tests/rewards" if inside else "") / f"test_{name}.py": TEST,
    }
    module = f"rlcap.rewards.{name}" if inside else name
    for path in made:
        if path.exists():
            raise ConfigError(f"{path} exists: choose another name")
    for path, template in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(template.substitute(name=name, title=title, module=module), encoding="utf-8")
    return list(made)


def is_package(folder: Path) -> bool:
    """Whether `folder` is where Python finds the package `rewards`."""
    spec = importlib.util.find_spec("rlcap.rewards")
    return spec is not None and folder.resolve() in map(Path.resolve, map(Path, spec.submodule_search_locations or ()))
