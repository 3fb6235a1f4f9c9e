"""Wrong captions by similar images, and an NLI model that learns to tell them."""

import random

import pytest
import torch
from fake_models import OneHot

from rlcap.cli.main import main
from rlcap.errors import ConfigError
from rlcap.io.addresses import resolve_address
from rlcap.lab.source import load_split
from rlcap.scorers.grounding import Grounding
from rlcap.scorers.nli import NliScorer
from rlcap.scorers.training.hard_negatives import LAST_RANK, HardNegatives, find_nearest, replace_word
from rlcap.scorers.training.nli import compute_auc, contradiction_loss, fine_tune, interpolate_weights, vary_style

COLOURS, THINGS = (
    ("red", "blue", "green", "black"),
    ("ball", "cat", "dog", "boat", "lamp", "tree", "car", "bird", "cup", "hat"),
)
IMAGES = [
    [f"A {colour} {thing} on grass.", f"a {thing} that is {colour}", f"one {colour} {thing}"] for colour in COLOURS for thing in THINGS
]  # fmt: skip


def test_replaced_golden():
    assert replace_word("A man rides a horse.", "horse", "zebra") == "A man rides a zebra."
    assert replace_word("Horses run.", "horses", "zebras") == "Zebras run."
    assert replace_word("Seahorses and a horse", "horse", r"\1") == r"Seahorses and a \1"
    assert replace_word("A man.", "horse", "zebra") is None


def test_nearest_leaves_oneself_out_and_begins_with_the_most_similar():
    vectors = torch.tensor([[1.0, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0.9, 0.2]])
    assert find_nearest(vectors, 1)[:, 0].tolist() == [1, 0, 3, 2]
    assert find_nearest(vectors, 9).shape == (4, 3)


def test_a_hard_negative_has_one_word_or_the_whole_caption_of_another_image():
    mistakes, rng = HardNegatives(IMAGES, OneHot()), random.Random(0)
    for example in (mistakes.draw(rng) for _ in range(100)):
        assert example.right not in example.references
        assert example.wrong not in (example.right, *example.references)
        known_words = set(" ".join((example.right, *example.references)).lower().replace(".", "").split())
        assert set(example.wrong.lower().replace(".", "").split()) - known_words
        assert len(example.references) == 2


def test_too_few_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match=f"39 images .* need {LAST_RANK}"):
        HardNegatives([*IMAGES[:39], ["only one"], ["twice", "twice "]], OneHot())
    with pytest.raises(ValueError, match="captions of similar images do not differ"):
        HardNegatives([["a dog", "dog here"]] * 40, OneHot()).draw(random.Random(0))
    with pytest.raises(ConfigError, match="at least 400 images with two different captions, got 40"):
        fine_tune(resolve_address("lab:nli"), IMAGES, tmp_path)


def test_loss_golden():
    log_probs = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]).log()
    actual = contradiction_loss(log_probs, (0, 1, 2), torch.tensor([False, True]))
    assert float(actual) == pytest.approx(0.2231, abs=1e-4)  # -log .8, both
    # whichever column the model has for it
    assert float(contradiction_loss(log_probs[:, [2, 0, 1]], (1, 2, 0), torch.tensor([False, True]))) == pytest.approx(
        float(actual)
    )


def test_style_changes_no_word():
    rng = random.Random(0)
    assert {vary_style("A man.", rng) for _ in range(40)} == {"A man.", "a man"}


def test_between_golden():
    before, after = (
        {"w": torch.tensor([0.0, 1.0]), "n": torch.tensor(3)},
        {"w": torch.tensor([1.0, 1.0]), "n": torch.tensor(4)},
    )
    actual = interpolate_weights(before, after, 0.25)
    assert actual["w"].tolist() == [0.75, 1.0]
    assert actual["n"] == 4


def test_an_nli_model_learns_to_find_wrong_captions(tmp_path):
    rows = [sample.references for sample in load_split("train", 440)]
    before, after = fine_tune(resolve_address("lab:nli"), rows, tmp_path / "nli", steps=30, learning_rate=3e-4)
    assert after > before
    taught = NliScorer.load(str(tmp_path / "nli"))
    assert taught.columns == NliScorer.load(resolve_address("lab:nli")).columns
    examples = [HardNegatives(rows, Grounding.from_nli(taught).encoder).draw(random.Random(i)) for i in range(3)]
    assert 0 <= compute_auc(taught, examples) <= 1


def test_the_command_prints_the_quality_of_the_model(tmp_path, capsys):
    main(
        [
            "nli",
            "rlcap.lab.source:LabSource",
            "--nli",
            resolve_address("lab:nli"),
            "--out",
            str(tmp_path / "nli"),
            "--steps",
            "2",
        ]
    )
    assert "between correct and wrong captions of held-out images" in capsys.readouterr().out
    assert (tmp_path / "nli" / "model.safetensors").exists()
