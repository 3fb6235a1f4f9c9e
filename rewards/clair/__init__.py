from rlcap.rewards.clair.reward import Clair as Clair
from rlcap.rewards.clair.reward import ClairReader as ClairReader
from rlcap.rewards.clair.reward import parse_likelihood as parse_likelihood
