"""The model card of trained weights: `adapter/README.md`, in the form that the Hugging Face hub reads.

    write_model_card("runs/a")        # → runs/a/adapter/README.md

The card is made from the files of the run folder alone: config.yaml, run.json, metrics.jsonl, summary.json and the adapter's own
configuration. It contains no key and no path of this machine, because people publish it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rlcap.config.redaction import redact_values
from rlcap.errors import InputError
from rlcap.eval.metric_catalog import MAIN_METRICS, MetricInfo, canonical_name, metric_info, reading_order
from rlcap.eval.over_optimization import describe_alarm
from rlcap.eval.run_files import run_config
from rlcap.eval.summary import read_metric_rows, read_summary
from rlcap.io.atomic import write_text
from rlcap.io.text import read_json

CARD = "README.md"
"""Name of the card, which the hub prescribes."""
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM accepts for `--max-lora-rank`."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_LOCAL = re.compile(r"^(?P<prefix>local-dir:)?(?P<path>[/~].*)$")


@dataclass(frozen=True, slots=True)
class CardFiles:
    """The contents of a run folder from which the card is made."""

    config: Mapping[str, Any]
    """config.yaml."""
    run: Mapping[str, Any]
    """run.json; empty where the file is missing."""
    summary: Mapping[str, Any] | None
    """summary.json; None in a run that evaluates nothing."""
    adapter: Mapping[str, Any] | None
    """adapter_config.json; None where the run trained a complete model."""
    reached: int
    """The last optimiser step."""


def write_model_card(run_dir: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> Path:
    """Write the card of a run's weights and return its path.

    Args:
        run_dir: The run folder.
        folder: The folder that gets the card; None for `adapter/` of the run.

    Raises:
        InputError: The folder has no config.yaml, or a file of it can't be read.
    """
    path = Path(folder or Path(run_dir) / "adapter") / CARD
    write_text(path, model_card(read_card_files(run_dir)), "the model card")
    return path


def read_card_files(run_dir: str | os.PathLike[str]) -> CardFiles:
    """Read what the card of a run needs.

    Raises:
        InputError: The folder has no config.yaml, or a file of it can't be read.
    """
    folder = Path(run_dir)
    config = run_config(folder)
    if not config:
        raise InputError(f"{folder} is not a run folder: it has no config.yaml")
    run, adapter = folder / "run.json", folder / "adapter" / "adapter_config.json"
    rows = read_metric_rows(folder)
    return CardFiles(
        config=config,
        run=read_json(run, "the record of the run") if run.is_file() else {},
        summary=read_summary(folder) if (folder / "summary.json").is_file() else None,
        adapter=read_json(adapter, "the adapter's configuration") if adapter.is_file() else None,
        reached=int(rows[-1]["step"]) if rows else 0,
    )


def model_card(files: CardFiles, merged: bool = False) -> str:
    """Return the card as Markdown with the hub's metadata in front.

    Args:
        files: The contents of the run folder.
        merged: Whether the card stands beside a model into which the adapter was merged.
    """
    config, run = (_publishable(redact_values(values)) for values in (files.config, files.run))
    model, train = config.get("model") or {}, config.get("train") or {}
    recipe, base = str(run.get("recipe") or "rlcap"), str(model.get("base") or "the base model")
    is_local = str(files.config.get("model", {}).get("base")) != base or Path(base).is_dir()
    rank = int((files.adapter or {}).get("r") or 0)
    is_adapter = files.adapter is not None and not merged
    steps = int(train.get("steps") or files.reached)
    page = (
        _environment()
        .get_template("model_card.md.jinja")
        .render(
            base=base,
            hub_base=base if _HUB_NAME.fullmatch(base) and not is_local else None,
            is_address=":" in base,
            is_adapter=is_adapter,
            rank=rank,
            vllm_rank=next((allowed for allowed in VLLM_RANKS if allowed >= rank), VLLM_RANKS[-1]),
            tags=["rlcap", "image-captioning", recipe, *(["lora"] if is_adapter else [])],
            recipe=recipe,
            reached=files.reached,
            steps=steps,
            alarms=[(alarm["split"], describe_alarm(alarm)) for alarm in (files.summary or {}).get("alarms") or ()],
            facts=_facts(config, run, files, steps),
            mix=_mix(config.get("mix") or {}),
            source=(config.get("data") or {}).get("source") or "unknown",
            data=_data(config, run),
            versions=", ".join(f"{name} {version}" for name, version in (run.get("versions") or {}).items() if version),
            tables=_tables(files.summary or {}),
            instruction=run.get("instruction") or (config.get("data") or {}).get("instruction"),
            max_new_tokens=(config.get("generation") or {}).get("max_new_tokens"),
            four_bit=bool(model.get("load_in_4bit")),
        )
    )
    return str(redact_values(page))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rlcap", "train"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters |= {"code": _code, "plain": _plain, "quoted": _quoted, "block": _block, "shell": shlex.quote}
    return environment


# ---- contents


def _facts(config: Mapping[str, Any], run: Mapping[str, Any], files: CardFiles, steps: int) -> list[tuple[str, str]]:
    """Return (what, value) of the settings that someone needs who trains it again."""
    model, train = config.get("model") or {}, config.get("train") or {}
    start = model.get("adapter") or (
        "all weights of the base"
        if model.get("trainable") == "full"
        else f"a fresh LoRA ({model.get('trainable')}, rank {model.get('lora_rank')}, alpha {model.get('lora_alpha')})"
    )
    trained = run.get("trainable_parameters")
    facts = {
        "recipe": run.get("recipe"),
        "base": model.get("base"),
        "started from": start,
        "trained parameters": f"{trained:,}" if isinstance(trained, int) else None,
        "optimiser steps": f"{files.reached} of {steps}",
        "learning rate": train.get("learning_rate"),
        "images per step": train.get("images_per_step") or train.get("batch_size"),
        "captions per image": train.get("captions_per_image"),
        "KL cost beta": train.get("beta"),
        "aggregate": train.get("aggregate"),
        "learned text": train.get("target"),
        "curriculum": config.get("curriculum"),
        "seed": run.get("seed", train.get("seed")),
        "processes": run.get("processes"),
        "mixed precision": run.get("precision"),
        "longest caption in tokens": (config.get("generation") or {}).get("max_new_tokens"),
        "evaluation retriever": (config.get("evaluation") or {}).get("retriever"),
        "evaluation NLI model": (config.get("evaluation") or {}).get("nli"),
        "seconds": round((files.summary or {}).get("seconds") or 0) or None,
        "git commit": run.get("git"),
    }
    return [(name, _text(value)) for name, value in facts.items() if value is not None]


def _mix(mix: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the terms of the reward mix; a term that the run left out is null in its configuration."""
    return [
        {
            "name": name,
            "reward": str(term.get("reward")),
            "weight": term.get("weight", 1.0),
            "params": ", ".join(f"{key}={_text(value)}" for key, value in (term.get("params") or {}).items()),
        }
        for name, term in mix.items()
        if term
    ]


def _data(config: Mapping[str, Any], run: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (part, number of rows, fingerprint) of the splits, and of the preference pairs of DPO."""
    splits = run.get("data") or {}
    rows = [
        (name, part.get("images"), part.get("fingerprint"))
        for name, part in splits.items()
        if isinstance(part, Mapping)
    ]
    if run.get("pairs_fingerprint"):
        rows.append((f"pairs of {config.get('pairs')}", run.get("pairs"), run["pairs_fingerprint"]))
    return rows


def _tables(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a table of the main metrics for each split that was evaluated before and after."""
    means = {(e["step"], e["split"]): e["metrics"] for e in summary.get("evaluations") or ()}
    tables = []
    for change in sorted(summary.get("changes") or (), key=lambda change: change["split"] != "test"):
        before, after = (means.get((change[key], change["split"]), {}) for key in ("from", "to"))
        rows = []
        for name in reading_order({name for name in change["metrics"] if canonical_name(name) in MAIN_METRICS}):
            values, info = change["metrics"][name], metric_info(name)
            difference = values["difference"]
            # An evaluation's interval covers every image that has a value. The mean of a change covers fewer where some
            # images have a value at one of the two steps only.
            is_whole = values["n"] == change["n"]
            low, high = info.format_change(difference["low"]), info.format_change(difference["high"])
            unit = " points" if info.unit == "share" else ""
            rows.append(
                {
                    "label": info.label,
                    "before": _estimate(info, values["before"], before.get(name) if is_whole else None),
                    "after": _estimate(info, values["after"], after.get(name) if is_whole else None),
                    "change": f"{info.format_change(difference['mean'])}{unit} [{low}, {high}]",
                }
            )
        tables.append({**{key: change[key] for key in ("split", "n", "from", "to")}, "rows": rows})
    return tables


def _estimate(info: MetricInfo, value: float, interval: Mapping[str, float] | None) -> str:
    """Return a mean with the interval of its evaluation."""
    ends = f" [{info.format(interval['low'])}, {info.format(interval['high'])}]" if interval else ""
    return info.format(value) + ends


# ---- text


def _publishable(value: Any) -> Any:
    """Return a value in which a path of this machine is only the name of its file or folder."""
    if isinstance(value, Mapping):
        return {key: _publishable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_publishable(item) for item in value]
    if isinstance(value, str) and (match := _LOCAL.match(value)) is not None:
        return (match["prefix"] or "") + Path(match["path"]).name
    return value


def _text(value: Any) -> str:
    """Return a value of a configuration as text; a curriculum or a judge as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping | list) else str(value)


def _code(value: Any) -> str:
    """Return a text as a code span that does not break a table."""
    text = " ".join(str(value).replace("`", "'").split())
    return "`" + text.replace("|", "\\|") + "`" if text else ""


def _plain(value: Any) -> str:
    """Return a text in which Markdown and HTML have no effect."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(str(value).split()))


def _quoted(text: str) -> str:
    """Return a text as a Python literal."""
    return json.dumps(str(text), ensure_ascii=False)


def _block(text: str) -> str:
    """Return a text for the inside of a fenced block, which it can't end."""
    return str(text).replace("```", "'''")
