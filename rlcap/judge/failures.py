"""Failures of a call to a judge: what kind they are, how long to wait, and how to describe them without revealing a key."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from json import JSONDecodeError
from typing import Literal

from rlcap.config.redaction import redact_text
from rlcap.errors import ServerReplyError
from rlcap.judge.connections import chain_of

FailureKind = Literal["transient", "busy", "refused", "fatal"]

_SECRET_NAME = re.compile(r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD)S?($|_)", re.IGNORECASE)
# The request was refused for its content and not for how it was made: the request of the next caption may pass.
_CONTENT_REFUSED = re.compile(
    r"content[ _-]?(filter|policy|management)|contentpolicy|safety system|contextwindow|context[ _]?(length|window)"
    r"|too (long|large)|maximum.{0,20}(length|tokens)|image_parse_error|invalid[_ ]image|process[_ ]image|image dimensions",
    re.IGNORECASE,
)
_OUT_OF_QUOTA = re.compile(r"insufficient_quota|exceeded your current quota")  # waiting does not help
# litellm, openai and httpx have exception classes of their own, whose names share these words.
_TRANSIENT_NAME = re.compile(r"Timeout|Connect|Unavailable|ServerReply|ResponseValidation|JSONDecode|RemoteProtocol")
_NUMBER = re.compile(r"\d+(\.\d+)?")
_REMEDIES = {
    400: "check the judge's model and sampling parameters",
    401: "check the key in the environment (api_key_env)",
    402: "the provider's account needs money",
    403: "the key may not use this model",
    404: "check the model's name and base_url",
    429: "the provider's account needs money or a higher quota",
}


def root_cause(error: BaseException) -> BaseException:
    """Return the failure itself, unwrapped from the errors in which clients hide it.

    tenacity's RetryError, which textgrad's engines raise, holds it as the last attempt; urllib's URLError holds it as its
    reason; the clients of OpenAI and LiteLLM raise a connection error from what really failed while the reply arrived.
    """
    attempt = getattr(error, "last_attempt", None)
    inner = attempt.exception() if attempt is not None else getattr(error, "reason", None)
    if isinstance(inner, BaseException) and inner is not error:
        return root_cause(inner)
    return next((found for found in chain_of(error) if isinstance(found, ServerReplyError)), error)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that a client's exception carries, or None."""
    for name in ("status_code", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def classify(error: BaseException) -> FailureKind:
    """Sort a failure.

    Returns:
        `transient` for a judge that is down, late or garbled; `busy` for one that is alive and wants to be asked later (HTTP 429); `refused`
        for a request that is refused for its content, while others may pass; `fatal` for what no retry mends.
    """
    status, text = status_of(error), f"{type(error).__name__} {error}"
    if status == 429:
        return "fatal" if _OUT_OF_QUOTA.search(text) else "busy"
    if status in (408, 409, 425) or (status is not None and status >= 500):
        return "transient"
    if status in (413, 422, 451) or (status == 400 and _CONTENT_REFUSED.search(text)):
        return "refused"
    if status is not None and status >= 300:
        return "fatal"
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror | UnicodeDecodeError | JSONDecodeError) or (
        status is not None and 200 <= status < 300
    ):
        return "transient"  # an answer with status 200 that the client can't read is the server's fault
    if isinstance(error, RecursionError) or (isinstance(error, ValueError) and "integer string conversion" in text):
        return "transient"  # JSON that is nested too deeply, or that holds a number of more than 4,300 digits
    if "RateLimit" in type(error).__name__:
        return "busy"
    return "transient" if _TRANSIENT_NAME.search(type(error).__name__) else "fatal"


def retry_after(error: BaseException) -> float:
    """Return the seconds that the server asks to wait, or 0 where it does not ask.

    `Retry-After` is a number of seconds or a date (RFC 9110, section 10.2.3).
    """
    response = getattr(error, "response", None)
    for headers in (getattr(error, "litellm_response_headers", None), getattr(response, "headers", None)):
        value = str((headers or {}).get("retry-after", "")).strip()
        try:
            seconds = (
                float(value) if _NUMBER.fullmatch(value) else parsedate_to_datetime(value).timestamp() - time.time()
            )
        except (TypeError, ValueError, OverflowError):  # neither: the judge's own backoff will do
            continue
        if seconds > 0:
            return seconds
    return 0.0


def describe(error: BaseException) -> str:
    """Return `Class: text` in one line of about 200 characters at most, with keys blacked out."""
    return f"{type(error).__name__}: {redact(' '.join(str(error).split()))[:200]}".rstrip(": ")


def remedy(error: BaseException) -> str:
    """Return what to do about a fatal error, as the end of a sentence, or an empty string."""
    hint = _REMEDIES.get(status_of(error) or 0)
    return f"; {hint}" if hint else ""


def secrets_of_environment() -> list[str]:
    """Return the values of environment variables that hold keys.

    A caller that redacts many replies looks them up once: searching the environment costs more than reading a reply.
    """
    return [value for name, value in os.environ.items() if len(value) >= 8 and _SECRET_NAME.search(name)]


def redact(text: str, known: Sequence[str] | None = None) -> str:
    """Return a text with its keys blacked out.

    These are the keys of the environment (`known`, by default `secrets_of_environment()`), those in addresses, and whatever looks like a
    key.
    """
    for value in secrets_of_environment() if known is None else known:
        text = text.replace(value, "***")
    text = redact_text(text)
    return re.sub(r"(?i)\b(bearer|api[-_ ]?key\S*?)([:=\s]+)['\"]?[\w.*-]{8,}", r"\1\2***", text)
