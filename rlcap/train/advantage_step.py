"""From the scores of a round to the advantages of its captions and tokens, with statistics over the captions of all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather
from torch import Tensor

from rlcap.algo.advantages import Advantages, combine
from rlcap.algo.credit import credit_scales, token_advantages, token_moments
from rlcap.config.schema import TrainConfig
from rlcap.reward.mix import MixScores, RewardMix
from rlcap.train.token_credit import span_means, token_values


class AdvantageStep:
    """Computes advantages, and lets the mix learn from each round.

    Args:
        mix: The rewards.
        train: The configuration of the training.
        group: Captions per image.
        accelerator: Connects the processes.
        tokenizer: The tokenizer of the captioner.
        log: Called with the name and the value of each statistic.
    """

    def __init__(
        self,
        mix: RewardMix,
        train: TrainConfig,
        group: int,
        accelerator: Accelerator,
        tokenizer: Any,
        log: Callable[[str, float | Tensor], None],
    ) -> None:
        self.mix, self.train, self.group, self.accelerator = mix, train, group, accelerator
        self.tokenizer, self.log = tokenizer, log

    def compute(
        self,
        scores: MixScores,
        captions: Sequence[str],
        ids: Tensor,
        mask: Tensor,
        greedy: MixScores | None = None,
        greedy_captions: Sequence[str] = (),
    ) -> dict[str, Tensor]:
        """Return `advantages` (N,); with credit to claims (N, C), beside the `caption_advantages` (N,) without it.

        Args:
            scores: Scores of the N captions of this process.
            captions: The N captions as they were written.
            ids: (N, C) tokens of the captions.
            mask: (N, C), 1 on the tokens that are learned.
            greedy: As in `rlcap.train.rollout.Rollout`.
            greedy_captions: As in `rlcap.train.rollout.Rollout`.
        """
        combined = self.combine(scores, greedy)
        whole = combined.advantages.to(self.accelerator.device)
        if self.train.credit == "caption":
            return {"advantages": whole}
        values = token_values(scores, captions, ids, mask, self.tokenizer)
        # Of greedy captions only the text is kept, so that characters stand for their tokens.
        baseline = None if greedy is None else span_means(greedy, greedy_captions).repeat_interleave(self.group, 0)
        tokens = self.credit_tokens(combined, values, mask, scores.weights, baseline)
        return {"advantages": tokens, "caption_advantages": whole}

    def combine(self, scores: MixScores, greedy: MixScores | None = None) -> Advantages:
        """Return the advantages of the N captions of this process.

        Args:
            scores: Scores of the N captions of this process.
            greedy: As in `rlcap.train.rollout.Rollout`.
        """
        values = self._gather(scores.values)
        baseline: Any = self.mix.moments.means()
        if greedy is not None:
            baseline = self._gather(greedy.values.repeat_interleave(self.group, 0))
        combined = combine(
            values,
            scores.weights,
            self.group,
            normalize=self.mix.normalize,
            aggregate=self.train.aggregate,
            whiten=self.train.whiten,
            reward_ranges=self.mix.reward_ranges,
            running_std=self.mix.running.stds(),
            baseline=baseline,
        )
        self.mix.running.update(combined.std_pooled.tolist())
        self.mix.observe_round(values)
        self.log_spread(scores.names, combined)
        return combined.rows(self._own_rows(len(scores.values)))

    def combine_own(self, scores: MixScores) -> Tensor:
        """Return the (N,) advantages of captions of this process alone, without any effect on later rounds."""
        combined = combine(
            scores.values,
            scores.weights,
            self.group,
            normalize=self.mix.normalize,
            whiten=False,
            reward_ranges=self.mix.reward_ranges,
            running_std=self.mix.running.stds(),
        )
        return combined.advantages

    def credit_tokens(
        self,
        combined: Advantages,
        values: Tensor,
        mask: Tensor,
        weights: Sequence[float],
        baseline: Tensor | None = None,
    ) -> Tensor:
        """Return the (N, C) advantages of the tokens of this process.

        Args:
            combined: The advantages of the N captions.
            values: (N, K, C) what the terms say of the tokens; see `rlcap.train.token_credit.token_values`.
            mask: (N, C), 1 on the tokens that are learned.
            weights: K weights of the terms in this round.
            baseline: (N, K) mean token values of the greedy captions, for `sum_minus_greedy`.
        """
        mix = self.mix
        means, squares = (self._gather(part) for part in token_moments(values, mask.cpu()))
        usual = torch.tensor(mix.credit_moments.means()) if baseline is None else self._gather(baseline)
        scales = credit_scales(
            means,
            squares,
            weights,
            self.group,
            normalize=mix.normalize,
            aggregate=self.train.aggregate,
            running_std=mix.credit_running.stds(),
            baseline=usual,
        )
        mix.credit_running.update(scales.std_pooled.tolist())
        mix.credit_moments.update(means.T.tolist())
        for k, name in enumerate(mix.names):
            if not bool(means[:, k].isnan().all()):
                self.log(f"credit/{name}/std", scales.std_pooled[k].nan_to_num(0.0))
                self.log(f"credit/{name}/zero_variance_groups", 1 - (scales.factors[:, k] != 0).double().mean())
        own = self._own_rows(len(values))
        shares = mix.credit_shares(self.train.credit_share)
        tokens = token_advantages(combined, values, mask.cpu(), scales.centres[own], scales.factors[own], shares)
        return tokens.to(self.accelerator.device)

    def log_spread(self, names: Sequence[str], combined: Advantages) -> None:
        """Log how much the terms differ within groups."""
        for k, name in enumerate(names):
            self.log(f"reward/{name}/std_within_group", combined.std_within_group[k])
            self.log(f"reward/{name}/zero_variance_groups", combined.zero_variance_share_by_term[k])
        self.log("zero_variance_groups", combined.zero_variance_share)

    def _gather(self, values: Tensor) -> Tensor:
        gathered: Tensor = gather(values.to(self.accelerator.device))
        return gathered.cpu()

    def _own_rows(self, count: int) -> slice:
        """Return the rows of this process in what `gather` returns of `count` rows from each process."""
        return slice(self.accelerator.process_index * count, (self.accelerator.process_index + 1) * count)
