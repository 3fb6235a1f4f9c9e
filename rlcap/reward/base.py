"""What a reward is.

A reward judges captions: it takes a `RewardBatch` and answers one `Score` a caption. Ten lines make one:

    class Loud(Reward):
        name, range, needs = "loud", (-1.0, 0.0), frozenset()

        def score(self, batch):
            return [Score(-float("!" in caption)) for caption in batch.captions]

and it is at once a component of a mix (`reward: my_module:Loud`) and a TRL reward function
(`trl.GRPOTrainer(reward_funcs=[Loud()])`). A reward that waits for a network writes `async def ascore` instead.
Rules that the mix relies on: a row's score depends on that row alone (not on its neighbours, their order or number; a
reward that compares the captions of one image says so, `group_dependent`);
what can't be judged abstains with a reason, `Score.abstain("why")`, and is never given a zero.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rlcap.errors import BudgetExhausted
from rlcap.judge.usage import UsageStats
from rlcap.reward.trl_adapter import NEEDS, to_reward_batch
from rlcap.types import RewardBatch, Score

if TYPE_CHECKING:
    from rlcap.judge.judge import Judge


class Reward:
    """Base of all rewards: subclass, name it, and write `score` or `ascore`."""

    name: ClassVar[str]
    """The key under which it is logged."""
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    """Lowest and highest value; may be infinite. The advantage's std floor is relative to its width."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """What it can't do without: any of image, references, paragraph, distractors, meta."""
    version: ClassVar[str] = "1"
    """Change it whenever the same caption would get another score: caches key on it."""
    group_dependent: ClassVar[bool] = False
    """Whether a score depends on the other captions of the same image in the batch too (never on those of others)."""
    metrics: dict[str, float]
    """Scalars about the batch judged last (in-bag recall, cache hit share, …); may be empty."""
    judges: Sequence[Judge] = ()
    """Whom it asks, if anyone: their calls, latency and cost are logged, and their budgets kept."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not isinstance(getattr(cls, "name", None), str):
            raise TypeError(f"{cls.__name__} has no name: add a class attribute `name = '...'`, its key in the logs")
        if cls.score is Reward.score and cls.ascore is Reward.ascore:
            raise TypeError(f"{cls.__name__} judges nothing: write `score(self, batch)` or `async ascore(self, batch)`")
        unknown = sorted(set(cls.needs) - set(NEEDS))
        if unknown:
            raise TypeError(f"{cls.__name__} needs {unknown}, which is not one of {', '.join(NEEDS)}")

    def __new__(cls, *args: Any, **kwargs: Any) -> Reward:
        reward = super().__new__(cls)
        reward.metrics = {}
        return reward

    @property
    def __name__(self) -> str:
        """TRL's key in the logs."""
        return self.name

    @property
    def is_async(self) -> bool:
        """Whether it spends its time waiting (it writes `ascore`), so that others can work meanwhile."""
        return type(self).ascore is not Reward.ascore

    def score(self, batch: RewardBatch) -> list[Score]:
        """One score a caption, in the batch's order."""
        return run_coroutine(lambda: self.ascore(batch))

    async def ascore(self, batch: RewardBatch) -> list[Score]:
        """The same for rewards that wait for something else than this machine."""
        return self.score(batch)

    @property
    def all_metrics(self) -> dict[str, float]:
        """`metrics`, and of its judges `UsageStats.metrics` of the last batch, `dollars_total` and `tokens_total`."""
        if not self.judges:
            return dict(self.metrics)
        total = {f"{name}_total": sum(j.budget.spent[name] for j in self.judges) for name in ("dollars", "tokens")}
        return {**self.metrics, **UsageStats.sum(judge.tally for judge in self.judges).metrics(), **total}

    @property
    def stop_reason(self) -> str | None:
        """Why no further batch should be given to it (a judge's budget), or None."""
        return next((reason for judge in self.judges if (reason := judge.budget.stop_reason)), None)

    def checked(self, scores: list[Score], batch: RewardBatch) -> list[Score]:
        """The scores, if there is exactly one `Score` a caption; TypeError or ValueError otherwise."""
        if len(scores) != len(batch):
            raise ValueError(f"{self.name} gave {len(scores)} scores for {len(batch)} captions; return one a caption")
        for score in scores:
            if not isinstance(score, Score):
                raise TypeError(f"{self.name} gave {score!r:.60}; return Score(value) or Score.abstain(reason)")
        return list(scores)

    def __call__(
        self,
        prompts: list[Any],
        completions: list[Any],
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """TRL's signature: one value a completion, None where the reward abstained.

        `log_metric`, when TRL gives it, receives the abstain rate and `metrics`; `log_extra` the critiques.
        Raises ColumnError when the data lacks a column that the reward needs, BudgetExhausted where a judge's budget has no
        room for the batch.
        """
        if self.stop_reason:
            raise BudgetExhausted(f"{self.name}: {self.stop_reason}; raise the limit, or take the reward out")
        batch = to_reward_batch(prompts, completions, columns, self.needs)
        scores = self.checked(self.score(batch), batch)
        if log_metric is not None and scores:
            log_metric(f"{self.name}/abstain_rate", sum(score.abstained for score in scores) / len(scores))
            for key, value in self.all_metrics.items():
                log_metric(f"{self.name}/{key}", value)
        if log_extra is not None and any(score.note for score in scores):
            log_extra(f"{self.name}/note", [score.note or "" for score in scores])
        return [score.value for score in scores]


def run_coroutine(start: Callable[[], Any]) -> Any:
    """Run `start()` to its end, from a plain thread as well as from inside a running loop (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(start())
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = asyncio.run(start())
        except BaseException as error:  # carried over to the caller's thread, which raises it
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]
