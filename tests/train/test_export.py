"""Exports: a merged model says what base and adapter say, and an upload is private, checked and told in one line."""

import json
import shutil
from pathlib import Path

import captioners
import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from tiny import lab_samples
from transformers import AutoModelForImageTextToText, AutoProcessor

from rlcap import load_captioner
from rlcap.cli import main as cli
from rlcap.config.schema import ModelConfig
from rlcap.io.addresses import resolve_address
from rlcap.lab.assets import ASSETS
from rlcap.policy.loading import load_policy

ASK = {"instruction": "describe the image in detail .", "max_new_tokens": 40, "device": "cpu"}


def write_run(folder, model, adapter):
    """A run folder as training leaves it, with the adapter of another place as its result."""
    shutil.copytree(adapter, folder / "adapter")
    config = {
        "model": model,
        "data": {"source": "rlcap.lab.source:LabSource"},
        "generation": {"max_new_tokens": 40},
        "train": {"steps": 2},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "run.json").write_text(json.dumps({"recipe": "grpo", "seed": 0}))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    if not (ASSETS / "captioner").is_dir() or not (ASSETS / "adapter").is_dir():
        pytest.skip("the lab's captioner and adapter are not built: rlcap lab build")
    model = {"base": "lab:captioner", "adapter": None}
    return write_run(tmp_path_factory.mktemp("export") / "run", model, resolve_address("lab:adapter"))


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr("huggingface_hub.is_offline_mode", lambda: False)


class FakeHub:
    """Stands for huggingface_hub's client, and remembers what it was asked for."""

    calls: list
    private = True
    error: Exception | None = None

    def create_repo(self, name, **options):
        if self.error:
            raise self.error
        self.calls.append(("create", name, options))
        return f"https://huggingface.co/{name}"

    def model_info(self, name):
        return type("Info", (), {"private": self.private})

    def upload_folder(self, **options):
        files = {path.name for path in Path(options["folder_path"]).iterdir()}
        self.calls.append(("upload", options["repo_id"], files))


@pytest.fixture
def hub(monkeypatch, online):
    fake = type("Hub", (FakeHub,), {"calls": []})
    monkeypatch.setattr(huggingface_hub, "HfApi", fake)
    return fake


def test_the_merged_model_says_what_base_and_adapter_say(run, tmp_path, capsys):
    images = [sample.image for sample in lab_samples(tmp_path, 7)]
    assert cli.main(["export", str(run), "--merge", "--out", str(tmp_path / "merged")]) == 0
    assert "a complete model" in capsys.readouterr().out
    assert {"model.safetensors", "config.json", "generation_config.json", "README.md"} <= {
        p.name for p in (tmp_path / "merged").iterdir()
    }
    merged = load_captioner(tmp_path / "merged", **ASK).caption(images)
    assert merged == load_captioner("lab:captioner", "lab:adapter", **ASK).caption(images)
    assert merged != load_captioner("lab:captioner", **ASK).caption(images)
    card = ModelCard.load(tmp_path / "merged" / "README.md")
    assert card.data.library_name == "transformers"
    assert not list(tmp_path.glob(".merged*"))


def test_plain_transformers_loads_the_merged_model(run, tmp_path):
    out = tmp_path / "merged"
    assert cli.main(["export", str(run), "--merge", "--dtype", "bfloat16", "--out", str(out)]) == 0
    model, info = AutoModelForImageTextToText.from_pretrained(out, output_loading_info=True)
    assert model.dtype == torch.bfloat16
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert AutoProcessor.from_pretrained(out) is not None
    for path in out.glob("*.json"):
        assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize("family", ["vision_encoder_decoder", "qwen2_5_vl"])
def test_other_families_merge(family, tmp_path):
    captioners.build(family, tmp_path / "base")
    policy = load_policy(ModelConfig(base=str(tmp_path / "base"), lora_rank=4))
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    policy.model.save_pretrained(tmp_path / "adapter")
    run = write_run(tmp_path / "run", {"base": str(tmp_path / "base"), "adapter": None}, tmp_path / "adapter")
    assert cli.main(["export", str(run), "--merge", "--out", str(tmp_path / "merged")]) == 0
    Image.effect_noise((56, 56), 80).convert("RGB").save(tmp_path / "a.png")
    ask = {"instruction": "describe the image", "max_new_tokens": 12, "device": "cpu"}
    said = [load_captioner(*where, **ask).caption([tmp_path / "a.png"]) for where in (
        (tmp_path / "merged",), (tmp_path / "base", tmp_path / "adapter"), (tmp_path / "base",))]  # fmt: skip
    assert said[0] == said[1] != said[2]


def test_an_adapter_is_copied_with_its_card(run, tmp_path):
    assert cli.main(["export", str(run), "--out", str(tmp_path / "out")]) == 0
    weights = [folder / "adapter_model.safetensors" for folder in (tmp_path / "out", run / "adapter")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert ModelCard.load(tmp_path / "out" / "README.md").data.library_name == "peft"
    assert not (run / "adapter" / "README.md").exists()  # the run stays as it is


def test_an_edited_card_is_kept(run, tmp_path):
    edited = tmp_path / "run"
    shutil.copytree(run, edited)
    (edited / "adapter" / "README.md").write_text("---\nlicense: mit\n---\nmine")
    assert cli.main(["export", str(edited), "--out", str(tmp_path / "out")]) == 0
    assert ModelCard.load(tmp_path / "out" / "README.md").data.license == "mit"


def test_a_failed_export_leaves_nothing(run, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rlcap.train.export.flush_folder", fail)
    assert cli.main(["export", str(run), "--out", str(tmp_path / "out")]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a folder with --out DIR, or a repository with --push-to-hub OWNER/NAME"),
        (["--out", "x", "--dtype", "float32"], "--dtype is for --merge"),
        (["--out", "x", "--public"], "--public is for --push-to-hub"),
        (["--push-to-hub", "me/x"], "HF_HUB_OFFLINE=1 switches it off"),
        (["--push-to-hub", "not a name"], "write OWNER/NAME"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(run, arguments, message, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.is_offline_mode", lambda: True)
    assert cli.main(["export", str(run), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_folders_that_cannot_be_exported(run, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert cli.main(["export", str(run), "--out", str(tmp_path / "full")]) == 2
    assert "exists and is not empty; name a new folder" in capsys.readouterr().err
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(run / "config.yaml", unfinished)
    assert cli.main(["export", str(unfinished), "--out", str(tmp_path / "out")]) == 2
    assert "has no adapter, because the run did not end" in capsys.readouterr().err
    (unfinished / "adapter").mkdir()  # the result of model.trainable=full
    assert cli.main(["export", str(unfinished), "--merge", "--out", str(tmp_path / "out")]) == 2
    assert "is a complete model already, so leave out --merge" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_upload_is_private_unless_asked(run, hub, capsys):
    assert cli.main(["export", str(run), "--push-to-hub", "me/x"]) == 0
    assert capsys.readouterr().out == "https://huggingface.co/me/x\n"
    create, upload = hub.calls
    assert create == ("create", "me/x", {"private": True, "exist_ok": True})
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md"} <= upload[2]
    hub.private = False
    assert cli.main(["export", str(run), "--push-to-hub", "me/x"]) == 2
    assert "the repository exists and is public; add --public" in capsys.readouterr().err
    assert cli.main(["export", str(run), "--push-to-hub", "me/x", "--public"]) == 0
    assert hub.calls[-2][2]["private"] is False


def test_a_refused_upload_is_told_in_one_line(run, hub, capsys):
    import httpx

    for error in (
        httpx.ConnectError("no route to host"),
        huggingface_hub.errors.LocalTokenNotFoundError("Token is required\nmore"),
    ):
        hub.error = error
        assert cli.main(["export", str(run), "--push-to-hub", "me/x"]) == 2
        message = capsys.readouterr().err
        assert str(error).splitlines()[0] in message
        assert "hf auth login" in message
        assert message.count("\n") == 1


def test_an_adapter_on_a_local_base_is_no_use_on_the_hub(run, hub, tmp_path, capsys):
    local = tmp_path / "run"
    shutil.copytree(run, local)
    path = local / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(tmp_path)}))
    assert cli.main(["export", str(local), "--push-to-hub", "me/x"]) == 2
    assert "which nobody else has; upload the complete model with --merge" in capsys.readouterr().err
    assert hub.calls == []
