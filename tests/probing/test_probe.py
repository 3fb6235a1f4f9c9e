"""`rlcap probe`: the good captions are good, a mix that prefers worse captions fails, and the exit code shows it."""

import json
import random
import sys
from pathlib import Path

import pytest
from photo_texts import photo_texts

from rlcap.cli import main as cli
from rlcap.config.loading import load_config
from rlcap.config.schema import GRPOConfig, mix_entries
from rlcap.errors import ConfigError
from rlcap.lab.assets import ASSETS
from rlcap.lab.source import load_split
from rlcap.lab.truth import LabTruth, false_sentence, true_caption
from rlcap.lab.world.scene import Scene
from rlcap.lab.world.truth import check_caption
from rlcap.probing.perturbations import PROBES, make_suite
from rlcap.probing.probe import (
    GOOD,
    Row,
    collect_material,
    describe_report,
    judge_suites,
    make_report,
    probe,
    to_json,
)
from rlcap.reward.cards import cards, find
from rlcap.reward.mix import RewardMix

LAB = Path(__file__).parents[2] / "recipes" / "configs" / "lab.yaml"
LENGTH = {"reward": "rlcap.rewards.length:Length"}
REPETITION = {"reward": "rlcap.rewards.repetition:Repetition"}


def run_probes(mix, samples=None):
    samples, materials = collect_material(samples or photo_texts(), 8, "Describe the image in detail.", None)
    return judge_suites(RewardMix.from_config(mix, max_abstain=1.0), samples, materials, {}, "normalize_then_sum", None)


def test_in_the_lab_the_truth_ranks_the_good_caption_above_all_probes():
    samples, materials = collect_material(load_split("test", 14), 14, "describe the image .", LabTruth())
    for i, (sample, material) in enumerate(zip(samples, materials, strict=True)):
        scene = Scene.from_json(sample.meta["scene"])
        assert not check_caption(material.good, scene).wrong
        assert check_caption(f"{material.good} {material.false}", scene).wrong
        good, made = LabTruth().score(material.good, sample), make_suite(material, i)
        worse = {name: LabTruth().score(caption, sample) for name, caption in made.items()}
        assert all(value < good for name, value in worse.items() if name != "one_missing")
        assert worse["one_missing"] <= good
        assert worse["empty"] == worse["one_word"] == worse["word_shuffle"] == worse["echo"] == 0
        assert material.other not in {m.good for m in materials[i // 7 * 7 : i // 7 * 7 + 7]} - {material.good}


def test_a_true_caption_has_no_false_claim_at_any_length():
    scene = Scene.from_json(load_split("test", 1)[0].meta["scene"])
    short, long = true_caption(scene, random.Random(0)), true_caption(scene, random.Random(0), 10_000)
    assert len(long.split()) > len(short.split())
    assert not check_caption(long, scene).wrong
    assert check_caption(f"{long} {false_sentence(long, scene, random.Random(1))}", scene).wrong


def test_without_a_paragraph_the_most_typical_reference_is_the_good_caption():
    without = remove_paragraphs(photo_texts())
    samples, materials = collect_material(without, 8, "Describe it.", None)
    for sample, material, whole in zip(samples, materials, without, strict=True):
        assert {material.good, *sample.references} == set(whole.references)
        assert material.good not in sample.references
    with pytest.raises(ConfigError, match="at least two images"):
        collect_material(without[:1], 8, "x", None)


def test_a_mix_that_rewards_wrong_lengths_fails():
    found = run_probes({"loud": {**LENGTH, "weight": -1.0}})
    assert {"empty", "one_word", "rambling"} <= set(found.failed(0.05))
    text = describe_report(found, 0.05)
    assert "failed: empty 100%" in text
    assert "examples where the worse caption wins:" in text
    assert "no term distinguishes these probes from the good caption" in text
    data = json.loads(to_json(found, 0.05))
    assert data["failed"] == found.failed(0.05)
    assert {row["name"] for row in data["rows"]} == {GOOD, *PROBES}
    assert data["findings"]["empty"]["total"]["wins"] == 1


def remove_paragraphs(samples):
    """Return the samples without their paragraphs."""
    return [type(s)(s.id, s.image, s.references, None, s.distractors, s.meta) for s in samples]


def test_length_and_repetition_together_pass_all_probes():
    found = run_probes({"length": LENGTH, "repetition": REPETITION})
    assert not found.failed(0)
    assert "passed" in describe_report(found, 0)


@pytest.mark.parametrize("samples", [photo_texts(), remove_paragraphs(photo_texts())], ids=["paragraphs", "captions"])
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("length", {}),
        ("style", {}),
        ("repetition", {}),
        ("chair", {}),
        ("chair", {"form": "f1"}),
        ("cider", {"frequencies": [s.references for s in photo_texts()]}),
    ],
)
def test_text_rewards_lose_only_the_probes_on_their_cards(name, params, samples):
    path = find(name).paths[0]
    found = run_probes({name: {"reward": path, "params": params}}, samples)
    assert {probe for probe, by in found.findings.items() if by[name].wins > 0.05} <= set(find(name).fails)


@pytest.mark.slow
def test_lab_rewards_lose_only_the_probes_on_their_cards():
    """The lab's mix, and what else benchmarks/reward_quality.py asks of the lab's models and engines."""
    sys.path.insert(0, str(LAB.parents[2] / "benchmarks"))
    try:
        from reward_quality import LAB as MORE
        from reward_quality import PAIRS, REFERENCES
    finally:
        sys.path.pop(0)
    config = load_config(GRPOConfig, LAB, [])
    elsewhere = {"aloha", "vqa_score", "pick_score"}  # their cards speak of models that are not the lab's
    more = {
        name: {**entry, "weight": 1.0}
        for name, entry in MORE.items()
        if name not in elsewhere and not {PAIRS, REFERENCES} & {str(v) for v in entry.get("params", {}).values()}
    }
    mix = mix_entries(config.mix) | more
    found = probe(GRPOConfig.parse({**config.model_dump(), "mix": mix}), 42, "test").findings
    file = {
        name: find(entry["reward"]).name
        if ":" not in entry["reward"]
        else entry["reward"].removeprefix("rlcap.rewards.").partition(":")[0]
        for name, entry in mix.items()
    }
    lost = {name: {p for p, by in found.items() if by[name].wins > 0.05} - set(find(file[name]).fails) for name in mix}
    assert not {name: probes for name, probes in lost.items() if probes}


def test_an_abstention_is_not_a_win():
    rows = [
        Row(0, GOOD, "a", {"total": 0.0, "x": float("nan")}, float("nan")),
        Row(0, "empty", "", {"total": 0.0, "x": 1.0}, float("nan")),
    ]
    found = make_report(rows, [], {"total": 0.0, "x": 0.0})
    assert found.findings["empty"]["x"].n == 0
    assert found.agreement == {}
    assert "abstains" in describe_report(found, 0.05)


@pytest.mark.parametrize("card", cards(), ids=lambda card: card.name)
def test_cards_name_existing_probes(card):
    assert set(card.fails) <= set(PROBES)


@pytest.mark.parametrize("command", ["probe", "rewards", "cider"])
def test_the_commands_have_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    assert "usage: rlcap" in capsys.readouterr().out


@pytest.mark.parametrize("config", ["lab.yaml", "lab_oracle.yaml"])
def test_the_labs_mixes_pass(config, capsys):
    if not all((ASSETS / name).is_dir() for name in ("captioner", "retriever", "nli")):
        pytest.skip("lab assets are not built")
    assert cli.main(["probe", str(LAB.with_name(config)), "--count", "28"]) == 0
    assert "passed: no probe wins on more than 5% of the images" in capsys.readouterr().out


def test_the_command(tmp_path, capsys):
    out = tmp_path / "deep" / "found.json"
    assert (
        cli.main(["probe", "rlcap.rewards.length:Length", "--count", "7", "--threshold", "1", "--json", str(out)]) == 0
    )
    assert "probe" in capsys.readouterr().out
    assert json.loads(out.read_text())["images"] == 7
    assert cli.main(["probe", "rlcap.rewards.length:Length", "mix.length.weight=-1", "--count", "7"]) == 1
    assert "failed: empty 100%" in capsys.readouterr().out
    assert cli.main(["probe", "rlcap.rewards.length:Lenght"]) == 2
    assert "did you mean 'Length'" in capsys.readouterr().err
    assert cli.main(["probe", str(LAB), "--split", "tset"]) == 2
    assert "the lab has train" in capsys.readouterr().err


def test_the_command_reads_your_own_data(tmp_path, capsys):
    from PIL import Image

    rows = []
    for shade, sample in enumerate(photo_texts()):
        Image.new("L", (8, 8), shade).save(tmp_path / sample.image)
        rows.append(
            {"id": sample.id, "image": sample.image, "references": sample.references, "paragraph": sample.paragraph}
        )
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = [
        f"data.source={tmp_path / 'rows.jsonl'}",
        "data.train=null",
        "data.validation=0",
        "data.test=7",
    ]
    assert cli.main(["probe", "rlcap.rewards.length:Length", *data]) == 0
    assert f"share of {len(rows)} images" in capsys.readouterr().out  # nothing is held out of a file
    assert cli.main(["probe", "rlcap.rewards.length:Length", "--split", "test", *data]) == 0
    assert "share of 7 images" in capsys.readouterr().out
    assert cli.main(["probe", "rlcap.rewards.length:Length", "--split", "validation", *data]) == 2
    assert "the configured data has train, test" in capsys.readouterr().err


def test_a_file_without_data_is_probed_on_the_lab(tmp_path, capsys):
    mix = tmp_path / "mix.yaml"
    mix.write_text("mix: {length: {reward: length}}")
    assert cli.main(["probe", str(mix), "--count", "7", "--threshold", "1"]) == 0
    told = capsys.readouterr().out
    assert "mix.yaml names no data.source: the images of the lab are used." in told
    assert "share of 7 images" in told


def test_the_default_mix_keeps_out_the_crude_hacks(capsys):
    if not all((ASSETS / name).is_dir() for name in ("retriever", "nli")):
        pytest.skip("lab assets are not built")
    cli.main(["probe", str(LAB), "--count", "14", "--threshold", "1"])
    table = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines() if line.split()[:1]}
    for name in ("empty", "one_word", "repeated", "echo", "other_image", "generic", "rambling", "foreign"):
        assert table[name] == "·", (name, table[name])


def test_one_reward_is_probed_with_its_own_defaults(tmp_path):
    found = {}
    for name in ("length", "rlcap.rewards.length:Length", str(LAB.parents[2] / "rewards" / "length.py") + ":Length"):
        out = tmp_path / "found.json"
        cli.main(["probe", name, "--count", "7", "--threshold", "1", "--json", str(out)])
        found[name] = json.loads(out.read_text())["findings"]
    first, *others = found.values()
    assert all(other == first for other in others)
    assert set(first["empty"]) == {"total", "length"}
