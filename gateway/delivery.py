"""Delivery: makes each platform look like the replies, one sender per chat, finals first, newest preview wins."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from channels.address import Address
from channels.channel import Channel, OutcomeUnknown, RetryLater, Sent, Undeliverable, Unreachable
from channels.message import Mark
from gateway.replies import Draft
from gateway.store.errors import StoreError

log = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0
BUSY = 6
"""So many replies being shown on a channel at once are enough: previews wait then, so that answers need not."""

MOST_BREAKS = 5
"""A reply whose delivery breaks (in a way no platform explains) this many times in a row is given up."""


class Outbox(Protocol):
    """What was sent, kept across restarts (the store)."""

    async def pieces(self, reply_id: str) -> tuple[Sent, ...]: ...
    async def sending(self, reply_id: str, key: str) -> None: ...
    async def sent(self, reply_id: str, key: str, ref: str, digest: str) -> None: ...
    async def rename(self, reply_id: str, old: str, new: str) -> None: ...
    async def removed(self, reply_id: str, key: str) -> None: ...
    async def delivered(self, turn_id: str) -> None: ...


class ReplyLedger:
    """The ledger of one reply: a copy in memory in front of the outbox."""

    def __init__(self, outbox: Outbox, reply_id: str, pieces: tuple[Sent, ...] = ()) -> None:
        self._outbox = outbox
        self._id = reply_id
        self._pieces = {piece.key: piece for piece in pieces}

    def pieces(self) -> tuple[Sent, ...]:
        return tuple(self._pieces.values())

    async def sending(self, key: str) -> None:
        await _keep(self._outbox.sending(self._id, key))
        self._pieces[key] = Sent(key, "unknown")

    async def sent(self, key: str, ref: str, digest: str) -> None:
        self._pieces[key] = Sent(key, "shown", ref, digest)
        await _keep(self._outbox.sent(self._id, key, ref, digest))

    async def rename(self, old: str, new: str) -> None:
        await _keep(self._outbox.rename(self._id, old, new))
        self._pieces = {
            (new if key == old else key): Sent(new, piece.state, piece.ref) if key == old else piece
            for key, piece in self._pieces.items()
        }

    async def removed(self, key: str) -> None:
        self._pieces.pop(key, None)
        await _keep(self._outbox.removed(self._id, key))


async def _keep(write: Awaitable[None]) -> None:
    """A store that cannot write must not silence the gateway: the person is told, at the risk of a repeat."""
    try:
        await write
    except StoreError as error:
        log.error("the outbox could not be written: %s", error)


@dataclass(slots=True)
class _Showing:
    """A reply on its way. `since` is when it was shown last, or when it came if it was not yet (monotonic seconds)."""

    draft: Draft
    ledger: ReplyLedger
    since: float
    shown: int = -1
    breaks: int = 0
    given_up: bool = False

    @property
    def behind(self) -> bool:
        return self.draft.done or (self.draft.version > self.shown and not self.given_up)


@dataclass(slots=True)
class _Chat:
    """One chat's replies in the order in which they began, and the task that sends while there is something to send.

    `previewed` is when a growing reply was shown there last (monotonic seconds): the pace is the chat's.
    """

    replies: dict[str, _Showing] = field(default_factory=dict)
    marks: deque[Mark] = field(default_factory=deque)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    pause: float = 0.0
    previewed: float = -math.inf


ChatKey = tuple[str, str, str]


class Delivery:
    """Use as `async with`; leaving it ends the senders, and what was not confirmed stays in the outbox."""

    def __init__(self, channels: Mapping[str, Channel], outbox: Outbox) -> None:
        self._channels = channels
        self._outbox = outbox
        self._chats: dict[ChatKey, _Chat] = {}
        self._missing: set[str] = set()
        self._under_way: Counter[str] = Counter()
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Delivery:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for chat in self._chats.values():
            if chat.task is not None:
                chat.task.cancel()
        await self._tasks.__aexit__(None, None, None)

    def show(self, draft: Draft, *, pieces: tuple[Sent, ...] = ()) -> None:
        """The draft has something new to show. Never waits. `pieces` is what an earlier process had sent of it.

        What is for a channel that is not there stays in the store until it is.
        """
        if self._is_missing(draft.address.channel):
            return
        chat = self._chat(draft.address)
        if draft.id not in chat.replies:
            ledger = ReplyLedger(self._outbox, draft.id, pieces)
            # What an earlier process showed stands until there is something new to show.
            shown = draft.version if pieces else -1
            chat.replies[draft.id] = _Showing(draft, ledger, time.monotonic(), shown)
        self._stir(draft.address, chat)

    def mark(self, mark: Mark) -> None:
        """A person's message changed its state. Never waits."""
        if self._is_missing(mark.address.channel):
            return
        chat = self._chat(mark.address)
        chat.marks.append(mark)
        self._stir(mark.address, chat)

    def _is_missing(self, channel: str) -> bool:
        if channel in self._channels:
            return False
        if channel not in self._missing:
            self._missing.add(channel)
            log.warning("replies for channel %s wait: the channel is not configured", channel)
        return True

    def _chat(self, address: Address) -> _Chat:
        key = _chat_key(address)
        chat = self._chats.get(key)
        if chat is None:
            chat = self._chats[key] = _Chat()
        return chat

    def _stir(self, address: Address, chat: _Chat) -> None:
        chat.changed.set()
        if chat.task is None:
            chat.task = self._tasks.create_task(self._serve(_chat_key(address), chat))

    def waiting(self) -> int:
        """How many replies are not yet confirmed."""
        return sum(len(chat.replies) for chat in self._chats.values())

    async def _serve(self, key: ChatKey, chat: _Chat) -> None:
        """Sends until all of the chat's replies are delivered or have nothing new to show."""
        channel = self._channels[key[0]]
        while chat.marks or _next(chat):
            await self._mark(chat, channel)
            showing = _next(chat)
            if showing is not None and await self._is_due(chat, channel, showing):
                await self._show(chat, channel, _next(chat) or showing)
        chat.task = None
        if not chat.replies:
            del self._chats[key]

    async def _mark(self, chat: _Chat, channel: Channel) -> None:
        """Shows the states of messages; a broken mark costs itself only."""
        while chat.marks:
            try:
                await channel.mark(chat.marks.popleft())
            except Exception:
                log.exception("%s: marking a message broke", channel.name)

    async def _is_due(self, chat: _Chat, channel: Channel, showing: _Showing) -> bool:
        """Waits for a preview's pace; a finished reply is due at once. False: there are marks to show first."""
        pace = channel.pace(showing.draft.address)
        until = max(showing.since + pace / 4, chat.previewed + pace)
        while not any(waiting.draft.done for waiting in chat.replies.values()):
            left = until - time.monotonic()
            if left <= 0:
                if self._under_way[channel.name] < BUSY:
                    break
                left = pace / 4
            if chat.marks:
                return False
            chat.changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await chat.changed.wait()
        return True

    async def _show(self, chat: _Chat, channel: Channel, showing: _Showing) -> None:
        """Shows the newest state once. This is the edge at which a broken delivery costs itself only."""
        try:
            with self._counted(channel):
                await self._show_newest(chat, channel, showing)
        except RetryLater as error:
            await asyncio.sleep(error.after)
        except (Unreachable, OutcomeUnknown) as error:
            log.warning("%s: a reply could not be shown yet: %s", channel.name, error)
            await self._back_off(chat)
        except Undeliverable as error:
            log.warning("%s: reply %s cannot be delivered: %s", channel.name, showing.draft.id, error)
            showing.given_up = True
        except Exception:
            log.exception("%s: showing reply %s broke", channel.name, showing.draft.id)
            showing.breaks += 1
            showing.given_up = showing.breaks >= MOST_BREAKS
            await self._back_off(chat)

    async def _show_newest(self, chat: _Chat, channel: Channel, showing: _Showing) -> None:
        reply, version = showing.draft.reply(), showing.draft.version
        if not showing.given_up:
            await channel.show(reply, showing.ledger)
            chat.pause, showing.breaks = 0.0, 0
        showing.shown, showing.since = version, time.monotonic()
        if reply.done:
            await _keep(self._outbox.delivered(reply.id))
            chat.replies.pop(reply.id, None)
        else:
            chat.previewed = showing.since

    @contextmanager
    def _counted(self, channel: Channel) -> Iterator[None]:
        self._under_way[channel.name] += 1
        try:
            yield
        finally:
            self._under_way[channel.name] -= 1

    async def _back_off(self, chat: _Chat) -> None:
        chat.pause = min(LONGEST_PAUSE, max(0.5, 2 * chat.pause))
        await asyncio.sleep(chat.pause * random.uniform(0.7, 1.3))


def _chat_key(address: Address) -> ChatKey:
    return (address.channel, address.account, address.chat)


def _next(chat: _Chat) -> _Showing | None:
    """What to show next: finished replies first, in their order; then the preview that has waited longest."""
    behind = [showing for showing in chat.replies.values() if showing.behind]
    finished = (showing for showing in behind if showing.draft.done)
    return next(finished, None) or min(behind, key=lambda showing: showing.since, default=None)
