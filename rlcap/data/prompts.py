"""The instruction that asks for a caption, as a conversation."""

from __future__ import annotations

INSTRUCTION = "Describe the image in one detailed paragraph."
"""The default instruction. It is short because its tokens are processed for every caption of every image."""


def caption_prompt(instruction: str = INSTRUCTION) -> list[dict[str, str]]:
    """Return the prompt as a list with one user message, the form that TRL's trainers expect.

    TRL inserts the image of the row before the text. A plain string would bypass the chat template, and the run would
    learn nothing (pitfalls 15).

    Raises:
        ValueError: The instruction is empty.
    """
    if not instruction.strip():
        raise ValueError(f"the caption instruction is empty ({instruction!r}); write one, such as {INSTRUCTION!r}")
    return [{"role": "user", "content": instruction}]
