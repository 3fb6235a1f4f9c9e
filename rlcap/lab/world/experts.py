"""Noisy experts and the fused paragraph, from which maximum likelihood training learns.

As in PixLore and FuseCap, detectors and taggers describe the image, and a language model fuses their outputs with human
captions. The experts miss things, confuse kinds, and assume usual attributes where the image has unusual ones. The
fusion leaves things out. A captioner that is trained on such paragraphs omits and hallucinates.
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
    """The outputs of the experts for an image; all of them may be wrong."""

    detections: tuple[Thing, ...]
    """Detected things with the attributes of the attribute tagger, in reading order."""
    relations: tuple[tuple[int, str, int], ...]
    """Triples (index of a detection, relation, index of another detection)."""
    background: str
    """The background."""

    def to_json(self) -> dict:
        """Return the outputs as a mapping of JSON values."""
        return {
            "detections": [{f: getattr(t, f) for f in Thing.__slots__} for t in self.detections],
            "relations": [list(r) for r in self.relations],
            "background": self.background,
        }


def _tag(thing: Thing, rng: random.Random) -> Thing:
    """Tag the attributes of a thing: in about half of the cases, an unusual attribute is replaced by the usual one."""
    colour, size, fill, places = USUAL[thing.kind]
    tagged = thing
    for name, usual, error_rate in (("colour", colour, 0.45), ("size", size, 0.5), ("fill", fill, 0.5)):
        if getattr(thing, name) != usual and rng.random() < error_rate:
            tagged = replace(tagged, **{name: usual})
    if thing.place not in places and rng.random() < 0.4:
        tagged = replace(tagged, place=rng.choice(places))
    return tagged


def run_experts(scene: Scene, rng: random.Random) -> ExpertOutputs:
    """Run the experts on a scene.

    The detector misses and confuses things, the attribute tagger assumes usual attributes, and the relation tagger
    often names the opposite relation.
    """
    detections = []
    for thing in scene.things:
        if rng.random() < {"small": 0.24, "medium": 0.12, "large": 0.06}[thing.size]:
            continue
        detected = replace(thing, kind=CONFUSABLE[thing.kind]) if rng.random() < 0.06 else thing
        detections.append(_tag(detected, rng))
    # The detector "detects" an absent kind that usually accompanies the present ones.
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
        true = [r for r, ok in zip(RELATIONS, (xi < xj, xi > xj, yi < yj, yi > yj), strict=True) if ok]
        relation = rng.choice(true or RELATIONS)
        relations.append((i, OPPOSITE[relation] if rng.random() < 0.3 else relation, j))
    usual_grounds = [ground for kinds, ground in THEMES.values() if len(present & set(kinds)) >= 2]
    is_wrong = usual_grounds and scene.background not in usual_grounds and rng.random() < 0.45
    background = rng.choice(usual_grounds) if is_wrong else scene.background
    return ExpertOutputs(tuple(detections), tuple(relations), background)


def fuse(experts: ExpertOutputs, rng: random.Random) -> str:
    """Fuse the outputs of the experts into a paragraph, which leaves out some things and attributes."""
    sentences = []
    mentioned = [thing for thing in experts.detections if rng.random() < 0.8] or list(experts.detections[:1])
    for thing in mentioned:
        shares = (("size", 0.3), ("fill", 0.35), ("colour", 0.75), ("place", 0.45))
        sentences.append(describe_thing(thing, [name for name, p in shares if rng.random() < p], rng))
    for kind in dict.fromkeys(thing.kind for thing in mentioned):
        count = sum(thing.kind == kind for thing in experts.detections)
        if count > 1 and rng.random() < 0.4:
            sentences.append(describe_count(kind, count))
    for i, relation, j in experts.relations:
        if experts.detections[i] in mentioned and experts.detections[j] in mentioned and rng.random() < 0.3:
            sentences.append(describe_relation(experts.detections[i], relation, experts.detections[j]))
    if rng.random() < 0.5 or not sentences:
        sentences.append(describe_background(experts.background))
    return " ".join(sentences)


def sample_paragraph(scene: Scene, rng: random.Random) -> str:
    """Run the experts on the scene and return the fused paragraph."""
    return fuse(run_experts(scene, rng), rng)
