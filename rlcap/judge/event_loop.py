"""One event loop for everything that waits for a judge, in a daemon thread of its own.

Trainers, TRL and notebooks call rewards from ordinary functions; judges are coroutines. HTTP clients keep their connections open on one
loop, so all batches of a process share this one. After a fork a process makes its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_loop: asyncio.AbstractEventLoop | None = None
_process: int | None = None
_lock = threading.Lock()
_THREAD_NAME = "rlcap-judge"
POLL_SECONDS = 0.2
"""Waiting is done in slices of this length, so that Ctrl-C is noticed on every platform."""


def submit(coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Start a coroutine on the background loop."""
    return asyncio.run_coroutine_threadsafe(coroutine, _background_loop())


def wait(future: concurrent.futures.Future[T]) -> T:
    """Wait for a submitted coroutine and return its result. The coroutine is cancelled where the wait is interrupted."""
    try:
        while True:
            done, _ = concurrent.futures.wait([future], POLL_SECONDS)
            if done:
                return future.result()
    except BaseException:
        future.cancel()
        raise


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop to its end.

    Raises:
        RuntimeError: when called on the background loop itself, which would wait for itself for ever.
    """
    if threading.current_thread().name == _THREAD_NAME:
        coroutine.close()
        raise RuntimeError(
            "a reward was called synchronously from a coroutine of the judges' loop; await `ascore` instead"
        )
    return wait(submit(coroutine))


async def run_on_background_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine on the background loop, from whichever loop this is called."""
    if threading.current_thread().name == _THREAD_NAME:
        return await coroutine
    return await asyncio.wrap_future(submit(coroutine))


async def run_in_daemon_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Run a blocking function in a daemon thread: one that hangs blocks neither the loop nor the exit of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def call() -> None:
        result, failure = None, None
        try:
            result = function(*arguments)
        except Exception as error:  # carried to the loop, where the caller sees it
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=call, name="rlcap-judge-call", daemon=True).start()
    return await future


def _background_loop() -> asyncio.AbstractEventLoop:
    global _loop, _process
    with _lock:
        if _loop is None or _process != os.getpid():
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name=_THREAD_NAME, daemon=True).start()
            _loop, _process = loop, os.getpid()
        return _loop
