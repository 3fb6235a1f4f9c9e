"""Judges' engines: from a line of YAML to an object with textgrad's `EngineLM` protocol (see `rlcap.reward.judge`).

    litellm:openai/gpt-4o-mini        any provider that LiteLLM knows, any OpenAI-compatible server by `base_url`
    transformers:PATH_OR_NAME         a chat model in this process
    textgrad:gpt-4o                   textgrad's own engine of that name
    my_module:MyEngine                your class or function; parameters go to it

Keys are read from the environment by the provider's usual name, or from the variable that `api_key_env` names; they are
no parameters, so that no configuration file, log or cache holds one.
"""

from __future__ import annotations

import base64
import importlib
import math
import os
import tempfile
import threading
from collections.abc import Mapping
from typing import Any

from rlcap.reward.dotted import ConfigError, build, resolve
from rlcap.reward.spending import Reply, estimate


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
        if kind == "litellm":
            spec = build(LiteLLM, {"model": name, **params}, what=spec)
        elif kind == "transformers":
            spec = build(LocalChat, {"model": name, **params}, what=spec)
        elif kind == "textgrad":
            spec = import_textgrad().get_engine(name, **params)
        else:
            spec = build(resolve(spec), params, what=spec)
    if not callable(getattr(spec, "generate", None)) or not hasattr(spec, "model_string"):
        raise ConfigError(f"{spec!r:.80} is no engine: it needs generate(content, system_prompt=…) and model_string")
    return spec


def import_textgrad() -> Any:
    """textgrad, without its habits: it writes ./logs at import, and litellm looks for a price list on the network."""
    quiet_litellm()
    if "TEXTGRAD_LOG_DIR" not in os.environ:
        os.environ["TEXTGRAD_LOG_DIR"] = tempfile.mkdtemp(prefix="textgrad-")
    return importlib.import_module("textgrad")


def quiet_litellm() -> None:
    """Must run before the first import of litellm."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def _litellm() -> Any:
    quiet_litellm()
    litellm = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    return litellm


class LiteLLM:
    """A provider behind LiteLLM. model: its name there (`openai/gpt-4o-mini`, `ollama/llama3.2`, …).

    base_url: an OpenAI-compatible server. is_multimodal: send the image too. timeout: seconds, of the HTTP request, where
    whoever asks names none.
    """

    accepts_timeout = True

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key_env: str | None = None,
        temperature: float = 0.0,
        max_tokens: int = 1000,
        is_multimodal: bool = False,
        timeout: float = 60.0,
    ) -> None:
        if api_key_env is not None and not os.environ.get(api_key_env):
            raise ConfigError(f"the environment variable {api_key_env} is empty: export the provider's key in it")
        self.model, self.base_url, self.is_multimodal, self.timeout = model, base_url, is_multimodal, timeout
        self.temperature, self.max_tokens, self._api_key_env = temperature, max_tokens, api_key_env
        _litellm()  # loading it takes seconds, which no call's timeout should pay for
        # Everything that changes replies stands in the name, which goes into the cache key.
        self.model_string = f"litellm:{model}@{base_url or 'default'} t={temperature} max={max_tokens}"

    def generate(self, content: Any, system_prompt: str | None = None, **sampling: Any) -> Reply:
        """One reply, with its tokens, and its dollars where LiteLLM knows them. Raises litellm's exceptions, which carry
        `status_code`."""
        litellm = _litellm()
        messages = [{"role": "system", "content": system_prompt}] if system_prompt else []
        messages.append({"role": "user", "content": content if isinstance(content, str) else _parts(content)})
        options = {"temperature": self.temperature, "max_tokens": self.max_tokens, "timeout": self.timeout} | sampling
        response = litellm.completion(
            model=self.model,
            messages=messages,
            api_base=self.base_url,
            api_key=os.environ[self._api_key_env] if self._api_key_env else None,
            num_retries=0,  # the judge retries, with its own patience
            max_retries=0,  # nor does the client below
            drop_params=True,
            **options,
        )
        text = (response.choices[0].message.content if response.choices else None) or ""
        usage, dollars = getattr(response, "usage", None), response._hidden_params.get("response_cost")
        read, written = (_tokens(getattr(usage, name, None)) for name in ("prompt_tokens", "completion_tokens"))
        asked = [system_prompt or "", *([content] if isinstance(content, str) else content)]
        return Reply(text, read or estimate(asked), written or estimate(text), dollars)

    __call__ = generate


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
