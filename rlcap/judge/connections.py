"""Connections to judges' servers: replies of bounded size, no proxy for this machine, and where a proxy stands in the way."""

from __future__ import annotations

import functools
import importlib
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

from rlcap.config.redaction import hide_credentials
from rlcap.errors import ServerReplyError

MAX_REPLY_BYTES = 4 * 2**20
"""Largest reply of a server in bytes. A verdict has some hundred; the longest chains of thought have some hundred thousand."""
_LOCAL = ("localhost", "127.0.0.1", "[::1]", "0.0.0.0")


def client_options() -> dict[str, Any]:
    """Return the options of an asynchronous httpx client that refuses a reply beyond `MAX_REPLY_BYTES` and asks this machine without a proxy.

    A reply is refused while it arrives, and its connection is closed: an endless reply costs no memory. Compressed replies
    are refused, because a few kilobytes may unpack to gigabytes; the client asks for plain ones.
    """
    return {
        "event_hooks": {"response": [_bound]},
        "headers": {"Accept-Encoding": "identity"},
        "mounts": {f"all://{host}": None for host in _LOCAL},
        "follow_redirects": True,
    }


def without_credentials(address: str) -> str:
    """Return an address without a name and password in it, and without a slash at its end."""
    return hide_credentials(address).rstrip("/")


def proxy_hint(address: str | None) -> str:
    """Return the end of a sentence that names the proxy between this process and an address; "" where there is none."""
    if not address:
        return ""
    parts = urllib.parse.urlsplit(address)
    proxy = urllib.request.getproxies().get(parts.scheme)
    host = parts.hostname or ""
    if proxy is None or host in _LOCAL or urllib.request.proxy_bypass(host):
        return ""
    variable = f"{parts.scheme}_proxy"
    return f"; {variable} sends it through the proxy {without_credentials(proxy)}: is that up? Else set no_proxy={host}"


async def _bound(response: Any) -> None:
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in ("", "identity"):
        await response.aclose()
        raise ServerReplyError(f"the reply is compressed ({encoding!r:.20}), which was not asked for")
    size = response.headers.get("content-length", "")
    if size.isdigit() and int(size[:20]) > MAX_REPLY_BYTES:
        await response.aclose()
        raise _too_long()
    library = type(response).__module__.partition(".")[0]
    response.stream = _bounded_stream_of(library)(response.stream)


@functools.cache
def _bounded_stream_of(library: str) -> Any:
    """Return the class of a stream that ends with an error beyond `MAX_REPLY_BYTES`.

    Args:
        library: The client library, `httpx` or its successor `httpx2`, whose own stream class it has to be.
    """
    base: Any = importlib.import_module(library).AsyncByteStream

    class Bounded(base):  # type: ignore[misc]
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            total = 0
            async for chunk in self.stream:
                total += len(chunk)
                if total > MAX_REPLY_BYTES:
                    raise _too_long()
                yield chunk

        async def aclose(self) -> None:
            await self.stream.aclose()

    return Bounded


def _too_long() -> ServerReplyError:
    return ServerReplyError(f"the reply has more than {MAX_REPLY_BYTES:,} bytes")


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors from which it came, the outermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
