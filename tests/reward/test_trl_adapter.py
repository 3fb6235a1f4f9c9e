"""Our rewards in a plain `trl.GRPOTrainer`, as in anyone's script."""

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from rlcap.reward.base import Reward, RewardOutput
from rlcap.rewards.length import Length
from rlcap.rewards.repetition import Repetition
from rlcap.types import Score

WORDS = ["[PAD]", "[EOS]", "[UNK]", "user", "assistant", "describe", "a", "red", "blue", "ball", "dog", "sleeps"]


class HalfAsleep(Reward):
    """A judge that abstains on captions about dogs, to see that None reaches TRL as TRL wants it."""

    name = "half_asleep"

    async def ascore(self, batch):
        return RewardOutput([Score.abstain("dogs bore me") if "dog" in c else Score(1.0) for c in batch.captions])


def test_rewards_train_a_tiny_model(tmp_path):
    from trl import GRPOConfig, GRPOTrainer

    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", eos_token="[EOS]", unk_token="[UNK]", padding_side="left"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}assistant {% endif %}"
    )
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(WORDS), n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=1
        )
    )
    rows = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": "describe"}],
                "sample_id": str(i),
                "image_path": f"{i}.png",
                "references": ["a red ball", "a dog"],
                "paragraph": None,
                "meta": "{}",
            }
            for i in range(4)
        ]
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[Length(), Repetition(), HalfAsleep()],
        args=GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=8,
            max_steps=2,
            learning_rate=1e-3,
            logging_steps=1,
            report_to="none",
            use_cpu=True,
            remove_unused_columns=False,
            save_strategy="no",
            disable_tqdm=True,
        ),
        processing_class=tokenizer,
        train_dataset=rows,
    )
    trainer.train()
    steps = [record for record in trainer.state.log_history if "rewards/length/mean" in record]
    assert len(steps) == 2
    for step in steps:
        assert -1 <= step["rewards/length/mean"] <= 0
        assert -1 <= step["rewards/repetition/mean"] <= 0
        assert step["rewards/half_asleep/mean"] == pytest.approx(1.0)  # an abstention is not averaged in as 0
        assert step["length/abstain_rate"] == 0
    assert 0 < max(step["half_asleep/abstain_rate"] for step in steps) < 1
