"""The base class of the lab's oracles: judge backends that follow rules.

An oracle answers at once, and always in the same way.
"""

from __future__ import annotations

from rlcap.judge.backends.base import Completion, JudgeBackend, JudgeRequest


class Oracle(JudgeBackend):
    """A judge backend that reads the truth about the lab from the sample of a request. A subclass writes `answer`."""

    reads_sample = True
    is_deterministic = True

    def answer(self, request: JudgeRequest) -> str:
        """Return the reply.

        Raises:
            ValueError: for a sample without a scene, or a prompt that this oracle can't read.
        """
        raise TypeError(f"{type(self).__name__} answers nothing: write `answer(self, request)`")

    async def complete(self, request: JudgeRequest) -> Completion:
        """Answer one request."""
        return Completion(self.answer(request))
