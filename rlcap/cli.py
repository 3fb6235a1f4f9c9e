"""The command line: `rlcap --help`. Training has recipes (`accelerate launch recipes/grpo.py`); this is what stands around it.

Every command imports what it needs when it runs, so that help and typing errors answer at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.types import InputError

if TYPE_CHECKING:
    from rlcap.data.sources import SampleSet

EXAMPLES = """\
start here:
  rlcap doctor                                             is this machine ready, and for what
  accelerate launch recipes/grpo.py                        train on the embedded lab, minutes on two CPU cores

the lab:
  rlcap lab export --split test --count 300 --out mine     images and truth, to measure with your own code
  rlcap lab build --out assets --only nli                  make the lab's models again from a seed

your own data:
  rlcap bags mine captions.json --image-root photos --clip ViT-B-32 --pretrained laion2b_s34b_b79k --out bags.json
  rlcap bags convert truematch/5.json --out bags.json      TrueMatch's bags as a bag file for data.bags, or back

rewards:
  rlcap rewards                                            what there is, and what each asks of a caption
  rlcap rewards hallucination                              its card: formula, range, source, known hack, what guards it
  rlcap probe recipes/configs/lab.yaml                     can it be won by worse captions: salad, hedges, self-praise, …

captions that exist:
  rlcap score captions.jsonl --config my.yaml              what does each reward of a mix say of them
  rlcap eval captions.jsonl --split test                   held-out metrics of captions from anywhere
  rlcap eval runs/a                                        a run's metrics again, from its captions
  rlcap report runs/a                                      a run's report.html again

Each command has its own help: rlcap bags mine --help
"""


CONVERT = """\
examples:
  rlcap bags convert truematch/5.json --out bags.json      each image's neighbours are the others of its bag
  rlcap bags convert bags.json --out 3.json --size 3       disjoint bags of 3, the images taking their turns as they stand

Ids are matched as text: 139 in TrueMatch's file is the image of COCO's captions file whose id is 139. `rlcap bags mine
--truematch FILE` writes better bags than the second: it still knows similarities and lets the most similar go first.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit code: 0, 1 where `doctor` or `probe` found something wrong, 2 for mistakes of the user's,
    which are told in one line. Anything else keeps its traceback."""
    parser = build_parser()
    # Overrides stand anywhere among the options, which argparse's own positionals can't.
    options, options.overrides = parser.parse_known_args(arguments)
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
    parser = argparse.ArgumentParser(
        prog="rlcap",
        description="Reinforcement and feedback fine-tuning of image captioners.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    doctor = _command(commands, "doctor", _doctor, "what is installed, what is missing for what, and what to do")
    doctor.add_argument("--json", action="store_true", help="for programs")

    lab = commands.add_parser("lab", help="the embedded world: export it, or build its models").add_subparsers(
        metavar="ACTION", required=True
    )
    export = _command(lab, "export", _lab_export, "write images, scenes.jsonl and references.jsonl of a split")
    export.add_argument(
        "--split", default="test", help="train, validation, test or prior_breaking (default: %(default)s)"
    )
    export.add_argument("--seed", type=int, default=0, help="another seed draws other scenes (default: %(default)s)")
    export.add_argument("--count", type=_positive, default=308, help="images (default: %(default)s)")
    export.add_argument("--out", type=Path, required=True, help="folder, made where it is missing")
    build = _command(lab, "build", _lab_build, "train the lab's models from a seed, on the CPU")
    build.add_argument("--out", type=Path, help="folder (default: the package's own assets, in place)")
    build.add_argument("--seed", type=int, default=0, help="default: %(default)s, that of the models in the repository")
    build.add_argument("--only", action="append", metavar="NAME", help="this asset alone; may be repeated")

    bags = commands.add_parser("bags", help="bags of similar images").add_subparsers(metavar="ACTION", required=True)
    mine = _command(
        bags,
        "mine",
        _bags_mine,
        "find each image's look-alikes; write a bag file for data.bags; data.key=value overrides as in training",
    )
    mine.add_argument("source", help="a .jsonl file, a COCO captions .json, or a Hugging Face data set's folder")
    mine.add_argument("--out", type=Path, required=True, help="the bag file (JSON)")
    mine.add_argument(
        "--clip", required=True, help="open_clip model: ViT-B-32, local-dir:FOLDER, hf-hub:NAME, lab:retriever"
    )
    mine.add_argument("--pretrained", help="open_clip's tag or a safetensors file, where --clip is a built-in name")
    _add_rows_options(mine)
    mine.add_argument(
        "--neighbours", type=_positive, default=32, help="look-alikes an image and level (default: %(default)s)"
    )
    mine.add_argument(
        "--near-identical", type=float, default=0.97, help="drop pairs more similar than this (default: %(default)s)"
    )
    mine.add_argument("--no-text", dest="text", action="store_false", help="compare images alone, not references too")
    mine.add_argument("--truematch", type=Path, help="write disjoint bags here too, as TrueMatch's JSON")
    mine.add_argument("--size", type=_positive, default=5, help="images a bag of --truematch (default: %(default)s)")
    convert = _command(
        bags,
        "convert",
        _bags_convert,
        "a TrueMatch file (JSON list of lists of ids) into a bag file, or a bag file into one",
    )
    convert.epilog = CONVERT
    convert.formatter_class = argparse.RawDescriptionHelpFormatter
    convert.add_argument("source", type=Path, help="the file to read; which of the two it is shows in it")
    convert.add_argument("--out", type=Path, required=True, help="the file to write, of the other kind")
    convert.add_argument(
        "--level", default="hard", help="level of the bag file to write or read (default: %(default)s)"
    )
    convert.add_argument(
        "--size", type=_positive, help="images a bag of the TrueMatch file (default: as the bag file was made, else 5)"
    )

    cider = _command(
        commands,
        "cider",
        _cider,
        "count the document frequencies that the CIDEr reward weighs words by; data.key=value overrides",
    )
    cider.add_argument("source", help="a .jsonl file, a COCO captions .json, a Hugging Face data set's folder, or lab")
    cider.add_argument(
        "--out", type=Path, required=True, help="the file (JSON) for rewards.cider:Cider's `frequencies`"
    )
    _add_rows_options(cider)

    rewards = _command(commands, "rewards", _rewards, "the rewards that there are, or one reward's card")
    rewards.add_argument("name", nargs="?", help="print this one's whole card")
    rewards.add_argument("--markdown", action="store_true", help="the table as Markdown, as the README has it")

    probe = _command(
        commands,
        "probe",
        _probe,
        "which worse captions does a mix like better; key=value overrides; exit code 1 if any",
    )
    probe.add_argument("target", help="YAML with `mix:` (and `data:`), or one reward: rewards.length:Length")
    probe.add_argument("--count", type=_positive, default=42, help="images, of 16 captions each (default: %(default)s)")
    probe.add_argument("--split", default="test", help="split that the images are taken from (default: %(default)s)")
    probe.add_argument(
        "--threshold", type=_share, default=0.05, help="share of images that a probe may win (default: %(default)s)"
    )
    probe.add_argument("--json", type=Path, metavar="FILE", help="write everything here too")
    probe.set_defaults(takes_overrides=True)

    score = _command(
        commands, "score", _score, "what each reward of a mix says of captions; key=value overrides as in training"
    )
    score.add_argument(
        "captions", type=Path, help="jsonl rows: sample_id, caption, and image, references, … or --config's data"
    )
    score.add_argument(
        "--config", type=Path, required=True, help="YAML with `mix:` (and `data:`), such as recipes/configs/lab.yaml"
    )
    score.set_defaults(takes_overrides=True)

    evaluate = _command(
        commands,
        "eval",
        _eval,
        "held-out metrics of a run's captions, or of captions from anywhere; key=value overrides",
    )
    evaluate.add_argument("target", type=Path, help="a run folder, or jsonl rows of sample_id and caption")
    evaluate.add_argument(
        "--config", type=Path, help="YAML with `data:` and `evaluation:` for a captions file (default: the lab)"
    )
    evaluate.add_argument("--split", default="test", help="split that the captions belong to (default: %(default)s)")
    evaluate.set_defaults(takes_overrides=True)

    report = _command(commands, "report", _report, "make summary.json and report.html of a run again")
    report.add_argument("run_dir", type=Path, help="the run folder")
    return parser


def _command(commands: Any, name: str, run: Callable, help: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
    parser.set_defaults(run=run, takes_overrides=False)
    return parser


def _add_rows_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image-root", help="folder that image paths start from (default: the source's own)")
    parser.add_argument("--on-bad", choices=("error", "skip"), help="a bad row stops (the default), or is counted")
    parser.set_defaults(takes_overrides=True)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {number}")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be a share from 0 to 1, got {number}")
    return number


def _doctor(options: argparse.Namespace) -> int:
    from rlcap.doctor import examine

    health = examine()
    print(health.json() if options.json else health.text())
    return 0 if health.well else 1


def _lab_export(options: argparse.Namespace) -> None:
    from rlcap.config import ConfigError
    from rlcap.lab.splits import BUCKETS, export

    if options.split not in BUCKETS:
        raise ConfigError(f"--split {options.split}: the lab has {', '.join(BUCKETS)}")
    export(options.split, options.count, options.seed, options.out)
    print(f"{options.count} images of {options.split} (seed {options.seed}) in {options.out}")


def _lab_build(options: argparse.Namespace) -> None:
    from rlcap.config import ConfigError
    from rlcap.lab.assets import ASSETS, NAMES

    if unknown := sorted(set(options.only or ()) - set(NAMES)):
        raise ConfigError(f"--only {' '.join(unknown)}: the lab's assets are {', '.join(NAMES)}")
    from rlcap.lab.build import build

    build(options.out or ASSETS, options.seed, options.only, log=print)


def _rows(options: argparse.Namespace) -> SampleSet:
    """The rows of SOURCE as training would read them: what `data.` overrides and the options say."""
    from rlcap.config import ConfigError, SFTConfig, load_config
    from rlcap.config_check import check
    from rlcap.data.load import load_rows

    if strangers := [text for text in options.overrides if not text.lstrip("-").startswith("data.")]:
        raise ConfigError(f"{strangers[0]}: only data. overrides apply here, such as data.columns.references=captions")
    config = load_config(SFTConfig, None, options.overrides)
    told = {"source": options.source, "image_root": options.image_root, "on_bad": options.on_bad}
    config.data = replace(config.data, **{key: value for key, value in told.items() if value is not None})
    check(config)
    return load_rows(config.data)


def _bags_mine(options: argparse.Namespace) -> None:
    from rlcap.data.bags import partition, write_truematch
    from rlcap.data.mining import features, mine
    from rlcap.lab.assets import PREFIX, resolve
    from rlcap.scorers.clip import ClipScorer

    samples = _rows(options)
    print(samples.describe())
    name = f"local-dir:{options.clip}" if options.clip.startswith(PREFIX) else options.clip
    scorer = ClipScorer.load(resolve(name), options.pretrained)
    bags = mine(
        samples, scorer, neighbours=options.neighbours, near_identical=options.near_identical, text=options.text
    )
    bags.write(options.out)
    print(f"{options.out}: {', '.join(f'{key} {value}' for key, value in bags.about.items())}")
    if options.truematch:
        hard, vectors = bags.levels["hard"], features(samples, scorer, text=options.text)
        vector = {sample.id: vectors[row] for row, sample in enumerate(samples)}
        similar = {id: [float(vector[id] @ vector[other]) for other in near] for id, near in hard.items()}
        disjoint = partition(hard, options.size, similar)
        write_truematch(disjoint, options.truematch)
        print(f"{options.truematch}: {len(disjoint)} disjoint bags of {options.size}")


def _bags_convert(options: argparse.Namespace) -> None:
    from rlcap.data.bags import BagError, BagFile, from_bags, is_bag_file, partition, read_truematch, write_truematch

    if is_bag_file(options.source):
        bags = BagFile.read(options.source)
        if options.level not in bags.levels:
            raise BagError(f"--level {options.level}: {options.source} has {', '.join(bags.levels)}")
        lists, size = bags.levels[options.level], options.size or bags.about.get("size", 5)
        # A bag file knows the order of neighbours, not how near they are: images take their turns in the file's order.
        disjoint = partition(lists, size, {id: (0.0,) * len(near) for id, near in lists.items()}, options.level)
        write_truematch(disjoint, options.out)
        print(f"{options.out}: TrueMatch's form, {len(disjoint)} disjoint bags of {size} of {len(lists)} images")
    else:
        disjoint = [replace(bag, level=options.level) for bag in read_truematch(options.source)]
        from_bags(disjoint, model=f"TrueMatch {options.source.name}").write(options.out)
        size = len(disjoint[0].ids)
        print(f"{options.out}: a bag file for data.bags, {len(disjoint)} bags of {size}, level {options.level}")


def _cider(options: argparse.Namespace) -> None:
    from rlcap.config import ConfigError, DataConfig
    from rlcap.data.load import load_splits
    from rlcap.scorers.cider import CiderD

    if options.source == "lab":
        samples = load_splits(DataConfig(validation=0, test=0, prior_breaking=0))[0]["train"]
    else:
        samples = _rows(options)
    texts = [sample.references for sample in samples if any(text.strip() for text in sample.references)]
    if len(texts) < 2:
        raise ConfigError(f"{options.source}: {len(texts)} images with references; frequencies need at least 2")
    cider = CiderD.fit(texts, eos=True)
    cider.save(options.out)
    print(f"{options.out}: {len(cider.document_frequencies)} n-grams of {cider.n_documents} images")


def _rewards(options: argparse.Namespace) -> None:
    from rlcap.reward import card

    if options.name:
        print(card.find(options.name).text())
    else:
        print((card.markdown if options.markdown else card.table)(card.cards()))


def _probe(options: argparse.Namespace) -> int:
    from rlcap.config import GRPOConfig, load_config
    from rlcap.config_check import check
    from rlcap.probe import probe, told, write_json

    if ":" in options.target:
        name = options.target.partition(":")[0].rpartition(".")[2]
        config = load_config(GRPOConfig, None, [f"mix.{name}.reward={options.target}", *options.overrides])
    else:
        config = load_config(GRPOConfig, options.target, options.overrides)
    check(config)
    found = probe(config, options.count, options.split)
    print(told(found, options.threshold))
    if options.json:
        write_json(found, options.threshold, options.json)
    return 1 if found.failed(options.threshold) else 0


def _score(options: argparse.Namespace) -> None:
    from rlcap.config import GRPOConfig, load_config
    from rlcap.config_check import check
    from rlcap.score import score_captions

    config = load_config(GRPOConfig, options.config, options.overrides)
    check(config)
    print(score_captions(options.captions, config))


def _eval(options: argparse.Namespace) -> None:
    from rlcap.config import GRPOConfig, load_config
    from rlcap.score import evaluate_captions, summary_table

    if options.target.is_dir():
        from rlcap.eval.summary import summarise

        print(summary_table(summarise(options.target)))
    else:
        config = load_config(GRPOConfig, options.config, options.overrides)
        print(evaluate_captions(options.target, config, options.split))


def _report(options: argparse.Namespace) -> None:
    from rlcap.eval.report import write_report
    from rlcap.eval.summary import summarise

    summarise(options.run_dir)
    print(write_report(options.run_dir))


if __name__ == "__main__":
    sys.exit(main())
