"""`rlcap crosscheck`: which captions mention things that no other caption of the same image mentions?"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import command

EPILOG = """\
examples:
  rlcap crosscheck a.jsonl b.jsonl c.jsonl            three captioners on the same images
  rlcap crosscheck samples.jsonl --out checked.jsonl  several samples of one captioner for each image
  rlcap crosscheck a.json b.json --vocabulary my_objects.csv

A file holds rows of sample_id and caption, or COCO's results as .json. No image, reference or model is read. An object that
neither another system nor another sample mentions is doubted; systems that share training data may share what they invent.
"""


def add(commands: Any) -> None:
    """Add the command."""
    check = command(
        commands,
        "crosscheck",
        _crosscheck,
        "find objects that captions mention and other captions of the same images do not, without references",
        EPILOG,
    )
    check.add_argument("files", type=Path, nargs="+", metavar="FILE", help="captions, one file for each system")
    check.add_argument(
        "--vocabulary",
        type=Path,
        help="objects to find, a line of comma-separated synonyms each (default: the 80 of COCO)",
    )
    check.add_argument(
        "--out", type=Path, metavar="FILE", help="write each caption with its doubted objects here (jsonl)"
    )
    check.add_argument("--json", type=Path, metavar="FILE", help="write the table here")


def _crosscheck(options: argparse.Namespace) -> None:
    from rlcap.data.captions import read_captions
    from rlcap.errors import CaptionsError
    from rlcap.eval.metrics.cross_check import cross_check
    from rlcap.eval.statistics import mean_interval
    from rlcap.io.atomic import write_json, write_text
    from rlcap.io.json_values import nan_to_null
    from rlcap.scorers.objects.vocabulary import Vocabulary

    finder = Vocabulary.read(options.vocabulary) if options.vocabulary else Vocabulary.coco()
    rows = [(path, row) for path in options.files for row in read_captions(path)]
    systems, images = [str(path) for path, _ in rows], [str(row["sample_id"]) for _, row in rows]
    checked = cross_check([row["caption"] for _, row in rows], images, systems, finder)
    alone = sum(math.isnan(caption.support) for caption in checked)
    if alone == len(checked):
        raise CaptionsError(
            f"no image has a second caption among {len(checked)} captions: give another system's file, or several samples an image"
        )
    table: dict[str, dict[str, Any]] = {}
    for path in map(str, options.files):
        own = [row for row, system in enumerate(systems) if system == path]
        doubted = [float(bool(checked[row].doubted)) for row in own if not math.isnan(checked[row].support)]
        clusters = [images[row] for row in own if not math.isnan(checked[row].support)]
        table[path] = {
            "captions": len(own),
            "objects": sum(len(checked[row].objects) for row in own),
            "doubted_objects": sum(len(checked[row].doubted) for row in own),
            "captions_with_a_doubted_object": mean_interval(doubted, clusters)._asdict(),
        }
    print("| captions | objects | doubted | captions with a doubted object |\n|---|---|---|---|")
    for path, values in table.items():
        share = values["captions_with_a_doubted_object"]
        has_interval = math.isfinite(share["low"])  # one image has none
        interval = f"[{share['low']:.3f}, {share['high']:.3f}]" if has_interval else "(one image has no interval)"
        print(
            f"| {path} ({values['captions']}) | {values['objects']} | {values['doubted_objects']} | "
            f"{share['mean']:.3f} {interval} |"
        )
    print("95 % intervals over images")
    if alone:
        print(f"{alone} captions have no other caption of their image, and are left out")
    if options.out:
        lines = [
            {
                "system": system,
                "sample_id": image,
                "caption": row["caption"],
                "support": caption.support,
                "doubted": caption.doubted,
                "objects": caption.objects,
            }
            for system, image, (_, row), caption in zip(systems, images, rows, checked, strict=True)
        ]
        write_text(
            options.out,
            "".join(json.dumps(nan_to_null(line), ensure_ascii=False) + "\n" for line in lines),
            "the checked captions",
        )
    if options.json:
        write_json(options.json, table, "the table", indent=1)
