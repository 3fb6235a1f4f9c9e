import json

import pytest

from rlcap.data.curriculum import Adaptive, AdaptiveState, BagCurri, Constant, Stage, describe, parse, to_dict


def test_the_published_schedule_epoch_by_epoch():
    curriculum = BagCurri.published()
    expected = [2] * 3 + [3] * 5 + [5] * 2 + [7] * 2 + [10] * 2 + [15] * 3 + [20] * 3
    assert [curriculum.stage_at(epoch / 20).bag_size for epoch in range(20)] == expected
    assert {curriculum.stage_at(epoch / 20).level for epoch in range(20)} == {"hard"}


@pytest.mark.parametrize(
    ("last", "sizes"), [(3, (2, 3)), (8, (3, 5)), (10, (5, 7)), (12, (7, 10)), (14, (10, 15)), (17, (15, 20))]
)
def test_boundaries_in_one_based_epochs(last, sizes):
    curriculum = BagCurri.published()
    assert (curriculum.stage_at((last - 1) / 20).bag_size, curriculum.stage_at(last / 20).bag_size) == sizes
    assert (curriculum.stage_at(last / 20 - 1e-6).bag_size, curriculum.stage_at(last / 20).bag_size) == sizes


def test_stages_start_at_their_progress_for_any_number_of_steps():
    curriculum = BagCurri.published()
    for steps in (20, 60, 100, 3000):
        sizes = [curriculum.stage_at(step / steps).bag_size for step in range(steps)]
        assert sizes.index(3) == 3 * steps // 20
        assert sizes.index(20) == 17 * steps // 20
    assert curriculum.stage_at(1.0).bag_size == 20
    assert curriculum.stage_at(1.7).bag_size == 20


def test_parsing():
    assert parse("bagcurri") == BagCurri.published()
    assert parse(5) == Constant(5)
    assert parse({"bag_size": 5, "level": "random"}).stage_at(0.9) == Stage("random5", 5, "random")
    schedule = parse({0.4: "medium 5", "0.0": 2, 0.15: {"bag_size": 3, "level": "easy"}})
    assert [(schedule.stage_at(p).bag_size, schedule.stage_at(p).level) for p in (0, 0.14, 0.15, 0.4)] == [
        (2, "hard"),
        (2, "hard"),
        (3, "easy"),
        (5, "medium"),
    ]
    assert parse({"sizes": [2, 4], "target": 0.7}) == Adaptive((2, 4), 0.7)
    for config in ("bagcurri", 5, {0.0: 2, 0.5: "easy 5"}, {"sizes": [2, 4]}):
        again = parse(json.loads(json.dumps(to_dict(parse(config)))))
        assert [again.stage_at(i / 10) for i in range(11)] == [parse(config).stage_at(i / 10) for i in range(11)]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("bagcurry", "'bagcurry' is not valid; write one of"),
        ({}, "write one of"),
        ({"size": 5}, "write one of"),
        ({0.1: 2}, r"starts at 0\.1"),
        ({0: 2, 1.0: 3}, r"below 1\.0"),
        ({0: 1}, "leaves no distractor"),
        ({0: "hardest 5"}, "unknown level 'hardest'; known are hard, medium"),
        ({0: "five"}, "write a bag size"),
        ({"bag_size": 5, "levle": "easy"}, "unknown key 'levle'; known are bag_size, level"),
        ({"sizes": [5, 3]}, "must increase"),
        ({"sizes": [2, 3], "target": 80}, "not a percentage"),
    ],
)
def test_errors_name_the_invalid_value(config, message):
    with pytest.raises(ValueError, match=message):
        parse(config)


def test_adaptive_grows_when_the_window_passes_the_target():
    curriculum = Adaptive((2, 3, 5), target=0.75, window=2)
    state = curriculum.start()
    sizes = []
    for recall in (1.0, 0.4, 0.9, 0.8, 1.0, 0.5, 1.0, 1.0):
        state = curriculum.observe(state, recall)
        sizes.append(curriculum.stage_at(0.0, state).bag_size)
    # means of the last two: –, .7, .65, .85 → grow; the window restarts: –, .75 → grow; the largest size stays
    assert sizes == [2, 2, 2, 3, 3, 5, 5, 5]


def test_adaptive_state_survives_a_checkpoint():
    curriculum = Adaptive((2, 3), target=0.6, window=3)
    recalls = [0.5, 0.7, 0.6, 0.1]
    straight = curriculum.start()
    for recall in recalls:
        straight = curriculum.observe(straight, recall)
    resumed = curriculum.start()
    for recall in recalls:
        resumed = AdaptiveState.from_dict(json.loads(json.dumps(resumed.to_dict())))
        resumed = curriculum.observe(resumed, recall)
    assert resumed == straight
    with pytest.raises(ValueError, match="outside"):
        curriculum.observe(straight, 80.0)


def test_descriptions():
    assert describe(parse({0: 2, 0.5: "easy 5"})) == "bag size 2 (hard) from 0%, 5 (easy) from 50%"
    assert describe(Constant(3, "random")) == "bag size 3 (random) throughout"
    assert describe(Adaptive((2, 3))) == "bag size 2 → 3 (hard), growing at R@1 ≥ 0.8 over 10 steps"
