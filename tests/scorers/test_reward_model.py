"""The trainable reward model: features by hand, decisions that are read or refused, training, files, and the lab's retriever."""

import json
import math
import random
from pathlib import Path

import pytest
import torch
from fake_models import HashClip
from PIL import Image

from rlcap.cli import main as cli
from rlcap.errors import ConfigError, PairsError
from rlcap.scorers.reward_model import RewardModel, caption_features, distinct_sentences
from rlcap.scorers.training.reward_model import FEWEST, Decision, fit, read_decisions, swapped


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Forty images of one colour each."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(40):
        Image.new("RGB", (8, 8), (6 * i, 255 - 6 * i, 90)).save(folder / f"{i}.png")
    return [str(folder / f"{i}.png") for i in range(40)]


class ColourClip:
    """Two dimensions: the image's redness, and whether the text says red (1, 0), green (0, 1) or both."""

    logit_scale, name = 1.0, "colour"

    def image_embeddings(self, paths):
        pixels = [Image.open(path).getpixel((0, 0)) for path in paths]
        return torch.nn.functional.normalize(torch.tensor([[float(r), float(g)] for r, g, _ in pixels]), dim=-1)

    def text_embeddings(self, texts, pooling="sentences"):
        rows = torch.tensor([[float("red" in text), float("green" in text)] for text in texts])
        return type("E", (), {"vectors": torch.nn.functional.normalize(rows, dim=-1)})


def preferences(photos):
    """For each image two preferences of its true colour, one of them of a longer false caption."""
    found = []
    for path in photos:
        red, green, _ = Image.open(path).getpixel((0, 0))
        true, false = ("red", "green") if red > green else ("green", "red")
        found += [
            Decision(path, f"it is {true}.", f"it is {false}."),
            Decision(path, f"{true}.", f"it is all {false}."),
        ]
    return found


# ---- features --------------------------------------------------------------------------------------------------------


def test_golden_features_and_score():
    """v = (.6, .8) and t = (1, 0), (0, 1): φ = [2 v ⊙ t, √2 t], their mean, their sum and 2 sentences."""
    clip, root = ColourClip(), math.sqrt(2)
    (found,) = caption_features(clip, [torch.tensor([0.6, 0.8])], ["it is red. it is green."])
    mean, total = [0.6, 0.8, root / 2, root / 2], [1.2, 1.6, root, root]
    assert found.tolist() == pytest.approx([*mean, *total, 2.0])
    model = RewardModel(clip, torch.tensor([1.0, 0, 0, 0, 0, 0.5, 0, 0, -0.25]), 0.1)
    (score,) = model.scores_of([torch.tensor([0.6, 0.8])], ["it is red. it is green."])
    assert score.item() == pytest.approx(0.6 + 0.5 * 1.6 - 0.25 * 2 + 0.1)


def test_a_repeated_sentence_counts_once_and_nothing_has_no_score():
    assert distinct_sentences("A cat. a cat. A dog. A CAT.") == ["A cat.", "A dog."]
    model = RewardModel(ColourClip(), torch.ones(9))
    once, twice, nothing = model.scores_of([torch.tensor([0.6, 0.8])] * 3, ["red.", "red. red.", "..."])
    assert once == twice
    assert math.isnan(nothing)


# ---- decisions -------------------------------------------------------------------------------------------------------


def test_preferences_and_votes_are_read_with_images_from_the_file_s_folder(tmp_path):
    rows = [
        {"image": "a.png", "chosen": "x", "rejected": "y", "prompt": "ignored"},
        {"image": "/b.png", "text": "z", "label": 0},
    ]
    found = read_decisions(write(tmp_path / "rows.jsonl", rows))
    assert found == [Decision(str(tmp_path / "a.png"), "x", "y"), Decision("/b.png", "z", None, False)]
    assert read_decisions(tmp_path / "rows.jsonl", "/photos")[0].image == "/photos/a.png"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"chosen": "x", "rejected": "y"}, "image must be a text"),
        ({"image": "a", "chosen": "x"}, "rejected must be a text"),
        ({"image": "a", "chosen": "x", "rejected": "x"}, "are equal"),
        ({"image": "a", "text": "x", "label": "yes"}, "label must be 0 or 1, got 'yes'"),
        ({"image": "a", "text": "x"}, "label must be 0 or 1, got None"),
        (["a"], "must be an object"),
    ],
)
def test_a_row_that_is_no_decision_is_refused_with_its_line(tmp_path, row, problem):
    good = {"image": "a", "text": "x", "label": 1}
    with pytest.raises(PairsError, match=f"line 2: .*{problem}"):
        read_decisions(write(tmp_path / "rows.jsonl", [good, row]))


# ---- training --------------------------------------------------------------------------------------------------------


def test_preferences_are_learnt_and_the_average_text_of_the_training_has_score_0(photos):
    decisions = preferences(photos)
    found = fit(ColourClip(), decisions, held_out=0.25, swaps=0)
    assert set(found.held_out.right) == {1.0}
    assert set(found.held_out.right_by_length) == {0.0, 0.5}
    assert found.trained + len(found.held_out.right) == len(decisions)
    held = set(found.held_out.images)
    texts = [(one.image, text) for one in decisions if one.image not in held for text in (one.better, one.worse)]
    scores = found.model.scores(*zip(*texts, strict=True))
    assert scores.mean().item() == pytest.approx(0, abs=1e-4)
    again = fit(ColourClip(), decisions, held_out=0.25, swaps=0)
    assert torch.equal(found.model.weight, again.model.weight)


def test_swaps_are_preferred_captions_of_other_images(photos):
    decisions = preferences(photos)
    found = swapped(decisions, 2, 0)
    assert 0 < len(found) <= 2 * len(decisions)
    preferred = {(one.image, one.better) for one in decisions}
    assert all((one.image, one.better) in preferred and one.worse != one.better for one in found)
    longer = [Decision(path, "it is red and green.", "it is.") for path in photos]
    assert not swapped(longer, 2, 0)  # all preferred captions are equal


def test_votes_are_learnt_with_the_threshold_0(photos):
    votes = []
    for one in preferences(photos):
        votes += [Decision(one.image, one.better), Decision(one.image, one.worse, None, False)]
    found = fit(ColourClip(), votes, held_out=0.25, l2=1e-3)
    assert sum(found.held_out.right) / len(found.held_out.right) > 0.9


def test_labels_that_mean_nothing_give_a_model_that_knows_nothing(photos):
    rng = random.Random(0)
    decisions = [
        one if rng.random() < 0.5 else Decision(one.image, one.worse, one.better) for one in preferences(photos) * 4
    ]
    found = fit(ColourClip(), decisions, held_out=0.25, swaps=0)
    assert sum(found.held_out.right) / len(found.held_out.right) < 0.8


def test_copies_of_an_image_are_held_out_together(photos, tmp_path):
    copies = []
    for i, path in enumerate(photos):
        copies.append(str(tmp_path / f"copy-{i}.png"))
        (tmp_path / f"copy-{i}.png").write_bytes(Path(path).read_bytes())
    decisions = preferences(photos) + preferences(copies)
    held = set(fit(ColourClip(), decisions, held_out=0.25, swaps=0).held_out.images)
    assert held
    assert all((path in held) == (copy in held) for path, copy in zip(photos, copies, strict=True))


def test_what_can_not_be_trained_on_is_refused(photos, tmp_path):
    decisions = preferences(photos)
    with pytest.raises(PairsError, match=f"{FEWEST} and 1 are needed"):
        fit(ColourClip(), decisions[:20])
    with pytest.raises(PairsError, match="have the label 1: a model needs both labels"):
        fit(ColourClip(), [Decision(one.image, one.better) for one in decisions])
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(PairsError, match=r"1 images can't be read; the first: .*broken.png"):
        fit(HashClip(), [*decisions, Decision(str(tmp_path / "broken.png"), "a", "b")])


# ---- the lab ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of the lab's retriever, taught by the command with an oracle's preferences between two captions."""
    source = pytest.importorskip("rlcap.lab.source")
    folder = tmp_path_factory.mktemp("rm")
    rows = []
    for sample in (samples := source.load_split("train", 120)):
        rng, other = random.Random(sample.id), samples[rng_index(sample.id, len(samples))]
        good, bad = source.LabSource.truth.good_caption(sample), source.LabSource.truth.good_caption(other)
        graded = [(source.LabSource.truth.score(text, sample), rng.random(), text) for text in (good, bad)]
        (worst, _, rejected), (best, _, chosen) = sorted(graded)
        if best > worst:
            rows.append({"image": sample.image, "chosen": chosen, "rejected": rejected})
    write(folder / "pairs.jsonl", rows)
    assert cli.main(["rm", str(folder / "pairs.jsonl"), "--clip", "lab:retriever", "--held-out", "0.3", "--out", str(folder / "rm")]) == 0  # fmt: skip
    return folder / "rm"


def rng_index(seed, size):
    return random.Random(f"{seed}/other").randrange(size)


def test_the_lab_s_retriever_orders_held_out_pairs(trained):
    config = json.loads((trained / "config.json").read_text())
    assert config["held_out"]["right"] >= 0.85
    assert config["held_out"]["images"] > 20
    assert config["clip"] == "lab:retriever"


def test_a_loaded_model_gives_the_same_scores_and_another_backbone_is_refused(trained, tmp_path):
    source = pytest.importorskip("rlcap.lab.source")
    sample = source.load_split("validation", 1)[0]
    first, second = (
        RewardModel.load(str(trained)).scores([sample.image], ["there is a red ball."]).item() for _ in range(2)
    )
    assert first == second
    other = tmp_path / "rm"
    other.mkdir()
    (other / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes())
    config = json.loads((trained / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"clip": "lab:judge-retriever"}))
    with pytest.raises(ConfigError, match="has other weights now"):
        RewardModel.load(str(other))
    (other / "config.json").write_text(json.dumps(config | {"features": "words-7"}))
    with pytest.raises(ConfigError, match="has features 'words-7'"):
        RewardModel.load(str(other))
    with pytest.raises(ConfigError, match="nowhere"):
        RewardModel.load("/nowhere")
