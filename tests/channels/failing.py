"""Deliveries that fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from channels.message import Deliver, InboundMessage, Receipt


class Inbox(Protocol):
    @property
    def messages(self) -> Sequence[InboundMessage]: ...
    async def deliver(self, message: InboundMessage) -> Receipt | None: ...
    def until(self, predicate: Callable[[], bool]) -> Awaitable[None]: ...


def first_fails(inbox: Inbox) -> Deliver:
    """Delivers to the inbox. The first message fails once, and only when another one has been delivered."""
    tried = 0

    async def deliver(message: InboundMessage) -> Receipt | None:
        nonlocal tried
        tried += 1
        if tried == 1:
            await inbox.until(lambda: bool(inbox.messages))
            raise OSError("the database is away")
        return await inbox.deliver(message)

    return deliver
