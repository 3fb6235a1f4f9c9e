"""Experts with models of the real classes: small ones with random weights, those of the lab, and RapidOCR with its own weights."""

import importlib.util

import numpy as np
import pytest
import tiny
import torch
from fusion import photo
from PIL import Image, ImageDraw, ImageFont

from rlcap.errors import ConfigError
from rlcap.experts.attributes import Attributes
from rlcap.experts.base import ExpertInput, Statement
from rlcap.experts.captioners import Captioner, RegionCaptions
from rlcap.experts.detector import Detector
from rlcap.experts.ocr import OCR
from rlcap.experts.tagger import Classifier, Tagger
from rlcap.judge.image_crops import WHOLE_IMAGE, Box
from rlcap.types import Sample


def inputs(folder, count=2, known=()):
    shapes = [(40, 30), (64, 64), (30, 90)]
    paths = []
    for i in range(count):
        path = photo(folder / f"{i}.png", i)
        Image.open(path).resize(shapes[i % 3]).save(path)
        paths.append(path)
    return [ExpertInput(Sample(str(i), str(path)), tuple(known)) for i, path in enumerate(paths)]


def check_objects(found, names):
    boxes = [one for row in found for one in row]
    assert boxes
    for one in boxes:
        assert one.kind == "object"
        assert one.text in names
        assert one.box.left < one.box.right <= 1
        assert one.box.top < one.box.bottom <= 1
    for row in found:
        assert [one.score for one in row] == sorted((one.score for one in row), reverse=True)


def test_a_detector_with_classes_of_its_own(tmp_path):
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

    torch.manual_seed(0)
    config = YolosConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=[64, 64],
        patch_size=16, num_detection_tokens=5, id2label={0: "dog", 1: "cat"}, label2id={"dog": 0, "cat": 1},
    )  # fmt: skip
    YolosForObjectDetection(config).save_pretrained(tmp_path / "yolos")
    YolosImageProcessor(size={"height": 64, "width": 64}, do_pad=False).save_pretrained(tmp_path / "yolos")
    found = Detector(str(tmp_path / "yolos"), threshold=0.0).describe(inputs(tmp_path, 3))
    assert len(found) == 3
    check_objects(found, {"dog", "cat"})
    assert Detector(str(tmp_path / "yolos"), threshold=0.999).describe(inputs(tmp_path, 1)) == [[]]


def test_a_detector_by_names(tmp_path):
    from transformers import (
        CLIPTokenizerFast,
        OwlViTConfig,
        OwlViTForObjectDetection,
        OwlViTImageProcessor,
        OwlViTProcessor,
    )

    torch.manual_seed(0)
    config = OwlViTConfig(
        text_config={"vocab_size": 60, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
                     "num_attention_heads": 2, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0},
        vision_config={"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                       "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )  # fmt: skip
    model = OwlViTForObjectDetection(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # the random weights of this class give boxes without area
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(tmp_path / "owl")
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = {
        word: i
        for i, word in enumerate(["<|endoftext|>", "<|startoftext|>", *letters, *(f"{one}</w>" for one in letters)])
    }
    words = CLIPTokenizerFast(vocab=vocabulary, merges=[], model_max_length=16)
    reader = OwlViTImageProcessor(size={"height": 64, "width": 64}, crop_size={"height": 64, "width": 64})
    OwlViTProcessor(reader, words).save_pretrained(tmp_path / "owl")
    found = Detector(str(tmp_path / "owl"), labels=["dog", "red cat"], threshold=0.0).describe(inputs(tmp_path, 2))
    assert len(found) == 2
    check_objects(found, {"dog", "red cat"})


def test_a_model_that_is_no_detector_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"detector '.*nothing'.*no such file or folder"):
        Detector(str(tmp_path / "nothing")).describe(inputs(tmp_path, 1))


def test_a_classifier(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    labels = {0: "tabby, tabby cat", 1: "beagle", 2: "bus"}
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16,
        id2label=labels, label2id={name: i for i, name in labels.items()},
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    found = Classifier(str(tmp_path / "vit"), most=2, threshold=0.0).describe(inputs(tmp_path, 2))
    assert [len(row) for row in found] == [2, 2]
    assert {one.text for row in found for one in row} <= {"tabby", "beagle", "bus"}
    assert all(row[0].score >= row[1].score for row in found)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    tiny.retriever(folder)
    return f"local-dir:{folder / 'clip'}"


def test_a_tagger_over_a_vocabulary(tmp_path, clip):
    words = ["ball", "boat", "fish", "tree"]
    found = Tagger(clip, vocabulary=words, most=3, threshold=0.0).describe(inputs(tmp_path, 2))
    assert [len(row) for row in found] == [3, 3]
    assert {one.kind for row in found for one in row} == {"tag"}
    everything = Tagger(clip, vocabulary=words, most=9, threshold=0.0).describe(inputs(tmp_path, 1))[0]
    assert sum(one.score for one in everything) == pytest.approx(1, abs=1e-3)
    (tmp_path / "words.txt").write_text("ball\n\nred  boat\nball\n")
    assert Tagger(clip, vocabulary=str(tmp_path / "words.txt")).words == ["ball", "red boat"]
    assert len(Tagger(clip).words) == 80


def test_tags_are_right_where_the_model_is_good(tmp_path):
    samples = tiny.lab_samples(tmp_path, 14)
    grounds = ["grass", "sand", "water", "snow", "brick", "wood"]
    tagger = Tagger("lab:judge-retriever", vocabulary=grounds, template="the background is {}.", most=1)
    found = tagger.describe([ExpertInput(sample) for sample in samples])
    assert [row[0].text for row in found] == [sample.meta["scene"]["background"] for sample in samples]


def test_attributes_of_boxes(tmp_path, clip):
    known = [
        Statement("ball", "object", "d", 0.9, Box(0, 0, 0.5, 0.5)),
        Statement("all", "object", "d", 0.8, WHOLE_IMAGE),
    ]
    one, two = inputs(tmp_path, 2, known)
    groups = {"size": ["small", "large"], "fill": ["plain", "striped", "dotted"]}
    found = Attributes(clip, groups=groups, threshold=0.0).describe([one, ExpertInput(two.sample)])
    assert [statement.kind for statement in found[0]] == ["attribute"] * 2
    assert [statement.text.split()[-1] for statement in found[0]] == ["ball"] * 2
    assert found[0][0].box == known[0].box
    assert found[1] == []
    assert Attributes(clip).describe([ExpertInput(two.sample)]) == [[]]


def test_captioners_and_captions_of_regions(tmp_path):
    samples = tiny.lab_samples(tmp_path, 3)
    options = {
        "model": "lab:captioner",
        "adapter": "lab:adapter",
        "instruction": "describe the image in detail .",
        "max_new_tokens": 24,
    }
    captioner = Captioner(**options, device="cpu")
    found = captioner.describe([ExpertInput(sample) for sample in samples])
    assert [row[0].kind for row in found] == ["caption"] * 3
    assert all(row[0].text.startswith("there is") for row in found)
    known = (Statement("ball", "object", "d", 0.9, Box(0, 0, 0.5, 0.5)),)
    regions = RegionCaptions(**options, windows=2, device="cpu")
    regions._captioner = captioner._captioner  # the same weights need not be loaded twice
    found = regions.describe([ExpertInput(samples[0], known), ExpertInput(samples[1])])
    assert [len(row) for row in found] == [5, 4]
    assert found[0][0].box == Box(0, 0, 0.5, 0.5)
    assert {one.kind for row in found for one in row} == {"region"}


@pytest.mark.skipif(importlib.util.find_spec("rapidocr_onnxruntime") is None, reason="needs rapidocr-onnxruntime")
def test_written_text_is_read_with_its_place(tmp_path):
    image = Image.new("RGB", (400, 200), "white")
    ImageDraw.Draw(image).text((20, 120), "HELLO 42", fill="black", font=ImageFont.load_default(48))
    image.save(tmp_path / "sign.png")
    Image.fromarray(np.full((50, 50, 3), 127, np.uint8)).save(tmp_path / "grey.png")
    ocr = OCR()
    found = ocr.describe([ExpertInput(Sample(name, str(tmp_path / f"{name}.png"))) for name in ("sign", "grey")])
    assert [one.text.replace(" ", "") for one in found[0]] == ["HELLO42"]
    assert found[0][0].kind == "text"
    assert found[0][0].score > 0.7
    assert found[0][0].box.top > 0.5
    assert found[1] == []


def test_ocr_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "rlcap\[ocr\]"'):
        OCR()
