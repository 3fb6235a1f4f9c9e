"""A frozen CLIP model: unit vectors of images and of whole paragraphs.

    scorer = ClipScorer.load("local-dir:path/to/model")             # or ("ViT-B-32", pretrained="laion2b_s34b_b79k")
    images = scorer.image_embeddings(["a.jpg", "b.jpg"])            # (2, D)
    texts = scorer.text_embeddings(["A red bus. It waits."])        # .vectors (1, D)
    similarity = scorer.logit_scale * texts.vectors @ images.T

CLIP reads 77 tokens (`context_length`) and silently ignores the rest. A fused paragraph is longer. So by default the
scorer embeds a text sentence by sentence, and the vector of the text is the mean of its sentence vectors; sentences
that still had to be cut are counted. Image vectors are cached on disk by the content of the file and of the weights.
All distinct sentences of a call go through the model together.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from rlcap.errors import ConfigError
from rlcap.io.addresses import resolve_address
from rlcap.io.cache import cache_folder
from rlcap.io.embedding_cache import EmbeddingCache
from rlcap.io.images import content_key, open_image
from rlcap.scorers.loading import explain_load_errors
from rlcap.scorers.text.sentences import split_sentences
from rlcap.types import says_something

Pooling = Literal["sentences", "whole"]

_PREFERRED_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")


@dataclass(frozen=True, slots=True)
class TextEmbeddings:
    """Vectors of N texts."""

    vectors: Tensor
    """(N, D) float32 of unit length; a row of zeros where the text is empty."""
    empty: Tensor
    """(N,) bool: the text is empty, so that a score should abstain or penalise it on purpose."""
    truncated: Tensor
    """(N,) bool: a sentence of this text (or the text, with pooling "whole") is longer than the context."""

    @property
    def truncated_fraction(self) -> float:
        """Share of texts, in [0, 1], that were cut."""
        return self.truncated.float().mean().item() if len(self.truncated) else 0.0


MAX_KEPT_TEXTS = 16_384
"""Largest number of texts whose tokens are kept."""


class ClipScorer:
    """A frozen open_clip model with its tokenizer, preprocessing and cache; `load` creates one."""

    def __init__(
        self, model: Any, preprocess: Any, tokenizer: Any, label: str, cache_dir: Path, batch_size: int
    ) -> None:
        if empty_weights := [name for name, weight in model.named_parameters() if weight.numel() == 0]:
            raise RuntimeError(
                f"CLIP {label}: {len(empty_weights)} weights are empty, the first is {empty_weights[0]!r}. "
                "DeepSpeed ZeRO-3 partitions a model that is loaded inside its config: load scorers before the trainer "
                "is created"
            )
        self.model = model.eval().requires_grad_(False)
        self.preprocess, self.tokenizer, self.batch_size = preprocess, tokenizer, batch_size
        self.device = next(model.parameters()).device
        self.name = f"{label} {_fingerprint(model)}"
        self._context_length = int(tokenizer.context_length)
        hf = getattr(tokenizer, "tokenizer", None)
        self._pad = getattr(hf, "pad_token_id", None) or 0
        self._tokens: dict[str, tuple[Tensor, bool]] = {}
        self._cache_dir = cache_dir
        self._cache: EmbeddingCache | None = None  # its width is known only after the first vector

    @classmethod
    def load(
        cls,
        model: str,
        pretrained: str | None = None,
        device: str = "cpu",
        cache_dir: str | os.PathLike | None = None,
        batch_size: int = 64,
    ) -> ClipScorer:
        """Load a model in float32.

        Args:
            model: `local-dir:PATH` (open_clip_config.json and a safetensors file), `hf-hub:org/name`, or a built-in
                name.
            pretrained: for a built-in name, a tag of `open_clip.list_pretrained()` or a safetensors file.
            device: device of the model and of the returned vectors.
            cache_dir: folder of the embedding cache; default `cache_folder() / "embeddings"`.
            batch_size: images or sentences per forward pass.

        Raises:
            ConfigError: the model, folder or tag does not exist, a built-in name comes without weights, or the weights
                are pickled.
        """
        import open_clip

        model = resolve_address(model)
        if Path(model).is_dir():
            model = f"local-dir:{model}"
        options: dict[str, Any] = {}
        if model.startswith("local-dir:"):
            _refuse_pickles(Path(model.removeprefix("local-dir:")))
            label = Path(model.removeprefix("local-dir:")).name
        elif model.startswith("hf-hub:"):
            label = model
        else:
            label = f"{model} {Path(pretrained or '').name}"
            if not pretrained:
                tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none: it is no built-in model"
                raise ConfigError(f"CLIP {model!r} without `pretrained` would be random weights; known tags: {tags}")
            if os.path.exists(pretrained) and not pretrained.endswith(".safetensors"):
                raise ConfigError(
                    f"CLIP weights {pretrained!r} are not safetensors; convert them with safetensors.torch.save_file"
                )
            pretrained_config = open_clip.get_pretrained_cfg(model, pretrained) or {}
            if pretrained_config.get("quick_gelu"):
                options["force_quick_gelu"] = True  # open_clip only warns of a mismatch, which gives bad scores
        fix = "`python -c 'import open_clip; print(open_clip.list_pretrained())'` lists names and tags"
        with explain_load_errors(
            "CLIP", model if model.startswith("local-dir:") else label.strip(), fix, (OSError, ValueError, RuntimeError)
        ):
            network, _, preprocess = open_clip.create_model_and_transforms(
                model, pretrained=pretrained, precision="fp32", device=device, weights_only=True, **options
            )
        folder = Path(cache_dir) if cache_dir is not None else cache_folder() / "embeddings"
        return cls(network, preprocess, open_clip.get_tokenizer(model), label.strip(), folder, batch_size)

    @property
    def logit_scale(self) -> float:
        """Factor of cosines before a softmax: exp of the learned parameter, 100 for OpenAI's models."""
        return self.model.logit_scale.exp().item()

    @property
    def context_length(self) -> int:
        """Number of tokens that the text encoder reads, including the start and end tokens."""
        return self._context_length

    def image_embeddings(self, paths: Sequence[str | os.PathLike]) -> Tensor:
        """Return (N, D) float32 unit vectors of image files, from the cache where possible.

        Raises:
            ImageError: a file can't be opened; the message names it.
        """
        if not len(paths):
            return torch.empty(0, self._dim(), device=self.device)
        keys = [content_key(path) for path in paths]
        cache = self._open_cache()
        cached, vectors = cache.get(keys)
        missing = {key: path for key, path, is_cached in zip(keys, paths, cached, strict=True) if not is_cached}
        todo = list(missing.items())
        for start in range(0, len(todo), self.batch_size):
            part = todo[start : start + self.batch_size]
            cache.put([key for key, _ in part], self._encode_images([path for _, path in part]).cpu().numpy())
        if todo:
            cached, vectors = cache.get(keys)
            if not cached.all():
                raise OSError(f"{cache.folder}: vectors just written can't be read back; is the disk full or broken?")
        return torch.from_numpy(vectors).to(self.device, torch.float32)

    def text_embeddings(self, texts: Sequence[str], pooling: Pooling = "sentences") -> TextEmbeddings:
        """Return one unit vector per text.

        Args:
            texts: N texts.
            pooling: `sentences` takes the renormalised mean of the sentences' unit vectors; `whole` embeds the text at
                once.

        Raises:
            ConfigError: the pooling is unknown.
        """
        if pooling not in ("sentences", "whole"):
            raise ConfigError(f"CLIP pooling {pooling!r} is unknown; write 'sentences' or 'whole'")
        parts = [
            split_sentences(text) if pooling == "sentences" else [text.strip()] * says_something(text) for text in texts
        ]
        unique = {part: i for i, part in enumerate(dict.fromkeys(part for group in parts for part in group))}
        encoded, cut = self._encode_texts(list(unique))
        vectors = torch.zeros(len(texts), encoded.shape[1], device=self.device)
        truncated = torch.zeros(len(texts), dtype=torch.bool, device=self.device)
        for row, group in enumerate(parts):
            if group:
                rows = [unique[part] for part in group]
                vectors[row] = encoded[rows].mean(0)
                truncated[row] = cut[rows].any()
        empty = torch.tensor([not group for group in parts], dtype=torch.bool, device=self.device)
        return TextEmbeddings(torch.nn.functional.normalize(vectors, dim=-1), empty, truncated)

    def embed_pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return (N, D) float32 unit vectors of N ≥ 1 pictures that are no files, such as crops. They are not cached."""
        batches = []
        with torch.inference_mode():
            for start in range(0, len(pictures), self.batch_size):
                part = pictures[start : start + self.batch_size]
                pixels = torch.stack([self.preprocess(picture) for picture in part])
                batches.append(self.model.encode_image(pixels.to(self.device), normalize=True).float())
        return torch.cat(batches)

    def _encode_images(self, paths: list[str | os.PathLike]) -> Tensor:
        with ThreadPoolExecutor(min(4, len(paths))) as pool, torch.inference_mode():
            pixels = torch.stack(list(pool.map(lambda path: self.preprocess(open_image(path)), paths)))
            return self.model.encode_image(pixels.to(self.device), normalize=True).float()

    def _encode_texts(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Return (N, D) unit vectors, and (N,) bool: whether the text was cut."""
        if not texts:
            return torch.zeros(0, self._dim(), device=self.device), torch.zeros(0, dtype=torch.bool, device=self.device)
        tokenised = self._tokenise(texts)
        tokens = torch.stack([tokenised[text][0] for text in texts])
        cut = torch.tensor([tokenised[text][1] for text in texts], device=self.device)
        batches = []
        with torch.inference_mode():
            for start in range(0, len(texts), self.batch_size):
                batch = tokens[start : start + self.batch_size].to(self.device)
                batches.append(self.model.encode_text(batch, normalize=True).float())
        return torch.cat(batches), cut  # joined outside inference_mode, so that callers get normal tensors

    def _tokenise(self, texts: list[str]) -> dict[str, tuple[Tensor, bool]]:
        """Return the tokens (context,) of each text and whether it was cut.

        The tokens are kept, since captions repeat each other's sentences.
        """
        if len(self._tokens) > MAX_KEPT_TEXTS:
            self._tokens.clear()
        if new := [text for text in texts if text not in self._tokens]:
            # A text that fills the room for one more token is too long. The tokenizer's own cut keeps the end token,
            # whose state is the text vector.
            wide = self.tokenizer(new, context_length=self.context_length + 1)
            cut = wide[:, self.context_length] != self._pad
            tokens = wide[:, : self.context_length].clone()
            if cut.any():
                tokens[cut] = self.tokenizer([text for text, long in zip(new, cut.tolist(), strict=True) if long])
            self._tokens.update(zip(new, zip(tokens, cut.tolist(), strict=True), strict=True))
        return self._tokens

    def _dim(self) -> int:
        return self._open_cache().dim

    def _open_cache(self) -> EmbeddingCache:
        if self._cache is None:
            with torch.inference_mode():
                dim = self.model.encode_text(self.tokenizer(["a"]).to(self.device)).shape[1]
            self._cache = EmbeddingCache(self._cache_dir, self.name, dim)
        return self._cache


def load_clip_scorers(clip: Any, pretrained: str | Sequence[str | None] | None = None, **options: Any) -> list[Any]:
    """Load one or several scorers.

    Args:
        clip: a name, a scorer object, or a list of either.
        pretrained: the tag for all models, or a list with one tag per model.
        **options: further arguments of `ClipScorer.load`.

    Raises:
        ValueError: the lists differ in length, or are empty.
    """
    clips = list(clip) if isinstance(clip, list | tuple) else [clip]
    tags: list[str | None]
    tags = [pretrained] * len(clips) if pretrained is None or isinstance(pretrained, str) else list(pretrained)
    if not clips or len(clips) != len(tags):
        raise ValueError(f"give one pretrained tag per model: got {len(tags)} for {len(clips)} models")
    return [
        ClipScorer.load(one, tag, **options) if isinstance(one, str) else one
        for one, tag in zip(clips, tags, strict=True)
    ]


def _refuse_pickles(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(f"CLIP folder {folder} does not exist; check the path after 'local-dir:'")
    safe = sorted(path.name for path in folder.glob("*.safetensors"))
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    # open_clip prefers a pickled file with its own name to a safetensors file with another name
    if not safe or (pickled and not set(safe) & set(_PREFERRED_WEIGHTS)):
        raise ConfigError(
            f"CLIP folder {folder} has {', '.join(safe + pickled) or 'no weights'}; only safetensors are loaded: save them as "
            f"{_PREFERRED_WEIGHTS[0]} (safetensors.torch.save_file) and remove the pickled file"
        )


def _fingerprint(model: Any) -> str:
    """Return 12 hex digits over weights and preprocessing, so that two different models never share a cache."""
    from open_clip import get_model_preprocess_cfg

    digest = hashlib.sha256(json.dumps(get_model_preprocess_cfg(model), sort_keys=True, default=str).encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
