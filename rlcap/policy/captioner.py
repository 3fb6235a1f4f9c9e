"""A captioner as the trainers see it: prepare images once, write G captions an image, weigh captions with gradient.

    captioner = captioner_of(model, processor)                       # rlcap.policy.families.registry
    prompts = captioner.prepare(images, "describe the image")
    written = captioner.generate(prompts, captions=8, max_new_tokens=200)
    scores = captioner.log_probs(prompts, written.ids, written.mask)  # (8·B, C), with gradient

Image and instruction are the same for the captions of an image: they are read once, their keys and values repeated for
the captions, and only the captions' tokens are run for each. That is exact, gradients included; `shared=False` reads
everything anew for each caption, which tests and benchmarks hold it against.

A family says three things: how a prompt is read (`prefill`), how captions continue it (`decode_step`), and how both are run in
one go (`forward_unshared`). Rows are captions, those of an image side by side, in every tensor.
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

from rlcap.policy.language_head import compute_log_probs, find_separable_head, skip_head
from rlcap.policy.prompt import Prompt
from rlcap.policy.shared_prefix.kv_cache import repeat_prefix, repeat_prefix_with_room
from rlcap.policy.threads import limit_threads
from rlcap.policy.tokens import draw, token_log_probs


@dataclass(frozen=True, slots=True)
class Prefix:
    """B prompts, read."""

    logits: torch.Tensor
    """(B, V) of the first token of a caption."""
    cache: Cache
    mask: torch.Tensor | None
    """(B, P) 1 where a token was read, 0 where padding; None where nothing is padded, and no mask need be made."""
    position: torch.Tensor
    """(B,) of the first token of a caption."""
    extra: dict[str, torch.Tensor] = field(default_factory=dict)
    """What else a family's captions look back at: (B, …) each."""

    def repeat(self, cache: Cache, captions: int) -> Prefix:
        """The same for B·captions rows, with a cache that has them already."""
        rows = {name: value.repeat_interleave(captions, 0) for name, value in self.extra.items()}
        mask = None if self.mask is None else self.mask.repeat_interleave(captions, 0)
        position = self.position.repeat_interleave(captions, 0)
        return replace(self, cache=cache, mask=mask, position=position, extra=rows)

    def extend_mask(self, tokens: int) -> torch.Tensor | None:
        """(B, P + tokens) with what is written after the prompt.

        A caption's own padding needs none: it comes after all tokens that count, and none of them looks ahead.
        """
        if self.mask is None:
            return None
        return torch.cat([self.mask, self.mask.new_ones(len(self.mask), tokens)], 1)


@dataclass(frozen=True, slots=True)
class GeneratedCaptions:
    """N generated captions of at most C tokens, padded on the right."""

    ids: torch.Tensor
    """(N, C)"""
    mask: torch.Tensor
    """(N, C) 1 up to and with the end token, 0 after it."""
    log_probs: torch.Tensor
    """(N, C) at the sampling temperature, of all words as `Captioner.log_probs` has them; 0 where the mask is."""


@dataclass(frozen=True, slots=True)
class TokenLogProbs:
    """What the model thinks of N captions."""

    log_probs: torch.Tensor
    """(N, C) in nats, float32; 0 where the mask is."""
    entropies: torch.Tensor | None
    """(N, C) in nats, float32; None where not asked for."""


class Captioner(ABC):
    """A model with its processor. Cheap to build: it holds no weights of its own.

    `model` may be wrapped in peft, adapters on or off as the caller left them, and in DDP around it. The model's training mode is the
    caller's too, except in `generate`, which runs in evaluation mode and puts the flags back.
    """

    def __init__(self, model: torch.nn.Module, processor: Any) -> None:
        self.model, self.processor = model, processor
        self.base = unwrap_model(model)
        self.kind: str = self.base.config.model_type
        self.tokenizer = getattr(processor, "tokenizer", processor)
        ends = self.text_model().generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        self.end_ids: list[int] = list(ends) if isinstance(ends, list | tuple) else [ends]
        self.pad_id: int = self.end_ids[0] if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id

    def text_model(self) -> torch.nn.Module:
        """The module that writes: its generation config says which tokens end a caption, its last layer has the words."""
        return self.base

    @abstractmethod
    def prepare(self, images: Sequence[Image | Sequence[Image]], instruction: str | Sequence[str]) -> list[Prompt]:
        """One prompt an image (or a sequence of images).

        What is frozen of the vision side runs here, once for all passes over the prompt: its features are kept where nothing of
        them is trained, else what the tower gives to a trained projector (`rlcap.policy.shared_prefix.vision_encoder`). A tower that is trained
        itself runs in each pass. `instruction` is one for all, or one each.
        """

    @abstractmethod
    def prefill(self, prompts: Sequence[Prompt]) -> Prefix:
        """Run image and instruction once a prompt."""

    @abstractmethod
    def decode_step(self, prefix: Prefix, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(N, C, V) logits of the token after each of (N, C) ids.

        `mask`: of the prefix, what has been kept since, and `ids`; None where nothing is padded.
        """

    @abstractmethod
    def forward_unshared(self, prompts: Sequence[Prompt], ids: torch.Tensor) -> torch.Tensor:
        """(N, C, V) logits of (N, C) ids after N prompts, everything in one forward and nothing shared."""

    def encode(self, caption: str, instruction: str) -> list[int]:
        """The tokens of a caption as it continues a prompt, with the end token."""
        text = f" {caption}" if instruction else caption
        return [*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.end_ids[0]]

    def decode(self, ids: torch.Tensor) -> list[str]:
        """(N, C) tokens → N captions, without special tokens and outer space."""
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def visual_tokens(self, image: Image) -> int | None:
        """How many tokens of the prompt an image takes; None where the decoder looks at it in another way."""
        return None

    def forbidden_token_ids(self) -> list[int]:
        """Tokens that a caption must not hold, whatever their probability: placeholders of images."""
        return []

    def forward_part(self, part: torch.nn.Module, **inputs: Any) -> Any:
        """What `part` of the base makes of `inputs`, called through the whole model's forward: there DDP prepares its
        exchange of gradients, which a part called by itself would never take part in."""
        own = self.base.__dict__.get("forward")  # TRL puts one there
        self.base.forward = lambda **inputs: part(**inputs)
        try:
            return self.model(**inputs)
        finally:
            if own is None:
                del self.base.forward
            else:
                self.base.forward = own

    def prefix_sharing_blocker(self) -> str | None:
        """Why the shared prefix can't be used as things are; None where it can."""
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
        """`captions` captions a prompt, B·captions rows; greedy where `temperature` is 0. Stops when all have ended.

        points: (B·captions, max_new_tokens) float64 in [0, 1), the random numbers that decide each token
        (`rlcap.data.sampler.sampling_uniforms`); by default from torch's global generator.
        """
        with evaluation_mode(self.model):
            prefix = self.prefill(prompts)
            logits = prefix.logits.repeat_interleave(captions, 0)
            prefix = prefix.repeat(repeat_prefix_with_room(prefix.cache, captions, max_new_tokens), captions)
            ends = torch.tensor(self.end_ids, device=logits.device, dtype=torch.long)
            unsuitable = torch.tensor(self.forbidden_token_ids(), device=logits.device, dtype=torch.long)
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
                    allowed = logits.index_fill(1, unsuitable, -torch.inf)
                    drawn = draw(allowed, temperature, top_p, sampling_uniforms[:, step]).masked_fill(
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
        """Log-probabilities of N = B·G captions (N, C), of B prompts, with gradient unless the caller turned it off.

        Args:
            ids, mask: (N, C), padded on the right; the G captions of a prompt side by side.
            temperature: divides the logits, as in sampling.
            entropies: compute them too, (N, C), with gradient.
            shared: read each prompt once for its captions; False reads it anew for each.

        Raises:
            ValueError: N is no multiple of B.
        """
        head = find_separable_head(self.text_model())
        with skip_head(head):
            states = list(self._in_order(prompts, ids, shared))
        found = [compute_log_probs(states, part, head, temperature, entropies) for states, part in states]
        columns = [torch.cat(values, 1) if values[0] is not None else None for values in zip(*found, strict=True)]
        return TokenLogProbs(*(x if x is None else x.masked_fill(mask == 0, 0.0) for x in columns))

    def states(self, prompts: Sequence[Prompt], ids: torch.Tensor, *, shared: bool = True) -> torch.Tensor:
        """(N, C, D) what the last layer would make each of (N, C) tokens of: the state of the model before the token.

        The rest as for `log_probs`. A model that caps its logits caps these as well, in the same way.
        """
        with skip_head(self.text_model().get_output_embeddings()):
            return torch.cat([states for states, _ in self._in_order(prompts, ids, shared)], 1)

    def _in_order(self, prompts, ids, shared) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(N, c, V) logits (or the states before them) and the (N, c) ids that they are of, in order."""
        if not prompts or len(ids) % len(prompts):
            raise ValueError(f"{len(ids)} captions are not the same number for each of {len(prompts)} prompts")
        reason = self.prefix_sharing_blocker() if shared else None
        if reason:
            warnings.warn(f"the prefix is read anew for each caption: {reason}", stacklevel=3)
        parts = self._shared if shared and not reason else self._plain
        return parts(prompts, len(ids) // len(prompts), ids)

    def _shared(self, prompts, captions, ids) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        prefix = self.prefill(prompts)
        yield prefix.logits.repeat_interleave(captions, 0)[:, None], ids[:, :1]
        if ids.shape[1] > 1:
            rows = prefix.repeat(repeat_prefix(prefix.cache, captions), captions)
            yield self.decode_step(rows, ids[:, :-1], rows.extend_mask(ids.shape[1] - 1)), ids[:, 1:]

    def _plain(self, prompts, captions, ids) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield self.forward_unshared([prompt for prompt in prompts for _ in range(captions)], ids), ids


def unwrap_model(model: torch.nn.Module) -> torch.nn.Module:
    """The transformers model inside peft's wrapper, and that inside DDP's."""
    if not isinstance(model, PeftModel | PreTrainedModel):
        model = extract_model_from_parallel(model)  # which takes milliseconds, and is asked for at each pass
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every module has its own flag back (a frozen part may be in another than the rest)."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
