"""The characters of each token, with the tokenizers of several kinds."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlcap.policy import token_offsets as module
from rlcap.policy.token_offsets import token_offsets


@pytest.fixture(scope="module")
def words():
    from rlcap.lab.models.tokenizer import build_tokenizer

    return build_tokenizer()


@pytest.fixture(scope="module")
def bytes_tokenizer():
    """Return a byte-level tokenizer without merges: each byte is a token, as in the worst case of BPE."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: i for i, character in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    wrapped.add_special_tokens({"eos_token": "</s>"})
    return wrapped


def test_word_tokens_cover_their_words(words):
    text = "a red ball is at the top. a cup is blue."
    ids = [*words(text)["input_ids"], words.eos_token_id]
    decoded = words.decode(ids, skip_special_tokens=True).strip()
    offsets = token_offsets(words, ids)
    assert [decoded[start:end].strip() for start, end in offsets[:4]] == ["a", "red", "ball", "is"]
    assert offsets[-1] == (len(decoded), len(decoded))
    assert "".join(decoded[start:end] for start, end in offsets) == decoded


@pytest.mark.parametrize(
    "text", ["plain words", " leading space", "café au lait", "a 😀 in 日本", "tabs\tand\nlines  "]
)
def test_bytes_cover_every_character(bytes_tokenizer, text):
    ids = [*bytes_tokenizer(text)["input_ids"], bytes_tokenizer.eos_token_id]
    whole = text.strip()
    offsets = token_offsets(bytes_tokenizer, ids)
    assert len(offsets) == len(ids)
    covered = {i for start, end in offsets for i in range(start, end)}
    assert covered == set(range(len(whole)))
    assert all(0 <= start <= end <= len(whole) for start, end in offsets)
    assert offsets[-1] == (len(whole), len(whole))


def test_every_byte_of_an_emoji_gets_its_character(bytes_tokenizer):
    ids = bytes_tokenizer("a😀b")["input_ids"]
    assert token_offsets(bytes_tokenizer, ids) == [(0, 1), (1, 2), (1, 2), (1, 2), (1, 2), (2, 3)]


def test_windows_that_disagree_give_way_to_whole_prefixes(words, monkeypatch):
    ids = words("a red ball is at the top")["input_ids"]
    expected = token_offsets(words, ids)
    monkeypatch.setattr(module, "_ends_by_windows", lambda tokenizer, ids: [0] * len(ids))
    assert token_offsets(words, ids) == expected


def test_an_empty_caption_has_an_end_token_only(words):
    assert token_offsets(words, [words.eos_token_id]) == [(0, 0)]
    assert token_offsets(words, []) == []
