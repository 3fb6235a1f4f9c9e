"""Scoring a batch by several rewards at once.

Rewards that wait for a judge run on the judges' event loop, in a thread of its own. Meanwhile rewards that compute run one after another
in the calling thread, which keeps its CUDA device and autograd mode. So a batch takes about max(slowest wait, sum of computations),
whatever the order of the mix.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from rlcap.errors import InputError, RewardError, RewardInputError
from rlcap.judge import event_loop
from rlcap.reward.base import Reward, RewardOutput
from rlcap.types import RewardBatch


@dataclass(frozen=True, slots=True)
class TimedOutput:
    """One reward's answer to one batch, and how long it took."""

    output: RewardOutput
    log_values: Mapping[str, float]
    """The output's numbers for the log."""
    seconds: float
    """Wall-clock seconds from its start to its answer; they overlap with those of other rewards."""


def score_all(rewards: Mapping[str, Reward], batch: RewardBatch) -> dict[str, TimedOutput]:
    """Score a batch by each of several rewards.

    Returns:
        The outputs by name, in the order of `rewards`.

    Raises:
        RewardError: with the term's name and its cause. A computing reward's failure is raised at once, a waiting one's when the
            computing ones are done.
    """
    waiting = {
        name: event_loop.submit(_score_async(name, reward, batch))
        for name, reward in rewards.items()
        if reward.is_async
    }
    try:
        outputs = {name: _score_sync(name, reward, batch) for name, reward in rewards.items() if not reward.is_async}
        outputs |= {name: event_loop.wait(future) for name, future in waiting.items()}
    finally:
        for future in waiting.values():  # where one failed, the others end
            future.cancel()
    return {name: outputs[name] for name in rewards}


def _score_sync(name: str, reward: Reward, batch: RewardBatch) -> TimedOutput:
    start = time.perf_counter()
    try:
        output = reward.check_output(reward.score(batch), batch)
    except Exception as error:
        raise _named_error(name, error) from error
    return TimedOutput(output, reward.log_values(output), time.perf_counter() - start)


async def _score_async(name: str, reward: Reward, batch: RewardBatch) -> TimedOutput:
    start = time.perf_counter()
    try:
        output = reward.check_output(await reward.ascore(batch), batch)
    except Exception as error:
        raise _named_error(name, error) from error
    return TimedOutput(output, reward.log_values(output), time.perf_counter() - start)


def _named_error(name: str, error: Exception) -> RewardError:
    kind = RewardInputError if isinstance(error, InputError) else RewardError
    return kind(f"reward term {name!r} failed: {type(error).__name__}: {error}")
