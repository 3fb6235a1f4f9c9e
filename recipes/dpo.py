"""Direct preference optimisation of a captioner: learns from pairs of a better and a worse caption of an image.

    accelerate launch recipes/refine.py --output_dir runs/refined             makes pairs on the embedded lab
    accelerate launch recipes/dpo.py pairs=runs/refined/pairs.jsonl           trains on these pairs
    accelerate launch recipes/dpo.py --config my.yaml pairs=my_pairs.jsonl    your own captioner, data and pairs
    accelerate launch recipes/dpo.py pairs=my_pairs.jsonl --output_dir runs/a resume=auto    continue after a kill or Ctrl-C

The recipe captions the held-out images of `data` before and after training, and report.html in the run folder shows both.
rlcap/config/supervised.py documents every key.
"""

import time
from pathlib import Path

from rlcap.config.supervised import DPOConfig
from rlcap.train.command_line import parse
from rlcap.train.process import run

STARTED = time.monotonic()

CONFIGS = Path(__file__).parent / "configs"


def main() -> None:
    """Run the recipe with the command line of this process."""
    config = parse(DPOConfig, __doc__, CONFIGS / "lab_dpo.yaml")

    # These imports take seconds. They come after the arguments, so that --help and error messages appear immediately.
    from trl.models import unwrap_model_for_generation

    from rlcap.eval.report.page import write_report
    from rlcap.eval.summary import summarise
    from rlcap.policy.loading import load_policy
    from rlcap.train.callbacks import Schedule
    from rlcap.train.dpo import build_trainer, fingerprint, read_pairs
    from rlcap.train.evaluation import build_evaluator
    from rlcap.train.model_card import write_model_card
    from rlcap.train.open_run import open_run, say
    from rlcap.train.trackers import send_results

    opened = open_run(config, "dpo", STARTED)
    pairs = read_pairs(Path(config.pairs))
    digest = fingerprint(pairs)
    if opened.checkpoint:
        opened.folder.check_same_run("dpo", config.train.seed, pairs_fingerprint=digest)
    opened.load_data()
    state, folder = opened.state, opened.folder
    say(f"{len(pairs)} pairs from {config.pairs}")
    policy = load_policy(config.model)
    say(policy.describe())
    opened.drop_unusable_images(policy)
    splits = opened.splits
    evaluator = build_evaluator(config, splits, opened.instruction, folder, str(state.device))

    def evaluate(step: int, final: bool) -> None:
        names = None if step == 0 or final else [name for name in splits if name == "validation"]
        with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model:
            if state.is_main_process and names != []:
                evaluator.run(model, policy.processor, step, splits=names, progress=names is None)
            state.wait_for_everyone()

    callbacks = opened.callbacks(
        policy,
        schedule=[Schedule(evaluate, config.evaluation.every)],
        pairs=len(pairs),
        pairs_fingerprint=digest,
    )
    trainer = build_trainer(policy, pairs, config, folder, callbacks)
    if opened.checkpoint:
        trainer.restore(opened.checkpoint)
    opened.train(trainer, policy.processor)
    if state.is_main_process:
        summarise(folder.root, opened.clock.seconds())
        write_model_card(folder.root)
        print(f"adapter: {folder.adapter}\nreport: {write_report(folder.root)}")
        send_results(config.report_to, folder)


if __name__ == "__main__":
    run(main)
