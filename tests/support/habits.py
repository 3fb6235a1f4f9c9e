"""How far lab scenes deviate from the usual attributes of their things."""

from rlcap.lab.world.scene import Scene
from rlcap.lab.world.vocabulary import USUAL


def unusual_share(scene: Scene) -> float:
    """Return the share of the scene's (thing, attribute) pairs that are unusual for the kind, in [0, 1]."""
    broken = total = 0
    for thing in scene.things:
        colour, size, fill, places = USUAL[thing.kind]
        broken += (thing.colour != colour) + (thing.size != size) + (thing.fill != fill) + (thing.place not in places)
        total += 4
    return broken / total
