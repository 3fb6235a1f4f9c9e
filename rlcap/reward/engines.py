"""Judges' engines: from a line of YAML to an object with textgrad's `EngineLM` protocol (see `rlcap.reward.judge`).

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
import importlib.util
import logging
import os
import tempfile
import threading
from collections.abc import Mapping
from typing import Any

from rlcap.reward.dotted import ConfigError, build, exists, resolve
from rlcap.reward.served import LiteLLM, OpenAI, quiet_litellm


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


class LocalChat:
    """A text chat model in this process (safetensors, or GGUF by `gguf_file`); replies are greedy, hence repeatable.

    It is as good a judge as its size: below some billions of parameters most replies don't parse, and abstain.
    """

    is_multimodal = False
    max_concurrency = 1
    repeatable = True

    def __init__(
        self, model: str, device: str = "cpu", max_tokens: int = 400, dtype: str = "auto", gguf_file: str | None = None
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if gguf_file and importlib.util.find_spec("gguf") is None:
            raise ConfigError(f"gguf_file={gguf_file} needs the package gguf: pip install gguf")
        source = {"gguf_file": gguf_file} if gguf_file else {"use_safetensors": True}
        self._tokenizer = AutoTokenizer.from_pretrained(
            model, trust_remote_code=False, **({"gguf_file": gguf_file} if gguf_file else {})
        )
        self._model = AutoModelForCausalLM.from_pretrained(model, trust_remote_code=False, dtype=dtype, **source)
        self._model = self._model.to(device).eval().requires_grad_(False)
        if self._tokenizer.chat_template is None:
            raise ConfigError(f"{model} has no chat template: a judge must be a chat (instruction-tuned) model")
        self._max_tokens = max_tokens
        self._lock = threading.Lock()  # a call that timed out may still be generating
        self.model_string = f"transformers:{model} greedy max={max_tokens}"

    def generate(self, content: Any, system_prompt: str | None = None, **sampling: Any) -> str:
        """One reply. `sampling` goes to `model.generate`."""
        import torch

        text = content if isinstance(content, str) else "\n".join(part for part in content if isinstance(part, str))
        messages = [{"role": "system", "content": system_prompt}] if system_prompt else []
        messages.append({"role": "user", "content": text})
        with self._lock, torch.inference_mode():
            inputs = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            ).to(self._model.device)
            options = {"max_new_tokens": self._max_tokens, "do_sample": False} | sampling
            output = self._model.generate(**inputs, **options)
        return self._tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    __call__ = generate
