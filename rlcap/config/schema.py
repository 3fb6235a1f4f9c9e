"""What a run is: its keys with their meaning as dataclasses, and every rule that bounds a value or spans fields.

    config = load_config(GRPOConfig, "my.yaml", ["train.steps=200", "mix.self_retrieval.weight=0.5"])
    check(config)

How files and overrides are read stands in `rlcap.config.loading`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rlcap.config.loading import dump as dump  # the one place that callers import from
from rlcap.config.loading import load_config as load_config

TRAINABLE = ("lora-language", "lora-all", "projector", "full")
"""Names that `model.trainable` may have."""
DTYPES = ("auto", "float32", "bfloat16")
"""Names that `model.dtype` may have."""


@dataclass
class ModelConfig:
    """The policy: a base model and the LoRA adapter that maximum likelihood made."""

    base: str = "lab:captioner"
    """Folder or hub name of an image-text-to-text model; `lab:captioner` is the embedded one."""
    adapter: str | None = "lab:adapter"
    """Folder or hub name of the LoRA adapter to start from (and the reference model); null makes a fresh one."""
    trainable: str = "lora-language"
    """What a fresh adapter adapts: lora-language, lora-all, projector or full."""
    lora_rank: int = 16
    """Rank of a fresh LoRA, 1 or more."""
    lora_alpha: int = 32
    """Scale of a fresh LoRA: alpha / rank multiplies its output."""
    dtype: str = "auto"
    """float32, bfloat16, or auto: bfloat16 on a GPU that has it, else float32."""
    load_in_4bit: bool = False
    """Keep the base's linear layers in 4 bits (NF4, double quantisation: QLoRA); needs bitsandbytes and a LoRA."""
    trust_remote_code: bool = False
    """Run code that a hub repository brings. Off unless asked for by name."""


@dataclass
class DataConfig:
    """Where images and texts come from."""

    source: str = "lab"
    """`lab`, a .jsonl file, a COCO captions .json, or the folder of a Hugging Face data set on disk."""
    image_root: str | None = None
    """Folder that image paths are relative to; default: the file's own folder."""
    split: str | None = None
    """Of a Hugging Face data set that was saved with several splits: the one to take. Held-out images are drawn from it."""
    columns: dict[str, str] = field(default_factory=dict)
    """Our name (id, image, references, paragraph) → the source's own, where they differ: {references: captions}."""
    train: int | None = 560
    """Training images; null takes all that are not held out."""
    validation: int = 35
    """Images that are captioned on a schedule during training."""
    test: int = 308
    """Images that are captioned before the first and after the last step."""
    prior_breaking: int = 154
    """The lab's second test split, of scenes without habits; must be 0 for other sources."""
    seed: int = 0
    """Which rows are held out, and which scenes the lab draws. Not the seed of the training."""
    on_bad: str = "error"
    """What a bad row does: error (stop, naming row and file) or skip (counted)."""
    max_pixels: int = 50_000_000
    """An image of more pixels is a bad row, known from its header before anything is decoded."""
    bags: str | None = None
    """Bag file of `rlcap bags mine`; the lab and sources without bags need none."""
    instruction: str | None = None
    """What the captioner is asked; null takes the source's default."""


@dataclass
class GenerationConfig:
    """How captions are sampled."""

    max_new_tokens: int = 72
    """Longest caption, in tokens."""
    temperature: float = 1.0
    """Of training's samples, above 0; evaluation is greedy."""
    top_p: float = 1.0
    """Nucleus of training's samples, in (0, 1]."""


@dataclass
class TrainConfig:
    """The optimiser and its clock."""

    steps: int = 40
    """Optimiser steps."""
    images_per_step: int = 8
    """Images that one step learns from."""
    captions_per_image: int = 8
    """Captions sampled for each of them: the group that is compared. Below 4 most groups say nothing."""
    micro_batch: int = 64
    """Captions that fit through one forward and backward pass of a device."""
    iterations: int = 1
    """How often the captions of a round are learnt from (μ); above 1 the ratio is clipped."""
    minibatches: int = 1
    """Optimiser steps that learn from a round's captions once, each from its own `images_per_step` images."""
    learning_rate: float = 2e-3
    """AdamW's. 1e-6 to 1e-5 for models of billions."""
    schedule: str = "cosine"
    """Of the learning rate: cosine (warm-up over the first tenth, then to a tenth by cosine) or constant."""
    weight_decay: float = 0.0
    """AdamW's."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    beta: float = 0.02
    """What a nat of KL from the reference model (the starting adapter) costs; 0 switches it off."""
    kl: str = "loss"
    """Where the KL counts: loss (a token, k3 estimator) or sequence (a caption's sum off its advantage, as in MOCHa)."""
    epsilon: float = 0.2
    """PPO clip of the probability ratio; matters when a round is learnt from in several steps."""
    aggregate: str = "normalize_then_sum"
    """normalize_then_sum (GDPO), sum_then_normalize (GRPO), sum_then_center (Dr. GRPO, MOCHa), sum_then_leave_one_out (RLOO),
    sum_minus_running_mean (REINFORCE as in NDLB, DiscriTune) or sum_minus_greedy (SCST, CLIP-Caption-Reward)."""
    whiten: bool = True
    """Divide the advantage by its std over the step's captions, in normalize_then_sum and sum_minus_…"""
    loss_type: str = "dapo"
    """TRL's token aggregation: dapo (all tokens of the step alike), grpo, dr_grpo, bnpo."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: slower, less memory."""
    save_every: int = 20
    """Steps between checkpoints; rounded up to a generation boundary. The last step is always saved."""
    keep_checkpoints: int = 2
    """How many checkpoints stay on disk."""
    max_abstain: float = 0.5
    """A component that abstains on more than this share of recent captions stops the run."""
    seed: int = 0
    """Of initialisation, order and sampling."""
    use_vllm: bool = False
    """Sample with vLLM through TRL; needs the extra `vllm` and a GPU."""


@dataclass
class EvaluationConfig:
    """The fixed rulers, none of which takes part in the mix."""

    retriever: str = "local-dir:lab:judge-retriever"
    """open_clip model of the R@1 metrics; must differ from the reward's."""
    retriever_pretrained: str | None = None
    """open_clip's pretrained tag or safetensors file for it."""
    nli: str | None = None
    """NLI model of the contradiction metric (real data); null leaves the metric out."""
    every: int = 20
    """Steps between evaluations of the validation split; test splits are read before step 1 and at the end."""
    batch_size: int = 64
    """Images captioned at once."""
    panel: int = 6
    """Validation images followed through training in the report."""


@dataclass
class GRPOConfig:
    """A reinforcement run: `accelerate launch recipes/grpo.py`."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    curriculum: Any = "bagcurri"
    """bagcurri; a bag size; {start of progress: bag size}; {bag_size, level}; or {sizes, target, window}."""
    mix: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Component name → {reward: module:Class, weight, normalize, params}; null removes a component."""
    report_to: list[str] = field(default_factory=list)
    """wandb or nothing."""
    name: str | None = None
    """Name of the run; default: recipe and time."""
    output_dir: str | None = None
    """Run folder; default: runs/<name>."""
    resume: str | None = None
    """`auto` takes the newest whole checkpoint of output_dir, or a checkpoint's folder."""


@dataclass
class PPOTrainConfig(TrainConfig):
    """PPO's: a critic beside the policy, credit token by token. `aggregate` has no meaning here."""

    iterations: int = 2
    """PPO's epochs: how often the captions of a round are learnt from."""
    kl: str = "token"
    """Where the KL counts: token (a reward at each, k1 estimator) or loss (k3)."""
    kl_target: float | None = None
    """Nats a caption that the coefficient `beta` is steered to (Ziegler et al. 2019); null keeps it as it is."""
    kl_gain: float = 0.1
    """How fast: a round changes the coefficient by a fifth of this at most."""
    gamma: float = 1.0
    """Discount a token, in [0, 1]."""
    lam: float = 0.95
    """λ of GAE, in [0, 1]: 1 compares with what came of the caption, 0 trusts the critic."""
    whiten: bool = True
    """Advantages of a round's tokens to mean 0 and std 1."""
    value_learning_rate: float | None = None
    """AdamW's for the critic; null takes learning_rate."""
    value_coefficient: float = 0.5
    """Weight of the critic's loss. Its gradient is clipped apart from the policy's, and Adam is blind to scale, so that it
    matters little."""
    value_clip: float | None = 0.2
    """How far a round may move a value before the loss stops pulling, in stds of the reward; null: as far as it likes."""


@dataclass
class PPOConfig(GRPOConfig):
    """A reinforcement run with a critic: `accelerate launch recipes/ppo.py`."""

    train: PPOTrainConfig = field(default_factory=PPOTrainConfig)


@dataclass
class SFTTrainConfig:
    """Maximum likelihood's optimiser and clock."""

    steps: int = 400
    """Optimiser steps."""
    batch_size: int = 32
    """Images a step."""
    micro_batch: int = 32
    """Images through one forward and backward pass."""
    learning_rate: float = 2e-3
    """AdamW's; linear warm-up over the first 5 %, then to zero by cosine."""
    weight_decay: float = 0.0
    """AdamW's."""
    target: str = "paragraph"
    """What is learnt: paragraph (the fused one) or references (one drawn per epoch)."""
    seed: int = 0
    """Of initialisation and order."""


@dataclass
class SFTConfig:
    """A maximum-likelihood run: `accelerate launch recipes/sft.py`."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig(adapter=None))
    data: DataConfig = field(default_factory=lambda: DataConfig(train=6000, test=0, prior_breaking=0))
    train: SFTTrainConfig = field(default_factory=SFTTrainConfig)
    report_to: list[str] = field(default_factory=list)
    """wandb or nothing."""
    name: str | None = None
    """Name of the run; default: recipe and time."""
    output_dir: str | None = None
    """Run folder; default: runs/<name>. The adapter is in its `adapter/`."""


@dataclass
class ReviserConfig:
    """Who criticises and rewrites captions: textual gradient descent (`rlcap.feedback.revise`)."""

    judge: Any = "rlcap.lab.oracles.reviser:OracleReviser"
    """Who criticises and rewrites, as for a reward that asks a judge: `openai:MODEL`, `module:Class`, or {backend: …, timeout: …}. Its
    prompt is that of the loss, with {references} and {caption}."""
    rounds: int = 1
    """Rounds of loss, gradient and step a caption; three calls each."""


@dataclass
class RefineConfig:
    """Captions rewritten by critique, for DPO and SFT: `accelerate launch recipes/refine.py`."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The captioner whose captions are refined, where `captions` names no file."""
    data: DataConfig = field(default_factory=lambda: DataConfig(train=140, validation=0, test=0, prior_breaking=0))
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    """Of the model's captions, which are greedy: max_new_tokens alone counts."""
    captions: str | None = None
    """A .jsonl of sample_id and caption to refine instead."""
    reviser: ReviserConfig = field(default_factory=ReviserConfig)
    accept: dict[str, Any] = field(default_factory=dict)
    """A mix of rewards, as `mix` of recipes/grpo.py, that has no part in the rewriting: a new caption is taken where none of
    them falls and their weighted sum rises."""
    tolerance: float = 0.0
    """How far each reward of `accept` may fall, in its own unit."""
    name: str | None = None
    """Name of the run; default: recipe and time."""
    output_dir: str | None = None
    """Run folder; default: runs/<name>. It holds refined.jsonl, pairs.jsonl for DPO and sft.jsonl for SFT."""
    resume: str | None = None
    """auto: leave out what the folder's refined.jsonl holds already."""


@dataclass
class DPOTrainConfig:
    """DPO's optimiser and clock (Rafailov et al. 2023, arXiv 2305.18290)."""

    steps: int = 40
    """Optimiser steps."""
    batch_size: int = 16
    """Pairs a step."""
    micro_batch: int = 8
    """Pairs through one forward and backward pass of a device."""
    learning_rate: float = 3e-4
    """AdamW's; 1e-6 to 5e-6 for models of billions."""
    beta: float = 0.3
    """How much a departure from the reference model (the starting adapter) costs."""
    sft_weight: float = 2.0
    """Weight of the chosen captions' own likelihood beside the preference loss (RPO, arXiv 2404.19733). Without it the lab's
    captions lengthen or shorten until nothing is left of them: a preference says what to leave, not what to say."""
    seed: int = 0
    """Of the order of pairs."""


@dataclass
class DPOConfig:
    """Learning from preference pairs: `accelerate launch recipes/dpo.py --config …`, or `pairs=runs/x/pairs.jsonl`."""

    pairs: str = ""
    """The pairs.jsonl of recipes/refine.py, or rows {image, prompt, chosen, rejected} from anywhere."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(train=14))
    """Whose held-out images are evaluated before and after; its training images are not looked at."""
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    train: DPOTrainConfig = field(default_factory=DPOTrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    report_to: list[str] = field(default_factory=list)
    """wandb or nothing."""
    name: str | None = None
    """Name of the run; default: recipe and time."""
    output_dir: str | None = None
    """Run folder; default: runs/<name>. The adapter is in its `adapter/`."""


COLUMNS = ("id", "image", "references", "paragraph")
"""What a row of data holds by our names; `data.columns` maps them to the source's."""
