"""The lab's word-level tokenizers, as transformers fast tokenizers built from `rlcap.lab.world.language.vocabulary`."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rlcap.lab.world.language import vocabulary

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
"""The special tokens."""
PAD, BOS, EOS, UNKNOWN, IMAGE = range(len(SPECIAL))
"""Ids of the special tokens."""


def build_tokenizer(template: str = "none", length: int = 512, words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Build a lower-casing word-level tokenizer.

    Args:
        template: "none" adds no special tokens, because the chat template of the captioner writes them, and pads on the
            left for generation. "text" wraps a text as `<s> … </s>` (dual encoders). "pair" wraps a pair as `<s>
            premise </s> hypothesis </s>` (NLI cross-encoder). These two pad on the right.
        length: The maximum length in tokens.
        words: Words beyond the lab's vocabulary. They follow it, so that the ids of the vocabulary do not change.
    """
    ids = {word: i for i, word in enumerate(dict.fromkeys([*SPECIAL, *vocabulary(), *words]))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    if template != "none":
        pair = "<s> $A </s> $B:1 </s>:1" if template == "pair" else None
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair=pair, special_tokens=[("<s>", BOS), ("</s>", EOS)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        sep_token="</s>",
        cls_token="<s>",
        additional_special_tokens=["<image>"],
        padding_side="left" if template == "none" else "right",
        model_max_length=length,
        clean_up_tokenization_spaces=False,
        # BERT distinguishes premise and hypothesis by token types; the tokenizer returns them only if named here.
        model_input_names=["input_ids", *(["token_type_ids"] if template == "pair" else []), "attention_mask"],
    )
