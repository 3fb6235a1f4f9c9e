"""Noisy experts and the fused paragraph: the data that maximum likelihood learns from.

As in PixLore and FuseCap, detectors and taggers look at the image and a language model fuses what they say with human
captions. Experts miss, confuse, and fall back on the usual where the image is not the usual; the fusion leaves things
out. A captioner trained on such paragraphs omits and hallucinates.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from rlcap.lab.world.language import (
    describe_background,
    describe_count,
    describe_relation,
    describe_thing,
    reading_order,
)
from rlcap.lab.world.scene import Scene, Thing, sample_thing
from rlcap.lab.world.vocabulary import CONFUSABLE, OPPOSITE, PLACES, RELATIONS, THEMES, USUAL


@dataclass(frozen=True, slots=True)
class ExpertOutputs:
    """What the experts say of an image; any of it may be wrong."""

    detections: tuple[Thing, ...]
    """Boxes with the tags that the attribute tagger gave them, in reading order."""
    relations: tuple[tuple[int, str, int], ...]
    """(index of a detection, relation, index of another)."""
    background: str

    def to_json(self) -> dict:
        return {
            "detections": [{f: getattr(t, f) for f in Thing.__slots__} for t in self.detections],
            "relations": [list(r) for r in self.relations],
            "background": self.background,
        }


def _tag(thing: Thing, rng: random.Random) -> Thing:
    """The attribute tagger: where an attribute is not the usual one it says the usual one about every second time."""
    colour, size, fill, places = USUAL[thing.kind]
    tagged = thing
    for name, usual, slip in (("colour", colour, 0.45), ("size", size, 0.5), ("fill", fill, 0.5)):
        if getattr(thing, name) != usual and rng.random() < slip:
            tagged = replace(tagged, **{name: usual})
    if thing.place not in places and rng.random() < 0.4:
        tagged = replace(tagged, place=rng.choice(places))
    return tagged


def run_experts(scene: Scene, rng: random.Random) -> ExpertOutputs:
    """Run the experts: a detector that misses and confuses, a tagger that assumes, a relation tagger that guesses."""
    detections = []
    for thing in scene.things:
        if rng.random() < {"small": 0.24, "medium": 0.12, "large": 0.06}[thing.size]:
            continue
        seen = replace(thing, kind=CONFUSABLE[thing.kind]) if rng.random() < 0.06 else thing
        detections.append(_tag(seen, rng))
    # A companion that usually comes along is "detected" although it is not there.
    present = {thing.kind for thing in scene.things}
    for kinds, _ in THEMES.values():
        absent = [kind for kind in kinds if kind not in present]
        if len(absent) in (1, 2) and len(detections) < 5 and rng.random() < 0.4:
            free = [p for p in PLACES if p not in {t.place for t in detections}]
            detections.append(sample_thing(rng, rng.choice(absent), free, habit=0.95))
            break
    detections = reading_order(Scene(scene.background, tuple(detections)))
    relations = []
    for i, j in zip(range(len(detections)), range(1, len(detections)), strict=False):
        first, second = detections[i], detections[j]
        if first.kind == second.kind:
            continue
        (xi, yi), (xj, yj) = divmod(PLACES.index(first.place), 3)[::-1], divmod(PLACES.index(second.place), 3)[::-1]
        truth = [r for r, ok in zip(RELATIONS, (xi < xj, xi > xj, yi < yj, yi > yj), strict=True) if ok]
        said = rng.choice(truth or RELATIONS)
        relations.append((i, OPPOSITE[said] if rng.random() < 0.3 else said, j))
    themes = [ground for kinds, ground in THEMES.values() if len(present & set(kinds)) >= 2]
    slip = themes and scene.background not in themes and rng.random() < 0.45
    return ExpertOutputs(tuple(detections), tuple(relations), rng.choice(themes) if slip else scene.background)


def fuse(experts: ExpertOutputs, rng: random.Random) -> str:
    """The fused paragraph: what the experts said, with things and attributes left out."""
    sentences = []
    told = [thing for thing in experts.detections if rng.random() < 0.8] or list(experts.detections[:1])
    for thing in told:
        shares = (("size", 0.3), ("fill", 0.35), ("colour", 0.75), ("place", 0.45))
        sentences.append(describe_thing(thing, [name for name, p in shares if rng.random() < p], rng))
    for kind in dict.fromkeys(thing.kind for thing in told):
        count = sum(thing.kind == kind for thing in experts.detections)
        if count > 1 and rng.random() < 0.4:
            sentences.append(describe_count(kind, count))
    for i, relation, j in experts.relations:
        if experts.detections[i] in told and experts.detections[j] in told and rng.random() < 0.3:
            sentences.append(describe_relation(experts.detections[i], relation, experts.detections[j]))
    if rng.random() < 0.5 or not sentences:
        sentences.append(describe_background(experts.background))
    return " ".join(sentences)


def sample_paragraph(scene: Scene, rng: random.Random) -> str:
    """A fused paragraph of the scene from a fresh look of the experts."""
    return fuse(run_experts(scene, rng), rng)
