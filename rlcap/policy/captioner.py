"""The captioner interface: prepare images once, generate G captions per image, score captions with gradient.

    captioner = make_captioner(model, processor)                     # rlcap.policy.families.registry
    prompts = captioner.prepare(images, "describe the image")
    written = captioner.generate(prompts, captions=8, max_new_tokens=200)
    scores = captioner.log_probs(prompts, written.ids, written.mask)  # (8·B, C), with gradient

The captions of an image share the image and the instruction. The captioner runs these once, repeats their keys and
values for the captions, and then runs only the tokens of each caption. The result is exact, gradients included.
`shared=False` runs the whole prompt for each caption; tests and benchmarks compare the shared path with it.

A model family defines three operations: running a prompt (`prefill`), continuing it with captions (`decode_step`), and
running both in one pass (`forward_unshared`). In every tensor, rows are captions, and the captions of an image are
adjacent.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from peft import PeftModel
from PIL.Image import Image
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from rlcap.data.control import Form, Instruction, instruct
from rlcap.errors import ConfigError
from rlcap.policy.language_head import compute_log_probs, find_separable_head, skip_head
from rlcap.policy.prompt import Prompt
from rlcap.policy.shared_prefix.kv_cache import repeat_prefix, repeat_prefix_with_room
from rlcap.policy.threads import limit_threads
from rlcap.policy.token_offsets import token_offsets
from rlcap.policy.tokens import sample_tokens, token_log_probs
from rlcap.policy.vocabulary import find_end_ids, find_unknown_words
from rlcap.types import Control


@dataclass(frozen=True, slots=True)
class Prefix:
    """The state of the model after B prompts."""

    logits: torch.Tensor
    """(B, V) logits of the first token of a caption."""
    cache: Cache
    """Keys and values of the prompts."""
    mask: torch.Tensor | None
    """(B, P), 1 for a token and 0 for padding; None where nothing is padded, so that no mask is needed."""
    position: torch.Tensor
    """(B,) position of the first token of a caption."""
    extra: dict[str, torch.Tensor] = field(default_factory=dict)
    """Other tensors (B, …) of the prompts that the captions of a model family attend to."""

    def repeat(self, cache: Cache, captions: int) -> Prefix:
        """Return this prefix for B·captions rows, with a cache that already has these rows."""
        rows = {name: value.repeat_interleave(captions, 0) for name, value in self.extra.items()}
        mask = None if self.mask is None else self.mask.repeat_interleave(captions, 0)
        position = self.position.repeat_interleave(captions, 0)
        return replace(self, cache=cache, mask=mask, position=position, extra=rows)

    def extend_mask(self, tokens: int) -> torch.Tensor | None:
        """Return the mask (B, P + tokens) of the prompt and `tokens` caption tokens; None where no mask is needed.

        The padding of a caption needs no mask: it comes after all tokens that count, and attention is causal.
        """
        if self.mask is None:
            return None
        return torch.cat([self.mask, self.mask.new_ones(len(self.mask), tokens)], 1)


@dataclass(frozen=True, slots=True)
class GeneratedCaptions:
    """N generated captions of at most C tokens, padded on the right."""

    ids: torch.Tensor
    """(N, C) token ids."""
    mask: torch.Tensor
    """(N, C), 1 up to and including the end token, 0 after it."""
    log_probs: torch.Tensor
    """(N, C) log-probabilities at the sampling temperature over all words (see `Captioner.log_probs`); 0 if masked."""


@dataclass(frozen=True, slots=True)
class TokenLogProbs:
    """Log-probabilities of the tokens of N captions."""

    log_probs: torch.Tensor
    """(N, C) in nats, float32; 0 where the mask is 0."""
    entropies: torch.Tensor | None
    """(N, C) in nats, float32; None where not requested."""


class Captioner(ABC):
    """A model with its processor. It is cheap to build, since it holds no weights of its own.

    `model` may be wrapped in peft and in DDP around it. The caller decides which adapters are active and whether the
    model is in training mode. `prepare` and `generate` switch to evaluation mode, and restore the flags afterwards.
    """

    reads_several_images = False
    """Whether a prompt may hold several images."""

    @property
    def instruction_form(self) -> Form:
        """How the captioner reads its instruction, which decides where the words of a control stand."""
        return "prefix"

    def __init__(self, model: torch.nn.Module, processor: Any) -> None:
        self.model, self.processor = model, processor
        self.base: Any = unwrap_model(model)
        self.kind: str = self.base.config.model_type
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.end_ids: list[int] = self.read_end_ids()
        self.pad_id: int = self.end_ids[0] if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id

    def read_end_ids(self) -> list[int]:
        """Return the ids at which generation stops, the one that captions are taught with first.

        Raises:
            ConfigError: The model has none, so that a caption would never end.
        """
        return find_end_ids(self.text_model(), self.tokenizer)

    def text_model(self) -> Any:
        """Return the module that generates text, with the generation config and the layer that gives logits."""
        return self.base

    @abstractmethod
    def prepare(self, images: Sequence[Image | Sequence[Image]], instruction: str | Sequence[str]) -> list[Prompt]:
        """Make one prompt per image, or per sequence of images.

        The frozen part of the vision side runs here, once for all passes over the prompt. Where the whole vision side
        is frozen, the prompt keeps its features. Where only the projector is trained, the prompt keeps the output of
        the vision encoder (`rlcap.policy.shared_prefix.vision_encoder`). A vision encoder that is trained itself runs
        in each pass.

        Args:
            images: one image, or several, for each prompt.
            instruction: one instruction for all prompts, or one for each.
        """

    def instruct(self, instruction: str | Instruction, controls: Sequence[Control]) -> list[str]:
        """Return the instruction of each of N rows, as `prepare` and `encode` take it.

        Args:
            instruction: The instruction that all rows share.
            controls: What is asked of each of the N captions.

        Raises:
            ConfigError: The captioner reads no instruction, a value of a control has no words, or the vocabulary of the model lacks them.
        """
        texts = [instruct(instruction, control, self.instruction_form) for control in controls]
        for text in dict.fromkeys(text for text, control in zip(texts, controls, strict=True) if control):
            if unknown := find_unknown_words(self.tokenizer, text):
                raise ConfigError(
                    f"the vocabulary of {self.kind} lacks {', '.join(unknown)} of the instruction {text!r}: write other words with "
                    "data.control_phrases"
                )
        return texts

    @abstractmethod
    def prefill(self, prompts: Sequence[Prompt]) -> Prefix:
        """Run image and instruction once for each prompt."""

    @abstractmethod
    def decode_step(self, prefix: Prefix, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return (N, C, V) logits of the token after each of the (N, C) ids.

        Args:
            prefix: the prompts; their cache may already hold earlier caption tokens.
            ids: (N, C) caption tokens to run.
            mask: mask over the prefix, the cached caption tokens and `ids`; None where nothing is padded.
        """

    @abstractmethod
    def forward_unshared(self, prompts: Sequence[Prompt], ids: torch.Tensor) -> torch.Tensor:
        """Return (N, C, V) logits of the (N, C) ids after N prompts, in one forward pass that shares nothing."""

    def encode(self, caption: str, instruction: str) -> list[int]:
        """Return the tokens of a caption that continues a prompt, with the end token at which generation stops.

        SFT, DPO and evaluation use these tokens. Text that looks like a special token ("</s>") is read as plain text.
        """
        text = f" {caption}" if instruction else caption
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [*ids, self.end_ids[0]]

    def encode_with_offsets(self, caption: str, instruction: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the tokens of `encode`, and for each the range of characters of the caption that it writes.

        A token that writes no character of the caption, such as the end token, has an empty range.
        """
        ids = self.encode(caption, instruction)
        if not self.tokenizer.is_fast:
            return ids, token_offsets(self.tokenizer, ids)
        shift = 1 if instruction else 0
        encoded = self.tokenizer(
            " " * shift + caption, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        offsets = [(max(start - shift, 0), max(end - shift, 0)) for start, end in encoded["offset_mapping"]]
        return ids, [*offsets, (len(caption), len(caption))]

    def decode(self, ids: torch.Tensor) -> list[str]:
        """Turn (N, C) tokens into N captions, without special tokens and surrounding spaces."""
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def visual_tokens(self, image: Image) -> int | None:
        """Return the number of prompt tokens of an image; None where the decoder reads the image in another way."""
        return None

    def forbidden_token_ids(self) -> list[int]:
        """Return the tokens that a caption must never contain, such as the placeholders of images."""
        return []

    def forward_part(self, part: torch.nn.Module, **inputs: Any) -> Any:
        """Call `part` of the base on `inputs` through the forward of the wrapped model.

        DDP prepares the exchange of gradients in the forward of the wrapped model. A part that is called directly would
        not take part in the exchange.
        """
        previous = self.base.__dict__.get("forward")  # TRL sets one
        self.base.forward = lambda **inputs: part(**inputs)
        try:
            return self.model(**inputs)
        finally:
            if previous is None:
                del self.base.forward
            else:
                self.base.forward = previous

    def prefix_sharing_blocker(self) -> str | None:
        """Return why the shared prefix can't be used in the current state of the model; None where it can."""
        return None

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Prompt],
        captions: int,
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        sampling_uniforms: torch.Tensor | None = None,
    ) -> GeneratedCaptions:
        """Generate captions, in evaluation mode. Generation stops when all captions have ended.

        Args:
            prompts: B prompts.
            captions: number of captions per prompt.
            max_new_tokens: longest caption in tokens.
            temperature: divisor of the logits; 0 decodes greedily.
            top_p: probability of the nucleus that tokens are sampled from.
            sampling_uniforms: (B·captions, max_new_tokens) float64 in [0, 1), the random number that decides each token
                (`rlcap.data.sampler.sampling_uniforms`); by default from torch's global generator.

        Returns:
            B·captions rows.
        """
        with evaluation_mode(self.model):
            prefix = self.prefill(prompts)
            logits = prefix.logits.repeat_interleave(captions, 0)
            prefix = prefix.repeat(repeat_prefix_with_room(prefix.cache, captions, max_new_tokens), captions)
            ends = torch.tensor(self.end_ids, device=logits.device, dtype=torch.long)
            forbidden = torch.tensor(self.forbidden_token_ids(), device=logits.device, dtype=torch.long)
            running = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
            sampling_uniforms = (
                torch.rand(len(logits), max_new_tokens, dtype=torch.double)
                if sampling_uniforms is None
                else sampling_uniforms
            )
            sampling_uniforms = sampling_uniforms.to(logits.device)
            ids, masks, log_probs = [], [], []
            with limit_threads(self.base, len(logits)):
                for step in range(max_new_tokens):
                    allowed = logits.index_fill(1, forbidden, -torch.inf)
                    drawn = sample_tokens(allowed, temperature, top_p, sampling_uniforms[:, step]).masked_fill(
                        ~running, self.pad_id
                    )
                    ids.append(drawn)
                    masks.append(running)
                    log_probs.append(token_log_probs(logits, drawn, temperature or 1.0).masked_fill(~running, 0.0))
                    running = running & ~torch.isin(drawn, ends)
                    if step == max_new_tokens - 1 or not running.any():
                        break
                    logits = self.decode_step(prefix, drawn[:, None], prefix.extend_mask(step + 1))[:, -1]
                    prefix = replace(prefix, position=prefix.position + 1)
        return GeneratedCaptions(torch.stack(ids, 1), torch.stack(masks, 1).long(), torch.stack(log_probs, 1))

    def log_probs(
        self,
        prompts: Sequence[Prompt],
        ids: torch.Tensor,
        mask: torch.Tensor,
        *,
        temperature: float = 1.0,
        entropies: bool = False,
        shared: bool = True,
    ) -> TokenLogProbs:
        """Compute the log-probabilities of N = B·G captions of B prompts, with gradient unless the caller disabled it.

        Args:
            prompts: B prompts.
            ids: (N, C) tokens, padded on the right; the G captions of a prompt are adjacent.
            mask: (N, C), 1 where a token counts.
            temperature: divides the logits, as in sampling.
            entropies: whether to compute the (N, C) entropies as well, with gradient.
            shared: whether to run each prompt once for all its captions; False runs it for each caption.

        Raises:
            ValueError: N is not a multiple of B.
        """
        head = find_separable_head(self.text_model())
        with skip_head(head):
            states = list(self._forward_parts(prompts, ids, shared))
        results = [compute_log_probs(states, part, head, temperature, entropies) for states, part in states]
        columns = [torch.cat(values, 1) if values[0] is not None else None for values in zip(*results, strict=True)]
        chosen, spread = (None if x is None else x.masked_fill(mask == 0, 0.0) for x in columns)
        assert chosen is not None  # only the entropies are optional
        return TokenLogProbs(chosen, spread)

    def states(self, prompts: Sequence[Prompt], ids: torch.Tensor, *, shared: bool = True) -> torch.Tensor:
        """Return (N, C, D) the input of the last layer from which each of the (N, C) tokens is predicted.

        A model that caps its logits applies the same cap to these states.

        Args:
            prompts: as for `log_probs`.
            ids: as for `log_probs`.
            shared: as for `log_probs`.
        """
        with skip_head(self.text_model().get_output_embeddings()):
            return torch.cat([states for states, _ in self._forward_parts(prompts, ids, shared)], 1)

    def _forward_parts(
        self, prompts: Sequence[Prompt], ids: torch.Tensor, shared: bool
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Return (N, c, V) logits, or the states before them, with the (N, c) ids that they predict, part by part."""
        if not prompts or len(ids) % len(prompts):
            raise ValueError(
                f"{len(ids)} captions don't divide evenly among {len(prompts)} prompts: pass the same number for each"
            )
        reason = self.prefix_sharing_blocker() if shared else None
        if reason:
            warnings.warn(f"each caption runs its whole prompt again: {reason}", stacklevel=3)
        forward = self._forward_shared if shared and not reason else self._forward_plain
        return forward(prompts, len(ids) // len(prompts), ids)

    def _forward_shared(
        self, prompts: Sequence[Prompt], captions: int, ids: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        prefix = self.prefill(prompts)
        yield prefix.logits.repeat_interleave(captions, 0)[:, None], ids[:, :1]
        if ids.shape[1] > 1:
            rows = prefix.repeat(repeat_prefix(prefix.cache, captions), captions)
            yield self.decode_step(rows, ids[:, :-1], rows.extend_mask(ids.shape[1] - 1)), ids[:, 1:]

    def _forward_plain(
        self, prompts: Sequence[Prompt], captions: int, ids: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield self.forward_unshared([prompt for prompt in prompts for _ in range(captions)], ids), ids


def unwrap_model(model: Any) -> Any:
    """Return the transformers model inside the wrappers of DDP and peft."""
    if not isinstance(model, PeftModel | PreTrainedModel):
        model = extract_model_from_parallel(model)  # only where needed: it takes milliseconds
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Put `model` into evaluation mode inside this context, and restore the flag of every module afterwards.

    The flags are restored one by one, since a frozen part may be in another mode than the rest.
    """
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
