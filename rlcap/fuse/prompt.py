"""What the fuser is told: the statements of the experts as delimited data, in a prompt file's fields.

- a dog (objects; score 0.93; lower left)
- A dog runs along a beach. (caption)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from rlcap.config.imports import unknown
from rlcap.errors import ConfigError
from rlcap.experts.statement import Statement
from rlcap.fuse.preset import prompt_path
from rlcap.judge.image_crops import position_of
from rlcap.judge.templates import PromptTemplate, delimit

ALL = "statements"
"""The field of all experts that have no field of their own."""
NOTHING = "(nothing)"


def describe(statement: Statement) -> str:
    """Return a statement as a line of the prompt, with its expert, its score and the place of its box."""
    parts = [statement.source]
    if statement.score is not None:
        parts.append(f"score {statement.score:.2f}")
    if statement.box is not None:
        parts.append(position_of(statement.box))
    return f"- {statement.text} ({'; '.join(parts)})"


def describe_all(statements: Sequence[Statement]) -> str:
    """Return statements as lines of the prompt, each different text of an expert once."""
    lines = [describe(statement) for statement in statements]
    return "\n".join(dict.fromkeys(lines)) or NOTHING


class FusionPrompt:
    """A prompt file with the fields of a preset's experts.

    Args:
        name: One of the shipped prompts, or a path.
        experts: The names of the experts.

    Raises:
        ConfigError: There is no such file, or it has a field that names neither an expert nor `statements`.
    """

    def __init__(self, name: str, experts: Collection[str]) -> None:
        self.template = PromptTemplate.read(prompt_path(name))
        for field in sorted(self.template.fields - {ALL, *experts}):
            raise ConfigError(f"prompt {name}: {unknown('field', field, [ALL, *experts])}")
        if not self.template.fields:
            raise ConfigError(f"prompt {name} has no field: write {{{ALL}}} where the experts' statements belong")

    def fill(self, statements: Sequence[Statement]) -> str:
        """Return the user's message for an image."""
        own = self.template.fields - {ALL}
        texts: Mapping[str, Sequence[Statement]] = {
            field: [one for one in statements if (one.source == field if field != ALL else one.source not in own)]
            for field in self.template.fields
        }
        return self.template.fill({field: delimit(field, describe_all(told)) for field, told in texts.items()})


class RewritePrompt:
    """The prompt that gives a paragraph back, with the sentences that nothing supports.

    Raises:
        ConfigError: There is no such file, or its fields are others than {statements}, {paragraph} and {unsupported}.
    """

    FIELDS = frozenset({ALL, "paragraph", "unsupported"})

    def __init__(self, name: str) -> None:
        self.template = PromptTemplate.read(prompt_path(name))
        if self.template.fields != self.FIELDS:
            raise ConfigError(
                f"rewrite_prompt {name} has the fields {sorted(self.template.fields)}; it needs {sorted(self.FIELDS)}"
            )

    def fill(self, statements: Sequence[Statement], paragraph: str, unsupported: Sequence[str]) -> str:
        """Return the user's message for a paragraph."""
        return self.template.fill(
            {
                ALL: delimit(ALL, describe_all(statements)),
                "paragraph": delimit("paragraph", paragraph),
                "unsupported": delimit("unsupported", "\n".join(f"- {sentence}" for sentence in unsupported)),
            }
        )
