"""Direct preference optimisation: learns from pairs of captions, a better and a worse one of each image.

    accelerate launch recipes/refine.py --output_dir runs/refined                   makes pairs on the embedded lab
    accelerate launch recipes/dpo.py pairs=runs/refined/pairs.jsonl                 learns from them, and tells what came of it
    accelerate launch recipes/dpo.py --config my.yaml pairs=my_pairs.jsonl          your own captioner, data and pairs

The held-out images of `data` are captioned before and after; report.html in the run folder shows both. Every key stands in
rlcap/config/schema.py.
"""

import functools
import time
from pathlib import Path

from rlcap.config.schema import DPOConfig
from rlcap.train.command_line import parse
from rlcap.train.process import run

STARTED = time.monotonic()

CONFIGS = Path(__file__).parent / "configs"


def main() -> None:
    config = parse(DPOConfig, __doc__, CONFIGS / "lab_dpo.yaml")

    import torch
    from accelerate import PartialState
    from accelerate.utils import set_seed
    from trl.models import unwrap_model_for_generation

    from rlcap.data.source import instruction_for, load_splits
    from rlcap.eval.report.page import write_report
    from rlcap.eval.summary import summarise
    from rlcap.policy.loading import load_policy
    from rlcap.train.callbacks import MetricsFile, RunFolderInit, Schedule
    from rlcap.train.clock import Clock
    from rlcap.train.dpo import build_trainer, read_pairs
    from rlcap.train.evaluation import build_evaluator
    from rlcap.train.run_folder import RunFolder
    from rlcap.train.saving import save_tuned

    state = PartialState(cpu=not torch.cuda.is_available())
    say = print if state.is_main_process else (lambda *_: None)
    set_seed(config.train.seed)
    folder = RunFolder.choose("dpo", config.name, config.output_dir)
    clock = Clock(folder, STARTED)

    pairs = read_pairs(Path(config.pairs))
    with state.main_process_first():
        splits, lines = load_splits(config.data)
    say("\n".join(lines), f"{len(pairs)} pairs of {config.pairs}", sep="\n")
    evaluator = build_evaluator(config, splits, instruction_for(config.data), folder, str(state.device))
    policy = load_policy(config.model)
    say(policy.describe())

    facts = {"pairs": len(pairs), "trainable_parameters": policy.trainable_parameters, "processes": state.num_processes}

    def evaluate(step: int, final: bool) -> None:
        names = None if step == 0 or final else [name for name in splits if name == "validation"]
        with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model:
            if state.is_main_process and names != []:
                evaluator.run(model, policy.processor, step, splits=names, progress=names is None)
            state.wait_for_everyone()

    callbacks = [
        RunFolderInit(functools.partial(folder.begin, config, splits, **facts)),
        MetricsFile(folder, clock),
        Schedule(evaluate, config.evaluation.every),
    ]
    trainer = build_trainer(policy, pairs, config, folder, callbacks)
    trainer.train()
    save_tuned(trainer, policy.processor, folder.adapter)
    if state.is_main_process:
        summarise(folder.root, clock.seconds())
        print(f"adapter: {folder.adapter}\nreport: {write_report(folder.root)}")


if __name__ == "__main__":
    run(main)
