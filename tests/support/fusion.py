"""Small photos, experts and fusers for the tests of fusion: none of them has weights."""

from __future__ import annotations

import json
import os
import time

import numpy as np
from fake_backends import FakeBackend
from PIL import Image

from rlcap.experts.base import Expert, Statement
from rlcap.fuse.preset import Preset
from rlcap.io.images import open_image
from rlcap.judge.templates import extract_delimited

COLOURS = ("red", "green", "blue", "yellow", "white", "black")


def photo(path, seed=0, side=32):
    """A photo of one colour with some noise; every seed gives another file."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 40, (side, side, 3), dtype=np.uint8)
    pixels[:, :, seed % 3] += 180
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_rows(folder, count, **more):
    """A .jsonl file with `count` photos beside it, each with two references."""
    rows = []
    for i in range(count):
        path = photo(folder / "photos" / f"{i}.png", i)
        references = [f"a dog number {i}.", "a dog on grass."]
        rows.append({"id": f"p{i}", "image": str(path.relative_to(folder)), "references": references, **more})
    source = folder / "photos.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return source


class Brightness(Expert):
    """Says how bright the red of an image is; counts how often it is asked."""

    asked = 0

    def __init__(self, name="photo"):
        self.name = name

    def describe(self, inputs):
        type(self).asked += len(inputs)
        reds = [int(np.asarray(open_image(one.sample.image))[:, :, 0].mean()) for one in inputs]
        return [[Statement(f"a {self.name} of {red} reds", "tag", score=red / 255)] for red in reds]


class Joiner(FakeBackend):
    """A fuser that joins the references, and adds a sentence that nobody said."""

    name = "joiner"
    calls = 0
    invented = "A purple elephant flies."

    def generate(self, content, system="", **_):
        type(self).calls += 1
        if delay := float(os.environ.get("FUSION_DELAY", "0")):
            time.sleep(delay)
        if "<unsupported>" in content:
            return "A dog stands on grass."
        lines = extract_delimited("statements", content).splitlines()
        return " ".join([line[2:].rpartition(" (")[0] for line in lines] + [self.invented])


def preset(**changes):
    """A preset without models: the references and Brightness, joined."""
    values = {
        "experts": {"references": {"expert": "references"}, "light": {"expert": "fusion:Brightness"}},
        "fuser": {"backend": Joiner(), "cache": ":memory:"},
        **changes,
    }
    return Preset.parse(values)
