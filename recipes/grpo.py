"""Reinforcement fine-tuning of a captioner: GRPO on a mix of rewards, with a curriculum over bags of similar images.

    accelerate launch recipes/grpo.py                                  the embedded lab, minutes on two CPU cores
    accelerate launch recipes/grpo.py train.steps=10 mix.length=null   single values, dotted; null removes a reward
    accelerate launch recipes/grpo.py --config my.yaml                 your own data and model (README, Your photos in ten lines)
    accelerate launch recipes/grpo.py --output_dir runs/a resume=auto  go on after a kill or Ctrl-C

Every key with its meaning stands in rlcap/config/schema.py; report.html in the run folder shows what came of it.
"""

import time
from pathlib import Path

from rlcap.config.schema import GRPOConfig
from rlcap.train.command_line import parse
from rlcap.train.process import run

STARTED = time.monotonic()
CONFIGS = Path(__file__).parent / "configs"


def main() -> None:
    """Run the recipe with the command line of this process."""
    config = parse(GRPOConfig, __doc__, CONFIGS / "lab.yaml")

    # the heavy imports come after the arguments: --help and a typo answer at once
    from rlcap.train.grpo import GRPOTrainer
    from rlcap.train.run_context import prepare_run

    # run folder, data, bags' curriculum, rewards, policy: rlcap/train/run_context.py, in the order in which it happens
    context = prepare_run(config, "grpo", STARTED)
    trainer = GRPOTrainer(**context.trainer_kwargs())
    context.run(trainer)  # ends with the adapter, summary.json and report.html


if __name__ == "__main__":
    run(main)
