"""The instruction that asks for a caption, as a conversation."""

from __future__ import annotations

INSTRUCTION = "Describe the image in one detailed paragraph."
"""The default instruction; short, because every caption of every image pays for its tokens."""


def caption_prompt(instruction: str = INSTRUCTION) -> list[dict[str, str]]:
    """One user message, as TRL's trainers take it; TRL puts the row's image before the text itself.

    A plain string would skip the chat template and the run would learn nothing (pitfalls 15).

    Raises:
        ValueError: the instruction is empty.
    """
    if not instruction.strip():
        raise ValueError(f"the caption instruction is empty ({instruction!r}); write one, such as {INSTRUCTION!r}")
    return [{"role": "user", "content": instruction}]
