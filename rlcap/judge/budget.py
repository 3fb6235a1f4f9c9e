"""What a judge costs: an engine's reply with its bill, and a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

IMAGE_TOKENS = 800
"""Taken for an image where the engine doesn't count: about what a provider takes for one of 1024 x 1024 pixels."""


class Reply(str):
    """What an engine may return instead of a plain str: the text, its tokens, and its price where the engine knows it."""

    __slots__ = ("dollars", "read", "written")

    def __new__(cls, text: str, read: int, written: int, dollars: float | None = None) -> Reply:
        """read, written: tokens of the question and of the reply, at least 0."""
        reply = super().__new__(cls, text)
        reply.read, reply.written, reply.dollars = read, written, dollars
        return reply


def estimate(content: str | Sequence[str | bytes]) -> int:
    """Tokens of a text or of a question's parts, at four characters a token."""
    parts = [content] if isinstance(content, str) else content
    return sum(math.ceil(len(part) / 4) if isinstance(part, str) else IMAGE_TOKENS for part in parts)


def _amount(amount: float, what: str) -> str:
    return f"${amount:.4g}" if what == "dollars" else f"{amount:.0f} {what}"


class Budget:
    """What may be spent in all. dollars, tokens: None for no limit.

    Two lines are drawn. `exhausted`: it is spent, and no further call is made (those under way are paid). `stop_reason`:
    there is no room for another batch like the costliest so far, so that a run that stops here has whole batches behind it.
    """

    def __init__(self, dollars: float | None = None, tokens: float | None = None) -> None:
        self.limits = {name: limit for name, limit in (("dollars", dollars), ("tokens", tokens)) if limit is not None}
        self.spent = {"dollars": 0.0, "tokens": 0.0}
        self._before, self._costliest = dict(self.spent), dict.fromkeys(self.spent, 0.0)

    def begin(self) -> None:
        """A batch begins."""
        self._before = dict(self.spent)

    def end(self) -> None:
        """The batch is over."""
        for name, spent in self.spent.items():
            self._costliest[name] = max(self._costliest[name], spent - self._before[name])

    def pay(self, tokens: float, dollars: float) -> None:
        """A call's bill."""
        self.spent["tokens"] += tokens
        self.spent["dollars"] += dollars

    @property
    def exhausted(self) -> str | None:
        """Why no further call may be made, or None."""
        return self._short(dict.fromkeys(self.spent, 0.0))

    @property
    def stop_reason(self) -> str | None:
        """Why no further batch should be begun, or None."""
        return self._short(self._costliest)

    def _short(self, needed: Mapping[str, float]) -> str | None:
        for name, limit in self.limits.items():
            spent = self.spent[name]
            if spent >= limit:
                return f"budget spent: {_amount(spent, name)} of {_amount(limit, name)}"
            if spent + needed[name] > limit:
                batch = _amount(needed[name], name)
                return (
                    f"budget nearly spent: {_amount(spent, name)} of {_amount(limit, name)}, and a batch takes {batch}"
                )
        return None

    def state_dict(self) -> dict[str, Any]:
        """JSON-able, for checkpoints: a run that goes on has what it spent before behind it."""
        return {"spent": dict(self.spent), "costliest": dict(self._costliest)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a `state_dict`."""
        self.spent, self._costliest = dict(state["spent"]), dict(state["costliest"])
        self._before = dict(self.spent)
