"""Asking several rewards at once.

Rewards that wait (an LLM judge) share one event loop in a thread of its own; rewards that compute run one after another
in the calling thread meanwhile, which keeps its CUDA device and autograd mode. So a batch costs about
max(slowest wait, sum of computations), whatever the order of the mix.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from rlcap.errors import InputError, RewardError, RewardInputError
from rlcap.reward.base import Reward
from rlcap.types import RewardBatch, Score


@dataclass(frozen=True, slots=True)
class Outcome:
    """One component's answer to one batch."""

    scores: list[Score]
    seconds: float
    """Wall clock from its start to its answer; overlaps with the others'."""
    metrics: Mapping[str, float]


def run(rewards: Mapping[str, Reward], batch: RewardBatch) -> dict[str, Outcome]:
    """Each reward's scores of the batch, by name and in the mapping's order.

    Raises RewardError with the component's name and its cause as soon as a computing reward fails; a waiting one's
    failure is raised when the computing ones are done.
    """
    waiting = {name: reward for name, reward in rewards.items() if reward.is_async}
    outcomes: dict[str, Outcome] = {}
    background = _Background(waiting, batch) if waiting else None
    try:
        for name, reward in rewards.items():
            if name not in waiting:
                outcomes[name] = _timed(name, reward, batch)
    except BaseException:
        if background is not None:
            background.cancel()
        raise
    if background is not None:
        outcomes |= background.join()
    return {name: outcomes[name] for name in rewards}


def _timed(name: str, reward: Reward, batch: RewardBatch) -> Outcome:
    start = time.perf_counter()
    try:
        scores = reward.checked(reward.score(batch), batch)
    except Exception as error:
        raise _named(name, error) from error
    return Outcome(scores, time.perf_counter() - start, reward.all_metrics)


def _named(name: str, error: Exception) -> RewardError:
    kind = RewardInputError if isinstance(error, InputError) else RewardError
    return kind(f"reward component {name!r} failed: {type(error).__name__}: {error}")


class _Background:
    """The waiting rewards on an event loop in a daemon thread."""

    def __init__(self, rewards: Mapping[str, Reward], batch: RewardBatch) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.error: BaseException | None = None
        self.started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(rewards, batch), name="rlcap-rewards", daemon=True)
        self.thread.start()

    def _run(self, rewards: Mapping[str, Reward], batch: RewardBatch) -> None:
        try:
            asyncio.run(self._gather(rewards, batch))
        except asyncio.CancelledError:
            self.error = RewardError("cancelled because another component failed")
        except BaseException as error:  # carried to the calling thread, which raises it in join()
            self.error = error
        finally:
            self.started.set()

    async def _gather(self, rewards: Mapping[str, Reward], batch: RewardBatch) -> None:
        self.loop, self.task = asyncio.get_running_loop(), asyncio.current_task()
        self.started.set()
        outcomes = await asyncio.gather(*(self._one(name, reward, batch) for name, reward in rewards.items()))
        self.outcomes = dict(zip(rewards, outcomes, strict=True))

    @staticmethod
    async def _one(name: str, reward: Reward, batch: RewardBatch) -> Outcome:
        start = time.perf_counter()
        try:
            scores = reward.checked(await reward.ascore(batch), batch)
        except Exception as error:
            raise _named(name, error) from error
        return Outcome(scores, time.perf_counter() - start, reward.all_metrics)

    def join(self) -> dict[str, Outcome]:
        try:
            while self.thread.is_alive():
                self.thread.join(0.2)  # in slices, so that Ctrl-C is heard on every platform
        except BaseException:
            self.cancel()
            raise
        if self.error is not None:
            raise self.error
        return self.outcomes

    def cancel(self) -> None:
        self.started.wait()
        if self.thread.is_alive() and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.task.cancel)
