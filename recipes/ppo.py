"""Reinforcement fine-tuning of a captioner: PPO, with a value model that gives each token its own advantage.

    accelerate launch recipes/ppo.py                                   the embedded lab, minutes on two CPU cores
    accelerate launch recipes/ppo.py train.lam=1.0 train.kl_target=6   override single values
    accelerate launch recipes/ppo.py --config my.yaml                  a GRPO configuration without `aggregate` works too
    accelerate launch recipes/ppo.py --output_dir runs/a resume=auto   continue after a kill or Ctrl-C

Captions, rewards, curriculum, evaluation and checkpoints are the same as in recipes/grpo.py. The value model is a second
adapter over the same frozen base. `adapter/` in the run folder contains the adapter of the policy only, and plain peft
loads it. rlcap/config/schema.py (PPOTrainConfig) documents every key.
"""

import time
from pathlib import Path

from rlcap.config.schema import PPOConfig
from rlcap.train.command_line import parse
from rlcap.train.process import run

STARTED = time.monotonic()
CONFIGS = Path(__file__).parent / "configs"


def main() -> None:
    """Run the recipe with the command line of this process."""
    config = parse(PPOConfig, __doc__, CONFIGS / "lab_ppo.yaml", below=CONFIGS / "lab.yaml")

    # These imports take seconds. They come after the arguments, so that --help and error messages appear immediately.
    from rlcap.train.open_run import say
    from rlcap.train.ppo import PPOTrainer
    from rlcap.train.run_context import prepare_run

    # rlcap/train/run_context.py prepares run folder, data, curriculum, rewards and policy, in this order.
    context = prepare_run(config, "ppo", STARTED)
    trainer = PPOTrainer(**context.trainer_kwargs())
    say(trainer.value_model.describe())
    context.run(trainer)  # writes the adapter, summary.json and report.html at the end


if __name__ == "__main__":
    run(main)
