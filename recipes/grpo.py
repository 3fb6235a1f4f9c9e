"""Reinforcement fine-tuning of a captioner: GRPO on a mix of rewards, with a curriculum over bags of similar images.

    accelerate launch recipes/grpo.py                                  the embedded lab, minutes on two CPU cores
    accelerate launch recipes/grpo.py train.steps=10 mix.length=null   override single values; null removes a reward
    accelerate launch recipes/grpo.py --config my.yaml                 your own data and model (README, Your photos in ten lines)
    accelerate launch recipes/grpo.py --output_dir runs/a resume=auto  continue after a kill or Ctrl-C

rlcap/config/schema.py documents every key. report.html in the run folder shows the results.
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

    # These imports take seconds. They come after the arguments, so that --help and error messages appear immediately.
    from rlcap.train.grpo import GRPOTrainer
    from rlcap.train.run_context import prepare_run

    # rlcap/train/run_context.py prepares run folder, data, curriculum, rewards and policy, in this order.
    context = prepare_run(config, "grpo", STARTED)
    trainer = GRPOTrainer(**context.trainer_kwargs())
    context.run(trainer)  # writes the adapter, summary.json and report.html at the end


if __name__ == "__main__":
    run(main)
