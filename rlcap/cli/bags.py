"""`rlcap bags`: finds similar images, and converts between bag files."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import SOURCE, add_rows, command, group, positive, rows

CONVERT = """\
examples:
  rlcap bags convert truematch/5.json --out bags.json      the neighbours of an image are the other images of its bag
  rlcap bags convert bags.json --out 3.json --size 3       disjoint bags of 3, formed in the order of the file

Ids are compared as text: 139 in TrueMatch's file is the image with the id 139 in COCO's captions file. `rlcap bags mine
--truematch FILE` writes better disjoint bags than the second command, because it knows the similarities and forms bags of
the most similar images first.
"""


def add(commands: Any) -> None:
    """Add the command and its actions."""
    bags = group(commands, "bags", "mine or convert bags of similar images")
    mine = command(
        bags,
        "mine",
        _bags_mine,
        "find similar images for each image, and write a bag file for data.bags; data.key=value overrides as in training",
    )
    add_rows(mine, SOURCE)
    mine.add_argument("--out", type=Path, required=True, help="bag file to write (JSON)")
    mine.add_argument(
        "--clip",
        required=True,
        help="open_clip model: ViT-B-32, local-dir:FOLDER, hf-hub:NAME, local-dir:lab:retriever",
    )
    mine.add_argument("--pretrained", help="tag of open_clip, or a safetensors file, if --clip is a built-in name")
    mine.add_argument(
        "--neighbours", type=positive, default=32, help="similar images per image and level (default: %(default)s)"
    )
    mine.add_argument(
        "--near-identical",
        type=float,
        default=0.97,
        help="cosine similarity above which images count as duplicates and form no bag (default: %(default)s)",
    )
    mine.add_argument("--no-text", dest="text", action="store_false", help="compare images only, without references")
    mine.add_argument("--truematch", type=Path, help="file for disjoint bags in TrueMatch's JSON format")
    mine.add_argument("--size", type=positive, default=5, help="images per bag of --truematch (default: %(default)s)")
    convert = command(
        bags,
        "convert",
        _bags_convert,
        "convert a TrueMatch file (JSON list of lists of ids) into a bag file, or a bag file into a TrueMatch file",
        CONVERT,
    )
    convert.add_argument("source", type=Path, help="file to read, of either format")
    convert.add_argument("--out", type=Path, required=True, help="file to write, of the other format")
    convert.add_argument(
        "--level", default="hard", help="level in the bag file that is written or read (default: %(default)s)"
    )
    convert.add_argument(
        "--size", type=positive, help="images per bag of the TrueMatch file (default: as in the bag file, or 5)"
    )


def _bags_mine(options: argparse.Namespace) -> None:
    from rlcap.data.bags import partition, write_truematch
    from rlcap.data.mining import compute_features, mine
    from rlcap.data.samples import SampleSet
    from rlcap.scorers.clip import ClipScorer

    samples = rows(options)
    # Only rows from files have a description. Other sources return a plain sequence.
    print(samples.describe() if isinstance(samples, SampleSet) else f"{len(samples):,} images from {options.source}.")
    scorer = ClipScorer.load(options.clip, options.pretrained)
    bags = mine(
        samples, scorer, neighbours=options.neighbours, near_identical=options.near_identical, text=options.text
    )
    bags.write(options.out)
    print(f"{options.out}: {', '.join(f'{key} {value}' for key, value in bags.about.items())}")
    if options.truematch:
        hard, vectors = bags.levels["hard"], compute_features(samples, scorer, text=options.text)
        vector = {sample.id: vectors[row] for row, sample in enumerate(samples)}
        similar = {id: [float(vector[id] @ vector[other]) for other in near] for id, near in hard.items()}
        disjoint = partition(hard, options.size, similar)
        write_truematch(disjoint, options.truematch)
        print(f"{options.truematch}: {len(disjoint)} disjoint bags of {options.size}")


def _bags_convert(options: argparse.Namespace) -> None:
    from rlcap.data.bags import (
        BagFile,
        is_bag_file,
        make_bag_file,
        partition,
        read_truematch,
        write_truematch,
    )
    from rlcap.errors import BagError

    if is_bag_file(options.source):
        bags = BagFile.read(options.source)
        if options.level not in bags.levels:
            raise BagError(f"--level {options.level}: {options.source} has {', '.join(bags.levels)}")
        lists, size = bags.levels[options.level], options.size or bags.about.get("size", 5)
        # A bag file has no similarities, only the order of neighbours. So the images start bags in the order of the file.
        disjoint = partition(lists, size, {id: (0.0,) * len(near) for id, near in lists.items()}, options.level)
        write_truematch(disjoint, options.out)
        print(f"{options.out}: TrueMatch format, {len(disjoint)} disjoint bags of {size} from {len(lists)} images")
    else:
        disjoint = [replace(bag, level=options.level) for bag in read_truematch(options.source)]
        make_bag_file(disjoint, model=f"TrueMatch {options.source.name}").write(options.out)
        size = len(disjoint[0].ids)
        print(f"{options.out}: bag file for data.bags, {len(disjoint)} bags of {size}, level {options.level}")
