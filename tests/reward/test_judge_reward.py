"""What every reward that asks a judge has in common."""

from pathlib import Path
from typing import Any

import pytest
from fake_backends import make_reward
from fake_models import CountingJudge
from PIL import Image

from rlcap.config.imports import build
from rlcap.errors import ConfigError
from rlcap.judge import grader
from rlcap.judge.cache import ReplyCache
from rlcap.reward.judge_reward import JudgeReward
from rlcap.rewards.claims import Claims
from rlcap.rewards.clair import Clair
from rlcap.rewards.critique import Critique
from rlcap.types import RewardBatch, Sample, Score

PROMPT = Path(grader.__file__).parents[2] / "rewards" / "critique" / "prompt.txt"
ROWS = RewardBatch(["A red ball.", " ", "A ball."], [Sample("a", "", references=("a ball",))] * 3)


class Words(JudgeReward):
    """Without a constructor of its own."""

    name, range, version = "words", (0.0, 1.0), "1"
    prompt_file = PROMPT

    def score_verdict(self, verdict, sample):
        return Score(verdict.score / 10)


class Twice(Words):
    """Asks two things of a caption."""

    def build_requests(self, caption, sample):
        return [(caption, sample), (f"{caption} {caption}", sample)]

    def aggregate(self, opinions, sample):
        return Score(sum(opinion.verdict.score for opinion in opinions) / 20)


def test_a_few_lines_make_one():
    reward = make_reward(Words, CountingJudge(), cache=":memory:")
    output = reward.score(ROWS)
    assert [score.value for score in output] == [0.3, 0.0, 0.2]
    assert output.usage.calls == 2
    again = reward.score(ROWS)
    assert [score.value for score in again] == [0.3, 0.0, 0.2]
    assert again.metrics["cache_hits"] == 1
    assert again.usage.calls == 0
    twice = make_reward(Twice, CountingJudge(), cache=":memory:").score(ROWS)
    assert [score.value for score in twice] == pytest.approx([0.45, 0.0, 0.3])


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        (Critique, {"penalti": 0.1}, "unknown parameter of Critique 'penalti'; did you mean 'penalty'"),
        (Critique, {"judge": {"retires": 1}}, "unknown key judge.retires; did you mean judge.retries"),
        (Critique, {"penalty": "high"}, "penalty of Critique must be float, got 'high'"),
        (Claims, {"judge": {"timeout": "1e3"}}, "judge.timeout: input should be a valid number, got '1e3'"),
        (Claims, {"judge": {"image": 1}}, "judge.image: input should be a valid boolean, got 1"),
        (Claims, {"judge": {"timeout": 0}}, "judge.timeout: input should be greater than 0, got 0"),
        (
            Claims,
            {"judge": {"limits": {"dollar": 1}}},
            "unknown key judge.limits.dollar; did you mean judge.limits.dollars",
        ),
        (Claims, {"judge": None}, "judge needs a backend"),
        (Claims, {"judge": {"prompt": "/no/such.txt"}}, "there is no prompt /no/such.txt"),
        (Claims, {"judge": {"detections": True}}, "judge.detections has no effect: the prompt of claims"),
        (Clair, {"judge": {"image": True}}, "clair never shows its judge the image"),
        (Claims, {"judge": {"backend": "litelm:x"}}, "no backend 'litelm'; did you mean litellm:x"),
        (Claims, {"judge": {"backend": 3}}, "3 is no judge backend: it lacks name"),
    ],
)
def test_a_mix_accepts_exactly_the_constructor_arguments(kind, params, message):
    judge = params.get("judge", {})
    if judge is not None:
        judge = {"backend": CountingJudge(), "cache": ":memory:", **judge}
    with pytest.raises(ConfigError, match=message):
        build(kind, {**params, "judge": judge})


def test_all_options_reach_the_judge(tmp_path):
    options = {"cache": str(tmp_path / "c.sqlite"), "timeout": 3, "retries": 1, "sampling": {"t": 1}}
    reward = build(Critique, {"judge": {"backend": CountingJudge(), **options}})
    assert (reward.judges[0].retry_policy.timeout, reward.judges[0].retry_policy.retries) == (3, 1)
    assert reward.grader.sampling == {"t": 1}
    assert reward.grader.cache.path.endswith("c.sqlite")
    with pytest.raises(ConfigError, match="needs the parameter 'judge'"):
        build(Critique, {})


def test_a_backend_name_alone_configures_a_judge():
    assert Critique(CountingJudge()).grader.backend.name == "counting"


def test_an_image_is_encoded_once_for_all_its_captions(tmp_path, monkeypatch):
    for name in "ab":
        Image.new("RGB", (8, 8), "red" if name == "a" else "blue").save(tmp_path / f"{name}.png")
    opened, sent = [], []
    real = grader.open_image
    monkeypatch.setattr(grader, "open_image", lambda path: opened.append(path) or real(path))

    class Seeing(CountingJudge):
        accepts_images, name = True, "seeing"

        def generate(self, content, system_prompt=None, **_):
            sent.append(content[1])
            return super().generate(content[0])

    samples = [Sample(name, str(tmp_path / f"{name}.png")) for name in "ab"]
    rows = RewardBatch([f"Caption {i}." for i in range(8)], [samples[i // 4] for i in range(8)])
    scores = make_reward(Critique, Seeing(), cache=":memory:").score(rows)
    assert not any(score.abstained for score in scores)
    assert len(opened) == 2
    assert len(sent) == 8
    assert len(set(sent)) == 2


def test_the_replies_of_the_published_rewards_are_found_again():
    """Their keys are the same in every version: what was paid for is not paid for twice. A prompt that changes changes them."""
    keys = []

    class Spy(ReplyCache):
        def get(self, wanted):
            keys.extend(wanted)
            return super().get(wanted)

    for kind in (Critique, Claims):
        reward = make_reward(kind, CountingJudge(), cache=":memory:", retries=0)
        reward.grader.cache = Spy(":memory:")
        reward.score(RewardBatch(["A red ball."], [Sample("a", "", references=("a ball",))]))
    assert keys == [
        "bd3e41433a5630d56021b5a73f3fee57c32703e947dccbcaf72f3c5878dbc538",
        "cade41ee9d3d9e138b3c6ca0194f2537186f0a8cdc45b18622dc6921aa4d36b0",
    ]


def test_a_judge_reward_without_a_verdict_method_is_rejected_at_its_definition():
    with pytest.raises(TypeError, match="Idle judges nothing: write `score_verdict"):
        type("Idle", (JudgeReward,), {"name": "idle", "range": (0.0, 1.0), "version": "1"})


def test_null_is_a_value_only_where_the_annotation_says_so():
    class Asks:
        def __init__(self, limit: int | None, engine: Any):
            self.limit = limit

    assert build(Asks, {"limit": None, "engine": 1}).limit is None
    with pytest.raises(ConfigError, match="needs the parameter 'engine'; given: limit"):
        build(Asks, {"limit": 1, "engine": None})
