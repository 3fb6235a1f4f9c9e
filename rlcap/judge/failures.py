"""What went wrong with a call to a judge: whose fault it is, how long to wait, and how to tell it without telling a key."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence

_SECRET_NAME = re.compile(r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD)S?($|_)", re.IGNORECASE)
# A request refused for what stands in it, not for how it was made: the next caption's may pass.
_OF_THIS_REQUEST = re.compile(
    r"content[ _-]?(filter|policy|management)|contentpolicy|safety system|contextwindow|context[ _]?(length|window)"
    r"|too (long|large)|maximum.{0,20}(length|tokens)",
    re.IGNORECASE,
)
_OUT_OF_MONEY = re.compile(r"insufficient_quota|exceeded your current quota")  # waiting doesn't help
# litellm, openai and httpx each have their own classes; they agree on these words.
_TRANSIENT_NAME = re.compile(r"Timeout|Connect|Unavailable|ResponseValidation|JSONDecode|RemoteProtocol")
_FIXES = {
    400: "check the judge's model and sampling parameters",
    401: "check the key in the environment (api_key_env)",
    402: "the provider's account needs money",
    403: "the key may not use this model",
    404: "check the model's name and base_url",
    429: "the provider's account needs money or a higher quota",
}


def root(error: BaseException) -> BaseException:
    """The failure itself, out of tenacity's RetryError in which textgrad's engines wrap it."""
    attempt = getattr(error, "last_attempt", None)
    inner = attempt.exception() if attempt is not None else None
    return error if inner is None else root(inner)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an engine's exception carries, if any."""
    for name in ("status_code", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def classify(error: BaseException) -> str:
    """`transient` (down, late, garbled), `busy` (429: alive, ask again later), `refused` (this request only) or `fatal`."""
    status, text = status_of(error), f"{type(error).__name__} {error}"
    if status == 429:
        return "fatal" if _OUT_OF_MONEY.search(text) else "busy"
    if status in (408, 409, 425) or (status is not None and status >= 500):
        return "transient"
    if status in (413, 422) or (status == 400 and _OF_THIS_REQUEST.search(text)):
        return "refused"
    if status is not None and status >= 300:
        return "fatal"
    if isinstance(error, ConnectionError | TimeoutError) or (status is not None and 200 <= status < 300):
        return "transient"  # an answer with status 200 that the client can't read is the server's fault
    if "RateLimit" in type(error).__name__:
        return "busy"
    return "transient" if _TRANSIENT_NAME.search(type(error).__name__) else "fatal"


def retry_after(error: BaseException) -> float:
    """Seconds that the server asks to wait (`Retry-After`, as a number), 0 where it says nothing."""
    response = getattr(error, "response", None)
    for headers in (getattr(error, "litellm_response_headers", None), getattr(response, "headers", None)):
        try:
            seconds = float((headers or {}).get("retry-after", 0))
        except (TypeError, ValueError):  # a date: the judge's own backoff will do
            continue
        if math.isfinite(seconds) and seconds > 0:
            return seconds
    return 0.0


def tell(error: BaseException) -> str:
    """`Class: text` in one line of at most about 200 characters, keys blacked out."""
    return f"{type(error).__name__}: {redact(' '.join(str(error).split()))[:200]}".rstrip(": ")


def fix(error: BaseException) -> str:
    """What to do about a fatal error, or nothing."""
    hint = _FIXES.get(status_of(error) or 0)
    return f"; {hint}" if hint else ""


def keys() -> list[str]:
    """The keys of the environment. To look through it for each of many replies would cost more than reading them."""
    return [value for name, value in os.environ.items() if len(value) >= 8 and _SECRET_NAME.search(name)]


def redact(text: str, known: Sequence[str] | None = None) -> str:
    """The text with keys blacked out: those of the environment (`known`, by default `keys()`), those in addresses, and
    whatever looks like one."""
    for value in keys() if known is None else known:
        text = text.replace(value, "***")
    text = re.sub(r"://[^/\s@]+@", "://***@", text)
    text = re.sub(r"(?i)\b(bearer|api[-_ ]?key\S*?)([:=\s]+)['\"]?[\w.*-]{8,}", r"\1\2***", text)
    return re.sub(r"\b(?:sk|pk|rk|hf|gsk|xai)[-_][\w*-]{6,}|\bAIza[\w-]{20,}", "***", text)
