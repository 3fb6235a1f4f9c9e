"""The build of the lab runs from end to end, at a scale that is too small for good models."""

import json

import pytest

from rlcap.lab.assets import NAMES


@pytest.mark.slow
def test_every_asset_is_built_and_loads(tmp_path):
    import open_clip
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoModelForSequenceClassification, AutoProcessor

    from rlcap.lab.build import build

    record = build(tmp_path, seed=3, scale=0.006, log=lambda line: None)
    assert set(record) == set(NAMES) == set(json.loads((tmp_path / "build.json").read_text()))
    for captioner, adapter in (("captioner", "adapter"), ("web-captioner", "web-adapter")):
        base = AutoModelForImageTextToText.from_pretrained(tmp_path / captioner)
        assert AutoProcessor.from_pretrained(tmp_path / captioner).chat_template
        assert PeftModel.from_pretrained(base, tmp_path / adapter).peft_config["default"].r == 16
    assert 0 <= record["web-captioner"]["verifier_accuracy"]["mean"] <= 1
    for name in ("retriever", "judge-retriever"):
        open_clip.create_model_and_transforms(f"local-dir:{tmp_path / name}")
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "nli").config.num_labels == 3
    assert not [path for path in tmp_path.iterdir() if path.name not in {*NAMES, "build.json"}]


def test_the_error_about_an_unknown_asset_lists_the_known_ones(tmp_path):
    from rlcap.lab.build import build

    with pytest.raises(ValueError, match="unknown asset captoner; known: captioner"):
        build(tmp_path, only=["captoner"])
