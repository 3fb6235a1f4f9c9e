"""`rlcap rewards new NAME`: write a file with a reward and its card, and a test, for you to fill in.

The written reward works as it is: it measures the mean length of the words, which nobody wants.
"""

from __future__ import annotations

import importlib.util
import keyword
from collections.abc import Sequence
from pathlib import Path
from string import Template

from rlcap.errors import ConfigError

REWARD = Template('''\
"""$title: how long are the caption's words on average?

measures  r = mean number of characters per word, at most 10
range     [0, 10]
needs     nothing
cost      none
source    your own
hack      long words, whatever they mean
guards    a reward that looks at the image
fails     not measured; run rlcap probe $target
"""

from __future__ import annotations

from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.text.ngrams import tokenize
from rlcap.types import RewardBatch, Score


class $title(Reward):
    """The mean length of a caption's words.

    A score depends on its own row alone. A caption that can't be judged abstains.
    """

    name, range, needs, version = "$name", (0.0, 10.0), frozenset(), "1"

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions, in the batch's order."""
        return RewardOutput([self._one(caption) for caption in batch.captions])

    def _one(self, caption: str) -> Score:
        words = tokenize(caption)
        if not words:
            return Score(0.0)  # the empty caption is the worst one; it does not abstain
        # spans=(Span(start, end, value, "label"), ...) would say which words are good or bad, for train.credit=claim
        return Score(min(10.0, sum(map(len, words)) / len(words)))
''')

TEST = Template('''\
"""$title: golden values, and what every reward must do."""

import pytest

from $module import $title
from rlcap.types import RewardBatch, Sample

CAPTIONS = ["A dog sleeps.", "", "x" * 10_000, "Größe 猫 🐕 \\u202e", "...!"]


def judge(captions):
    return $title().score(RewardBatch(captions, [Sample("a", "")] * len(captions), [()] * len(captions)))


def test_golden():
    assert judge(["A dog sleeps."])[0].value == pytest.approx((1 + 3 + 6) / 3)


def test_hostile_captions_have_values_in_range():
    low, high = $title.range
    for score in judge(CAPTIONS):
        assert score.abstained or low <= score.value <= high


def test_a_score_depends_on_its_row_alone():
    together = judge(CAPTIONS)
    assert judge(CAPTIONS[::-1])[::-1] == list(together)
    assert [judge([caption])[0] for caption in CAPTIONS] == list(together)


def test_trl_can_call_the_reward():
    values = $title()(prompts=["Describe."] * 2, completions=["A dog sleeps.", "Cats."], sample_id=["a", "b"])
    assert len(values) == 2
''')


def write(names: Sequence[str], folder: Path) -> list[Path]:
    """Write a reward and its test.

    Args:
        names: the reward's name, one word that can be a module's name.
        folder: where this holds the package `rewards`, the files are `rewards/NAME.py` and
            `tests/rewards/test_NAME.py`; otherwise they are NAME.py and test_NAME.py in it.

    Returns:
        The paths of both files.

    Raises:
        ConfigError: for anything but one valid name, and where one of the files exists.
    """
    if len(names) != 1:
        raise ConfigError(f"rlcap rewards new NAME needs one name, got {len(names)}")
    (name,) = names
    if not name.isidentifier() or name != name.lower() or keyword.iskeyword(name) or name.startswith("_"):
        raise ConfigError(f"{name!r} can't be a reward's name: use small letters, digits and _, as in a_good_name")
    title = _class_name(name)
    is_inside = is_package(folder / "rewards")
    if not is_inside and (folder / "rewards").is_dir():  # a project of `rlcap init`
        folder = folder / "rewards"
    templates = {
        folder / ("rewards" if is_inside else "") / f"{name}.py": REWARD,
        folder / ("tests/rewards" if is_inside else "") / f"test_{name}.py": TEST,
    }
    module = f"rlcap.rewards.{name}" if is_inside else name
    target = f"{module}:{title}" if is_inside else f"{name}.py:{title}"
    for path in templates:
        if path.exists():
            raise ConfigError(f"{path} exists: choose another name")
    for path, template in templates.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(template.substitute(name=name, title=title, module=module, target=target), encoding="utf-8")
    return list(templates)


def next_steps(reward: Path, test: Path) -> str:
    """Return the commands that follow `write`, ready to be copied.

    Args:
        reward: path of the reward's file.
        test: path of its test.
    """
    name, title = reward.stem, _class_name(reward.stem)
    is_inside = is_package(reward.parent)
    target = f"rlcap.rewards.{name}:{title}" if is_inside else f"{reward}:{title}"
    commands = {
        f"pytest {test}": "run its test",
        f"rlcap rewards {name if is_inside else reward}": "check its card",
        f"rlcap probe {target}": "see which worse captions it prefers",
        f"rlcap train grpo 'mix.{name}={{reward: \"{target}\", weight: 0.5}}'": "add it to the lab's mix and train",
    }
    width = max(map(len, commands))
    lines = ["next:", *(f"  {command:<{width}}  # {what}" for command, what in commands.items())]
    lines += ["in YAML:", "  mix:", f'    {name}: {{reward: "{target}", weight: 0.5}}']
    if is_inside:
        lines.append(
            "for the repository: add a line to MADE in tests/rewards/test_contract.py, and see CONTRIBUTING.md"
        )
    return "\n".join(lines)


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def is_package(folder: Path) -> bool:
    """Return whether `folder` is where Python finds the package `rewards`."""
    spec = importlib.util.find_spec("rlcap.rewards")
    return spec is not None and folder.resolve() in map(Path.resolve, map(Path, spec.submodule_search_locations or ()))
