"""From a line of a configuration to a judge's backend.

    openai:gpt-4o-mini                OpenAI, or by `base_url` any server that speaks its protocol (vLLM, Ollama, …)
    litellm:anthropic/claude-…        any provider that LiteLLM knows, at several times the CPU time a call
    transformers:PATH_OR_NAME         a chat model in this process
    textgrad:gpt-4o                   textgrad's own engine of that name
    my_module:MyBackend               your class; see `rlcap.judge.backends.base`

Parameters are given as a mapping: {type: openai, model: gpt-4o-mini, base_url: "http://localhost:8000/v1"}, or
{type: "my_module:MyBackend", my_parameter: 1}.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from rlcap.config.imports import build, exists, resolve
from rlcap.errors import ConfigError
from rlcap.judge.backends.base import JudgeBackend

KINDS = {
    "openai": "rlcap.judge.backends.openai:OpenAIBackend",
    "litellm": "rlcap.judge.backends.litellm:LiteLLMBackend",
    "transformers": "rlcap.judge.backends.transformers:TransformersBackend",
    "textgrad": "rlcap.judge.backends.textgrad:TextGradBackend",
}
"""Short name → dotted path of the backend's class."""
_MEMBERS = ("name", "accepts_images", "reads_sample", "is_deterministic", "max_concurrency", "complete")


def load_backend(spec: str | Mapping[str, Any] | JudgeBackend) -> JudgeBackend:
    """Return the backend that a configuration names.

    Args:
        spec: a line or a mapping as in the module's docstring, or a backend itself.

    Raises:
        ConfigError: for an unknown kind, a missing or unknown parameter, or an object that is no backend.
    """
    parameters: dict[str, Any] = {}
    if isinstance(spec, Mapping):
        parameters = {key: value for key, value in spec.items() if key != "type"}
        if "type" not in spec:
            raise ConfigError(f"a judge's backend needs `type: openai` (or another) beside {sorted(parameters)}")
        spec = str(spec["type"])
    if isinstance(spec, str):
        kind, colon, rest = spec.partition(":")
        if kind in KINDS:
            model = {"model": rest} if colon else {}
            backend = build(resolve(KINDS[kind]), {**model, **parameters}, what=spec)
        else:
            near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.7)
            if near and "." not in kind and not exists(kind):
                raise ConfigError(
                    f"no backend {kind!r}; did you mean {near[0]}:{rest}? known: {', '.join(KINDS)}, module:Class"
                )
            backend = build(_backend_class(spec), parameters, what=spec)
    else:
        backend = spec
    if not isinstance(backend, JudgeBackend):
        missing = ", ".join(member for member in _MEMBERS if not hasattr(backend, member))
        raise ConfigError(
            f"{backend!r:.80} is no judge backend: it lacks {missing}; derive it from rlcap.judge.backends.base:JudgeBackend"
        )
    return backend


def _backend_class(path: str) -> type:
    """Return the class at a dotted path, which is not called unless it is a backend.

    Raises:
        ConfigError: for a function, or a class without the coroutine `complete`.
    """
    found = resolve(path)
    if not (isinstance(found, type) and inspect.iscoroutinefunction(getattr(found, "complete", None))):
        raise ConfigError(
            f"{path} is no judge backend, and was not called: a backend is a class with `name` and the coroutine `complete`; "
            "derive it from rlcap.judge.backends.base:JudgeBackend"
        )
    return found
