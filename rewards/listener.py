"""Listener: how much likelier does a frozen captioner find the caption's words given its own image than given other images?

measures  per token  c_t = clip(log p(t | own) − log mean_j p(t | image_j) + own · max(log p(t | own), −6), −4, 2), in nats, over
          the own image, its bag and fillers of the gallery; r = Σ_t c_t, of which what is below 0 grows with its logarithm
          only (`evidence`), or the log-probability that the listener chooses the own image among them,
          log softmax_j Σ_t log p(t | image_j) (`posterior`). Each token's c_t is its span. `against: blank` compares with
          a grey image instead of other images
range     (-inf, inf); posterior (-inf, 0]. The empty caption gets 0, or −ln J as a posterior
needs     image, with distractors (the bag in the row) or a gallery
cost      one shared-prefix pass of the listener per image and group of captions; encoded images are cached. No judge, no
          reference and no label
source    the pragmatic listener of Andreas and Klein (EMNLP 2016, arXiv 1604.00562) as a reward; per token it is a pointwise mutual
          information. The listener is the run's own base model, without its adapter, or any captioner
hack      what the listener itself believes wrongly. A base that learnt from the captions that it is to correct shares their
          habits; with the MLE adapter itself as the listener false claims hardly fall. With `own` at 0, rare words pay
guards    `own`, which asks that the own image makes the word likely at all; hallucination and a verifier against what the
          listener believes; length, since evidence adds up over words
fails     empty, one_word, one_missing; on 83 %, 26 % and 21 % of 42 images with the lab's base and `own` at .6: a good caption
          has many words of which the base is not sure. No probe adds words and wins
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from rlcap.errors import ConfigError
from rlcap.io.atomic import write_bytes
from rlcap.io.cache import cache_folder
from rlcap.io.images import embed_readable, open_image
from rlcap.io.text import read_lines
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.parameters import check_choice
from rlcap.scorers.retrieval import draw_fillers
from rlcap.types import RewardBatch, Sample, Score, Span

if TYPE_CHECKING:
    from rlcap.policy.listener import HeardCaption
    from rlcap.policy.listener import Listener as ListeningModel

LEAST_OWN = -6.0
"""Log-probability below which a token counts no lower in the `own` term, in nats: sampling noise must not dominate."""
CLIP = (-4.0, 2.0)
"""Bounds of a token's value, in nats."""
KNEE = 20.0
"""Evidence against a caption beyond which further evidence counts less than half, in nats. Texts in a foreign script have
hundreds of nats; without a knee one of them in a group would make all differences between ordinary captions vanish."""
GREY = 127
"""Brightness of the blank image, of 255."""


def token_evidence(log_probs: Tensor, own_weight: float) -> Tensor:
    """Return the (T,) values of a caption's tokens, in [−4, 2].

    Two images that give a token the probabilities .5 (own) and .1 give log(.5 / .3) = .51, plus `own_weight` times log .5.

    Args:
        log_probs: (J, T) log-probabilities of the tokens given J images, the own image first.
        own_weight: weight of the log-probability given the own image, 0 or more.
    """
    own = log_probs[0].double()
    average = torch.logsumexp(log_probs.double(), 0) - math.log(len(log_probs))
    return (own - average + own_weight * own.clamp(min=LEAST_OWN)).clamp(*CLIP)


def caption_evidence(values: Tensor) -> float:
    """Return a caption's evidence from its tokens' values: x = Σ_t c_t where it is positive, else −20 log(1 − x / 20), in nats.

    The order of captions stays that of their sums: −20 becomes −13.9, and −2000 becomes −92.3.

    Args:
        values: (T,) values as `token_evidence` returns them.
    """
    total = float(values.sum())
    return total if total >= 0 else -KNEE * math.log1p(-total / KNEE)


class Listener(Reward):
    """A pragmatic listener as a reward.

    Args:
        model: folder or hub name of a captioner; None for the run's own base model. In a run that trains an adapter, the listener then
            shares the weights of the captioner that is trained.
        adapter: folder or hub name of an adapter of `model`.
        form: evidence or posterior.
        own: weight of the log-probability of a token given its own image, 0 or more.
        against: what a token's probability is compared with: the captions' other `images`, or a `blank` image.
        images: number of other images, at least 1. Half of them come from the bag, where it has as many.
        gallery: image paths that fillers are drawn from, or a text file with one path per line.
        base: the run's base model, for `model: null`.
        instruction: the instruction that the captions answer.
        device: where a model of its own runs.
    """

    name, needs, version = "listener", frozenset({"image"}), "1"

    def __init__(
        self,
        model: str | None = None,
        adapter: str | None = None,
        form: Literal["evidence", "posterior"] = "evidence",
        own: float = 0.3,
        against: Literal["images", "blank"] = "images",
        images: int = 6,
        gallery: Sequence[str] | str | None = None,
        base: str | None = None,
        instruction: str = "",
        device: str = "cpu",
    ) -> None:
        check_choice("form", form, ("evidence", "posterior"))
        check_choice("against", against, ("images", "blank"))
        if not (math.isfinite(own) and own >= 0):
            raise ValueError(f"own is a weight and must be 0 or more, got {own}")
        if images < 1:
            raise ValueError(f"images counts the other images: at least 1, got {images}")
        if form == "posterior" and against == "blank":
            raise ValueError("a posterior chooses among images: set against: images")
        if model is None and adapter is not None:
            raise ValueError(f"adapter {adapter} needs the model that it belongs to: set model")
        self.address, self.adapter, self.device = model or base, adapter, device
        self.is_own_base = model is None
        self.form, self.own = form, own
        self.against, self.count, self.instruction = against, images, instruction
        lines = read_lines(gallery, "gallery") if isinstance(gallery, str) else [str(path) for path in gallery or ()]
        self.gallery = sorted({line for line in lines if line})
        self.range = (-math.inf, 0.0) if form == "posterior" else (-math.inf, math.inf)
        self._model: ListeningModel | None = None

    def use_captioner(self, captioner: Any) -> None:
        """Listen with the captioner that is trained, without its adapters, where the configuration names no other model.

        Args:
            captioner: a `rlcap.policy.captioner.Captioner`. Where more than its adapters is trained, the listener loads the base anew.
        """
        from rlcap.policy.listener import Listener as ListeningModel
        from rlcap.policy.listener import has_frozen_base

        if self.is_own_base and has_frozen_base(captioner.model):
            self._model = ListeningModel(captioner, self.instruction)

    @property
    def model(self) -> ListeningModel:
        """The listening model, loaded when it is first needed.

        Raises:
            ConfigError: no model is named, or it can't be loaded.
        """
        if self._model is None:
            from rlcap.config.schema import ModelConfig
            from rlcap.policy.listener import Listener as ListeningModel
            from rlcap.policy.loading import load_policy

            if not self.address:
                raise ConfigError("listener: name a captioner by `model`, or the run's base by model.base")
            # "full" makes no adapter where none is named; an adapter that is loaded ignores the choice.
            policy = load_policy(
                ModelConfig(base=self.address, adapter=self.adapter)
                if self.adapter
                else ModelConfig(base=self.address, adapter=None, trainable="full")
            )
            policy.model.requires_grad_(False).to(self.device)
            self._model = ListeningModel(
                policy.captioner, self.instruction, adapter=None if self.adapter is None else "default"
            )
        return self._model

    def images(self, sample: Sample, bag: Sequence[str]) -> list[str]:
        """Return the own image and those that it is compared with. They depend on the row and the gallery alone."""
        if self.against == "blank":
            return [sample.image, _blank_image(sample.image)]
        near = list(dict.fromkeys(path for path in bag if path != sample.image))[: -(-self.count // 2)]
        fillers = draw_fillers(sample.id, self.gallery, {sample.image, *near}, self.count - len(near))
        return [sample.image, *near, *fillers]

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions. A row without a readable image, or without any other one, abstains."""
        readable, broken = embed_readable(
            self.model.prompts, (sample.image for sample in batch.samples if sample.image)
        )
        wanted = [
            self.images(sample, bag) if sample.image in readable else [sample.image]
            for sample, bag in zip(batch.samples, batch.distractor_images, strict=True)
        ]
        others, _ = embed_readable(self.model.prompts, (path for row in wanted for path in row[1:]))
        rows = [[row[0], *(path for path in row[1:] if path in others)] for row in wanted]
        judged = [i for i, row in enumerate(rows) if len(row) > 1 and batch.captions[i]]
        before = self.model.passes
        heard = dict(
            zip(judged, self.model.hear([batch.captions[i] for i in judged], [rows[i] for i in judged]), strict=True)
        )
        scores = []
        for i, (sample, row) in enumerate(zip(batch.samples, rows, strict=True)):
            if len(row) < 2:
                reason = broken.get(sample.image) or (
                    "no other image to compare with" if sample.image else "no image path"
                )
                scores.append(Score.abstain(reason))
            elif i not in heard:
                scores.append(Score(-math.log(len(row)) if self.form == "posterior" else 0.0))
            else:
                scores.append(self._score(heard[i]))
        return RewardOutput(scores, _metrics(list(heard.values())) | {"passes": float(self.model.passes - before)})

    def _score(self, heard: HeardCaption) -> Score:
        values = token_evidence(heard.log_probs, self.own)
        here, average = heard.log_probs[0].exp().tolist(), heard.log_probs.exp().mean(0).tolist()
        spans = tuple(
            Span(start, end, value, f"p {own:.2f} here, {mean:.2f} on average")
            for (start, end), value, own, mean in zip(heard.offsets, values.tolist(), here, average, strict=True)
            if start < end
        )
        if self.form == "posterior":
            return Score(float(torch.log_softmax(heard.log_probs.double().sum(1), 0)[0]), spans=spans)
        return Score(caption_evidence(values), spans=spans)


def _metrics(heard: Sequence[HeardCaption]) -> dict[str, float]:
    """Return the means over all tokens of the log-probability given the own image, and of the evidence, in nats."""
    count = sum(one.log_probs.shape[1] for one in heard)
    if not count:
        return {}
    own = sum(float(one.log_probs[0].sum()) for one in heard)
    evidence = sum(float(token_evidence(one.log_probs, 0.0).sum()) for one in heard)
    return {
        "own_log_prob": own / count,
        "own_log_prob_count": float(count),
        "evidence": evidence / count,
        "evidence_count": float(count),
    }


def _blank_image(like: str) -> str:
    """Return the path of a grey image of the size of another one; it is written to the cache once."""
    from PIL import Image

    width, height = open_image(like).size
    path = cache_folder() / "blank" / f"{width}x{height}.png"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = io.BytesIO()
        Image.new("RGB", (width, height), (GREY,) * 3).save(picture, "PNG")
        write_bytes(path, picture.getvalue(), "the blank image")
    return str(path)
