"""The loss of DPO: the preference loss, and with `sft_weight` the likelihood of the chosen captions."""

import math

import pytest
import torch
from captioners import images
from peft import LoraConfig, get_peft_model
from tiny import captioner

from rlcap.config.supervised import DPOConfig, DPOTrainConfig
from rlcap.lab.world.language import INSTRUCTION
from rlcap.policy.loading import Policy
from rlcap.train.dpo import build_trainer
from rlcap.train.run_folder import RunFolder

TEXTS = (
    ("there is a red ball.", "there is a blue boat at the top. the background is sand."),
    ("there is a white tree. there is a cup.", "there is a kite."),
)
BETA = 0.3
"""The default."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("dpo"), []
    for i, (image, (chosen, rejected)) in enumerate(zip(images(2), TEXTS, strict=True)):
        image.save(folder / f"{i}.png")
        rows.append({"image": str(folder / f"{i}.png"), "prompt": INSTRUCTION, "chosen": chosen, "rejected": rejected})
    return rows


def trainer(pairs, folder, **train):
    model, processor = captioner()
    policy = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    train = DPOTrainConfig(steps=1, batch_size=2, micro_batch=2, **train)
    made = build_trainer(Policy(policy, processor, "tiny", None), pairs, DPOConfig(train=train), RunFolder(folder))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in made.model.named_parameters():
        if ".default." in name and "lora_B" in name:  # at birth it is 0, and the policy its own reference
            parameter.data.normal_(0, 0.3, generator=generator)
    return made


def loss_of(made):
    made.model.eval()
    with torch.no_grad():
        return float(made.compute_loss(made.model, next(iter(made.get_train_dataloader()))))


@torch.no_grad()
def by_hand(made, pairs, adapter):
    """Row → key → log-probabilities of the caption's tokens, the end among them: each caption alone, without padding."""
    model, processor = made.model.eval(), made.processing_class
    model.set_adapter(adapter)
    found = []
    for pair, image in zip(pairs, images(2), strict=True):
        ask = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": pair["prompt"]}]}
        prompt = processor.apply_chat_template([ask], add_generation_prompt=True)
        found.append({})
        for key in ("chosen", "rejected"):
            answer = {"role": "assistant", "content": [{"type": "text", "text": pair[key]}]}
            text = processor.apply_chat_template([ask, answer])
            assert text.startswith(prompt)
            asked, whole = (processor(images=image, text=t, return_tensors="pt") for t in (prompt, text))
            start, ids = asked["input_ids"].shape[1], whole["input_ids"][0]
            assert processor.tokenizer.decode(ids[start:]).startswith(pair[key].split(".")[0])
            logits = model(**whole).logits[0].log_softmax(-1)
            found[-1][key] = logits[start - 1 : -1].gather(1, ids[start:, None])[:, 0]
    model.set_adapter("default")
    return found


@pytest.mark.parametrize(("train", "weight"), [({}, 2.0), ({"sft_weight": 0.0}, 0.0)], ids=["default", "preference"])
def test_golden_loss_is_preference_and_weighted_likelihood(pairs, tmp_path, train, weight):
    made = trainer(pairs, tmp_path, **train)
    policy, reference = (by_hand(made, pairs, adapter) for adapter in ("default", "ref"))
    margins = [
        sum(float(own[key].sum() - old[key].sum()) * sign for key, sign in (("chosen", 1), ("rejected", -1)))
        for own, old in zip(policy, reference, strict=True)
    ]
    preference = sum(math.log1p(math.exp(-BETA * margin)) for margin in margins) / len(margins)
    likelihood = -float(torch.cat([own["chosen"] for own in policy]).mean())  # a token's, not a caption's
    assert preference != pytest.approx(math.log(2), abs=1e-3)  # the adapter has moved
    assert likelihood > 1
    assert loss_of(made) == pytest.approx(preference + weight * likelihood, abs=1e-4)
