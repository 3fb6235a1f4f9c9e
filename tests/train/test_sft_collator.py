"""SFT trains on the tokens of the caption and on the end token, with every tokenizer."""

import pytest
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlcap.lab.models.captioner import captioner_processor
from rlcap.train.sft import CaptionCollator

TEXTS = ["a red ball.", "there is a large blue box on the grass."]


def sentencepiece_like():
    """A tokenizer that writes spaces into its pieces, and one before whatever stands first."""
    letters = sorted(set("".join(TEXTS) + "user : assistant tell me what you see ▁"))
    vocab = {piece: i for i, piece in enumerate(["<pad>", "<s>", "</s>", "<unk>", "<image>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<image>"], padding_side="left",
    )  # fmt: skip


@pytest.mark.parametrize("tokenizer", [None, sentencepiece_like()], ids=["lab", "sentencepiece"])
def test_labels_cover_the_caption_and_the_end_token_only(tmp_path, tokenizer):
    processor = captioner_processor()
    processor.tokenizer.padding_side = "left"
    if tokenizer is not None:
        processor.tokenizer = tokenizer
        processor.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    image = tmp_path / "a.png"
    Image.new("RGB", (96, 96), "red").save(image)
    batch = CaptionCollator(processor, "tell me what you see")([{"image": str(image), "text": text} for text in TEXTS])
    for ids, labels, text in zip(batch["input_ids"], batch["labels"], TEXTS, strict=True):
        learnt = labels[labels != -100]
        assert processor.tokenizer.decode(learnt, skip_special_tokens=True).strip() == text
        assert learnt[-1] == processor.tokenizer.eos_token_id
        # One run at the end of the row, nothing of prompt, image or padding.
        assert (labels[-len(learnt) :] == ids[-len(learnt) :]).all()
        assert (labels[: -len(learnt)] == -100).all()
