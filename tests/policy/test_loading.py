"""A loading error is one line that names the key, the value and the fix."""

import shutil
from pathlib import Path

import pytest
import torch
from captioners import build, images
from safetensors.torch import load_file, save_file

from rlcap.config.schema import ModelConfig
from rlcap.errors import ConfigError
from rlcap.lab.assets import ASSETS
from rlcap.policy.loading import load_policy
from rlcap.scorers.clip import ClipScorer
from rlcap.scorers.grammar import AcceptabilityScorer
from rlcap.scorers.nli import NliScorer
from rlcap.scorers.sentence_vectors import SentenceEncoder


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"base": "/nowhere/captioner"},
            "model.base '/nowhere/captioner': there is no such file or folder",
        ),
        ({"base": "nobody/nothing"}, r"model.base 'nobody/nothing' .*give a model's folder or hub name"),
        ({"base": "lab:captoner"}, "model.base 'lab:captoner' can't be loaded: unknown lab asset 'captoner'; known:"),
        (
            {"base": "lab:captioner", "adapter": "/nowhere/adapter"},
            "model.adapter '/nowhere/adapter': there is no such file or folder",
        ),
        ({"base": "lab:captioner", "adapter": "lab:adaptr"}, "unknown lab asset 'adaptr'"),
    ],
)
def test_a_missing_model_is_reported(model, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_policy(ModelConfig(**model))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_reported(tmp_path):
    with pytest.raises(ConfigError, match=r"model.base '.*' can't be loaded: Unrecognized model in"):
        load_policy(ModelConfig(base=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"holds no adapter_config.json: it is not a peft adapter"):
        load_policy(ModelConfig(base="lab:captioner", adapter=str(tmp_path)))


def cut(asset, tmp_path):
    """The lab's asset, of whose weights only the first kilobyte was written."""
    folder = Path(shutil.copytree(ASSETS / asset, tmp_path / asset))
    (weights,) = folder.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    return str(folder)


def test_incomplete_weights_are_reported(tmp_path):
    with pytest.raises(ConfigError, match=r"model.base '.*captioner': its weights are broken or incomplete"):
        load_policy(ModelConfig(base=cut("captioner", tmp_path)))
    with pytest.raises(ConfigError, match=r"model.adapter '.*adapter': its weights are broken or incomplete"):
        load_policy(ModelConfig(base="lab:captioner", adapter=cut("adapter", tmp_path)))
    with pytest.raises(ConfigError, match=r"NLI model '.*nli': its weights are broken or incomplete"):
        NliScorer.load(cut("nli", tmp_path))
    with pytest.raises(ConfigError, match=r"CLIP '.*retriever': its weights are broken or incomplete"):
        ClipScorer.load(f"local-dir:{cut('retriever', tmp_path)}")


def lacking(asset, part, tmp_path):
    """The lab's asset, whose file lacks the weights with `part` in their name."""
    folder = Path(shutil.copytree(ASSETS / asset, tmp_path / asset))
    (file,) = folder.glob("*.safetensors")
    weights = load_file(file)
    assert any(part in name for name in weights)
    save_file({name: w for name, w in weights.items() if part not in name}, file, metadata={"format": "pt"})
    return str(folder)


def test_a_scorer_whose_file_lacks_weights_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"NLI model '.*nli' lacks \d+ tensors, such as classifier.*random numbers"):
        NliScorer.load(lacking("nli", "classifier", tmp_path))
    with pytest.raises(ConfigError, match=r"grammar model '.*grammar' lacks \d+ tensors, such as .*encoder"):
        AcceptabilityScorer.load(lacking("grammar", "encoder", tmp_path))


def test_an_encoder_may_lack_the_pooler_that_it_does_not_use(tmp_path):
    encoder = SentenceEncoder.load(lacking("nli", "pooler", tmp_path))
    assert encoder.vectors(["a dog"]).isfinite().all()


def test_a_base_in_four_bits_takes_a_lora(tmp_path):
    pytest.importorskip("bitsandbytes", reason='bitsandbytes is not installed: pip install -e ".[qlora]"')
    build("qwen2_5_vl", tmp_path)
    policy = load_policy(ModelConfig(base=str(tmp_path), adapter=None, load_in_4bit=True))
    kinds = {type(m.base_layer).__name__ for m in policy.model.modules() if hasattr(m, "base_layer")}
    assert kinds == {"Linear4bit"}
    captioner = policy.captioner
    prompts = captioner.prepare(images(2), "describe")
    written = captioner.generate(prompts, 2, max_new_tokens=4)
    shared, plain = (
        captioner.log_probs(prompts, written.ids, written.mask, shared=shared).log_probs for shared in (True, False)
    )
    assert torch.allclose(shared, plain, atol=1e-4)
    shared.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in policy.model.parameters())


def test_four_bits_need_bitsandbytes_and_a_lora(monkeypatch):
    with pytest.raises(ConfigError, match="choose a LoRA"):
        load_policy(ModelConfig(base="lab:captioner", adapter=None, load_in_4bit=True, trainable="full"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        load_policy(ModelConfig(base="lab:captioner", adapter=None, load_in_4bit=True))
