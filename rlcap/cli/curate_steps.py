"""`rlcap curate score|filter|best|mix`: steps that read rows, act on scores, and write rows with their lineage."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.cli.arguments import command, positive, share
from rlcap.cli.curate_data import CurateData, add_mix, add_text, open_data

if TYPE_CHECKING:
    from rlcap.curate.best_of_n import SampleCaptions

FILTER = """\
The scores are kept in OUT.scores.jsonl. The same command continues after an interruption, and another share needs no new scores:

  rlcap curate filter data.source=photos.jsonl --reward preference_model mix.preference_model.params.model=rm --keep 0.3 --out best.jsonl
"""
BEST = """\
Candidates and their values are kept in OUT.candidates.jsonl. The same command continues after an interruption.

  rlcap curate best data.source=photos.jsonl --run runs/a --samples 8 --config mix.yaml --out best.jsonl --pairs pairs.jsonl
  rlcap train sft --config my_sft.yaml data.source=best.jsonl       train on the best captions
  rlcap rm pairs.jsonl --clip ViT-B-32 --pretrained laion2b_s34b_b79k --out rm     or teach a reward model what made them best

`rlcap train refine` rewrites captions by critique in place of sampling others.
"""
MIX = """\
  rlcap curate mix data.source=photos.jsonl --with recaptioned.jsonl --original 0.2 --out mixed.jsonl

A hash of a row's id decides whether it keeps its caption. Both files are read side by side, in the same order.
"""


def add(curate: Any) -> None:
    """Add the steps to the command `curate`."""
    score = command(curate, "score", _score, "write the rows with the scores of their captions; key=value overrides")
    add_mix(score)
    add_text(score)
    score.add_argument("--out", type=Path, required=True, help="jsonl file for the rows")
    one = command(curate, "filter", _score, "keep the rows with the best captions; key=value overrides", FILTER)
    add_mix(one)
    add_text(one)
    one.add_argument("--keep", type=_positive_share, required=True, help="share of the rows with a score, above 0")
    one.add_argument("--out", type=Path, required=True, help="jsonl file for the rows")
    best = command(curate, "best", _best, "sample captions of each row and keep the best; key=value overrides", BEST)
    add_mix(best)
    best.add_argument(
        "--run", dest="captioner", help="run folder of the captioner (default: model.base with model.adapter)"
    )
    best.add_argument("--samples", type=positive, default=8, help="captions of each row (default: %(default)s)")
    best.add_argument("--temperature", type=float, default=1.0, help="divisor of the logits (default: %(default)s)")
    best.add_argument("--top-p", type=float, default=1.0, help="probability of the nucleus (default: %(default)s)")
    best.add_argument(
        "--max-new-tokens", type=positive, help="longest caption in tokens (default: that of the run, or 200)"
    )
    best.add_argument("--seed", type=int, default=0, help="seed of the draws (default: %(default)s)")
    best.add_argument("--out", type=Path, required=True, help="jsonl file for the rows")
    best.add_argument(
        "--pairs", type=Path, help="also write the best and the worst caption of each row, for `rlcap rm`"
    )
    best.add_argument(
        "--margin", type=float, default=0.0, help="least difference of the scores of a pair (default: %(default)s)"
    )
    mix = command(curate, "mix", _mix, "mix recaptions with original captions; data.key=value overrides", MIX)
    mix.add_argument("--with", dest="recaptions", required=True, help="jsonl file of the recaptions, as paragraphs")
    mix.add_argument(
        "--original", type=share, required=True, help="probability with which a row keeps its original caption"
    )
    mix.add_argument("--seed", type=int, default=0, help="draws the rows that keep it (default: %(default)s)")
    mix.add_argument("--out", type=Path, required=True, help="jsonl file for the rows")
    mix.set_defaults(takes_overrides=True)


def _score(options: argparse.Namespace) -> None:
    from rlcap.curate.filtering import write_scored

    data = open_data(options)
    mix, log = data.load_mix(), data.score_log(options.out, options.text)
    keep = getattr(options, "keep", None)
    summary = write_scored(data.rows, mix, options.out, log, source=data.source, text=options.text, share=keep)
    print(f"{summary.text()}\n{options.out}: {summary.kept:,} rows{_skipped(data)}")


def _best(options: argparse.Namespace) -> None:
    from rlcap.curate.best_of_n import CandidateLog, write_best, write_pairs
    from rlcap.errors import InputError

    if options.temperature <= 0:
        raise InputError(f"--temperature must be above 0, got {options.temperature}: greedy captions do not differ")
    data = open_data(options)
    mix = data.load_mix()
    draws = {name: getattr(options, name) for name in ("captioner", "samples", "temperature", "top_p", "max_new_tokens", "seed")}  # fmt: skip
    model = {"base": data.config.model.base, "adapter": data.config.model.adapter}
    log = CandidateLog(
        options.out.with_name(f"{options.out.name}.candidates.jsonl"), data.settings(draws=draws, model=model)
    )
    log.complete(data.rows(), _sampler(options, data), mix, sum(1 for _ in data.rows()))
    summary = write_best(data.rows(), log, mix, options.out, source=data.source, samples=options.samples)
    print(f"{summary.text()}\n{options.out}: {summary.rows:,} rows{_skipped(data)}")
    if options.pairs:
        print(f"{options.pairs}: {write_pairs(data.rows(), log, mix, options.pairs, options.margin):,} pairs")


def _sampler(options: argparse.Namespace, data: CurateData) -> SampleCaptions:
    """Return what samples captions with the captioner of --run, or of the configuration."""
    from functools import partial

    from rlcap.data.source import load_instruction
    from rlcap.eval.captioning import sample_captions
    from rlcap.eval.pretrained import load_captioner

    model = data.config.model
    loaded = load_captioner(
        options.captioner or str(model.base),
        None if options.captioner else model.adapter,
        instruction=None if options.captioner else load_instruction(data.config.data),
        max_new_tokens=options.max_new_tokens,
    )
    return partial(
        sample_captions,
        loaded.policy.model,
        loaded.policy.processor,
        captions=options.samples,
        instruction=loaded.instruction,
        max_new_tokens=loaded.max_new_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
    )


def _mix(options: argparse.Namespace) -> None:
    from rlcap.config.loading import load_config
    from rlcap.config.schema import GRPOConfig
    from rlcap.curate.mixing import mix_captions
    from rlcap.data.source import stream_rows

    data = load_config(GRPOConfig, None, options.overrides).data
    recaptions = data.model_copy(update={"source": options.recaptions, "options": {}, "image_root": None, "columns": type(data)().columns})  # fmt: skip
    summary = mix_captions(
        stream_rows(data),
        stream_rows(recaptions, check_images=False),
        options.out,
        share=options.original,
        names=(str(data.source), options.recaptions),
        seed=options.seed,
    )
    print(f"{summary.text()}\n{options.out}")


def _skipped(data: CurateData) -> str:
    return f"; skipped {sum(data.skipped.values())} bad rows" if data.skipped else ""


def _positive_share(text: str) -> float:
    number = share(text)
    if not number:
        raise argparse.ArgumentTypeError("must be above 0")
    return number
