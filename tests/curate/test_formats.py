"""Caption formats: words, bands, assertions and mixtures, and the command that prints them."""

import json
import math

import pytest
from PIL import Image

from rlcap.cli import main as cli
from rlcap.curate.formats import formats_of, tabulate_formats
from rlcap.lab.source import load_split
from rlcap.lab.world.scene import scene_of
from rlcap.lab.world.truth import check_caption
from rlcap.types import Control, Sample

TEXTS = {"SSC": "wall " * 12, "DSC": "wall " * 50, "AFC": "wall " * 20}


def rows(count=3):
    return [Sample(str(i), "a.png", meta={"formats": TEXTS}) for i in range(count)]


def test_a_row_has_several_formats_or_its_paragraph_in_one():
    assert formats_of(rows()[0]) == TEXTS
    assert formats_of(Sample("a", "a.png", paragraph="A wall.", control=Control(format="SSC"))) == {"SSC": "A wall."}
    assert formats_of(Sample("a", "a.png", paragraph="A wall.")) == {}
    assert formats_of(Sample("a", "a.png", meta={"formats": {"SSC": None, "DSC": " ", "XXL": "x"}})) == {}


def test_words_bands_and_assertions_of_each_format():
    asked = []

    def count(batch):
        asked.extend(batch.captions)
        return [None if len(text) > 200 else len(text.split()) // 4 for text in batch.captions]

    table = tabulate_formats([*rows(), Sample("x", "x.png")], count, limit=2)
    assert list(table.formats) == ["SSC", "DSC", "AFC"]
    ssc, dsc = table.formats["SSC"], table.formats["DSC"]
    assert (ssc.captions, ssc.mean_words, ssc.in_band, ssc.ana) == (3, 12, 3, 3)
    assert dsc.mean_words == 50
    assert math.isnan(dsc.ana)  # could not be counted
    assert len(asked) == 6  # two of each format
    assert (table.rows, table.without) == (4, 1)


def test_a_mixture_has_the_weighted_means_of_its_formats():
    table = tabulate_formats(rows(), lambda batch: [len(text.split()) // 4 for text in batch.captions])
    line = table.text([{"SSC": 1, "DSC": 3}]).splitlines()[-1]
    assert line.startswith("25% SSC + 75% DSC")
    assert line.split()[-2:] == ["40.50", "9.75"]  # .25 · 12 + .75 · 50 and .25 · 3 + .75 · 12


@pytest.fixture
def source(tmp_path):
    """Images of the lab with a short reference and the paragraph, and their scenes, which the oracle of claims reads."""
    lines = []
    for sample in load_split("test", 4, cache=tmp_path / "cache"):
        texts = {"SSC": sample.references[0], "DSC": sample.paragraph}
        lines.append(
            {"id": sample.id, "image": sample.image, "references": sample.references, "formats": texts, **sample.meta}
        )
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_command_counts_assertions_by_a_judge(source, capsys):
    judge = "rlcap.lab.oracles.claims:OracleClaims"
    line = ["curate", "formats", f"data.source={source}", "--judge", judge, "--mix", "SSC=1,DSC=1"]
    assert cli.main(line) == 0
    printed = {words[0]: words for words in map(str.split, capsys.readouterr().out.splitlines())}
    samples = load_split("test", 4, cache=source.parent / "cache")
    ana = {
        "SSC": sum(len(check_caption(s.references[0], scene_of(s)).claims) for s in samples) / 4,
        "DSC": sum(len(check_caption(s.paragraph, scene_of(s)).claims) for s in samples) / 4,
    }
    assert float(printed["SSC"][-1]) == pytest.approx(ana["SSC"], abs=0.005)
    assert float(printed["DSC"][-1]) == pytest.approx(ana["DSC"], abs=0.005)
    assert float(printed["50%"][-1]) == pytest.approx(sum(ana.values()) / 2, abs=0.006)


def test_the_command_works_without_a_judge(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    row = {"image": "a.png", "paragraph": "wall " * 12, "control": {"format": "SSC"}}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert cli.main(["curate", "formats", f"data.source={tmp_path / 'rows.jsonl'}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["SSC", "1", "12.0", "100%", "–"]


@pytest.mark.parametrize("mixture", ["SSC", "XXL=1", "SSC=x", "SSC=-1", "SSC=0"])
def test_a_bad_mixture_is_told(mixture, capsys):
    assert cli.main(["curate", "formats", "data.source=x.jsonl", "--mix", mixture]) == 2
    assert f"--mix {mixture}: write FORMAT=SHARE" in capsys.readouterr().err
