"""The lab's noisy experts, its templating fuser and its support by claims; and the whole fusion on the lab by one command."""

import json
import random

import numpy as np
import pytest
from tiny import lab_samples

from rlcap.cli.main import main
from rlcap.config.loading import load_config
from rlcap.config.supervised import SFTConfig
from rlcap.data.source import load_splits
from rlcap.errors import ConfigError, InputError
from rlcap.experts.base import ExpertInput
from rlcap.experts.statement import Statement
from rlcap.fuse.preset import load_preset
from rlcap.lab.oracles.claim_support import ClaimSupport
from rlcap.lab.oracles.noisy_expert import SceneExpert
from rlcap.lab.oracles.scene_reading import read_texts
from rlcap.lab.oracles.template_fuser import TemplateFuser, agreed_things, correct, fuse
from rlcap.lab.source import LabSource
from rlcap.lab.truth_metrics import truth_metrics
from rlcap.lab.world.language import vocabulary
from rlcap.lab.world.scene import scene_of
from rlcap.lab.world.truth import check_caption
from rlcap.types import Sample

CONFIG = "recipes/configs/lab_fuse.yaml"


def describe(samples, **options):
    return SceneExpert(**options).describe([ExpertInput(sample) for sample in samples])


def test_an_expert_without_errors_says_everything_about_the_things(tmp_path):
    for sample, found in zip(
        samples := lab_samples(tmp_path, 7), describe(samples, misreads=0.0, misses=0.0), strict=True
    ):
        scene = scene_of(sample)
        verdict = check_caption(" ".join(one.text for one in found), scene)
        assert verdict.wrong == []
        assert len(found) == len(scene.things) + 1
        assert len(verdict.stated) >= 5 * len(scene.things) + 1
        box = found[0].box
        assert (box.right - box.left, box.bottom - box.top) == pytest.approx((1 / 3, 1 / 3), abs=1e-3)


def test_the_stated_rates_of_errors_are_the_measured_ones(tmp_path):
    samples = lab_samples(tmp_path, 210)
    things = sum(len(sample.meta["scene"]["things"]) for sample in samples)
    missed = describe(samples, misreads=0.0, misses=0.3, background=False)
    assert 1 - sum(map(len, missed)) / things == pytest.approx(0.3, abs=0.05)
    grounds = describe(samples, misreads=0.2, misses=1.0)
    wrong = [
        row[-1].text != f"the background is {sample.meta['scene']['background']}."
        for row, sample in zip(grounds, samples, strict=True)
    ]
    assert np.mean(wrong) == pytest.approx(0.2, abs=0.07)


def test_experts_err_independently_and_each_always_in_the_same_way(tmp_path):
    samples = lab_samples(tmp_path, 14)
    assert describe(samples, seed=1) == describe(samples, seed=1)
    assert describe(samples, seed=1) != describe(samples, seed=2)
    assert describe(samples[3:], seed=1) == describe(samples, seed=1)[3:]
    with pytest.raises(ConfigError, match="shares in"):
        SceneExpert(misreads=2.0)
    with pytest.raises(ConfigError, match="weight"):
        SceneExpert(attributes=["weight"])
    with pytest.raises(InputError, match="has no scene"):
        describe([Sample("a", "a.png")])


def lines(**experts):
    return "\n".join(f"- {text} ({name}; score 0.90; centre)" for name, texts in experts.items() for text in texts)


def test_plain_fusion_joins_what_is_said_of_one_thing_and_believes_the_first():
    statements = lines(
        one=["there is a red ball at the top.", "the background is snow."],
        two=["there is a large blue ball at the top.", "there is a tree.", "the background is sand."],
    )
    assert (
        fuse({"statements": statements})
        == "there is a large red ball at the top. there is a tree. the background is snow."
    )
    both = fuse({"draft": lines(draft=["there are two boats. the boat is above the fish."]), "statements": statements})
    assert both.startswith(
        "there is a large red ball at the top. there is a tree. the boat is above the fish. there are two boats."
    )
    assert fuse({"statements": "(nothing)"}) == "there is something."


def test_correction_keeps_supported_sentences_and_adds_what_two_experts_say():
    statements = lines(
        one=["there is a large red ball at the top.", "there is a car."],
        two=["there is a small red ball at the top.", "the background is snow."],
        three=["there is a large blue ball at the top.", "the background is snow."],
    )
    fields = {
        "statements": statements,
        "paragraph": "there is a large green ball at the top. there is a car.",
        "unsupported": "- there is a large green ball at the top.",
    }
    assert correct(fields) == "there is a car. there is a large red ball at the top. the background is snow."


def test_a_thing_with_a_misread_place_joins_its_like():
    readings = [
        read_texts(["there is a large red ball at the top."]),
        read_texts(["there is a large red ball on the left side."]),
        read_texts(["there is a small green tree."]),
    ]
    (ball,) = agreed_things(readings)
    assert (ball.kind, ball.attributes) == ("ball", {"size": "large", "colour": "red"})


@pytest.mark.parametrize(
    ("sentence", "statements", "experts"),
    [
        ("there is a red ball.", (0, 1), 2),
        ("there is a large red ball.", (0, 1), 1),
        ("there is a large red ball at the top.", (0, 1), 1),
        ("there is a blue ball.", (), 0),
        ("the ball is above the boat.", (), 1),
        ("there are two boats.", (2, 3), 1),
        ("the background is snow.", (4,), 1),
        ("this is nice.", (), 0),
    ],
)
def test_support_by_claims(sentence, statements, experts):
    told = [
        Statement("there is a large red ball at the top.", "object", "one"),
        Statement("a red ball.", "object", "two"),
        Statement("there is a boat at the bottom.", "object", "one"),
        Statement("there is a boat on the left side.", "object", "one"),
        Statement("the background is snow.", "tag", "two"),
    ]
    ((found,),) = ClaimSupport().judge([[sentence]], [told])
    assert found.experts == experts
    if sentence != "there are two boats.":
        assert found.statements == statements


def test_the_fuser_sees_no_scene_and_refuses_a_prompt_without_statements():
    import asyncio

    from rlcap.judge.backends.base import JudgeRequest

    backend = TemplateFuser()
    assert not backend.reads_sample
    with pytest.raises(ValueError, match="delimited parts"):
        asyncio.run(backend.complete(JudgeRequest(("hello",), "", Sample("a", "a.png"))))


def fused(folder, mode, count, *more):
    out = folder / f"{mode}.jsonl"
    line = [
        "fuse",
        "rlcap.lab.source:LabSource",
        "--preset",
        CONFIG,
        "--out",
        str(out),
        "--cache",
        str(folder / "experts.sqlite"),
    ]
    assert main([*line, f"data.train={count}", f"verify.mode={mode}", "experts.draft.params.device=cpu", *more]) == 0
    return [json.loads(row) for row in out.read_text().splitlines()]


def test_verification_halves_the_false_claims_without_losing_facts(tmp_path, capsys):
    measured = {}
    for mode in ("none", "rewrite"):
        rows = fused(tmp_path, mode, 48)
        samples = [Sample(row["id"], row["image"], meta=row) for row in rows]
        metrics = truth_metrics([row["paragraph"] for row in rows], samples)
        measured[mode] = {
            name: float(metrics[name].mean()) for name in ("hallucination_rate", "fact_recall", "grammatical")
        }
    plain, verified = measured["none"], measured["rewrite"]
    assert verified["hallucination_rate"] < 0.2 * plain["hallucination_rate"]
    assert verified["fact_recall"] > plain["fact_recall"] - 0.03
    assert verified["grammatical"] == 1.0
    assert "sentences given back for rewriting" in capsys.readouterr().out


def test_the_labs_preset_takes_its_draft_for_no_evidence():
    assert "draft" not in load_preset(CONFIG).verify.evidence


def test_random_text_breaks_neither_the_fuser_nor_the_support():
    rng = random.Random(0)
    words = vocabulary()
    for _ in range(300):
        text = " ".join(rng.choices(words, k=rng.randint(1, 12)))
        statements = lines(one=[text], two=[" ".join(rng.choices(words, k=8))])
        paragraph = fuse({"draft": statements, "statements": statements})
        assert correct({"statements": statements, "paragraph": paragraph, "unsupported": f"- {paragraph}"})
        ClaimSupport().judge([[text]], [[Statement(text + " ball", "caption", "one")]])


def test_the_lab_learns_from_fused_paragraphs_with_its_truth(tmp_path):
    rows = tmp_path / "rows.jsonl"
    written = [
        {"id": f"train-0-{i:05d}", "image": "x.png", "paragraph": f"there is a ball. number {i}."} for i in (0, 2)
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in written))
    options = ["data.source=rlcap.lab.source:LabSource", "data.train=3", "data.validation=2", "data.test=0"]
    config = load_config(SFTConfig, None, [*options, f"data.options={{paragraphs: '{rows}'}}"])
    splits, lines = load_splits(config.data)
    assert [sample.paragraph for sample in splits["train"]] == [
        "there is a ball. number 0.",
        "there is a ball. number 2.",
    ]
    assert "scene" in splits["train"][0].meta
    assert "there is" in splits["validation"][0].paragraph
    assert lines == [f"lab: 2 train, 2 validation; the paragraphs of train are those of {rows}, which lacks 1 of 3"]
    rows.write_text(json.dumps({"id": "other", "paragraph": "x"}) + "\n")
    with pytest.raises(ConfigError, match="has no paragraph of the 3 training images"):
        LabSource(paragraphs=str(rows)).load_splits(config.data)
