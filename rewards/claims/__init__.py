"""Claims: precision and recall over the atomic claims of a caption."""

from rlcap.rewards.claims.reward import Claims as Claims
from rlcap.rewards.claims.reward import f1 as f1
from rlcap.rewards.claims.reward import precision as precision
from rlcap.rewards.claims.reward import recall as recall
