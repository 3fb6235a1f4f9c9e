"""Evaluation inside a training run: the evaluator's clock, the panel of followed images, and their way to W&B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm
from trl.models import unwrap_model_for_generation

from rlcap.config.schema import DPOConfig, EvaluationConfig, GRPOConfig
from rlcap.data.source import open_source
from rlcap.errors import ConfigError
from rlcap.eval.captions_file import read_tables
from rlcap.eval.evaluator import Evaluator
from rlcap.eval.over_optimization import describe_alarm, find_alarms
from rlcap.eval.summary import compute_changes, read_metric_rows
from rlcap.policy.loading import Policy
from rlcap.reward.mix import RewardMix
from rlcap.scorers.clip import ClipScorer
from rlcap.train.run_folder import RunFolder, append_lines
from rlcap.types import RewardBatch, Sample


def build_evaluator(
    config: GRPOConfig | DPOConfig,
    splits: Mapping[str, Sequence[Sample]],
    instruction: str,
    folder: RunFolder,
    device: str,
) -> Evaluator:
    """Return the evaluator of the configured metrics, over every split but `train`.

    Where the source does not know the truth of its images, CIDEr-D is added, with document frequencies of the training references.

    Raises:
        ConfigError: where nothing is held out.
    """
    wanted = config.evaluation
    if not splits.keys() - {"train"}:
        raise ConfigError(
            "nothing is held out, so nothing can be evaluated: set data.test (and data.validation) above 0"
        )
    truth = open_source(config.data).truth
    cider = nli = None
    if truth is None:
        from rlcap.scorers.text.cider import CiderD

        cider = CiderD.fit([sample.references for sample in splits["train"]])
    if wanted.nli:
        from rlcap.scorers.nli import NliScorer

        nli = NliScorer.load(wanted.nli, device=device)
    return Evaluator(
        {name: rows for name, rows in splits.items() if name != "train"},
        ClipScorer.load(wanted.retriever, wanted.retriever_pretrained, device=device),
        instruction=instruction,
        max_new_tokens=config.generation.max_new_tokens,
        truth=truth,
        cider=cider,
        nli=nli,
        out=folder.root,
        batch_size=wanted.batch_size,
    )


class Evaluation:
    """Evaluates when the schedule calls it with (step, final).

    All splits are evaluated at step 0 and at the end, and the validation split in between; nothing is evaluated in between where no
    validation split is held out, and the panel is then taken from the first other split.

    The panel's captions are also scored by the mix, to be shown beside the held-out metrics; the evaluator itself never sees the mix.
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
        self.panel = list(splits[self.followed][: config.panel]) if self.followed else []
        self.trainer: Any = None
        """Set once the trainer exists; its model may be wrapped or sharded over processes."""
        self.images = {sample.id: sample.image for rows in splits.values() for sample in rows}

    def __call__(self, step: int, final: bool) -> None:
        """Evaluate what is due at this step. Every process must call it."""
        if step and not final and self.followed != "validation":
            return
        accelerator = self.trainer.accelerator
        # Under ZeRO-3 every process must enter: the weights are gathered here, and one process captions with them.
        with unwrap_model_for_generation(self.trainer.model_wrapped, accelerator) as model:
            if accelerator.is_main_process:
                self._evaluate(model, step, None if step == 0 or final else ["validation"])
            accelerator.wait_for_everyone()

    def _evaluate(self, model: Any, step: int, names: list[str] | None) -> None:
        result = self.evaluator.run(model, self.policy.processor, step, splits=names, progress=names is None)
        if step and names is not None:
            self._watch(step)
        if self.panel and self.followed is not None:
            self._follow(step, result[self.followed].captions[: len(self.panel)])

    def _watch(self, step: int) -> None:
        """Say at once where rewards rise and the held-out metrics fall; the end of the run says it anyway."""
        tables = {at: read_tables(self.folder.root, at) for at in (0, step)}
        for alarm in find_alarms(compute_changes(tables), read_metric_rows(self.folder.root)):
            tqdm.write(f"step {step}, OVER-OPTIMIZATION on {alarm['split']}: {describe_alarm(alarm)}")

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
