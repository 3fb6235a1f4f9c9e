"""A text chat model in this process as a judge's engine: questions that wait at the same time are answered in one batch."""

from __future__ import annotations

import importlib.util
import math
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from rlcap.types import ConfigError

GATHER = 0.01
"""Seconds that a batch waits for further questions: they come from threads that were started together."""


@dataclass(slots=True)
class _Call:
    messages: list[dict[str, str]]
    options: dict[str, Any]
    until: float
    """Of the monotonic clock: when its reply is of no use any more."""
    reply: Future[str] = field(default_factory=Future)


class LocalChat:
    """A chat model (safetensors, or GGUF by `gguf_file`); replies are greedy, hence repeatable, but for the rounding that
    another batch brings along: `batch_size=1` is repeatable to the last bit.

    max_tokens: of a reply. batch_size: questions answered at once, where the judge's `concurrency` lets so many wait: faster on a
    GPU; a judge's `timeout` must leave time for the whole batch. It is
    as good a judge as its size: below some billions of parameters most replies don't parse, and abstain. Raises ConfigError
    for a model that can't be loaded, or is no chat model.
    """

    is_multimodal = False
    repeatable = True
    accepts_timeout = True

    def __init__(
        self,
        model: str,
        device: str = "cpu",
        max_tokens: int = 400,
        batch_size: int = 1,
        dtype: str = "auto",
        gguf_file: str | None = None,
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from rlcap.scorers.loading import explain_load_errors

        if batch_size < 1:
            raise ConfigError(f"batch_size is at least 1, got {batch_size}")
        if gguf_file and importlib.util.find_spec("gguf") is None:
            raise ConfigError(f"gguf_file={gguf_file} needs the package gguf: pip install gguf")
        source = {"gguf_file": gguf_file} if gguf_file else {}
        with explain_load_errors("transformers:", model, "give the folder or hub name of a chat model"):
            self._tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False, **source)
            self._model = AutoModelForCausalLM.from_pretrained(
                model, trust_remote_code=False, dtype=dtype, **(source or {"use_safetensors": True})
            )
        self._model = self._model.to(device).eval().requires_grad_(False)
        if self._tokenizer.chat_template is None:
            raise ConfigError(f"{model} has no chat template: a judge must be a chat (instruction-tuned) model")
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._max_tokens, self.max_concurrency = max_tokens, batch_size
        self._waiting: list[_Call] = []
        self._turn = threading.Lock()  # a call that timed out may still be generating
        self.model_string = f"transformers:{model} greedy max={max_tokens}"

    def generate(
        self, content: Any, system_prompt: str | None = None, timeout: float | None = None, **sampling: Any
    ) -> str:
        """One reply. `sampling` goes to `model.generate`; only questions of equal `sampling` share a batch. timeout: seconds
        after which nobody waits for the reply any more: TimeoutError, where the model has not begun with it by then."""
        text = content if isinstance(content, str) else "\n".join(part for part in content if isinstance(part, str))
        messages = [{"role": "system", "content": system_prompt}] if system_prompt else []
        until = time.monotonic() + (math.inf if timeout is None else timeout)
        call = _Call([*messages, {"role": "user", "content": text}], sampling, until)
        self._waiting.append(call)
        with self._turn:  # whoever has it answers for those that wait
            if not call.reply.done():
                if self.max_concurrency > 1:
                    time.sleep(GATHER)
                self._answer(call)
        return call.reply.result()

    __call__ = generate

    def _answer(self, first: _Call) -> None:
        for call in [call for call in self._waiting if call.until < time.monotonic()]:
            self._waiting.remove(call)
            call.reply.set_exception(TimeoutError("nobody waits for this reply any more"))
        if first.reply.done():
            return
        others = [call for call in list(self._waiting) if call is not first and call.options == first.options]
        batch = [first, *others[: self.max_concurrency - 1]]
        for call in batch:
            self._waiting.remove(call)
        try:
            replies = self._replies(batch)
        except Exception:  # one question that is too long is no reason to leave the others without a reply
            replies = None
        if replies is None:  # here, and not above, where the error would keep the failed batch's memory
            for call in batch:
                self._settle(call)
        else:
            for call, reply in zip(batch, replies, strict=True):
                call.reply.set_result(reply)

    def _settle(self, call: _Call) -> None:
        try:
            call.reply.set_result(self._replies([call])[0])
        except Exception as error:  # raised again where the question was asked
            call.reply.set_exception(error)

    def _replies(self, batch: list[_Call]) -> list[str]:
        import torch

        with torch.inference_mode():
            inputs = self._tokenizer.apply_chat_template(
                [call.messages for call in batch],
                add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt",
            ).to(self._model.device)  # fmt: skip
            options = {"max_new_tokens": self._max_tokens, "do_sample": False} | batch[0].options
            output = self._model.generate(**inputs, pad_token_id=self._tokenizer.pad_token_id, **options)
        return self._tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
