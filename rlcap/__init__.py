"""rlcap: reinforcement and feedback fine-tuning for the quality of image captions.

The names below are loaded when they are first used, so that `import rlcap` and the command line stay quick.

    from rlcap import RewardBatch, RewardMix, Sample, load_captioner

    captioner = load_captioner("runs/a")
    captions = captioner.caption(["1.jpg", "2.jpg"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

if TYPE_CHECKING:
    from rlcap.eval.evaluator import Evaluator
    from rlcap.eval.pretrained import PretrainedCaptioner, load_captioner
    from rlcap.judge.judge import Judge
    from rlcap.reward.base import Reward, RewardOutput
    from rlcap.reward.mix import RewardMix
    from rlcap.types import Control, RewardBatch, Sample, Score, Span

_MODULES = {
    "Control": "rlcap.types",
    "Evaluator": "rlcap.eval.evaluator",
    "Judge": "rlcap.judge.judge",
    "PretrainedCaptioner": "rlcap.eval.pretrained",
    "Reward": "rlcap.reward.base",
    "RewardBatch": "rlcap.types",
    "RewardMix": "rlcap.reward.mix",
    "RewardOutput": "rlcap.reward.base",
    "Sample": "rlcap.types",
    "Score": "rlcap.types",
    "Span": "rlcap.types",
    "load_captioner": "rlcap.eval.pretrained",
}
"""Public name → the module that it is loaded from."""

__all__ = [
    "Control",
    "Evaluator",
    "Judge",
    "PretrainedCaptioner",
    "Reward",
    "RewardBatch",
    "RewardMix",
    "RewardOutput",
    "Sample",
    "Score",
    "Span",
    "load_captioner",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*__all__]
