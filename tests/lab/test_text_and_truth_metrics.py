"""Metrics of captions: of their text alone, against references, and against the known truth of the lab."""

import numpy as np
import pytest

from rlcap.eval.metrics.references import cider_metrics, nli_metrics
from rlcap.eval.metrics.text import text_metrics
from rlcap.lab.truth_metrics import false_sentences, truth_metrics
from rlcap.lab.world.scene import Scene, Thing, scene_of
from rlcap.scorers.text.cider import CiderD
from rlcap.types import Sample

BALL = Thing("ball", "red", "small", "plain", "top")
BOAT = Thing("boat", "blue", "large", "plain", "bottom")
SCENE = Scene("grass", (BALL, BOAT))


def lab_sample(id, scene, near=()):
    return Sample(id, f"{id}.png", distractors={"hard": tuple(near)}, meta={"scene": scene.to_json()})


def test_text_metrics_by_hand():
    found = text_metrics(["a cat and a cat.", "", "one two three four one two three four"])
    assert found["mean_words"].tolist() == [5, 0, 8]
    assert found["distinct_1"].tolist() == [3 / 5, 1, 4 / 8]
    assert found["repetition"].tolist() == pytest.approx([0, 0, 1 / 5])
    # 7 different words among 13
    assert found["corpus_distinct_1"].mean() == pytest.approx(7 / 13)
    assert text_metrics(["a dog. a dog. a cat."])["repeated_sentences"].tolist() == pytest.approx([1 / 3])


def test_truth_of_a_right_and_a_wrong_caption():
    right = "there is a small plain red ball at the top."
    wrong = "there is a green ball in the middle. there is a tree."
    found = truth_metrics([right, wrong], [lab_sample("a", SCENE), lab_sample("b", SCENE)])
    assert found["hallucination_rate"].tolist() == [0, 3 / 4]
    assert found["hallucinated"].tolist() == [0, 1]
    assert found["hallucination_rate_object"].tolist() == [0, 1 / 2]
    assert found["hallucination_rate_attribute"].tolist() == [0, 1]
    assert found["hallucination_rate_unseen"].tolist() == [0, 1]
    assert [found[f"wrong_{c}"][1] for c in ("object", "attribute", "unseen", "background")] == [1, 1, 1, 0]
    assert found["fact_recall"].tolist() == pytest.approx([5 / 12, 1 / 12])
    assert found["grammatical"].tolist() == [1, 1]


def test_a_category_without_claims_has_no_rate():
    found = truth_metrics(["there is a ball.", ""], [lab_sample("a", SCENE), lab_sample("b", SCENE)])
    assert np.isnan(found["hallucination_rate_unseen"]).all()
    assert np.isnan(found["hallucination_rate_background"]).all()
    assert found["hallucination_rate_object"][0] == 0
    assert found["fact_recall"][1] == found["hallucination_rate"][1] == 0


def test_singling_out_needs_four_distractors_and_a_strict_best():
    others = [Scene("sand", (BALL, BOAT)), Scene("snow", (BALL, BOAT)), Scene("wood", (BALL,)), Scene("brick", (BOAT,))]
    bag = [lab_sample("own", SCENE, "abcd"), *(lab_sample(id, s) for id, s in zip("abcd", others, strict=True))]
    assert truth_metrics(["the background is grass."], bag)["singles_out"].tolist() == [1]
    assert truth_metrics(["there is a red ball."], bag)["singles_out"].tolist() == [0]
    assert np.isnan(truth_metrics(["there is a red ball."], bag[:-1])["singles_out"]).all()


def test_false_sentences_have_their_positions():
    caption = "There is a red ball.  the boat is above the ball. the background is grass."
    ((start, end, why),) = false_sentences(caption, SCENE)
    assert caption[start:end] == "the boat is above the ball."
    assert why == "boat above ball"
    assert false_sentences("there is a boat.", SCENE) == []


def test_a_photo_has_no_scene():
    with pytest.raises(ValueError, match="'photo' has no scene"):
        scene_of(Sample("photo", "photo.jpg"))


class _Nli:
    """A model that labels sentences with `not` as contradicted and sentences with `dog` as entailed."""

    def probabilities(self, premises, hypotheses):
        rows = {"not": [0.1, 0.2, 0.7], "dog": [0.8, 0.1, 0.1]}
        return np.array([next((v for k, v in rows.items() if k in h), [0.2, 0.6, 0.2]) for h in hypotheses])


def test_contradicted_sentences_are_counted_by_caption():
    known = [Sample(str(i), "x", references=("a dog.",)) for i in range(3)] + [Sample("3", "x")]
    found = nli_metrics(["a dog. it is not red. who knows. it is not.", "a dog", "", "a dog"], known, _Nli())
    assert found["nli_contradiction"][:2].tolist() == [0.5, 0]
    assert found["nli_entailment"][:2].tolist() == [0.25, 1]
    assert np.isnan(found["nli_contradiction"][2:]).all()


def test_cider_of_an_image_without_references_is_missing():
    cider = CiderD.fit([["a dog runs"], ["a cat sits"]])
    values = cider_metrics(["a dog runs", "a"], [Sample("0", "x", ("a dog runs",)), Sample("1", "x")], cider)["cider_d"]
    assert values[0] > 5
    assert np.isnan(values[1])
