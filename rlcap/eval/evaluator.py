"""Evaluates a captioner on held-out splits by metrics that do not depend on the rewards of its training.

    evaluator = Evaluator({"test": samples}, retriever, instruction=…, max_new_tokens=96, truth=None, out=run_dir)
    evaluation = evaluator.run(model, processor, step=0)
    evaluation["test"].metrics["bag5_recall_at_1"].mean()

The evaluator has no access to the reward mix. It computes image vectors and bags once per split and uses them for every
step. Every metric has one value per image, so that two steps can be compared image by image.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlcap.data.control import Instruction
from rlcap.data.source import Truth
from rlcap.eval.captioning import caption_samples
from rlcap.eval.captions_file import Row, metric_values, write_rows
from rlcap.eval.clusters import split_clusters
from rlcap.eval.metrics.control import control_metrics
from rlcap.eval.metrics.references import Nli, cider_metrics, nli_metrics
from rlcap.eval.metrics.retrieval import Bag, retrieval_metrics, split_bags
from rlcap.eval.metrics.text import text_metrics
from rlcap.scorers.clip import ClipScorer
from rlcap.scorers.text.cider import CiderD
from rlcap.types import Sample


@dataclass(frozen=True, slots=True)
class SplitEvaluation:
    """Captions and metrics of the first N samples of a split."""

    ids: list[str]
    """N sample ids."""
    captions: list[str]
    """N captions."""
    metrics: dict[str, np.ndarray]
    """Name → (N,) values, NaN where a metric does not apply to an image."""


class Evaluation(dict[str, SplitEvaluation]):
    """Name of a split → its evaluation at one step.

    Args:
        step: Completed optimiser steps.
        splits: Name of a split → its evaluation.
    """

    def __init__(self, step: int, splits: Mapping[str, SplitEvaluation]) -> None:
        super().__init__(splits)
        self.step = step

    def means(self) -> dict[str, float]:
        """Return `<split>/<metric>` → mean over images, without the metrics that apply to no image."""
        return {
            f"{split}/{name}": float(np.nanmean(values))
            for split, result in self.items()
            for name, values in result.metrics.items()
            if not np.isnan(values).all()
        }


class Evaluator:
    """The held-out splits and the metrics that are computed on them.

    Build it before training, with scorers that no reward uses.
    """

    def __init__(
        self,
        splits: Mapping[str, Sequence[Sample]],
        retriever: ClipScorer,
        *,
        instruction: str | Instruction,
        max_new_tokens: int,
        truth: Truth | None,
        out: str | os.PathLike,
        cider: CiderD | None = None,
        nli: Nli | None = None,
        batch_size: int = 64,
    ) -> None:
        """Check the splits.

        Args:
            splits: Name of a split → its samples. Bags of similar images come from the `hard` distractors of the samples.
            retriever: A CLIP model that no reward uses.
            instruction: The instruction that all samples share; the control of a sample adds its words.
            max_new_tokens: Maximum length of a caption, in tokens.
            truth: The truth about the images; None where it is unknown.
            out: The run folder, to whose `captions/<step>.jsonl` the captions are written.
            cider: Adds CIDEr-D against the references.
            nli: Adds the shares of contradicted and of entailed sentences. No reward should use the same model.
            batch_size: Images per forward pass of the captioner.

        Raises:
            ValueError: There is no split, or a split has no samples.
        """
        if not splits or not all(len(samples) for samples in splits.values()):
            sizes = {name: len(samples) for name, samples in splits.items()}
            raise ValueError(f"evaluation needs splits with samples, got {sizes}")
        self.splits = {name: list(samples) for name, samples in splits.items()}
        self.retriever, self.cider, self.nli, self.truth = retriever, cider, nli, truth
        self.instruction, self.max_new_tokens, self.batch_size = instruction, max_new_tokens, batch_size
        self.out = Path(out)
        self._fixed: dict[str, tuple[np.ndarray, dict[str, list[Bag]]]] = {}
        self._clusters: dict[str, list[str]] = {}

    def run(
        self,
        model: Any,
        processor: Any,
        step: int,
        *,
        splits: Iterable[str] | None = None,
        limit: int | None = None,
        progress: bool = False,
    ) -> Evaluation:
        """Caption the splits greedily, score them and write `captions/<step>.jsonl`.

        Args:
            model: The captioner, not inside a wrapper such as DDP.
            processor: The processor of the model.
            step: Completed optimiser steps.
            splits: Names of the splits to evaluate; None for all.
            limit: Maximum number of images per split, counted from its start; distractors still come from the whole split.
            progress: Whether to show a progress bar for each split.

        Raises:
            KeyError: A split is unknown.
        """
        results = {}
        for split in self.splits if splits is None else splits:
            samples = self._samples(split)[:limit]
            captions = caption_samples(
                model,
                processor,
                samples,
                instruction=self.instruction,
                max_new_tokens=self.max_new_tokens,
                batch_size=self.batch_size,
                progress=progress,
            )
            results[split] = self._evaluate(split, captions)
        evaluation = Evaluation(step, results)
        self.write(evaluation)
        return evaluation

    def score(self, split: str, captions: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the metrics of N captions of the first N samples of a split, (N,) each.

        Args:
            split: Name of the split.
            captions: N captions, from any captioner.

        Raises:
            KeyError: The split is unknown.
            ValueError: There are more captions than samples, or none.
        """
        samples = self._samples(split)
        if not 0 < len(captions) <= len(samples):
            raise ValueError(
                f"{len(captions)} captions for split {split!r} of {len(samples)} images; give one caption per image"
            )
        images, bags = self._images_and_bags(split)
        text = self.retriever.text_embeddings(list(captions)).vectors.cpu().numpy()
        metrics = retrieval_metrics(text, images, bags)
        if self.truth is not None:
            metrics |= self.truth.metrics(captions, samples)
        if self.cider is not None:
            metrics |= cider_metrics(captions, samples, self.cider)
        if self.nli is not None:
            metrics |= nli_metrics(captions, samples, self.nli)
        return metrics | text_metrics(captions) | control_metrics(captions, samples)

    def clusters(self, split: str) -> list[str]:
        """Return the cluster of each sample of a split, over which intervals are taken; see `split_clusters`."""
        if split not in self._clusters:
            vectors, _ = self._images_and_bags(split)
            self._clusters[split] = split_clusters(self._samples(split), vectors)
        return self._clusters[split]

    def write(self, evaluation: Evaluation) -> Path:
        """Write the captions and metrics of an evaluation to the run folder, and return the path of the file.

        They replace earlier captions of the same step.
        """
        rows = []
        for split, result in evaluation.items():
            clusters = self.clusters(split)
            for i, (id, caption) in enumerate(zip(result.ids, result.captions, strict=True)):
                sample = self.splits[split][i]
                row: Row = {"sample_id": id, "image": sample.image, "caption": caption, "split": split}
                row["cluster"] = clusters[i]
                if sample.control:
                    row["control"] = sample.control.to_dict()
                row["metrics"] = metric_values(result.metrics, i)
                if self.truth is not None:
                    row["false"] = self.truth.false_sentences(caption, sample)
                rows.append(row)
        return write_rows(self.out, evaluation.step, rows)

    def _evaluate(self, split: str, captions: list[str]) -> SplitEvaluation:
        ids = [sample.id for sample in self.splits[split][: len(captions)]]
        return SplitEvaluation(ids, captions, self.score(split, captions))

    def _samples(self, split: str) -> list[Sample]:
        if split not in self.splits:
            raise KeyError(f"unknown split {split!r}; this evaluation has {', '.join(self.splits)}")
        return self.splits[split]

    def _images_and_bags(self, split: str) -> tuple[np.ndarray, dict[str, list[Bag]]]:
        if split not in self._fixed:
            samples = self.splits[split]
            vectors = self.retriever.image_embeddings([sample.image for sample in samples]).cpu().numpy()
            self._fixed[split] = vectors, split_bags(samples)
        return self._fixed[split]
