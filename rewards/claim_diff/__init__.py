"""Claim diff: the claims in which caption and reference differ, and whose claim is wrong."""

from rlcap.rewards.claim_diff.reward import ClaimDiff as ClaimDiff
from rlcap.rewards.claim_diff.reward import claim_value as claim_value
from rlcap.rewards.claim_diff.reward import hedged_share as hedged_share
