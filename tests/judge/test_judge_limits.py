"""Breaker, rate limits, budget and tally: by a clock that only the test moves."""

import asyncio
import json

import pytest

from rlcap.errors import BudgetExhausted, ConfigError, JudgeError, ReplyFormatError
from rlcap.judge.budget import Budget, Reply, estimate
from rlcap.judge.circuit_breaker import CircuitBreaker
from rlcap.judge.judge import Judge, Question, RetryPolicy
from rlcap.judge.limits import Limits
from rlcap.judge.rate_limit import RateLimit
from rlcap.judge.usage import UsageStats, percentile
from rlcap.reward.base import Reward
from rlcap.types import Sample, Score


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds
        await asyncio.sleep(0)


class Engine:
    """Answers what its script says, its last word again and again; an exception in it is raised."""

    model_string = "fake"
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


def judge_of(engine, clock=None, limits=None, **retry_policy):
    clock = clock or Clock()
    options = {"retries": 0, "backoff": 1.0} | retry_policy
    return Judge(engine, RetryPolicy(**options), Limits(**(limits or {})), clock, clock.sleep)


def ask(judge, n=1, check=None, content="q"):
    return asyncio.run(judge.ask([Question(content, "s", Sample("a", ""), check)] * n, {}))


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
    clock, engine = Clock(), Engine(ConnectionError("refused"))
    judge = judge_of(engine, clock, {"failures": 4, "cool_down": 30})
    answers = ask(judge, 20)
    assert engine.calls == 4
    assert [answer.reason for answer in answers[:4]] == ["ConnectionError: refused (1 attempts)"] * 4
    assert all(answer.reason.startswith("judge down: 4 calls in a row failed") for answer in answers[4:])
    clock.now += 31
    ask(judge, 20)
    assert engine.calls == 5  # the trial alone
    clock.now += 31
    engine.script = ["fine"]
    assert all(answer.reply == "fine" for answer in ask(judge, 20))


def test_refused_requests_and_busy_servers_are_not_down():
    class Filtered(Exception):
        status_code = 413

    judge = judge_of(Engine(Filtered("too large")), limits={"failures": 2})
    assert {answer.reason for answer in ask(judge, 9)} == {"refused: Filtered: too large"}
    judge = judge_of(Engine(Busy("1")), limits={"failures": 2})
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
    judge = judge_of(Engine(Reply("fine", 900, 100)), clock, {"tokens_per_minute": 1000})
    ask(judge, 2)
    # 1 token was guessed and 1000 taken, of a bucket of 100: the second call waits for 900 and its own, at 15 a second
    assert clock.now - 1000 == pytest.approx((900 + 2) / 15, abs=1)


def test_requests_a_minute_hold_for_retries_too():
    clock, engine = Clock(), Engine(ConnectionError("x"))
    ask(judge_of(engine, clock, {"requests_per_minute": 6, "failures": 99}, retries=5, backoff=0), 2)
    assert engine.calls == 12
    assert clock.now - 1000 >= 60


def test_pauses_grow_with_jitter_and_a_server_is_left_alone_as_long_as_it_asks():
    pauses = []

    class Watch(Clock):
        async def sleep(self, seconds):
            pauses.append(seconds)

    ask(judge_of(Engine(ConnectionError("x")), Watch(), retries=9, backoff=1))
    for number, pause in enumerate(pauses[:6]):
        assert 0.5 <= pause / 2**number <= 1.5
    assert len(set(pauses)) == 9 or max(pauses) == 60
    assert max(pauses) == 60
    pauses.clear()
    engine = Engine(Busy("7"), Busy("Wed, 21 Oct 2026 07:28:00 GMT"), Busy("-3"), Busy("nan"), Busy("9999"), "fine")
    ask(judge_of(engine, Watch(), retries=5, backoff=0.001))
    assert [round(pause, 1) for pause in pauses] == [7.0, 0.0, 0.0, 0.0, 60.0]


def test_a_budget_stops_before_the_batch_that_would_pass_it():
    budget = Budget(dollars=1.0)
    for cost in (0.3, 0.2):
        budget.begin()
        budget.pay(1000, cost)
        budget.end()
        assert budget.stop_reason is None
    budget.begin()
    budget.pay(1000, 0.25)
    budget.end()
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
    judge = judge_of(Engine(Reply("fine", 30, 10, 0.5)), limits={"dollars": 2})
    answers = ask(judge, 9)
    assert [answer.reply for answer in answers] == ["fine"] * 4 + [None] * 5
    assert answers[4].reason == "budget spent: $2 of $2"
    assert judge.budget.stop_reason
    assert judge.tally.metrics()["dollars"] == 2.0
    assert ask(judge)[0].reply is None
    assert judge.engine.calls == 4


def test_prices_for_engines_that_tell_none():
    judge = judge_of(Engine("a" * 40), limits={"dollars": 1, "prices": [1e5, 2e5]})
    ask(judge, content="x" * 400)  # 1 + 100 tokens read, 10 written
    assert judge.budget.spent == {"tokens": 111, "dollars": pytest.approx(10.1 + 2)}
    with pytest.raises(JudgeError, match=r"judge fake: limits.dollars can't be kept.*give limits.prices"):
        ask(judge_of(Engine("fine"), limits={"dollars": 1}))
    assert estimate(["four", b"image"]) == 801


def test_an_unreadable_reply_is_asked_once_more():
    def check(reply):
        if reply != "fine":
            raise ReplyFormatError("no")

    engine = Engine("hm", "fine")
    assert ask(judge_of(engine, retries=3), check=check)[0].reply == "fine"
    engine = Engine("hm", "", "fine")
    assert ask(judge_of(engine, retries=3), check=check)[0].reason == "empty reply"
    assert engine.calls == 2
    engine = Engine("hm", "hm hm", "fine")
    judge = judge_of(engine, retries=3)
    assert ask(judge, check=check)[0].reply == "hm hm"  # for the log; who checks again finds no verdict
    assert (judge.tally.calls, judge.tally.retries, judge.tally.failures) == (2, 1, 2)
    engine = Engine("hm", "fine")
    engine.repeatable = True
    assert ask(judge_of(engine, retries=3), check=check)[0].reply == "hm"


def test_after_a_fatal_error_nobody_asks_further():
    class Refused(Exception):
        status_code = 403

    engine = Engine(Refused("no"))
    with pytest.raises(JudgeError, match=r"^judge fake: Refused: no; the key may not use this model$"):
        ask(judge_of(engine, retries=5), 50)
    assert engine.calls == 1


def test_processes_share_the_limits(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    share = Limits.of({"dollars": 8, "requests_per_minute": 100, "cool_down": 10}).of_this_process()
    assert (share.dollars, share.requests_per_minute, share.tokens, share.cool_down) == (2, 25, None, 10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dollar": 1}, "unknown parameter of limits 'dollar'; did you mean 'dollars'"),
        ({"dollars": "5"}, "parameter dollars of limits must be float or null, got '5'"),
        ({"tokens": 0}, "limits.tokens must be above 0, or null for no limit, got 0"),
        ({"prices": [1]}, r"limits.prices must be \[dollars per million tokens read, written\], got \[1\]"),
        ({"failures": 0}, "limits needs failures >= 1"),
    ],
)
def test_impossible_limits_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Limits.of(given)


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
            self.judges = (judge_of(Engine(Reply("fine", 10, 10, 0.4)), limits={"dollars": 1}),)

        async def ascore(self, batch):
            answers = await self.judges[0].ask([Question(c, "s", Sample("a", "")) for c in batch.captions], {})
            return [Score.abstain(a.reason) if a.reply is None else Score(1.0) for a in answers]

    logged, reward = {}, Costly()
    call = {"completions": ["a", "b"], "image": ["x.png"] * 2, "log_metric": logged.__setitem__}
    assert reward(["p", "p"], **call) == [1.0, 1.0]
    assert logged["costly/dollars_total"] == 0.8
    with pytest.raises(
        BudgetExhausted, match=r"costly: budget nearly spent: \$0.8 of \$1, and a batch takes \$0.8; raise"
    ):
        reward(["p", "p"], **call)
