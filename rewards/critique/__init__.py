"""Critique: a language model's critique of a caption, and the number that follows from it."""

from rlcap.rewards.critique.reward import Critique as Critique
from rlcap.rewards.critique.reward import verdict_value as verdict_value
