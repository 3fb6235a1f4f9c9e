"""Obedience: the distance from a requested length, and whether a caption has the length of its format."""

import numpy as np
import pytest
from tiny import captioner, lab_samples, retriever

from rlcap.config.schema import DataConfig, EvaluationConfig, GRPOConfig
from rlcap.data.control import Instruction, instruct
from rlcap.eval.captions_file import captions_path, read_rows
from rlcap.eval.evaluator import Evaluator
from rlcap.eval.metric_catalog import metric_info
from rlcap.eval.metrics.control import control_metrics
from rlcap.lab.controls import PHRASES, answered, ask, asked_kind
from rlcap.lab.models.tokenizer import UNKNOWN, build_tokenizer
from rlcap.lab.source import LabSource
from rlcap.lab.truth import LabTruth
from rlcap.train.evaluation import build_evaluator
from rlcap.train.run_folder import RunFolder
from rlcap.types import Control, Sample

LAB = Instruction(LabSource.instruction, PHRASES)


def test_metrics_of_what_rows_ask_for():
    controls = [Control(length=4), Control(length=2), Control(format="SSC"), Control(format="AFC"), Control()]
    rows = [Sample(str(i), "a.png", control=control) for i, control in enumerate(controls)]
    found = control_metrics(["a b c"] * 5, rows)
    assert found["length_error"][:2].tolist() == [0.25, 0.5]
    assert np.isnan(found["length_error"][2:]).all()
    assert found["in_format"][2] == 0
    assert np.isnan(np.delete(found["in_format"], 2)).all()  # AFC has no band
    assert all(metric_info(name).better for name in found)


def test_rows_that_ask_nothing_add_no_metrics():
    assert control_metrics(["a"], [Sample("a", "a.png")]) == {}


def test_an_evaluation_writes_what_was_asked_and_measures_it(tmp_path):
    samples = lab_samples(tmp_path)
    rows = [Sample(s.id, s.image, s.references, meta=s.meta, control=Control(length=10)) for s in samples[:7]]
    evaluator = Evaluator(
        {"test": [*rows, *samples[7:]]}, retriever(tmp_path), instruction=LAB, max_new_tokens=6, truth=None, out=tmp_path
    )  # fmt: skip
    result = evaluator.run(*captioner(), 0)["test"]
    assert np.isnan(result.metrics["length_error"]).sum() == 7
    written = read_rows(captions_path(tmp_path, 0))
    assert [row.get("control") for row in written] == [{"length": 10}] * 7 + [None] * 7


def test_a_fixed_control_takes_the_place_of_the_rows_own(tmp_path, monkeypatch):
    monkeypatch.setattr("rlcap.train.evaluation.ClipScorer.load", lambda *names, **options: None)
    samples = [Sample("a", "a.png", control=Control(level=2, length=9)), Sample("b", "b.png")]
    config = GRPOConfig(
        data={"source": "rlcap.lab.source:LabSource"}, evaluation=EvaluationConfig(retriever="r", control={"level": 8})
    )
    evaluator = build_evaluator(config, {"test": samples}, "describe", RunFolder(tmp_path), "cpu")
    assert [sample.control for sample in evaluator.splits["test"]] == [Control(level=8, length=9), Control(level=8)]


# ---- the lab's controls ----------------------------------------------------------------------------------------------


def test_the_words_of_the_labs_controls_are_in_its_vocabulary():
    tokenizer = build_tokenizer()
    texts = [text for phrase in PHRASES.values() if not isinstance(phrase, str) for text in phrase.values()]
    assert len(texts) == len(set(texts)) == 12 + 9 + 3
    for text in [*texts, "the ball is ."]:
        assert UNKNOWN not in tokenizer(text)["input_ids"]


def test_a_question_asks_about_what_the_paragraph_names(tmp_path, monkeypatch):
    monkeypatch.setenv("RLCAP_CACHE", str(tmp_path))
    rows = LabSource(questions=True).load_splits(DataConfig(train=1, validation=0, test=30))[0]["test"]
    asked = [row for row in rows if row.control]
    assert len(asked) > 25
    assert np.nanmean(answered([row.paragraph for row in rows], rows)) == 1
    assert np.nanmean(answered(["there is nothing ."] * 30, rows)) == 0
    assert asked_kind(Control(question="the boxes are")) == "box"
    assert ask("x", "the background is sand .") is None
    metrics = LabTruth().metrics([row.paragraph for row in rows], rows)
    assert np.nanmean(metrics["question_answered"]) == 1
    assert "question_answered" not in LabTruth().metrics(["a ball ."], [Sample("a", "a.png", meta=rows[0].meta)])


@pytest.mark.parametrize("length", [1, 8, 33, 500])
def test_every_length_has_words(length):
    assert instruct(LAB, Control(length=length)).startswith(LabSource.instruction + " ")
