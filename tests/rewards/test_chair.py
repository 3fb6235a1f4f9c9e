"""CHAIR: the published count, captions without objects, and what is known about an image."""

import pytest
from photo_texts import photo_texts

from rlcap.rewards.chair import Chair, chair_i, corpus_chair, object_f1
from rlcap.train.rollout import average_over_processes
from rlcap.types import RewardBatch, Sample


def batch(*captions, references=("A dog on a couch.",), **meta):
    return RewardBatch(captions, [Sample("a", "", references=references, meta=meta)] * len(captions))


def test_golden():
    assert chair_i(["dog"] * 6 + ["cat", "car"], ["dog"]) == 0.25
    assert chair_i([], ["dog"]) == 0
    assert object_f1(["dog", "dog", "cat"], ["dog", "couch"]) == 0.5
    assert object_f1([], []) == 1
    assert object_f1([], ["dog"]) == 0


def test_absent_objects_cost_their_share_of_mentions():
    reward = Chair()
    found = reward.score(batch("A puppy on a sofa.", "A puppy on a sofa with a cat.", "A zebra."))
    assert [score.value for score in found] == pytest.approx([0, -1 / 3, -1])
    assert found.metrics == {"chair_i": pytest.approx(2 / 6), "chair_i_count": 6, "chair_s": pytest.approx(2 / 3)}
    found = Chair(form="f1").score(batch("A puppy on a sofa.", "A puppy.", "A zebra.", ""))
    assert [score.value for score in found] == pytest.approx([1, 2 / 3, 0, 0])


def test_the_logged_ratio_is_that_of_the_corpus():
    found = Chair().score(batch("A dog.", "A dog, a zebra, a bus and a pizza."))
    assert [score.value for score in found] == pytest.approx([0, -0.75])
    assert found.metrics == {"chair_i": pytest.approx(0.6), "chair_i_count": 5, "chair_s": 0.5}
    halves = [Chair().score(batch(text)).metrics for text in ("A dog.", "A dog, a zebra, a bus and a pizza.")]
    assert average_over_processes(halves)["chair_i"] == pytest.approx(0.6)
    nothing = Chair().score(batch("A view.")).metrics
    assert nothing["chair_i"] == average_over_processes([nothing, nothing])["chair_i"] == 0
    assert corpus_chair([(0, 1), (3, 4)])["chair_i"] == pytest.approx(0.6)


def test_a_baby_elephant_is_no_person():
    found = Chair().score(batch("A baby elephant walks.", references=("An elephant walking in the grass.",)))
    assert found[0].value == 0


def test_silence_loses_where_there_is_something_to_name():
    assert [s.value for s in Chair().score(batch("", "A nice view.", "A dog."))] == [-1, -1, 0]
    empty = batch("", "A nice view.", "A dog.", references=("A nice view.",))
    assert [s.value for s in Chair().score(empty)] == [0, 0, -1]
    assert Chair(form="f1").score(empty)[1].value == 1


def test_annotations_and_references_are_there_together():
    rows = batch("A dog, a cat and a couch.", objects=["cat", "unheard of"])
    assert Chair().score(rows)[0].value == 0
    assert Chair(references=False).score(rows)[0].value == pytest.approx(-2 / 3)
    assert Chair().score(batch("A cat.", references=(), objects=[]))[0].value == -1
    for references in ((), ("", " ")):
        assert "say what is in the image" in Chair().score(batch("A cat.", references=references))[0].reason
    assert Chair(references=False).score(batch("A dog."))[0].abstained


def test_any_vocabulary(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("ball, sphere\nbox, crate\n")
    for vocabulary in (str(path), {"ball": ["sphere"], "box": ["crate"]}):
        found = Chair(vocabulary).score(batch("a sphere and a crate", references=("a ball",)))
        assert found[0].value == -0.5
    with pytest.raises(ValueError, match="chair or f1, got 'f2'"):
        Chair(form="f2")


def test_on_photos_the_own_paragraph_beats_that_of_another():
    samples = photo_texts()
    own = [sample.paragraph for sample in samples]
    for form in ("chair", "f1"):
        right = Chair(form=form).score(RewardBatch(own, samples))
        wrong = Chair(form=form).score(RewardBatch([*own[1:], own[0]], samples))
        assert all(a.value > b.value for a, b in zip(right, wrong, strict=True))
