"""What the backends that ask a server share: the request's body, and reading the server's count of tokens."""

from __future__ import annotations

import base64
import math
import os
from abc import abstractmethod
from typing import Any

from rlcap.errors import ConfigError
from rlcap.judge.backends.base import Completion, JudgeBackend, JudgeRequest, estimate_tokens
from rlcap.judge.connections import without_credentials


class APIBackend(JudgeBackend):
    """A model behind a server that speaks OpenAI's chat protocol, or whose client translates it.

    The key is read from the environment and is no parameter, so that no configuration file, log or cache holds one.

    Args:
        model: the model's name at the server.
        base_url: address of an OpenAI-compatible server in place of the provider's own.
        api_key_env: environment variable that holds the key; by default the provider's usual one.
        temperature: of every call; null leaves it to the server.
        max_tokens: longest reply in tokens; null leaves it to the server.
        accepts_images: whether the model can see, so that images may be sent.
    """

    kind = "api"
    """First part of `name`."""

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key_env: str | None = None,
        temperature: float | None = 0.0,
        max_tokens: int | None = 1000,
        accepts_images: bool = False,
    ) -> None:
        if api_key_env is not None and not os.environ.get(api_key_env):
            raise ConfigError(f"the environment variable {api_key_env} is empty: export the provider's key in it")
        self.model, self.base_url, self.accepts_images = model, base_url, accepts_images
        self.temperature, self.max_tokens, self._api_key_env = temperature, max_tokens, api_key_env
        self.load_client()
        self.address = without_credentials(self.resolve_address())
        # Everything that changes replies is part of the name, which goes into the cache key.
        self.name = f"{self.kind}:{model}@{self.address} t={temperature} max={max_tokens}"

    def load_client(self) -> None:
        """Import the client. That takes seconds, which no call's timeout should pay for."""

    @abstractmethod
    def resolve_address(self) -> str:
        """Return the address that the client asks, also where the environment or the client itself names it."""

    def body(self, request: JudgeRequest) -> dict[str, Any]:
        """Return model, messages and sampling parameters of a call, as OpenAI's protocol has them."""
        messages: list[dict[str, Any]] = [{"role": "system", "content": request.system}] if request.system else []
        messages.append({"role": "user", "content": _content(request.parts)})
        options = {"temperature": self.temperature, "max_tokens": self.max_tokens, **request.sampling}
        return {"model": self.model, "messages": messages} | {k: v for k, v in options.items() if v is not None}


def completion_of(
    text: str,
    request: JudgeRequest,
    prompt_tokens: Any,
    completion_tokens: Any,
    dollars: float | None = None,
    finish_reason: Any = None,
) -> Completion:
    """Return a completion with the tokens that the server counted, or estimates where its counts are no sensible numbers."""
    return Completion(
        text,
        _count(prompt_tokens) or estimate_tokens([request.system, *request.parts]),
        _count(completion_tokens) or estimate_tokens(text),
        dollars,
        finish_reason in ("length", "max_tokens"),
    )


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else 0


def _content(parts: tuple[str | bytes, ...]) -> str | list[dict[str, Any]]:
    """Convert texts and image bytes to OpenAI's content parts; a single text stays a text."""
    if len(parts) == 1 and isinstance(parts[0], str):
        return parts[0]
    content: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, str):
            content.append({"type": "text", "text": part})
        else:
            kind = "png" if part.startswith(b"\x89PNG") else "jpeg"
            url = f"data:image/{kind};base64,{base64.b64encode(part).decode()}"
            content.append({"type": "image_url", "image_url": {"url": url}})
    return content
