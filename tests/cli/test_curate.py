"""`rlcap curate levels`, and captions that are asked for something on the command line."""

import json

import captioners
import pytest
from PIL import Image

from rlcap.cli import main as cli
from rlcap.data.loading import load_samples
from rlcap.types import Control


@pytest.fixture
def source(tmp_path):
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i, 9, 9)).save(tmp_path / f"{i}.png")
    rows = [{"id": str(i), "image": f"{i}.png", "paragraph": "A wall. " * (i + 1), "licence": "cc"} for i in range(12)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def curate(*line):
    return cli.main(["curate", "levels", *map(str, line)])


def test_levels_of_a_single_reward(source, tmp_path, capsys):
    out = tmp_path / "sub" / "out.jsonl"
    line = [
        f"data.source={source}",
        "--reward",
        "length",
        "mix.length.params={target: 100}",
        "--levels",
        3,
        "--out",
        out,
    ]
    assert curate(*line) == 0
    told = capsys.readouterr().out
    assert "rewards: length × 1" in told
    assert f"{out}: 12 rows" in told
    again = load_samples(out)  # the rows are a data source, whose images are found from the new folder
    assert [sample.control.level for sample in again] == [1] * 4 + [2] * 4 + [3] * 4
    assert again[0].meta == {"licence": "cc"}
    before = out.read_bytes()
    assert curate(*line) == 0
    assert out.read_bytes() == before


def test_levels_of_a_mix_from_a_configuration_with_bad_rows(source, tmp_path, capsys):
    with open(source, "a") as file:
        file.write('{"id": "x", "image": "gone.png", "paragraph": "A wall."}\n')
    (tmp_path / "mix.yaml").write_text(
        f"data: {{source: {source}, on_bad: skip}}\n"
        "mix:\n  length: {reward: length, params: {target: 100}}\n  repetition: {reward: repetition, weight: 0.5}\n"
    )
    assert curate("--config", tmp_path / "mix.yaml", "--levels", 2, "--out", tmp_path / "out.jsonl") == 0
    assert "skipped 1 bad rows (1 missing image)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--reward", "length"], "data.source is empty"),
        (["data.source=ROWS"], "no reward is named: add --reward NAME"),
        (["data.source=ROWS", "--reward", "lenght"], "lenght"),
        (["data.source=ROWS", "--reward", "length", "data.on_bat=skip"], "unknown key data.on_bat"),
    ],
)
def test_what_is_missing_is_told(source, tmp_path, capsys, line, message):
    assert curate(*(word.replace("ROWS", str(source)) for word in line), "--out", tmp_path / "o.jsonl") == 2
    assert message in capsys.readouterr().err


def test_a_single_level_is_refused(source, tmp_path, capsys):
    with pytest.raises(SystemExit):
        curate(f"data.source={source}", "--reward", "length", "--levels", 1, "--out", tmp_path / "o.jsonl")
    assert "must be 2 or more, got 1" in capsys.readouterr().err


# ---- rlcap caption --control -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    captioners.build("llava", folder)
    return folder


def caption(model, photo, out, *more):
    words = "data.control_phrases={length: {10: word1, 40: word2}}"
    line = [
        "caption",
        photo,
        "--out",
        out,
        f"model.base={model}",
        "model.adapter=null",
        "generation.max_new_tokens=4",
    ]
    return cli.main([*map(str, line), "data.instruction=describe", words, *more])


def test_a_caption_is_asked_for_a_length(model, tmp_path, monkeypatch):
    captioners.images(1)[0].save(tmp_path / "a.png")
    asked = []
    monkeypatch.setattr(
        "rlcap.eval.captioning.make_captioner",
        lambda *given: _recording(asked, *given),
    )
    assert caption(model, tmp_path / "a.png", tmp_path / "out.jsonl", "--control", "length=38") == 0
    (row,) = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert row["control"] == {"length": 38}
    assert asked == [["describe word2"]]
    assert caption(model, tmp_path / "a.png", tmp_path / "plain.jsonl") == 0
    assert "control" not in json.loads((tmp_path / "plain.jsonl").read_text())
    assert asked[1:] == [["describe"]]


def _recording(asked, model, processor):
    from rlcap.policy.families.registry import make_captioner

    captioner = make_captioner(model, processor)
    prepare = captioner.prepare
    captioner.prepare = lambda images, instruction: (asked.append(list(instruction)), prepare(images, instruction))[1]
    return captioner


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--control", "short"], "--control short: write KEY=VALUE"),
        (["--control", "lenght=4"], "--control: control has the unknown key lenght"),
        (["--control", "length=0"], "got 0"),
        (["--control", "style=plain"], "lacks Write, this, style:"),
    ],
)
def test_a_bad_control_is_told(model, tmp_path, capsys, words, message):
    captioners.images(1)[0].save(tmp_path / "a.png")
    assert caption(model, tmp_path / "a.png", tmp_path / "out.jsonl", *words) == 2
    assert message in capsys.readouterr().err


def test_a_control_of_the_configuration_holds_for_captions_too(model, tmp_path):
    captioners.images(1)[0].save(tmp_path / "a.png")
    assert caption(model, tmp_path / "a.png", tmp_path / "out.jsonl", "data.control={length: 10}") == 0
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert Control.parse(row["control"]) == Control(length=10)
