from rlcap.rewards.aloha.reward import Aloha as Aloha
from rlcap.rewards.aloha.reward import aloha as aloha
