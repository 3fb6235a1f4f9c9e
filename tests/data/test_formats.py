import json
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlcap.data.loading import load_samples
from rlcap.data.prompts import caption_prompt
from rlcap.data.samples import split_samples
from rlcap.errors import DataError

REAL = Path(__file__).parents[2] / ".." / "shared" / "real" / "coco"


def photo(path, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path.name


def row(folder, name, **changes):
    photo(folder / f"{name}.jpg", seed=zlib.crc32(name.encode()))
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
    with pytest.raises(DataError, match="unknown name 'refs'; known names are id, image"):
        load_samples(source, columns={"refs": "captions"})


def bad_rows(folder):
    """Return triples (bad row for line 2, reason, pattern of the error message)."""
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("hello")
    photo(folder / "whole.jpg", seed=1)
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:-100])
    photo(folder / "middle.png", seed=2)
    data = (folder / "middle.png").read_bytes()
    half = len(data) // 2
    (folder / "middle.png").write_bytes(data[:half] + b"\xff" * 20 + data[half + 20 :])
    good = row(folder, "other")
    return [
        ({**good, "image": "gone.jpg"}, "missing image", r"line 2.*other.*gone\.jpg"),
        ({**good, "image": "zero.jpg"}, "empty image file", r"line 2.*zero\.jpg: 0 bytes"),
        ({**good, "image": "cut.jpg"}, "truncated image", r"line 2.*cut\.jpg"),
        ({**good, "image": "text.jpg"}, "not an image", r"line 2.*text\.jpg"),
        ({**good, "image": None}, "no image", r"line 2.*found None"),
        ({"id": "x", "references": ["A."]}, "no image", "line 2"),
        ({**good, "references": ["A dog.", "  "]}, "empty reference", r"line 2.*other.*'  '"),
        ({**good, "paragraph": ""}, "empty paragraph", r"line 2.*other"),
        ({**good, "id": "first"}, "duplicate id", r"line 2: id 'first' is also the id of .*first\.jpg"),
        ({**good, "references": 5}, "no text", r"line 2.*'other' has the references 5; write a text or a list"),
        ({**good, "references": {"a": "b"}}, "no text", r"line 2.*'other' has the references \{"),
        ({**good, "references": ["A.", 5]}, "no text", r"line 2.*the reference 5, which is not text"),
        ({**good, "paragraph": 5}, "no text", r"line 2.*the paragraph 5, which is not text"),
        (
            {"id": "x", "image": "first.jpg", "reference": ["A."]},
            "misspelt key",
            r"'reference', did you mean 'references'\?",
        ),
        ({"id": "x", "Image": "first.jpg"}, "misspelt key", r"unknown key 'Image', did you mean 'image'\?"),
        ({**good, "image": "middle.png"}, "broken image", r"line 2: id 'other': broken image: .*middle\.png"),
        ('{"id": ', "not JSON", "line 2"),
        ("[1]", "not JSON", "line 2.*list instead of an object"),
    ]


@pytest.mark.parametrize("case", range(18))
def test_a_bad_row_is_reported_or_counted(tmp_path, case):
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


def test_invalid_sources(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_samples(tmp_path / "no.jsonl")
    with pytest.raises(DataError, match="no usable row"):
        load_samples(jsonl(tmp_path, [{"id": "x", "image": "gone.jpg"}]), on_bad="skip")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(DataError, match=r"entry 1: the entry is not a JSON object .a int instead of an object"):
        load_samples(tmp_path / "list.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no image, and is not a folder that save_to_disk"):
        load_samples(tmp_path / "empty")
    source = jsonl(tmp_path, [row(tmp_path, "a")])
    with pytest.raises(DataError, match=r"data\.split is 'train', but .*rows\.jsonl is a file"):
        load_samples(source, split="train")
    (tmp_path / "coco.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(DataError, match=r"data\.columns \{'id': 'key'\} has no use for .*coco\.json"):
        load_samples(tmp_path / "coco.json", columns={"id": "key"})


def test_a_file_that_is_not_utf_8(tmp_path):
    rows = [row(tmp_path, "first"), row(tmp_path, "café", references="Un café."), row(tmp_path, "last")]
    source = tmp_path / "rows.jsonl"
    source.write_bytes("\n".join(json.dumps(r, ensure_ascii=False) for r in rows).encode("latin-1"))
    with pytest.raises(
        DataError,
        match=r"rows\.jsonl, line 2: the line is not UTF-8 \(byte b'\\xe9' at position 11; save the file as UTF-8\)",
    ):
        load_samples(source)
    assert load_samples(source, on_bad="skip").skipped == {"not UTF-8": 1}
    source.write_bytes(b"\xef\xbb\xbf" + json.dumps(rows[0]).encode())  # a byte order mark is no fault
    assert len(load_samples(source)) == 1


def test_keys_that_resemble_a_present_column_are_kept(tmp_path):
    samples = load_samples(jsonl(tmp_path, [row(tmp_path, "a", image_id=7, images=["b"], licence=3)]))
    assert samples[0].meta == {"image_id": 7, "images": ["b"], "licence": 3}


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


@pytest.mark.parametrize(
    ("images", "annotations", "reason", "message"),
    [
        ([{"file_name": "a.jpg"}], [], "no id", "image number 2: the image has no id, only file_name"),
        ([], [{"caption": "A."}], "no image_id", "annotation 1: the annotation has no image_id, only caption"),
        ([], [{"caption": 5, "image_id": 1}], "no text", "the reference 5, which is not text"),
        ([{"id": 2}], [], "no image", "found None"),
    ],
)
def test_coco_rows_with_missing_values(tmp_path, images, annotations, reason, message):
    images = [
        {"id": 1, "file_name": photo(tmp_path / "1.jpg")},
        *images,
        {"id": "z", "file_name": photo(tmp_path / "z.jpg")},
    ]
    source = tmp_path / "captions.json"
    source.write_text(json.dumps({"images": images, "annotations": annotations}))
    with pytest.raises(DataError, match=message):
        load_samples(source)
    assert load_samples(source, on_bad="skip").skipped == {reason: 1}


@pytest.mark.parametrize(
    "content", [b'{"images": 3, "annotations": []}', b'{"images": [3], "annotations": []}', b'{"images": 3}', b"3"]
)
def test_invalid_coco_files(tmp_path, content):
    source = tmp_path / "captions.json"
    source.write_bytes(content)
    with pytest.raises(DataError, match="not a COCO captions file") as caught:
        load_samples(source)
    assert len(str(caught.value)) < 400


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
    with pytest.raises(DataError, match=r"has the splits train but data\.split is None; choose .* data\.split=train"):
        load_samples(tmp_path / "dict")
    samples = load_samples(tmp_path / "dict", split="train", cache_dir=tmp_path / "cache", on_bad="skip")
    assert [s.id for s in samples] == ["x"]  # y has the same image
    assert samples.merged == 1
    assert samples[0].image.endswith(".png")
    assert Path(samples[0].image).read_bytes() == content
    assert samples.skipped == {"not an image": 1}
    with pytest.raises(
        DataError, match=r"no column 'picture', only id, image, references; .*data\.columns\.image=NAME"
    ):
        load_samples(tmp_path / "paths", columns={"image": "picture"})
    with pytest.raises(DataError, match=r"data\.split is 'train', but .*paths was saved without splits"):
        load_samples(tmp_path / "paths", split="train")


def test_a_configuration_names_split_and_columns(tmp_path):
    import datasets

    from rlcap.config.loading import load_config
    from rlcap.config.supervised import SFTConfig
    from rlcap.data.source import load_splits

    for i in range(6):
        photo(tmp_path / f"{i}.png", seed=i)
    rows = {"key": list("abcdef"), "picture": [str(tmp_path / f"{i}.png") for i in range(6)], "captions": [["A."]] * 6}
    data = datasets.Dataset.from_dict(rows).cast_column("picture", datasets.Image())
    datasets.DatasetDict({"train": data, "other": data.select(range(2))}).save_to_disk(tmp_path / "set")
    names = ["data.columns.id=key", "data.columns.image=picture", "data.columns.references=captions"]
    held = [f"data.source={tmp_path}/set", "data.train=null", "data.validation=2", "data.test=0"]
    config = load_config(SFTConfig, None, [*held, *names, "data.split=train"])
    splits, _ = load_splits(config.data)
    assert sorted(sample.id for rows in splits.values() for sample in rows) == list("abcdef")
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 4, "validation": 2}
    assert splits["train"][0].references == ("A.",)
    with pytest.raises(
        DataError, match=r"has the splits train, other but data\.split is None; choose .* data\.split=train"
    ):
        load_splits(load_config(SFTConfig, None, [*held, *names]).data)


def test_the_configured_pixel_limit_applies_to_all_later_images(tmp_path):
    from rlcap.config.schema import DataConfig
    from rlcap.data.source import load_rows
    from rlcap.errors import ImageError
    from rlcap.io.images import MAX_PIXELS, limit_pixels, open_image

    source = jsonl(tmp_path, [row(tmp_path, "a")])
    try:
        with pytest.raises(DataError, match="768 pixels, the limit is 700"):
            load_rows(DataConfig(source=str(source), max_pixels=700))
        load_rows(DataConfig(source=str(source), max_pixels=768))
        assert open_image(tmp_path / "a.jpg").size == (32, 24)
        photo(tmp_path / "b.jpg")
        limit_pixels(700)
        with pytest.raises(ImageError, match="the limit is 700"):
            open_image(tmp_path / "b.jpg")
    finally:
        limit_pixels(MAX_PIXELS)


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
    held, rest = split_samples(load_samples(jsonl(tmp_path, rows)), holdout=4)
    assert (len(held), len(rest)) == (4, 6)
    assert not set(held.by_id) & set(rest.by_id)
    turned, _ = split_samples(load_samples(jsonl(tmp_path, rows[::-1])), holdout=0.4)
    assert set(turned.by_id) == set(held.by_id)
    other, _ = split_samples(load_samples(jsonl(tmp_path, rows)), holdout=4, seed=1)
    assert set(other.by_id) != set(held.by_id)
    assert len(held.pixels) == 4
    for holdout in (0, 10, 0.0):
        with pytest.raises(DataError, match="both parts need images"):
            split_samples(rest if holdout == 10 else held, holdout)


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
    held, rest = split_samples(samples, holdout=40)
    assert (len(held), len(rest)) == (40, 119)


def test_reading_texts_only_needs_no_images(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "image": "gone.jpg", "references": ["A dog."]}\n')
    with pytest.raises(DataError, match=r"gone\.jpg"):
        load_samples(tmp_path / "rows.jsonl")
    found = load_samples(tmp_path / "rows.jsonl", check_images=False)
    assert [sample.references for sample in found] == [("A dog.",)]
    assert found.pixels == ()
    assert "1 images from rows.jsonl" in found.describe()
