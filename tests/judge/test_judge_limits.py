"""Breaker, rate limits, budget and tally: by a clock that only the test moves."""

import asyncio
import json

import pytest
from fake_backends import FakeBackend

from rlcap.errors import BudgetExhaustedError, ConfigError, JudgeError, ReplyFormatError
from rlcap.judge.backends.base import Completion, JudgeRequest, estimate_tokens
from rlcap.judge.judge import Judge, RetryPolicy
from rlcap.judge.limits import Budget, CircuitBreaker, JudgeLimits, RateLimit
from rlcap.judge.usage import UsageStats, percentile
from rlcap.reward.base import Reward, RewardOutput
from rlcap.types import Sample, Score


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds
        await asyncio.sleep(0)


class Backend(FakeBackend):
    """Answers what its script says, its last word again and again; an exception in it is raised."""

    name = "fake"
    max_concurrency = 1  # so that the order of calls is the questions'

    def __init__(self, *script):
        self.script, self.calls = list(script), 0

    def generate(self, content, system_prompt=None, **sampling):
        self.calls += 1
        said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(said, Exception):
            raise said
        return said


class Busy(Exception):
    status_code = 429

    def __init__(self, seconds):
        self.litellm_response_headers = {"retry-after": seconds}


def judge_of(backend, clock=None, limits=None, **retry_policy):
    clock = clock or Clock()
    options = {"retries": 0, "backoff": 1.0} | retry_policy
    return Judge(backend, RetryPolicy(**options), JudgeLimits(**(limits or {})), clock, clock.sleep)


def ask(judge, n=1, check=None, content="q"):
    return asking(judge, n, check, content)[0]


def asking(judge, n=1, check=None, content="q"):
    """(answers, usage) of n equal requests."""
    return asyncio.run(judge.ask([JudgeRequest((content,), "s", Sample("a", ""), check)] * n))


def test_a_breaker_opens_lets_one_try_and_closes():
    clock = Clock()
    circuit_breaker = CircuitBreaker(failures=3, cool_down=30, clock=clock)
    for _ in range(2):
        circuit_breaker.failed("timeout")
    assert circuit_breaker.refusal() is None
    circuit_breaker.succeeded()
    for _ in range(3):
        assert circuit_breaker.refusal() is None
        circuit_breaker.failed("timeout")
    clock.now += 10
    assert circuit_breaker.refusal() == "judge down: 3 calls in a row failed, last: timeout; next trial in 20 s"
    clock.now += 20
    assert circuit_breaker.refusal() is None  # the trial
    assert "next trial in 30 s" in circuit_breaker.refusal()  # the others wait for it
    circuit_breaker.failed("ConnectionError")
    assert "last: ConnectionError; next trial in 30 s" in circuit_breaker.refusal()
    clock.now += 30
    assert circuit_breaker.refusal() is None
    circuit_breaker.succeeded()
    assert circuit_breaker.refusal() is None


def test_a_trial_that_never_reports_is_followed_by_another():
    clock = Clock()
    circuit_breaker = CircuitBreaker(failures=1, cool_down=30, clock=clock)
    circuit_breaker.failed("x")
    clock.now += 30
    assert circuit_breaker.refusal() is None
    clock.now += 30
    assert circuit_breaker.refusal() is None


def test_a_judge_that_is_down_costs_a_few_calls_and_is_found_again():
    clock, backend = Clock(), Backend(ConnectionError("refused"))
    judge = judge_of(backend, clock, {"failures": 4, "cool_down": 30})
    answers = ask(judge, 20)
    assert backend.calls == 4
    assert [answer.reason for answer in answers[:4]] == ["ConnectionError: refused (1 attempts)"] * 4
    assert all(answer.reason.startswith("judge down: 4 calls in a row failed") for answer in answers[4:])
    clock.now += 31
    ask(judge, 20)
    assert backend.calls == 5  # the trial alone
    clock.now += 31
    backend.script = ["fine"]
    assert all(answer.reply == "fine" for answer in ask(judge, 20))


def test_refused_requests_and_busy_servers_are_not_down():
    class Filtered(Exception):
        status_code = 413

    judge = judge_of(Backend(Filtered("too large")), limits={"failures": 2})
    assert {answer.reason for answer in ask(judge, 9)} == {"refused: Filtered: too large"}
    judge = judge_of(Backend(Busy("1")), limits={"failures": 2})
    assert {answer.reason for answer in ask(judge, 9)} == {"Busy: 1 (1 attempts)"}


@pytest.mark.parametrize("limit", [1, 2, 5, 9, 10, 60, 500])
def test_no_minute_sees_more_requests_than_allowed(limit):
    clock = Clock()
    rate, times = RateLimit(limit, clock), []
    for _ in range(3 * limit + 3):
        clock.now += rate.take(1)
        times.append(clock.now)
    assert all(sum(start <= t < start + 59.999 for t in times) <= limit for start in times)
    assert times[-1] - times[0] <= (3 * limit + 3) * 60 / (0.9 * limit)  # and nine tenths of it are given


def test_users_queue_and_idle_time_is_not_saved_up():
    clock = Clock()
    rate = RateLimit(60, clock)  # six at once, then one in 1/.9 s
    assert [rate.take(1) for _ in range(6)] == [0.0] * 6
    assert [round(rate.take(1), 3) for _ in range(3)] == [1.111, 2.222, 3.333]
    clock.now += 3600
    assert [rate.take(1) for _ in range(6)] == [0.0] * 6
    assert rate.take(1) > 1
    assert RateLimit(None).take(10**9) == 0


def test_tokens_are_settled_by_the_bill():
    clock = Clock()
    judge = judge_of(Backend(Completion("fine", 900, 100)), clock, {"tokens_per_minute": 1000})
    ask(judge, 2)
    # 1 token was guessed and 1000 taken, of a bucket of 100: the second call waits for 900 and its own, at 15 a second
    assert clock.now - 1000 == pytest.approx((900 + 2) / 15, abs=1)


def test_requests_a_minute_hold_for_retries_too():
    clock, backend = Clock(), Backend(ConnectionError("x"))
    ask(judge_of(backend, clock, {"requests_per_minute": 6, "failures": 99}, retries=5, backoff=0), 2)
    assert backend.calls == 12
    assert clock.now - 1000 >= 60


def test_pauses_grow_with_jitter_and_a_server_is_left_alone_as_long_as_it_asks():
    pauses = []

    class Watch(Clock):
        async def sleep(self, seconds):
            pauses.append(seconds)

    ask(judge_of(Backend(ConnectionError("x")), Watch(), retries=9, backoff=1))
    for number, pause in enumerate(pauses[:6]):
        assert 0.5 <= pause / 2**number <= 1.5
    assert len(set(pauses)) == 9 or max(pauses) == 60
    assert max(pauses) == 60
    pauses.clear()
    backend = Backend(Busy("7"), Busy("Wed, 21 Oct 2026 07:28:00 GMT"), Busy("-3"), Busy("nan"), Busy("9999"), "fine")
    ask(judge_of(backend, Watch(), retries=5, backoff=0.001))
    assert [round(pause, 1) for pause in pauses] == [7.0, 0.0, 0.0, 0.0, 60.0]


def test_a_budget_stops_before_the_batch_that_would_pass_it():
    budget = Budget(dollars=1.0)
    for cost in (0.3, 0.2):
        budget.begin_batch()
        budget.pay(1000, cost)
        budget.end_batch()
        assert budget.stop_reason is None
    budget.begin_batch()
    budget.pay(1000, 0.25)
    budget.end_batch()
    assert budget.stop_reason == "budget nearly spent: $0.75 of $1, and a batch takes $0.3"
    assert budget.exhausted is None
    other = Budget(dollars=1.0)
    other.load_state_dict(json.loads(json.dumps(budget.state_dict())))
    assert other.stop_reason == budget.stop_reason
    other.pay(0, 0.25)
    assert other.exhausted == other.stop_reason == "budget spent: $1 of $1"
    assert Budget().stop_reason is None
    tokens = Budget(tokens=100)
    tokens.pay(100, 0)
    assert tokens.exhausted == "budget spent: 100 tokens of 100 tokens"


def test_a_spent_budget_abstains_within_the_batch():
    judge = judge_of(Backend(Completion("fine", 30, 10, 0.5)), limits={"dollars": 2})
    answers, usage = asking(judge, 9)
    assert [answer.reply for answer in answers] == ["fine"] * 4 + [None] * 5
    assert answers[4].reason == "budget spent: $2 of $2"
    assert judge.budget.stop_reason
    assert usage.metrics()["dollars"] == 2.0
    assert ask(judge)[0].reply is None
    assert judge.backend.calls == 4


def test_prices_for_engines_that_tell_none():
    judge = judge_of(Backend("a" * 40), limits={"dollars": 1, "prices": [1e5, 2e5]})
    ask(judge, content="x" * 400)  # 1 + 100 tokens read, 10 written
    assert judge.budget.spent == {"tokens": 111, "dollars": pytest.approx(10.1 + 2)}
    with pytest.raises(JudgeError, match=r"judge fake: limits.dollars can't be kept.*give limits.prices"):
        ask(judge_of(Backend("fine"), limits={"dollars": 1}))
    assert estimate_tokens(["four", b"image"]) == 801


def test_an_unreadable_reply_is_asked_once_more():
    def check(reply):
        if reply != "fine":
            raise ReplyFormatError("no")

    backend = Backend("hm", "fine")
    assert ask(judge_of(backend, retries=3), check=check)[0].reply == "fine"
    backend = Backend("hm", "", "fine")
    assert ask(judge_of(backend, retries=3), check=check)[0].reason == "empty reply"
    assert backend.calls == 2
    backend = Backend("hm", "hm hm", "fine")
    judge = judge_of(backend, retries=3)
    (answer,), usage = asking(judge, check=check)
    assert answer.reply == "hm hm"  # for the log; who parses it again finds no verdict
    assert (usage.calls, usage.retries, usage.failures) == (2, 1, 2)
    backend = Backend("hm", "fine")
    backend.is_deterministic = True
    assert ask(judge_of(backend, retries=3), check=check)[0].reply == "hm"


def test_after_a_fatal_error_nobody_asks_further():
    class Refused(Exception):
        status_code = 403

    backend = Backend(Refused("no"))
    with pytest.raises(JudgeError, match=r"^judge fake: Refused: no; the key may not use this model$"):
        ask(judge_of(backend, retries=5), 50)
    assert backend.calls == 1


def test_processes_share_the_limits(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    share = JudgeLimits(**{"dollars": 8, "requests_per_minute": 100, "cool_down": 10}).share_of_process()
    assert (share.dollars, share.requests_per_minute, share.tokens, share.cool_down) == (2, 25, None, 10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dollar": 1}, "unknown key limits.dollar; did you mean limits.dollars"),
        ({"dollars": "5"}, "limits.dollars: input should be a valid number, got '5'"),
        ({"tokens": 0}, "limits.tokens: input should be greater than 0, got 0"),
        ({"prices": [1]}, r"limits.prices: list should have at least 2 items.*got \[1\]"),
        ({"failures": 0}, "limits.failures: input should be greater than or equal to 1, got 0"),
    ],
)
def test_impossible_limits_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        JudgeLimits.parse(given, "limits")


def test_tally_golden():
    assert percentile([3, 1, 2, 4], 50) == 2
    assert percentile([3, 1, 2, 4], 95) == 4
    assert percentile(list(range(1, 101)), 95) == 95
    tally = UsageStats.sum(
        [UsageStats(calls=2, dollars=0.5, seconds=[1.0, 3.0]), UsageStats(calls=1, retries=1, seconds=[2.0])]
    )
    assert tally.metrics() == {
        "calls": 3, "retries": 1, "failures": 0, "tokens": 0, "dollars": 0.5, "latency_p50": 2.0, "latency_p95": 3.0
    }  # fmt: skip
    assert "latency_p50" not in UsageStats().metrics()


def test_a_reward_with_a_spent_budget_takes_no_further_batch_from_a_plain_trainer():
    class Costly(Reward):
        name = "costly"

        def __init__(self):
            self.judges = (judge_of(Backend(Completion("fine", 10, 10, 0.4)), limits={"dollars": 1}),)

        async def ascore(self, batch):
            requests = [JudgeRequest((c,), "s", Sample("a", "")) for c in batch.captions]
            answers, usage = await self.judges[0].ask(requests)
            scores = [Score.abstain(a.reason) if a.reply is None else Score(1.0) for a in answers]
            return RewardOutput(scores, usage=usage)

    logged, reward = {}, Costly()
    call = {"completions": ["a", "b"], "image": ["x.png"] * 2, "log_metric": logged.__setitem__}
    assert reward(["p", "p"], **call) == [1.0, 1.0]
    assert logged["costly/dollars_total"] == 0.8
    with pytest.raises(
        BudgetExhaustedError, match=r"costly: budget nearly spent: \$0.8 of \$1, and a batch takes \$0.8; raise"
    ):
        reward(["p", "p"], **call)
