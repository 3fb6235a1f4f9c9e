"""Images are identified by their content: no image is in two splits, and none stands in a bag twice."""

import json
import shutil

import pytest
from PIL import Image

from rlcap.config.schema import DataConfig
from rlcap.data.loading import load_samples
from rlcap.data.samples import check_distinct_images, find_same_images
from rlcap.data.source import load_splits
from rlcap.errors import DataError
from rlcap.types import Sample


def photo(path, colour):
    Image.new("RGB", (16, 16), (colour, 255 - colour, 7)).save(path)
    return str(path)


def jsonl(folder, rows):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("copies", ["one path", "copied files"])
def test_rows_of_one_image_become_one_sample_and_no_split_shares_an_image(tmp_path, copies):
    rows = []
    for k in range(30):
        name = f"{k // 5}.png" if copies == "one path" else f"{k // 5}-{k}.png"
        photo(tmp_path / name, 20 * (k // 5))
        rows.append({"id": k, "image": name, "references": f"caption {k}"})
    source = jsonl(tmp_path, rows)
    splits, lines = load_splits(DataConfig(source=str(source), validation=1, test=2))
    assert {name: len(samples) for name, samples in splits.items()} == {"train": 3, "validation": 1, "test": 2}
    assert "24 rows joined to an earlier row of the same image" in lines[0]
    for samples in splits.values():
        for sample in samples:
            first = int(sample.id)
            assert first % 5 == 0
            assert sample.references == tuple(f"caption {k}" for k in range(first, first + 5))


def test_rows_without_ids_join_by_their_image(tmp_path):
    photo(tmp_path / "a.png", 1)
    rows = [{"image": "a.png", "references": "A."}, {"image": "a.png", "references": ["B.", "A."], "paragraph": "P."}]
    (sample,) = load_samples(jsonl(tmp_path, rows))
    assert (sample.id, sample.references, sample.paragraph) == ("a.png", ("A.", "B."), "P.")
    (sample,) = load_samples(jsonl(tmp_path, rows), check_images=False)
    assert sample.references == ("A.", "B.")


def test_a_second_paragraph_of_an_image_is_a_bad_row(tmp_path):
    photo(tmp_path / "a.png", 1)
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    rows = [{"image": "a.png", "paragraph": "One."}, {"image": "b.png", "paragraph": "Two."}]
    source = jsonl(tmp_path, rows)
    with pytest.raises(
        DataError, match=r"line 2: id 'b\.png' shows the image of id 'a\.png' and has another paragraph"
    ):
        load_samples(source)
    samples = load_samples(source, on_bad="skip")
    assert (len(samples), samples.merged, samples.skipped) == (1, 0, {"second paragraph": 1})


def test_only_files_with_the_same_bytes_are_the_same(tmp_path):
    one, two, other = (photo(tmp_path / f"{name}.bmp", colour) for name, colour in (("a", 1), ("b", 1), ("c", 2)))
    assert find_same_images([one, two, other, one]) == {two: one}


def test_a_source_whose_splits_share_an_image_is_refused(tmp_path):
    one, two = photo(tmp_path / "a.png", 1), photo(tmp_path / "copy.png", 1)
    splits = {"train": [Sample("x", one)], "test": [Sample("y", two)]}
    with pytest.raises(
        DataError, match=r"1 images stand in train and in test, such as .*copy\.png, the image of 'x' and"
    ):
        check_distinct_images(splits)
    with pytest.raises(DataError, match="stand twice in train"):
        check_distinct_images({"train": [Sample("x", one), Sample("y", two)]})
    check_distinct_images({"train": [Sample("x", one)], "test": [Sample("y", photo(tmp_path / "b.png", 9))]})
