"""What a run that learns from texts is: every key of SFT, of the rewriting of captions, and of DPO on the pairs that it makes.

The rules of `schema.py` hold here too: each key has its type, its range, its default and its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from rlcap.config.controls import FormatShares
from rlcap.config.schema import (
    Count,
    CountOrZero,
    DataConfig,
    EvaluationConfig,
    GenerationConfig,
    MixConfig,
    ModelConfig,
    NotNegative,
    Positive,
    RunConfig,
)
from rlcap.config.section import Section


class SupervisedTrainConfig(Section):
    """What learning from captions (SFT) and from pairs of captions (DPO) have in common."""

    batch_size: Count = 32
    """Images or pairs per step."""
    micro_batch: Count = 8
    """Images or pairs in one forward and backward pass of a device."""
    save_every: Count = 200
    """Steps between checkpoints. The last step is always saved."""
    keep_checkpoints: Count = 2
    """How many checkpoints stay on disk."""

    @model_validator(mode="after")
    def _check_batch(self) -> Self:
        if self.batch_size % self.micro_batch:
            raise ValueError(
                f"train.batch_size {self.batch_size} is not a multiple of train.micro_batch {self.micro_batch}"
            )
        return self


class SFTTrainConfig(SupervisedTrainConfig):
    """The optimiser and its clock in maximum likelihood."""

    steps: Count = 1000
    """Optimiser steps."""
    learning_rate: Positive = 2e-4
    """Learning rate of AdamW: linear warm-up over the first 5 %, then to zero by cosine."""
    weight_decay: NotNegative = 0.0
    """Weight decay of AdamW."""
    target: Literal["paragraph", "references", "formats"] = "paragraph"
    """The text that is learned: the fused paragraph, one of the references (another one in each epoch), or one of the texts in the row's column
    `formats` ({SSC: …, DSC: …}), drawn anew in each epoch by `formats`."""
    formats: FormatShares = Field(default_factory=dict)
    """Mixing ratio of the caption formats with target=formats: {SSC: 0.4, DSC: 0.6}. A row takes part in those that it has."""
    seed: CountOrZero = 0
    """Seed of initialisation and order."""

    @model_validator(mode="after")
    def _check_formats(self) -> Self:
        if (self.target == "formats") != bool(self.formats):
            raise ValueError(
                f"train.formats is the mixing ratio of train.target=formats: set both or neither, got {self.formats} and {self.target}"
            )
        return self


class SFTConfig(RunConfig):
    """A maximum-likelihood run: `accelerate launch recipes/sft.py` or `rlcap train sft`."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    train: SFTTrainConfig = Field(default_factory=SFTTrainConfig)


class ReviserConfig(Section):
    """Who criticises and rewrites captions by textual gradient descent (`rlcap.feedback.revise`)."""

    judge: str | dict[str, Any] = ""
    """The judge, written as the parameter `judge` of a reward: `openai:MODEL`, `module:Class`, or {backend: …, timeout: …}. Its `prompt` is
    the prompt of the critique, with the fields {references} and {caption}."""
    rounds: Count = 1
    """Rounds for each caption. A round asks the judge three times: for a critique, for feedback and for a new version."""


class RefineConfig(RunConfig):
    """Captions rewritten by critique, for DPO and SFT: `accelerate launch recipes/refine.py` or `rlcap train refine`."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    """The captioner whose captions are refined, where `captions` names no file."""
    data: DataConfig = Field(default_factory=lambda: DataConfig(validation=0, test=0))
    generation: GenerationConfig = Field(default_factory=GenerationConfig)
    """How the captions to refine are generated. They are greedy, so that only max_new_tokens has an effect."""
    captions: str | None = None
    """A .jsonl file with rows of sample_id and caption. They are refined in place of the model's own captions."""
    reviser: ReviserConfig = Field(default_factory=ReviserConfig)
    accept: MixConfig = Field(default_factory=dict)
    """A mix of rewards that has no part in the rewriting: a new caption is accepted where no reward falls and their sum rises."""
    tolerance: NotNegative = 0.0
    """How far each reward of `accept` may fall, in its own unit."""

    @model_validator(mode="after")
    def _check_independence(self) -> Self:
        for name, term in self.accept.items():
            judge = term.params.get("judge") if term is not None else None
            if judge is not None and _backend_name(judge) == _backend_name(self.reviser.judge):
                raise ValueError(f"accept.{name} asks the judge that rewrites: whoever accepts must be another")
        return self


class DPOTrainConfig(SupervisedTrainConfig):
    """The optimiser and its clock in DPO (Rafailov et al. 2023, arXiv 2305.18290)."""

    steps: Count = 500
    """Optimiser steps."""
    batch_size: Count = 16
    """Pairs per step."""
    micro_batch: Count = 4
    """Pairs in one forward and backward pass of a device."""
    learning_rate: Positive = 5e-6
    """Learning rate of AdamW. 1e-6 to 5e-6 suits models of billions of parameters."""
    beta: Positive = 0.3
    """β of DPO: the larger it is, the closer the policy stays to the reference model (the starting adapter)."""
    sft_weight: NotNegative = 2.0
    """Weight of the chosen captions' own likelihood beside the preference loss (RPO, arXiv 2404.19733). Without it captions may grow or
    shrink without limit, because a preference says only which of two captions is better."""
    seed: CountOrZero = 0
    """Seed of the order of pairs."""


class DPOConfig(RunConfig):
    """Learning from preference pairs: `accelerate launch recipes/dpo.py pairs=runs/x/pairs.jsonl` or `rlcap train dpo …`."""

    pairs: str = ""
    """The pairs.jsonl of recipes/refine.py, or rows {image, prompt, chosen, rejected} from anywhere."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    """Its held-out images are evaluated before and after; its training images are not used."""
    generation: GenerationConfig = Field(default_factory=GenerationConfig)
    train: DPOTrainConfig = Field(default_factory=DPOTrainConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)

    @model_validator(mode="after")
    def _check_reference(self) -> Self:
        if self.model.trainable == "full" and self.model.adapter is None:
            raise ValueError("model.trainable: DPO's reference is the starting adapter, so it must be a LoRA, got full")
        return self


def _backend_name(judge: Any) -> Any:
    """Return the name of a judge's backend, without its parameters."""
    if isinstance(judge, Mapping):
        return _backend_name(judge["backend"]) if "backend" in judge else judge.get("type")
    return judge
