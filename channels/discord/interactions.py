"""Application commands: Discord shows "thinking…" until each has its answer at the interaction's own address."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from discord.http import Route

TOKEN_LIFETIME = 14 * 60.0
"""Seconds; Discord documents 15 minutes."""

ANSWER_SECONDS = 3.0
"""https://discord.com/developers/docs/interactions/receiving-and-responding: without an answer until then, Discord
tells the person that it failed."""

_MAX_REMEMBERED = 1000
_DEFER_TIMEOUT = 5.0


@dataclass(slots=True)
class PendingInteraction:
    """An interaction without an answer yet. The answer goes to the @original of this token."""

    application: str
    token: str
    since: float = field(default_factory=time.monotonic)
    deferred: asyncio.Event = field(default_factory=asyncio.Event)
    usable: bool = False


def original(method: str, pending: PendingInteraction) -> Route:
    """The route of its answer."""
    path = "/webhooks/{webhook_id}/{webhook_token}/messages/@original"
    return Route(method, path, webhook_id=pending.application, webhook_token=pending.token)


class Interactions:
    """By the id of the interaction."""

    def __init__(self) -> None:
        self._pending: OrderedDict[str, PendingInteraction] = OrderedDict()
        self._recent: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, id: str) -> bool:
        """Whether that is the id of a recent command, and of no message."""
        return id in self._recent

    def expect(self, id: str, application: str, token: str) -> None:
        """Called before the message is delivered, so that no answer comes too early."""
        self._pending[id] = PendingInteraction(application, token)
        self._recent[id] = None
        for remembered in (self._pending, self._recent):
            while len(remembered) > _MAX_REMEMBERED:
                remembered.popitem(last=False)

    def deferred(self, id: str, *, usable: bool) -> None:
        """Discord shows "thinking…"; not `usable`: it does not, and the answer is an ordinary message."""
        if pending := self._pending.get(id):
            pending.usable = usable
            pending.deferred.set()
            if not usable:
                self.answered(id)

    def answered(self, id: str) -> None:
        self._pending.pop(id, None)

    def unanswered(self) -> tuple[PendingInteraction, ...]:
        """Those for which Discord shows "thinking…" still."""
        since = time.monotonic() - TOKEN_LIFETIME
        return tuple(pending for pending in self._pending.values() if pending.usable and pending.since > since)

    async def find(self, id: str) -> PendingInteraction | None:
        """The interaction that expects the answer; None: the answer is an ordinary message."""
        pending = self._pending.get(id)
        if pending is None:
            return None
        try:
            async with asyncio.timeout(_DEFER_TIMEOUT):
                await pending.deferred.wait()
        except TimeoutError:
            return None
        fresh = time.monotonic() - pending.since < TOKEN_LIFETIME
        return pending if pending.usable and fresh else None
