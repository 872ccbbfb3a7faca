"""Interruption: the only place where running work is cancelled by an interjection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


CANCEL_TIMEOUT = 5.0
"""Seconds to wait for cancelled work. Work that ignores its cancellation for longer is abandoned."""


class Interrupted(Exception):
    """The work was cancelled because the other coroutine returned first."""


async def race(
    work: Coroutine[Any, Any, T],
    interjection: Coroutine[Any, Any, None],
    *,
    every: float | None = None,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> T:
    """The result of `work`. If `interjection` returns first, `work` is cancelled and awaited, and `Interrupted` raised.

    If both finish at the same moment, the result wins. Both have ended when this returns or raises, unless the work
    ignores its cancellation for longer than `CANCEL_TIMEOUT`. Until then, `meanwhile` is called `every` so many
    seconds; what it raises ends the work.
    """
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(interjection)
    try:
        while True:
            done, _ = await asyncio.wait((working, waiting), timeout=every, return_when=asyncio.FIRST_COMPLETED)
            if done or meanwhile is None:
                break
            await meanwhile()
        if working.done():
            return working.result()
        await cancel_and_wait(working)
        if not working.done() or working.cancelled() or working.exception() is not None:
            raise Interrupted
        return working.result()
    finally:
        await cancel_and_wait(working, waiting)


async def shielded(write: Coroutine[Any, Any, T]) -> T:
    """The result of a short write, which completes even if the caller is cancelled meanwhile.

    The cancellation is not lost: it is requested again and arrives at the caller's next await.
    """
    writing = asyncio.ensure_future(write)
    cancelled = False
    while not writing.done():
        try:
            await asyncio.wait((writing,))
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        task.cancel()
    return writing.result()


async def cancel_and_wait(*tasks: asyncio.Future[Any]) -> None:
    """Cancels the tasks and waits until all have ended, `CANCEL_TIMEOUT` seconds at most."""
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    _, pending = await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT)
    for task in tasks:
        if task in pending:
            log.error("%s ignores its cancellation and is abandoned", task)
        elif not task.cancelled():
            task.exception()


def is_cancelled() -> bool:
    """Whether the current task was cancelled, rather than an operation that it awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
