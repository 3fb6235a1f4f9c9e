"""The lab's trained models are complete, small and safe, load like any model, and are as good and as weak as intended.

The bounds are wide on purpose, to distinguish a trained model from a broken one. The README reports measured values.
"""

import json
import random
from dataclasses import replace

import pytest

from rlcap.errors import ConfigError
from rlcap.io.addresses import resolve_address
from rlcap.lab.assets import ASSETS, NAMES


def asset(name):
    """Return the folder of an asset; skip the test if the asset is not built."""
    if not (ASSETS / name).is_dir():
        pytest.skip(f"lab asset {name} is not built: rlcap lab build --only {name}")
    return resolve_address(f"lab:{name}")


def test_names_resolve_to_folders_and_everything_else_stays():
    assert resolve_address("ViT-B-32") == "ViT-B-32"
    assert resolve_address("local-dir:/some/where") == "local-dir:/some/where"
    with pytest.raises(ConfigError, match="unknown lab asset 'captoner'; known: captioner"):
        resolve_address("lab:captoner")
    nli = asset("nli")
    assert resolve_address("local-dir:lab:nli") == f"local-dir:{nli}"


def test_assets_are_small_and_hold_no_pickles():
    files = [path for name in NAMES for path in asset(name) and (ASSETS / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 15e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja", ".md", ".txt"}
    for path in files:
        if path.suffix in (".json", ".md"):
            assert "/home" not in path.read_text()
            assert "/tmp/" not in path.read_text()
            assert str(ASSETS.parents[2]) not in path.read_text()


@pytest.mark.parametrize(("captioner", "adapter"), [("captioner", "adapter"), ("web-captioner", "web-adapter")])
def test_the_captioners_load_like_any_model(captioner, adapter):
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    base = AutoModelForImageTextToText.from_pretrained(asset(captioner))
    processor = AutoProcessor.from_pretrained(asset(captioner))
    model = PeftModel.from_pretrained(base, asset(adapter))
    assert processor.tokenizer.eos_token_id is not None
    assert sum(p.numel() for n, p in model.named_parameters() if "lora" in n) > 0
    config = json.loads((ASSETS / adapter / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert config["base_model_name_or_path"] == f"lab:{captioner}"


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    from rlcap.lab.source import load_split

    return load_split("test", 84, 0, tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module", params=["", "web-"], ids=["knowing", "web"])
def captions(split, request):
    from rlcap.lab.models.quality import greedy_captions

    asset(f"{request.param}captioner"), asset(f"{request.param}adapter")
    return greedy_captions(f"lab:{request.param}captioner", f"lab:{request.param}adapter", split)


def test_maximum_likelihood_captions_are_grammatical_but_omit_and_hallucinate(split, captions):
    from rlcap.lab.world.scene import Scene
    from rlcap.lab.world.truth import check_caption, grammatical_share

    verdicts = [check_caption(c, Scene.from_json(s.meta["scene"])) for c, s in zip(captions, split, strict=True)]
    assert sum(map(grammatical_share, captions)) / len(captions) > 0.85
    recall = sum(v.recall for v in verdicts) / len(verdicts)
    claims = sum(len(v.claims) for v in verdicts)
    false = sum(len(v.wrong) for v in verdicts) / claims
    # Better than one caption for every image, and worse than the truth, so that reinforcement can improve it.
    assert 0.12 < recall < 0.5
    assert 0.05 < false < 0.65
    assert len(set(captions)) > len(captions) / 2


def test_the_base_web_captions_briefly_and_wrongly(split):
    from rlcap.lab.models.quality import caption_quality, greedy_captions

    asset("web-captioner")
    quality = caption_quality(greedy_captions("lab:web-captioner", None, split), split)
    assert quality["fact_recall"] < 0.3
    assert 0.05 < quality["hallucination_rate"] < 0.4
    assert 4 < quality["mean_words"] < 16
    assert quality["grammatical"] > 0.95


def test_the_base_web_verifies_sentences(split):
    from rlcap.lab.models.quality import verifier_accuracy
    from rlcap.lab.models.web_questions import CLAIMS
    from rlcap.scorers.vqa_yes_probability import YesProbabilityScorer

    accuracy = verifier_accuracy(YesProbabilityScorer.load(f"{asset('web-captioner')}"), split[:28])
    assert set(accuracy) == {*CLAIMS, "mean"}
    assert accuracy["mean"] > 0.65  # chance is 0.5
    assert min(accuracy[what] for what in ("object", "size", "fill", "background")) > 0.75


def test_both_bases_have_the_same_vision_encoder():
    from safetensors.torch import load_file

    knowing, web = (load_file(f"{asset(name)}/model.safetensors") for name in ("captioner", "web-captioner"))
    names = [name for name in knowing if "vision_tower" in name]
    assert len(names) > 20
    assert all(knowing[name].equal(web[name]) for name in names)


@pytest.mark.parametrize("name", ["lab", "lab_web", "lab_targets"])
def test_the_labs_configurations_ask_no_oracle(name):
    from rlcap.config.loading import load_config
    from rlcap.config.required import require_complete
    from rlcap.config.schema import GRPOConfig

    config = load_config(GRPOConfig, ASSETS.parents[2] / "recipes" / "configs" / f"{name}.yaml")
    require_complete(config)
    base = "lab:web-" if name == "lab_web" else "lab:"
    assert (config.model.base, config.model.adapter) == (f"{base}captioner", f"{base}adapter")
    assert "oracle" not in repr(config.mix).lower()


def recall_at_1(name, texts, split, size):
    """Return R@1 of texts for their images in bags of `size` with hard distractors of the split."""
    import open_clip

    from rlcap.scorers.clip import ClipScorer

    folder = f"local-dir:{asset(name)}"
    open_clip.create_model_and_transforms(folder)  # open_clip itself can also load it
    scorer = ClipScorer.load(folder)
    images, vectors = scorer.image_embeddings([s.image for s in split]), scorer.text_embeddings(texts).vectors
    row_of_id = {s.id: i for i, s in enumerate(split)}
    hits = []
    for i, sample in enumerate(split):
        near = [row_of_id[id] for id in sample.distractors["hard"] if id in row_of_id][: size - 1]
        similarity = images[[i, *near]] @ vectors[i]
        hits.append(bool((similarity[0] > similarity[1:]).all()))
    return sum(hits) / len(hits)


@pytest.fixture(scope="module")
def paragraphs(split):
    from rlcap.lab.world.language import describe_scene
    from rlcap.lab.world.scene import Scene

    return [describe_scene(Scene.from_json(s.meta["scene"]), random.Random(i)) for i, s in enumerate(split)]


def test_the_evaluation_retriever_is_better_than_the_rewards_and_differs_from_it(split, paragraphs):
    reward = recall_at_1("retriever", paragraphs, split, 5)
    evaluation = recall_at_1("judge-retriever", paragraphs, split, 5)
    assert reward > 0.3  # chance is 0.2, among siblings that differ in one or two attributes
    assert evaluation > 0.4
    assert evaluation > reward
    schemas = [
        json.loads((ASSETS / name / "open_clip_config.json").read_text()) for name in ("retriever", "judge-retriever")
    ]
    assert schemas[0]["model_cfg"] != schemas[1]["model_cfg"]


def test_the_rewards_retriever_hardly_depends_on_word_order(split):
    """Like real CLIP, it prefers a caption to one with a wrong noun, but hardly to one with exchanged nouns."""
    from rlcap.lab.world.language import describe_relation, relation_between
    from rlcap.lab.world.scene import Scene
    from rlcap.lab.world.vocabulary import KINDS
    from rlcap.scorers.clip import ClipScorer

    rows = []
    for i, sample in enumerate(split):
        scene, rng = Scene.from_json(sample.meta["scene"]), random.Random(i)
        one, two = scene.things[:2]
        absent = replace(two, kind=rng.choice([kind for kind in KINDS if not scene.count(kind)]))
        if one.kind != two.kind:
            relation = relation_between(one, two, rng)
            pairs = [(one, two), (two, one), (one, absent)]
            rows.append((sample.image, *(describe_relation(a, relation, b, ("colour",)) for a, b in pairs)))
    scorer = ClipScorer.load(f"local-dir:{asset('retriever')}")
    images = scorer.image_embeddings([row[0] for row in rows])
    right, exchanged, wrong = (
        (images * scorer.text_embeddings([r[k] for r in rows]).vectors).sum(1) for k in (1, 2, 3)
    )
    assert len(rows) > 35
    assert (right > wrong).float().mean() > 0.58
    assert (right > exchanged).float().mean() < 0.75
    assert (right - exchanged).mean() < 0.4 * (right - wrong).mean()


def test_the_nli_model_knows_the_language_of_the_lab():
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from rlcap.lab.models.nli import LABELS, sample_pair

    model = AutoModelForSequenceClassification.from_pretrained(asset("nli")).eval()
    tokenizer = AutoTokenizer.from_pretrained(asset("nli"))
    assert [model.config.id2label[i] for i in range(3)] == list(LABELS)
    rng = random.Random("held out")
    pairs = [sample_pair(rng, "test") for _ in range(300)]
    with torch.no_grad():
        inputs = tokenizer([p[0] for p in pairs], [p[1] for p in pairs], padding=True, return_tensors="pt")
        found = model(**inputs).logits.argmax(-1).tolist()
    right = sum(guess == pair[2] for guess, pair in zip(found, pairs, strict=True)) / len(pairs)
    assert right > 0.7  # always guessing the most frequent label gives 0.5
