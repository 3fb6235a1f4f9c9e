from rlcap.rewards.critique.reward import Critique as Critique
from rlcap.rewards.critique.reward import verdict_value as verdict_value
