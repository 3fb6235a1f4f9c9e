"""A judge's server that fails in every way it can, asked through the engine and the reward that a user would use."""

import json
import logging
import time
import traceback

import pytest
from fake_backends import make_reward
from judge_server import FAULTS, JudgeServer, grade

from rlcap.errors import RewardInputError
from rlcap.reward.mix import RewardMix, RewardTerm
from rlcap.rewards.claims import Claims
from rlcap.rewards.critique import Critique
from rlcap.types import RewardBatch, Sample

KEY = "sk-very-secret-123456"
CAPTIONS = [f"Ball number {i}." for i in range(8)]
ENGINES = ("litellm:openai/m", "openai:m")
LASTING = {
    "500": ("InternalServerError: ", "InternalServerError: "),
    "hang": ("timeout after|Timeout: ", "timeout after|APITimeoutError: "),
    "html": ("InternalServerError: ", "ServerReplyError: no chat completion"),
    "half": ("InternalServerError: ", "JSONDecodeError: "),
    "cut": ("InternalServerError: ", "APIConnectionError: "),
    "wrong": ("InternalServerError: ", "ServerReplyError: no chat completion"),
    "no_choices": ("empty reply", "empty reply"),
    "no_text": ("empty reply", "empty reply"),
    "number": ("InternalServerError: ", "ServerReplyError: its text is 10"),
    "rude": ("unparseable verdict: no <critique> section",) * 2,
    "score": ("unparseable verdict: the score must be a number from 0 to 10, got '9999'",) * 2,
    "nan": ("unparseable verdict: the score must be a number from 0 to 10, got 'nan'",) * 2,
    "bill": ("InternalServerError: ", None),
    "garbled": ("InternalServerError: ", "UnicodeDecodeError: "),
    "endless": ("ServerReplyError: the reply has more than 4,194,304 bytes",) * 2,
    "huge": ("ServerReplyError: the reply has more than 4,194,304 bytes",) * 2,
    "packed": ("ServerReplyError: the reply is compressed ('gzip'), which was not asked for",) * 2,
    "limit": ("cut at max_tokens=1000: raise it",) * 2,
}
"""Fault → the reason of an abstention where it never ends, by engine; None where the engine takes no harm."""


def batch(captions=CAPTIONS):
    return RewardBatch(captions, [Sample("a", "", references=("a ball",))] * len(captions))


def judge(server, kind=Critique, engine=ENGINES[0], **options):
    backend = {"type": engine, "base_url": server.url, "api_key_env": "MY_JUDGE_KEY"}
    options = {"cache": ":memory:", "backoff": 0.001, "timeout": 60.0, **options}
    return make_reward(kind, backend, **options)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("MY_JUDGE_KEY", KEY)


@pytest.fixture
def server():
    with JudgeServer() as server:
        yield server


def test_every_fault_is_known():
    assert set(LASTING) == set(FAULTS)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_changes_no_reward(server, fault, engine):
    server.faults = {1: fault, 2: fault}  # of two captions, as no retry is as early
    harmless = LASTING[fault][ENGINES.index(engine)] is None
    reward = judge(server, engine=engine, backoff=0.2, **({"timeout": 1.5} if fault == "hang" else {}))
    output = reward.score(batch())
    assert [score.value for score in output] == [grade(caption) / 10 for caption in CAPTIONS]
    assert output.usage.calls == len(server.seen) == (8 if harmless else 10)
    assert output.usage.retries == output.usage.failures == (0 if harmless else 2)


@pytest.mark.parametrize(
    ("fault", "engine", "reasons"),
    [(f, engine, LASTING[f][i]) for f in FAULTS for i, engine in enumerate(ENGINES) if LASTING[f][i] is not None],
)
def test_a_fault_that_stays_abstains_with_its_reason_and_leaves_the_others_alone(server, fault, engine, reasons):
    server.fault = lambda number: fault if number % 2 else None  # in the order of requests, one at a time: of captions
    reward = judge(server, engine=engine, retries=0, concurrency=1, **({"timeout": 0.5} if fault == "hang" else {}))
    scores = reward.score(batch(CAPTIONS[:4]))
    assert [score.value for score in scores[::2]] == [grade(caption) / 10 for caption in CAPTIONS[:4:2]]
    for score in scores[1::2]:
        assert score.abstained
        assert any(score.reason.startswith(reason) for reason in reasons.split("|"))
        assert KEY not in f"{score.reason} {score.note}"
    server.fault = lambda number: None
    before = len(server.seen)
    assert [score.value for score in reward.score(batch(CAPTIONS[:4]))] == [grade(c) / 10 for c in CAPTIONS[:4]]
    assert len(server.seen) - before == 2  # what was judged is cached, what abstained is asked again


def test_claims_that_refer_to_a_fact_that_is_not_there_abstain(server):
    lie = "<claims>\n- there is a ball | true | visible | 99\n</claims>"
    server.reply = lambda prompt: lie
    score = judge(server, Claims, retries=1).score(batch(CAPTIONS[:1]))[0]
    assert score.reason == "unparseable verdict: a claim must state one of 1 facts or none, got '99'"
    assert score.note == lie
    assert len(server.seen) == 2


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("status", "hint"), [(400, "sampling parameters"), (401, "api_key_env"), (403, "may not use")])
def test_what_the_provider_refuses_for_good_stops_at_once_in_one_line_without_the_key(
    server, status, hint, engine, caplog
):
    caplog.set_level(logging.DEBUG)
    server.fault = lambda number: str(status)
    mix = RewardMix({"critique": RewardTerm(judge(server, engine=engine, concurrency=2))})
    with pytest.raises(
        RewardInputError, match=rf"^reward term 'critique' failed: JudgeError: judge .*{hint}"
    ) as caught:
        mix.score(batch())
    assert "\n" not in str(caught.value)
    assert len(server.seen) <= 2
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert KEY not in told
    assert "***" in str(caught.value)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_key_reaches_a_log_the_cache_the_notes_or_the_metrics(server, engine, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    server.faults = {0: "rude", 1: "500", 3: "html"}
    reward = judge(server, engine=engine, cache=str(tmp_path / "replies.sqlite"), concurrency=1)
    server.reply = lambda prompt: (
        f"<critique>{KEY}</critique><wrong>- {KEY}</wrong><missing>none</missing><score>5</score>"
    )
    mix = RewardMix({"critique": RewardTerm(reward)})
    found = mix.score(batch())
    assert found.values.flatten().tolist() == pytest.approx([0.4] * 8)
    printed = capfd.readouterr()
    told = f"{found} {mix.state_dict()} {reward.grader.backend.name} {caplog.text} {printed}"
    assert KEY not in told
    assert "***" in told
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_server_that_hangs_costs_one_timeout_and_then_a_breaker(server):
    server.fault = lambda number: "hang"
    reward = judge(server, timeout=0.3, retries=0, concurrency=4, limits={"failures": 4, "cool_down": 30})
    scores = reward.score(batch([f"Caption {i}." for i in range(64)]))
    asked = len(server.seen)
    # of 64, so that a batch waits .3 s instead of 4.8; calls that were under way when the fourth one failed are not taken back
    assert 4 <= asked < 4 + 4
    assert sum(score.reason.startswith("judge down: ") for score in scores) == 64 - asked


def test_concurrency_is_bounded_and_used(server):
    server.latency = 0.05
    judge(server, concurrency=3).score(batch([f"Caption {i}." for i in range(12)]))
    assert server.peak == 3


@pytest.mark.parametrize("engine", ENGINES)
def test_a_busy_server_is_left_alone_as_long_as_it_asks(server, engine):
    server.faults, server.headers = {0: "429"}, {"Retry-After": "0.4"}
    reward = judge(server, engine=engine)
    start = time.perf_counter()
    assert reward.score(batch(CAPTIONS[:1]))[0].value is not None
    assert time.perf_counter() - start > 0.4


def test_tokens_and_dollars_are_counted_and_stop_the_run_with_whole_batches_behind_it(server):
    reward = judge(server, limits={"dollars": 0.005, "prices": [1.0, 5.0]})  # a call: 100 read, 20 written, $.0002
    mix = RewardMix({"critique": RewardTerm(reward)})
    metrics = mix.score(batch()).metrics
    assert metrics["critique/tokens"] == metrics["critique/tokens_total"] == 960
    assert metrics["critique/dollars"] == pytest.approx(0.0016)
    assert metrics["critique/cache_hits"] == 0
    assert 0 < metrics["critique/latency_p50"] <= metrics["critique/latency_p95"]
    again = mix.score(batch()).metrics
    assert (again["critique/cache_hits"], again["critique/calls"], again["critique/dollars"]) == (1, 0, 0)
    assert again["critique/dollars_total"] == pytest.approx(0.0016)
    assert mix.stop_reason is None
    mix.score(batch([f"Second {i}." for i in range(8)]))
    resumed = RewardMix({"critique": RewardTerm(judge(server, limits={"dollars": 0.005, "prices": [1.0, 5.0]}))})
    resumed.load_state_dict(json.loads(json.dumps(mix.state_dict())))
    for each in (mix, resumed):
        scores = each.score(batch([f"Third {i}." for i in range(8)]))
        assert not scores.values.isnan().any()
        assert each.stop_reason == (
            "reward term 'critique': budget nearly spent: $0.0048 of $0.005, and a batch takes $0.0016; raise its judge's limits"
        )
