"""Caption QA: questions about the image that a judge answers from the caption alone."""

from rlcap.rewards.caption_qa.reward import CaptionQa as CaptionQa
from rlcap.rewards.caption_qa.reward import credit as credit
