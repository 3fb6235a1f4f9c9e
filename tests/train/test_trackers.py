"""What trackers get of a finished run: W&B by an offline run that is read back from its files, TensorBoard likewise."""

import json
import sys
from types import ModuleType

import pytest
from PIL import Image

from rlcap.train.result_tables import Table, objective
from rlcap.train.run_folder import RunFolder
from rlcap.train.tensorboard_tables import to_markdown
from rlcap.train.trackers import describe_what_is_not_sent, send_results
from rlcap.train.wandb_tables import THUMBNAIL_SIDE, make_thumbnail


def interval(mean):
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def metrics(recall, false, told):
    return {
        "bag5_recall_at_1": interval(recall),
        "hallucination_rate": interval(false),
        "fact_recall": interval(told),
        "mean_words": interval(30.0),
    }


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (600, 300), "red").save(tmp_path / "a.png")
    Image.new("RGB", (90, 90), "blue").save(tmp_path / "b.png")
    before, after = metrics(0.3, 0.5, 0.2), metrics(0.6, 0.2, 0.5)
    changes = {
        name: {
            "n": 4,
            "before": before[name]["mean"],
            "after": after[name]["mean"],
            "difference": interval(after[name]["mean"] - before[name]["mean"]),
            "relative": None,
        }
        for name in before
    }
    summary = {
        "schema": 2,
        "seconds": 5.0,
        "steps": 4,
        "evaluations": [
            {"step": 0, "split": "validation", "n": 4, "clusters": 4, "metrics": before},
            {"step": 2, "split": "validation", "n": 4, "clusters": 4, "metrics": after},
            {"step": 0, "split": "test", "n": 4, "clusters": 4, "metrics": before},
            {"step": 4, "split": "test", "n": 4, "clusters": 4, "metrics": after},
        ],
        "changes": [{"split": "test", "from": 0, "to": 4, "n": 4, "clusters": 4, "metrics": changes}],
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    panel = [
        {
            "step": step,
            "sample_id": name,
            "image": str(tmp_path / f"{name}.png"),
            "caption": f"a {name} at {step}",
            "scores": {"length": -0.5, "critique": None if name == "a" else 0.25},
            "notes": {} if name == "a" else {"critique": "too short"},
            "bag": [],
        }
        for step in (0, 2, 4)
        for name in ("a", "b")
    ]
    (tmp_path / "panel.jsonl").write_text("".join(json.dumps(row) + "\n" for row in panel))
    return RunFolder(tmp_path)


@pytest.fixture
def run(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staged"))
    active = wandb.init(project="rlcap-test", dir=tmp_path)
    # As the trainer's callback does before us.
    active.define_metric("train/global_step")
    active.define_metric("*", step_metric="train/global_step", step_sync=True)
    active.log({"train/global_step": 4, "train/loss": 0.1})
    yield active
    active.finish()


def test_a_finished_run_logs_metrics_panel_and_table(folder, run):
    send_results(["wandb"], folder)
    summary = dict(run.summary)
    assert summary["test/bag5_recall_at_1"] == 0.6
    assert summary["test/hallucination_rate"] == 0.2
    assert summary["validation/objective"] == pytest.approx((0.6 - 0.2 + 0.5) / 3)
    assert summary["train/loss"] == 0.1
    media = folder.root / "wandb" / next(path.name for path in (folder.root / "wandb").glob("offline-run-*")) / "files"
    tables = {path.name.split("_")[0]: json.loads(path.read_text()) for path in media.rglob("*.table.json")}
    assert set(tables) == {"final", "panel"}
    assert tables["final"]["data"][0][:5] == ["test", "bag5_recall_at_1", 4, 0.3, 0.6]
    assert len(tables["final"]["data"]) == 4
    rows = [dict(zip(tables["panel"]["columns"], row, strict=True)) for row in tables["panel"]["data"]]
    assert [(row["sample"], row["step"]) for row in rows] == [(s, t) for s in "ab" for t in (0, 2, 4)]
    assert (rows[0]["caption"], rows[0]["length"], rows[0]["critique"]) == ("a a at 0", -0.5, None)
    assert rows[3]["notes"] == "critique: too short"
    # Each step shows both images, and the table carries each once.
    shown, carried = list(media.rglob("*.png")), list((folder.root / "staged").rglob("*"))
    assert len(shown) == 6
    for path in shown:
        with Image.open(path) as image:
            assert max(image.size) <= THUMBNAIL_SIDE
    assert any(path.is_file() for path in carried)


def test_without_a_wandb_run_nothing_happens(folder):
    send_results(["wandb"], folder)
    assert not (folder.root / "wandb").exists()


def test_thumbnails_have_one_size_and_keep_their_proportions(folder):
    wide, square = (make_thumbnail(str(folder.root / name)) for name in ("a.png", "b.png"))
    assert wide.size == square.size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    assert [wide.getpixel((128, y)) for y in (30, 128, 226)] == [(255, 255, 255), (255, 0, 0), (255, 255, 255)]
    assert square.getpixel((2, 2)) == (0, 0, 255)


def test_the_objective_rises_with_each_aim():
    base = objective(metrics(0.3, 0.5, 0.2))
    assert base == pytest.approx(0.0)
    assert objective(metrics(0.6, 0.5, 0.2)) == pytest.approx(0.1)
    assert objective(metrics(0.3, 0.2, 0.2)) == pytest.approx(0.1)
    assert objective(metrics(0.3, 0.5, 0.5)) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="contain no headline metric"):
        objective({"mean_words": interval(3)})


class FakeWriter:
    """Stands for TensorBoard's SummaryWriter where it is not installed."""

    def __init__(self, folder):
        self.folder, self.scalars, self.texts = folder, {}, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Nothing to close."""

    def add_scalar(self, name, value, step):
        self.scalars[name, step] = value

    def add_text(self, name, text, step):
        self.texts[name] = (text, step)


def test_tensorboard_gets_curves_and_two_tables_as_markdown(folder, monkeypatch):
    module = ModuleType("tensorboardX")
    made = []
    module.SummaryWriter = lambda folder: made.append(FakeWriter(folder)) or made[-1]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(folder.root / "tensorboard"))
    send_results(["tensorboard", "mlflow"], folder)
    (writer,) = made
    assert writer.folder == str(folder.root / "tensorboard")
    assert writer.scalars["test/bag5_recall_at_1", 0] == 0.3
    assert writer.scalars["test/bag5_recall_at_1", 4] == 0.6
    assert writer.scalars["validation/objective", 2] == pytest.approx(0.3)
    changes, step = writer.texts["final"]
    assert step == 4
    assert changes.splitlines()[0].startswith("| split | metric | images | before | after | change | low | high |")
    assert changes.splitlines()[2].startswith("| test | bag5_recall_at_1 | 4 | 0.3 | 0.6 | 0.3 | 0.2 | 0.4 | higher |")
    panel, _ = writer.texts["panel"]
    assert len(panel.splitlines()) == 2 + 6
    assert "| b | 0 | a b at 0 | -0.5 | 0.25 | critique: too short |" in panel


def test_tensorboard_itself_reads_the_tables(folder, monkeypatch):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(folder.root / "tensorboard"))
    send_results(["tensorboard"], folder)
    events = reader.EventAccumulator(str(folder.root / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("test/fact_recall")] == pytest.approx([0.2, 0.5])
    (text,) = events.Tensors("final/text_summary")
    assert b"| test | bag5_recall_at_1 | 4 | 0.3 |" in text.tensor_proto.string_val[0]


def test_a_caption_cannot_break_the_table():
    table = to_markdown(Table(["caption", "score"], [["a | b\n\n| c", None]]))
    assert table.splitlines() == ["| caption | score |", "| --- | --- |", "| a \\| b \\| c |  |"]


def test_the_other_trackers_are_named_with_what_they_do_not_get():
    assert describe_what_is_not_sent(["wandb", "tensorboard"]) == ""
    assert describe_what_is_not_sent(["wandb", "mlflow", "trackio"]) == (
        "mlflow, trackio: get the metrics of the training; the held-out metrics and captions are in the run folder's "
        "report.html, and only wandb and tensorboard get them too"
    )
