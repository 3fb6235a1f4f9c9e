"""`rlcap caption` captions what it can, and lists what it leaves out."""

import json

import captioners
import pytest
from PIL import Image

from rlcap.cli import main as cli_main


@pytest.fixture
def folder(tmp_path):
    for colour, name in enumerate(("a.png", "b.avif", "c.JPG")):
        Image.new("RGB", (64, 64), (60 * colour, 9, 9)).save(tmp_path / name, {"c.JPG": "JPEG"}.get(name))
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "plain", "PNG")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:60])
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (64, 64), "green").save(tmp_path / "sub" / "a.png")
    return tmp_path


def caption(folder, capsys, *options):
    out = folder / "out.jsonl"
    assert cli_main.main(["caption", str(folder), "--out", str(out), "generation.max_new_tokens=4", *options]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()], capsys.readouterr().err


def test_a_folder_with_a_broken_file(folder, capsys):
    rows, told = caption(folder, capsys)
    assert [row["sample_id"] for row in rows] == ["a", "b", "c", "plain"]
    assert all(isinstance(row["caption"], str) for row in rows)
    assert "skipped 3 files:" in told
    for reason in ("notes.txt: the name does not end as an image's does", "sub: a folder; --recursive", "cut.png"):
        assert reason in told
    assert "hidden" not in told


def test_subfolders(folder, capsys):
    rows, told = caption(folder, capsys, "--recursive")
    assert [row["sample_id"] for row in rows] == [
        str(folder / "a.png"),
        "b",
        "c",
        "plain",
        str(folder / "sub" / "a.png"),
    ]
    assert "skipped 2 files:" in told


def test_a_folder_with_nothing_to_caption(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"")
    assert cli_main.main(["caption", str(tmp_path)]) == 2
    assert "there is no image to caption: empty image file" in capsys.readouterr().err


def test_an_image_that_the_captioner_cannot_read(tmp_path, capsys):
    captioners.build("qwen2_5_vl", tmp_path / "base")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (900, 3)).save(tmp_path / "photos" / "thin.png")
    model = [
        f"model.base={tmp_path / 'base'}",
        "model.adapter=null",
        "generation.max_new_tokens=4",
        "data.instruction=describe",
    ]
    assert cli_main.main(["caption", str(tmp_path / "photos"), *model]) == 2
    assert "there is no image to caption" in capsys.readouterr().err
    Image.new("RGB", (64, 64)).save(tmp_path / "photos" / "square.png")
    assert cli_main.main(["caption", str(tmp_path / "photos"), *model]) == 0
    out, told = capsys.readouterr()
    assert "square.png" in out
    assert "thin.png" not in out
    assert "skipped 1 file:" in told
    assert "thin.png: 900 × 3 pixels can't be read by qwen2_5_vl" in told
