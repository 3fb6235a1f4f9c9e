"""The model card: what the hub reads, what a reader needs, and what must not be published."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from run_folder import write_run
from tiny import lab_samples

from rlcap.errors import InputError
from rlcap.train.model_card import model_card, read_card_files, write_model_card

PRIVATE = str(Path(__file__).resolve().parent / "private")
"""An absolute path, which a card must not show."""
CONFIG = {
    "model": {"base": "HuggingFaceTB/SmolVLM-256M-Instruct", "adapter": None, "trainable": "lora-language", "lora_rank": 16, "lora_alpha": 32},
    "data": {"source": f"{PRIVATE}/photos/captions.jsonl"},
    "generation": {"max_new_tokens": 160},
    "train": {"steps": 120, "learning_rate": 1e-5, "images_per_step": 8, "captions_per_image": 8, "beta": 0.02, "seed": 3},
    "evaluation": {"retriever": "ViT-B-16-SigLIP"},
    "mix": {
        "self_retrieval": {"reward": "self_retrieval", "weight": 0.5, "params": {"clip": "ViT-B-32"}},
        "critique": {
            "reward": "critique",
            "weight": 3.0,
            "params": {"judge": {"backend": {"type": "openai", "model": "gpt-4o-mini", "api_key": "sk-verysecretkey"}}},
        },
        "mine": {"reward": f"{PRIVATE}/my_rewards.py:Calm", "weight": 0.25, "params": {}},
        "left_out": None,
    },
}  # fmt: skip
RUN = {
    "versions": {"rlcap": "0.2.0", "trl": "1.16.0", "deepspeed": None}, "git": "0123abc+dirty", "recipe": "grpo", "seed": 3,
    "data": {"train": {"images": 2000, "fingerprint": "8ad3599916dc8784"}, "test": {"images": 14, "fingerprint": "2c5d873c08dfdaff"}},
    "trainable_parameters": 20480, "precision": "bf16", "processes": 2, "instruction": "Describe the image `in detail`.",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    return write_run(folder / "run", lab_samples(folder, 21))


@pytest.fixture
def run(made, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 16}))
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "run.json").write_text(json.dumps(RUN))
    return folder


def change(folder, **sections):
    values = CONFIG | {name: CONFIG[name] | new for name, new in sections.items()}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))


def test_the_hub_reads_the_metadata(run):
    path = write_model_card(run)
    assert ModelCard.load(path).data.to_dict() == {
        "base_model": "HuggingFaceTB/SmolVLM-256M-Instruct",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "image-text-to-text",
        "tags": ["rlcap", "image-captioning", "grpo", "lora"],
    }
    assert "\n# license:" in path.read_text()  # the user's to choose
    assert not list((run / "adapter").glob("*.part"))


def test_a_reader_learns_how_it_was_made_and_how_good_it_is(run):
    card = write_model_card(run).read_text()
    for part in (
        "| optimiser steps | `120 of 120` |", "| seed | `3` |", "| git commit | `0123abc+dirty` |", "| mixed precision | `bf16` |",
        "| `self_retrieval` | `self_retrieval` | 0.5 | `clip=ViT-B-32` |", "gpt-4o-mini", "| train | 2000 | `8ad3599916dc8784` |",
        "`rlcap 0.2.0, trl 1.16.0`", "**test**, 14 images", "--max-lora-rank 16", 'adapter="FOLDER"', "max_new_tokens=160",
        "PeftModel.from_pretrained", 'instruction="Describe the image `in detail`."',
    ):  # fmt: skip
        assert part in card, part
    assert "left_out" not in card
    assert "stopped" not in card
    values = json.loads((run / "summary.json").read_text())["changes"][0]["metrics"]["fact_recall"]
    shown = f"{100 * values['difference']['mean']:+.1f} points [{100 * values['difference']['low']:+.1f}".replace(
        "-", "−"
    )
    assert shown in card


def test_nothing_private_is_published(run):
    card = write_model_card(run).read_text()
    assert "sk-verysecretkey" not in card
    assert PRIVATE not in card
    assert "`my_rewards.py:Calm`" in card
    assert str(run) not in card


def test_a_stopped_run_says_so(run):
    change(run, train={"steps": 500})
    card = write_model_card(run).read_text()
    assert "**This run was stopped after step 120 of 500.**" in card
    assert "The training did not reach its end." in card


def test_a_local_base_is_no_name_of_the_hub(run, tmp_path):
    base = tmp_path / "secret-folder" / "captioner"
    base.mkdir(parents=True)
    change(run, model={"base": str(base)})
    text = write_model_card(run).read_text()
    assert ModelCard(text).data.base_model is None
    assert "secret-folder" not in text
    assert "the run names `captioner`, which is no name on the hub" in text


@pytest.mark.parametrize("address", ["lab:captioner", "a/b/c"])
def test_an_address_is_no_name_of_the_hub(run, address):
    change(run, model={"base": address})
    assert ModelCard.load(write_model_card(run)).data.base_model is None


def test_a_complete_model_needs_no_peft(run):
    (run / "adapter" / "adapter_config.json").unlink()
    change(run, model={"trainable": "full"})
    card = ModelCard.load(write_model_card(run))
    assert card.data.library_name == "transformers"
    assert card.data.base_model_relation == "finetune"
    assert "peft" not in card.text.split("## How to use it")[1]


def test_a_merged_adapter_is_a_complete_model(run):
    card = ModelCard(model_card(read_card_files(run), merged=True))
    assert card.data.library_name == "transformers"
    assert "merged into its base" in card.text


def test_sft_has_no_numbers(run):
    for name in ("summary.json", "panel.jsonl"):
        (run / name).unlink()
    (run / "run.json").write_text(json.dumps(RUN | {"recipe": "sft"}))
    card = write_model_card(run).read_text()
    assert "This recipe evaluates nothing" in card
    assert "by SFT" in card


def test_dpo_names_its_pairs(run):
    (run / "run.json").write_text(json.dumps(RUN | {"recipe": "dpo", "pairs": 70, "pairs_fingerprint": "00ff"}))
    values = CONFIG | {"pairs": f"{PRIVATE}/pairs.jsonl"}
    del values["mix"]
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    card = write_model_card(run).read_text()
    assert "| pairs of pairs.jsonl | 70 | `00ff` |" in card
    assert "reward mix" not in card


def test_hostile_text_breaks_no_table_and_no_block(run):
    (run / "run.json").write_text(json.dumps(RUN | {"instruction": "a\n```\n# owned\n<script>"}))
    change(run, data={"source": "x | y `z` <b>"})
    card = ModelCard.load(write_model_card(run))
    assert "`x \\| y 'z' <b>`" in card.text
    assert "\n```\n# owned" not in card.text


def test_a_mean_over_fewer_images_has_no_interval_of_all_images(run):
    summary = json.loads((run / "summary.json").read_text())
    summary["changes"][0]["metrics"]["fact_recall"]["n"] -= 1
    (run / "summary.json").write_text(json.dumps(summary))
    line = next(line for line in write_model_card(run).read_text().splitlines() if line.startswith("| Facts stated"))
    assert line.count("[") == 1


def test_a_folder_without_a_configuration_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is not a run folder: it has no config\.yaml"):
        write_model_card(tmp_path)
