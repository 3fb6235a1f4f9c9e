"""Evaluation inside a training run: the evaluator's clock, the panel of followed images, and their way to W&B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trl.models import unwrap_model_for_generation

from rlcap.config import EvaluationConfig, GRPOConfig
from rlcap.eval.evaluator import Evaluator
from rlcap.lab.assets import resolve
from rlcap.policy.load import Policy
from rlcap.reward.mix import Mix
from rlcap.scorers.clip import ClipScorer
from rlcap.train.run_folder import RunFolder, append_lines
from rlcap.types import RewardBatch, Sample


def build_evaluator(
    config: GRPOConfig, splits: Mapping[str, Sequence[Sample]], instruction: str, folder: RunFolder, device: str
) -> Evaluator:
    """The fixed rulers of `evaluation:` over every split but `train`. On data that is not the lab's, CIDEr-D's document
    frequencies come from the training references."""
    wanted = config.evaluation
    cider = nli = None
    if config.data.source != "lab":
        from rlcap.scorers.cider import CiderD

        cider = CiderD.fit([sample.references for sample in splits["train"]])
    if wanted.nli:
        from rlcap.scorers.nli import NliScorer

        nli = NliScorer.load(resolve(wanted.nli), device=device)
    return Evaluator(
        {name: rows for name, rows in splits.items() if name != "train"},
        ClipScorer.load(resolve(wanted.retriever), wanted.retriever_pretrained, device=device),
        instruction=instruction,
        max_new_tokens=config.generation.max_new_tokens,
        truth=config.data.source == "lab",
        cider=cider,
        nli=nli,
        out=folder.root,
        batch_size=wanted.batch_size,
    )


class Evaluation:
    """Called by the schedule with (step, final). All splits at step 0 and at the end, validation in between.

    The panel's captions are also scored by the mix, to be shown beside the held-out metrics; the evaluator itself never
    sees the mix.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        policy: Policy,
        mix: Mix,
        splits: Mapping[str, Sequence[Sample]],
        folder: RunFolder,
        config: EvaluationConfig,
    ) -> None:
        self.evaluator, self.policy, self.mix, self.folder = evaluator, policy, mix, folder
        self.panel = list(splits.get("validation", ())[: config.panel])
        self.trainer: Any = None
        """Set once the trainer exists; its model may be wrapped or sharded over processes."""
        self.images = {sample.id: sample.image for rows in splits.values() for sample in rows}

    def __call__(self, step: int, final: bool) -> None:
        accelerator = self.trainer.accelerator
        # Under ZeRO-3 every process must enter: the weights are gathered here, and one process captions with them.
        with unwrap_model_for_generation(self.trainer.model_wrapped, accelerator) as model:
            if accelerator.is_main_process:
                self._evaluate(model, step, None if step == 0 or final else ["validation"])
            accelerator.wait_for_everyone()

    def _evaluate(self, model: Any, step: int, names: list[str] | None) -> None:
        result = self.evaluator.run(model, self.policy.processor, step, splits=names, progress=names is None)
        if self.panel:
            self._follow(step, result["validation"].captions[: len(self.panel)])

    def _follow(self, step: int, captions: Sequence[str]) -> None:
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
        append_lines(self.folder.panel, rows)
