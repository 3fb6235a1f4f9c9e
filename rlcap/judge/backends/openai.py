"""A backend on OpenAI's own asynchronous client, for OpenAI and every server that speaks its protocol (vLLM, Ollama, …)."""

from __future__ import annotations

import asyncio
import os
import weakref

from rlcap.errors import ConfigError, ServerReplyError
from rlcap.judge.backends.api import APIBackend, completion_of
from rlcap.judge.backends.base import Completion, JudgeRequest
from rlcap.judge.connections import client_options

OPENAI_ADDRESS = "https://api.openai.com/v1"
"""The address that OpenAI's client asks where nothing names another."""


class OpenAIBackend(APIBackend):
    """Asks through OpenAI's client, which costs less CPU time a call than LiteLLM.

    The client knows no prices: give `limits.prices` where dollars are to be counted. The key is read from OPENAI_API_KEY unless
    `api_key_env` names another variable; a server of your own (`base_url`) may do without a key.
    """

    kind = "openai"

    def load_client(self) -> None:
        """Import OpenAI's client and read the key.

        Raises:
            ConfigError: where the environment holds no key.
        """
        import openai

        key = os.environ.get(self._api_key_env or "OPENAI_API_KEY") or ("none" if self.base_url else None)
        if key is None:
            raise ConfigError("openai: needs a key: export OPENAI_API_KEY, or name another variable by api_key_env")
        # The judge retries by its own policy, so that the client must not. A client's connections belong to one event loop.

        def new_client() -> openai.AsyncOpenAI:
            http_client = openai.DefaultAsyncHttpxClient(**client_options())
            return openai.AsyncOpenAI(api_key=key, base_url=self.base_url, max_retries=0, http_client=http_client)

        self._new_client = new_client
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, openai.AsyncOpenAI] = (
            weakref.WeakKeyDictionary()
        )

    def resolve_address(self) -> str:
        """Return `base_url`, or the address in OPENAI_BASE_URL, or OpenAI's own."""
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_ADDRESS

    async def complete(self, request: JudgeRequest) -> Completion:
        """Answer one request.

        Raises:
            ServerReplyError: for a reply with status 200 that is no chat completion.
            openai.APIError: for other failures; its subclasses carry `status_code`.
        """
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop) or self._clients.setdefault(loop, self._new_client())
        # `post` and not `chat.completions.create`, which spends as much again on validating what is validated here
        reply = await client.post(
            "/chat/completions", cast_to=object, body=self.body(request), options={"timeout": request.timeout}
        )
        if not isinstance(reply, dict) or not isinstance(reply.get("choices"), list):
            raise ServerReplyError(f"no chat completion: {reply!r:.80}")
        try:
            text = reply["choices"][0]["message"]["content"] if reply["choices"] else None
        except (KeyError, TypeError) as error:
            raise ServerReplyError(f"no message in {reply['choices']!r:.80}") from error
        if not isinstance(text, str | None):
            raise ServerReplyError(f"its text is {text!r:.40}")
        usage = reply.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        finish_reason = reply["choices"][0].get("finish_reason") if reply["choices"] else None
        prompt, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
        return completion_of(text or "", request, prompt, written, finish_reason=finish_reason)
