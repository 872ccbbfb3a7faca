"""Delivery: makes each platform look like the replies, one sender per chat: answers, then previews, then marks."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from channels.address import Address
from channels.channel import Channel, OutcomeUnknown, RetryLater, Sent, Undeliverable, Unreachable
from channels.message import MessageState, MessageStatus
from gateway.outbound.reply_builder import ReplyBuilder
from gateway.store.errors import StoreError

log = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0
BUSY = 6
"""So many replies being shown on a channel at once are enough: previews wait then, so that answers need not."""

MARK_SETTLES = 1.0
"""Seconds that a message's state must last to be shown where that costs a call to a platform, so that a quick answer
costs one mark, not three."""

REMOTE = 0.5
"""Channels with at least this pace (seconds) have a platform behind them; the others are screens of our own."""

MOST_STATES = 2000
"""Messages of which it is remembered what is shown on them."""

MOST_BREAKS = 5
"""A reply whose delivery breaks (in a way no platform explains) this many times in a row is given up."""


class Outbox(Protocol):
    """What was sent, kept across restarts (the store)."""

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

    draft: ReplyBuilder
    ledger: ReplyLedger
    since: float
    streams: bool
    shown: int = -1
    breaks: int = 0
    given_up: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether it stands as it is until somebody says something: over, or parked."""
        return self.draft.done or self.draft.parked

    @property
    def behind(self) -> bool:
        news = self.draft.version > self.shown
        return self.draft.done or (news and (self.draft.parked or (self.streams and not self.given_up)))


@dataclass(slots=True)
class _Marking:
    """The newest state of a message, to be shown from `due` on (monotonic seconds), before or after answers."""

    mark: MessageStatus
    due: float
    first: bool


@dataclass(slots=True)
class _Chat:
    """One chat's replies in the order in which they began, and the task that sends while there is something to send.

    `previewed` is when a growing reply was shown there last (monotonic seconds): the pace is the chat's.
    """

    replies: dict[str, _Showing] = field(default_factory=dict)
    marks: dict[int, _Marking] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    pause: float = 0.0
    previewed: float = -math.inf


ChatKey = tuple[str, str, str]


class Delivery:
    """Use as `async with`; leaving it ends the senders, and what was not confirmed stays in the outbox."""

    def __init__(self, channels: Mapping[str, Channel], outbox: Outbox, *, whole: Container[str] = ()) -> None:
        """`whole` names the channels on which replies are shown only when they are whole."""
        self._channels = channels
        self._whole = whole
        self._states: OrderedDict[tuple[str, str, str], MessageState] = OrderedDict()
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

    def show(self, draft: ReplyBuilder, *, pieces: tuple[Sent, ...] = ()) -> None:
        """The draft has something new to show. Never waits. `pieces` is what an earlier process had sent of it.

        What is for a channel that is not there stays in the store until it is.
        """
        if self._is_missing(draft.address.channel):
            return
        chat = self._chat(draft.address)
        showing = chat.replies.get(draft.id)
        if showing is None:
            ledger = ReplyLedger(self._outbox, draft.id, pieces)
            # What was shown before stands until there is something new to show.
            shown = draft.version if pieces and not draft.parked else -1
            streams = draft.address.channel not in self._whole
            chat.replies[draft.id] = _Showing(draft, ledger, time.monotonic(), streams, shown)
        elif showing.draft is not draft:
            showing.draft, showing.shown = draft, -1
        self._stir(draft.address, chat)

    def is_showing(self, draft: ReplyBuilder) -> bool:
        """Whether this reply is on its way, so that it is known what was sent of it."""
        chat = self._chats.get(_chat_key(draft.address))
        return chat is not None and draft.id in chat.replies

    def mark(self, mark: MessageStatus) -> None:
        """A person's message changed its state. Never waits."""
        if self._is_missing(mark.address.channel):
            return
        chat = self._chat(mark.address)
        first = self._channels[mark.address.channel].pace(mark.address) < REMOTE
        settles = MARK_SETTLES if not first and mark.state in ("waiting", "read") else 0.0
        chat.marks[mark.id] = _Marking(mark, time.monotonic() + settles, first)
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

    async def settle(self, seconds: float) -> None:
        """Waits until there is nothing new to show, for so many seconds at most."""
        sending = [chat.task for chat in self._chats.values() if chat.task is not None]
        if sending:
            await asyncio.wait(sending, timeout=seconds)

    def waiting(self) -> int:
        """How many replies are not yet confirmed."""
        return sum(len(chat.replies) for chat in self._chats.values())

    async def _serve(self, key: ChatKey, chat: _Chat) -> None:
        """Sends until all of the chat's replies are delivered or have nothing new to show."""
        channel = self._channels[key[0]]
        while chat.marks or _next(chat):
            showing, marking = _next(chat), _due_mark(chat)
            if showing is not None and showing.is_settled and not (marking and marking.first):
                await self._show(chat, channel, showing)
            elif marking is not None:
                await self._mark(chat, channel, marking.mark)
            elif showing is None:
                await _change(chat, _first_mark(chat) - time.monotonic())
            elif await self._is_due(chat, channel, showing):
                await self._show(chat, channel, _next(chat) or showing)
        chat.task = None
        if not chat.replies:
            del self._chats[key]

    async def _mark(self, chat: _Chat, channel: Channel, mark: MessageStatus) -> None:
        """Shows the state of a message; a broken mark costs itself only."""
        del chat.marks[mark.id]
        # An edit is a message of its own here, and the same one on the platform.
        message = (channel.name, mark.address.chat, mark.message_id or str(mark.id))
        try:
            await channel.show_status(replace(mark, before=self._states.get(message)))
        except RetryLater as error:
            chat.marks.setdefault(mark.id, _Marking(mark, time.monotonic() + error.after, first=False))
        except Exception:
            log.exception("%s: marking a message broke", channel.name)
        else:
            self._states[message] = mark.state
            if len(self._states) > MOST_STATES:
                self._states.popitem(last=False)

    async def _is_due(self, chat: _Chat, channel: Channel, showing: _Showing) -> bool:
        """Waits for a preview's pace; a finished reply is due at once. False: there are marks to show first."""
        pace = channel.pace(showing.draft.address)
        until = max(showing.since + pace / 4, chat.previewed + pace)
        while not any(waiting.is_settled for waiting in chat.replies.values()):
            left = until - time.monotonic()
            if left <= 0:
                if self._under_way[channel.name] < BUSY:
                    break
                left = pace / 4
            if _due_mark(chat) is not None:
                return False
            await _change(chat, min(left, _first_mark(chat) - time.monotonic()))
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
        draft = showing.draft
        reply, version = draft.reply(), draft.version
        if not showing.given_up:
            await channel.show(reply, showing.ledger)
            chat.pause, showing.breaks = 0.0, 0
        if showing.draft is not draft:
            return
        showing.shown, showing.since = version, time.monotonic()
        if reply.done:
            await _keep(self._outbox.delivered(reply.id))
            chat.replies.pop(reply.id, None)
        elif reply.parked:
            # Gone before anything is awaited: whoever takes the turn up reads from the store what was sent of it.
            chat.replies.pop(reply.id, None)
            await _keep(self._outbox.delivered(reply.id))
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


def _first_mark(chat: _Chat) -> float:
    """When the next mark is due."""
    return min((marking.due for marking in chat.marks.values()), default=math.inf)


def _due_mark(chat: _Chat) -> _Marking | None:
    return next((marking for marking in chat.marks.values() if marking.due <= time.monotonic()), None)


async def _change(chat: _Chat, seconds: float) -> None:
    """Returns when there is something new in the chat, after so many seconds at the latest."""
    chat.changed.clear()
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await chat.changed.wait()


def _next(chat: _Chat) -> _Showing | None:
    """What to show next: settled replies first, in their order; then the preview that has waited longest."""
    behind = [showing for showing in chat.replies.values() if showing.behind]
    finished = (showing for showing in behind if showing.is_settled)
    return next(finished, None) or min(behind, key=lambda showing: showing.since, default=None)
