"""Controls in training: GRPO draws them anew in each epoch and resumes exactly, SFT conditions on the row's own."""

import json

import pytest
import torch
from captioners import build, images
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText, AutoProcessor

from rlcap.config.schema import EvaluationConfig, GenerationConfig, GRPOConfig, PPOConfig, PPOTrainConfig, TrainConfig
from rlcap.config.supervised import SFTConfig, SFTTrainConfig
from rlcap.data.batching import plan
from rlcap.data.control import Instruction, instruct
from rlcap.data.curriculum import Constant
from rlcap.errors import ConfigError
from rlcap.eval.captioning import caption_samples
from rlcap.io.images import open_image
from rlcap.policy.loading import Policy, find_lora_modules
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.mix import RewardMix, RewardTerm
from rlcap.train.evaluation import Evaluation
from rlcap.train.grpo import GRPOTrainer
from rlcap.train.ppo import PPOTrainer
from rlcap.train.refine import write_training_sets
from rlcap.train.rollout import prepare_prompts
from rlcap.train.run_folder import RunFolder, fingerprint
from rlcap.train.sft import CaptionCollator, Captions, build_trainer
from rlcap.types import NO_CONTROL, Control, Sample, Score

WORDS = {"length": {length: f"word{length}" for length in range(1, 20)}, "style": {"plain": "word0"}}
INSTRUCTION = Instruction("describe", WORDS)
LENGTHS = {"length": {"uniform": [1, 19]}}


class Requested(Reward):
    """Higher the nearer the caption is to the requested length; it keeps what it was shown."""

    name, range, needs = "requested", (-100.0, 0.0), frozenset({"control"})

    def __init__(self):
        self.seen = []

    def score(self, batch):
        self.seen += [(sample.id, sample.control) for sample in batch.samples]
        return RewardOutput(
            [
                Score(-float(abs(len(caption.split()) - sample.control.length)))
                for caption, sample in zip(batch.captions, batch.samples, strict=True)
            ]
        )


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("controls")
    build("llava", folder / "model")
    for i, image in enumerate(images(4)):
        image.save(folder / f"{i}.png")
    return folder


def samples(material, control=NO_CONTROL):
    return [Sample(str(i), str(material / f"{i}.png"), ("a",), "a b c", control=control) for i in range(4)]


def policy(material):
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(material / "model")
    processor = AutoProcessor.from_pretrained(material / "model", padding_side="left")
    lora = LoraConfig(r=4, target_modules=find_lora_modules(model, "lora-language"))
    return Policy(get_peft_model(model, lora), processor, "tiny", None)


def trainer(material, tmp_path, kind=GRPOTrainer, controls=LENGTHS, instruction=INSTRUCTION, own=NO_CONTROL, **train):
    loaded = policy(material)
    configs = {GRPOTrainer: (GRPOConfig, TrainConfig), PPOTrainer: (PPOConfig, PPOTrainConfig)}
    config_kind, train_kind = configs[kind]
    settings = train_kind(
        **{"steps": 4, "images_per_step": 2, "captions_per_image": 4, "micro_batch": 4, "save_every": 2,
           "learning_rate": 1e-2, "iterations": 1, **train}
    )  # fmt: skip
    config = config_kind(generation=GenerationConfig(max_new_tokens=6, controls=controls), train=settings)
    folder = RunFolder(tmp_path / "run")
    folder.captions.mkdir(parents=True)
    return kind(
        loaded.model, loaded.processor, samples(material, own), config=config, batching=plan(2, 4, 4), folder=folder,
        mix=RewardMix({"requested": RewardTerm(Requested())}), curriculum=Constant(2), gallery={}, instruction=instruction,
    )  # fmt: skip


def rollouts(run):
    return [json.loads(line) for line in run.folder.rollouts(0).read_text().splitlines()]


@pytest.mark.parametrize("kind", [GRPOTrainer, PPOTrainer])
def test_a_group_has_one_drawn_control_that_rewards_and_rollouts_see(material, tmp_path, kind, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "rlcap.train.grpo.prepare_prompts",
        lambda captioner, rows, group, instruction: (
            asked.extend(captioner.instruct(instruction, [Control.parse(row["control"]) for row in rows])),
            prepare_prompts(captioner, rows, group, instruction),
        )[1],
    )
    run = trainer(material, tmp_path, kind)
    run.train()
    rows = rollouts(run)
    assert len(rows) == 32
    drawn = {}
    for row in rows:
        drawn.setdefault((row["step"], row["sample_id"]), set()).add(row["control"]["length"])
    assert all(len(lengths) == 1 for lengths in drawn.values())
    epochs = [{id: drawn[step, id] for step, id in drawn if (step > 2) == later} for later in (False, True)]
    assert epochs[0].keys() == epochs[1].keys() == {"0", "1", "2", "3"}
    assert epochs[0] != epochs[1]
    assert [control.length for _, control in run.mix.reward("requested").seen] == [
        row["control"]["length"] for row in rows
    ]
    assert asked == [f"describe word{row['control']['length']}" for row in rows]


@pytest.mark.parametrize("kind", [GRPOTrainer, PPOTrainer])
def test_a_resumed_run_draws_what_the_whole_run_drew(material, tmp_path, kind):
    whole = trainer(material, tmp_path / "a", kind)
    whole.train()
    checkpoint = whole.folder.checkpoints / "checkpoint-2"
    resumed = trainer(material, tmp_path / "b", kind)
    resumed.restore(checkpoint)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert rollouts(resumed) == [row for row in rollouts(whole) if row["step"] > 2] != []
    for (name, one), (_, other) in zip(whole.model.named_parameters(), resumed.model.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def test_a_replaced_group_has_a_control_of_its_own(material, tmp_path):
    run = trainer(material, tmp_path, refill=2)
    run.state.max_steps = 4
    used = {row["sample_id"] for row in run.generate_rollout(first_rows(run)).rows}
    row = run.round_rows.reserve(used, 0, 0, 0, run.stage, 0)
    drawn = run.round_rows.controls.draw(Control(), row["sample_id"], 0)
    assert json.loads(row["control"]) == {"length": drawn.length}


def first_rows(run):
    return [run.round_rows.complete(run.train_dataset[0], run.stage, 0) for _ in range(4)]


def test_a_drawn_value_takes_the_place_of_the_rows_own_only(material, tmp_path):
    run = trainer(material, tmp_path, controls={"length": [7]}, own=Control(length=2, style="plain"))
    run.state.max_steps = 4
    assert json.loads(first_rows(run)[0]["control"]) == {"length": 7, "style": "plain"}


def test_a_run_without_controls_trains_as_one_whose_rows_can_not_have_any(material, tmp_path, monkeypatch):
    """The instruction reaches the model as the very text, so that weights and captions are equal to the bit."""
    plain = {"controls": {}, "instruction": "describe"}
    monkeypatch.setattr(
        Requested, "score", lambda self, batch: RewardOutput([Score(-float(len(c))) for c in batch.captions])
    )
    one = trainer(material, tmp_path / "a", **plain)
    one.train()
    monkeypatch.setattr(
        "rlcap.train.grpo.prepare_prompts",
        lambda captioner, rows, group, instruction: captioner.prepare(
            [open_image(row["image_path"]) for row in rows[::group]], instruction
        ),
    )
    other = trainer(material, tmp_path / "b", **plain)
    other.train()
    assert rollouts(one) == rollouts(other)
    assert not any("control" in row for row in rollouts(one))
    for (name, mine), (_, its) in zip(one.model.named_parameters(), other.model.named_parameters(), strict=True):
        assert torch.equal(mine, its), name


def test_words_that_the_vocabulary_lacks_stop_a_run_at_its_start(material, tmp_path):
    with pytest.raises(ConfigError, match=r"lacks Use, about, 9, words\. of the instruction .* data\.control_phrases"):
        trainer(material, tmp_path, controls={"length": [9]}, instruction="describe")


def test_sft_teaches_each_caption_with_its_own_instruction(material):
    loaded = policy(material)
    rows = [
        {"image": str(material / "0.png"), "text": "a b c", "control": Control(length=3)},
        {"image": str(material / "1.png"), "text": "a b", "control": Control()},
    ]
    batch = CaptionCollator(loaded.captioner, INSTRUCTION)(rows)
    assert batch["instructions"] == ["describe word3", "describe"]


def test_sft_gives_each_row_the_loss_of_its_own_prompt(material, tmp_path):
    loaded = policy(material)
    config = SFTConfig(train=SFTTrainConfig(batch_size=2, micro_batch=2, steps=1))
    rows = samples(material, Control(length=3))
    sft = build_trainer(loaded, rows, config, INSTRUCTION, RunFolder(tmp_path))
    batch = sft.data_collator([sft.train_dataset[0], sft.train_dataset[1]])
    with torch.no_grad():
        loss = float(sft.compute_loss(loaded.model, batch))
        captioner = loaded.captioner
        labels = batch["labels"]
        prompts = captioner.prepare([open_image(path) for path in batch["images"]], "describe word3")
        wanted = -captioner.log_probs(prompts, labels, torch.ones_like(labels), shared=False).log_probs.mean()
        plain = captioner.prepare([open_image(path) for path in batch["images"]], "describe")
        without = -captioner.log_probs(plain, labels, torch.ones_like(labels), shared=False).log_probs.mean()
    assert loss == pytest.approx(float(wanted), rel=1e-5)
    assert loss != pytest.approx(float(without), rel=1e-5)


def test_sft_refuses_a_row_whose_control_has_no_words_before_it_starts(material, tmp_path):
    config = SFTConfig(train=SFTTrainConfig(batch_size=2, micro_batch=2, steps=1))
    rows = [
        *samples(material)[:3],
        Sample("x", str(material / "3.png"), paragraph="a", control=Control(style="ornate")),
    ]
    with pytest.raises(ConfigError, match="no words for 'ornate'"):
        build_trainer(policy(material), rows, config, INSTRUCTION, RunFolder(tmp_path))


def test_sft_draws_a_format_by_the_mixing_ratio(material):
    texts = {"SSC": "a b", "DSC": "a b c d", "DSC+": ""}
    rows = [
        Sample(str(i), "a.png", meta={"formats": texts}, control=Control(length=9, style="plain")) for i in range(600)
    ]
    data = Captions(rows, "formats", 0, {"SSC": 1, "DSC": 3, "DSC+": 5})
    first = [data[i] for i in range(600)]
    assert first == [data[i] for i in range(600)]
    assert sum(row["text"] == "a b" for row in first) / 600 == pytest.approx(0.25, abs=0.06)  # 3.4 standard errors
    wanted = {"a b": ("SSC", 2), "a b c d": ("DSC", 4)}  # the length is that of the text that is learned
    assert all((row["control"].format, row["control"].length) == wanted[row["text"]] for row in first)
    assert {row["control"].style for row in first} == {"plain"}
    data.epoch = 1
    assert first != [data[i] for i in range(600)]
    with pytest.raises(ConfigError, match="sample '0' has no formats"):
        Captions(rows, "formats", 0, {"DSC+": 1})


def test_a_mixing_ratio_needs_the_target_that_it_is_for():
    for values in ({"formats": {"SSC": 1}}, {"target": "formats"}, {"target": "formats", "formats": {"XXL": 1}}):
        with pytest.raises(ConfigError):
            SFTTrainConfig.parse(values, "train")


def test_a_reference_is_learned_with_its_own_length():
    rows = [Sample("a", "a.png", ("a b", "a b c d"), control=Control(length=99))]
    data = Captions(rows, "references", 0)
    seen = set()
    for data.epoch in range(2):
        seen.add((data[0]["text"], data[0]["control"].length))
    assert seen == {("a b", 2), ("a b c d", 4)}


def test_evaluation_captions_by_the_rows_control(material):
    loaded = policy(material)

    def captions(instruction, rows):
        return caption_samples(loaded.model, loaded.processor, rows, instruction=instruction, max_new_tokens=6)

    mixed = [*samples(material, Control(length=3))[:2], *samples(material)[2:]]
    long, short = captions("describe word3", samples(material)), captions("describe", samples(material))
    assert long != short
    assert captions(INSTRUCTION, mixed) == [*long[:2], *short[2:]]


def test_the_panel_is_scored_with_the_fixed_control_of_the_evaluation(material):
    config = EvaluationConfig(panel=2, control={"length": 5})
    rows = {"train": [], "test": samples(material, Control(length=3, style="plain"))}
    evaluation = Evaluation(None, None, None, rows, None, config)
    assert {sample.control for sample in evaluation.panel} == {Control(length=5, style="plain")}


def test_a_run_does_not_resume_with_other_controls(material):
    plain = samples(material)
    assert fingerprint(plain) != fingerprint(samples(material, Control(length=3)))
    formats = [Sample("a", "a.png", meta={"formats": {"SSC": text}}) for text in ("a", "b")]
    assert fingerprint(formats[:1]) != fingerprint(formats[1:])
    assert fingerprint(plain[:1]) == fingerprint([Sample("0", "other.png", ("a",), "a b c", meta={"licence": "cc"})])


def test_refined_rows_keep_their_control_and_pairs_their_instruction(material, tmp_path):
    known = {s.id: s for s in (samples(material, Control(length=3))[0], samples(material)[1])}
    rows = [
        {"sample_id": id, "image": known[id].image, "caption": "a b", "original": "b", "objection": None}
        for id in known
    ]
    write_training_sets(rows, known, RunFolder(tmp_path), INSTRUCTION)
    pairs, sft = (
        [json.loads(line) for line in (tmp_path / f"{n}.jsonl").read_text().splitlines()] for n in ("pairs", "sft")
    )
    assert [pair["prompt"] for pair in pairs] == [instruct(INSTRUCTION, Control(length=3)), "describe"]
    assert [row.get("control") for row in sft] == [{"length": 3}, None]
