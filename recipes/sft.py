"""Supervised fine-tuning of a captioner: trains a LoRA adapter on paragraphs, from which reinforcement starts.

    accelerate launch recipes/sft.py                                   the embedded lab
    accelerate launch recipes/sft.py --config my.yaml                  your own data and model
    accelerate launch recipes/sft.py train.target=references           short captions instead of paragraphs
    accelerate launch recipes/sft.py --output_dir runs/a resume=auto   continue after a kill or Ctrl-C

The recipe writes the adapter to adapter/ in the run folder. Pass it to recipes/grpo.py as model.adapter.
"""

import time
from pathlib import Path

from rlcap.config.supervised import SFTConfig
from rlcap.train.command_line import parse
from rlcap.train.process import run

STARTED = time.monotonic()
CONFIGS = Path(__file__).parent / "configs"


def main() -> None:
    """Run the recipe with the command line of this process."""
    config = parse(SFTConfig, __doc__, CONFIGS / "lab_sft.yaml")

    # These imports take seconds. They come after the arguments, so that --help and error messages appear immediately.
    from rlcap.policy.loading import load_policy
    from rlcap.policy.visual_tokens import count_visual_tokens, describe_visual_tokens
    from rlcap.train.model_card import write_model_card
    from rlcap.train.open_run import open_run, say
    from rlcap.train.sft import build_trainer

    opened = open_run(config, "sft", STARTED)
    opened.load_data()
    policy = load_policy(config.model)
    opened.drop_unusable_images(policy)
    samples = opened.splits["train"]
    say(policy.describe())
    say(describe_visual_tokens(count_visual_tokens(policy.captioner, [sample.image for sample in samples])))

    trainer = build_trainer(policy, samples, config, opened.instruction, opened.folder, opened.callbacks(policy))
    finished = opened.train(trainer, policy.processor)
    if opened.state.is_main_process:
        if finished:
            opened.folder.mark_ended()
        write_model_card(opened.folder.root)
    say(f"adapter: {opened.folder.adapter}")


if __name__ == "__main__":
    run(main)
