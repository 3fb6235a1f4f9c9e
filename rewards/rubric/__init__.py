"""Rubric: the weighted share of an image's own criteria that a caption meets."""

from rlcap.rewards.rubric.reward import Rubric as Rubric
