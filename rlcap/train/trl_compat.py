"""A table of all private names of TRL, transformers, accelerate and peft on which the code relies.

A name with an underscore can change in any release without notice. `INTERNALS` lists each such name that `rlcap/` overrides,
calls or reads, with its use. `tests/train/test_trl_compat.py` compares the table with the installed packages. After an
upgrade, the test names the entries whose source has changed. Read each of them again, then update `version` and `digest` of
the entry (`python -m rlcap.train.trl_compat` prints both).

The module also contains the small pieces of code that undo or replace parts of TRL.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlcap.policy.captioner import unwrap_model

if TYPE_CHECKING:
    import torch
    import trl


@dataclass(frozen=True, slots=True)
class Internal:
    """One private method or attribute of another package."""

    owner: str
    """`module:Class` that defines it."""
    name: str
    """Its name."""
    version: str
    """Version of the package for which the entry was checked."""
    parameters: tuple[str, ...] | None
    """Names of a method's parameters without `self`; None for an attribute."""
    digest: str
    """`source_digest` in that version."""
    use: str
    """What the code uses it for, and where."""

    @property
    def package(self) -> str:
        """Name of the package, as pip knows it."""
        return self.owner.split(".")[0]


def load_owner(entry: Internal) -> type:
    """Import the class that owns an entry.

    Raises:
        ImportError: The module is gone.
        AttributeError: The class is gone.
    """
    module, name = entry.owner.split(":")
    return getattr(importlib.import_module(module), name)


def read_parameters(entry: Internal) -> tuple[str, ...] | None:
    """Return the parameter names of a method in the installed version, without `self`; None for an attribute."""
    if entry.parameters is None:
        return None
    return tuple(inspect.signature(getattr(load_owner(entry), entry.name)).parameters)[1:]


def read_source(entry: Internal) -> str:
    """Return the source of an entry in the installed version.

    For an attribute, the source consists of the lines of the class that contain its name. The result is empty if the class
    does not define the entry itself.
    """
    owner = load_owner(entry)
    if entry.parameters is not None:
        return inspect.getsource(vars(owner)[entry.name]) if entry.name in vars(owner) else ""
    whole_name = re.compile(rf"(?<!\w){re.escape(entry.name)}\b")
    return "\n".join(line.strip() for line in inspect.getsource(owner).splitlines() if whole_name.search(line))


def source_digest(entry: Internal) -> str:
    """Return the first 12 hexadecimal digits of the sha256 of `read_source`."""
    return hashlib.sha256(read_source(entry).encode()).hexdigest()[:12]


def describe_change(entry: Internal) -> str | None:
    """Return a message that says how an entry differs from its record; None if it is unchanged."""
    installed = importlib.metadata.version(entry.package)
    label = f"{entry.owner}.{entry.name} ({entry.package} {installed}, recorded in {entry.version})"
    again = f"read it again, then what relies on it: {entry.use}"
    try:
        if not read_source(entry):
            return f"{label} is gone; {again}"
        found = read_parameters(entry)
    except (ImportError, AttributeError) as error:
        return f"{label} is gone ({error}); {again}"
    if found != entry.parameters:
        return f"{label} takes {found} instead of {entry.parameters}; {again}"
    if source_digest(entry) != entry.digest:
        return f"{label} has another source, {source_digest(entry)} instead of {entry.digest}; {again}"
    return None


_GRPO, _DPO = "trl.trainer.grpo_trainer:GRPOTrainer", "trl.trainer.dpo_trainer:DPOTrainer"
_TRAINER = "transformers.trainer:Trainer"
_LAYER = "transformers.modeling_layers:GradientCheckpointingLayer"
_TUNER, _WRAPPER = "peft.tuners.tuners_utils:BaseTunerLayer", "peft.utils.other:AuxiliaryTrainingWrapper"

INTERNALS: tuple[Internal, ...] = (
    Internal(
        _TRAINER,
        "_get_grad_norm",
        "5.24.0",
        ("model", "grad_norm"),
        "913ba6f52f07",
        "finite.py stops the run where the norm, which it returns before each optimiser step, is not finite.",
    ),
    Internal(
        _TRAINER,
        "_save_checkpoint",
        "5.24.0",
        ("model", "trial"),
        "a9111e30faa9",
        "finite.py checks the weights before it, and turns a full disk into one line.",
    ),
    Internal(
        _GRPO,
        "_get_train_sampler",
        "1.16.0",
        ("dataset",),
        "36497afb4d31",
        "grpo.py returns the sampler of groups, whose order depends on the seed and the epoch alone.",
    ),
    Internal(
        _GRPO,
        "_prepare_inputs",
        "1.16.0",
        ("generation_batch",),
        "f824e7fb0714",
        "grpo.py cuts a round into micro-batches whose groups stay whole and in order.",
    ),
    Internal(
        _GRPO,
        "_generate_and_score_completions",
        "1.16.0",
        ("inputs",),
        "1fa48922792d",
        "grpo.py replaces the round; with vLLM it calls TRL's and replaces the advantages.",
    ),
    Internal(
        _GRPO,
        "_calculate_rewards",
        "1.16.0",
        ("inputs", "prompts", "completions", "completion_ids_list"),
        "736ae29b0838",
        "grpo.py scores the captions of TRL's own round, with vLLM, by the mix.",
    ),
    Internal(
        _GRPO,
        "_compute_loss",
        "1.16.0",
        ("model", "inputs"),
        "80295546bbdb",
        "grpo.py notes the prompts of the micro-batch before TRL's loss; ppo.py adds the loss of the value model.",
    ),
    Internal(
        _GRPO,
        "_get_per_token_logps_and_entropies",
        "1.16.0",
        (
            "model",
            "input_ids",
            "attention_mask",
            "logits_to_keep",
            "batch_size",
            "compute_entropy",
            "compute_aux_loss",
            "pixel_values",
            "image_grid_thw",
            "num_images",
            "pixel_attention_mask",
            "spatial_shapes",
            "num_tiles",
            "image_sizes",
            "token_type_ids",
            "mm_token_type_ids",
            "image_position_ids",
        ),
        "ea73c3909275",
        "grpo.py computes log-probabilities and entropies over the shared prefix.",
    ),
    Internal(
        _GRPO,
        "_step",
        "1.16.0",
        None,
        "63a3434bb021",
        "grpo.py counts micro-batches by it, to know where a round begins and where an optimiser step ends.",
    ),
    Internal(
        _GRPO, "_buffered_inputs", "1.16.0", None, "ebd06866f7ff", "grpo.py keeps the micro-batches of the round in it."
    ),
    Internal(
        _GRPO,
        "_metrics",
        "1.16.0",
        None,
        "0371dd865c31",
        "grpo.py adds its metrics to those that TRL logs with the step.",
    ),
    Internal(
        _DPO,
        "_total_train_tokens",
        "1.16.0",
        None,
        "346721ad1d12",
        "dpo.py saves and restores the count of tokens, which TRL would start anew after resuming.",
    ),
    Internal(
        _TRAINER,
        "_clip_grad_norm",
        "5.24.0",
        ("model",),
        "ebfa9dc91d30",
        "ppo.py clips the gradients of policy and value model apart.",
    ),
    Internal(
        _TRAINER,
        "_save",
        "5.24.0",
        ("output_dir", "state_dict"),
        "b136889e8792",
        "ppo.py writes the value model beside the policy's adapter.",
    ),
    Internal(
        _TRAINER,
        "_load_from_checkpoint",
        "5.24.0",
        ("resume_from_checkpoint", "model"),
        "a2804e8d93a2",
        "ppo.py reads the value model; all recipes rely on it to read weights from safetensors.",
    ),
    Internal(
        _TRAINER,
        "_load_optimizer_and_scheduler",
        "5.24.0",
        ("checkpoint",),
        "741032f57d6f",
        "All recipes rely on it to load optimizer.pt and scheduler.pt with weights_only=True.",
    ),
    Internal(
        _TRAINER,
        "_load_rng_state",
        "5.24.0",
        ("checkpoint",),
        "d5ebdfc0a088",
        "All recipes rely on it to load rng_state.pth with weights_only=True and to restore every generator.",
    ),
    Internal(
        _TRAINER,
        "_init_training_state",
        "5.24.0",
        ("max_steps", "num_update_steps_per_epoch", "num_train_epochs", "resume_from_checkpoint", "trial"),
        "8fbd17ebb7d3",
        "All recipes rely on it for the epoch and the step within it from which a resumed run goes on.",
    ),
    Internal(
        _TRAINER,
        "_run_epoch",
        "5.24.0",
        (
            "model",
            "epoch",
            "train_dataloader",
            "steps_in_epoch",
            "num_update_steps_per_epoch",
            "trial",
            "ignore_keys_for_eval",
            "start_time",
            "resume_from_checkpoint",
            "epochs_trained",
            "steps_trained_in_current_epoch",
        ),
        "31aff00f34c3",
        "All recipes rely on it to skip the batches that a resumed epoch has behind it, and to restore the generators after that.",
    ),
    Internal(
        _TRAINER,
        "_maybe_log_save_evaluate",
        "5.24.0",
        ("tr_loss", "grad_norm", "model", "trial", "epoch", "ignore_keys_for_eval", "start_time", "learning_rate"),
        "af101534f0f7",
        "callbacks.py completes a checkpoint in on_save, which must come after the last of its other files.",
    ),
    Internal(
        _LAYER,
        "_gradient_checkpointing_func",
        "5.24.0",
        None,
        "6d4621d291e6",
        "policy/shared_prefix/checkpointing.py has layers recomputed with the adapter that they ran with.",
    ),
    Internal(
        _LAYER,
        "_can_checkpoint_with_cache",
        "5.24.0",
        None,
        "af8fae7e8a3c",
        "policy/shared_prefix/checkpointing.py lets checkpointed layers use the cache of the prefix.",
    ),
    Internal(
        _TUNER,
        "_active_adapter",
        "0.21.2",
        None,
        "31b8b02b83c4",
        "policy/adapters.py chooses the adapter of a forward pass without freezing the others.",
    ),
    Internal(
        _TUNER,
        "_disable_adapters",
        "0.21.2",
        None,
        "f4729ef58cc4",
        "policy/adapters.py switches adapters off for a forward pass without freezing them.",
    ),
    Internal(
        _WRAPPER,
        "_active_adapter",
        "0.21.2",
        None,
        "39052632352a",
        "policy/adapters.py, as for the layers of LoRA, for modules that are trained whole.",
    ),
    Internal(
        _WRAPPER,
        "_disable_adapters",
        "0.21.2",
        None,
        "2d21f77aca80",
        "policy/adapters.py, as for the layers of LoRA, for modules that are trained whole.",
    ),
)


class NoModelCard:
    """A mixin for TRL's trainers that writes no model card. The run folder contains the same information and more."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write nothing."""


def keep_inputs_without_gradient(arguments: trl.GRPOConfig, model: torch.nn.Module) -> None:
    """Make the embeddings of a model not require gradients, except where checkpointing needs these.

    Only reentrant checkpointing needs gradients of the embeddings, but TRL and transformers both enable them. BLIP and GIT
    add to the embeddings in place, which torch forbids for tensors that require gradients.

    Args:
        arguments: The configuration of the trainer.
        model: The model, which may be wrapped in peft.
    """
    options: Any = arguments.activation_checkpointing_kwargs or {}
    if not options.get("use_reentrant", True):
        base = unwrap_model(model)
        base.disable_input_require_grads()
        base.enable_input_require_grads = lambda: None


if __name__ == "__main__":
    for internal in INTERNALS:
        print(source_digest(internal), importlib.metadata.version(internal.package), internal.owner, internal.name)
