"""Engines for real: a local chat model, and a server that speaks OpenAI's protocol on localhost."""

import asyncio
import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from fake_backends import make_reward
from judge_server import Handler, JudgeServer
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from rlcap.errors import ConfigError, JudgeError
from rlcap.judge.backends.base import JudgeRequest, estimate_tokens
from rlcap.judge.backends.loading import load_backend
from rlcap.judge.parsing import Verdict
from rlcap.rewards.critique import Critique
from rlcap.types import RewardBatch, Sample

KEY = "sk-very-secret-123456"


@pytest.fixture
def server(monkeypatch):
    """Answers with verdicts of 8; keeps what it was sent."""
    monkeypatch.setenv("MY_JUDGE_KEY", KEY)
    with JudgeServer() as server:
        server.reply = lambda prompt: Verdict("Good.", (), (), 8).text()
        yield server


ENGINES = ("litellm:openai/m", "openai:m")
both = pytest.mark.parametrize("engine", ENGINES)


def judge(server, engine=ENGINES[0], **options):
    engine = {
        "type": engine,
        "base_url": server.url,
        "api_key_env": "MY_JUDGE_KEY",
        "temperature": 0.25,
        **options,
    }
    return make_reward(Critique, engine, cache=":memory:", backoff=0.01)


@both
def test_an_openai_compatible_server_is_asked_as_configured_and_retried(server, engine):
    server.faults = {0: "429", 1: "503"}
    reward = judge(server, engine)
    rows = RewardBatch(["A ball."], [Sample("a", "", references=("a ball",))])
    assert reward.score(rows)[0].value == 0.8
    assert len(server.seen) == 3
    headers, body = server.seen[-1]
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body["temperature"] == 0.25
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert "<caption>\nA ball.\n</caption>" in body["messages"][1]["content"]


@both
def test_a_rejected_key_stops_the_run_and_is_not_printed(server, engine):
    server.fault = lambda number: "401"
    rows = RewardBatch(["A ball."], [Sample("a", "", references=("a ball",))])
    with pytest.raises(JudgeError, match="AuthenticationError") as caught:
        judge(server, engine).score(rows)
    assert KEY not in str(caught.value)
    assert len(server.seen) == 1


def test_a_reply_has_its_cost(server):
    options = {"base_url": server.url, "api_key_env": "MY_JUDGE_KEY"}
    reply = complete(load_backend({"type": "litellm:openai/m", **options}), "x" * 400, "y" * 40)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.dollars) == (
        100,
        20,
        None,
    )  # nobody knows what this model costs
    assert complete(load_backend({"type": "litellm:openai/gpt-4o-mini", **options}), "x").dollars > 0
    server.usage = None
    reply = complete(load_backend({"type": "litellm:openai/m", **options}), "x" * 400, "y" * 40)
    assert (reply.prompt_tokens, reply.completion_tokens) == (110, estimate_tokens(reply.text))


@both
def test_a_judge_that_sees_is_sent_the_image(server, engine, tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(path)
    judge(server, engine, accepts_images=True).score(RewardBatch(["A ball."], [Sample("a", str(path))]))
    text, image = server.seen[0][1]["messages"][1]["content"]
    assert text["type"] == "text"
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")


def test_the_openai_client_counts_tokens_and_sends_all_options(server, monkeypatch):
    options = {"base_url": server.url, "api_key_env": "MY_JUDGE_KEY", "max_tokens": None, "temperature": None}
    engine = load_backend({"type": "openai:m", **options})
    reply = complete(engine, "x" * 400, "y" * 40, max_completion_tokens=7)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.dollars) == (100, 20, None)  # give limits.prices
    assert server.seen[-1][1] == {
        "model": "m",
        "messages": [{"role": "system", "content": "y" * 40}, {"role": "user", "content": "x" * 400}],
        "max_completion_tokens": 7,
    }
    server.usage = None
    assert complete(engine, "x" * 400, "y" * 40).prompt_tokens == 110
    assert engine.name == f"openai:m@{server.url} t=None max=None"
    assert KEY not in repr(vars(engine))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    complete(load_backend({"type": "openai:m", "base_url": server.url}), "x")  # a server of one's own
    assert server.seen[-1][0]["Authorization"] == "Bearer none"
    with pytest.raises(ConfigError, match="export OPENAI_API_KEY"):
        load_backend("openai:gpt-4o-mini")


def complete(backend, text, system="", **sampling):
    """One completion."""
    return asyncio.run(backend.complete(JudgeRequest((text,), system, Sample("a", ""), sampling=sampling)))


def at_once(backend, texts):
    """The completions of several requests that are made at the same time; an exception in place of one that failed."""

    async def ask():
        requests = [backend.complete(JudgeRequest((text,), "", Sample("a", ""))) for text in texts]
        return await asyncio.gather(*requests, return_exceptions=True)

    return asyncio.run(ask())


def tiny_chat(folder, template):
    words = ["[PAD]", "[EOS]", "[UNK]", "a", "red", "ball"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", eos_token="[EOS]", unk_token="[UNK]"
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    config = GPT2Config(vocab_size=6, n_positions=512, n_embd=8, n_layer=1, n_head=1, eos_token_id=1, bos_token_id=1)
    GPT2LMHeadModel(config).save_pretrained(folder)


def test_a_local_chat_model_too_small_to_judge_abstains(tmp_path):
    tiny_chat(tmp_path, "{% for m in messages %}{{ m['content'] }} {% endfor %}")
    engine = load_backend({"type": f"transformers:{tmp_path}", "max_tokens": 5})
    assert complete(engine, "a red ball", "a") == complete(engine, "a red ball", "a")
    score = make_reward(Critique, engine, cache=":memory:").score(
        RewardBatch(["a"], [Sample("a", "", references=("a ball",))])
    )[0]
    assert score.abstained


def test_questions_that_wait_together_are_answered_in_one_batch(tmp_path):
    tiny_chat(tmp_path, "{% for m in messages %}{{ m['content'] }} {% endfor %}")
    spec = {"type": f"transformers:{tmp_path}", "max_tokens": 4}
    together, alone = load_backend(spec | {"batch_size": 8}), load_backend(spec)
    passes = []
    together._model.register_forward_pre_hook(
        lambda _, args, kwargs: passes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    texts = ["a", "red ball", "a red red ball", "ball ball", "a a a a a a red", "red"]
    replies = [reply.text for reply in at_once(together, texts)]
    assert max(passes) > 1
    assert replies == [complete(alone, text).text for text in texts]
    assert not together._queue


def test_a_question_that_fails_takes_no_other_with_it(tmp_path):
    tiny_chat(tmp_path, "{% for m in messages %}{{ m['content'] }} {% endfor %}")
    engine = load_backend({"type": f"transformers:{tmp_path}", "max_tokens": 4, "batch_size": 8})
    short, long, other = at_once(engine, ("a ball", "red " * 600, "red ball"))
    assert short == complete(engine, "a ball")
    assert other == complete(engine, "red ball")
    assert isinstance(long, IndexError)  # longer than the model's 512 positions


def test_a_cancelled_request_is_not_sent(tmp_path):
    tiny_chat(tmp_path, "{% for m in messages %}{{ m['content'] }} {% endfor %}")
    engine = load_backend({"type": f"transformers:{tmp_path}", "max_tokens": 4, "batch_size": 2})
    passes = []
    engine._model.register_forward_pre_hook(lambda *_: passes.append(1))

    async def give_up():
        async with asyncio.timeout(0):
            await engine.complete(JudgeRequest(("a ball",), "", Sample("a", "")))

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert not passes


def test_a_missing_chat_model_gives_a_one_line_error():
    with pytest.raises(ConfigError, match=r"'\./no-such-model': there is no such file or folder"):
        load_backend("transformers:./no-such-model")
    with pytest.raises(ConfigError, match="batch_size is at least 1, got 0"):
        load_backend({"type": "transformers:x", "batch_size": 0})


def test_a_model_without_a_chat_template_is_refused(tmp_path):
    tiny_chat(tmp_path, None)
    with pytest.raises(ConfigError, match="has no chat template"):
        load_backend(f"transformers:{tmp_path}")


def test_a_module_of_ones_own_is_no_misspelt_engine(tmp_path, monkeypatch):
    (tmp_path / "my_openai.py").write_text("class Judge:\n    pass\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"unknown name in my_openai 'Jugde'; did you mean 'Judge'"):
        load_backend("my_openai:Jugde")
    with pytest.raises(ConfigError, match=r"no backend 'opanai'; did you mean openai:gpt-4o"):
        load_backend("opanai:gpt-4o")


class PlainHandler(Handler):
    """The protocol of the documentation's own backend: {"prompt": …, "image": …} → {"text": …}."""

    def answer(self, fault, body):
        self.send(200, '{"score": 10}' if fault == "wrong" else json.dumps({"text": self.server.reply(body["prompt"])}))


def test_the_documentations_own_backend_asks_another_protocol(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "judges.md").read_text(encoding="utf-8")
    (code,) = [text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "# my_backend.py" in text]
    (tmp_path / "my_backend.py").write_text(code, encoding="utf-8")
    kind = f"{tmp_path / 'my_backend.py'}:LocalServer"
    with JudgeServer(handler=PlainHandler) as server:
        image = tmp_path / "a.png"
        Image.new("RGB", (8, 8)).save(image)
        backend = {"type": kind, "url": server.url, "accepts_images": True}
        reward = make_reward(Critique, backend, image=True, retries=1, backoff=0.001, cache=":memory:")
        rows = RewardBatch(["A ball."], [Sample("a", str(image), references=("a ball",))])
        server.faults = {0: "wrong"}  # and asked again
        (score,) = reward.score(rows)
        assert score.value is not None
        assert base64.b64decode(server.seen[1][1]["image"]).startswith(b"\xff\xd8")
        server.faults = dict.fromkeys(range(2, 9), "wrong")
        (score,) = reward.score(replace(rows, captions=["Another ball."]))
        assert "ServerReplyError: the server's reply has no 'text'" in score.reason
