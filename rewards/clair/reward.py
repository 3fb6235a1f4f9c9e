"""CLAIR: how likely is it that caption and references describe the same image, in a language model's own estimate?

measures  r = score / 100, the judge's estimate from 0 to 100; 0 < score < 1 is read as a share
range     [0, 1]; the empty caption gets 0 without asking anyone
needs     references
cost      one LLM call a new caption; replies are cached on disk by content
source    CLAIR (arXiv 2310.12971): its question, with sets of one candidate and all references, in the form of a JSON with
          score and reason. Its code gives 0 where it can't read the reply; here the caption abstains
hack      saying little that is wrong of any image of the kind; sure and fluent wrong detail, which one number hides;
          praise of itself, where the judge is weak
guards    claims or caption_qa for detail, hallucination, style
fails     salad; 12 % of 42 images by the lab's critic, whose grade stands for the likelihood. It ties on repeated, rambling, injection,
          praise and hedged. A large model's reading is not measured here
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

# No delimited text can contain tags: a judge that repeats the caption has not judged, whatever JSON the caption holds.
_REPLY = re.compile(r"<verdict>(.*)</verdict>", re.DOTALL)
# `strip_wrapping` does not serve here: thoughts inside the tags are part of the verdict, which then has not the required form.
_CODE_FENCE = re.compile(r"^\s*```\w*\n|```\s*$")


def parse_likelihood(reply: str) -> tuple[float, str]:
    """Read (score from 0 to 1, reason).

    Raises:
        ReplyFormatError: for anything but a JSON object with score and reason inside the tags.
    """
    match = _REPLY.fullmatch(strip_wrapping(reply))
    try:  # pairs, as a dict would keep the last of two scores
        pairs = json.loads(_CODE_FENCE.sub("", match[1]), object_pairs_hook=tuple) if match else None
    except (ValueError, RecursionError) as error:  # no JSON, a number of thousands of digits, a tower of brackets
        raise ReplyFormatError("no JSON in tags, or text around it") from error
    if not isinstance(pairs, tuple) or sorted(key for key, _ in pairs) != ["reason", "score"]:
        raise ReplyFormatError("a JSON with score and reason, and nothing else, was asked for")
    found = dict(pairs)
    score, reason = found["score"], found["reason"]
    number = isinstance(score, int | float) and not isinstance(score, bool)
    if not number or not 0 <= score <= 100 or not isinstance(reason, str):
        raise ReplyFormatError(
            f"the score must be a number from 0 to 100 and the reason a text, got {str(score)[:20]!r}"
        )
    return (score if score < 1 else score / 100), reason


class ClairReader(Grader):
    """Reads a likelihood with its reason."""

    def parse(self, reply: str, sample: Sample) -> tuple[float, str]:
        """Read (likelihood in [0, 1], reason). Raises ReplyFormatError."""
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
