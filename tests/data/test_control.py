"""Controls: their words, their values, their place in every format of data, and draws that depend on seed, epoch and id alone."""

import csv
import json
from collections import Counter

import pytest
from PIL import Image

from rlcap.config.schema import DataConfig, GenerationConfig
from rlcap.data.captions import read_captions, to_batch
from rlcap.data.control import ControlSampler, Instruction, fill_controls, format_of, instruct
from rlcap.data.loading import load_samples
from rlcap.data.source import load_all, load_instruction, load_splits
from rlcap.errors import CaptionsError, ConfigError, DataError
from rlcap.types import Control, Sample

FULL = {
    "format": "DSC", "length": 40, "level": 3, "source": "coco", "question": "Where?", "region": [0.0, 0.1, 0.5, 1.0],
    "language": "German", "style": "plain",
}  # fmt: skip


# ---- values ----------------------------------------------------------------------------------------------------------


def test_a_control_survives_json_and_the_texts_of_a_table():
    control = Control.parse(FULL)
    assert Control.parse(json.dumps(control.to_dict())) == control
    assert Control.parse({name: str(value) for name, value in FULL.items()}) == control
    assert control.to_dict() == FULL
    assert Control.parse({"length": 40.0, "level": None}) == Control(length=40)
    assert not Control.parse(None)
    assert not Control.parse("")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lenght": 4}, "unknown key lenght; known are format, length"),
        ({"length": 0}, "length must be a whole number of 1 or more, got 0"),
        ({"length": "four"}, "length must be a whole number .* got 'four'"),
        ({"level": True}, "level must be a whole number .* got True"),
        ({"format": "XXL"}, "one of SSC, DSC, DSC\\+, AFC, got 'XXL'"),
        ({"style": " "}, "style must be a text that is not empty"),
        ({"region": [0.5, 0, 0.4, 1]}, "region must be left, top"),
        ({"region": [0, 0, 640, 480]}, "shares of width and height"),
        ({"region": "all"}, "region must be left, top"),
        ("[1]", "must be a mapping"),
        ("{", "no JSON object"),
    ],
)
def test_a_bad_control_names_the_value(values, message):
    with pytest.raises(ValueError, match=message):
        Control.parse(values)


def test_the_demands_of_one_control_lie_over_those_of_another():
    assert Control(length=5).over(Control(length=9, style="plain")) == Control(length=5, style="plain")


# ---- words -----------------------------------------------------------------------------------------------------------


def test_without_a_demand_the_instruction_stays_as_it_is():
    for form in ("request", "prefix", "none"):
        assert instruct("Describe it. ", Control(), form) == "Describe it. "


def test_the_words_follow_a_request_and_precede_the_beginning_of_a_caption():
    control = Control(length=40, level=2)
    assert instruct("Describe it.", control) == "Describe it. Use about 40 words. Write at quality level 2."
    assert instruct("a photo of", control, "prefix") == "length 40: level 2: a photo of"
    assert instruct("", control, "prefix") == "length 40: level 2:"
    assert "0.00, 0.10, 0.50, 1.00" in instruct("Describe it.", Control.parse({"region": FULL["region"]}))


def test_a_captioner_without_an_instruction_refuses_a_control():
    with pytest.raises(ConfigError, match=r"'length': 40.* has no effect"):
        instruct("", Control(length=40), "none")


def test_a_number_takes_the_words_of_the_nearest_one_and_a_text_needs_its_own():
    shared = Instruction("Describe.", {"length": {10: "briefly", 60: "at length"}, "style": {"plain": "plainly"}})
    assert instruct(shared, Control(length=12)) == "Describe. briefly"
    assert instruct(shared, Control(length=500)) == "Describe. at length"
    assert instruct(shared, Control(length=35)) == "Describe. briefly"  # halfway: the smaller one
    with pytest.raises(ConfigError, match=r"control_phrases\.style has no words for 'ornate', only for plain"):
        instruct(shared, Control(style="ornate"))


def test_braces_in_a_value_are_plain_text():
    assert instruct("Describe.", Control(question="{value} {0}?")).endswith("{value} {0}?")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"control": {"lenght": 4}}, "data.control: control has the unknown key lenght"),
        ({"control_phrases": {"length": "briefly"}}, "data.control_phrases: length: write a text with {value}"),
        ({"control_phrases": {"length": {}}}, "length: a mapping from values to texts"),
        ({"control_phrases": {"lenght": "{value}"}}, "lenght is no control"),
        ({"control_from_paragraph": ["style"]}, "control_from_paragraph.0"),
    ],
)
def test_the_configuration_refuses_what_is_no_control(section, message):
    with pytest.raises(ConfigError) as error:
        DataConfig.parse(section, "data")
    assert message in str(error.value)


# ---- where they come from --------------------------------------------------------------------------------------------


@pytest.fixture
def photo(tmp_path):
    for i in range(3):
        Image.new("RGB", (8, 8), (90 * i, 9, 9)).save(tmp_path / f"{i}.png")
    return tmp_path


ROWS = [{"id": str(i), "image": f"{i}.png", "paragraph": "A wall."} for i in range(3)]
WANTED = [Control(length=40, level=2), Control(), Control(region=(0.0, 0.0, 0.5, 1.0))]


def write(form, folder):
    """The rows in a format, with the controls in its most natural form; the file or folder."""
    controls = [control.to_dict() for control in WANTED]
    nested = [row | ({"control": one} if one else {}) for row, one in zip(ROWS, controls, strict=True)]
    if form == "jsonl":
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in nested))
    elif form == "json":
        (folder / "rows.json").write_text(json.dumps(nested))
    elif form == "csv":
        with open(folder / "rows.csv", "w", newline="") as file:
            columns = ["id", "image", "paragraph", "control.length", "control.level", "control.region"]
            table = csv.DictWriter(file, columns)
            table.writeheader()
            for row, one in zip(ROWS, controls, strict=True):
                table.writerow(row | {f"control.{key}": json.dumps(value) for key, value in one.items()})
    elif form == "tsv":
        with open(folder / "rows.tsv", "w", newline="") as file:
            table = csv.DictWriter(file, ["id", "image", "paragraph", "control"], delimiter="\t")
            table.writeheader()
            for row, one in zip(ROWS, controls, strict=True):
                table.writerow(row | {"control": json.dumps(one) if one else ""})
    elif form == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(nested), folder / "rows.parquet")
    elif form == "datasets":
        import datasets

        datasets.Dataset.from_list(nested).save_to_disk(folder / "rows.datasets")
    elif form == "coco":
        images = [
            {"id": i, "file_name": row["image"]} | ({"control": one} if one else {})
            for i, (row, one) in enumerate(zip(ROWS, controls, strict=True))
        ]
        texts = [{"image_id": i, "caption": "A wall."} for i in range(3)]
        (folder / "rows.json").write_text(json.dumps({"images": images, "annotations": texts}))
    return next(folder.glob("rows.*"))


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "tsv", "parquet", "datasets", "coco"])
def test_every_format_carries_controls(form, photo):
    source = write(form, photo)
    samples = load_samples(source, image_root=photo)
    assert [sample.control for sample in samples] == WANTED
    assert all("control" not in sample.meta for sample in samples)
    assert "2 images with a control" in samples.describe()


def test_a_control_has_the_column_that_the_configuration_names(photo):
    (photo / "rows.csv").write_text("image,wish.length\n0.png,7\n")
    (sample,) = load_samples(photo / "rows.csv", columns={"control": "wish"})
    assert sample.control == Control(length=7)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"control": {"length": -1}}, "length must be a whole number of 1 or more, got -1"),
        ({"control.lenght": 4}, "unknown key lenght"),
        ({"control": {"length": 4}, "control.level": 1}, "keep one of the two forms"),
        ({"controls": {"length": 4}}, "did you mean 'control'"),
    ],
)
def test_a_bad_control_is_a_bad_row(row, message, photo):
    (photo / "rows.jsonl").write_text(json.dumps(ROWS[0] | row) + "\n" + json.dumps(ROWS[1]) + "\n")
    with pytest.raises(DataError, match=message):
        load_samples(photo / "rows.jsonl")
    assert len(load_samples(photo / "rows.jsonl", on_bad="skip")) == 1


def test_two_rows_of_an_image_can_not_ask_for_two_things(photo):
    rows = [{"image": "0.png", "references": [f"A wall {i}."], "control": {"level": i}} for i in (1, 2)]
    (photo / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="another control"):
        load_samples(photo / "rows.jsonl")
    del rows[1]["control"]
    (photo / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (sample,) = load_samples(photo / "rows.jsonl")
    assert sample.control == Control(level=1)


def test_a_fingerprint_changes_with_a_control_only(photo):
    prints = []
    for control in (None, {}, {"length": 4}):
        (photo / "rows.jsonl").write_text(json.dumps(ROWS[0] | {"control": control}) + "\n")
        prints.append(load_samples(photo / "rows.jsonl").fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_the_row_precedes_its_paragraph_which_precedes_the_configuration(photo):
    write("jsonl", photo)
    config = DataConfig(
        source=str(photo / "rows.jsonl"),
        control={"length": 9, "style": "plain"},
        control_from_paragraph=["length"],
        control_phrases={"style": "Be {value}."},
        instruction="Describe.",
        validation=0,
        test=1,
    )
    controls = {sample.id: sample.control for sample in load_all(config)}
    assert controls["0"] == Control(length=40, level=2, style="plain")
    assert controls["1"] == Control(length=2, style="plain")
    assert {s.id: s.control for rows in load_splits(config)[0].values() for s in rows} == controls
    assert instruct(load_instruction(config), controls["1"]) == "Describe. Use about 2 words. Be plain."


def test_without_anything_to_fill_in_the_samples_stay_the_same_object():
    samples = [Sample("a", "a.png")]
    assert fill_controls(samples, Control()) is samples


@pytest.mark.parametrize(
    ("words", "format"), [(9, None), (10, "SSC"), (15, "SSC"), (16, None), (50, "DSC"), (100, "DSC+")]
)
def test_a_format_is_a_band_of_words(words, format):
    assert format_of("wall " * words) == format


def test_a_captions_file_carries_controls(tmp_path):
    path = tmp_path / "captions.jsonl"
    path.write_text('{"sample_id": "a", "caption": "A wall.", "control": {"length": 4}}\n')
    known = {"a": Sample("a", "a.png", control=Control(length=9, style="plain"))}
    (sample,) = to_batch(read_captions(path), known).samples
    assert sample.control == Control(length=4, style="plain")
    path.write_text('{"sample_id": "a", "caption": "A wall.", "control": {"length": -4}}\n')
    with pytest.raises(CaptionsError, match="control must be a mapping of controls"):
        read_captions(path)


# ---- distributions ---------------------------------------------------------------------------------------------------


def test_a_draw_depends_on_seed_epoch_and_id_alone():
    sampler = ControlSampler({"length": {"uniform": [10, 90]}, "format": ["SSC", "DSC"]}, seed=1)
    first = sampler.draw(Control(), "a", 0)
    for _ in range(3):
        sampler.draw(Control(), "b", 7)
    assert sampler.draw(Control(), "a", 0) == first
    others = [sampler.draw(Control(), "a", 1), sampler.draw(Control(), "b", 0)]
    others.append(ControlSampler({"length": {"uniform": [10, 90]}}, seed=2).draw(Control(), "a", 0))
    assert all(other.length != first.length for other in others)
    alone = ControlSampler({"length": {"uniform": [10, 90]}}, seed=1)
    assert alone.draw(Control(), "a", 0).length == first.length  # another key changes nothing


def test_draws_follow_the_weights_and_replace_the_rows_own_value():
    sampler = ControlSampler({"level": {8: 0.75, None: 0.25, 3: 0}})
    drawn = [sampler.draw(Control(level=1, length=5), str(i), 0) for i in range(4000)]
    counts = Counter(control.level for control in drawn)
    assert set(counts) == {8, None}
    assert counts[8] / 4000 == pytest.approx(0.75, abs=0.03)  # 4 standard errors
    assert {control.length for control in drawn} == {5}
    lengths = Counter(
        ControlSampler({"length": {"uniform": [1, 4]}}).draw(Control(), str(i), 0).length for i in range(4000)
    )
    assert set(lengths) == {1, 2, 3, 4}
    assert min(lengths.values()) > 850


def test_without_a_distribution_the_control_stays_the_same():
    control = Control(length=5)
    assert ControlSampler({}).draw(control, "a", 0) is control


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"lenght": [4]}, "lenght is no control"),
        ({"length": 4}, "length: write a list of values, a mapping"),
        ({"length": []}, "length has no value with a weight above 0"),
        ({"length": {4: 0}}, "length has no value with a weight above 0"),
        ({"length": {4: -1}}, "the weight of 4 must be a number of 0 or more, got -1"),
        ({"length": ["short"]}, "control.length must be a whole number"),
        ({"length": {"uniform": [9, 3]}}, "length.uniform must be [lowest, highest]"),
        ({"format": {"XXL": 1}}, "control.format must be one of"),
    ],
)
def test_the_configuration_refuses_a_bad_distribution(controls, message):
    with pytest.raises(ConfigError) as error:
        GenerationConfig.parse({"controls": controls}, "generation")
    assert message in str(error.value)
