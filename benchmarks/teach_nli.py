"""Teaches an NLI model by the captions of those COCO images on which nothing is measured afterwards.

    python benchmarks/teach_nli.py --coco DIR --pope DIR --nli DIR --out DIR

Left out are the photos that are there (benchmarks/real_photos.py trains and tests on them) and the images of POPE's captions
(benchmarks/reward_quality.py). What `rlcap nli` does with a file of captions, this does with the rest. DIR of `--coco` holds
`images/` and `annotations/captions_val2017.json`. A quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rlcap.commands.arguments import folder, positive
from rlcap.scorers.nli_training import teach


def captions_of_other_images(coco: Path, pope: Path | None) -> list[list[str]]:
    """Captions grouped by image, of images that are neither in `coco`/images nor in a file of `pope`."""
    data = json.loads((coco / "annotations" / "captions_val2017.json").read_text())
    files = pope.glob("*.json") if pope else ()
    seen = {row["image_id"] for path in files for row in json.loads(path.read_text())}
    here = {path.name for path in (coco / "images").iterdir()}
    groups: dict[int, list[str]] = {
        row["id"]: [] for row in data["images"] if row["file_name"] not in here and row["id"] not in seen
    }
    for row in data["annotations"]:
        if row["image_id"] in groups:
            groups[row["image_id"]].append(row["caption"].strip())
    return [group for group in groups.values() if len(group) > 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=folder, required=True, help="folder with images/ and annotations/")
    parser.add_argument("--pope", type=folder, help="folder with POPE's captions: their images are left out")
    parser.add_argument("--nli", type=folder, required=True, help="folder of an NLI cross-encoder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=positive, default=1_500, help="default: %(default)s")
    options = parser.parse_args()
    images = captions_of_other_images(options.coco, options.pope)
    before, after = teach(str(options.nli), images, options.out, options.steps)
    print(f"{len(images)} images; AUC {after:.3f} (before: {before:.3f}) on captions of images that it was not taught")


if __name__ == "__main__":
    main()
