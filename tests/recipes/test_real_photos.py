"""The recipes on real photos: random splits, frozen batch norms, no validation split, and a complete run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from rlcap.config.schema import DataConfig, EvaluationConfig, GRPOConfig
from rlcap.data.bags import BagFile
from rlcap.data.source import load_splits
from rlcap.errors import ConfigError
from rlcap.types import Sample

ROOT = Path(__file__).parents[2]
COCO = ROOT.parent / "shared" / "real" / "coco"


def rows_on_disk(folder: Path, n: int) -> Path:
    """n tiny photos sorted by what they show: the first half is one class, the second another."""
    lines = []
    for i in range(n):
        Image.new("RGB", (8 + i, 6), (i, 0, 0)).save(folder / f"{i}.png")
        lines.append(
            json.dumps({"id": f"{i:03}", "image": f"{i}.png", "references": ["a cat" if i < n // 2 else "a dog"]})
        )
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return folder / "rows.jsonl"


def splits_of(source: Path, **changes) -> dict[str, list[Sample]]:
    return load_splits(DataConfig(**{"source": str(source), "train": None, **changes}))[0]


def test_splits_of_a_sorted_source_are_random_and_disjoint(tmp_path):
    splits = splits_of(rows_on_disk(tmp_path, 60), validation=14, test=16, train=20)
    ids = {name: {sample.id for sample in rows} for name, rows in splits.items()}
    assert {name: len(found) for name, found in ids.items()} == {"train": 20, "validation": 14, "test": 16}
    assert len(set.union(*ids.values())) == 50
    for rows in splits.values():  # taken from an end, each would hold one class alone
        assert {sample.references[0] for sample in rows} == {"a cat", "a dog"}


def test_more_training_images_do_not_change_the_held_out_images(tmp_path):
    source = rows_on_disk(tmp_path, 30)
    few, all_of_them = splits_of(source, validation=3, test=5, train=4), splits_of(source, validation=3, test=5)
    assert few["test"] == all_of_them["test"]
    assert few["validation"] == all_of_them["validation"]
    assert len(all_of_them["train"]) == 22


def test_holding_out_all_images_is_rejected_with_their_number(tmp_path):
    with pytest.raises(ConfigError, match="hold out 8 of 8"):
        splits_of(rows_on_disk(tmp_path, 8), validation=4, test=4)


def test_the_start_says_when_held_out_images_have_no_bags_left(tmp_path):
    source = rows_on_disk(tmp_path, 20)
    ids = [f"{i:03}" for i in range(20)]
    for neighbours, few in ((2, True), (19, False)):
        lists = {id: tuple(ids[:i] + ids[i + 1 :])[:neighbours] for i, id in enumerate(ids)}
        BagFile("tester", {"hard": lists}).write(tmp_path / "bags.json")
        config = DataConfig(source=str(source), train=None, validation=0, test=6, bags=str(tmp_path / "bags.json"))
        splits, lines = load_splits(config)
        assert ("6 images of test have no bag of 5: mine with more --neighbours" in "\n".join(lines)) == few
    assert {len(sample.distractors["hard"]) for sample in splits["test"]} == {5}


def test_references_take_turns_and_a_missing_target_is_reported():
    from rlcap.train.sft import Captions

    rows = [Sample(name, f"{name}.jpg", tuple(f"{name}{k}" for k in range(5))) for name in ("a", "b")]
    seen = [[], [], []]
    for texts, seed in zip(seen, (0, 0, 1), strict=True):
        captions = Captions(rows, "references", seed)
        for captions.epoch in range(10):
            texts.append(captions[0]["text"])
    assert seen[0] == seen[1] != seen[2]
    assert sorted(seen[0][:5]) == sorted(seen[0][5:]) == [f"a{k}" for k in range(5)]
    with pytest.raises(ConfigError, match=r"'a' has no paragraph; set train\.target"):
        Captions(rows, "paragraph", 0)
    with pytest.raises(ConfigError, match="got 'reference'"):
        Captions(rows, "reference", 0)


def test_batch_norm_keeps_its_statistics_in_training_whether_or_not_it_is_trained():
    from rlcap.policy.loading import freeze_batch_norm_statistics

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3), torch.nn.Dropout())
    model[0].requires_grad_(False)
    freeze_batch_norm_statistics(model)
    model.train()
    model(torch.randn(4, 3, 5, 5) + 7)
    assert model[0].running_mean.tolist() == [0, 0, 0]
    assert model[1].running_mean.tolist() == [0, 0, 0]
    assert not model[0].training
    assert not model[1].training  # its weight and bias are trained, by the statistics that captions are sampled with
    assert model[2].training


def test_without_validation_the_panel_shows_test_images(tmp_path):
    from rlcap.train.evaluation import Evaluation, build_evaluator

    rows = [Sample(str(i), f"{i}.jpg") for i in range(4)]
    evaluation = Evaluation(None, None, None, {"train": rows, "test": rows[2:]}, None, EvaluationConfig(panel=1))
    assert evaluation.panel == rows[2:][evaluation.panel_rows[0] :][:1]
    assert evaluation(20, False) is None  # in between there is nothing to read: the trainer is not even asked
    with pytest.raises(ConfigError, match=r"data\.test"):
        build_evaluator(GRPOConfig(), {"train": rows}, "", None, "cpu")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """What benchmarks/real_photos.py makes instead of downloading, after two steps each: it sees nothing, but loads."""
    work = tmp_path_factory.mktemp("models")
    Image.effect_noise((64, 48), 80).convert("RGB").save(work / "a.png")
    rows = [Sample("a", str(work / "a.png"), ("A dog runs on grass.", "The dog is running."))]
    texts = [["A man rides a wave.", "A surfer on a wave."], ["Two cats on a sofa.", "Cats sleep."]]
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from photo_models import build
    finally:
        sys.path.pop(0)
    build(work, rows, texts, None, lambda _: None, scale=0)
    return work


@pytest.fixture
def photos(tmp_path) -> list[str]:
    """A big photo, a grey one, one that lies on its side by EXIF, and a narrow one with transparency."""
    Image.effect_noise((4000, 3000), 60).convert("RGB").save(tmp_path / "big.jpg", quality=30)
    Image.effect_noise((64, 48), 60).convert("L").save(tmp_path / "grey.jpg")
    lying = Image.new("RGB", (60, 40), "red")
    exif = lying.getexif()
    exif[274] = 6
    lying.save(tmp_path / "lying.jpg", exif=exif)
    Image.new("RGBA", (20, 90), (0, 0, 255, 128)).save(tmp_path / "narrow.png")
    return [str(tmp_path / name) for name in ("big.jpg", "grey.jpg", "lying.jpg", "narrow.png")]


def test_photos_of_any_size_and_mode_share_a_batch(models, photos, tmp_path):
    from transformers import TrainingArguments

    from rlcap.config.schema import ModelConfig
    from rlcap.eval.captioning import caption_samples
    from rlcap.policy.loading import load_policy
    from rlcap.policy.visual_tokens import count_visual_tokens
    from rlcap.train.sft import CaptionCollator, SFTTrainer

    policy = load_policy(ModelConfig(base=str(models / "captioner"), adapter=None, lora_rank=2))
    assert count_visual_tokens(policy.captioner, photos).tolist() == [36] * 4
    batch = CaptionCollator(policy.captioner, "Describe.")([{"image": path, "text": "A red wall."} for path in photos])
    learnt = batch["labels"][0][batch["labels"][0] != -100]
    assert policy.processor.tokenizer.decode(learnt) == " A red wall.</s>"
    policy.model.train()
    before = {name: value.clone() for name, value in policy.model.named_buffers() if "running" in name}
    trainer = SFTTrainer(policy, "Describe.", args=TrainingArguments(tmp_path / "out", report_to="none", use_cpu=True))
    trainer.compute_loss(policy.model, batch).backward()
    assert before  # the tower normalises by batch norms; none of them moved
    assert all(torch.equal(value, before[name]) for name, value in policy.model.named_buffers() if name in before)
    rows = [Sample(path, path) for path in photos]
    together = caption_samples(policy.model, policy.processor, rows, instruction="Describe.", max_new_tokens=4)
    alone = [
        caption_samples(policy.model, policy.processor, [row], instruction="Describe.", max_new_tokens=4)[0]
        for row in rows
    ]
    assert together == alone


def test_retrievers_load_by_the_local_schema(models, photos, tmp_path):
    from rlcap.scorers.clip import ClipScorer

    for name, width in (("reward", 128), ("evaluation", 160)):
        scorer = ClipScorer.load(f"local-dir:{models / name}", cache_dir=tmp_path / "cache")
        assert scorer.image_embeddings(photos).shape == (4, width)
        assert scorer.text_embeddings(["A dog. A cat."]).vectors.norm().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not COCO.is_dir(), reason="the COCO photos are not beside the checkout")
def test_the_recipes_run_on_real_photos_by_config_and_paths_alone(models, tmp_path):
    nli = COCO.parent / "nli-minilm"
    data = [
        f"data.source={COCO / 'annotations' / 'captions_val2017.json'}",
        f"data.image_root={COCO / 'images'}",
        *("data.train=4", "data.validation=3", "data.test=8", f"model.base={models / 'captioner'}"),
    ]

    def run(*command: str) -> str:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    folder, sft = tmp_path / "grpo", tmp_path / "sft"
    output = run(
        "recipes/sft.py", "--config", "recipes/configs/photos_sft.yaml", f"--output_dir={sft}", *data, "train.steps=2",
        "train.batch_size=4", "train.micro_batch=4",
    )  # fmt: skip
    assert "skipped 4,841 rows (4,841 missing image)" in output
    assert "visual tokens per image: median 36" in output
    run(
        "-m", "rlcap.cli.main", "bags", "mine", data[0].split("=")[1], "--image-root", str(COCO / "images"), "--on-bad=skip",
        "--clip", f"local-dir:{models / 'reward'}", "--neighbours=150", "--near-identical=1", "--out", str(tmp_path / "bags.json"),
    )  # fmt: skip
    run(
        "recipes/grpo.py", "--config", "recipes/configs/photos_grpo.yaml", f"--output_dir={folder}", *data,
        "train.steps=2", "train.images_per_step=2", "train.captions_per_image=2", "train.micro_batch=4",
        f"data.bags={tmp_path / 'bags.json'}", f"model.adapter={sft / 'adapter'}", "generation.max_new_tokens=6",
        f"mix.self_retrieval.params.clip=local-dir:{models / 'reward'}", f"mix.hallucination.params.nli={nli}",
        f"mix.coverage.params.encoder={nli}", "mix.grammar.params.model=lab:grammar",
        f"evaluation.retriever=local-dir:{models / 'evaluation'}",
    )  # fmt: skip
    summary = json.loads((folder / "summary.json").read_text())
    last = summary["evaluations"][-1]
    assert {"bag5_recall_at_1", "rd8_recall_at_1", "cider_d", "mean_words", "repetition"} <= set(last["metrics"])
    assert "hallucination_rate" not in last["metrics"]  # nobody knows the truth of a photo
    assert summary["steps"] == 2
    page = (folder / "report.html").read_text()
    assert page.count("data:image/") >= 6
    assert len(page) < 3_000_000
