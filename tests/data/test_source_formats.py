"""Every format that a data source may have, and what is said of those that it may not have."""

import json

import pytest
from PIL import Image

from rlcap.data.loading import load_samples
from rlcap.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for colour, name in enumerate("abc"):
        Image.new("RGB", (16, 16), (50 * colour, 9, 9)).save(tmp_path / f"{name}.png")
    return tmp_path


def texts(samples):
    return {sample.id: sample.references for sample in samples}


def test_csv_with_a_line_per_caption(folder):
    source = folder / "rows.csv"
    source.write_bytes(
        b"\xef\xbb\xbfimage,references,paragraph,licence\r\n"
        b'a.png,"A dog, sitting.",,3\r\na.png,A cat.,,3\r\nb.png,"[""One."", ""Two.""]","A ""long""\r\ntext.",4\r\n'
    )
    samples = load_samples(source)
    assert texts(samples) == {"a.png": ("A dog, sitting.", "A cat."), "b.png": ("One.", "Two.")}
    assert samples[1].paragraph == 'A "long"\r\ntext.'
    assert samples[0].meta == {"licence": "3"}


@pytest.mark.parametrize("name", ["rows.tsv", "ROWS.TSV"])
def test_tsv_with_other_names(folder, name):
    source = folder / name
    source.write_text("file_name\tcaption\na.png\tA dog, sitting.\nb.png\t[not a list\n")
    with pytest.raises(DataError, match=r"no column 'image', only file_name, caption; .*data\.columns\.image=NAME"):
        load_samples(source)
    samples = load_samples(source, columns={"image": "file_name", "references": "caption"})
    assert texts(samples) == {"a.png": ("A dog, sitting.",), "b.png": ("[not a list",)}


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        ("image,references\na.png,A dog, sitting.\nb.png,B.\n", "not a table row", "line 2: the line has more cells"),
        ("image,references\n,A dog.\nb.png,B.\n", "no image", "line 2: the row has no image path"),
        ("image,references\ngone.png,A dog.\nb.png,B.\n", "missing image", r"line 2: .*gone\.png"),
    ],
)
def test_bad_lines_of_a_table(folder, content, reason, message):
    source = folder / "rows.csv"
    source.write_text(content)
    with pytest.raises(DataError, match=message):
        load_samples(source)
    samples = load_samples(source, on_bad="skip")
    assert (texts(samples), samples.skipped) == ({"b.png": ("B.",)}, {reason: 1})


def test_a_table_that_is_cut_or_not_utf_8(folder):
    source = folder / "rows.csv"
    source.write_bytes(b'image,references\na.png,"A dog')
    with pytest.raises(DataError, match="is no row of a table"):
        load_samples(source)
    source.write_bytes(b"image,references\na.png,blue \xe9\n")
    with pytest.raises(DataError, match=r"is not UTF-8 .* in line 2"):
        load_samples(source)


def test_parquet_with_paths_and_with_bytes(folder):
    import pyarrow
    import pyarrow.parquet

    source = folder / "rows.parquet"
    table = pyarrow.table({"image": ["a.png", "b.png"], "references": [["A.", "B."], ["C."]], "n": [1, 2]})
    pyarrow.parquet.write_table(table, source)
    assert texts(load_samples(source)) == {"a.png": ("A.", "B."), "b.png": ("C.",)}
    images = [{"bytes": (folder / f"{name}.png").read_bytes(), "path": None} for name in "ab"]
    pyarrow.parquet.write_table(pyarrow.table({"id": ["x", "y"], "image": images, "text": ["A.", "B."]}), source)
    with pytest.raises(DataError, match=r"a column 'text': read it with data\.columns\.references=text"):
        load_samples(source, cache_dir=folder / "cache")
    samples = load_samples(source, cache_dir=folder / "cache", columns={"references": "text"})
    assert texts(samples) == {"x": ("A.",), "y": ("B.",)}
    source.write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="is not a parquet file"):
        load_samples(source)


def test_a_json_list_and_its_bad_entries(folder):
    source = folder / "rows.json"
    source.write_text(json.dumps([{"image": "a.png", "references": ["A."]}, 3, {"image": "b.png"}]))
    with pytest.raises(DataError, match="entry 2: the entry is not a JSON object"):
        load_samples(source)
    assert texts(load_samples(source, on_bad="skip")) == {"a.png": ("A.",), "b.png": ()}


def test_a_folder_of_images_with_text_files(folder):
    (folder / "more").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "more" / "d.JPG", "JPEG")
    (folder / "a.txt").write_text("A dog.\n")
    (folder / ".hidden.png").write_bytes(b"")
    samples = load_samples(folder)
    assert texts(samples) == {"a": ("A dog.",), "b": (), "c": (), "more/d": ()}


def test_a_folder_of_images_with_metadata(folder):
    (folder / "metadata.jsonl").write_text('{"file_name": "b.png", "references": ["B."]}\n')
    assert texts(load_samples(folder)) == {"b.png": ("B.",)}


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("rows.tar", "tar archive.*unpack it into a folder"),
        ("rows.pkl", "a pickle runs code when it is read"),
        ("rows.xlsx", "save it as CSV"),
        ("rows.jsonl.gz", "unpack it first"),
        ("rows.json1", r"does not show a format that is read .*did you mean \.json"),
        ("rows", r"does not show a format"),
    ],
)
def test_other_formats_are_refused_with_what_to_do(folder, name, advice):
    (folder / name).write_text("x")
    with pytest.raises(DataError, match=advice):
        load_samples(folder / name)


def test_home_folders_and_web_addresses(folder, monkeypatch):
    (folder / "rows.jsonl").write_text('{"image": "~/a.png", "references": "A."}\n')
    monkeypatch.setenv("HOME", str(folder))
    assert texts(load_samples("~/rows.jsonl", image_root="~")) == {"~/a.png": ("A.",)}
    with pytest.raises(DataError, match="is an address on the web, which is not fetched; download it"):
        load_samples("https://example.org/rows.jsonl")
    (folder / "rows.jsonl").write_text('{"image": "https://example.org/a.png"}\n')
    with pytest.raises(DataError, match=r"line 1: .* has the web address https://example\.org/a\.png"):
        load_samples(folder / "rows.jsonl")


@pytest.mark.parametrize("key", ["caption", "captions", "text"])
def test_likely_names_of_references_are_suggested(folder, key):
    (folder / "rows.jsonl").write_text(json.dumps({"image": "a.png", key: "A dog."}) + "\n")
    with pytest.raises(DataError, match=f"no references and no paragraph, but a column '{key}': read it with data"):
        load_samples(folder / "rows.jsonl")
    assert texts(load_samples(folder / "rows.jsonl", columns={"references": key})) == {"a.png": ("A dog.",)}
    (folder / "rows.jsonl").write_text(json.dumps({"image": "a.png", key: "A dog.", "references": ["B."]}) + "\n")
    assert texts(load_samples(folder / "rows.jsonl")) == {"a.png": ("B.",)}


def test_likely_names_of_the_image_are_suggested(folder):
    (folder / "rows.jsonl").write_text('{"file_name": "a.png"}\n')
    with pytest.raises(DataError, match=r"found None.; .* write data\.columns\.image=file_name"):
        load_samples(folder / "rows.jsonl")


def coco(folder, image_ids, annotations):
    data = {
        "images": [{"id": id, "file_name": f"{name}.png"} for id, name in zip(image_ids, "abc", strict=False)],
        "annotations": [{"image_id": id, "caption": text} for id, text in annotations],
    }
    (folder / "captions.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(data).encode())
    return folder / "captions.json"


def test_coco_ids_compare_as_numbers(folder):
    samples = load_samples(coco(folder, [139], [("000000000139", "A."), ("139", "B."), (139, "C.")]))
    assert texts(samples) == {"139": ("A.", "B.", "C.")}
    assert texts(load_samples(coco(folder, ["007", "x"], [(7, "A."), ("x", "B.")]))) == {"007": ("A.",), "x": ("B.",)}
    assert texts(load_samples(coco(folder, [5, 10], [(5.0, "A."), ("10.0", "B.")]))) == {"5": ("A.",), "10": ("B.",)}


def test_coco_annotations_without_an_image_are_counted_or_refused(folder):
    source = coco(folder, [1, 2], [(1, "A."), (2, "B."), (3, "C.")])
    with pytest.raises(DataError, match="annotation 3: its image_id 3 is the id of no image"):
        load_samples(source)
    assert load_samples(source, on_bad="skip").skipped == {"annotation without image": 1}
    source = coco(folder, [1], [("val_1", "A."), ("val_2", "B."), (1, "C.")])
    for on_bad in ("error", "skip"):
        with pytest.raises(
            DataError, match="2 of 3 annotations refer to no image of the file: annotation 1 has image_id"
        ):
            load_samples(source, on_bad=on_bad)


def test_separators_inside_a_text_do_not_end_a_line(folder):
    row = {"image": "a.png", "references": ["one\u2028two\x0bthree"]}
    raw = json.dumps(row, ensure_ascii=False)
    (folder / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + raw.encode() + b"\n")
    assert texts(load_samples(folder / "rows.jsonl")) == {"a.png": ("one\u2028two\x0bthree",)}


@pytest.mark.parametrize("name", ["a\0.png", "a\ud800.png", "x" * 5000 + ".png"])
def test_impossible_paths_are_bad_rows(folder, name):
    rows = [{"id": "x", "image": name}, {"id": "y", "image": "b.png"}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="line 1"):
        load_samples(folder / "rows.jsonl")
    assert list(texts(load_samples(folder / "rows.jsonl", on_bad="skip"))) == ["y"]
