"""SFT, DPO and reinforcement give a captioner the same prompt, and teach the end token at which generation stops."""

import pytest
import torch
from PIL import Image
from tiny import captioner
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rlcap.errors import ConfigError
from rlcap.policy.families.registry import make_captioner
from rlcap.policy.loading import Policy
from rlcap.policy.vocabulary import find_end_ids
from rlcap.train.dpo import PairCollator
from rlcap.train.sft import CaptionCollator, SFTTrainer

TEXTS = ["a red ball.", "there is a large blue box on the grass."]
INSTRUCTION = "tell me what you see"


def sentencepiece_like(eos="</s>", adds_bos=False):
    """A tokenizer that writes spaces into its pieces, and one before whatever stands first."""
    letters = sorted(set("".join(TEXTS) + "user : assistant tell me what you see ▁<>/s|_imagepd"))
    pieces = dict.fromkeys(["<pad>", "<s>", "</s>", "<unk>", "<image>", *letters])
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocab["<s>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token=eos, unk_token="<unk>",
        additional_special_tokens=["<image>", "</s>"], padding_side="left",
    )  # fmt: skip


@pytest.fixture
def photo(tmp_path):
    Image.new("RGB", (96, 96), "red").save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


def made(tokenizer=None, template=None, end=None):
    """Return the captioner of a tiny model, with another tokenizer, chat template or end token where they are given."""
    model, processor = captioner()
    processor.tokenizer.padding_side = "left"
    if tokenizer is not None:
        processor.tokenizer = tokenizer
        processor.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    if template is not None:
        processor.chat_template = template
    if end is not None:
        model.generation_config.eos_token_id = end
    return make_captioner(model, processor)


def rows(photo):
    return [{"image": photo, "text": text} for text in TEXTS]


def pairs(photo):
    turn = lambda text: [{"role": "assistant", "content": text}]  # noqa: E731
    prompt = [{"role": "user", "content": INSTRUCTION}]
    return [{"image": photo, "prompt": prompt, "chosen": turn(TEXTS[0]), "rejected": turn(TEXTS[1])}]


@pytest.mark.parametrize("tokenizer", [None, sentencepiece_like()], ids=["lab", "sentencepiece"])
def test_labels_cover_the_caption_and_the_end_token_only(photo, tokenizer):
    found = made(tokenizer)
    batch = CaptionCollator(found, INSTRUCTION)(rows(photo))
    assert batch["images"] == [photo, photo]
    for labels, text in zip(batch["labels"], TEXTS, strict=True):
        learnt = labels[labels != -100]
        assert found.tokenizer.decode(learnt, skip_special_tokens=True).strip() == text
        assert learnt.tolist().count(found.end_ids[0]) == 1
        assert learnt[-1] == found.end_ids[0]


def test_the_end_token_of_generation_is_taught_and_not_that_of_the_tokenizer(photo):
    """A tokenizer whose end token is <unk>, on a model that stops at </s>."""
    tokenizer = sentencepiece_like(eos="<unk>")
    end = tokenizer.convert_tokens_to_ids("</s>")
    found = made(tokenizer, end=end)
    assert found.end_ids == [end]
    assert CaptionCollator(found, INSTRUCTION)(rows(photo))["labels"][1, -1] == end
    batch = PairCollator(found)(pairs(photo))
    for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True):
        assert ids[mask > 0][-1] == end


def test_several_end_tokens_and_none():
    class Model:
        generation_config = type("Config", (), {"eos_token_id": [7, 3]})

    assert find_end_ids(Model, type("Tokenizer", (), {"eos_token_id": 1})) == [7, 3]
    Model.generation_config.eos_token_id = None
    assert find_end_ids(Model, type("Tokenizer", (), {"eos_token_id": 1})) == [1]
    with pytest.raises(ConfigError, match="has no end token"):
        find_end_ids(Model, type("Tokenizer", (), {"eos_token_id": None}))


BOS = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {% for c in m.content %}{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %} {% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
"""A chat template that writes the token for the beginning, and leaves the assistant's turn open."""


def test_a_template_with_a_beginning_on_a_tokenizer_that_adds_one(photo):
    """Every recipe sees one beginning, and the same prompt."""
    tokenizer = sentencepiece_like(adds_bos=True)
    found = made(tokenizer, BOS)
    image = Image.open(photo)
    prompt = found.read_inputs(image, INSTRUCTION).tokens["input_ids"]
    bos = tokenizer.bos_token_id
    assert prompt.tolist().count(bos) == 1
    assert found.prepare([image], INSTRUCTION)[0].tokens["input_ids"].tolist() == prompt.tolist()
    batch = PairCollator(found)(pairs(photo))
    for ids, attention, mask in zip(
        *(batch[k] for k in ("input_ids", "attention_mask", "completion_mask")), strict=True
    ):
        assert ids[(attention > 0) & (mask == 0)].tolist() == prompt.tolist()


def test_a_template_that_leaves_the_turn_open_still_ends_in_every_recipe(photo):
    found = made(sentencepiece_like(), BOS)
    end = found.end_ids[0]
    assert CaptionCollator(found, INSTRUCTION)(rows(photo))["labels"][1, -1] == end
    batch = PairCollator(found)(pairs(photo))
    for row, text in enumerate(TEXTS):
        learnt = batch["input_ids"][row][batch["completion_mask"][row] > 0]
        assert learnt[-1] == end
        assert found.tokenizer.decode(learnt, skip_special_tokens=True).strip() == text


@pytest.mark.parametrize("special", ["</s>", "<image>"])
def test_a_text_that_looks_like_a_special_token_stays_text(special):
    found = made(sentencepiece_like())
    ids = found.encode(f"a {special} b", INSTRUCTION)
    assert ids.count(found.tokenizer.convert_tokens_to_ids(special)) == (1 if special == "</s>" else 0)
    assert ids[-1] == found.end_ids[0]


def test_the_loss_is_the_mean_over_the_tokens_of_the_step(photo, tmp_path):
    """Two micro-batches of different lengths give the loss of one batch."""
    from transformers import TrainingArguments

    found = made()
    policy = Policy(found.model, found.processor, "tiny", None)
    trainer = SFTTrainer(policy, INSTRUCTION, args=TrainingArguments(tmp_path, report_to="none", use_cpu=True))
    collate = CaptionCollator(found, INSTRUCTION)
    whole, parts = collate(rows(photo)), [collate([row]) for row in rows(photo)]
    total = (whole["labels"] != -100).sum()
    with torch.no_grad():
        expected = trainer.compute_loss(found.model, whole)
        summed = sum(trainer.compute_loss(found.model, part, num_items_in_batch=total) for part in parts)
        prompts = found.prepare([Image.open(photo)] * 2, INSTRUCTION)
        ids = whole["labels"].clamp(min=0)
        by_hand = -found.log_probs(prompts, ids, (whole["labels"] != -100).long()).log_probs.sum() / total
    assert float(summed) == pytest.approx(float(expected), abs=1e-6)
    assert float(by_hand) == pytest.approx(float(expected), abs=1e-5)
