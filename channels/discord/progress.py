"""Up to which event of a session everything is stored, so that another process can go on from there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Progress:
    """Events have rising sequence numbers: https://discord.com/developers/docs/events/gateway#resuming. What they have
    begun may end in any order."""

    def __init__(self, sequence: int = 0) -> None:
        self._newest = sequence
        self._open: dict[int, int] = {}
        """How much of each event is not stored yet, by its number; in order."""
        self.changed = asyncio.Event()

    @property
    def sequence(self) -> int:
        """Of the last event before which none is open; 0 if there is none."""
        return next(iter(self._open), self._newest + 1) - 1

    def restart(self) -> None:
        """A new session has begun."""
        self._newest, self._open = 0, {}

    def begin(self, sequence: int) -> Callable[[], None]:
        """The event, or a part of it, is open until what is returned is called."""
        still_open = self._open
        still_open[sequence] = still_open.get(sequence, 0) + 1
        self._newest = max(self._newest, sequence)

        def done() -> None:
            still_open[sequence] -= 1
            if not still_open[sequence]:
                del still_open[sequence]
            self.changed.set()

        return done
