"""The event loop that commands run in, and how signals end it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

STOP_WITHIN = 2.0
"""Seconds for an orderly end, besides those that running turns get. What holds the process up after that is left: it
is taken up at the next start."""


def in_loop(main: Coroutine[Any, Any, int]) -> int:
    """Runs it in the fastest event loop there is."""
    with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
        return runner.run(main)


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class Ending:
    """While entered, these signals cancel the task that entered it; leaving swallows that cancellation.

    A second signal kills the process, and so does time, `STOP_WITHIN` and `grace` seconds after the first.
    """

    def __init__(self, *signals: signal.Signals, grace: float = 0.0) -> None:
        self.asked = False
        self._within = STOP_WITHIN + grace
        self._signals = signals
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()

    def __enter__(self) -> Ending:
        for each in self._signals:
            self._loop.add_signal_handler(each, self._end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not self.asked:
            for each in self._signals:
                self._loop.remove_signal_handler(each)
        return self.asked and kind is asyncio.CancelledError

    def _end(self) -> None:
        self.asked = True
        for each in self._signals:
            self._loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        # A thread, because what holds the process up may be the loop itself, or a library's thread that is waited for.
        last = threading.Timer(self._within, os._exit, [0])
        last.daemon = True
        last.start()
        if self._task is not None:
            self._task.cancel()
