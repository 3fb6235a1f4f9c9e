from rlcap.rewards.rubric.reward import Rubric as Rubric
