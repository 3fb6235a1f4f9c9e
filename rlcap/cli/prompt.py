"""`rlcap prompt optimize`: textual gradient descent on the instruction of a captioner, or on the rubric of a judge."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.cli.arguments import command, group, positive

if TYPE_CHECKING:
    from rlcap.feedback.prompt_optimization import OptimizedPrompt, Trial


def add(commands: Any) -> None:
    """Add the command and its actions."""
    prompt = group(
        commands, "prompt", "rewrite an instruction or a rubric by critique, and keep the version with the best score"
    )
    optimize = group(prompt, "optimize", "textual gradient descent with a held-out score")
    instruction = command(
        optimize,
        "instruction",
        _instruction,
        "optimize the instruction to a captioner by the rewards of its captions; key=value overrides as in training",
    )
    instruction.add_argument(
        "--config", type=Path, required=True, help="YAML with model:, data: and mix:, such as my_grpo.yaml"
    )
    instruction.add_argument(
        "--images", type=positive, default=24, help="images whose captions the rewriter sees (default: %(default)s)"
    )
    instruction.add_argument(
        "--held-out", type=positive, default=48, help="other images, which give the score (default: %(default)s)"
    )
    instruction.set_defaults(takes_overrides=True)
    rubric = command(
        optimize,
        "rubric",
        _rubric,
        "optimize the rubric of a judge (the system part of its prompt file) by its agreement with people",
    )
    rubric.add_argument(
        "captions",
        type=Path,
        help="jsonl rows: sample_id, caption, score by people, references, and image if the judge sees images",
    )
    rubric.add_argument(
        "--reward", default="rlcap.rewards.critique:Critique", help="reward that uses the judge (default: %(default)s)"
    )
    rubric.add_argument(
        "--judge", required=True, help="backend of the judge: openai:MODEL, litellm:…, transformers:…, module:Class"
    )
    rubric.add_argument(
        "--prompt", type=Path, required=True, help="prompt file of the judge: rewards/critique/prompt.txt or yours"
    )
    for parser in (instruction, rubric):
        parser.add_argument(
            "--rewriter", required=True, help="judge that rewrites the text: openai:MODEL, litellm:PROVIDER/MODEL, …"
        )
        parser.add_argument("--rounds", type=positive, default=5, help="number of rewrites (default: %(default)s)")
        parser.add_argument("--out", type=Path, required=True, help="text file for the best version")
        parser.add_argument("--json", type=Path, metavar="FILE", help="file for all versions with their scores")


def _instruction(options: argparse.Namespace) -> None:
    import torch

    from rlcap.config.loading import load_config
    from rlcap.config.schema import GRPOConfig, mix_entries
    from rlcap.data.source import load_instruction, load_splits
    from rlcap.errors import ConfigError
    from rlcap.eval.captioning import caption_samples
    from rlcap.feedback.prompt_tasks import INSTRUCTION_ROLE, INSTRUCTION_RULES, InstructionTask
    from rlcap.policy.loading import load_policy
    from rlcap.reward.context import reward_context
    from rlcap.reward.mix import RewardMix

    config = load_config(GRPOConfig, options.config, options.overrides)
    samples = load_splits(config.data)[0]["train"]
    if len(samples) < options.images + options.held_out:
        raise ConfigError(
            f"--images {options.images} and --held-out {options.held_out} need {options.images + options.held_out} training "
            f"images, and the data has {len(samples)}"
        )
    shared = load_instruction(config.data)
    policy = load_policy(config.model)
    policy.model.to("cuda" if torch.cuda.is_available() else "cpu")

    def caption(instruction: str, rows: Any) -> list[str]:
        return caption_samples(
            policy.model,
            policy.processor,
            rows,
            instruction=replace(shared, text=instruction),
            max_new_tokens=config.generation.max_new_tokens,
            progress=True,
        )

    mix = RewardMix.from_config(
        mix_entries(config.mix),
        context=reward_context((sample.image for sample in samples), base=config.model.base, instruction=shared.text),
    )
    shown, held_out = samples[: options.images], samples[options.images :][: options.held_out]
    task = InstructionTask(caption, mix, shown, held_out, {sample.id: sample.image for sample in samples})
    _optimize(options, shared.text, INSTRUCTION_ROLE, task, INSTRUCTION_RULES)


def _rubric(options: argparse.Namespace) -> None:
    from rlcap.config.imports import build, resolve
    from rlcap.data.captions import read_captions, to_batch
    from rlcap.errors import CaptionsError
    from rlcap.feedback.prompt_tasks import RUBRIC_ROLE, RUBRIC_RULES, RubricTask
    from rlcap.io.atomic import write_text
    from rlcap.judge.templates import PromptTemplate
    from rlcap.reward.base import Reward

    rows = read_captions(options.captions)
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get("score"), int | float) or not math.isfinite(row["score"]):
            raise CaptionsError(f"{options.captions}, row {number}: `score` must be a number, the score by people")
    samples = to_batch(rows, {}).samples
    prompt, kind = PromptTemplate.read(options.prompt), resolve(options.reward, Reward)

    def make(rubric: str) -> Reward:
        written = options.out.with_suffix(".prompt.txt")
        write_text(written, f"{rubric}\n---\n{prompt.user}\n", "the prompt")
        return build(kind, {"judge": {"backend": options.judge, "prompt": str(written)}}, what=options.reward)

    judged = [(row["caption"], sample, float(row["score"])) for row, sample in zip(rows, samples, strict=True)]
    best = _optimize(options, prompt.system, RUBRIC_ROLE, RubricTask(make, judged), RUBRIC_RULES).best
    make(best)
    print(f"as a prompt file: {options.out.with_suffix('.prompt.txt')}")


def _optimize(options: argparse.Namespace, start: str, role: str, task: Any, rules: tuple[str, ...]) -> OptimizedPrompt:
    from rlcap.feedback.prompt_optimization import optimize_prompt
    from rlcap.io.atomic import write_json, write_text
    from rlcap.judge.backends.loading import load_backend
    from rlcap.judge.judge import Judge

    found = optimize_prompt(
        start,
        role,
        describe=task.describe,
        score=task.score,
        judge=Judge(load_backend(options.rewriter)),
        rounds=options.rounds,
        constraints=rules,
        report=_print_trial,
    )
    write_text(options.out, found.best + "\n", "the best text")
    if options.json:
        tries = [{"text": t.text, "score": t.score, "kept": t.kept, "reason": t.reason} for t in found.history]
        write_json(options.json, {"best": found.best, "tries": tries}, "the tries", indent=1)
    print(f"{options.out}: held-out score {found.history[0].score:.3f} → {found.score:.3f}")
    return found


def _print_trial(trial: Trial) -> None:
    if trial.score is None:
        print(f"–       {trial.reason}", flush=True)
    else:
        print(f"{trial.score:+.3f}  {'kept' if trial.kept else 'not kept'}: {trial.text[:160]!r}", flush=True)
