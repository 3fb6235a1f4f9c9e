"""Reinforcement fine-tuning of a captioner: PPO, with a critic beside the policy that judges each token.

    accelerate launch recipes/ppo.py                                   the embedded lab, minutes on two CPU cores
    accelerate launch recipes/ppo.py train.lam=1.0 train.kl_target=6   single values, dotted
    accelerate launch recipes/ppo.py --config my.yaml                  the file of a GRPO run will do, but for `aggregate`
    accelerate launch recipes/ppo.py --output_dir runs/a resume=auto   go on after a kill or Ctrl-C

Captions, rewards, curriculum, evaluation and checkpoints are those of recipes/grpo.py. The critic is an adapter of its own
over the same frozen base; `adapter/` of the run folder holds the policy's alone, and loads in plain peft.
Every key with its meaning stands in rlcap/config/schema.py (PPOTrainConfig).
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

    # the heavy imports come after the arguments: --help and a typo answer at once
    from rlcap.train.open_run import say
    from rlcap.train.ppo import PPOTrainer
    from rlcap.train.run_context import prepare_run

    # run folder, data, bags' curriculum, rewards, policy: rlcap/train/run_context.py, in the order in which it happens
    context = prepare_run(config, "ppo", STARTED)
    trainer = PPOTrainer(**context.trainer_kwargs())
    say(trainer.value_model.describe())
    context.run(trainer)  # ends with the adapter, summary.json and report.html


if __name__ == "__main__":
    run(main)
