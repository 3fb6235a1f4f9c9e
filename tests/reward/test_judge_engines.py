"""Engines for real: a local chat model, and a server that speaks OpenAI's protocol on localhost."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from rewards.critique import Critique
from rlcap.reward.dotted import ConfigError
from rlcap.reward.engines import load_engine
from rlcap.reward.judge import JudgeError
from rlcap.reward.verdict import Verdict
from rlcap.types import RewardBatch, Sample

KEY = "sk-very-secret-123456"


@pytest.fixture
def server(monkeypatch):
    """Answers with the status codes that `.statuses` holds, then with verdicts; keeps what it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.seen.append((dict(self.headers), body))
            status = self.server.statuses.pop(0) if self.server.statuses else 200
            if status == 200:
                text = Verdict("Good.", (), (), 8).text()
                choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
                answer = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            else:
                answer = {"error": {"message": f"no, {self.headers['Authorization']}", "type": "e", "code": None}}
            payload = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *args):
            pass

    monkeypatch.setenv("MY_JUDGE_KEY", KEY)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.statuses = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def judge(server, **options):
    engine = {
        "engine": "litellm:openai/m",
        "base_url": f"http://127.0.0.1:{server.server_port}/v1",
        "api_key_env": "MY_JUDGE_KEY",
        "temperature": 0.25,
        **options,
    }
    return Critique(engine, cache=":memory:", backoff=0.01)


def test_an_openai_compatible_server_is_asked_as_configured_and_retried(server):
    server.statuses = [429, 503]
    reward = judge(server)
    rows = RewardBatch(["A ball."], [Sample("a", "", references=("a ball",))])
    assert reward.score(rows)[0].value == 0.8
    assert len(server.seen) == 3
    headers, body = server.seen[-1]
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body["temperature"] == 0.25
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert "<caption>\nA ball.\n</caption>" in body["messages"][1]["content"]


def test_a_refused_key_stops_and_is_not_told(server):
    server.statuses = [401] * 9
    rows = RewardBatch(["A ball."], [Sample("a", "", references=("a ball",))])
    with pytest.raises(JudgeError, match="AuthenticationError") as caught:
        judge(server).score(rows)
    assert KEY not in str(caught.value)
    assert len(server.seen) == 1


def test_a_judge_that_sees_is_sent_the_image(server, tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(path)
    judge(server, is_multimodal=True).score(RewardBatch(["A ball."], [Sample("a", str(path))]))
    text, image = server.seen[0][1]["messages"][1]["content"]
    assert text["type"] == "text"
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")


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
    engine = load_engine({"engine": f"transformers:{tmp_path}", "max_tokens": 5})
    assert engine.generate("a red ball", system_prompt="a") == engine.generate("a red ball", system_prompt="a")
    score = Critique(engine, cache=":memory:").score(RewardBatch(["a"], [Sample("a", "", references=("a ball",))]))[0]
    assert score.abstained


def test_a_model_without_a_chat_template_is_refused(tmp_path):
    tiny_chat(tmp_path, None)
    with pytest.raises(ConfigError, match="has no chat template"):
        load_engine(f"transformers:{tmp_path}")
