"""Self-retrieval on a retriever with given cosines."""

import math
from types import SimpleNamespace

import pytest
import torch

from rlcap.rewards.self_retrieval import SelfRetrieval
from rlcap.types import RewardBatch, Sample


class FakeClip:
    """Image `i` is the unit vector e_i; "i:0.3 j:0.29" has these cosines (the rest lies on an axis of its own)."""

    logit_scale, name = 100.0, "fake"

    def image_embeddings(self, paths):
        return torch.eye(128)[[int(path.removesuffix(".png")) for path in paths]]

    def text_embeddings(self, texts, pooling="sentences"):
        vectors, empty = torch.zeros(len(texts), 128), torch.tensor([not text.strip() for text in texts])
        for row, text in zip(vectors, texts, strict=True):
            for word in text.split():
                if ":" in word:
                    row[int(word.split(":")[0])] = float(word.split(":")[1])
            if text.strip():
                row[127] = math.sqrt(1 - float(row.square().sum()))
        return SimpleNamespace(vectors=vectors, empty=empty, truncated_fraction=0.0)


def batch(*captions, own=0, bag=("1.png",), id="a"):
    return RewardBatch(captions, [Sample(id, f"{own}.png")] * len(captions), [tuple(bag)] * len(captions))


def value(caption, own=0, bag=("1.png",), **options):
    return SelfRetrieval(FakeClip(), **options).score(batch(caption, own=own, bag=bag))[0].value


def test_two_images_golden():
    assert value("0:0.30 1:0.29") == pytest.approx(-0.3133, abs=1e-4)
    assert value("0:0.30 1:0.29", form="probability") == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-4)
    assert value("0:0.30 1:0.29", scale=0.0001) == pytest.approx(-math.log(2), abs=1e-4)


def test_uniform_golden():
    bag = tuple(f"{i}.png" for i in range(1, 100))
    assert value("nothing in common", bag=bag) == pytest.approx(-4.605, abs=1e-3)
    assert value("", bag=bag) == pytest.approx(-4.605, abs=1e-3)
    assert value("", bag=bag, form="probability") == pytest.approx(0.01)


def test_fillers_fill_up_to_the_candidates_and_depend_on_the_row_alone():
    gallery = [f"{i}.png" for i in range(100)]
    reward = SelfRetrieval(FakeClip(), gallery=gallery, candidates=10)
    row = reward.images("a", "0.png", ["1.png", "2.png"])
    assert row[:3] == ["0.png", "1.png", "2.png"]
    assert len(row) == len(set(row)) == 10
    shuffled = SelfRetrieval(FakeClip(), gallery=gallery[::-1] + gallery, candidates=10)
    assert shuffled.images("a", "0.png", ["1.png", "2.png"]) == row
    assert reward.images("b", "0.png", ["1.png", "2.png"]) != row
    small = SelfRetrieval(FakeClip(), gallery=gallery[:5], candidates=10)
    assert sorted(small.images("a", "0.png", ["1.png"])) == gallery[:5]
    full = SelfRetrieval(FakeClip(), gallery=gallery[:5], candidates=2)
    assert full.images("a", "0.png", ["1.png", "2.png"]) == ["0.png", "1.png", "2.png"]


def test_a_gallery_can_be_a_file(tmp_path):
    path = tmp_path / "gallery.txt"
    path.write_text("3.png\n4.png\n\n")
    assert SelfRetrieval(FakeClip(), gallery=str(path)).gallery == ["3.png", "4.png"]


def test_without_anything_to_choose_in_it_abstains():
    scores = SelfRetrieval(FakeClip()).score(batch("0:0.3", bag=()))
    assert scores[0].reason == "neither a bag nor a gallery to choose in"
    rows = RewardBatch(["0:0.3"], [Sample("a", "")], [("1.png",)])
    assert SelfRetrieval(FakeClip()).score(rows)[0].reason == "no image path"


def test_order_and_other_rows_do_not_matter():
    rows = [
        ("0:0.3 1:0.29", 0, "a"),
        ("2:0.2", 2, "b"),
        ("", 3, "c"),
        ("10:0.9 " + "x" * 10_000, 10, "d"),
        ("猫 4:.1", 4, "e"),
    ]
    reward = SelfRetrieval(FakeClip(), gallery=[f"{i}.png" for i in range(90)], candidates=20)
    samples = [Sample(name, f"{own}.png") for _, own, name in rows]
    bags = [(f"{own + 1}.png",) for _, own, _ in rows]
    together = list(reward.score(RewardBatch([c for c, _, _ in rows], samples, bags)))
    backwards = reward.score(RewardBatch([c for c, _, _ in rows][::-1], samples[::-1], bags[::-1]))[::-1]
    alone = [reward.score(RewardBatch([row[0]], [s], [b]))[0] for row, s, b in zip(rows, samples, bags, strict=True)]
    assert together == backwards == alone


def test_in_bag_recall_counts_ties_and_silence_as_failures():
    reward = SelfRetrieval(FakeClip(), gallery=[f"{i}.png" for i in range(100)], candidates=50)
    output = reward.score(
        batch("0:0.3 1:0.2 50:0.9", "0:0.2 1:0.3", "0:0.2 1:0.2", "", bag=("1.png", "0.png", "2.png"))
    )
    assert output.metrics == {"text_truncated": 0.0, "bag_recall_at_1": 0.25}
    assert "bag_recall_at_1" not in reward.score(batch("0:0.3", bag=())).metrics


def test_called_as_trl_does():
    values = SelfRetrieval(FakeClip())(
        prompts=["p"], completions=["0:0.30 1:0.29"], image_path=["0.png"], distractor_images=[["1.png"]]
    )
    assert values == [pytest.approx(-0.3133, abs=1e-4)]


def test_invalid_options_are_rejected():
    with pytest.raises(ValueError, match="form must be one of logprob, probability, recall, margin, got 'prob'"):
        SelfRetrieval(FakeClip(), form="prob")
    with pytest.raises(ValueError, match="at least 2, got 1"):
        SelfRetrieval(FakeClip(), candidates=1)


def test_a_broken_image_affects_its_own_rows_only():
    from rlcap.errors import ImageError

    class Breaks(FakeClip):
        def image_embeddings(self, paths):
            if "7.png" in paths:
                raise ImageError("truncated image", "7.png", "decoding failed", "fetch it again")
            return super().image_embeddings(paths)

    reward = SelfRetrieval(Breaks())
    rows = RewardBatch(["0:0.30 1:0.29"] * 2, [Sample("a", "0.png"), Sample("b", "7.png")], [("1.png", "7.png")] * 2)
    found = reward.score(rows)
    assert found[0].value == pytest.approx(-0.3133, abs=1e-4)
    assert "truncated image: 7.png" in found[1].reason
    assert found.metrics["bag_recall_at_1"] == 1


def test_recall_and_margin_count_the_bag_alone_golden():
    gallery = [f"{i}.png" for i in range(100)]
    for caption, first, by in (
        ("0:0.30 1:0.29", 1.0, 0.01),
        ("0:0.30 1:0.30", 0.0, 0.0),
        ("1:0.4", 0.0, -0.4),
        ("", 0.0, 0.0),
    ):
        assert value(caption, form="recall", gallery=gallery) == first
        assert value(caption, form="margin", gallery=gallery) == pytest.approx(by, abs=1e-6)
    assert SelfRetrieval(FakeClip(), form="margin", gallery=gallery).images("a", "0.png", ["1.png"]) == [
        "0.png",
        "1.png",
    ]


def test_several_retrievers_give_the_mean_of_their_values():
    class Other(FakeClip):
        logit_scale, name = 50.0, "other"

    alone = [SelfRetrieval(clip).score(batch("0:0.30 1:0.29"))[0].value for clip in (FakeClip(), Other())]
    both = SelfRetrieval([FakeClip(), Other()])
    output = both.score(batch("0:0.30 1:0.29"))
    assert output[0].value == pytest.approx(sum(alone) / 2)
    assert output.metrics["bag_recall_at_1"] == 1.0
    with pytest.raises(ValueError, match="one pretrained tag per model: got 1 for 2"):
        SelfRetrieval(["ViT-B-32", "ViT-B-16"], pretrained=["openai"])


def test_without_an_image_of_its_own_no_other_takes_its_place():
    rows = RewardBatch(["0:0.3"], [Sample("a", "")], [("1.png", "2.png")])
    (score,) = SelfRetrieval(FakeClip()).score(rows)
    assert score.abstained
    assert "no image path" in score.reason
