"""A backend on LiteLLM, for every provider that it knows (`openai/gpt-4o-mini`, `anthropic/claude-…`, `ollama/llama3.2`, …)."""

from __future__ import annotations

import importlib
import os
from typing import Any

import httpx

from rlcap.judge import event_loop
from rlcap.judge.backends.api import APIBackend, completion_of
from rlcap.judge.backends.base import Completion, JudgeRequest
from rlcap.judge.connections import client_options


class LiteLLMBackend(APIBackend):
    """Asks through LiteLLM's asynchronous call, which also knows the prices of many models."""

    kind = "litellm"

    def load_client(self) -> None:
        """Import LiteLLM."""
        self._litellm = import_litellm()

    def resolve_address(self) -> str:
        """Return `base_url`, or the address in the provider's environment variables, or the one that LiteLLM knows."""
        try:
            _, provider, _, known = self._litellm.get_llm_provider(self.model)
        except self._litellm.exceptions.BadRequestError:  # the first call says what is wrong with the name
            provider, known = self.model.partition("/")[0], None
        variables = (f"{provider.upper()}_BASE_URL", f"{provider.upper()}_API_BASE")
        named = next((value for name in variables if (value := os.environ.get(name))), None)
        return self.base_url or self._litellm.api_base or named or known or provider

    async def complete(self, request: JudgeRequest) -> Completion:
        """Answer one request.

        Raises:
            Exception: LiteLLM's exceptions, which carry `status_code`.
        """
        # LiteLLM keeps connections in the module, and they belong to the event loop that made them: one loop makes all calls.
        return await event_loop.run_on_background_loop(self._complete(request))

    async def _complete(self, request: JudgeRequest) -> Completion:
        response = await self._litellm.acompletion(
            **self.body(request),
            timeout=request.timeout,
            api_base=self.base_url,
            api_key=os.environ[self._api_key_env] if self._api_key_env else None,
            num_retries=0,  # the judge retries by its own policy
            max_retries=0,  # nor may the client below retry
            drop_params=True,
        )
        text = (response.choices[0].message.content if response.choices else None) or ""
        usage, dollars = getattr(response, "usage", None), response._hidden_params.get("response_cost")
        prompt, written = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
        finish_reason = response.choices[0].finish_reason if response.choices else None
        return completion_of(text, request, prompt, written, dollars, finish_reason)


def keep_litellm_offline() -> None:
    """Stop LiteLLM from looking for its price list on the network. Must run before its first import."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def import_litellm() -> Any:
    """Import LiteLLM without its messages and its look at the network."""
    keep_litellm_offline()
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.disable_aiohttp_transport = True  # on it a call now and then never returns; httpx does not lose any
    if litellm.aclient_session is None:  # this process may have set its own
        litellm.aclient_session = httpx.AsyncClient(
            **client_options(), timeout=None, limits=httpx.Limits(max_connections=1000, max_keepalive_connections=100)
        )
    return litellm
