"""Reinforcement fine-tuning of a captioner: GRPO on a mix of rewards, with a curriculum over bags of similar images.

    accelerate launch recipes/grpo.py                                  the embedded lab, minutes on two CPU cores
    accelerate launch recipes/grpo.py train.steps=10 mix.length=null   single values, dotted; null removes a reward
    accelerate launch recipes/grpo.py --config my.yaml                 your own data and model (README, Your own data)
    accelerate launch recipes/grpo.py --output_dir runs/a resume=auto  go on after a kill or Ctrl-C

Every key with its meaning stands in rlcap/config.py; report.html in the run folder shows what came of it.
"""

import argparse
import functools
import sys
import time
from pathlib import Path

from rlcap.config import GRPOConfig, check, load_config
from rlcap.train.process import prepare
from rlcap.types import InputError

STARTED = time.monotonic()
DEFAULTS = Path(__file__).parent / "configs" / "lab.yaml"


def parse_arguments() -> GRPOConfig:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=DEFAULTS, help="YAML file (default: %(default)s)")
    parser.add_argument("--output_dir", help="run folder (default: runs/<name>)")
    arguments, overrides = parser.parse_known_args()
    overrides += [f"output_dir={arguments.output_dir}"] if arguments.output_dir else []
    try:
        config = load_config(GRPOConfig, arguments.config, overrides)
        check(config)
    except InputError as error:
        parser.error(str(error))
    return config


def main() -> None:
    config = parse_arguments()

    # ---- the heavy imports come after the arguments: --help and a typo answer at once -----------------------------
    import torch
    from accelerate import PartialState
    from accelerate.utils import set_seed

    from rlcap import curriculum as curricula
    from rlcap.batching import plan
    from rlcap.data.load import instruction_for, load_splits
    from rlcap.eval.report import write_report
    from rlcap.eval.summary import summarise
    from rlcap.lab.assets import resolve_all
    from rlcap.policy.load import load_policy
    from rlcap.policy.visual_tokens import count_visual_tokens, describe_visual_tokens
    from rlcap.reward.mix import Mix
    from rlcap.train.callbacks import Begin, Interrupt, MetricsFile, Progress, Schedule
    from rlcap.train.clock import Clock
    from rlcap.train.evaluate import Evaluation, build_evaluator
    from rlcap.train.grpo import GRPOTrainer
    from rlcap.train.preflight import preflight
    from rlcap.train.run_folder import RunFolder, step_of

    # Told that there is no GPU, accelerate joins CPU processes over gloo; untold, each would believe it is alone.
    state = PartialState(cpu=not torch.cuda.is_available())
    say = print if state.is_main_process else (lambda *_: None)
    set_seed(config.train.seed)
    folder = RunFolder.choose("grpo", config.name, config.output_dir, config.resume)
    checkpoint = folder.checkpoint(config.resume, config.train.steps) if config.resume else None
    if config.resume:
        say(f"resuming from {checkpoint or 'the beginning: there is no whole checkpoint yet'}")
    clock = Clock(folder, STARTED)

    # ---- data: rows with paths; the main process draws the lab's images, the others find them ----------------------
    with state.main_process_first():
        splits, lines = load_splits(config.data)
    say("\n".join(lines))
    instruction = instruction_for(config.data)
    gallery = {sample.id: sample.image for sample in splits["train"]}

    # ---- batches and curriculum ------------------------------------------------------------------------------------
    train = config.train
    batching = plan(
        train.images_per_step,
        train.captions_per_image,
        train.micro_batch,
        processes=state.num_processes,
        num_iterations=train.iterations,
    )
    curriculum = curricula.parse(config.curriculum)
    say(batching.describe())
    say(curricula.describe(curriculum))

    # ---- frozen scorers, before any DeepSpeed configuration exists -------------------------------------------------
    mix = Mix.from_config(
        resolve_all({name: entry for name, entry in config.mix.items() if entry is not None}),
        context={"device": str(state.device), "gallery": list(gallery.values())},
        max_abstain=train.max_abstain,
    )
    evaluator = build_evaluator(config, splits, instruction, folder, str(state.device))

    # ---- the policy: base + adapter; the reference model is the adapter as it is now -------------------------------
    policy = load_policy(config.model)
    say(policy.describe())
    say(describe_visual_tokens(count_visual_tokens(policy.captioner, [sample.image for sample in splits["train"]])))
    facts = {"trainable_parameters": policy.trainable_parameters, "processes": state.num_processes}
    begin = functools.partial(folder.begin, config, splits, step_of(checkpoint), seconds_before=clock.before, **facts)
    evaluation = Evaluation(evaluator, policy, mix, splits, folder, config.evaluation)
    trainer = GRPOTrainer(
        policy.model,
        policy.processor,
        splits["train"],
        config=config,
        batching=batching,
        folder=folder,
        mix=mix,
        curriculum=curriculum,
        gallery=gallery,
        instruction=instruction,
        callbacks=[
            Begin(begin),
            Progress(mix.names),
            MetricsFile(folder, clock),
            Schedule(evaluation, config.evaluation.every),
            Interrupt(),
        ],
    )
    evaluation.trainer = trainer
    if not trainer.is_deepspeed_enabled:  # which shards the weights later
        paths = list(gallery.values())
        say(preflight(policy.captioner, paths, batching, instruction, config.generation.max_new_tokens).describe())

    # ---- train -----------------------------------------------------------------------------------------------------
    if checkpoint:
        trainer.restore(checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    # ---- what remains: the adapter, the summary, the report --------------------------------------------------------
    trainer.save_adapter()
    if state.is_main_process:
        summarise(folder.root, clock.seconds())
        print(f"report: {write_report(folder.root)}")
        if "wandb" in config.report_to:
            from rlcap.train.wandb_tables import log_tables

            log_tables(folder)


if __name__ == "__main__":
    prepare()
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
