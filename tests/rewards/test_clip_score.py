"""CLIPScore and RefCLIPScore on a retriever with given cosines, and on a real one with random weights."""

import math
from types import SimpleNamespace

import pytest
import torch

from rlcap.errors import ImageError
from rlcap.rewards.clip_score import PREFIX, ClipScore, RefClipScore, clip_s, ref_clip_s
from rlcap.types import RewardBatch, Sample

WORDS = {"own": 0.30, "near": 0.29, "far": -0.2, "twin": 1.0}


class FakeClip:
    """Every image is e_0. A sentence "own" has cosine .30 with it; sentences are averaged. Records the texts."""

    def image_embeddings(self, paths):
        for path in paths:
            if "broken" in path:
                raise ImageError("truncated image", path, "decoding failed", "fetch it again")
        return torch.eye(8)[[0] * len(paths)]

    def text_embeddings(self, texts, pooling="sentences"):
        self.told = texts
        rows = torch.zeros(len(texts), 8)
        for row, text in zip(rows, texts, strict=True):
            if text:
                cosine = sum(WORDS[part.removeprefix(PREFIX)] for part in text.split("\n")) / len(text.split("\n"))
                row[0], row[1] = cosine, math.sqrt(1 - cosine**2)
        return SimpleNamespace(vectors=rows, empty=torch.tensor([not text for text in texts]), truncated_fraction=0.0)


def batch(*captions, image="a.jpg", references=()):
    return RewardBatch(captions, [Sample("a", image, references=references)] * len(captions))


def test_golden():
    assert clip_s(0.3) == pytest.approx(0.75)
    assert clip_s(-0.3) == 0
    assert ref_clip_s(0.75, 0.8) == pytest.approx(0.7742, abs=1e-4)
    assert ref_clip_s(0.75, -0.1) == ref_clip_s(0.0, 0.8) == 0
    assert RefClipScore.range[1] == pytest.approx(ref_clip_s(2.5, 1.0))


def test_captions_get_their_cosine_with_the_prefix_on_every_sentence():
    reward = ClipScore(FakeClip())
    assert [s.value for s in reward.score(batch("own", "far", "", " \n"))] == pytest.approx([0.75, 0, 0, 0])
    assert reward.clip.told[:2] == [PREFIX + "own", PREFIX + "far"]
    reward.score(batch("own\nnear"))
    assert reward.clip.told == [f"{PREFIX}own\n{PREFIX}near"]
    whole = ClipScore(FakeClip(), pooling="whole", prefix="")
    whole.score(batch("own"))
    assert whole.clip.told == ["own"]


def test_references_take_the_best_cosine_without_the_scale():
    reward = RefClipScore(FakeClip())
    own, near = (0.3, math.sqrt(1 - 0.09)), (0.29, math.sqrt(1 - 0.29**2))
    cosine = own[0] * near[0] + own[1] * near[1]
    assert reward.score(batch("own", references=("near", "far", " ")))[0].value == pytest.approx(
        ref_clip_s(0.75, cosine)
    )
    assert reward.score(batch("own", references=("own",)))[0].value == pytest.approx(ref_clip_s(0.75, 1.0))
    assert reward.score(batch("", references=("own",)))[0].value == 0


def test_a_row_that_cannot_be_scored_abstains_without_affecting_others():
    rows = RewardBatch(["own"] * 3, [Sample("a", "a.jpg"), Sample("b", ""), Sample("c", "broken.jpg")])
    found = ClipScore(FakeClip()).score(rows)
    assert found[0].value == pytest.approx(0.75)
    assert found[1].reason == "no image path"
    assert "truncated image: broken.jpg" in found[2].reason
    assert RefClipScore(FakeClip()).score(batch("own"))[0].reason == "no reference to compare with"


def test_called_as_trl_does():
    assert ClipScore(FakeClip())(prompts=["p"], completions=["own"], image_path=["a.jpg"]) == [pytest.approx(0.75)]
    values = RefClipScore(FakeClip())(
        prompts=["p"], completions=["own"], image_path=["a.jpg"], references=[["own"]], pooling="ignored"
    )
    assert values == [pytest.approx(ref_clip_s(0.75, 1.0))]
