import json
import random

import pytest
from habits import unusual_share
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcap.lab.world.scene import Scene, Thing, distance, holds, misread, sample_family, sample_scene, sample_sibling
from rlcap.lab.world.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    CONFUSABLE,
    FILLS,
    KINDS,
    PLACES,
    SIZES,
    THEMES,
    USUAL,
    cell_of,
)


def test_the_vocabulary_has_the_documented_size():
    assert len(set(KINDS)) >= 12
    assert len(set(COLOURS)) == 8
    assert len(set(SIZES)) == len(set(FILLS)) == 3
    assert len(set(PLACES)) == 9
    assert len(set(BACKGROUNDS)) == 6
    assert set(USUAL) == set(CONFUSABLE) == set(KINDS)
    assert all(other in KINDS and other != kind for kind, other in CONFUSABLE.items())
    assert all(set(kinds) <= set(KINDS) and ground in BACKGROUNDS for kinds, ground in THEMES.values())


def test_places_and_cells_are_inverse():
    assert [cell_of(place) for place in ("top left", "top right", "middle", "bottom")] == [
        (0, 0),
        (2, 0),
        (1, 1),
        (1, 2),
    ]
    assert [cell_of(place) for place in PLACES] == [(column, row) for row in range(3) for column in range(3)]


@given(st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_any_scene_is_well_formed_and_equal_after_json(seed):
    scene = sample_scene(random.Random(seed))
    assert 2 <= len(scene.things) <= 5
    assert len({thing.place for thing in scene.things}) == len(scene.things)
    assert Scene.from_json(json.loads(json.dumps(scene.to_json()))) == scene
    assert hash(scene) == hash(Scene.from_json(scene.to_json()))


def test_a_scene_is_a_function_of_its_seed():
    assert sample_scene(random.Random(5)) == sample_scene(random.Random(5))
    assert len({sample_scene(random.Random(seed)) for seed in range(200)}) > 195


def test_every_value_is_reachable_with_and_without_habits():
    for breaking in (True, False):
        scenes = [sample_scene(random.Random(seed), breaking) for seed in range(1500)]
        things = [thing for scene in scenes for thing in scene.things]
        for field, values in (
            ("kind", KINDS),
            ("colour", COLOURS),
            ("size", SIZES),
            ("fill", FILLS),
            ("place", PLACES),
        ):
            assert {getattr(thing, field) for thing in things} == set(values), (breaking, field)
        assert {scene.background for scene in scenes} == set(BACKGROUNDS)
        assert {len(scene.things) for scene in scenes} == {2, 3, 4, 5}
        assert any(scene.count(thing.kind) > 1 for scene in scenes for thing in scene.things)


def test_habits_are_strong_and_their_absence_is_not():
    def share(breaking):
        return sum(unusual_share(sample_scene(random.Random(seed), breaking)) for seed in range(400)) / 400

    # By chance, 1/8 of colours, 1/3 of sizes and fills and 3/9 of places are usual: 28 % together, so that 72 % are not.
    assert share(True) == pytest.approx(0.72, abs=0.03)
    assert 0.12 < share(False) < 0.25
    assert share(False) < share(None) < share(True)


@pytest.mark.parametrize("differences", [1, 2, 3])
def test_siblings_differ_in_exactly_this_number_of_attributes(differences):
    for seed in range(400):
        rng = random.Random(seed)
        scene = sample_scene(rng)
        other = sample_sibling(scene, rng, differences)
        assert distance(scene, other) == distance(other, scene) == differences
        assert len({thing.place for thing in other.things}) == len(other.things)


def test_a_family_is_a_base_and_its_siblings_nearest_first():
    scenes = sample_family(random.Random(3), 7)
    assert len(set(scenes)) == 7
    assert [distance(scenes[0], other) for other in scenes[1:]] == [1, 1, 2, 2, 3, 3]


def test_relations_are_strict():
    def at(place):
        return Thing("ball", "red", "small", "plain", place)

    assert holds("left of", at("left"), at("middle"))
    assert not holds("left of", at("top"), at("bottom"))
    assert holds("above", at("top"), at("bottom left"))
    assert not holds("above", at("left"), at("right"))
    for one in PLACES:
        for two in PLACES:
            assert holds("left of", at(one), at(two)) == holds("right of", at(two), at(one))
            assert holds("above", at(one), at(two)) == holds("below", at(two), at(one))


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_misreading_replaces_this_share_of_the_attributes(share):
    slots = wrong = 0
    for seed in range(300):
        scene = sample_scene(random.Random(seed))
        observed = misread(scene, random.Random(seed), share)
        assert len(observed.things) == len(scene.things) == len({thing.place for thing in observed.things})
        assert observed == misread(scene, random.Random(seed), share)
        slots, wrong = slots + 5 * len(scene.things) + 1, wrong + distance(scene, observed)
    assert wrong / slots == pytest.approx(share, abs=0.02 if 0 < share < 1 else 0.0)
