"""The command line: `rlcap --help`.

`rlcap train` runs the recipes; the other commands prepare data, ask about rewards and compare what came of a run.

Every command imports what it needs when it runs, so that help and messages about typing errors come at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rlcap.cli import (
    bags,
    caption,
    cider,
    compare,
    config,
    evaluate,
    explain,
    grammar,
    init,
    lab,
    nli,
    probe,
    prompt,
    report,
    rewards,
    score,
    train,
)
from rlcap.cli.arguments import command
from rlcap.errors import InputError
from rlcap.train import process

EXAMPLES = """\
start here:
  rlcap doctor                                             is this machine ready, and for what
  rlcap train grpo                                         train on the embedded lab, minutes on two CPU cores
  rlcap init my-captioner                                  a project folder: recipes, configurations and a reward to edit
  rlcap config grpo                                        every key of a configuration, with its default and its meaning

the lab:
  rlcap lab export --split test --count 300 --out mine     images and truth, to measure with your own code
  rlcap lab build --out assets --only nli                  make the lab's models again from a seed

your own data:
  rlcap bags mine captions.json --image-root photos --clip ViT-B-32 --pretrained laion2b_s34b_b79k --out bags.json
  rlcap bags convert truematch/5.json --out bags.json      TrueMatch's bags as a bag file for data.bags, or back

rewards:
  rlcap rewards                                            what there is, and what each asks of a caption
  rlcap rewards hallucination                              its card: formula, range, source, known hack, what guards it
  rlcap rewards new brevity                                a reward of your own: file, card and test
  rlcap probe recipes/configs/lab.yaml                     can it be won by worse captions: salad, hedges, self-praise, …

prompts:
  rlcap prompt optimize instruction --config my.yaml --rewriter openai:gpt-4o-mini --out instruction.txt
  rlcap prompt optimize rubric scored.jsonl --judge openai:gpt-4o-mini --prompt rewards/critique/prompt.txt --rewriter … --out rubric.txt

what came of it:
  rlcap compare runs/a runs/b                              which run is better, on the same held-out images
  rlcap compare runs/a-0,runs/a-1 runs/b-0,runs/b-1        the same over training seeds
  rlcap explain runs/a --step 2 --row 3                    how a sampled caption got its advantage, term by term
  rlcap caption photo.jpg --run runs/a --before            what a captioner says now, and what it said before

captions that exist:
  rlcap score captions.jsonl --config my.yaml              what does each reward of a mix say of them
  rlcap eval captions.jsonl --split test                   held-out metrics of captions from anywhere
  rlcap eval runs/a                                        a run's metrics again, from its captions
  rlcap report runs/a                                      a run's report.html again

Each command has its own help: rlcap bags mine --help
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    It is 0; 1 where `doctor`, `probe`, `score` or `explain` found something wrong; and 2 for a mistake of the user's, which is told in one line. Any other
    error keeps its traceback.
    """
    process.prepare()
    parser = build_parser()
    # Overrides stand anywhere among the options, which argparse's own positionals can't.
    options, overrides = parser.parse_known_args(arguments)
    options.overrides = overrides
    if options.overrides and not options.takes_overrides:
        parser.error(f"unrecognized arguments: {' '.join(options.overrides)}")
    try:
        return options.run(options) or 0
    except BrokenPipeError:  # `rlcap eval runs/a | head` has read enough
        sys.stdout = None  # or the interpreter would try to flush it once more
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
    doctor = command(commands, "doctor", _doctor, "what is installed, what is missing for what, and what to do")
    doctor.add_argument("--json", action="store_true", help="for programs")
    for part in (
        train,
        init,
        config,
        lab,
        bags,
        rewards,
        probe,
        score,
        cider,
        grammar,
        nli,
        prompt,
        caption,
        evaluate,
        compare,
        explain,
        report,
    ):
        part.add(commands)
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from rlcap.cli.doctor import examine

    health = examine()
    print(health.json() if options.json else health.text())
    return 0 if health.well else 1


if __name__ == "__main__":
    sys.exit(main())
