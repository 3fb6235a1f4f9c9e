"""textgrad's own engines as a backend, and importing textgrad without its side effects."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import tempfile
from typing import Any

from rlcap.judge.backends.base import Completion, JudgeBackend, JudgeRequest
from rlcap.judge.backends.litellm import keep_litellm_offline
from rlcap.judge.connections import without_credentials
from rlcap.judge.event_loop import run_in_daemon_thread


class TextGradBackend(JudgeBackend):
    """One of textgrad's engines, which are synchronous: every call runs in a thread of its own.

    textgrad's own path is not used beyond the engine: its cache key is salted anew in each process, its multimodal check knows seven
    model names, and its LiteLLM engine drops sampling parameters.

    Args:
        model: a name that `textgrad.get_engine` knows, such as gpt-4o.
        accepts_images: whether the model can see.
        **parameters: further parameters for the engine.
    """

    def __init__(self, model: str, accepts_images: bool = False, **parameters: Any) -> None:
        self._engine = import_textgrad().get_engine(model, **parameters)
        address = getattr(self._engine, "base_url", None) or os.environ.get("OPENAI_BASE_URL")
        self.name = f"textgrad:{self._engine.model_string}"
        if address:
            self.name += f"@{without_credentials(str(address))}"
        self.accepts_images = accepts_images

    async def complete(self, request: JudgeRequest) -> Completion:
        """Answer one request. Raises the engine's exceptions."""
        content = list(request.parts) if len(request.parts) > 1 else request.parts[0]
        call = functools.partial(self._engine.generate, content, system_prompt=request.system, **dict(request.sampling))
        return Completion(str(await run_in_daemon_thread(call)))


def import_textgrad() -> Any:
    """Import textgrad without its side effects.

    It writes ./logs at import, and every prompt and reply to its log; LiteLLM below it looks for a price list on the network.
    """
    keep_litellm_offline()
    if "TEXTGRAD_LOG_DIR" not in os.environ:
        os.environ["TEXTGRAD_LOG_DIR"] = tempfile.mkdtemp(prefix="textgrad-")
    textgrad = importlib.import_module("textgrad")
    logging.getLogger("textgrad").setLevel(logging.WARNING)
    return textgrad
