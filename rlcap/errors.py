"""Every error class of rlcap, and when it is raised.

`InputError` and its subclasses stand for something that the user gave and can change. Their message alone says which value was seen
and what to do about it, so that the command line and the recipes print the message without a traceback. All other classes are
raised inside a component and are handled by the component that called it.
"""

from __future__ import annotations

import os


class InputError(ValueError):
    """Raised when something that the user gave can't be used. The message names the value seen and the fix."""


class ConfigError(InputError):
    """Raised for a configuration that can't be run. The message names the key, the value seen and what to write instead."""


class StorageError(InputError):
    """Raised when a file can't be written. The message names the place, what was written, and the cause, such as a full disk."""


class LockedError(InputError):
    """Raised when another process holds the lock of a folder. The message names its process number and host."""


# ---- data ------------------------------------------------------------------------------------------------------------


class DataError(InputError):
    """Raised for a data source, or a row of it, that can't be used. The message names the file and the row."""


class ImageError(InputError):
    """Raised for an image that is missing, broken, too large, or of a format that is not allowed.

    Attributes:
        kind: a short stable reason, by which skipped rows are counted.
        path: the image file.
    """

    def __init__(self, kind: str, path: str | os.PathLike[str], seen: str, fix: str) -> None:
        super().__init__(f"{kind}: {os.fspath(path)}: {seen}; {fix}")
        self.kind = kind
        self.path = os.fspath(path)


class BagError(InputError):
    """Raised for a bag file that is not one, or that does not fit the data."""


class CaptionsError(InputError):
    """Raised for a file of captions that can't be used. The message names the file and the line."""


class PairsError(InputError):
    """Raised for a file of preference pairs, or of votes, that can't be used. The message names the file and the line."""


class QuestionError(InputError):
    """Raised for a multiple-choice question in a row's `meta["questions"]` that can't be asked."""


class RubricError(InputError):
    """Raised for a criterion in a row's `meta["rubric"]` that can't be used."""


class CropError(InputError):
    """Raised for boxes or detected classes in a row's `meta` that can't be used."""


# ---- rewards and judges ----------------------------------------------------------------------------------------------


class CardError(InputError):
    """Raised for a reward whose file has no complete card."""


class ColumnError(InputError):
    """Raised when the data set lacks a column that a reward needs, or when a column is malformed."""


class JudgeError(InputError):
    """Raised when a judge's backend can't work at all: a refused key, an unknown model, a bug.

    Neither a retry nor an abstention would help, so the run stops. The message is one line and contains no key.
    """


class BudgetExhaustedError(InputError):
    """Raised when a reward is given a batch for which its judge's budget has no room."""


class ReplyFormatError(ValueError):
    """Raised when a judge's reply does not have the form that was asked for. The caption abstains."""


class ServerReplyError(ValueError):
    """Raised when a server answers with status 200 and something that is no chat completion. The call is retried."""


class NoReplyError(Exception):
    """Raised inside textgrad's loop when the judge gave no reply. The message says why; the caption stays as it is."""


class RewardError(RuntimeError):
    """Raised when a term of the reward mix fails (it did not abstain). The message begins with the term's name."""


class RewardInputError(RewardError, InputError):
    """Raised when a term of the mix fails because of something that the user gave: a refused key, a missing file."""


# ---- training --------------------------------------------------------------------------------------------------------


class NotFiniteError(InputError):
    """Raised when a loss, a gradient or a weight is infinite or NaN. The message names the step, the cause and the last checkpoint."""


class ReferenceModelError(InputError):
    """Raised when a run starts with a reference model that is not the starting policy, so that its KL would not begin at 0."""


class BatchingError(InputError):
    """Raised for batch sizes that can't be run. The message proposes the nearest ones that can."""
