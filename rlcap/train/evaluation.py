"""Evaluation during a training run: the held-out metrics, the panel of followed images, and the alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tqdm import tqdm
from trl.models import unwrap_model_for_generation

from rlcap.config.schema import EvaluationConfig, GRPOConfig
from rlcap.config.supervised import DPOConfig
from rlcap.data.control import Instruction
from rlcap.data.panel import choose_panel
from rlcap.data.source import open_source
from rlcap.errors import ConfigError
from rlcap.eval.captions_file import read_tables
from rlcap.eval.evaluator import Evaluator
from rlcap.eval.over_optimization import describe_alarm, find_alarms
from rlcap.eval.summary import compute_changes, read_metric_rows
from rlcap.io.atomic import append_rows
from rlcap.policy.loading import Policy
from rlcap.reward.mix import RewardMix
from rlcap.scorers.clip import ClipScorer
from rlcap.train.run_folder import RunFolder
from rlcap.types import Control, RewardBatch, Sample


def build_evaluator(
    config: GRPOConfig | DPOConfig,
    splits: Mapping[str, Sequence[Sample]],
    instruction: str | Instruction,
    folder: RunFolder,
    device: str,
) -> Evaluator:
    """Return the evaluator of the configured metrics, over every split but `train`, whose rows get the configured control.

    Where the source does not know the truth of its images, the evaluator also measures CIDEr-D, with the document
    frequencies of the training references.

    Args:
        config: The checked configuration.
        splits: Name of a split → its samples.
        instruction: The instruction that all rows share.
        folder: The run folder, to which captions and metrics are written.
        device: Device of the metric models, such as `cuda`.

    Raises:
        ConfigError: There is no split besides `train`, or no retriever is named.
    """
    wanted = config.evaluation
    if not splits.keys() - {"train"}:
        raise ConfigError(
            "no images are held out, so there is nothing to evaluate on: set data.test (and data.validation) above 0"
        )
    if not wanted.retriever:
        raise ConfigError(
            "evaluation.retriever is empty: name an open_clip model that no reward uses, for instance "
            "evaluation.retriever=ViT-B-32 evaluation.retriever_pretrained=laion2b_s34b_b79k"
        )
    truth = open_source(config.data).truth
    cider = nli = None
    if truth is None:
        from rlcap.scorers.text.cider import CiderD

        cider = CiderD.fit([sample.references for sample in splits["train"]], tokenizer=wanted.tokenizer)
    if wanted.nli:
        from rlcap.scorers.nli import NliScorer

        nli = NliScorer.load(wanted.nli, device=device)
    return Evaluator(
        {name: _with_control(rows, wanted) for name, rows in splits.items() if name != "train"},
        ClipScorer.load(wanted.retriever, wanted.retriever_pretrained, device=device),
        instruction=instruction,
        max_new_tokens=config.generation.max_new_tokens,
        truth=truth,
        cider=cider,
        nli=nli,
        out=folder.root,
        batch_size=wanted.batch_size,
    )


def _with_control(samples: Sequence[Sample], config: EvaluationConfig) -> list[Sample]:
    fixed = Control.parse(config.control)
    return [replace(sample, control=fixed.over(sample.control)) for sample in samples] if fixed else list(samples)


class Evaluation:
    """The evaluation of a reinforcement run, which `Schedule` calls with (step, final).

    It evaluates all splits at step 0 and at the end, and only the validation split in between. Without a validation split
    it evaluates nothing in between, and the panel comes from the first other split.

    The mix also scores the captions of the panel, so that W&B and the report can show rewards beside held-out metrics. The
    evaluator itself has no access to the mix.

    Args:
        evaluator: Measures the held-out metrics.
        policy: The captioner that is trained.
        mix: The rewards.
        splits: Name of a split → its samples.
        folder: The run folder.
        config: The section `evaluation` of the configuration.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        policy: Policy,
        mix: RewardMix,
        splits: Mapping[str, Sequence[Sample]],
        folder: RunFolder,
        config: EvaluationConfig,
    ) -> None:
        self.evaluator, self.policy, self.mix, self.folder = evaluator, policy, mix, folder
        self.followed = next((name for name in ("validation", *splits) if name in splits and name != "train"), None)
        rows = splits[self.followed] if self.followed else ()
        self.panel_rows = choose_panel(rows, config.panel)
        """Positions of the panel in its split."""
        self.panel = _with_control([rows[i] for i in self.panel_rows], config)
        self.trainer: Any = None
        """The trainer, which sets this attribute later. Its model may be wrapped, or sharded over processes."""
        self.images = {sample.id: sample.image for rows in splits.values() for sample in rows}
        """Id → image path of all samples."""

    def __call__(self, step: int, final: bool) -> None:
        """Evaluate the splits that are due at this step. Every process must call this method.

        Args:
            step: Completed optimiser steps.
            final: Whether this is the end of the run.
        """
        if step and not final and self.followed != "validation":
            return
        accelerator = self.trainer.accelerator
        # Every process must enter this context: under ZeRO-3 it gathers the weights, with which one process then captions.
        with unwrap_model_for_generation(self.trainer.model_wrapped, accelerator) as model:
            if accelerator.is_main_process:
                self._evaluate(model, step, None if step == 0 or final else ["validation"])
            accelerator.wait_for_everyone()

    def _evaluate(self, model: Any, step: int, names: list[str] | None) -> None:
        result = self.evaluator.run(model, self.policy.processor, step, splits=names, progress=names is None)
        if step and names is not None:
            self._print_alarms(step)
        if self.panel and self.followed is not None:
            captions = result[self.followed].captions
            self._write_panel(step, [captions[i] for i in self.panel_rows])

    def _print_alarms(self, step: int) -> None:
        """Print where rewards rise while held-out metrics fall. The end of the run reports this too, but later."""
        tables = {at: read_tables(self.folder.root, at) for at in (0, step)}
        for alarm in find_alarms(compute_changes(tables), read_metric_rows(self.folder.root)):
            tqdm.write(f"step {step}, OVER-OPTIMIZATION on {alarm['split']}: {describe_alarm(alarm)}")

    def _write_panel(self, step: int, captions: Sequence[str]) -> None:
        """Score the captions of the panel by the mix and append them to panel.jsonl."""
        bags = [tuple(self.images[i] for i in s.distractors.get("hard", ())[:4]) for s in self.panel]
        batch = RewardBatch(list(captions), self.panel, bags)
        scores = self.mix.score(batch).scores
        rows = [
            {
                "step": step,
                "sample_id": sample.id,
                "image": sample.image,
                "caption": captions[i],
                "scores": {name: scores[name][i].value for name in scores},
                "notes": {name: scores[name][i].note for name in scores if scores[name][i].note},
                "bag": list(bags[i]),
            }
            for i, sample in enumerate(self.panel)
        ]
        append_rows(self.folder.panel, rows, "the captions of the panel")
