"""GRPO on TRL's trainer: bags from the curriculum, rewards from the mix, advantages that know abstentions.

Three seams of `trl.GRPOTrainer` are used: the sampler, the rewards, and the advantages in the generated batch. Sampling,
log-probabilities, the clipped loss and the KL term stay TRL's.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import trl
from accelerate.utils import gather
from transformers import PrinterCallback, TrainerCallback

from rlcap.algo.advantages import combine
from rlcap.batching import Batching
from rlcap.config import GRPOConfig
from rlcap.curriculum import Adaptive, AdaptiveState, Curriculum, Stage
from rlcap.data.bags import random_distractors
from rlcap.data.images import open_image
from rlcap.reward.columns import pack
from rlcap.reward.mix import Mix, MixScores
from rlcap.sampler import GroupSampler, set_epoch
from rlcap.train.rows import to_dataset
from rlcap.train.run_folder import STATE, RunFolder, append_lines, write_text
from rlcap.types import Sample


def trl_config(config: GRPOConfig, batching: Batching, folder: RunFolder) -> trl.GRPOConfig:
    """TRL's configuration for ours. Every value that TRL would default otherwise is set here."""
    train, generation = config.train, config.generation
    on_cpu = not torch.cuda.is_available()
    rounds = batching.steps_per_generation_round()
    return trl.GRPOConfig(
        output_dir=str(folder.checkpoints),
        **batching.trl(),
        max_steps=train.steps,
        learning_rate=train.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=max(1, train.steps // 10),
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        beta=train.beta,
        epsilon=train.epsilon,
        loss_type=train.loss_type,
        scale_rewards="group",
        max_completion_length=generation.max_new_tokens,
        temperature=generation.temperature,
        top_p=generation.top_p,
        top_k=0,
        use_vllm=train.use_vllm,
        gradient_checkpointing=train.gradient_checkpointing,
        bf16=not on_cpu and torch.cuda.is_bf16_supported(),
        use_cpu=on_cpu,
        seed=train.seed,
        data_seed=train.seed,
        save_strategy="steps",
        save_steps=-(-train.save_every // rounds) * rounds,
        save_total_limit=train.keep_checkpoints,
        logging_steps=1,
        disable_tqdm=True,
        report_to=config.report_to or "none",
        run_name=folder.root.name,
        remove_unused_columns=False,
        shuffle_dataset=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=not on_cpu,
    )


class GRPOTrainer(trl.GRPOTrainer):
    """`trl.GRPOTrainer` with a mix, a curriculum and an order that resumes.

    Args:
        model, processor: as `rlcap.policy.load.load_policy` gives them.
        samples: training rows; their distractor ids must be among `gallery`.
        gallery: id → image path, for bags.
        instruction: what the captioner is asked.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        samples: Sequence[Sample],
        *,
        config: GRPOConfig,
        batching: Batching,
        folder: RunFolder,
        mix: Mix,
        curriculum: Curriculum,
        gallery: Mapping[str, str],
        instruction: str,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.config, self.batching, self.folder = config, batching, folder
        self.mix, self.curriculum, self.gallery = mix, curriculum, dict(gallery)
        self.curriculum_state = curriculum.start() if isinstance(curriculum, Adaptive) else None
        self.own_sampler = GroupSampler.of(batching, len(samples), config.train.seed)
        self._scores: MixScores | None = None
        super().__init__(
            model=model,
            reward_funcs=[component.reward for component in mix.components.values()],
            args=trl_config(config, batching, folder),
            train_dataset=to_dataset(samples, instruction),
            processing_class=processor,
            callbacks=[EpochOrder(), *callbacks],
        )
        self.remove_callback(PrinterCallback)  # the bar and metrics.jsonl say it all
        self.reward_func_names = list(mix.names)
        self.reward_weights = torch.tensor(mix.weights, dtype=torch.float32)

    def _get_train_sampler(self, dataset: Any = None) -> GroupSampler:
        return self.own_sampler

    @property
    def stage(self) -> Stage:
        """The curriculum's stage at the present step."""
        return self.curriculum.stage_at(self.state.global_step / self.state.max_steps, self.curriculum_state)

    def bag(self, row: Mapping[str, Any], stage: Stage) -> list[str]:
        """Image paths of the row's distractors at `stage`. A function of the row and the stage alone."""
        if stage.level == "random":
            ids = self._random_bags(stage.bag_size)[row["sample_id"]]
        else:
            ids = json.loads(row["distractors"]).get(stage.level, [])
        return [self.gallery[i] for i in ids if i in self.gallery][: stage.distractors]

    @functools.lru_cache(maxsize=4)  # noqa: B019  one trainer a process
    def _random_bags(self, size: int) -> dict[str, tuple[str, ...]]:
        return random_distractors(self.gallery, min(size, len(self.gallery)), 0)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        start, stage = time.perf_counter(), self.stage
        images = {path: open_image(path) for path in {row["image_path"] for row in inputs}}
        bags = {row["sample_id"]: self.bag(row, stage) for row in inputs}
        rows = [{**r, "image": images[r["image_path"]], "distractor_images": bags[r["sample_id"]]} for r in inputs]
        output = super()._generate_and_score_completions(rows)
        scores = self._scores
        here = slice(self.accelerator.process_index * len(rows), (self.accelerator.process_index + 1) * len(rows))
        values = gather(scores.values.to(self.accelerator.device)).cpu()
        train = self.config.train
        combined = combine(
            values,
            self.mix.weights,
            self.num_generations,
            normalize=self.mix.normalize,
            aggregate=train.aggregate,
            whiten=train.whiten,
            spans=self.mix.spans,
            running_std=self.mix.running.stds(),
        )
        self.mix.running.update(combined.std_pooled)
        output["advantages"] = combined.advantages[here].to(output["advantages"].device)
        self._record(rows, scores, combined, here, stage)
        self._log("seconds/generate_and_score", time.perf_counter() - start)
        return output

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        columns = {key: [row[key] for row in inputs] for key in inputs[0] if key not in ("prompt", "image")}
        columns["truncated"] = [not ids or ids[-1] not in self.eos_token_ids for ids in completion_ids_list]
        batch = pack(prompts, completions, columns, frozenset().union(*self.mix.needs.values()))
        start = time.perf_counter()
        self._scores, self._batch = self.mix.score(batch), batch
        self._log("seconds/score", time.perf_counter() - start)
        return gather(self._scores.values.to(self.accelerator.device))

    def _log(self, name: str, value: float) -> None:
        self._metrics["train"][name].append(float(value))

    def _record(self, rows: Sequence[Mapping], scores: MixScores, combined: Any, here: slice, stage: Stage) -> None:
        """Metrics of the step, the rollouts' file, and the adaptive curriculum's observation."""
        for name, value in scores.metrics.items():
            self._log(f"reward/{name}", value)
        for k, name in enumerate(scores.names):
            self._log(f"reward/{name}/std_within_group", combined.std_within_group[k])
            self._log(f"reward/{name}/dead_groups", combined.dead_share_by_component[k])
        self._log("dead_groups", combined.dead_share)
        self._log("stage/bag_size", stage.bag_size)
        lengths = [len(caption.split()) for caption in self._batch.captions]
        self._log("completions/mean_words", sum(lengths) / len(lengths))
        self._log("completions/truncated", sum(self._batch.truncated) / len(lengths))
        advantages = combined.advantages[here].tolist()
        append_lines(
            self.folder.rollouts(self.accelerator.process_index),
            (
                {
                    "step": self.state.global_step + 1,
                    "sample_id": row["sample_id"],
                    "stage": stage.name,
                    "caption": self._batch.captions[i],
                    "advantage": advantages[i],
                    "scores": {name: scores.scores[name][i].value for name in scores.names},
                    "abstained": {n: scores.scores[n][i].reason for n in scores.names if scores.scores[n][i].abstained},
                    "notes": {n: scores.scores[n][i].note for n in scores.names if scores.scores[n][i].note},
                }
                for i, row in enumerate(rows)
            ),
        )
        recalls = [value for name, value in scores.metrics.items() if name.endswith("/bag_recall_at_1")]
        if isinstance(self.curriculum, Adaptive) and recalls:
            mean = gather(torch.tensor([recalls[0]], device=self.accelerator.device)).mean().item()
            self.curriculum_state = self.curriculum.observe(self.curriculum_state, mean)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """No model card: the run folder says what TRL's card would, and more."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            curriculum = self.curriculum_state.to_dict() if self.curriculum_state is not None else None
            write_text(folder / STATE, json.dumps({"mix": self.mix.state_dict(), "curriculum": curriculum}))

    def save_adapter(self) -> None:
        """Write the tuned adapter (safetensors) to the run folder; plain peft loads it."""
        state = self.accelerator.get_state_dict(self.model_wrapped)  # under ZeRO-3 only the engine can gather them
        if self.accelerator.is_main_process:
            model = self.accelerator.unwrap_model(self.model)
            extra = {"selected_adapters": ["default"]} if hasattr(model, "peft_config") else {}
            model.save_pretrained(self.folder.adapter, state_dict=state, safe_serialization=True, **extra)
            (self.folder.adapter / "README.md").unlink(missing_ok=True)  # peft's empty model card

    def restore(self, checkpoint: Path) -> None:
        """Take up the mix's and the curriculum's state; weights, optimiser and generators are TRL's to load."""
        state = json.loads((checkpoint / STATE).read_text())
        self.mix.load_state_dict(state["mix"])
        if state["curriculum"] is not None:
            self.curriculum_state = AdaptiveState.from_dict(state["curriculum"])


class EpochOrder(TrainerCallback):
    """Tells the sampler its epoch, also where accelerate's wrappers would lose it on resume."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        set_epoch(train_dataloader, int(state.epoch or 0))
