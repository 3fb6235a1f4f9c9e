"""Training of a reward model's head on what judges decided: preferences between captions, and votes on claims.

    result = fit(clip, read_decisions(Path("pairs.jsonl")))     # result.model, result.held_out

A row is a preference, {"image", "chosen", "rejected"}, as in the pairs of recipes/dpo.py, or a vote, {"image", "text", "label"}, in which 1 says
that the text is right. With the score s of a caption, the loss of a preference is that of Bradley and Terry, −log σ(s(chosen) − s(rejected)),
and the loss of a vote is −log σ(±s). The head is linear and the backbone frozen, so that the loss is convex: L-BFGS finds its minimum within
seconds, and the same rows give the same model.

Judges' preferences are mostly for captions that tell more, and say little of what the image does not show. So each preference is joined by
`swaps` more, which cost no judge call: its preferred caption against one that was preferred for another image.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rlcap.errors import PairsError
from rlcap.io.images import content_key, embed_readable
from rlcap.io.text import read_rows
from rlcap.scorers.reward_model import RewardModel, caption_features
from rlcap.scorers.text.ngrams import tokenize
from rlcap.types import says_something

FEWEST = 50
"""Fewest decisions to train on."""
FORM = "write {image, chosen, rejected} or {image, text, label} per line"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a judge decided about an image."""

    image: str
    """Path of the image."""
    better: str
    """The preferred caption, or the text that was voted on."""
    worse: str | None = None
    """The other caption; None for a vote."""
    label: bool = True
    """Whether a text that was voted on is right; True for a preference."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What the model says of the decisions about images that it was not trained on."""

    images: list[str]
    """Image of each decision; decisions about one image are not independent."""
    right: list[float]
    """Whether the model decides as the judge did: 1, 0, or .5 for equal scores."""
    right_by_length: list[float]
    """The same for a rule that prefers more words. NaN for a vote."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A trained model and how it does on held-out images."""

    model: RewardModel
    held_out: HeldOut
    trained: int
    """Decisions that it was trained on."""


def read_decisions(path: Path, image_root: str | None = None) -> list[Decision]:
    """Return the decisions of a JSON Lines file; preferences and votes may be mixed, and further keys are ignored.

    Args:
        path: The file.
        image_root: Folder from which relative image paths start; None for the folder of the file.

    Raises:
        PairsError: The file is missing or empty, or a row is no decision; the message names the line.
    """
    root = Path(image_root) if image_root is not None else path.parent
    rows = read_rows(path, "decisions", FORM, _find_problem, PairsError)
    return [
        Decision(str(root / row["image"]), row["chosen"], row["rejected"])
        if "chosen" in row
        else Decision(str(root / row["image"]), row["text"], None, bool(row["label"]))
        for row in rows
    ]


def _find_problem(row: Any) -> str | None:
    """Return the problem of a row, or None."""
    if not isinstance(row, dict):
        return f"a row must be an object, got {row!r:.60}; {FORM}"
    keys = ("image", "chosen", "rejected") if "chosen" in row else ("image", "text")
    for key in keys:
        if not isinstance(row.get(key), str) or not row[key].strip():
            return f"{key} must be a text that is not empty, got {row.get(key)!r:.60}; {FORM}"
    if "chosen" in row:
        return "chosen and rejected are equal" if row["chosen"] == row["rejected"] else None
    return None if row.get("label") in (0, 1) else f"label must be 0 or 1, got {row.get('label')!r:.60}"


def fit(
    clip: Any,
    decisions: Sequence[Decision],
    *,
    held_out: float = 0.15,
    l2: float = 0.03,
    swaps: int = 2,
    seed: int = 0,
) -> Fit:
    """Train a head on most images, and measure it on the others.

    Args:
        clip: The backbone, a `rlcap.scorers.clip.ClipScorer` or an object with its interface.
        decisions: What the judge decided.
        held_out: Share of the images that are held out, in (0, 1). A hash of an image's content decides, so that copies stay together.
        l2: Weight of ½|w|², where each feature has variance 1.
        swaps: Preferences over captions of other images that join each of the training's preferences; 0 for none.
        seed: Draws the held-out images and the captions of other images.

    Raises:
        PairsError: Too few decisions remain for training, none is held out, all votes are equal, or an image can't be read.
    """
    known = [
        one for one in decisions if says_something(one.better) and (one.worse is None or says_something(one.worse))
    ]
    vectors, broken = embed_readable(clip.image_embeddings, (one.image for one in known))
    if broken:
        raise PairsError(f"{len(broken)} images can't be read; the first: {next(iter(broken.values()))}")
    drawn = {path: _draw(content_key(path), seed) < held_out for path in vectors}
    training, rest = ([one for one in known if drawn[one.image] is side] for side in (False, True))
    if len(training) < FEWEST or not rest:
        raise PairsError(
            f"{len(training)} decisions to train on and {len(rest)} held out: {FEWEST} and 1 are needed; give more decisions "
            "about more images"
        )
    votes = [one.label for one in training if one.worse is None]
    if len(set(votes)) == 1:
        raise PairsError(
            f"all {len(votes)} votes to train on have the label {int(votes[0])}: a model needs both labels"
        )
    joined = [*training, *swapped(training, swaps, seed)]
    better, worse = _features(clip, vectors, joined)
    weight, bias = _solve(better, worse, joined, l2)
    model = RewardModel(clip, weight, bias)
    return Fit(model, _measure(model, vectors, rest), len(training))


def swapped(decisions: Sequence[Decision], count: int, seed: int) -> list[Decision]:
    """Return for each preference up to `count` preferences over captions that were preferred for other images.

    A draw that hits the same image or the same caption gives none.
    """
    rng = random.Random(f"{seed}/swaps")
    preferences = [one for one in decisions if one.worse is not None]
    drawn = [(one, rng.choice(preferences)) for one in preferences for _ in range(count)]
    return [
        Decision(one.image, one.better, other.better)
        for one, other in drawn
        if other.image != one.image and other.better != one.better
    ]


def _features(clip: Any, vectors: dict[str, Tensor], decisions: Sequence[Decision]) -> tuple[Tensor, Tensor]:
    """Return the features (N, F) of the preferred and of the other texts; 0 in place of the other text of a vote."""
    texts = [text for one in decisions for text in (one.better, one.worse or one.better)]
    found = caption_features(clip, [vectors[one.image] for one in decisions for _ in range(2)], texts)
    is_vote = torch.tensor([one.worse is None for one in decisions])
    return found[0::2], found[1::2].masked_fill(is_vote[:, None], 0.0)


def _solve(better: Tensor, worse: Tensor, decisions: Sequence[Decision], l2: float) -> tuple[Tensor, float]:
    """Return weight (F,) and bias of the least loss. Without votes, the bias gives the texts of the training a mean score of 0."""
    is_vote = torch.tensor([one.worse is None for one in decisions])
    sign = torch.tensor([1.0 if one.label else -1.0 for one in decisions])
    texts = torch.cat([better, worse[~is_vote]])
    mean, std = texts.mean(0), texts.std(0) + 1e-6
    rows = torch.where(is_vote[:, None], (better - mean) / std, (better - worse) / std)
    parameters = torch.zeros(rows.shape[1] + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([parameters], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        weight, bias = parameters[:-1], parameters[-1]
        logits = sign * (rows @ weight + bias * is_vote)
        value = functional.softplus(-logits).mean() + l2 / 2 * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    found = parameters.detach()
    weight = found[:-1] / std
    return weight, float(found[-1] - weight @ mean)


def _measure(model: RewardModel, vectors: dict[str, Tensor], decisions: Sequence[Decision]) -> HeldOut:
    better = model.scores_of([vectors[one.image] for one in decisions], [one.better for one in decisions])
    worse = model.scores_of([vectors[one.image] for one in decisions], [one.worse or one.better for one in decisions])
    right, by_length = [], []
    for one, first, second in zip(decisions, better.tolist(), worse.tolist(), strict=True):
        if one.worse is None:
            right.append(_compare(first, 0.0) if one.label else _compare(0.0, first))
            by_length.append(float("nan"))
        else:
            right.append(_compare(first, second))
            by_length.append(_compare(len(tokenize(one.better)), len(tokenize(one.worse))))
    return HeldOut([one.image for one in decisions], right, by_length)


def _compare(first: float, second: float) -> float:
    return 1.0 if first > second else 0.5 if first == second else 0.0


def _draw(key: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on the image's content and the seed alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:6], "big") / 2**48
