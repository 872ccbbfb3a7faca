"""What a worker has to tell the others, until it is sent: in order within each session."""

from __future__ import annotations

import time

from gateway.bus.events import TurnProgress
from gateway.bus.wire import Happened, Message, merged

MAX_WAITING = 10_000
"""Messages that wait, for instance while the database is away."""


class Outgoing:
    """Progress of turns waits for its pace, everything else is urgent, and so is what is before it in its session."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Message]] = {}
        self._urgent: dict[str, None] = {}
        self._count = 0
        self.urgent_since: float | None = None
        """When the first of what is urgent came, in monotonic seconds; None while nothing is."""
        self.lost = False
        """Whether messages were dropped since this was set to False."""

    @property
    def is_urgent(self) -> bool:
        return bool(self._urgent)

    def __len__(self) -> int:
        return self._count

    def add(self, message: Message) -> None:
        if self._count >= MAX_WAITING:
            self._waiting, self._urgent, self._count, self.lost = {}, {}, 0, True
        waiting = self._waiting.setdefault(message.session, [])
        one = merged(waiting[-1], message) if waiting else None
        if one is None:
            waiting.append(message)
            self._count += 1
        else:
            waiting[-1] = one
        if not (isinstance(message, Happened) and isinstance(message.event, TurnProgress)):
            self._urgent[message.session] = None
            if self.urgent_since is None:
                self.urgent_since = time.monotonic()

    def take(self, *, all: bool) -> list[Message]:
        """Removes and returns what is urgent, or all."""
        sessions = list(self._waiting if all else self._urgent)
        self._urgent, self.urgent_since = {}, None
        taken = [message for session in sessions for message in self._waiting.pop(session)]
        self._count -= len(taken)
        return taken
