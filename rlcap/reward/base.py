"""What a reward is.

A reward judges captions: it takes a `RewardBatch` and returns a `RewardOutput` with one `Score` for each caption. Ten lines make one:

    class Calm(Reward):
        name, range = "calm", (-1.0, 0.0)

        def score(self, batch: RewardBatch) -> RewardOutput:
            return RewardOutput([Score(-float("!" in caption)) for caption in batch.captions])

It is at once a term of a reward mix (`reward: my_module:Calm`) and a TRL reward function (`trl.GRPOTrainer(reward_funcs=[Calm()])`).
A reward that waits for a network writes `async def ascore` instead.

The mix relies on two rules. A row's score depends on that row alone, and not on its neighbours, their order or their number; a reward that
compares the captions of one image says so by `group_dependent`. And what can't be judged abstains with a reason, by
`Score.abstain("why")`; it never gets a zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, overload

from rlcap.errors import BudgetExhaustedError
from rlcap.judge import event_loop
from rlcap.judge.judge import Judge
from rlcap.judge.usage import UsageStats
from rlcap.reward.trl_adapter import NEEDS, to_reward_batch
from rlcap.types import RewardBatch, Score

_LARGEST = 3.4e38
"""Largest value of a score: rewards become advantages in single precision, where a larger one is infinite."""


@dataclass(frozen=True, slots=True)
class RewardOutput:
    """A reward's answer to one batch. Iterating over it gives the scores."""

    scores: Sequence[Score]
    """One score for each caption, in the batch's order."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Numbers about this batch for the log, such as the share of captions that found their image. Where a number `x` is a ratio of
    sums over the batch, a second number `x_count`, its denominator, lets several processes weight it rightly."""
    usage: UsageStats | None = field(default=None, compare=False)
    """What asking judges took; None for a reward that asks none."""

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, index: int) -> Score: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Score]: ...
    def __getitem__(self, index: int | slice) -> Score | Sequence[Score]:
        return self.scores[index]


class Reward:
    """Base class of all rewards. A subclass has a name and writes `score` or `ascore`."""

    name: ClassVar[str]
    """The key under which it is logged."""
    range: tuple[float, float] = (-1.0, 1.0)
    """Lowest and highest value; may be infinite. The floor of the advantage's std is relative to its width."""
    needs: frozenset[str] = frozenset()
    """What the reward can't do without: any of image, references, paragraph, distractors, meta."""
    version: ClassVar[str] = "1"
    """Changes whenever the same caption would get another score; caches key on it."""
    group_dependent: bool = False
    """Whether a score also depends on the other captions of the same image in the batch (never on those of other images)."""
    judges: Sequence[Judge] = ()
    """The judges that the reward asks. Their budgets are kept, and saved in checkpoints."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not isinstance(getattr(cls, "name", None), str):
            raise TypeError(f"{cls.__name__} has no name: add a class attribute `name = '...'`, its key in the logs")
        if cls.score is Reward.score and cls.ascore is Reward.ascore:
            raise TypeError(f"{cls.__name__} judges nothing: write `score(self, batch)` or `async ascore(self, batch)`")
        unknown = sorted(set(cls.needs) - set(NEEDS))
        if unknown:
            raise TypeError(f"{cls.__name__} needs {unknown}, which is not one of {', '.join(NEEDS)}")

    @property
    def __name__(self) -> str:
        """TRL's key in the logs."""
        return self.name

    @property
    def is_async(self) -> bool:
        """Whether the reward spends its time waiting (it writes `ascore`), so that others can work meanwhile."""
        return type(self).ascore is not Reward.ascore

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions."""
        return event_loop.run(self.ascore(batch))

    async def ascore(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions; for rewards that wait for something else than this machine."""
        return self.score(batch)

    def use_captioner(self, captioner: Any) -> None:
        """Take notice of the captioner that is trained (a `rlcap.policy.captioner.Captioner`), before training begins.

        A reward can use its frozen base. It must not depend on what is trained: the same caption must get the same score at each step.
        """

    def log_values(self, output: RewardOutput) -> dict[str, float]:
        """Return all numbers of a batch for the log: its metrics, its usage of judges, and what judges have cost so far."""
        values = dict(output.metrics)
        if output.usage is not None:
            values |= output.usage.metrics()
        if self.judges:
            values |= {
                f"{unit}_total": sum(j.budget.spent[unit] for j in self.judges) for unit in ("dollars", "tokens")
            }
        return values

    @property
    def stop_reason(self) -> str | None:
        """Why the reward should get no further batch (a judge's budget), or None."""
        return next((reason for judge in self.judges if (reason := judge.budget.stop_reason)), None)

    def check_output(self, output: RewardOutput, batch: RewardBatch) -> RewardOutput:
        """Return the output if it has exactly one `Score` for each caption, within the reward's range.

        Raises:
            TypeError: where the output or one of its scores is something else.
            ValueError: where the number of scores is not that of the captions, or a value lies outside `range`.
        """
        low, high = self.range
        slack = 1e-6 * max(1.0, *(abs(end) for end in self.range if math.isfinite(end)), 0.0)
        if not isinstance(output, RewardOutput):
            raise TypeError(f"{self.name} returned {output!r:.60}; return RewardOutput([Score(value), …])")
        if len(output.scores) != len(batch):
            raise ValueError(
                f"{self.name} gave {len(output.scores)} scores for {len(batch)} captions; return one for each caption"
            )
        for score, caption in zip(output.scores, batch.written, strict=True):
            if not isinstance(score, Score):
                raise TypeError(f"{self.name} gave {score!r:.60}; return Score(value) or Score.abstain(reason)")
            for span in score.spans or ():
                if span.end > len(caption):
                    raise ValueError(
                        f"{self.name} gave a span that ends at {span.end}, but the caption has {len(caption)} characters; spans "
                        "count characters of the caption as it was passed"
                    )
            if score.value is not None and abs(score.value) > _LARGEST:
                raise ValueError(f"{self.name} gave {score.value:g}, more than single precision holds; scale the value")
            if score.value is not None and not low - slack <= score.value <= high + slack:
                raise ValueError(
                    f"{self.name} gave {score.value:g}, outside its range [{low:g}, {high:g}]; correct the value or the range"
                )
        return output

    def __call__(
        self,
        prompts: list[Any],
        completions: list[Any],
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Score completions by TRL's signature.

        Args:
            prompts: N prompts.
            completions: N completions, as strings or conversations.
            log_extra: TRL's callback for columns of the completions table; receives the notes (critiques).
            log_metric: TRL's callback for scalars; receives the abstention rate and `log_values`.
            **columns: the data set's further columns, N values each.

        Returns:
            One value for each completion, None where the reward abstained.

        Raises:
            ColumnError: when the data lacks a column that the reward needs.
            BudgetExhaustedError: when a judge's budget has no room for the batch.
        """
        if self.stop_reason:
            raise BudgetExhaustedError(f"{self.name}: {self.stop_reason}; raise the limit, or take the reward out")
        batch = to_reward_batch(prompts, completions, columns, self.needs)
        output = self.check_output(self.score(batch), batch)
        scores = output.scores
        if log_metric is not None and scores:
            log_metric(f"{self.name}/abstain_rate", sum(score.abstained for score in scores) / len(scores))
            for key, value in self.log_values(output).items():
                log_metric(f"{self.name}/{key}", value)
        if log_extra is not None and any(score.note for score in scores):
            log_extra(f"{self.name}/note", [score.note or "" for score in scores])
        return [score.value for score in scores]
