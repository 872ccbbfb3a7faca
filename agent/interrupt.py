"""Racing work against an interjection: the one place where running things are interrupted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


CANCEL_TIMEOUT = 5.0
"""Seconds that cancelled work is waited for. What goes on after that is left behind, so that the person is not."""


class Interrupted(Exception):
    """The work was cancelled because the other coroutine returned first."""


async def race(work: Coroutine[Any, Any, T], interjection: Coroutine[Any, Any, None]) -> T:
    """The result of `work`, unless `interjection` returns first: then `work` is
    cancelled and awaited, and `Interrupted` raised.

    Work that is done at the same moment wins. Both have ended when this returns or raises, unless the work ignores
    its cancellation for longer than `CANCEL_TIMEOUT`.
    """
    working = asyncio.ensure_future(work)
    ringing = asyncio.ensure_future(interjection)
    try:
        await asyncio.wait((working, ringing), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        await cancel_and_wait(working)
        if not working.done() or working.cancelled() or working.exception() is not None:
            raise Interrupted
        return working.result()
    finally:
        await cancel_and_wait(working, ringing)


async def shielded(write: Coroutine[Any, Any, T]) -> T:
    """The result of a short write that is waited out even when the caller is cancelled meanwhile.

    The cancellation is not lost: it is asked for again, and so arrives at the caller's next await.
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
    """Cancels what still runs, and waits for all of it to end, `CANCEL_TIMEOUT` seconds at most."""
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    _, stubborn = await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT)
    for task in tasks:
        if task in stubborn:
            log.error("%s ignores that it was cancelled, and is left behind", task)
        elif not task.cancelled():
            task.exception()
