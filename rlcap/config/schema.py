"""What a run is: every key of a configuration, with its type, its range, its default and its meaning.

This file has the sections that several recipes share, and those of reinforcement. `supervised.py` has those of the other recipes.

    config = load_config(GRPOConfig, "my.yaml", ["train.steps=200", "mix.self_retrieval.weight=0.5"])

Values are checked when a configuration is built: types and ranges by the fields, rules that span keys by the validators below them. All
problems are reported at once. The defaults are for captioners of billions of parameters; the values of the embedded lab are in
`recipes/configs/lab.yaml`. `rlcap config` prints the schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from rlcap.config.controls import ControlDistributions, ControlPhrases, ControlValues
from rlcap.config.section import Section
from rlcap.config.trackers import Tracker
from rlcap.config.validation import did_you_mean

Count = Annotated[int, Field(ge=1)]
"""A whole number of 1 or more."""
CountOrZero = Annotated[int, Field(ge=0)]
"""A whole number of 0 or more."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A finite number above 0."""
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A finite number of 0 or more."""
Share = Annotated[float, Field(ge=0, le=1)]
"""A number in [0, 1]."""
Trackers = Annotated[list[Tracker], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
"""One or several experiment trackers: `wandb` or `[wandb, tensorboard]`."""
Normalize = Literal["group", "batch", "running", "none"]
"""What a term's centred values are divided by."""
Column = Literal["id", "image", "references", "paragraph", "control"]
"""What a row of data holds, by our names."""

COLUMNS: tuple[Column, ...] = ("id", "image", "references", "paragraph", "control")


class ModelConfig(Section):
    """The policy: a base model and the LoRA adapter that maximum likelihood made."""

    base: str = ""
    """Folder, hub name or address (`lab:captioner`) of an image-text-to-text model. Needed wherever a captioner is loaded."""
    adapter: str | None = None
    """Folder, hub name or address of the LoRA adapter to start from, which is also the reference model; null makes a fresh one."""
    trainable: Literal["lora-language", "lora-all", "projector", "full"] = "lora-language"
    """What a fresh adapter adapts; `full` trains every weight without an adapter."""
    lora_rank: Count = 16
    """Rank of a fresh LoRA."""
    lora_alpha: Count = 32
    """Scale of a fresh LoRA: alpha / rank multiplies its output."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Data type of the weights. `auto` takes bfloat16 on a GPU that supports it, and float32 elsewhere."""
    load_in_4bit: bool = False
    """Keep the base's linear layers in 4 bits (NF4 with double quantisation: QLoRA). It needs bitsandbytes and a LoRA."""
    trust_remote_code: bool = False
    """Run code that a hub repository brings."""
    allow_missing_weights: bool = False
    """Whether to train a base or an adapter of which tensors are missing; they start as random numbers."""

    @model_validator(mode="after")
    def _check_adapter(self) -> Self:
        if self.adapter is not None and self.trainable == "full":
            raise ValueError(
                f"trainable=full trains every weight, and adapter {self.adapter} is a LoRA: set model.adapter=null"
            )
        return self


class DataConfig(Section):
    """Where images and texts come from, and which of them are held out."""

    source: str = ""
    """A .jsonl, .json, .csv, .tsv or .parquet file, a folder of images or of a Hugging Face data set, or a data source `module:Class`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Parameters of a data source `module:Class`."""
    image_root: str | None = None
    """Folder that image paths are relative to; null takes the file's own folder."""
    split: str | None = None
    """The split to take of a Hugging Face data set that was saved with several. Held-out images are drawn from it."""
    columns: dict[Column, str] = Field(default_factory=dict)
    """Our name → the source's own name, where they differ: {references: captions}."""
    train: Count | None = None
    """Training images; null takes all that are not held out."""
    validation: CountOrZero = 50
    """Images that are captioned on a schedule during training."""
    test: CountOrZero = 200
    """Images that are captioned before the first and after the last step."""
    seed: CountOrZero = 0
    """Seed that decides which rows are held out. It is not the seed of the training."""
    on_bad: Literal["error", "skip"] = "error"
    """What a bad row does: stop with the row and the file, or be skipped and counted."""
    max_pixels: Count = 50_000_000
    """An image of more pixels is a bad row. The size is read from the file's header before anything is decoded."""
    bags: str | None = None
    """Bag file that `rlcap bags mine` makes; null where the source brings its own bags, or none are wanted."""
    instruction: str | None = None
    """What the captioner is asked; null takes the source's default."""
    control: ControlValues = Field(default_factory=dict)
    """What is asked of the captions of all rows that do not say it themselves: {length: 60, language: German}. The keys are format, length,
    level, source, question, region, language and style."""
    control_from_paragraph: list[Literal["length", "format"]] = Field(default_factory=list)
    """Controls that are measured on a row's paragraph where the row does not set them, so that maximum likelihood learns to obey them."""
    control_phrases: ControlPhrases = Field(default_factory=dict)
    """The words of a control in the instruction, where they are not the default ones: {length: "in {value} words"}, or a mapping from values
    to texts. A number that the mapping does not have takes the nearest."""


class GenerationConfig(Section):
    """How captions are sampled in training. Evaluation is greedy."""

    max_new_tokens: Count = 200
    """Longest caption in tokens."""
    temperature: NotNegative = 1.0
    """Sampling temperature; 0 takes the most probable token, as DiscriTune's training captions do."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus of the samples, in (0, 1]."""
    controls: ControlDistributions = Field(default_factory=dict)
    """Distributions from which GRPO and PPO draw the controls of an image, anew in each epoch: a list of values ({length: [20, 40, 80]}), a
    mapping from values to weights ({format: {SSC: 0.3, DSC: 0.7}}), or {length: {uniform: [10, 80]}}. null among the values asks nothing. A
    drawn value takes the place of the row's own."""


class TrainConfig(Section):
    """The optimiser and its clock in reinforcement learning."""

    steps: Count = 500
    """Optimiser steps."""
    images_per_step: Count = 8
    """Images that one step learns from."""
    captions_per_image: Annotated[int, Field(ge=2)] = 8
    """Captions that are sampled for each image: the group in which they are compared. With fewer than 4, most groups give no signal."""
    micro_batch: Count = 8
    """Captions in one forward and backward pass of a device."""
    iterations: Count = 1
    """How many times the captions of a round are learned from (μ of GRPO). Above 1 the probability ratio is clipped."""
    minibatches: Count = 1
    """Optimiser steps that learn from a round's captions once, each from its own `images_per_step` images."""
    learning_rate: Positive = 1e-5
    """Learning rate of AdamW. 1e-6 to 1e-5 suits models of billions of parameters."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Schedule of the learning rate. `cosine` warms up over the first tenth of the steps and falls to a tenth of the rate."""
    weight_decay: NotNegative = 0.0
    """Weight decay of AdamW."""
    max_grad_norm: Positive = 1.0
    """Gradients are clipped to this norm."""
    beta: NotNegative = 0.02
    """Cost of one nat of KL divergence from the reference model; 0 switches the KL term off."""
    kl: Literal["loss", "loss_k3", "sequence"] = "loss"
    """Where the KL term is applied: loss (at each token, by the k3 estimator times the probability ratio, which corrects its gradient;
    TRL's default), loss_k3 (by plain k3, as DeepSeekMath has it) or sequence (a caption's summed KL is subtracted from its advantage,
    as in MOCHa)."""
    epsilon: NotNegative = 0.2
    """Clip of the probability ratio. It has an effect when several steps learn from the same round."""
    aggregate: Literal[
        "normalize_then_sum",
        "sum_then_normalize",
        "sum_then_center",
        "sum_then_leave_one_out",
        "sum_minus_running_mean",
        "sum_minus_greedy",
    ] = "normalize_then_sum"
    """How rewards become advantages: normalize_then_sum (GDPO), sum_then_normalize (GRPO), sum_then_center (Dr. GRPO, MOCHa),
    sum_then_leave_one_out (RLOO), sum_minus_running_mean (REINFORCE as in NDLB and DiscriTune) or sum_minus_greedy (SCST,
    CLIP-Caption-Reward). The formulas are in rlcap/algo/advantages.py."""
    credit: Literal["caption", "claim"] = "caption"
    """What an advantage belongs to: caption (all tokens of a caption share it) or claim (what rewards say of single words and sentences
    changes the advantage of these tokens). The formula is in rlcap/algo/credit.py."""
    credit_share: Share = 0.2
    """With credit=claim, the share of a reward term that goes to the words that it is about instead of the whole caption. A term can
    have its own `credit_share`."""
    refill: CountOrZero = 0
    """How often a group whose captions all got the same total is replaced by the captions of another image in the same step; 0 keeps it.
    Such a group gives no gradient. Each attempt costs one more generation of the groups concerned."""
    target_rate: Positive = 0.1
    """How fast the multiplier of a reward term with a target moves: by this much in a round that misses it by one std of the term."""
    whiten: bool = True
    """Divide the advantages by their std over the step's captions, in normalize_then_sum and sum_minus_…"""
    policy_temperature: Positive | None = None
    """Temperature of the log-probabilities in loss, ratio and KL; null takes generation.temperature, or 1 where that is 0."""
    learn_end: bool = True
    """Whether loss and KL include the end token. NDLB and DiscriTune leave it out."""
    loss_type: Literal["dapo", "grpo", "dr_grpo", "bnpo"] = "dapo"
    """TRL's aggregation over tokens; dapo gives every token of the step the same weight."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: slower, with less memory."""
    save_every: Count = 50
    """Steps between checkpoints, rounded up to the end of a round. The last step is always saved."""
    keep_checkpoints: Count = 2
    """How many checkpoints stay on disk."""
    max_abstain: Share = 0.5
    """Largest share of recent captions on which a reward term may abstain; a larger share stops the run."""
    seed: CountOrZero = 0
    """Seed of initialisation, order and sampling."""
    use_vllm: bool = False
    """Sample with vLLM through TRL. It needs the extra `vllm` and a GPU."""

    @model_validator(mode="after")
    def _check_vllm(self) -> Self:
        if self.use_vllm and self.refill:
            raise ValueError("train.use_vllm leaves the round to TRL, which replaces no groups: set train.refill=0")
        if self.use_vllm and (self.policy_temperature is not None or not self.learn_end):
            raise ValueError(
                "train.use_vllm leaves the round to TRL: set train.policy_temperature=null and train.learn_end=true"
            )
        if self.use_vllm and (self.aggregate == "sum_minus_greedy" or self.kl == "sequence" or self.minibatches > 1):
            raise ValueError(
                "train.use_vllm leaves the round to TRL, which has no greedy captions, no KL but in the loss and no minibatches: set "
                "train.aggregate, train.kl=loss or loss_k3, and train.minibatches=1, or train.use_vllm=false"
            )
        return self


class EvaluationConfig(Section):
    """The held-out metrics. None of their models takes part in the mix."""

    retriever: str = ""
    """open_clip model of the retrieval metrics; it must differ from those of the rewards. Needed wherever a run is evaluated."""
    retriever_pretrained: str | None = None
    """open_clip's pretrained tag or safetensors file for the retriever."""
    nli: str | None = None
    """NLI model of the contradiction metric; null leaves the metric out."""
    tokenizer: Literal["words", "ptb"] = "words"
    """What splits texts into words for CIDEr-D; `ptb` gives the words of published values."""
    every: Count = 50
    """Steps between evaluations of the validation split. The test splits are evaluated before the first and after the last step."""
    batch_size: Count = 16
    """Images that are captioned at once."""
    panel: CountOrZero = 6
    """Validation images that the report follows through training. They are chosen to differ from each other."""
    control: ControlValues = Field(default_factory=dict)
    """What is asked of all evaluated captions, such as {level: 8}, in place of what the rows ask; {} leaves the rows their own controls."""


class TermConfig(Section):
    """One term of a reward mix."""

    reward: str
    """A shipped reward's short name (`clip_score`), `module:Class` or `file.py:Class`."""
    weight: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    """Weight of the term; 0 scores and logs without any effect on training. With a target, where its multiplier begins."""
    target: Annotated[float, Field(allow_inf_nan=False)] | Literal["start"] | None = None
    """Mean that the term shall reach, instead of a fixed weight: a number, or start for its mean in the first round. A Lagrange multiplier,
    which is the weight, rises while the mean of a round lies below the target and falls while it lies above."""
    normalize: Normalize | None = None
    """What the centred value is divided by; null takes group. It has an effect only with train.aggregate=normalize_then_sum."""
    credit_share: Share | None = None
    """The term's share of credit to words, for train.credit=claim; null takes train.credit_share."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the reward's constructor."""

    def entry(self) -> dict[str, Any]:
        """Return the term as `rlcap.reward.mix.RewardMix.from_config` takes it."""
        return {
            "reward": self.reward,
            "weight": self.weight,
            "target": self.target,
            "normalize": self.normalize or "group",
            "credit_share": self.credit_share,
            "params": self.params,
        }


def _check_term_names(value: Any, info: ValidationInfo) -> Any:
    """Refuse a term without a reward, which is often the misspelt name of another term."""
    if isinstance(value, Mapping):
        whole = [name for name, entry in value.items() if isinstance(entry, Mapping) and "reward" in entry]
        for name, entry in value.items():
            if isinstance(entry, Mapping) and "reward" not in entry:
                raise ValueError(
                    f"{info.field_name}.{name} names no reward; {did_you_mean(str(name), whole, f'{info.field_name}.')}a term needs `reward: NAME` or `module:Class`, got "
                    f"{dict(entry)!r}"
                )
    return value


MixConfig = Annotated[dict[str, TermConfig | None], BeforeValidator(_check_term_names)]
"""Name → term of a reward mix; null removes a term of the file below."""


def mix_entries(mix: MixConfig) -> dict[str, dict[str, Any]]:
    """Return the terms that a configuration keeps, as `RewardMix.from_config` takes them."""
    return {name: term.entry() for name, term in mix.items() if term is not None}


class RunConfig(Section):
    """What every recipe's configuration has."""

    report_to: Trackers = Field(default_factory=list)
    """Experiment trackers, of those that transformers knows; [] reports to none. All get the metrics of the training; wandb and tensorboard
    also get the held-out metrics and the followed captions. A tracker must be installed."""
    name: str | None = None
    """Name of the run; null makes one of recipe and time."""
    output_dir: str | None = None
    """Run folder; null takes runs/<name>. The tuned adapter is in its `adapter/`."""
    resume: str | None = None
    """`auto` goes on from the newest complete checkpoint of output_dir; or the folder of a checkpoint."""


class GRPOConfig(RunConfig):
    """A reinforcement run: `accelerate launch recipes/grpo.py` or `rlcap train grpo`."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    generation: GenerationConfig = Field(default_factory=GenerationConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    curriculum: str | int | dict[Any, Any] = "bagcurri"
    """bagcurri; a bag size; {start of progress: bag size}; {bag_size, level}; or {sizes, target, window}."""
    mix: MixConfig = Field(default_factory=dict)
    """Name → {reward, weight, normalize, params}; null removes a term."""

    @model_validator(mode="after")
    def _check_evaluation_model(self) -> Self:
        for name, term in self.mix.items():
            if (
                term is not None
                and self.evaluation.retriever
                and self.evaluation.retriever in map(str, term.params.values())
            ):
                raise ValueError(
                    f"evaluation.retriever is also a parameter of mix.{name}: evaluate with another model than you train on"
                )
        return self

    @model_validator(mode="after")
    def _check_normalize(self) -> Self:
        reason = self._why_normalize_has_no_effect()
        for name, term in self.mix.items():
            if term is not None and term.normalize is not None and reason:
                raise ValueError(
                    f"mix.{name}.normalize has no effect with {reason}: set mix.{name}.normalize=null, or aggregate by normalize_then_sum in GRPO"
                )
        return self

    def _why_normalize_has_no_effect(self) -> str:
        aggregate = self.train.aggregate
        return "" if aggregate == "normalize_then_sum" else f"train.aggregate={aggregate}"


class PPOTrainConfig(TrainConfig):
    """PPO's optimiser: a value model beside the policy gives credit token by token."""

    iterations: Count = 2
    """How many times the captions of a round are learned from (PPO's epochs)."""
    kl: Literal["token", "loss", "loss_k3"] = "token"  # type: ignore[assignment]  # PPO has other places for the KL than GRPO
    """Where the KL term is applied: token (as a reward at each token, by the k1 estimator), loss or loss_k3 (as in GRPO)."""
    kl_target: Positive | None = None
    """Target of the KL divergence in nats per caption: `beta` is adapted to reach it (Ziegler et al. 2019); null keeps `beta` as it is."""
    kl_gain: Positive = 0.1
    """Speed of the adaptation: one round changes the coefficient by at most 0.2 × this value."""
    gamma: Share = 1.0
    """Discount per token, in [0, 1]."""
    lam: Share = 0.95
    """λ of GAE, in [0, 1]: 1 trusts the outcome of the caption alone, 0 the value model alone."""
    whiten: bool = True
    """Bring the advantages of a round's tokens to mean 0 and std 1."""
    value_learning_rate: Positive | None = None
    """Learning rate of the value model; null takes learning_rate."""
    value_coefficient: NotNegative = 0.5
    """Weight of the value loss. Its gradient is clipped separately, and Adam ignores scale, so that the weight matters little."""
    value_clip: Positive | None = 0.2
    """Largest change of a predicted value in one round that the value loss still rewards, in stds of the reward; null switches the clip off."""

    @model_validator(mode="after")
    def _check_ppo(self) -> Self:
        if self.aggregate != TrainConfig.model_fields["aggregate"].default:
            raise ValueError(
                f"train.aggregate is {self.aggregate!r}, but PPO compares with its value model: leave it out"
            )
        if self.kl_target is not None and (self.kl != "token" or not self.beta):
            raise ValueError(
                "train.kl_target steers what a token's KL costs: it needs train.kl=token and train.beta above 0 to start from, got "
                f"{self.kl!r} and {self.beta}"
            )
        if self.use_vllm:
            raise ValueError("train.use_vllm is GRPO's: PPO samples its captions itself")
        return self

    @model_validator(mode="after")
    def _check_vllm(self) -> Self:
        return self


class PPOConfig(GRPOConfig):
    """A reinforcement run with a value model: `accelerate launch recipes/ppo.py` or `rlcap train ppo`."""

    train: PPOTrainConfig = Field(default_factory=PPOTrainConfig)

    def _why_normalize_has_no_effect(self) -> str:
        return "PPO, whose value model is the baseline"
