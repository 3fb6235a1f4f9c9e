"""What a tokenizer and its model know: the tokens that end a caption, and the words that they lack."""

from __future__ import annotations

from typing import Any

from rlcap.errors import ConfigError


def find_unknown_words(tokenizer: Any, text: str) -> list[str]:
    """Return the words of a text that the tokenizer reads as its unknown token. Most tokenizers know every text and have no such word."""
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown not in tokenizer(text, add_special_tokens=False)["input_ids"]:
        return []
    return [word for word in text.split() if unknown in tokenizer(word, add_special_tokens=False)["input_ids"]]


def find_end_ids(text_model: Any, tokenizer: Any) -> list[int]:
    """Return the ids at which generation stops: those of the generation config, else the end token of the tokenizer.

    Raises:
        ConfigError: Neither names one, so that a caption would never end.
    """
    ends = text_model.generation_config.eos_token_id
    ends = tokenizer.eos_token_id if ends is None else ends
    found = [end for end in (ends if isinstance(ends, list | tuple) else [ends]) if end is not None]
    if not found:
        raise ConfigError(
            f"{type(text_model).__name__} has no end token: neither generation_config.eos_token_id nor the tokenizer's "
            "eos_token is set; set eos_token_id in the model's generation_config.json"
        )
    return found
