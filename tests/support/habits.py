"""How far lab scenes break the habits of their things."""

from rlcap.lab.world.scene import Scene
from rlcap.lab.world.vocabulary import USUAL


def unusual_share(scene: Scene) -> float:
    """Share of the scene's (thing, attribute) pairs that break the kind's habit, in [0, 1]."""
    broken = total = 0
    for thing in scene.things:
        colour, size, fill, places = USUAL[thing.kind]
        broken += (thing.colour != colour) + (thing.size != size) + (thing.fill != fill) + (thing.place not in places)
        total += 4
    return broken / total
