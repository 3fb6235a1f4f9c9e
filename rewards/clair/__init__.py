"""CLAIR: a judge's estimate that caption and references describe the same image."""

from rlcap.rewards.clair.reward import Clair as Clair
from rlcap.rewards.clair.reward import ClairReader as ClairReader
from rlcap.rewards.clair.reward import parse_likelihood as parse_likelihood
