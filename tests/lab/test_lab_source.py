import json
import random
from collections import Counter

import pytest
from habits import unusual_share
from PIL import Image

from rlcap.lab.source import BUCKETS, FAMILY, bucket, draw_family, draw_scene, export, load_split
from rlcap.lab.world.scene import Scene, distance


def test_no_two_splits_hold_the_same_scene():
    taken = {}
    for split in BUCKETS:
        for seed in range(1500):
            scene = draw_scene(random.Random(f"{split}{seed}"), split)
            assert bucket(scene) in BUCKETS[split]
            assert taken.setdefault(scene, split) == split
    assert len(taken) > 5500
    held = [b for buckets in BUCKETS.values() for b in buckets]
    assert sorted(held) == list(range(100))


def test_the_order_of_things_does_not_move_a_scene_to_another_split():
    for seed in range(200):
        scene = draw_scene(random.Random(seed), "train")
        assert bucket(Scene(scene.background, scene.things[::-1])) == bucket(scene)


def test_buckets_are_even():
    counts = Counter(bucket(draw_family(random.Random(seed), "train")[0]) for seed in range(700))
    assert set(counts) <= set(range(70))
    assert max(counts.values()) < 30


@pytest.mark.parametrize("split", list(BUCKETS))
def test_families_stay_in_their_split(split):
    scenes = draw_family(random.Random(5), split)
    assert len(set(scenes)) == FAMILY
    assert {bucket(scene) in BUCKETS[split] for scene in scenes} == {True}
    assert [distance(scenes[0], scene) for scene in scenes[1:]] == [1, 1, 2, 2, 3, 3]


def test_a_split_is_deterministic_and_its_head_does_not_depend_on_its_length(tmp_path):
    long = load_split("validation", 20, 3, tmp_path / "a")
    again = load_split("validation", 20, 3, tmp_path / "b")
    short = load_split("validation", 9, 3, tmp_path / "c")
    for one, two in (*zip(long, again, strict=True), *zip(long[:9], short, strict=True)):
        assert (one.id, one.references, one.paragraph, one.meta) == (two.id, two.references, two.paragraph, two.meta)
        with open(one.image, "rb") as a, open(two.image, "rb") as b:
            assert a.read() == b.read()
    assert [s.distractors for s in long] == [s.distractors for s in again]
    other = load_split("validation", 9, 4, tmp_path / "a")
    assert not {json.dumps(s.meta["scene"]) for s in long} & {json.dumps(s.meta["scene"]) for s in other}
    assert not {s.id for s in long} & {s.id for s in other}


def test_rows_are_complete(tmp_path):
    samples = load_split("test", 2 * FAMILY + 3, 0, tmp_path)
    ids = [sample.id for sample in samples]
    assert len(set(ids)) == len(samples) == 2 * FAMILY + 3
    for i, sample in enumerate(samples):
        assert len(sample.references) == 5
        assert sample.paragraph
        near = sample.distractors["hard"]
        assert sample.id not in near
        assert set(near) <= set(ids)
        # The family comes first, by number of differences.
        family = [ids[j] for j in range(len(ids)) if j // FAMILY == i // FAMILY and j != i]
        assert set(near[: len(family)]) == set(family)
        scenes = [Scene.from_json(samples[ids.index(id)].meta["scene"]) for id in near[: len(family)]]
        gaps = [distance(Scene.from_json(sample.meta["scene"]), scene) for scene in scenes]
        assert gaps == sorted(gaps)
        with Image.open(sample.image) as image:
            assert image.size == (96, 96)


def test_prior_breaking_scenes_have_no_habits(tmp_path):
    def share(split):
        rows = load_split(split, 70, 0, tmp_path)
        return sum(unusual_share(Scene.from_json(row.meta["scene"])) for row in rows) / len(rows)

    assert share("prior_breaking") > 0.6
    assert share("test") < 0.5


def test_an_unknown_split_lists_the_known():
    with pytest.raises(ValueError, match="known: train, validation, test, prior_breaking"):
        load_split("tests", 1)


def test_export_writes_the_documented_files(tmp_path):
    export("test", 9, 2, tmp_path / "out")
    samples = load_split("test", 9, 2)
    scenes = [json.loads(line) for line in (tmp_path / "out" / "scenes.jsonl").read_text().splitlines()]
    texts = [json.loads(line) for line in (tmp_path / "out" / "references.jsonl").read_text().splitlines()]
    assert [row["id"] for row in scenes] == [row["id"] for row in texts] == [sample.id for sample in samples]
    for sample, scene, text in zip(samples, scenes, texts, strict=True):
        assert scene == {"id": sample.id, "image": f"images/{sample.id}.png", "scene": sample.meta["scene"]}
        assert (text["references"], text["paragraph"]) == (list(sample.references), sample.paragraph)
        assert text["distractors"] == {level: list(ids) for level, ids in sample.distractors.items()}
        with open(sample.image, "rb") as cached:
            assert (tmp_path / "out" / scene["image"]).read_bytes() == cached.read()


def test_an_export_is_a_data_source_again(tmp_path):
    from rlcap.data.loading import load_samples

    export("validation", 8, 0, tmp_path)
    samples = load_samples(tmp_path / "references.jsonl")
    assert [sample.references for sample in samples] == [row.references for row in load_split("validation", 8)]
