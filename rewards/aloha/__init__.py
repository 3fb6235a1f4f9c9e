"""ALOHa: object hallucination measured with a language model's lists of objects."""

from rlcap.rewards.aloha.reward import Aloha as Aloha
from rlcap.rewards.aloha.reward import aloha as aloha
