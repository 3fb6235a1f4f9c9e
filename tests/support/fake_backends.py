"""Judge backends for tests, and judge rewards made of them."""

from rlcap.judge.backends.base import Completion, JudgeBackend
from rlcap.judge.config import JudgeConfig


class FakeBackend(JudgeBackend):
    """A backend whose subclass writes an ordinary function `generate(content, system, **sampling)`.

    `content` is the text of the request, or the list of its parts where it holds images. The function returns a text or
    a `Completion`.
    """

    name = "fake"

    async def complete(self, request):
        content = request.text if len(request.parts) == 1 else list(request.parts)
        reply = self.generate(content, request.system, **request.sampling)
        return reply if isinstance(reply, Completion) else Completion(reply)


def make_reward(kind, backend, *args, **options):
    """Return a judge reward: the judge's options go to its configuration, the others to the reward."""
    judge = {name: options.pop(name) for name in list(options) if name in JudgeConfig.model_fields}
    return kind({"backend": backend, "cache": ":memory:", **judge}, *args, **options)
