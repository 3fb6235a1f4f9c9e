"""Judges' engines: from a line of YAML to an object with textgrad's `EngineLM` protocol (see `rlcap.judge.judge`).

    openai:gpt-4o-mini                OpenAI, or any OpenAI-compatible server (vLLM, Ollama, …) by `base_url`
    litellm:anthropic/claude-…         any provider that LiteLLM knows, at several times the CPU time a call
    transformers:PATH_OR_NAME         a chat model in this process
    textgrad:gpt-4o                   textgrad's own engine of that name
    my_module:MyEngine                your class or function; parameters go to it

Keys are read from the environment by the provider's usual name, or from the variable that `api_key_env` names; they are
no parameters, so that no configuration file, log or cache holds one.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import tempfile
from collections.abc import Mapping
from typing import Any

from rlcap.config.imports import build, exists, resolve
from rlcap.errors import ConfigError
from rlcap.judge.backends.api import LiteLLM, OpenAI, quiet_litellm
from rlcap.judge.backends.transformers import LocalChat


def load_engine(spec: str | Mapping[str, Any] | Any) -> Any:
    """A spec as in the module docstring, a mapping `{engine: spec, **parameters}`, or an engine object itself.

    Raises ConfigError on an unknown kind, a missing parameter, or an object that generates nothing.
    """
    params: dict[str, Any] = {}
    if isinstance(spec, Mapping):
        params = {key: value for key, value in spec.items() if key != "engine"}
        if "engine" not in spec:
            raise ConfigError(f"engine: needs `engine: KIND:NAME` beside its parameters {sorted(params)}")
        spec = spec["engine"]
    if isinstance(spec, str):
        kind, _, name = spec.partition(":")
        if kind in (named := {"openai": OpenAI, "litellm": LiteLLM, "transformers": LocalChat}):
            spec = build(named[kind], {"model": name, **params}, what=spec)
        elif kind == "textgrad":
            spec = import_textgrad().get_engine(name, **params)
        else:
            near = difflib.get_close_matches(kind, known := [*named, "textgrad"], n=1, cutoff=0.7)
            if near and "." not in kind and not exists(kind):
                raise ConfigError(
                    f"no engine {kind!r}; did you mean {near[0]}:{name}? known: {', '.join(known)}, module:Class"
                )
            spec = build(resolve(spec), params, what=spec)
    if not callable(getattr(spec, "generate", None)) or not hasattr(spec, "model_string"):
        raise ConfigError(f"{spec!r:.80} is no engine: it needs generate(content, system_prompt=…) and model_string")
    return spec


def import_textgrad() -> Any:
    """textgrad, without its habits: it writes ./logs at import, and litellm looks for a price list on the network."""
    quiet_litellm()
    if "TEXTGRAD_LOG_DIR" not in os.environ:
        os.environ["TEXTGRAD_LOG_DIR"] = tempfile.mkdtemp(prefix="textgrad-")
    textgrad = importlib.import_module("textgrad")
    # it writes every prompt and reply to its log, and to whatever else listens
    logging.getLogger("textgrad").setLevel(logging.WARNING)
    return textgrad
