"""The evaluator end to end on tiny models, and the summary of the files that it writes."""

import json

import numpy as np
import pytest
from tiny import captioner, lab_samples, retriever

from rlcap.eval.captions_file import captions_path, evaluated_steps, read_rows, read_tables
from rlcap.eval.evaluator import Evaluator
from rlcap.eval.report.page import write_report
from rlcap.eval.summary import read_summary, summarise
from rlcap.lab.truth import LabTruth
from rlcap.lab.world.language import describe_scene
from rlcap.lab.world.scene import Scene
from rlcap.scorers.text.cider import CiderD


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    samples = lab_samples(folder)
    return samples, retriever(folder)


def make_evaluator(made, out, **options):
    samples, clip = made
    return Evaluator(
        {"test": samples, "breaking": samples[:7]},
        clip,
        instruction="describe the image in detail .",
        max_new_tokens=6,
        truth=LabTruth(),
        out=out,
        **options,
    )


def truthful(samples):
    import random

    return [describe_scene(Scene.from_json(sample.meta["scene"]), random.Random(0)) for sample in samples]


def test_a_run_writes_rows_with_metrics_per_image(made, tmp_path):
    model, processor = captioner()
    cider = CiderD.fit(sample.references for sample in made[0])
    evaluation = make_evaluator(made, tmp_path, cider=cider).run(model, processor, 0)
    assert (evaluation.step, list(evaluation)) == (0, ["test", "breaking"])
    result = evaluation["test"]
    assert len(result.captions) == len(result.ids) == 14
    assert {name: len(values) for name, values in result.metrics.items()} == dict.fromkeys(result.metrics, 14)
    assert {"bag5_recall_at_1", "rd14_recall_at_1", "hallucination_rate", "fact_recall", "singles_out", "cider_d",
            "mean_words", "repetition", "distinct_1"} <= set(result.metrics)  # fmt: skip
    assert 0 <= evaluation.means()["test/bag5_recall_at_1"] <= 1
    rows = read_rows(captions_path(tmp_path, 0))
    assert len(rows) == 21
    assert set(rows[0]) == {"sample_id", "image", "caption", "split", "cluster", "metrics", "false"}
    assert rows[0]["image"] == made[0][0].image
    assert [row["cluster"] for row in rows[:14]] == [sample.cluster for sample in made[0]]
    table = read_tables(tmp_path, 0)["test"]
    np.testing.assert_allclose(table.metrics["fact_recall"], result.metrics["fact_recall"], rtol=1e-5)


def test_captions_from_elsewhere_are_scored_and_the_truth_scores_best(made, tmp_path):
    samples = made[0]
    evaluator = make_evaluator(made, tmp_path)
    true = evaluator.score("test", truthful(samples))
    assert true["hallucination_rate"].max() == 0
    assert true["fact_recall"].min() > 0.9
    silent = evaluator.score("test", [""] * 14)
    assert silent["rd14_recall_at_1"].max() == silent["bag5_recall_at_1"].max() == silent["fact_recall"].max() == 0
    assert not captions_path(tmp_path, 0).exists()


def test_photos_are_scored_against_their_references(made, tmp_path):
    from dataclasses import replace

    class Nli:
        def probabilities(self, premises, hypotheses):
            return np.array([[0.0, 0.0, 1.0] if "tree" in h else [1.0, 0.0, 0.0] for h in hypotheses])

    photos = [replace(sample, meta={}) for sample in made[0]]
    evaluator = Evaluator({"test": photos}, made[1], instruction="x", max_new_tokens=4, truth=None, out=tmp_path,
                      cider=CiderD.fit(sample.references for sample in photos), nli=Nli())  # fmt: skip
    found = evaluator.score("test", [sample.references[0] for sample in photos[:3]] + ["a tree. a ball."])
    assert found["cider_d"][:3].min() > 1
    assert found["nli_contradiction"][3] == 0.5
    assert "fact_recall" not in found
    assert "bag5_recall_at_1" in found


def test_splits_and_limit_and_a_second_run_of_a_step(made, tmp_path):
    model, processor = captioner()
    evaluator = make_evaluator(made, tmp_path)
    first = evaluator.run(model, processor, 5, splits=["breaking"], limit=3)
    assert list(first) == ["breaking"]
    assert len(first["breaking"].captions) == 3
    evaluator.run(model, processor, 5, splits=["test"], limit=2)
    evaluator.run(model, processor, 5, splits=["test"], limit=4)
    tables = read_tables(tmp_path, 5)
    assert {split: len(table.ids) for split, table in tables.items()} == {"breaking": 3, "test": 4}
    assert evaluated_steps(tmp_path) == [5]
    assert [path.name for path in (tmp_path / "captions").iterdir()] == ["5.jsonl"]
    with pytest.raises(KeyError, match="unknown split 'val'"):
        evaluator.run(model, processor, 5, splits=["val"])
    with pytest.raises(ValueError, match="15 captions for split 'test' of 14"):
        evaluator.score("test", ["a"] * 15)


def test_a_split_without_samples_is_refused(made, tmp_path):
    with pytest.raises(ValueError, match="'test': 0"):
        Evaluator({"test": []}, made[1], instruction="x", max_new_tokens=1, truth=LabTruth(), out=tmp_path)


def evaluated(made, out):
    """Step 0: every caption the same wrong one; step 40: the truth."""
    from rlcap.eval.evaluator import Evaluation

    evaluator = make_evaluator(made, out)
    for step, texts in ((0, ["there is a red ball in the middle."] * 14), (40, truthful(made[0]))):
        evaluator.write(Evaluation(step, {"test": evaluator._evaluate("test", texts)}))


def test_the_summary_has_means_intervals_and_changes(made, tmp_path):
    evaluated(made, tmp_path)
    summary = summarise(tmp_path, seconds=12.5)
    assert summary == read_summary(tmp_path) == json.loads((tmp_path / "summary.json").read_text())
    assert (summary["schema"], summary["seconds"], summary["steps"]) == (2, 12.5, 40)
    first, last = summary["evaluations"]
    assert (first["step"], first["split"], first["n"], last["step"]) == (0, "test", 14, 40)
    for name in (
        "bag5_recall_at_1",
        "rd14_recall_at_1",
        "hallucination_rate",
        "fact_recall",
        "mean_words",
        "repetition",
    ):
        found = last["metrics"][name]
        assert found["low"] <= found["mean"] <= found["high"]
    (change,) = summary["changes"]
    assert (change["from"], change["to"], change["n"], change["clusters"]) == (0, 40, 14, 2)  # two families of seven
    halluc = change["metrics"]["hallucination_rate"]
    assert halluc["after"] == 0
    assert halluc["relative"] == {"mean": -1.0, "low": -1.0, "high": -1.0, "df": 1.0, "clusters": 2}
    assert halluc["difference"]["mean"] < 0 < change["metrics"]["fact_recall"]["difference"]["mean"]
    assert halluc["difference"]["high"] > 0  # two families are too few to show anything
    # the first step has no claim about the background, so that the metric can't be compared
    assert "hallucination_rate_background" not in change["metrics"]


def test_a_captions_file_without_clusters_counts_every_image_and_says_so(made, tmp_path):
    from rlcap.cli.tables import summary_table

    evaluated(made, tmp_path)
    with_clusters = summarise(tmp_path)
    assert "test: 95 % intervals over 2 clusters (14 images)" in summary_table(with_clusters)
    for step in (0, 40):
        path = captions_path(tmp_path, step)
        rows = [{key: value for key, value in row.items() if key != "cluster"} for row in read_rows(path)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = summarise(tmp_path)
    (change,) = summary["changes"]
    assert change["clusters"] is None
    assert change["metrics"]["fact_recall"]["difference"]["clusters"] == 14
    assert "14 images, each taken as independent because the captions file names no clusters" in summary_table(summary)


def test_a_single_cluster_leaves_the_interval_open(made, tmp_path):
    from rlcap.cli.tables import summary_table
    from rlcap.eval.evaluator import Evaluation

    evaluator = make_evaluator(made, tmp_path)
    for step, texts in ((0, ["there is a red ball in the middle."] * 7), (40, truthful(made[0])[:7])):
        evaluator.write(Evaluation(step, {"breaking": evaluator._evaluate("breaking", texts)}))
    summarise(tmp_path)
    written = json.loads((tmp_path / "summary.json").read_text())["changes"][0]["metrics"]["fact_recall"]["difference"]
    assert (written["low"], written["high"], written["df"], written["clusters"]) == (None, None, None, 1)
    read = read_summary(tmp_path)
    assert np.isnan(read["changes"][0]["metrics"]["fact_recall"]["difference"]["low"])
    assert "over 1 cluster (7 images)" in summary_table(read)
    assert write_report(tmp_path).is_file()
    assert read["alarms"] == []


def test_the_summary_is_rebuilt_from_the_captions_alone(made, tmp_path):
    evaluated(made, tmp_path)
    want = summarise(tmp_path, seconds=3.0)
    (tmp_path / "summary.json").unlink()
    again = summarise(tmp_path)
    assert again == want | {"seconds": 0.0}
    (tmp_path / "metrics.jsonl").write_text('{"step": 44, "seconds": 9.5, "metrics": {}}\n{"step": 4')
    assert summarise(tmp_path) == want | {"seconds": 9.5, "steps": 44}
    # A run ends after its last step: a repeated summary keeps the recorded duration.
    assert summarise(tmp_path, seconds=11.0)["seconds"] == summarise(tmp_path)["seconds"] == 11.0


def test_a_folder_without_captions_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="evaluate the run first"):
        summarise(tmp_path)
    with pytest.raises(FileNotFoundError, match="summarise"):
        read_summary(tmp_path)
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions" / "3.jsonl").write_text('{"split": "test"}\n')
    with pytest.raises(ValueError, match=r"3\.jsonl, line 1 is not a captions row"):
        summarise(tmp_path)
