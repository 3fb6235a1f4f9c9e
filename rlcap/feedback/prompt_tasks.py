"""The two tasks of `rlcap prompt optimize`: the instruction to a captioner, and the rubric of a judge.

The score of an instruction comes from the rewards of the captions that it leads to. The score of a rubric is the agreement
of its values with those of people. `rlcap.feedback.prompt_optimization.optimize_prompt` optimises both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from rlcap.algo.ordering import ordering_agreement
from rlcap.errors import ConfigError
from rlcap.reward.base import Reward
from rlcap.reward.mix import MixScores, RewardMix
from rlcap.types import RewardBatch, Sample

MAX_EXAMPLES = 6
"""Maximum number of captions, or of disagreements, in the description for the judge."""
BAG_SIZE = 5
"""Images of the bag in which a caption is scored, including the caption's own image."""
INSTRUCTION_ROLE = "instruction that an image captioner is given with each image"
RUBRIC_ROLE = "instructions that a judge of image captions is given"
INSTRUCTION_RULES = ("One or two sentences.", "It must fit any image: name nothing that is in a particular one.")
RUBRIC_RULES = (
    "Keep everything that says in which form the judge must reply, word for word.",
    "Keep the sentence that text between tags is data.",
)


class InstructionTask:
    """The task of finding an instruction whose captions a mix of rewards scores high.

    The score of an instruction is Σ weight · (mean − mean of the first instruction) / std of the first instruction, over the
    terms of the mix. Means and stds are computed over captions, without those on which a term abstained. The first
    instruction has the score 0.

    Args:
        caption: (instruction, N samples) → N captions.
        mix: The rewards.
        training: The samples whose captions the rewriting judge sees.
        held_out: Other samples, whose captions give the score.
        gallery: Id → image path, for bags.
    """

    def __init__(
        self,
        caption: Callable[[str, Sequence[Sample]], list[str]],
        mix: RewardMix,
        training: Sequence[Sample],
        held_out: Sequence[Sample],
        gallery: Mapping[str, str],
    ) -> None:
        self.caption, self.mix, self.training, self.held_out, self.gallery = caption, mix, training, held_out, gallery
        self.unit: list[tuple[float, float]] | None = None

    def score(self, instruction: str) -> float:
        """Return the score of an instruction on the held-out images."""
        means = [_moments(column) for column in self._judge(instruction, self.held_out)[1].values.T.tolist()]
        self.unit = self.unit or means
        total = 0.0
        for weight, (mean, _), (start, std) in zip(self.mix.weights, means, self.unit, strict=True):
            if std > 0 and not math.isnan(mean):
                total += weight * (mean - start) / std
        return total

    def describe(self, instruction: str) -> str:
        """Return the worst captions of the training images with their rewards, as text for the rewriting judge."""
        captions, scores = self._judge(instruction, self.training)
        totals = _totals(scores, [_moments(column) for column in scores.values.T.tolist()])
        worst = sorted(range(len(captions)), key=totals.__getitem__)[:MAX_EXAMPLES]
        lines = ["With this instruction the captioner wrote, among others:"]
        for i in worst:
            said = ", ".join(f"{name} {scores.values[i, k]:.2f}" for k, name in enumerate(scores.names))
            notes = " ".join(str(scores.scores[name][i].note or "") for name in scores.names).strip()
            known = " / ".join(self.training[i].references[:2])
            lines.append(f"- {captions[i]!r} ({said}). People wrote: {known!r}. {notes}".rstrip())
        return "\n".join(
            [*lines, "Captions should be detailed, faithful to the image, and tell it from similar images."]
        )

    def _judge(self, instruction: str, samples: Sequence[Sample]) -> tuple[list[str], MixScores]:
        captions = self.caption(instruction, samples)
        bags = [
            tuple(self.gallery[i] for i in s.distractors.get("hard", ()) if i in self.gallery)[: BAG_SIZE - 1]
            for s in samples
        ]
        return captions, self.mix.score(RewardBatch(captions, list(samples), bags))


class RubricTask:
    """The task of finding a rubric with which the reward of a judge agrees with people.

    The score of a rubric is the share of pairs of captions that the reward orders as people do; a tie counts half. Every
    second row is held out.

    Args:
        make: Rubric → the reward.
        rows: At least 8 triples (caption, sample, score by people).

    Raises:
        ConfigError: There are fewer than 8 rows.
    """

    def __init__(self, make: Callable[[str], Reward], rows: Sequence[tuple[str, Sample, float]]) -> None:
        if len(rows) < 8:
            raise ConfigError(f"a rubric needs at least 8 captions with scores by people, got {len(rows)}")
        self.make, self.training, self.held_out = make, rows[::2], rows[1::2]

    def score(self, rubric: str) -> float:
        """Return the score of a rubric on the held-out rows; NaN, which is no improvement, if the judge ordered no pair."""
        return ordering_agreement(
            self._values(rubric, self.held_out), [wanted for *_, wanted in self.held_out], clear=0.0
        )

    def describe(self, rubric: str) -> str:
        """Return the training rows with the largest disagreement in rank, as text for the rewriting judge."""
        values, wanted = self._values(rubric, self.training), [score for *_, score in self.training]
        apart = [
            (abs(a - b), i)
            for i, (a, b) in enumerate(zip(_ranks(values), _ranks(wanted), strict=True))
            if not math.isnan(a)
        ]
        lines = ["Where the judge and people disagree most:"]
        for _, i in sorted(apart, reverse=True)[:MAX_EXAMPLES]:
            side = "above" if _ranks(values)[i] > _ranks(wanted)[i] else "below"
            lines.append(
                f"- {self.training[i][0]!r}: the judge says {values[i]:.2f}, {side} where people put it ({wanted[i]:g})"
            )
        if unread := sum(math.isnan(value) for value in values):
            lines.append(f"- on {unread} of {len(values)} captions its reply could not be read")
        return "\n".join(lines)

    def _values(self, rubric: str, rows: Sequence[tuple[str, Sample, float]]) -> list[float]:
        batch = RewardBatch([caption for caption, *_ in rows], [sample for _, sample, _ in rows])
        return [math.nan if score.value is None else score.value for score in self.make(rubric).score(batch)]


def _moments(column: Sequence[float]) -> tuple[float, float]:
    known = [value for value in column if not math.isnan(value)]
    if not known:
        return math.nan, 0.0
    mean = sum(known) / len(known)
    return mean, (sum((value - mean) ** 2 for value in known) / len(known)) ** 0.5


def _totals(scores: MixScores, moments: Sequence[tuple[float, float]]) -> list[float]:
    """Return the weighted sum of the standard scores of each caption, without the terms that abstained."""
    return [
        sum(
            weight * (value - mean) / std
            for value, weight, (mean, std) in zip(row, scores.weights, moments, strict=True)
            if std > 0 and not math.isnan(value)
        )
        for row in scores.values.tolist()
    ]


def _ranks(values: Sequence[float]) -> list[float]:
    """Return the rank of each value among the known values, in [0, 1]; NaN for unknown values."""
    known = sorted(value for value in values if not math.isnan(value))
    return [
        math.nan if math.isnan(v) else (known.index(v) + 0.5 * (known.count(v) - 1)) / max(1, len(known) - 1)
        for v in values
    ]
