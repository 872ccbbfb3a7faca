"""The event loop of a command, and how signals end it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any

SHUTDOWN_TIMEOUT = 2.0
"""Seconds for an orderly shutdown, besides those of running turns. Whatever is unfinished then is resumed at the next
start."""


def run_in_loop(main: Coroutine[Any, Any, int]) -> int:
    """Runs it in uvloop where that is installed, else in asyncio's own event loop."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class RunOnSignal:
    """While entered, `run` calls an action at each SIGHUP, one at a time; SIGHUP never ends the process.

    A signal that comes before `run` is called is kept; those that come during a call are one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = asyncio.Event()

    def __enter__(self) -> RunOnSignal:
        if hasattr(signal, "SIGHUP"):
            self._loop.add_signal_handler(signal.SIGHUP, self._received.set)
        return self

    def __exit__(self, *exc: object) -> None:
        if hasattr(signal, "SIGHUP"):
            self._loop.remove_signal_handler(signal.SIGHUP)
            # Also while the process ends.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def run(self, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._received.wait()
            self._received.clear()
            await action()


class CancelOnSignal:
    """While entered, these signals cancel the task that entered it; leaving swallows that cancellation.

    The process is killed by a second signal, or `SHUTDOWN_TIMEOUT` and `grace` seconds after the first.
    """

    def __init__(self, *signals: signal.Signals, grace: float = 0.0) -> None:
        self._signals = signals
        self._timeout = SHUTDOWN_TIMEOUT + grace
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._received = False

    def __enter__(self) -> CancelOnSignal:
        for each in self._signals:
            self._loop.add_signal_handler(each, self._cancel)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not self._received:
            for each in self._signals:
                self._loop.remove_signal_handler(each)
        return self._received and kind is asyncio.CancelledError

    def _cancel(self) -> None:
        self._received = True
        for each in self._signals:
            self._loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        self._kill_later()
        if self._task is not None:
            self._task.cancel()

    def _kill_later(self) -> None:
        """In a thread: the loop itself may be blocked, or wait for a thread of a library."""
        timer = threading.Timer(self._timeout, os._exit, [0])
        timer.daemon = True
        timer.start()
