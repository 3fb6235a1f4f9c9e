import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rlcap.cli import doctor
from rlcap.cli import main as cli
from rlcap.data.captions import to_batch
from rlcap.lab.assets import ASSETS, NAMES

LAB = Path(__file__).parents[2] / "recipes" / "configs" / "lab.yaml"
FEW = ["data.train=7", "data.validation=7", "data.test=0", "data.options.prior_breaking=0"]


def built(name):
    if not (ASSETS / name).is_dir():
        pytest.skip(f"lab asset {name} is not built: rlcap lab build --only {name}")


def test_help_shows_examples_and_imports_no_large_package():
    heavy = "import sys; from rlcap.cli import main as cli; cli.build_parser(); print({'torch', 'numpy', 'transformers', 'PIL'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert loaded.stdout == "set()\n"  # large imports would make every command slow to start
    found = subprocess.run(
        [sys.executable, "-m", "rlcap.cli.main", "--help"], capture_output=True, text=True, check=True
    )
    for words in ("rlcap doctor", "rlcap lab export", "rlcap bags mine", "rlcap score", "rlcap report", "start here"):
        assert words in found.stdout


@pytest.mark.parametrize(
    "command",
    ["doctor", "lab export", "lab build", "bags mine", "bags convert", "score", "eval", "report", "compare", "caption"],
)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command.split(), "--help"])
    assert stopped.value.code == 0
    assert "usage: rlcap" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lab", "export", "--split", "tests", "--out", "x"], "the lab has train, validation, test, prior_breaking"),
        (["lab", "build", "--only", "captoner"], "the lab's assets are captioner"),
        (["bags", "mine", "nothing.json", "--clip", "x", "--out", "y"], "data source nothing.json does not exist"),
        (
            ["bags", "mine", "x.json", "--clip", "x", "--out", "y", "train.steps=3"],
            "train.steps=3: this command accepts data. overrides only",
        ),
        (["bags", "mine", "x.json", "--clip", "x", "--out", "y", "data.colums.id=a"], "did you mean data.columns"),
        (["bags", "convert", "nothing.json", "--out", "y"], "bag file nothing.json does not exist"),
        (["score", "nothing.jsonl", "--config", str(LAB)], "no captions file nothing.jsonl"),
        (["score", "x.jsonl", "--config", "nothing.yaml"], "no config file nothing.yaml"),
        (["score", "x.jsonl", "--config", str(LAB), "train.stps=3"], "did you mean train.steps"),
        (["eval", "nothing"], "no captions file nothing"),
        (["report", "nothing"], "has no <step>.jsonl"),
        (["compare", "nothing", "nowhere"], "nothing has no captions of 'test'"),
        (["compare", "alone"], "two or more variants"),
        (["caption", "nothing.png"], "missing image: nothing.png"),
        (["caption", "x.png", "--run", "nothing"], "nothing is not a run folder"),
        (["caption", "x.png", "--before"], "--before needs --run"),
    ],
)
def test_user_errors_are_one_line_with_exit_code_2(arguments, message, capsys):
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.startswith("rlcap: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["nothing"], [], ["doctor", "--loud"], ["lab", "export", "--count", "0", "--out", "x"]]
)
def test_unknown_arguments_are_argparse_errors(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage: rlcap" in capsys.readouterr().err


def test_internal_errors_keep_their_traceback(monkeypatch):
    def broken():
        raise ValueError("a bug of ours")

    monkeypatch.setattr(doctor, "examine", broken)
    with pytest.raises(ValueError, match="a bug of ours"):
        cli.main(["doctor"])


def test_lab_export(tmp_path, capsys):
    assert (
        cli.main(["lab", "export", "--split", "validation", "--count", "3", "--seed", "4", "--out", str(tmp_path)]) == 0
    )
    assert "3 images of validation (seed 4)" in capsys.readouterr().out
    assert len(list((tmp_path / "images").glob("*.png"))) == 3
    for name in ("scenes.jsonl", "references.jsonl"):
        assert len((tmp_path / name).read_text().splitlines()) == 3


def test_bags_are_mined_by_command(tmp_path, capsys):
    built("retriever")
    cli.main(["lab", "export", "--split", "validation", "--count", "14", "--out", str(tmp_path)])
    source, out, match = tmp_path / "references.jsonl", tmp_path / "bags.json", tmp_path / "match.json"
    options = ["--clip", "lab:retriever", "--neighbours", "5", "--near-identical", "0.999", "--no-text"]
    assert (
        cli.main(["bags", "mine", str(source), "--out", str(out), *options, "--truematch", str(match), "--size", "3"])
        == 0
    )
    bags = json.loads(out.read_text())
    assert bags["about"]["text"] is False
    assert len(bags["levels"]["hard"]) == 14
    disjoint = json.loads(match.read_text())
    ids = [id for bag in disjoint for id in bag]
    assert {len(bag) for bag in disjoint} == {3}
    assert len(ids) == len(set(ids)) > 0
    assert f"{len(disjoint)} disjoint bags of 3" in capsys.readouterr().out


def test_bags_are_mined_from_a_source_class(tmp_path, capsys):
    built("retriever")
    out = tmp_path / "bags.json"
    source = ["rlcap.lab.source:LabSource", "data.train=8"]
    assert cli.main(["bags", "mine", *source, "--clip", "lab:retriever", "--neighbours", "3", "--out", str(out)]) == 0
    assert "8 images from rlcap.lab.source:LabSource" in capsys.readouterr().out
    assert len(json.loads(out.read_text())["levels"]["hard"]) == 8


def test_unusable_rows_give_a_one_line_error(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"id": "a", "image": "a.jpg", "reference": ["A."]}))
    command = ["bags", "mine", str(rows), "--clip", "lab:retriever", "--out", str(tmp_path / "bags.json")]
    assert cli.main(command) == 2
    told = capsys.readouterr().err
    assert "line 1: unknown key 'reference', did you mean 'references'?" in told
    assert told.count("\n") == 1
    assert cli.main([*command, "data.columns.references=reference"]) == 2
    assert "missing image" in capsys.readouterr().err
    assert cli.main([*command, "--on-bad", "skip"]) == 2
    assert "no usable row: {'misspelt key': 1}" in capsys.readouterr().err


def test_truematch_bags_survive_conversion_in_both_directions(tmp_path, capsys):
    match, bags, back, pairs = (tmp_path / name for name in ("match.json", "bags.json", "back.json", "pairs.json"))
    match.write_text("[[3310, 139, 42], [7, 8, 9]]")
    assert cli.main(["bags", "convert", str(match), "--out", str(bags)]) == 0
    assert "bag file for data.bags, 2 bags of 3, level hard" in capsys.readouterr().out
    assert json.loads(bags.read_text())["levels"]["hard"]["139"] == ["3310", "42"]
    assert cli.main(["bags", "convert", str(bags), "--out", str(back)]) == 0
    assert json.loads(back.read_text()) == json.loads(match.read_text())
    assert cli.main(["bags", "convert", str(bags), "--out", str(pairs), "--size", "2"]) == 0
    assert "2 disjoint bags of 2 from 6 images" in capsys.readouterr().out
    assert cli.main(["bags", "convert", str(bags), "--out", str(back), "--level", "easy"]) == 2
    assert "--level easy: " in capsys.readouterr().err


def captions(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_captions_are_scored_by_a_mix(tmp_path, capsys):
    from rlcap.lab.source import load_split

    samples = load_split("validation", 7)
    told = captions(tmp_path / "told.jsonl", [{"sample_id": s.id, "caption": s.paragraph} for s in samples])
    only = ["mix.self_retrieval=null", "mix.hallucination=null"]
    oracle = str(LAB.with_name("lab_oracle.yaml"))
    assert cli.main(["score", told, "--config", oracle, *FEW, *only, "--mix.length.weight=0.25"]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert set(lines) == {"term", "critique", "length", "repetition", "grammar", "style"}
    assert lines["length"][1:3] == ["0.25", "0.000"]  # the caption is exactly as long as the paragraph
    assert 0.2 < float(lines["critique"][2].replace("−", "-")) + 1 < 2
    # A row with neither paragraph nor references has no target length, so the length reward abstains.
    rows = [{"sample_id": "x", "caption": "a ball.", "image": samples[0].image}]
    file = captions(tmp_path / "x.jsonl", rows)
    assert cli.main(["score", file, "--config", oracle, *FEW, *only, "mix.critique=null"]) == 1
    told = capsys.readouterr()
    assert "1 of 1" in next(line for line in told.out.splitlines() if line.startswith("length"))
    assert "warning: length abstains on every caption, first because: " in told.err


@pytest.fixture
def photos(tmp_path):
    """A folder with six photos, rows that describe them, and a mix that names no data."""
    from PIL import Image

    rows = []
    for number in range(6):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append({"id": str(number), "image": f"{number}.png", "references": ["A red square."]})
    (tmp_path / "photos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mix.yaml").write_text("mix: {bleu: {reward: bleu}}")
    return tmp_path


def test_rows_without_images_need_data(photos, capsys):
    file = captions(photos / "said.jsonl", [{"sample_id": "1", "caption": "A red square."}])
    command = ["score", file, "--config", str(photos / "mix.yaml")]
    assert cli.main(command) == 2
    assert "data.source is empty: name a .jsonl" in (told := capsys.readouterr().err)
    assert "or put references into the rows of the captions file" in told
    assert cli.main([*command, f"data.source={photos / 'photos.jsonl'}"]) == 0  # no image of six is held out
    assert "0 of 1" in capsys.readouterr().out


def test_images_of_rows_start_from_the_folder_of_their_file(photos, tmp_path_factory, monkeypatch):
    from rlcap.data.captions import read_captions

    def image(name, root=None):
        (row,) = read_captions(
            Path(captions(photos / "said.jsonl", [{"sample_id": "1", "caption": "A.", "image": name}])), root
        )
        return Path(row["image"])

    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "here.png").write_bytes((photos / "1.png").read_bytes())
    monkeypatch.chdir(elsewhere)
    assert image("1.png") == photos / "1.png"
    assert image("here.png") == Path("here.png")  # only the working directory has it
    assert image("nowhere.png") == photos / "nowhere.png"
    assert image(str(elsewhere / "here.png")) == elsewhere / "here.png"
    assert image("here.png", str(elsewhere)) == elsewhere / "here.png"
    (photos / "here.png").write_bytes((photos / "2.png").read_bytes())
    assert image("here.png") == photos / "here.png"


def test_cocos_results_are_scored_and_measured_whole_with_values_per_caption(tmp_path, capsys):
    from PIL import Image

    rows, results = [], []
    for i in range(6):
        Image.new("RGB", (48, 48), (40 * i, 9, 99)).save(tmp_path / f"{i}.png")
        rows.append({"id": i, "image": f"{i}.png", "references": [f"a picture number {i}.", "a square."]})
        results.append({"image_id": i, "caption": f"a picture number {i}."})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "results.json").write_text(json.dumps(results))
    data = [f"data.source={tmp_path / 'rows.jsonl'}", "data.options={}", "data.train=null"]
    mix = tmp_path / "mix.yaml"
    mix.write_text("mix: {length: {reward: length, params: {target: 4}}}\n")
    out = tmp_path / "scores.jsonl"
    assert cli.main(["score", str(tmp_path / "results.json"), "--config", str(mix), "--out", str(out), data[0]]) == 0
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["sample_id"] for row in scored] == [str(i) for i in range(6)]
    assert all(row["scores"] == {"length": 0.0} and row["abstained"] == {} for row in scored)
    out, numbers = tmp_path / "out.jsonl", tmp_path / "numbers.json"
    line = ["eval", str(tmp_path / "results.json"), "--split", "all", "--out", str(out), "--json", str(numbers), *data]
    assert cli.main(line) == 0
    assert "all: 95 % intervals over" in capsys.readouterr().out
    measured = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["sample_id"] for row in measured] == [str(i) for i in range(6)]
    assert measured[0]["metrics"]["mean_words"] == 4
    found = json.loads(numbers.read_text())
    assert found["captions"] == 6
    padded = "".join(json.dumps({**row, "id": f"{row['id']:012d}"}) + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(padded)  # the results name an image 3 and the data "000000000003"
    assert cli.main(line) == 0
    assert cli.main(["score", str(tmp_path / "results.json"), "--config", str(mix), data[0]]) == 0
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert found["metrics"]["mean_words"]["mean"] == 4
    (tmp_path / "table.csv").write_text(
        "sample_id,caption\n" + "".join(f'{i},"=a picture, number {i}."\n' for i in range(6))
    )
    each, latex = tmp_path / "each.csv", tmp_path / "table.tex"
    more = ["--metrics", "bleu,length,repetition,chair,bert_score", "--csv", str(each), "--latex", str(latex)]
    line = ["eval", str(tmp_path / "table.csv"), "--split", "all", *more, "--json", str(numbers), *data]
    assert cli.main([*line, "mix.length.params.target=4"]) == 0
    told = capsys.readouterr()
    assert "chair/chair_i, over all captions: " in told.out
    assert "bert_score measured nothing: " in told.err
    found = json.loads(numbers.read_text())
    assert found["metrics"]["length"]["mean"] == 0
    assert found["metrics"]["bleu"]["mean"] > 0
    assert "repetition_reward" in found["metrics"]  # the metric of this name is another formula
    assert list(found["lacking"]) == ["bert_score"]
    rows = each.read_text().splitlines()
    assert rows[0].startswith("sample_id,image,caption,")
    assert rows[1].split(",", 2)[2].startswith('"\'=a picture, number 0."')
    assert latex.read_text().count(r" \\") == 1 + len(found["metrics"])
    (tmp_path / "bad.csv").write_text("id,caption\n1,a\n")
    assert cli.main(["eval", str(tmp_path / "bad.csv"), *data]) == 2
    assert "needs the columns sample_id and caption; its first line names id, caption" in capsys.readouterr().err
    (tmp_path / "results.json").write_text('[{"image_id": 1}]')
    assert cli.main(["score", str(tmp_path / "results.json"), "--config", str(mix)]) == 2
    assert "entry 1: a row needs sample_id and caption" in capsys.readouterr().err


def test_captions_of_unknown_images_are_reported(tmp_path, capsys):
    file = captions(tmp_path / "a.jsonl", [{"sample_id": "elsewhere", "caption": "a ball."}])
    assert cli.main(["score", file, "--config", str(LAB), *FEW]) == 2
    assert "such as 'elsewhere'" in capsys.readouterr().err
    assert cli.main(["eval", file, "--split", "validation", *FEW]) == 2
    assert "has no image 'elsewhere'" in capsys.readouterr().err
    file = captions(tmp_path / "b.jsonl", [{"sample_id": "a"}])
    assert cli.main(["eval", file]) == 2
    assert "line 1: a row needs sample_id and caption" in capsys.readouterr().err


def test_a_single_reference_may_be_a_string():
    (one, other) = to_batch(
        [{"sample_id": "a", "caption": "c", "references": r} for r in ("a dog.", ["a dog."])], {}
    ).samples
    assert one.references == other.references == ("a dog.",)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"references": 3}, "references must be a text or a list of texts, got 3"),
        ({"references": [1, 2]}, "references must be a text or a list of texts, got [1, 2]"),
        ({"meta": "round"}, "meta must be a mapping"),
        ({"distractor_images": "b.png"}, "distractor_images must be a list of paths"),
        ({"reference": ["a ball."]}, "a row has no key 'reference'; did you mean 'references'?"),
    ],
)
def test_an_invalid_row_is_reported_with_its_line_and_key(tmp_path, capsys, row, message):
    file = captions(tmp_path / "a.jsonl", [{"sample_id": "a", "caption": "a ball.", "image": "a.png", **row}])
    assert cli.main(["score", file, "--config", str(LAB), *FEW]) == 2
    assert f"line 1: {message}" in capsys.readouterr().err


def test_a_captions_file_is_evaluated(tmp_path, capsys):
    built("judge-retriever")
    import random

    from rlcap.lab.source import load_split
    from rlcap.lab.world.language import describe_scene
    from rlcap.lab.world.scene import Scene

    samples = load_split("validation", 7)
    rows = [
        {
            "sample_id": s.id,
            "caption": describe_scene(Scene.from_json(s.meta["scene"]), random.Random(0)),
            "split": "validation",
        }
        for s in reversed(samples)
    ]
    assert cli.main(["eval", captions(tmp_path / "a.jsonl", rows), "--split", "validation", *FEW]) == 0
    told = capsys.readouterr().out.replace("\xa0", " ")
    found = {line.split()[0]: line for line in told.splitlines()}
    assert "0.0 %" in found["hallucination_rate"]  # each caption is compared with its own scene, in any order of rows
    assert "validation: 95 % intervals over 1 cluster (7 images)" in told
    assert cli.main(["eval", captions(tmp_path / "b.jsonl", rows + rows[:1]), "--split", "validation", *FEW]) == 2
    assert "give one caption per image" in capsys.readouterr().err


def test_a_run_is_evaluated_and_reported_again(tmp_path, capsys):
    folder = tmp_path / "captions"
    folder.mkdir()
    for step, value in ((0, 0.25), (4, 0.75)):
        rows = [
            {"sample_id": f"{i}", "image": "", "caption": "a ball.", "split": "test", "metrics": {"fact_recall": value}}
            for i in range(8)
        ]
        captions(folder / f"{step}.jsonl", rows)
    assert cli.main(["eval", str(tmp_path)]) == 0
    told = capsys.readouterr().out.replace("\xa0", " ")
    assert "test: 95 % intervals over 8 images, each taken as independent" in told
    assert next(line for line in told.splitlines() if line.startswith("fact_recall")).split()[1:8] == [
        "25.0", "%", "75.0", "%", "+50.0", "+50.0", "to",
    ]  # fmt: skip
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 4


def test_two_runs_are_compared(tmp_path, capsys):
    for name, value in (("a", 0.25), ("b", 0.75)):
        (tmp_path / name / "captions").mkdir(parents=True)
        rows = [
            {"sample_id": f"{i}", "image": "", "caption": "a ball.", "split": "test", "metrics": {"fact_recall": value}}
            for i in range(8)
        ]
        captions(tmp_path / name / "captions" / "4.jsonl", rows)
    runs = [str(tmp_path / name) for name in "ab"]
    assert cli.main(["compare", *runs, "--json", str(tmp_path / "found.json")]) == 0
    assert "**+50.0 [+50.0, +50.0]** better" in capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text())["rows"][0]["differences"][0]["mean"] == 0.5


def test_a_run_captions_images(tmp_path, capsys):
    built("captioner")
    import yaml

    from rlcap.lab.source import load_split

    image = load_split("test", 1)[0].image
    run = tmp_path / "run"
    shutil.copytree(ASSETS / "adapter", run / "adapter")
    values = {
        "model": {"base": "lab:captioner", "adapter": None},
        "data": {"source": "rlcap.lab.source:LabSource", "instruction": None},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    out = tmp_path / "said.jsonl"
    asked = ["caption", image, "--run", str(run), "--before", "generation.max_new_tokens=12", "--out", str(out)]
    assert cli.main(asked) == 0
    row = json.loads(out.read_text())
    assert row["image"] == image
    assert row["caption"].startswith("there is a")
    assert row["before"] != row["caption"]  # the base model without the adapter writes another caption
    assert len(row["caption"].split()) <= 12
    assert cli.main(["caption", image, "generation.max_new_tokens=0"]) == 2
    (tmp_path / "broken.png").write_bytes(b"not an image")
    assert cli.main(["caption", str(tmp_path / "broken.png"), image]) == 0
    printed = capsys.readouterr()
    assert "skipped 1 file:" in printed.err
    assert "broken.png: it begins with" in printed.err
    assert f"{image}\n" in printed.out


def test_the_doctor_checks_required_versions_and_optional_packages():
    versions = {"torch": "2.0.0", "trl": "1.17.0", "numpy": "2.4.0"}
    found = doctor.required_packages(lambda name: versions.get(name))
    told = {finding.what: finding for finding in found}
    assert told["torch 2.0.0, but rlcap needs >=2.14"].state == "broken"
    assert "trl 1.17.0, but rlcap needs <1.17,>=1.16" in told
    assert told["transformers is missing"].fix == 'pip install "transformers<6,>=5.24"'
    assert "numpy 2.4.0" in found[0].what
    assert not any("deepspeed" in finding.what for finding in found)  # optional packages are not required
    extras = doctor.optional_packages(lambda name: None)
    assert {finding.state for finding in extras} == {"note"}
    assert all(finding.fix for finding in extras)


def test_the_doctor_notices_builds_that_do_not_match():
    assert not doctor.builds_match("2.15.0+cpu", "0.29.2")
    assert not doctor.builds_match("2.15.0", "0.29.2+cu129")
    assert doctor.builds_match("2.15.0+cpu", "0.29.2+cpu")
    assert doctor.builds_match("2.15.0", "0.29.2")


def test_the_doctor_reports_missing_assets_and_lfs_pointers(tmp_path, monkeypatch):
    monkeypatch.setattr("rlcap.lab.assets.ASSETS", tmp_path)
    assert {finding.state for finding in doctor.embedded_models()} == {"broken"}
    for name in NAMES:
        (tmp_path / name).mkdir()
    assert "rlcap lab build --only nli" in doctor.embedded_models(["lab:nli"])[0].fix
    for name in NAMES:
        (tmp_path / name / "model.safetensors").write_bytes(b"x" * 2000)
    assert [finding.state for finding in doctor.embedded_models()] == ["good"]
    (tmp_path / "nli" / "model.safetensors").write_bytes(b"version https://git-lfs")
    found = doctor.embedded_models()
    assert (found[0].state, found[0].fix) == ("broken", "git lfs pull")


def test_the_doctor_prints_text_and_json(capsys, monkeypatch):
    code = cli.main(["doctor", "--json"])
    health = json.loads(capsys.readouterr().out)
    assert health["well"] == (code == 0)
    assert {finding["topic"] for finding in health["findings"]} == {"packages", "devices", "tools", "lab", "disk"}
    sick = doctor.Health((doctor.Finding("lab", "broken", "the nli is missing", "rlcap lab build"),))
    monkeypatch.setattr(doctor, "examine", lambda: sick)
    assert cli.main(["doctor"]) == 1
    told = capsys.readouterr().out
    assert "x the nli is missing" in told
    assert "→ rlcap lab build" in told
    assert "not ready: 1 problem marked x" in told


def test_the_doctor_loads_torchvision_operators_without_importing_torchvision():
    code = (
        "import sys, torch; from rlcap.cli.doctor import load_torchvision_operators as load; load();"
        "print(torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5).tolist(), 'torchvision' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == "[0] False\n"


def test_the_card_of_a_file_is_found_as_a_configuration_names_it(tmp_path, capsys):
    assert cli.main(["rewards", "new", "brevity", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    for name in (tmp_path / "brevity.py", f"{tmp_path / 'brevity.py'}:Brevity"):
        assert cli.main(["rewards", str(name)]) == 0
        assert "brevity:Brevity" in capsys.readouterr().out
    assert cli.main(["probe", f"{tmp_path / 'brevity.py'}:Brevity", "--count", "7"]) in (0, 1)
    assert "probe              total  brevity" in capsys.readouterr().out
