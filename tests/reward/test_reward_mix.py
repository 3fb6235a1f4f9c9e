"""The mix: names, errors, concurrency, abstentions, state."""

import asyncio
import json
import math
import re
import sys
import threading
import time
import types
from collections.abc import Iterable, Sequence

import pytest
import torch

from rlcap.algo.advantages import combine
from rlcap.errors import ConfigError, RewardError
from rlcap.reward.abstention import AbstentionMonitor
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.mix import RewardMix, RewardTerm
from rlcap.reward.running_statistics import RunningStd
from rlcap.types import RewardBatch, Sample, Score


class Words(Reward):
    name, range = "words", (0.0, 100.0)

    def __init__(self, factor: float = 1.0, device: str = "nowhere"):
        self.factor, self.device = factor, device

    def score(self, batch):
        return RewardOutput([Score(self.factor * len(c.split())) for c in batch.captions])


class Moody(Reward):
    """Judges every caption alike, or abstains on those that end with a question mark."""

    name = "moody"

    def score(self, batch):
        return RewardOutput([Score.abstain("asked") if c.endswith("?") else Score(0.5) for c in batch.captions])


class Sleeper(Reward):
    name = "sleeper"

    def __init__(self, seconds: float = 0.2):
        self.seconds = seconds

    async def ascore(self, batch):
        await asyncio.sleep(self.seconds)
        metrics = {"cache_hits": 0.25}
        return RewardOutput([Score(1.0)] * len(batch), metrics)


class Broken(Reward):
    name = "broken"

    def score(self, batch):
        raise KeyError("colour")


class BrokenSleeper(Reward):
    name = "broken_sleeper"

    async def ascore(self, batch):
        raise KeyError("colour")


@pytest.fixture(autouse=True)
def module(monkeypatch):
    fake = types.ModuleType("my_rewards")
    for kind in (Words, Moody, Sleeper, Broken, Phrases):
        setattr(fake, kind.__name__, kind)
    fake.__spec__ = types.SimpleNamespace(submodule_search_locations=None)
    monkeypatch.setitem(sys.modules, "my_rewards", fake)


def batch(*captions):
    return RewardBatch(captions, [Sample("a", "a.png")] * len(captions))


def entry(name, **rest):
    return {"reward": f"my_rewards:{name}", **rest}


def test_config_to_values_with_metrics():
    mix = RewardMix.from_config(
        {"w": entry("Words", weight=2, params={"factor": 3.0}), "m": entry("Moody", normalize="none")},
        context={"device": "cuda:1", "irrelevant": 1},
    )
    assert mix.names == ("w", "m")
    assert mix.weights == (2.0, 1.0)
    assert mix.normalize == ("group", "none")
    assert mix.reward_ranges == (100.0, 2.0)
    assert mix.reward("w").device == "cuda:1"
    scores = mix.score(batch("a b", "a?", "a b c d"))
    torch.testing.assert_close(scores.values, torch.tensor([[6, 0.5], [3, math.nan], [12, 0.5]]), equal_nan=True)
    assert scores.scores["m"][1].reason == "asked"
    assert scores.metrics["w/mean"] == pytest.approx(7)
    assert scores.metrics["w/weighted_mean"] == pytest.approx(14)
    assert scores.metrics["m/abstain_rate"] == pytest.approx(1 / 3)
    assert scores.metrics["m/seconds"] >= 0


class Phrases(Reward):
    name = "phrases"

    def __init__(
        self,
        phrases: tuple[str, ...] = (),
        words: list[str] | None = None,
        names: Sequence[str] = (),
        marks: Iterable[str] = (),
        band: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.phrases = tuple(phrases)

    def score(self, batch):
        return RewardOutput([Score(0.0)] * len(batch))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"phrases": "a dog"}, r"phrases of .* must be tuple\[str, ...\], got 'a dog'; write a list: \[a dog\]"),
        ({"words": "dog"}, r"words of .* must be list\[str\] or null, got 'dog'; write a list"),
        ({"names": "dog"}, r"names of .* must be Sequence\[str\], got 'dog'; write a list"),
        ({"marks": "!?"}, r"marks of .* must be Iterable\[str\], got '!\?'; write a list"),
        ({"phrases": ["a dog", 3]}, r"must be tuple\[str, ...\], got \['a dog', 3\]"),
        ({"band": [0.1]}, r"must be tuple\[float, float\], got \[0.1\]"),
    ],
)
def test_a_text_is_no_list_of_letters(params, message):
    with pytest.raises(ConfigError, match=message):
        RewardMix.from_config({"w": entry("Phrases", params=params)})


def test_lists_are_taken():
    params = {"phrases": ["a dog"], "words": ["a"], "names": [], "marks": ["!"], "band": [0, 0.5]}
    mix = RewardMix.from_config({"w": entry("Phrases", params=params)})
    assert mix.reward("w").phrases == ("a dog",)


def test_params_win_over_context():
    mix = RewardMix.from_config({"w": entry("Words", params={"device": "cpu"})}, context={"device": "cuda"})
    assert mix.reward("w").device == "cpu"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "the mix is empty"),
        ({"w": {"weight": 1}}, r"mix.w: needs a mapping with `reward: module:Class`"),
        (
            {"w": entry("Words", wieght=1)},
            r"mix.w: unknown key 'wieght'; did you mean 'weight'\? known: credit_share, normalize",
        ),
        ({"w": entry("Wrods")}, r"mix.w: unknown name in my_rewards 'Wrods'; did you mean 'Words'\?.*Moody"),
        (
            {"w": {"reward": "rlcap.rewards.lenght:Length"}},
            r"unknown module 'rlcap.rewards.lenght'; did you mean 'rlcap.rewards.length'",
        ),
        ({"w": {"reward": "nowhere.at.all:X"}}, "unknown module 'nowhere.at.all'"),
        ({"w": {"reward": "rlcap.rewards.length"}}, "unknown reward 'rlcap.rewards.length'"),
        ({"w": entry("Words", params={"facter": 1})}, r"unknown parameter of .*'facter'; did you mean 'factor'"),
        ({"m": entry("Moody", params={"foo": 1})}, r"mix.m: unknown parameter of .*Moody 'foo'; known: none"),
        ({"w": entry("Words", weight="1")}, "weight of mix.w must be a finite number, got '1'"),
        ({"w": entry("Words", weight=math.nan)}, "finite number"),
        ({"w": entry("Words", normalize="grupo")}, r"unknown normalize of mix.w 'grupo'; did you mean 'group'"),
        ({"w": {"reward": "rlcap.types:Score"}}, "not a subclass of Reward"),
        ({"w": {"reward": 3}}, "mix.w.reward must be a name or module:Class, got 3"),
        ({"w": entry("Words", params=3)}, "mix.w.params must be a mapping, got 3"),
        ({"w": entry("Words", params={"factor": "two"})}, "parameter factor of .*Words must be float, got 'two'"),
        ({"w": entry("Words", params={"factor": [1]})}, r"factor of .* must be float, got \[1\]"),
        (
            {"l": {"reward": "rlcap.rewards.length:Length", "params": {"low": "1e-1"}}},
            r"mix.l: parameter low of rlcap.rewards.length:Length must be float, got '1e-1' \(YAML reads 1e-3 as text",
        ),
        (
            {"l": {"reward": "rlcap.rewards.length:Length", "params": {"form": "gates"}}},
            "parameter form of .* must be penalty or gate or ramp, got 'gates'",
        ),
        (
            {"l": {"reward": "rlcap.rewards.length:Length", "params": {"low": 3, "high": 1}}},
            "mix.l: rlcap.rewards.length:Length: low must be at most high, but low is 3 and high is 1",
        ),
        (
            {"r": {"reward": "rlcap.rewards.repetition:Repetition", "params": {"orders": 3}}},
            r"parameter orders of .* must be Sequence\[int\], got 3",
        ),
    ],
)
def test_errors_name_the_component_and_the_known(config, message):
    with pytest.raises(ConfigError, match=message):
        RewardMix.from_config(config)


def test_a_reward_without_a_constructor_takes_no_parameters():
    with pytest.raises(TypeError, match="takes no arguments"):
        Moody(foo=1)


def test_unknown_component_lists_the_known():
    with pytest.raises(ConfigError, match=r"unknown component 'word'; did you mean 'w|known: w"):
        RewardMix.from_config({"w": entry("Words")}).reward("word")


def test_waiting_rewards_wait_together_while_others_compute():
    class Computer(Reward):
        name = "computer"
        threads: list = []  # noqa: RUF012

        def score(self, batch):
            self.threads.append(threading.current_thread())
            time.sleep(0.2)
            return RewardOutput([Score(0.0)] * len(batch))

    mix = RewardMix({"a": RewardTerm(Sleeper(0.3)), "c": RewardTerm(Computer()), "b": RewardTerm(Sleeper(0.3))})
    start = time.perf_counter()
    scores = mix.score(batch("x"))
    assert time.perf_counter() - start < 0.6  # one after another: 0.8
    assert scores.names == ("a", "c", "b")
    assert scores.metrics["a/cache_hits"] == 0.25
    assert Computer.threads == [threading.current_thread()]


@pytest.mark.parametrize("kind", [Broken, BrokenSleeper])
def test_failures_carry_the_component_and_the_cause(kind):
    mix = RewardMix({"fine": RewardTerm(Words()), "culprit": RewardTerm(kind()), "slow": RewardTerm(Sleeper(0.05))})
    with pytest.raises(RewardError, match="'culprit' failed: KeyError: 'colour'") as caught:
        mix.score(batch("x"))
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_computing_failure_does_not_wait_for_the_judge():
    mix = RewardMix({"slow": RewardTerm(Sleeper(30)), "culprit": RewardTerm(Broken())})
    start = time.perf_counter()
    with pytest.raises(RewardError, match="culprit"):
        mix.score(batch("x"))
    assert time.perf_counter() - start < 2


def test_half_abstaining_on_equally_good_captions_gives_no_advantage():
    mix = RewardMix({"w": RewardTerm(Words()), "m": RewardTerm(Moody())})
    scores = mix.score(batch("a b.", "a b?", "a b.", "a b?"))
    assert scores.values[:, 1].isnan().sum() == 2
    for aggregate in ("normalize_then_sum", "sum_then_normalize", "sum_then_center", "sum_then_leave_one_out"):
        result = combine(scores.values, scores.weights, 4, normalize=mix.normalize, aggregate=aggregate)
        assert result.advantages.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("abstaining", [0, 1, 2, 3])
def test_any_number_of_abstaining_components_stays_finite(abstaining):
    class Silent(Reward):
        name = "silent"

        def score(self, batch):
            return RewardOutput([Score.abstain("no")] * len(batch))

    mix = RewardMix({f"c{k}": RewardTerm(Silent() if k < abstaining else Words()) for k in range(3)})
    scores = mix.score(batch("a", "a b", "a b c", "a b"))
    advantages = combine(scores.values, mix.weights, 4).advantages
    assert torch.isfinite(advantages).all()
    assert (advantages[2] > advantages[0]) == (abstaining < 3)


def test_the_guard_names_component_and_reasons():
    mix = RewardMix({"w": RewardTerm(Words()), "m": RewardTerm(Moody())}, max_abstain=0.5)
    mix.score(batch(*["a."] * 31 + ["b?"] * 32))  # 63 captions: too few to judge
    assert mix.stop_reason is None
    mix.score(batch("c?"))
    assert re.search(r"'m' abstained on 52% of the last 64 .*allowed: 50%.*33× asked", mix.stop_reason)


def test_the_abstention_monitor_forgets_captions_outside_its_window():
    guard = AbstentionMonitor(["m"], window=64, at_least=64)
    guard.watch("m", [Score.abstain("no")] * 32 + [Score(1.0)] * 32)
    guard.watch("m", [Score(1.0)] * 64)
    assert guard.share("m") == 0
    with pytest.raises(ValueError, match="at_least"):
        AbstentionMonitor(["m"], window=10, at_least=64)


def test_state_goes_through_json_and_continues():
    mix = RewardMix({"w": RewardTerm(Words()), "m": RewardTerm(Moody())})
    mix.score(batch("a.", "b?"))
    mix.running.update([2.0, math.nan])
    state = json.loads(json.dumps(mix.state_dict()))
    other = RewardMix({"w": RewardTerm(Words()), "m": RewardTerm(Moody())})
    other.load_state_dict(state)
    assert other.abstentions.share("m") == 0  # a run that stopped because a judge was down starts with an empty window
    assert other.running.stds()[0] == pytest.approx(2.0)
    assert math.isnan(other.running.stds()[1])
    assert other.state_dict() == mix.state_dict()
    with pytest.raises(ConfigError, match=r"\['m', 'w'\] does not match the configured mix \['w'\]"):
        RewardMix({"w": RewardTerm(Words())}).load_state_dict(state)


def test_running_scale_golden():
    scale = RunningStd(["a"], decay=0.5)
    scale.update([1.0])
    assert scale.stds() == [1.0]
    scale.update([3.0])
    # variance .5·.5·1 + .5·9 = 4.75, mass .75
    assert scale.stds()[0] == pytest.approx(math.sqrt(4.75 / 0.75))
