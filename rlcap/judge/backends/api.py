"""Engines that ask a server: OpenAI's own client, and LiteLLM for every other protocol. See `rlcap.judge.backends.loading`."""

from __future__ import annotations

import base64
import importlib
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from rlcap.errors import ConfigError, ServerReplyError
from rlcap.judge.budget import Reply, estimate


class Served:
    """A model behind a server. model: its name there. base_url: an OpenAI-compatible server instead of the provider's.

    is_multimodal: send the image too. temperature, max_tokens: of every call; null leaves it to the server. timeout:
    seconds, of the HTTP request, where whoever asks names none.
    """

    kind = "served"
    accepts_timeout = True

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key_env: str | None = None,
        temperature: float | None = 0.0,
        max_tokens: int | None = 1000,
        is_multimodal: bool = False,
        timeout: float = 60.0,
    ) -> None:
        if api_key_env is not None and not os.environ.get(api_key_env):
            raise ConfigError(f"the environment variable {api_key_env} is empty: export the provider's key in it")
        self.model, self.base_url, self.is_multimodal, self.timeout = model, base_url, is_multimodal, timeout
        self.temperature, self.max_tokens, self._api_key_env = temperature, max_tokens, api_key_env
        # Everything that changes replies stands in the name, which goes into the cache key.
        self.model_string = f"{self.kind}:{model}@{base_url or 'default'} t={temperature} max={max_tokens}"
        self.load()

    def load(self) -> None:
        """Import the client: it takes seconds, which no call's timeout should pay for."""

    def body(self, content: Any, system_prompt: str | None, sampling: Mapping[str, Any]) -> dict[str, Any]:
        """Model, messages, sampling and timeout of a call."""
        messages = [{"role": "system", "content": system_prompt}] if system_prompt else []
        messages.append({"role": "user", "content": content if isinstance(content, str) else _parts(content)})
        options = {"temperature": self.temperature, "max_tokens": self.max_tokens, "timeout": self.timeout} | dict(
            sampling
        )
        return {"model": self.model, "messages": messages} | {k: v for k, v in options.items() if v is not None}


class LiteLLM(Served):
    """A provider behind LiteLLM (`openai/gpt-4o-mini`, `ollama/llama3.2`, …)."""

    kind = "litellm"

    def load(self) -> None:
        _litellm()

    def generate(self, content: Any, system_prompt: str | None = None, **sampling: Any) -> Reply:
        """One reply, with its tokens, and its dollars where LiteLLM knows them. Raises litellm's exceptions, which carry
        `status_code`."""
        response = _litellm().completion(
            **self.body(content, system_prompt, sampling),
            api_base=self.base_url,
            api_key=os.environ[self._api_key_env] if self._api_key_env else None,
            num_retries=0,  # the judge retries, with its own patience
            max_retries=0,  # nor does the client below
            drop_params=True,
        )
        text = (response.choices[0].message.content if response.choices else None) or ""
        usage, dollars = getattr(response, "usage", None), response._hidden_params.get("response_cost")
        return _reply(text, lambda name: getattr(usage, name, None), content, system_prompt, dollars)

    __call__ = generate


class OpenAI(Served):
    """A model behind OpenAI's own client, with less work a call than LiteLLM's. It knows no prices: give
    `limits.prices` where dollars are to be counted.

    The key is read from OPENAI_API_KEY unless `api_key_env` names another variable; a server of one's own (`base_url`)
    may do without.
    """

    kind = "openai"

    def load(self) -> None:
        from openai import OpenAI as Client

        key = os.environ.get(self._api_key_env or "OPENAI_API_KEY") or ("none" if self.base_url else None)
        if key is None:
            raise ConfigError("openai: needs a key: export OPENAI_API_KEY, or name another variable by api_key_env")
        # One client for all threads, which keeps connections open. The judge retries, with its own patience.
        self._client = Client(api_key=key, base_url=self.base_url, max_retries=0)

    def generate(self, content: Any, system_prompt: str | None = None, **sampling: Any) -> Reply:
        """One reply, with its tokens. Raises openai's exceptions, which carry `status_code`."""
        body = self.body(content, system_prompt, sampling)
        timeout = body.pop("timeout")
        # `post` and not `chat.completions.create`: that would spend as much again on checks of ours and guesses at theirs
        found = self._client.post("/chat/completions", cast_to=object, body=body, options={"timeout": timeout})
        if not isinstance(found, dict) or not isinstance(found.get("choices"), list):
            raise ServerReplyError(f"no chat completion: {found!r:.80}")
        try:
            text = found["choices"][0]["message"]["content"] if found["choices"] else None
        except (KeyError, TypeError) as error:
            raise ServerReplyError(f"no message in {found['choices']!r:.80}") from error
        if not isinstance(text, str | None):
            raise ServerReplyError(f"its text is {text!r:.40}")
        usage = found.get("usage")
        return _reply(text or "", (usage if isinstance(usage, dict) else {}).get, content, system_prompt)

    __call__ = generate


def quiet_litellm() -> None:
    """Must run before the first import of litellm."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def _litellm() -> Any:
    quiet_litellm()
    litellm = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    return litellm


def _reply(
    text: str, usage: Callable[[str], Any], content: Any, system_prompt: str | None, dollars: float | None = None
) -> Reply:
    """With the tokens that the server counted, or an estimate."""
    asked = [system_prompt or "", *([content] if isinstance(content, str) else content)]
    read, written = _tokens(usage("prompt_tokens")), _tokens(usage("completion_tokens"))
    return Reply(text, read or estimate(asked), written or estimate(text), dollars)


def _tokens(said: Any) -> int:
    """A server's count of tokens, 0 where it is no sensible number."""
    return int(said) if isinstance(said, int | float) and math.isfinite(said) and said > 0 else 0


def _parts(content: list[str | bytes]) -> list[dict[str, Any]]:
    """textgrad's list of texts and image bytes → OpenAI's content parts."""
    parts: list[dict[str, Any]] = []
    for item in content:
        if isinstance(item, str):
            parts.append({"type": "text", "text": item})
        else:
            kind = "png" if item.startswith(b"\x89PNG") else "jpeg"
            url = f"data:image/{kind};base64,{base64.b64encode(item).decode()}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts
