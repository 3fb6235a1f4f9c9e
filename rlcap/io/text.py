r"""The one reader of text, JSON and JSON Lines, whoever wrote the file.

Lines end at "\n" alone: a caption may contain U+2028, a form feed or another of the characters at which `str.splitlines` splits. A
byte order mark at the start is dropped. Every failure is an `InputError` that names the file, what was expected of it,
what was found, and the fix.

    rows = read_rows(path, "pairs", "write an object with chosen and rejected per line", find_problem, PairsError)
    config = read_json(path, "bag file", BagError)
    for number, value in iter_json_lines(path): ...       # `value` is a LineError for a line that is not JSON
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rlcap.errors import InputError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SURROGATE = re.compile("[\ud800-\udfff]")


class LineError(ValueError):
    """A line of a JSON Lines file that can't be read.

    Attributes:
        reason: A short stable reason: "not UTF-8" or "not JSON".
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def make_encodable(text: str) -> str:
    r"""Return the text with each lone surrogate replaced by U+FFFD, so that it can be written as UTF-8.

    JSON escapes such as "\ud800" put lone surrogates into texts. A text from outside passes through this function where
    it enters, because otherwise the first write that contains it fails.
    """
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def make_json_encodable(value: Any) -> Any:
    """Return a value of `json.loads` with `make_encodable` applied to every text in it, keys included."""
    if isinstance(value, str):
        return make_encodable(value)
    if isinstance(value, list):
        return [make_json_encodable(item) for item in value]
    if isinstance(value, dict):
        return {make_encodable(key): make_json_encodable(item) for key, item in value.items()}
    return value


def read_text(path: str | os.PathLike, what: str = "file", error: type[InputError] = InputError) -> str:
    """Return the text of a UTF-8 file without its byte order mark.

    Args:
        path: The file.
        what: What the file is, for messages, such as "bag file".
        error: The type of the errors.

    Raises:
        error: The file is missing, can't be read or is not UTF-8.
    """
    data = _read_bytes(path, what, error)
    try:
        return data.removeprefix(_BYTE_ORDER_MARK).decode("utf-8")
    except UnicodeDecodeError as cause:
        line = data.count(b"\n", 0, cause.start) + 1
        raise error(
            f"{what} {path} is not UTF-8 (byte {data[cause.start : cause.start + 1]!r} in line {line}); save it as UTF-8"
        ) from cause


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text; lone surrogates in its strings are replaced.

    Raises:
        ValueError: The text is not JSON, is nested too deeply, or contains a number of more than 4,300 digits.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    has_surrogate = _has_escaped_surrogate(text)
    return make_json_encodable(value) if has_surrogate else value


def read_json(path: str | os.PathLike, what: str = "file", error: type[InputError] = InputError) -> Any:
    """Return the value of a JSON file.

    Args:
        path: The file.
        what: What the file is, for messages.
        error: The type of the errors.

    Raises:
        error: The file is missing, can't be read, is not UTF-8 or is not JSON.
    """
    text = read_text(path, what, error)
    try:
        return parse_json(text)
    except ValueError as cause:
        raise error(f"{what} {path} is not JSON ({cause})") from cause


def read_lines(path: str | os.PathLike, what: str = "file", error: type[InputError] = InputError) -> list[str]:
    r"""Return the lines of a text file without their line ends, which are "\n" or "\r\n".

    Raises:
        error: The file is missing, can't be read or is not UTF-8.
    """
    lines = read_text(path, what, error).split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def iter_json_lines(path: str | os.PathLike) -> Iterator[tuple[int, Any | LineError]]:
    """Yield (line number from 1, value or LineError) for each line of a JSON Lines file that is not blank.

    Raises:
        OSError: The file can't be opened or read.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
            if line.strip():
                yield number, _parse_line(line)


def read_rows(
    path: Path, what: str, form: str, find_problem: Callable[[Any], str | None], error: type[InputError]
) -> list[dict[str, Any]]:
    """Return the rows of a JSON Lines file; blank lines are skipped.

    Args:
        path: The file.
        what: What the rows are, for messages, such as "pairs".
        form: The expected form of the file, for the message where the file does not exist.
        find_problem: Returns the problem of a row as text, or None for a good row.
        error: The type of the errors.

    Raises:
        error: The file is missing or empty, a line is not JSON, or a row has a problem; the message names file and
            line.
    """
    if not path.is_file():
        raise error(f"there is no {what} file {path}; {form}")
    rows = []
    try:
        for number, row in iter_json_lines(path):
            if isinstance(row, LineError):
                raise error(f"{path}, line {number} is {row.reason}: {row}") from row
            if problem := find_problem(row):
                raise error(f"{path}, line {number}: {problem}")
            rows.append(row)
    except OSError as cause:
        raise error(f"{what} file {path} can't be read: {cause.strerror}") from cause
    if not rows:
        raise error(f"{path} holds no {what}")
    return rows


def read_log(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the rows that `iter_log` yields."""
    return list(iter_log(path))


def iter_log(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSON Lines file that a run appends to; without a file there are none.

    A last line that is incomplete is dropped, because a killed process or a full disk leaves one.

    Raises:
        InputError: Another line is not a JSON object; the message names file and line.
    """
    if not Path(path).exists():
        return
    broken = None
    for number, row in iter_json_lines(path):
        if broken is not None:
            raise InputError(f"{path}, line {broken} is not JSON; remove the line")
        if isinstance(row, LineError) or not isinstance(row, dict):
            broken = number
        else:
            yield row


def _parse_line(line: bytes) -> Any | LineError:
    try:
        return parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        seen = line[error.start : error.start + 1]
        return LineError("not UTF-8", f"byte {seen!r} at position {error.start}; save the file as UTF-8")
    except ValueError as error:
        return LineError("not JSON", str(error))


def _read_bytes(path: str | os.PathLike, what: str, error: type[InputError]) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as cause:
        raise error(f"there is no {what} {path}; check the path") from cause
    except (OSError, ValueError) as cause:  # ValueError: a NUL character in the path
        raise error(f"{what} {path!s:.200} can't be read: {getattr(cause, 'strerror', None) or cause}") from cause


def _has_escaped_surrogate(text: str | bytes) -> bool:
    r"""Return whether a JSON text may contain a surrogate: an escape that begins with \uD, in either case."""
    if isinstance(text, bytes):
        return b"\\ud" in text or b"\\uD" in text
    return "\\ud" in text or "\\uD" in text or _SURROGATE.search(text) is not None
