from rlcap.rewards.caption_qa.reward import CaptionQa as CaptionQa
from rlcap.rewards.caption_qa.reward import credit as credit
