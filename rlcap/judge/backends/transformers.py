"""A chat model in this process as a judge's backend. Requests that wait at the same time are answered in one batch."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlcap.errors import ConfigError
from rlcap.io.addresses import resolve_address
from rlcap.judge.backends.base import Completion, JudgeBackend, JudgeRequest
from rlcap.judge.event_loop import run_in_daemon_thread

GATHER_SECONDS = 0.01
"""A batch waits this long for further requests, which were started together."""


@dataclass(slots=True)
class _Waiting:
    messages: list[dict[str, str]]
    sampling: Mapping[str, Any]
    reply: asyncio.Future[str]


class TransformersBackend(JudgeBackend):
    """A text chat model that transformers loads, from safetensors or GGUF.

    Replies are greedy and hence repeatable, up to the rounding that another batch brings; with `batch_size=1` they are repeatable to
    the last bit. The model is as good a judge as it is large: below some billions of parameters most replies have no readable form,
    and the captions abstain.

    Args:
        model: folder or hub name of a chat model.
        device: where the model runs.
        max_tokens: longest reply in tokens.
        batch_size: requests that are answered at once, as far as the judge's `concurrency` lets them wait. Larger is faster on a GPU;
            the judge's `timeout` must leave time for a whole batch.
        dtype: dtype of the weights, or auto.
        gguf_file: name of a GGUF file in the model's folder.

    Raises:
        ConfigError: for a model that can't be loaded, or that has no chat template.
    """

    is_deterministic = True

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

        from rlcap.scorers.loading import explain_load_errors, load_complete_model

        if batch_size < 1:
            raise ConfigError(f"batch_size is at least 1, got {batch_size}")
        if gguf_file and importlib.util.find_spec("gguf") is None:
            raise ConfigError(f"gguf_file={gguf_file} needs the package gguf: pip install gguf")
        folder = resolve_address(model)
        source: dict[str, Any] = {"gguf_file": gguf_file} if gguf_file else {}
        with explain_load_errors("transformers:", model, "give the folder or hub name of a chat model"):
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **source)
            loaded = load_complete_model(
                AutoModelForCausalLM,
                folder,
                "transformers:",
                model,
                dtype=dtype,
                **(source or {"use_safetensors": True}),
            )
        self._model: Any = loaded.to(device).eval().requires_grad_(False)
        if self._tokenizer.chat_template is None:
            raise ConfigError(f"{model} has no chat template: a judge must be a chat (instruction-tuned) model")
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._max_tokens, self.max_concurrency = max_tokens, batch_size
        self._queue: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None
        self.name = f"transformers:{model} greedy max={max_tokens}"

    async def complete(self, request: JudgeRequest) -> Completion:
        """Answer one request. Only requests with equal sampling parameters share a batch."""
        messages = [{"role": "system", "content": request.system}] if request.system else []
        messages.append({"role": "user", "content": request.text})
        waiting = _Waiting(messages, request.sampling, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.ensure_future(self._work())
        return Completion(await waiting.reply)

    async def _work(self) -> None:
        """Answer the queue, batch by batch, until it is empty."""
        while self._queue:
            if self.max_concurrency != 1:
                await asyncio.sleep(GATHER_SECONDS)
            # A request that timed out was cancelled: nobody waits for its reply, so the model is not asked.
            self._queue = [waiting for waiting in self._queue if not waiting.reply.done()]
            if not self._queue:
                return
            alike = [waiting for waiting in self._queue if waiting.sampling == self._queue[0].sampling]
            batch = alike[: self.max_concurrency]
            self._queue = [waiting for waiting in self._queue if waiting not in batch]
            await self._answer(batch)

    async def _answer(self, batch: list[_Waiting]) -> None:
        try:
            replies = await run_in_daemon_thread(self._generate, batch)
        except Exception as error:
            if len(batch) == 1:  # raised again where the request was made
                _fail(batch[0], error)
                return
        else:
            for waiting, reply in zip(batch, replies, strict=True):
                if not waiting.reply.done():
                    waiting.reply.set_result(reply)
            return
        # One request that is too long is no reason to leave the others without a reply. This stands outside the handler, where the
        # exception would keep the failed batch's memory.
        for waiting in batch:
            await self._answer([waiting])

    def _generate(self, batch: list[_Waiting]) -> list[str]:
        import torch

        with torch.inference_mode():
            inputs = self._tokenizer.apply_chat_template(
                [waiting.messages for waiting in batch],
                add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt",
            ).to(self._model.device)  # fmt: skip
            options = {"max_new_tokens": self._max_tokens, "do_sample": False, **batch[0].sampling}
            output = self._model.generate(**inputs, pad_token_id=self._tokenizer.pad_token_id, **options)
        replies: list[str] = self._tokenizer.batch_decode(
            output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return replies


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.reply.done():
        waiting.reply.set_exception(error)
