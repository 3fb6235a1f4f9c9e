import random
from dataclasses import replace

import numpy as np
import pytest

from rlcap.lab.world.renderer import SIDE, draw, render
from rlcap.lab.world.scene import Scene, Thing, sample_scene
from rlcap.lab.world.vocabulary import BACKGROUNDS, COLOURS, FILLS, KINDS, PLACES, SIZES, cell_of

BALL = Thing("ball", "red", "large", "plain", "middle")


def test_pixels_are_a_function_of_scene_and_seed():
    scene = sample_scene(random.Random(1))
    image = render(scene, 4)
    assert (image.size, image.mode) == ((SIDE, SIDE), "RGB")
    assert render(scene, 4).tobytes() == image.tobytes()
    assert render(scene, 5).tobytes() != image.tobytes()


def test_rendering_does_not_change_the_global_generators():
    np.random.seed(0)
    random.seed(0)
    render(sample_scene(random.Random(1)), 4)
    after = np.random.random(), random.random()
    np.random.seed(0)
    random.seed(0)
    assert after == (np.random.random(), random.random())


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_every_background_is_drawn_with_texture(background):
    pixels, owner = draw(Scene(background, (BALL, replace(BALL, place="top left"))), 0)
    # Sensor noise alone has a standard deviation of 6.
    assert pixels[owner < 0].std(0).mean() > 7


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_every_thing_is_visible_at_its_place(kind, size):
    for place in PLACES:
        _, owner = draw(Scene("sand", (Thing(kind, "blue", size, "plain", place),)), 7)
        rows, columns = np.nonzero(owner == 0)
        assert len(rows) > 40
        column, row = cell_of(place)
        # The middle lies in its cell, or beside it by at most the jitter.
        assert abs(columns.mean() - (column + 0.5) * SIDE / 3) < SIDE / 6 + 4
        assert abs(rows.mean() - (row + 0.5) * SIDE / 3) < SIDE / 6 + 4


def test_colours_and_fills_differ_in_pixels():
    means = {}
    for colour in COLOURS:
        pixels, owner = draw(Scene("sand", (replace(BALL, colour=colour),)), 3)
        means[colour] = pixels[owner == 0].mean(0)
    gaps = [np.linalg.norm(means[a] - means[b]) for a in COLOURS for b in COLOURS if a != b]
    assert min(gaps) > 30
    spread = {}
    for fill in FILLS:
        pixels, owner = draw(Scene("sand", (replace(BALL, fill=fill),)), 3)
        spread[fill] = pixels[owner == 0].std(0).mean()
    assert min(spread["striped"], spread["dotted"]) > 2 * spread["plain"]


def test_sizes_grow():
    areas = [
        np.mean([(draw(Scene("sand", (replace(BALL, size=size),)), seed)[1] == 0).sum() for seed in range(5)])
        for size in SIZES
    ]
    assert areas[1] > 1.4 * areas[0]
    assert areas[2] > 1.4 * areas[1]


def test_nothing_is_hidden_completely():
    for seed in range(150):
        scene = sample_scene(random.Random(seed))
        _, owner = draw(scene, seed)
        assert min((owner == i).sum() for i in range(len(scene.things))) > 40


def test_edges_are_smooth():
    pixels, _ = draw(Scene("snow", (replace(BALL, colour="black"),)), 0)
    grey = pixels.astype(float).mean(-1)
    # Without anti-aliasing there is nothing between a black ball and the snow.
    assert ((grey > 70) & (grey < 170)).sum() > 20


@pytest.mark.slow
def test_neighbours_overlap_in_part_but_never_vanish():
    overlapped = things = 0
    for seed in range(200):
        scene = sample_scene(random.Random(f"overlap {seed}"))
        _, owners = draw(scene, seed)
        for index in range(len(scene.things)):
            # The same seed draws the same first things; without the later things, this one is fully visible.
            _, unhidden = draw(replace(scene, things=scene.things[: index + 1]), seed)
            visible = (owners == index).sum() / (unhidden == index).sum()
            assert visible > 0.5, f"{scene.things[index]} of seed {seed} is {1 - visible:.0%} hidden"
            overlapped += visible < 0.98
            things += 1
    assert 0.02 < overlapped / things < 0.15
