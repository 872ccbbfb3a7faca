"""Debounce: people who write several quick lines to an idle conversation get one answer to all of them.

Only the beginning of a turn waits, and only after the messages are stored: a process that starts answers what it finds
at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from gateway.lifecycle.tasks import BackgroundTasks

MOST = 5
"""How many times its seconds a conversation waits at most, however long its people go on writing."""


@dataclass(slots=True)
class _Pause:
    """Over at `until`, at the latest at `end`, in the loop's time. `by` is whose message was the last."""

    until: float
    end: float
    by: str
    extended: asyncio.Event = field(default_factory=asyncio.Event)


class Debounce:
    def __init__(self, tasks: BackgroundTasks, wake: Callable[[str, str], Awaitable[None]]) -> None:
        """`wake` is called with a session whose messages can be read now, and whose message was the last there
        (`gateway.sessions.person_key`)."""
        self._tasks = tasks
        self._wake = wake
        self._pauses: dict[str, _Pause] = {}

    def is_waiting(self, session: str) -> bool:
        return session in self._pauses

    def hold(self, session: str, seconds: float, by: str) -> None:
        """A message has come to the idle session: it is answered once no other has come for so many seconds."""
        now = asyncio.get_running_loop().time()
        pause = self._pauses.get(session)
        if pause is None:
            pause = self._pauses[session] = _Pause(now + seconds, now + MOST * seconds, by)
            self._tasks.start(partial(self._wait, session, pause))
        else:
            pause.until, pause.by = min(now + seconds, pause.end), by
            pause.extended.set()

    async def _wait(self, session: str, pause: _Pause) -> None:
        try:
            while await _is_extended(pause):
                pause.extended.clear()
        finally:
            del self._pauses[session]
        await self._wake(session, pause.by)


async def _is_extended(pause: _Pause) -> bool:
    """Whether a message came before the pause was over; returns once that is known."""
    try:
        async with asyncio.timeout_at(pause.until):
            return await pause.extended.wait()
    except TimeoutError:
        return False
