"""How servers are reached: bounded replies, proxies, the address in the cache key, and failures hidden in others."""

import asyncio
import email.utils
import json
import socket
import time
import tracemalloc
import urllib.error
import urllib.request

import pytest
from judge_server import JudgeServer, verdict

from rlcap.errors import ServerReplyError
from rlcap.judge.backends.base import Completion, JudgeBackend, JudgeRequest
from rlcap.judge.backends.loading import load_backend
from rlcap.judge.connections import MAX_REPLY_BYTES, proxy_hint, without_credentials
from rlcap.judge.failures import classify, retry_after, root_cause
from rlcap.judge.judge import MAX_REPLY_CHARACTERS, Judge, RetryPolicy
from rlcap.judge.parsing import parse_verdict
from rlcap.judge.templates import delimit
from rlcap.types import Sample

ENGINES = ("openai:m", "litellm:openai/m")
REQUEST = JudgeRequest((delimit("caption", "A ball."),), "", Sample("a", ""), parse_verdict)


@pytest.fixture
def server():
    with JudgeServer() as server:
        yield server


def backend(engine, server, monkeypatch, **options):
    monkeypatch.setenv("MY_JUDGE_KEY", "sk-very-secret-123456")
    return load_backend({"type": engine, "base_url": server.url, "api_key_env": "MY_JUDGE_KEY", **options})


def ask(backend, **policy):
    judge = Judge(backend, RetryPolicy(**{"retries": 0, "backoff": 0.0, **policy}))
    return asyncio.run(judge.ask([REQUEST]))[0][0]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_endless_reply_costs_no_memory_and_its_connection_is_closed(server, engine, monkeypatch):
    server.faults = {0: "endless"}
    judge = backend(engine, server, monkeypatch)
    tracemalloc.start()
    try:
        answer = ask(judge, timeout=30.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.reason.startswith("ServerReplyError: the reply has more than 4,194,304 bytes")
    assert peak < 10 * MAX_REPLY_BYTES
    time.sleep(0.2)
    sent = server.sent_without_end
    time.sleep(0.3)
    assert server.sent_without_end == sent


class Canned(JudgeBackend):
    """Answers with one text, or raises an error."""

    name = "canned"
    max_tokens = 7

    def __init__(self, text="", error=None, **completion):
        self.text, self.error, self.completion = text, error, completion

    async def complete(self, request):
        if self.error is not None:
            raise self.error
        return Completion(self.text, **self.completion)


def test_a_long_reply_of_any_backend_is_not_parsed():
    answer = ask(Canned("<" * (MAX_REPLY_CHARACTERS + 1)))
    assert answer.reason == "a reply of 400,001 characters is too long to read"


@pytest.mark.parametrize("text", ["", "<critique>The ba"])
def test_a_reply_that_was_cut_names_the_limit(text):
    assert ask(Canned(text, is_cut=True)).reason == "cut at max_tokens=7: raise it"
    assert ask(Canned(verdict("A ball."), is_cut=True)).parsed is not None


def test_a_lone_surrogate_in_a_reply_is_replaced_where_it_enters():
    reply = verdict("A ball.").replace("As it is.", "As \ud800 is.")
    answer = ask(Canned(reply))
    assert answer.parsed.critique == "As \ufffd is."
    answer.reply.encode()


@pytest.mark.parametrize(
    "start",
    ["", "<think>a <score>1</score></think>\n", "reasoning…</think>\n", "a</think> b</think>", "\n</think>\n\n"],
)
def test_a_chain_of_thought_before_the_verdict_is_dropped(start):
    assert ask(Canned(start + verdict("A ball."))).parsed is not None


@pytest.mark.parametrize("reply", ["{0}</think>", "{0}</think>{0}", "{0} <think>no</think>{0}"])
def test_a_reply_that_begins_with_its_verdict_holds_nothing_else(reply):
    assert ask(Canned(reply.format(verdict("A ball.")))).parsed is None


class Answered(Exception):
    def __init__(self, value):
        self.response = type("Response", (), {"headers": {"retry-after": value}})()


def test_retry_after_is_a_number_or_a_date():
    assert retry_after(Answered("12.5")) == 12.5
    assert retry_after(Answered(email.utils.formatdate(time.time() + 40, usegmt=True))) == pytest.approx(40, abs=3)
    for value in ("soon", "", "-5", "nan", "inf", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 99 Oct 9999999 07:28:00 GMT"):
        assert retry_after(Answered(value)) == 0.0


def failure_of(function, argument):
    try:
        function(argument)
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")),
        urllib.error.URLError(TimeoutError("timed out")),
        urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution")),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        json.JSONDecodeError("Expecting value", "x", 0),
        ServerReplyError("no chat completion"),
        failure_of(json.loads, "[" * 200_000),
        failure_of(json.loads, "9" * 6000),
    ],
)
def test_failures_that_may_pass_are_retried(error):
    assert classify(root_cause(error)) == "transient"
    answer = ask(Canned(error=error), retries=1)
    assert answer.reason.endswith("(2 attempts)")


def test_a_closed_port_abstains_after_its_retries():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"

    class Plain(JudgeBackend):
        name = "plain"

        async def complete(self, request):
            return Completion(await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=2).read().decode()))

    assert "Connection refused" in ask(Plain(), retries=2).reason


@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_on_this_machine_is_asked_without_a_proxy(server, engine, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert ask(backend(engine, server, monkeypatch), timeout=20.0).parsed is not None


def test_a_proxy_in_the_way_is_named(monkeypatch):
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MY_JUDGE_KEY", "sk-very-secret-123456")
    found = load_backend({"type": "openai:m", "base_url": "http://judge.example/v1", "api_key_env": "MY_JUDGE_KEY"})
    answer = ask(found, timeout=20.0)
    assert "http_proxy sends it through the proxy http://127.0.0.1:9: is that up? Else set no_proxy=judge.example" in (
        answer.reason
    )
    assert "secret" not in answer.reason
    assert proxy_hint("http://localhost:8000/v1") == ""
    assert proxy_hint(None) == ""


@pytest.mark.parametrize("engine", ENGINES)
def test_the_address_from_the_environment_is_part_of_the_name(engine, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-123456")
    names = []
    for url in ("http://a.example/v1", "http://b.example/v1/"):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        names.append(load_backend(engine).name)
    monkeypatch.delenv("OPENAI_BASE_URL")
    names.append(load_backend(engine).name)
    assert len(set(names)) == 3
    assert "a.example" in names[0]
    assert load_backend({"type": engine, "base_url": "http://b.example/v1"}).name == names[1]


def test_an_address_loses_its_credentials():
    assert without_credentials("https://me:pw@judge.example/v1/") == "https://judge.example/v1"
    assert without_credentials("https://me:p@w@judge.example/v1") == "https://judge.example/v1"
    assert without_credentials("https://judge.example/v1") == "https://judge.example/v1"
