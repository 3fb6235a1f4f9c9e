"""A trainable reward model: a frozen CLIP backbone, and a linear head on what image and text have in common.

    model = RewardModel.load("rm")                    # a folder that `rlcap rm` wrote
    model.scores(["a.jpg"], ["A red bus. It waits."])  # (1,) log-odds that a judge prefers it to an average caption

A sentence with the unit vector t of an image with the unit vector v has the features φ = [D · v ⊙ t, √D · t], of which the first half says
whether the image shows it and the second one what is said. A caption has the mean of φ over its sentences, their sum, which grows with what
is told, and their number. A sentence that is repeated counts once. The image alone has no features, since it can't order its own captions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlcap.errors import ConfigError
from rlcap.io.addresses import resolve_address
from rlcap.io.atomic import make_folder, storage_errors, write_json
from rlcap.io.text import read_json
from rlcap.scorers.loading import explain_load_errors
from rlcap.scorers.text.sentences import split_sentences
from rlcap.types import says_something

FEATURES = "sentences-1"
"""Name of the features, which changes whenever they do."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"


class RewardModel:
    """A backbone with a linear head.

    Args:
        clip: A `rlcap.scorers.clip.ClipScorer`, or an object with its interface.
        weight: (4 D + 1,) weights of the features.
        bias: What is added.
        config: What `config.json` holds besides: the backbone's address and what the head was trained on.
    """

    def __init__(self, clip: Any, weight: Tensor, bias: float = 0.0, config: Mapping[str, Any] | None = None) -> None:
        self.clip, self.weight, self.bias, self.config = clip, weight.float().cpu(), float(bias), dict(config or {})

    @classmethod
    def load(cls, path: str, device: str = "cpu", cache_dir: str | None = None) -> RewardModel:
        """Load a folder that `save` wrote, with the backbone that it names.

        Args:
            path: The folder, or an address of it.
            device: Device of the backbone.
            cache_dir: Folder of the cached image embeddings.

        Raises:
            ConfigError: The folder holds no reward model, or its backbone can't be loaded or has other weights than in training.
        """
        from safetensors.torch import load_file

        from rlcap.scorers.clip import ClipScorer

        folder = Path(resolve_address(path))
        with explain_load_errors("reward model", path, "give a folder that `rlcap rm` wrote"):
            config = read_json(folder / CONFIG, "the configuration of the reward model", ConfigError)
            weights = load_file(folder / WEIGHTS)
        if not isinstance(config, dict) or config.get("features") != FEATURES:
            seen = config.get("features") if isinstance(config, dict) else config
            raise ConfigError(
                f"{folder / CONFIG} has features {seen!r:.80}, not {FEATURES!r}; train it with `rlcap rm`"
            )
        clip = ClipScorer.load(config["clip"], config.get("pretrained"), device=device, cache_dir=cache_dir)
        if clip.name != config["backbone"]:
            raise ConfigError(
                f"reward model {path}: its backbone {config['clip']} has other weights now ({clip.name}) than in training "
                f"({config['backbone']}); give the same backbone, or train again with `rlcap rm`"
            )
        return cls(clip, weights["weight"], weights["bias"].item(), config)

    def save(self, folder: Path) -> None:
        """Write the head as safetensors, and `config.json`.

        Raises:
            StorageError: The folder can't be written.
        """
        from safetensors.torch import save_file

        make_folder(folder, "the reward model")
        with storage_errors(folder / WEIGHTS, "the reward model"):
            save_file({"weight": self.weight.contiguous(), "bias": torch.tensor([self.bias])}, folder / WEIGHTS)
        known = {"features": FEATURES, "backbone": self.clip.name}
        write_json(folder / CONFIG, known | self.config, "the configuration of the reward model", indent=1)

    def scores(self, images: Sequence[str], texts: Sequence[str]) -> Tensor:
        """Return (N,) log-odds of N texts of N image files; NaN for a text that says nothing.

        Raises:
            ImageError: An image can't be opened; the message names it.
        """
        unique = list(dict.fromkeys(images))
        vectors = dict(zip(unique, self.clip.image_embeddings(unique), strict=True)) if unique else {}
        return self.scores_of([vectors[path] for path in images], texts)

    def scores_of(self, vectors: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        """Return the scores of N texts of images whose unit vectors (D,) are known."""
        features = caption_features(self.clip, vectors, texts)
        if not len(features):
            return torch.zeros(0)
        scores = features.double() @ self.weight.double() + self.bias
        return scores.masked_fill(features.isnan().any(-1), math.nan).float()


def caption_features(clip: Any, vectors: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
    """Return the features (N, 4 D + 1) of N texts, on the CPU; NaN for a text that says nothing.

    Args:
        clip: A `ClipScorer`, or an object with its interface. Each distinct sentence is embedded once.
        vectors: The unit vectors (D,) of the texts' images.
        texts: N texts.
    """
    if not texts:
        return torch.zeros(0, 0)
    parts = [distinct_sentences(text) for text in texts]
    row = {sentence: i for i, sentence in enumerate(dict.fromkeys(one for part in parts for one in part))}
    embedded = clip.text_embeddings(list(row), pooling="whole").vectors.float().cpu() if row else torch.zeros(0, 0)
    features = []
    for vector, part in zip(vectors, parts, strict=True):
        image = vector.float().cpu()
        size = len(image)
        if not part:
            features.append(torch.full((4 * size + 1,), math.nan))
            continue
        own = embedded[[row[sentence] for sentence in part]]
        phi = torch.cat([size * image * own, math.sqrt(size) * own], 1)
        features.append(torch.cat([phi.mean(0), phi.sum(0), torch.tensor([float(len(part))])]))
    return torch.stack(features)


def distinct_sentences(text: str) -> list[str]:
    """Return the sentences of a text that say something; one that is repeated, in any case, is returned once."""
    first: dict[str, str] = {}
    for sentence in split_sentences(text):
        if says_something(sentence):
            first.setdefault(sentence.casefold(), sentence)
    return list(first.values())
