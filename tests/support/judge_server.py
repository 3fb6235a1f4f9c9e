"""A judge with OpenAI's protocol on this machine, which produces faults on request.

    with JudgeServer() as server:
        server.faults = {0: "hang", 3: "html"}         # request number → one of FAULTS, or a status
        Critique({"engine": "litellm:openai/m", "base_url": server.url}, ...)

    python tests/support/judge_server.py --latency .2 --every 20      a process of its own; prints its url

An honest reply grades the caption by its content alone, so that whatever arrives can be told from what should have.

For another protocol, subclass `Handler`: override `answer`, which gets the fault and the request's JSON, and replies by `send`. Then write
`JudgeServer(handler=MyHandler)`, or `--handler my_file.py:MyHandler` on the command line.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import json
import math
import socket
import threading
import time
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from rlcap.config.imports import resolve
from rlcap.judge.parsing import Verdict
from rlcap.judge.templates import extract_delimited

FAULTS = (
    "500",
    "hang",
    "html",
    "half",
    "cut",
    "wrong",
    "no_choices",
    "no_text",
    "number",
    "rude",
    "score",
    "nan",
    "bill",
    "garbled",
    "endless",
    "huge",
    "packed",
    "limit",
)
"""In turn: an error, no reply, a web page, half a JSON, a connection that is cut, another JSON, a completion without a
choice, without a text, with a number as text, prose, a grade of 9999, a grade of nan, a usage of nan tokens for a
correct reply, a byte that is not UTF-8, a reply that never ends, one of 10 MB, one that unpacks to 100 MB, and one that
was cut at the token limit."""


def grade(caption: str) -> float:
    """Return the grade in a correct reply: 0, .1, …, 10."""
    return int(hashlib.sha256(caption.encode()).hexdigest(), 16) % 101 / 10


def verdict(caption: str) -> str:
    return Verdict("As it is.", (), (), grade(caption)).text()


class JudgeServer(ThreadingHTTPServer):
    """A server in a thread of this process.

    latency: seconds of each reply. every: every n-th request meets one of `kinds` in turn, besides `faults`. handler: the class that speaks
    the protocol, `Handler` (OpenAI's) by default.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self,
        latency: float = 0.0,
        every: int = 0,
        kinds: tuple[str, ...] = FAULTS,
        handler: type[Handler] | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), handler or Handler)
        self.latency, self.every, self.kinds = latency, every, kinds
        self.faults: dict[int, str] = {}
        self.headers: dict[str, str] = {}
        """Headers that are sent with errors."""
        self.seen: list[tuple[Message, Any]] = []
        """(headers, body) of each request; names of headers in any case."""
        self.usage: dict[str, Any] | None = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        """The token usage sent with each reply; None sends none."""
        self.now = self.peak = self.sent_without_end = 0
        self.connections: list[socket.socket] = []
        self.lock, self.closing = threading.Lock(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def fault(self, number: int) -> str | None:
        if self.every and number % self.every == self.every // 3:
            return self.kinds[number // self.every % len(self.kinds)]
        return self.faults.get(number)

    def reply(self, prompt: str) -> str:
        """Return the reply to a question."""
        return verdict(extract_delimited("caption", prompt))

    def __enter__(self) -> JudgeServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()
        for connection in self.connections:  # or a client would take one up again for a later server on the same port
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, address: Any) -> None:
        """Ignore clients that gave up."""


class Handler(BaseHTTPRequestHandler):
    """Speaks OpenAI's chat protocol."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections.append(self.connection)

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            fault = server.fault(len(server.seen))
            server.seen.append((self.headers, body))
            server.now += 1
            server.peak = max(server.peak, server.now)
        try:
            server.closing.wait(60 if fault == "hang" else server.latency)
            self.answer(fault, body)
        finally:
            with server.lock:
                server.now -= 1

    def answer(self, fault: str | None, body: Any) -> None:
        """Reply to a request, whose body is JSON; `fault` is one of FAULTS, an HTTP status as text, or None."""
        if fault is not None and fault.isdecimal():
            message = f"no, {self.headers['Authorization']}"  # the worst case: an error that repeats the key
            return self.send(int(fault), json.dumps({"error": {"message": message, "type": "e", "code": None}}))
        content = body["messages"][-1]["content"]
        text: Any = self.server.reply(content if isinstance(content, str) else content[0]["text"])
        usage = self.server.usage
        match fault:
            case "rude":
                text = f"I'd rather not. {self.headers['Authorization']}"
            case "score":
                text = text[: text.index("<score>")] + "<score>9999</score>"
            case "nan":
                text = text[: text.index("<score>")] + "<score>nan</score>"
            case "no_text":
                text = None
            case "number":
                text = 10
            case "bill":
                usage = {**usage, "prompt_tokens": math.nan}
            case "limit":
                text = text[: len(text) // 2]
            case "huge":
                text = text + "x" * 10_000_000
        choice = {
            "index": 0,
            "finish_reason": "length" if fault == "limit" else "stop",
            "message": {"role": "assistant", "content": text},
        }
        whole = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        if usage is not None:
            whole["usage"] = usage
        if fault == "no_choices":
            whole["choices"] = []
        payload = json.dumps(whole)
        match fault:
            case "html":
                self.send(200, "<html><body>Please log in</body></html>", kind="text/html")
            case "half":
                self.send(200, payload[: len(payload) // 2])
            case "cut":
                self.send(200, payload[: len(payload) // 2], length=len(payload))
            case "wrong":
                self.send(200, '{"score": 10}')
            case "garbled":
                self.send(200, payload.encode().replace(b"As it is", b"As \xff is"))
            case "packed":
                self.send(200, gzip.compress(b" " * 100_000_000), encoding="gzip")
            case "endless":
                self.send_without_end(payload[:-1])
            case _:
                self.send(200, payload)

    def send_without_end(self, start: str) -> None:
        """Send chunks as fast as the client takes them, until it closes the connection."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        chunk = start.encode() + b" " * 65_536
        self.server.sent_without_end = 0
        with contextlib.suppress(OSError):
            while not self.server.closing.is_set():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.server.sent_without_end += len(chunk)
        self.close_connection = True

    def send(
        self,
        status: int,
        content: str | bytes,
        kind: str = "application/json",
        length: int | None = None,
        encoding: str | None = None,
    ) -> None:
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length or len(data)))
        if encoding:
            self.send_header("Content-Encoding", encoding)
        for name, value in (self.server.headers if status != 200 else {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.close_connection |= length is not None

    def log_message(self, *_: Any) -> None:
        """Write no log."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds of each reply")
    parser.add_argument("--every", type=int, default=0, help="every n-th request meets a fault; 0: none")
    parser.add_argument("--kinds", nargs="+", default=list(FAULTS), choices=FAULTS)
    parser.add_argument("--handler", help="file.py:Class or module:Class of a handler for another protocol")
    args = parser.parse_args()
    handler = resolve(args.handler) if args.handler else None
    with JudgeServer(args.latency, args.every, tuple(args.kinds), handler) as server:
        print(server.url, flush=True)
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main()
