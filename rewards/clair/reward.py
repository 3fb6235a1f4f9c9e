"""CLAIR: how likely is it that caption and references describe the same image, as a language model estimates it?

measures  r = score / 100, where score is the judge's estimate from 0 to 100; 0 < score < 1 is read as a share
range     [0, 1]; the empty caption gets 0 without a request
needs     references
cost      one LLM call per new caption; replies are cached on disk by content
source    CLAIR (arXiv 2310.12971): its question, with sets of one candidate and all references, and its reply, a JSON
          object with score and reason. Its code gives 0 where it can't read the reply; here the caption abstains
hack      saying little that is wrong for any image of the kind; confident and fluent wrong detail, which one number
          hides; praise of the caption itself, where the judge is weak
guards    claims or caption_qa for detail, hallucination, style
fails     word_shuffle; on 12 % of 42 images with the lab's oracle judge, whose grade is taken as the likelihood. It ties on
          repeated, rambling, injection, praise and hedged. A large model's judgement is not measured
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from rlcap.errors import ReplyFormatError
from rlcap.judge.grader import Grader
from rlcap.judge.parsing import strip_wrapping
from rlcap.reward.judge_reward import JudgeReward
from rlcap.types import Sample, Score

# Delimited texts cannot contain tags. So a judge that only repeats the caption gives no verdict, whatever JSON it holds.
_REPLY = re.compile(r"<verdict>(.*)</verdict>", re.DOTALL)
# `strip_wrapping` is wrong here: thoughts inside the tags are part of the verdict, which then lacks the required form.
_CODE_FENCE = re.compile(r"^\s*```\w*\n|```\s*$")


def parse_likelihood(reply: str) -> tuple[float, str]:
    """Read the likelihood and its reason.

    Returns:
        (likelihood in [0, 1], reason).

    Raises:
        ReplyFormatError: for anything but a JSON object with score and reason inside the tags.
    """
    match = _REPLY.fullmatch(strip_wrapping(reply))
    try:  # pairs, because a dict would silently keep the last of two scores
        pairs = json.loads(_CODE_FENCE.sub("", match[1]), object_pairs_hook=tuple) if match else None
    except (ValueError, RecursionError) as error:  # no JSON, a number with thousands of digits, very deep nesting
        raise ReplyFormatError("there is no JSON in the tags, or there is text around it") from error
    if not isinstance(pairs, tuple) or sorted(key for key, _ in pairs) != ["reason", "score"]:
        raise ReplyFormatError("the reply must be a JSON object with score and reason, and nothing else")
    fields = dict(pairs)
    score, reason = fields["score"], fields["reason"]
    number = isinstance(score, int | float) and not isinstance(score, bool)
    if not number or not 0 <= score <= 100 or not isinstance(reason, str):
        raise ReplyFormatError(
            f"the score must be a number from 0 to 100 and the reason a text, got {str(score)[:20]!r}"
        )
    return (score if score < 1 else score / 100), reason


class ClairReader(Grader):
    """Reads a likelihood with its reason."""

    def parse(self, reply: str, sample: Sample) -> tuple[float, str]:
        """Read (likelihood in [0, 1], reason).

        Raises:
            ReplyFormatError: for a reply of another form.
        """
        return parse_likelihood(reply)


class Clair(JudgeReward):
    """CLAIR as a reward.

    Args:
        judge: estimates the likelihood; see `rlcap.judge.config:JudgeConfig`. It is never shown the image.
    """

    name, range, needs, version = "clair", (0.0, 1.0), frozenset({"references"}), "2"
    prompt_file, grader_kind = Path(__file__).parent / "prompt.txt", ClairReader

    def score_verdict(self, verdict: tuple[float, str], sample: Sample) -> Score:
        """Return the likelihood, with its reason as a note."""
        return Score(verdict[0], note=verdict[1])
