"""What a configuration must name before a recipe can start."""

from __future__ import annotations

from rlcap.config.schema import GRPOConfig, mix_entries
from rlcap.config.supervised import DPOConfig, RefineConfig, SFTConfig
from rlcap.config.trackers import find_missing
from rlcap.errors import ConfigError

AnyConfig = GRPOConfig | SFTConfig | RefineConfig | DPOConfig
"""The configuration of any recipe; that of PPO is a GRPOConfig."""


def require_complete(config: AnyConfig) -> None:
    """Check that nothing is missing that a recipe can't do without, neither a key nor a tracker's package.

    Raises:
        ConfigError: names every missing key and what to write.
    """
    missing = []
    if not config.model.base and not getattr(config, "captions", None):
        missing.append("model.base is empty: name a captioner, such as Qwen/Qwen2.5-VL-3B-Instruct")
    if not config.data.source:
        missing.append(
            "data.source is empty: name a .jsonl, .json, .csv, .tsv or .parquet file, a folder or module:Class"
        )
    if isinstance(config, GRPOConfig | DPOConfig) and not config.evaluation.retriever:
        missing.append("evaluation.retriever is empty: name an open_clip model that no reward uses")
    if isinstance(config, GRPOConfig) and not mix_entries(config.mix):
        missing.append(
            "mix is empty: name at least one reward, as recipes/configs/lab.yaml does; a file without one, such as lab_ppo.yaml, lies over "
            "it"
        )
    if isinstance(config, RefineConfig):
        if not mix_entries(config.accept):
            missing.append("accept names no reward: a rewriting must please one that had no part in it")
        if not config.reviser.judge:
            missing.append("reviser.judge is empty: name who rewrites, such as openai:gpt-4o-mini")
    if isinstance(config, DPOConfig) and not config.pairs:
        missing.append("pairs is empty: name the pairs.jsonl of recipes/refine.py, pairs=runs/NAME/pairs.jsonl")
    missing += find_missing(config.report_to)
    if missing:
        raise ConfigError("\n".join(missing))
