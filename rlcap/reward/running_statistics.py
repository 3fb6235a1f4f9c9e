"""Statistics of each reward term over past rounds: the scale that `normalize: running` divides by, and mean and std."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


class RunningStd:
    """Exponential average of each term's pooled within-group variance, corrected for its start at 0.

    Feed it `Advantages.std_pooled`, computed from the values of *all* processes, so that every process holds the same
    numbers.

    Args:
        names: names of the K reward terms.
        decay: weight of the past at each step, in [0, 1); .99 averages over about a hundred steps.
    """

    def __init__(self, names: Sequence[str], decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.names, self.decay = tuple(names), decay
        self.variance = [0.0] * len(self.names)
        self.mass = [0.0] * len(self.names)

    def update(self, stds: Sequence[float]) -> None:
        """Add one step.

        Args:
            stds: K pooled stds; NaN (no group had two judged captions) leaves a term as it is.

        Raises:
            ValueError: where the number of stds is not K.
        """
        if len(stds) != len(self.names):
            raise ValueError(f"{len(stds)} stds for the terms {', '.join(self.names)}")
        for k, std in enumerate(float(s) for s in stds):
            if not math.isnan(std):
                self.variance[k] = self.decay * self.variance[k] + (1 - self.decay) * std * std
                self.mass[k] = self.decay * self.mass[k] + (1 - self.decay)

    def stds(self) -> list[float]:
        """Return one std for each term; NaN before its first step."""
        return [math.sqrt(v / m) if m else math.nan for v, m in zip(self.variance, self.mass, strict=True)]

    def state_dict(self) -> dict[str, list[float]]:
        """Return the averages for JSON: term → [variance, mass]."""
        return {name: [v, m] for name, v, m in zip(self.names, self.variance, self.mass, strict=True)}

    def load_state_dict(self, state: Mapping[str, Sequence[float]]) -> None:
        """Restore the averages; terms that the state does not hold start anew."""
        pairs = [state.get(name, (0.0, 0.0)) for name in self.names]
        self.variance, self.mass = [float(v) for v, _ in pairs], [float(m) for _, m in pairs]


class RunningMoments:
    """Mean and std of each reward term over the captions of past rounds.

    Feed it the values of *all* processes. With a decay of 1 every caption has the same weight, so that with equally
    many judged captions in each round the mean is the mean of all rounds' means, which is the baseline of DiscriTune
    and NDLB.

    Args:
        names: names of the K reward terms.
        decay: weight of the past at each round, in (0, 1]; .99 averages over about a hundred rounds.
    """

    def __init__(self, names: Sequence[str], decay: float = 1.0) -> None:
        if not 0 < decay <= 1:
            raise ValueError(f"decay must lie in (0, 1], got {decay}")
        self.names, self.decay = tuple(names), decay
        self.count, self.mean, self.squares = ([0.0] * len(self.names) for _ in range(3))

    def update(self, columns: Sequence[Sequence[float]]) -> None:
        """Add one round.

        Args:
            columns: K sequences of values; NaN (abstained) is left out, and a column without values changes nothing.

        Raises:
            ValueError: where the number of columns is not K.
        """
        if len(columns) != len(self.names):
            raise ValueError(f"{len(columns)} columns for the terms {', '.join(self.names)}")
        for k, column in enumerate(columns):
            judged = [float(value) for value in column if not math.isnan(value)]
            if not judged:
                continue
            # Merge the means and squared deviations of two samples (Chan, Golub and LeVeque 1979); the past one decays.
            past_count, n = self.decay * self.count[k], len(judged)
            mean = math.fsum(judged) / n
            squares = math.fsum((value - mean) ** 2 for value in judged)
            delta = mean - self.mean[k]
            self.count[k] = past_count + n
            self.mean[k] += delta * n / self.count[k]
            self.squares[k] = self.decay * self.squares[k] + squares + delta * delta * past_count * n / self.count[k]

    def means(self) -> list[float]:
        """Return one mean for each term; NaN before its first value."""
        return [mean if count else math.nan for mean, count in zip(self.mean, self.count, strict=True)]

    def stds(self) -> list[float]:
        """Return one std for each term, over all captions and not within groups; NaN before its second value."""
        return [
            math.sqrt(squares / count) if count > 1 else math.nan
            for squares, count in zip(self.squares, self.count, strict=True)
        ]

    def state_dict(self) -> dict[str, list[float]]:
        """Return the moments for JSON: term → [count, mean, squared deviations]."""
        return {name: [self.count[k], self.mean[k], self.squares[k]] for k, name in enumerate(self.names)}

    def load_state_dict(self, state: Mapping[str, Sequence[float]]) -> None:
        """Restore the moments; terms that the state does not hold start anew."""
        rows = [state.get(name, (0.0, 0.0, 0.0)) for name in self.names]
        self.count, self.mean, self.squares = ([float(row[i]) for row in rows] for i in range(3))
