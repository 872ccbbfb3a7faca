"""The ledger of a reply: what the platform confirmed of it, in memory and in the outbox."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol

from agent.interrupt import shielded
from agent.journal import TurnLost
from agent.log import Undelivered
from channels.channel import Sent, Superseded, Unreachable
from gateway.store.errors import StoreError

log = logging.getLogger(__name__)


class Outbox(Protocol):
    """The record of what was sent; survives restarts (the store)."""

    async def sending(self, reply_id: str, key: str) -> None:
        """Raises `TurnLost` if another worker delivers the reply now."""

    async def sent(self, reply_id: str, key: str, ref: str, digest: str) -> None: ...
    async def rename(self, reply_id: str, old: str, new: str) -> None: ...
    async def removed(self, reply_id: str, key: str) -> None: ...
    async def simplified(self, reply_id: str, key: str) -> None: ...
    async def undeliverable(self, reply_id: str, key: str, reason: str) -> None: ...
    async def delivered(self, turn_id: str, undelivered: Undelivered | None) -> None: ...


class ReplyLedger:
    """Implements `channels.channel.Ledger` for one reply: a copy in memory in front of the outbox.

    `sent` returns while the outbox still writes. Whoever shows the reply awaits `recorded` at the end, however that
    comes: the writing never outlives it. A file counts as refused after `attempts` failures of the platform.
    """

    def __init__(
        self,
        outbox: Outbox,
        reply_id: str,
        pieces: tuple[Sent, ...] = (),
        *,
        attempts: int,
        undeliverable: Callable[[str, str], None],
        may_send: Callable[[], bool],
    ) -> None:
        """`undeliverable` is called with the key of each piece that cannot be shown, and the reason."""
        self._may_send = may_send
        self._outbox = outbox
        self._id = reply_id
        self._pieces = {piece.key: piece for piece in pieces}
        self._attempts = attempts
        self._undeliverable = undeliverable
        self._failures: Counter[str] = Counter()
        self._shown: set[str] = set()
        self._recording: asyncio.Task[None] | None = None
        self._unstored: set[str] = set()
        """The keys of pieces whose state the store does not have."""

    @property
    def progress(self) -> int:
        """How many different pieces were shown or given up in this process."""
        return len(self._shown)

    def pieces(self) -> tuple[Sent, ...]:
        return tuple(self._pieces.values())

    async def recorded(self) -> None:
        """Returns when the last message that was sent is recorded, also if the caller is cancelled meanwhile: that
        arrives at its next await."""
        if self._recording is not None:
            await shielded(_ended(self._recording))
            self._recording = None

    def permit(self) -> None:
        if not self._may_send():
            raise Unreachable("other processes may take this one for dead")

    async def sending(self, key: str) -> None:
        await self.recorded()
        try:
            await try_to_store(lambda: self._outbox.sending(self._id, key))
        except TurnLost as error:
            raise Superseded(str(error)) from error
        self._pieces[key] = Sent(key, "unknown")

    async def sent(self, key: str, ref: str, digest: str) -> None:
        await self.recorded()
        self._pieces[key] = Sent(key, "shown", ref, digest)
        self._shown.add(key)
        # Not awaited: what the store is told next, such as that all is delivered, is committed together with it.
        self._recording = asyncio.create_task(self._store(lambda: self._outbox.sent(self._id, key, ref, digest), key))

    async def rename(self, old: str, new: str) -> None:
        await self.recorded()
        if not await try_to_store(lambda: self._outbox.rename(self._id, old, new)) or old in self._unstored:
            self._unstored |= {old, new}
        self._pieces = {
            (new if key == old else key): Sent(new, piece.state, piece.ref) if key == old else piece
            for key, piece in self._pieces.items()
        }

    async def removed(self, key: str) -> None:
        await self.recorded()
        self._pieces.pop(key, None)
        await self._store(lambda: self._outbox.removed(self._id, key), key)

    async def simplified(self, key: str) -> None:
        await self.recorded()
        self._pieces[key] = Sent(key, "simplified")
        self._shown.add(key)
        await self._store(lambda: self._outbox.simplified(self._id, key), key)

    async def undeliverable(self, key: str, reason: str) -> None:
        await self.recorded()
        self._pieces[key] = Sent(key, "undeliverable", reason=reason)
        self._shown.add(key)
        await self._store(lambda: self._outbox.undeliverable(self._id, key, reason), key)
        self._undeliverable(key, reason)

    @property
    def is_stored(self) -> bool:
        """Whether the store has all that was recorded."""
        return not self._unstored

    async def store_rest(self) -> None:
        """Stores what could not be stored before. Raises `StoreError`."""
        await self.recorded()
        for key in [*filter(self._unstored.__contains__, self._pieces), *(self._unstored - self._pieces.keys())]:
            await self._store_again(key, self._pieces.get(key))
            self._unstored.discard(key)

    async def _store_again(self, key: str, piece: Sent | None) -> None:
        match piece:
            case None:
                await self._outbox.removed(self._id, key)
            case Sent(state="shown"):
                await self._outbox.sent(self._id, key, piece.ref, piece.digest)
            case Sent(state="simplified"):
                await self._outbox.simplified(self._id, key)
            case Sent(state="undeliverable"):
                await self._outbox.undeliverable(self._id, key, piece.reason)

    async def _store(self, write: Callable[[], Awaitable[None]], key: str) -> None:
        """Records the state of the piece, or notes that it is not recorded yet."""
        if await try_to_store(write):
            self._unstored.discard(key)
        else:
            self._unstored.add(key)

    def failed(self, key: str) -> bool:
        self._failures[key] += 1
        return self._failures[key] >= self._attempts


async def _ended(writing: asyncio.Task[None]) -> None:
    await writing


async def try_to_store(write: Callable[[], Awaitable[None]]) -> bool:
    """Goes on when the store cannot write: the reply is shown anyway, at the risk of a repeat after a restart. Whether
    it is stored."""
    try:
        await write()
    except StoreError as error:
        log.error("cannot write the outbox: %s", error)
        return False
    return True
