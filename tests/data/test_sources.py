import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlcap.data.prompts import caption_prompt
from rlcap.data.sources import DataError, load_samples, split

REAL = Path(__file__).parents[2] / ".." / "shared" / "real" / "coco"


def photo(path, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path.name


def row(folder, name, **changes):
    photo(folder / f"{name}.jpg", seed=len(name))
    return {"id": name, "image": f"{name}.jpg", "references": ["A dog.", "A cat."], **changes}


def jsonl(folder, rows):
    path = folder / "rows.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return path


def test_jsonl(tmp_path):
    source = jsonl(
        tmp_path,
        [row(tmp_path, "a", paragraph=" A dog and a cat. ", licence=3), "", row(tmp_path, "b", references="One.")],
    )
    samples = load_samples(source)
    first, second = samples
    assert (first.id, first.image, first.references) == ("a", str(tmp_path / "a.jpg"), ("A dog.", "A cat."))
    assert first.paragraph == "A dog and a cat."
    assert first.meta == {"licence": 3}
    assert second.references == ("One.",)
    assert samples.by_id["b"] is second
    assert samples.skipped == {}
    assert samples.describe().startswith("2 images from rows.jsonl, 3 references, 1 paragraphs, 0.00 megapixels")


def test_names_of_columns_and_the_image_root(tmp_path):
    (tmp_path / "photos").mkdir()
    photo(tmp_path / "photos" / "x.png")
    source = jsonl(tmp_path, [{"img": "x.png", "captions": ["A dog."]}])
    sample = load_samples(source, image_root=tmp_path / "photos", columns={"image": "img", "references": "captions"})[0]
    assert (sample.id, sample.references) == ("x.png", ("A dog.",))
    with pytest.raises(DataError, match="unknown 'refs'; known are id, image"):
        load_samples(source, columns={"refs": "captions"})


def bad_rows(folder):
    """(row, reason, what the error must name) beside a good row on line 1."""
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("hello")
    photo(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:-100])
    good = row(folder, "other")
    return [
        ({**good, "image": "gone.jpg"}, "missing image", r"line 2.*other.*gone\.jpg"),
        ({**good, "image": "zero.jpg"}, "empty image file", r"line 2.*zero\.jpg: 0 bytes"),
        ({**good, "image": "cut.jpg"}, "truncated image", r"line 2.*cut\.jpg"),
        ({**good, "image": "text.jpg"}, "not an image", r"line 2.*text\.jpg"),
        ({**good, "image": None}, "no image", r"line 2.*saw None"),
        ({"id": "x", "references": ["A."]}, "no image", "line 2"),
        ({**good, "references": ["A dog.", "  "]}, "empty reference", r"line 2.*other.*'  '"),
        ({**good, "paragraph": ""}, "empty paragraph", r"line 2.*other"),
        ({**good, "id": "first"}, "duplicate id", r"line 2: id 'first' is already that of .*first\.jpg"),
        ('{"id": ', "not JSON", "line 2"),
        ("[1]", "not JSON", "line 2.*list instead of an object"),
    ]


@pytest.mark.parametrize("case", range(11))
def test_a_bad_row_is_named_or_counted(tmp_path, case):
    bad, reason, message = bad_rows(tmp_path)[case]
    source = jsonl(tmp_path, [row(tmp_path, "first"), bad, row(tmp_path, "last")])
    with pytest.raises(DataError, match=message):
        load_samples(source)
    samples = load_samples(source, on_bad="skip")
    assert [sample.id for sample in samples] == ["first", "last"]
    assert samples.skipped == {reason: 1}
    assert samples.skips[0].row == "line 2"
    assert f"skipped 1 rows (1 {reason})" in samples.describe()


def test_too_many_pixels(tmp_path):
    source = jsonl(tmp_path, [row(tmp_path, "a")])
    with pytest.raises(DataError, match="32 × 24 = 768 pixels, the limit is 500"):
        load_samples(source, max_pixels=500)


def test_sources_that_are_none(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_samples(tmp_path / "no.jsonl")
    with pytest.raises(DataError, match="no usable row"):
        load_samples(jsonl(tmp_path, [{"id": "x", "image": "gone.jpg"}]), on_bad="skip")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(DataError, match="not a COCO captions file"):
        load_samples(tmp_path / "list.json")
    (tmp_path / "rows.csv").write_text("a")
    with pytest.raises(DataError, match="say kind: jsonl, coco or hf"):
        load_samples(tmp_path / "rows.csv")


def test_coco(tmp_path):
    data = {
        "images": [{"id": 7, "file_name": photo(tmp_path / "000007.jpg")}, {"id": 9, "file_name": "000009.jpg"}],
        "annotations": [
            {"image_id": 9, "caption": "z"},
            {"image_id": 7, "caption": " A dog. "},
            {"image_id": 7, "caption": "B"},
        ],
    }
    source = tmp_path / "captions.json"
    source.write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"image 9: id '9': missing image: .*000009\.jpg"):
        load_samples(source)
    samples = load_samples(source, on_bad="skip")
    assert [(s.id, s.references) for s in samples] == [("7", ("A dog.", "B"))]


def test_hugging_face_paths_bytes_and_splits(tmp_path, monkeypatch):
    import datasets

    photo(tmp_path / "a.png")
    paths = datasets.Dataset.from_dict({"id": [1], "image": [str(tmp_path / "a.png")], "references": [["A dog."]]})
    paths.save_to_disk(tmp_path / "paths")
    assert load_samples(tmp_path / "paths")[0].image == str(tmp_path / "a.png")

    content = (tmp_path / "a.png").read_bytes()
    entries = [
        {"bytes": content, "path": None},
        {"bytes": content, "path": None},
        {"bytes": b"broken", "path": "b.png"},
    ]
    data = datasets.Dataset.from_dict({"id": ["x", "y", "z"], "image": entries, "references": [["A."]] * 3})
    data = data.cast_column("image", datasets.Image())
    datasets.DatasetDict({"train": data}).save_to_disk(tmp_path / "dict")
    with pytest.raises(DataError, match="holds the splits train"):
        load_samples(tmp_path / "dict")
    samples = load_samples(tmp_path / "dict", split="train", cache_dir=tmp_path / "cache", on_bad="skip")
    assert [s.id for s in samples] == ["x", "y"]
    assert samples[0].image == samples[1].image
    assert samples[0].image.endswith(".png")
    assert Path(samples[0].image).read_bytes() == content
    assert samples.skipped == {"not an image": 1}
    with pytest.raises(DataError, match="no column 'picture'; it has id, image"):
        load_samples(tmp_path / "paths", columns={"image": "picture"})


def test_the_fingerprint_follows_texts_ids_and_images(tmp_path):
    rows = [row(tmp_path, name) for name in ("a", "bb")]

    def fingerprint():
        return load_samples(jsonl(tmp_path, rows)).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    rows[1]["references"] = ["A dog.", "A cow."]
    second = fingerprint()
    photo(tmp_path / "a.jpg", seed=99)
    assert len({first, second, fingerprint()}) == 3


def test_a_split_depends_on_ids_alone(tmp_path):
    rows = [row(tmp_path, f"n{i}") for i in range(10)]
    held, rest = split(load_samples(jsonl(tmp_path, rows)), holdout=4)
    assert (len(held), len(rest)) == (4, 6)
    assert not set(held.by_id) & set(rest.by_id)
    turned, _ = split(load_samples(jsonl(tmp_path, rows[::-1])), holdout=0.4)
    assert set(turned.by_id) == set(held.by_id)
    other, _ = split(load_samples(jsonl(tmp_path, rows)), holdout=4, seed=1)
    assert set(other.by_id) != set(held.by_id)
    assert len(held.pixels) == 4
    for holdout in (0, 10, 0.0):
        with pytest.raises(DataError, match="both need some"):
            split(rest if holdout == 10 else held, holdout)


def test_prompts_are_conversations():
    assert caption_prompt("Describe.") == [{"role": "user", "content": "Describe."}]
    with pytest.raises(ValueError, match="empty"):
        caption_prompt(" ")


@pytest.mark.skipif(not REAL.exists(), reason="no real photos beside the repository")
def test_real_photos():
    start = time.perf_counter()
    samples = load_samples(REAL / "annotations" / "captions_val2017.json", image_root=REAL / "images", on_bad="skip")
    assert time.perf_counter() - start < 5
    assert len(samples) == 159
    assert samples.skipped == {"missing image": 4841}
    assert min(len(sample.references) for sample in samples) == 5
    held, rest = split(samples, holdout=40)
    assert (len(held), len(rest)) == (40, 119)
