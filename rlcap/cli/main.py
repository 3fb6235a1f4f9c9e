"""The command line: `rlcap --help`.

`rlcap train` runs the recipes. The other commands prepare data, inspect rewards and evaluate runs.

A command imports large packages only when it runs, so that help and error messages appear immediately.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from rlcap.cli import (
    bags,
    caption,
    cider,
    compare,
    config,
    crosscheck,
    curate,
    evaluate,
    explain,
    export,
    fuse,
    grammar,
    init,
    lab,
    nli,
    probe,
    prompt,
    report,
    rewards,
    rm,
    score,
    sweep,
    train,
)
from rlcap.cli.arguments import command
from rlcap.errors import InputError
from rlcap.train import process

EXAMPLES = """\
start here:
  rlcap doctor                                             check whether this machine is ready, and for what
  rlcap train grpo                                         train on the embedded lab, minutes on two CPU cores
  rlcap init my-captioner                                  make a project folder: recipes, configurations, a reward to edit
  rlcap config grpo                                        list all keys of a configuration with defaults and meanings

the lab:
  rlcap lab export --split test --count 300 --out mine     write images with their truth, for your own measurements
  rlcap lab build --out assets --only nli                  train a model of the lab again from a seed

your own data:
  rlcap bags mine captions.json --image-root photos --clip ViT-B-32 --pretrained laion2b_s34b_b79k --out bags.json
  rlcap fuse captions.json --preset fusecap --out fused.jsonl    fuse what experts see in photos into paragraphs, to train on
  rlcap bags convert truematch/5.json --out bags.json      convert TrueMatch's bags into a bag file for data.bags, or back
  rlcap curate levels data.source=photos.jsonl --reward clip_score --out levelled.jsonl    write how good each caption is

rewards:
  rlcap rewards                                            list all rewards, and the question that each one answers
  rlcap rm pairs.jsonl --clip ViT-B-32 --pretrained laion2b_s34b_b79k --out rm    teach a reward model what a judge preferred
  rlcap rewards hallucination                              show a card: formula, range, source, known hack, protection
  rlcap rewards new brevity                                start a reward of your own: file, card and test
  rlcap probe recipes/configs/lab.yaml                     test a mix with worse captions: shuffled words, hedges, praise, …

prompts:
  rlcap prompt optimize instruction --config my.yaml --rewriter openai:gpt-4o-mini --out instruction.txt
  rlcap prompt optimize rubric scored.jsonl --judge openai:gpt-4o-mini --prompt rewards/critique/prompt.txt --rewriter … --out rubric.txt

results:
  rlcap compare runs/a runs/b                              compare two runs on the same held-out images
  rlcap compare runs/a-0,runs/a-1 runs/b-0,runs/b-1        compare two variants over training seeds
  rlcap sweep launch/sweeps/mix_weights.yaml --method random --runs 8 --dry-run    the runs of a sweep, without an account
  rlcap explain runs/a --step 2 --row 3                    how a sampled caption got its advantage, term by term
  rlcap caption photo.jpg --run runs/a --before            caption an image with a run, and with its model before training
  rlcap caption photo.jpg --run runs/a --control length=40 ask a caption for a length, a level, a format, …
  rlcap export runs/a --merge --out my-captioner-merged    one complete model, which transformers and vLLM load

existing captions:
  rlcap score captions.jsonl --config my.yaml              score captions by each reward of a mix
  rlcap eval captions.jsonl --split test                   measure held-out metrics of captions from any captioner
  rlcap crosscheck a.jsonl b.jsonl c.jsonl                 what do captions mention that no other caption of the image does?
  rlcap eval runs/a                                        compute the metrics of a run again from its captions
  rlcap report runs/a                                      write report.html of a run again

Each command has its own help: rlcap bags mine --help
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The command line; None for that of the process.

    Returns:
        The exit code. It is 1 if `doctor`, `probe`, `score` or `explain` found a problem, 2 for an error that the user can fix, which is printed
        in one line, and 0 otherwise. Any other error keeps its traceback.
    """
    process.prepare()
    parser = build_parser()
    # Overrides can stand anywhere among the options. Positional arguments of argparse could not.
    options, overrides = parser.parse_known_args(arguments)
    options.overrides = overrides
    if options.overrides and not options.takes_overrides:
        parser.error(f"unrecognized arguments: {' '.join(options.overrides)}")
    try:
        return options.run(options) or 0
    except BrokenPipeError:  # the reader closed the pipe, as in `rlcap eval runs/a | head`
        sys.stdout = None  # otherwise the interpreter would flush it at exit and fail again
        return 0
    except (InputError, FileNotFoundError) as error:
        print(f"rlcap: {error}", file=sys.stderr)
        return 2


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="rlcap",
        description="Reinforcement and feedback fine-tuning of image captioners.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    doctor = command(
        commands, "doctor", _doctor, "check the installation: what works, what is missing, and how to fix it"
    )
    doctor.add_argument("--json", action="store_true", help="print JSON, for programs")
    doctor.add_argument(
        "--reproduce",
        action="store_true",
        help="run the first steps of the main job, and say whether this machine gives the recorded adapter bit for bit (one minute)",
    )
    for part in (
        train,
        init,
        config,
        lab,
        bags,
        curate,
        rewards,
        rm,
        probe,
        score,
        cider,
        grammar,
        nli,
        prompt,
        caption,
        crosscheck,
        evaluate,
        compare,
        explain,
        report,
        export,
        fuse,
        sweep,
    ):
        part.add(commands)
    return parser


def _reproduce(options: argparse.Namespace) -> int:
    """Print whether this machine gives the recorded adapter. Another adapter is no error, so that the exit code is 0."""
    from dataclasses import asdict

    from rlcap.cli.reproduce import reproduce

    result = reproduce()
    print(json.dumps(asdict(result) | {"identical": result.is_identical}) if options.json else result.text())
    return 0


def _doctor(options: argparse.Namespace) -> int:
    if options.reproduce:
        return _reproduce(options)
    from rlcap.cli.doctor import examine

    health = examine()
    print(health.json() if options.json else health.text())
    return 0 if health.well else 1


if __name__ == "__main__":
    sys.exit(main())
