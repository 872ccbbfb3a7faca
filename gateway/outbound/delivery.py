"""Delivery: brings each platform up to date with replies and message states. One sender per chat; finished replies go
first, then previews, then states."""

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

MAX_BACKOFF = 30.0
"""Seconds between two attempts to show a reply, at most."""

PREVIEW_CONCURRENCY = 6
"""Replies that may be shown on a channel at once before previews wait, so that finished replies need not."""

STATE_DELAY = 1.0
"""Seconds that a message's state must last before it is shown on a remote channel: a quick answer then costs one call
to the platform, not three."""

REMOTE_PACE = 0.5
"""A channel with at least this pace (seconds) is remote: it calls a platform. The others are screens of our own."""

MAX_REMEMBERED_STATES = 2000
"""Messages whose displayed state is remembered."""

MAX_FAILURES = 5
"""Delivery of a reply is given up after so many unexpected errors in a row."""


class Outbox(Protocol):
    """The record of what was sent; survives restarts (the store)."""

    async def sending(self, reply_id: str, key: str) -> None: ...
    async def sent(self, reply_id: str, key: str, ref: str, digest: str) -> None: ...
    async def rename(self, reply_id: str, old: str, new: str) -> None: ...
    async def removed(self, reply_id: str, key: str) -> None: ...
    async def simplified(self, reply_id: str, key: str) -> None: ...
    async def undeliverable(self, reply_id: str, key: str, reason: str) -> None: ...
    async def delivered(self, turn_id: str) -> None: ...


class ReplyLedger:
    """Implements `channels.channel.Ledger` for one reply: a copy in memory in front of the outbox."""

    def __init__(self, outbox: Outbox, reply_id: str, pieces: tuple[Sent, ...] = ()) -> None:
        self._outbox = outbox
        self._id = reply_id
        self._pieces = {piece.key: piece for piece in pieces}
        self._failures: Counter[str] = Counter()

    def pieces(self) -> tuple[Sent, ...]:
        return tuple(self._pieces.values())

    async def sending(self, key: str) -> None:
        await _try_to_store(self._outbox.sending(self._id, key))
        self._pieces[key] = Sent(key, "unknown")

    async def sent(self, key: str, ref: str, digest: str) -> None:
        self._pieces[key] = Sent(key, "shown", ref, digest)
        await _try_to_store(self._outbox.sent(self._id, key, ref, digest))

    async def rename(self, old: str, new: str) -> None:
        await _try_to_store(self._outbox.rename(self._id, old, new))
        self._pieces = {
            (new if key == old else key): Sent(new, piece.state, piece.ref) if key == old else piece
            for key, piece in self._pieces.items()
        }

    async def removed(self, key: str) -> None:
        self._pieces.pop(key, None)
        await _try_to_store(self._outbox.removed(self._id, key))

    async def simplified(self, key: str) -> None:
        self._pieces[key] = Sent(key, "simplified")
        await _try_to_store(self._outbox.simplified(self._id, key))

    async def undeliverable(self, key: str, reason: str) -> None:
        self._pieces[key] = Sent(key, "undeliverable", reason=reason)
        await _try_to_store(self._outbox.undeliverable(self._id, key, reason))

    def failed(self, key: str) -> bool:
        self._failures[key] += 1
        return self._failures[key] >= MAX_FAILURES


async def _try_to_store(write: Awaitable[None]) -> None:
    """Goes on when the store cannot write: the reply is shown anyway, at the risk of a repeat after a restart."""
    try:
        await write
    except StoreError as error:
        log.error("cannot write the outbox: %s", error)


@dataclass(slots=True)
class _Reply:
    """A reply that is being delivered. `since` is when it was last shown, or when it arrived (monotonic seconds)."""

    builder: ReplyBuilder
    ledger: ReplyLedger
    since: float
    streams: bool
    shown_version: int = -1
    failures: int = 0
    given_up: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether it is ended or parked, so that it does not change until a person writes."""
        return self.builder.done or self.builder.parked

    @property
    def is_behind(self) -> bool:
        """Whether the platform is to be brought up to date."""
        changed = self.builder.version > self.shown_version
        return self.builder.done or (changed and (self.builder.parked or (self.streams and not self.given_up)))


@dataclass(slots=True)
class _State:
    """The newest state of a message, to be shown from `due` on (monotonic seconds); `urgent`: before replies."""

    status: MessageStatus
    due: float
    urgent: bool


@dataclass(slots=True)
class _Chat:
    """One chat's replies in the order in which they began, and the task that sends while there is something to send.

    `last_preview` is when a growing reply was last shown in the chat (monotonic seconds): the pace is per chat.
    """

    replies: dict[str, _Reply] = field(default_factory=dict)
    states: dict[int, _State] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    backoff: float = 0.0
    last_preview: float = -math.inf


ChatKey = tuple[str, str, str]


class Delivery:
    """Use as `async with`; leaving it cancels the senders, and what was not confirmed stays in the outbox."""

    def __init__(self, channels: Mapping[str, Channel], outbox: Outbox, *, whole: Container[str] = ()) -> None:
        """On the channels named in `whole`, replies are shown only when they are complete."""
        self._channels = channels
        self._whole = whole
        self._states: OrderedDict[tuple[str, str, str], MessageState] = OrderedDict()
        self._outbox = outbox
        self._chats: dict[ChatKey, _Chat] = {}
        self._missing: set[str] = set()
        self._in_progress: Counter[str] = Counter()
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Delivery:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for chat in self._chats.values():
            if chat.task is not None:
                chat.task.cancel()
        await self._tasks.__aexit__(None, None, None)

    def show(self, builder: ReplyBuilder, *, pieces: tuple[Sent, ...] = ()) -> None:
        """The reply has changed. Never waits. `pieces` is what an earlier process has sent of it.

        A reply for a channel that is not configured stays in the store until it is.
        """
        if self._is_missing(builder.address.channel):
            return
        chat = self._chat(builder.address)
        reply = chat.replies.get(builder.id)
        if reply is None:
            ledger = ReplyLedger(self._outbox, builder.id, pieces)
            # A reply that an earlier process has shown is shown again only when it changes.
            shown_version = builder.version if pieces and not builder.parked else -1
            streams = builder.address.channel not in self._whole
            chat.replies[builder.id] = _Reply(builder, ledger, time.monotonic(), streams, shown_version)
        elif reply.builder is not builder:
            reply.builder, reply.shown_version = builder, -1
        self._wake_sender(builder.address, chat)

    def is_showing(self, builder: ReplyBuilder) -> bool:
        """Whether this reply is being delivered, so that its ledger is in memory."""
        chat = self._chats.get(_chat_key(builder.address))
        return chat is not None and builder.id in chat.replies

    def show_status(self, status: MessageStatus) -> None:
        """A person's message has changed its state. Never waits."""
        if self._is_missing(status.address.channel):
            return
        chat = self._chat(status.address)
        is_remote = self._channels[status.address.channel].pace(status.address) >= REMOTE_PACE
        delay = STATE_DELAY if is_remote and status.state in ("waiting", "read") else 0.0
        chat.states[status.id] = _State(status, time.monotonic() + delay, urgent=not is_remote)
        self._wake_sender(status.address, chat)

    def _is_missing(self, channel: str) -> bool:
        if channel in self._channels:
            return False
        if channel not in self._missing:
            self._missing.add(channel)
            log.warning("replies for channel %s stay in the outbox: the channel is not configured", channel)
        return True

    def _chat(self, address: Address) -> _Chat:
        key = _chat_key(address)
        chat = self._chats.get(key)
        if chat is None:
            chat = self._chats[key] = _Chat()
        return chat

    def _wake_sender(self, address: Address, chat: _Chat) -> None:
        chat.changed.set()
        if chat.task is None:
            chat.task = self._tasks.create_task(self._send(_chat_key(address), chat))

    async def settle(self, seconds: float) -> None:
        """Waits until everything is shown, for so many seconds at most."""
        sending = [chat.task for chat in self._chats.values() if chat.task is not None]
        if sending:
            await asyncio.wait(sending, timeout=seconds)

    def waiting(self) -> int:
        """The number of replies that are not confirmed yet."""
        return sum(len(chat.replies) for chat in self._chats.values())

    async def _send(self, key: ChatKey, chat: _Chat) -> None:
        """Sends until the platform is up to date with the chat's replies and states."""
        channel = self._channels[key[0]]
        while chat.states or _next_reply(chat):
            reply, state = _next_reply(chat), _due_state(chat)
            if reply is not None and reply.is_settled and not (state and state.urgent):
                await self._show(chat, channel, reply)
            elif state is not None:
                await self._show_status(chat, channel, state.status)
            elif reply is None:
                await _wait_for_change(chat, _next_due(chat) - time.monotonic())
            elif await self._wait_until_due(chat, channel, reply):
                await self._show(chat, channel, _next_reply(chat) or reply)
        chat.task = None
        if not chat.replies:
            del self._chats[key]

    async def _show_status(self, chat: _Chat, channel: Channel, status: MessageStatus) -> None:
        """Shows a message's state once. A failure affects only this state."""
        del chat.states[status.id]
        # An edit is a row of its own in the inbox, and the same message on the platform.
        message = (channel.name, status.address.chat, status.message_id or str(status.id))
        try:
            await channel.show_status(replace(status, before=self._states.get(message)))
        except RetryLater as error:
            chat.states.setdefault(status.id, _State(status, time.monotonic() + error.after, urgent=False))
        except Exception:
            log.exception("%s: showing a message's state failed", channel.name)
        else:
            self._states[message] = status.state
            if len(self._states) > MAX_REMEMBERED_STATES:
                self._states.popitem(last=False)

    async def _wait_until_due(self, chat: _Chat, channel: Channel, reply: _Reply) -> bool:
        """Waits as a preview's pace requires; a settled reply is due at once. False: a state is due first."""
        pace = channel.pace(reply.builder.address)
        due = max(reply.since + pace / 4, chat.last_preview + pace)
        while not any(other.is_settled for other in chat.replies.values()):
            left = due - time.monotonic()
            if left <= 0:
                if self._in_progress[channel.name] < PREVIEW_CONCURRENCY:
                    break
                left = pace / 4
            if _due_state(chat) is not None:
                return False
            await _wait_for_change(chat, min(left, _next_due(chat) - time.monotonic()))
        return True

    async def _show(self, chat: _Chat, channel: Channel, reply: _Reply) -> None:
        """Shows the newest version once. A failure affects only this reply."""
        try:
            with self._counting(channel):
                await self._show_newest(chat, channel, reply)
        except RetryLater as error:
            await asyncio.sleep(error.after)
        except (Unreachable, OutcomeUnknown) as error:
            log.warning("%s: a reply could not be shown yet: %s", channel.name, error)
            await self._back_off(chat)
        except Undeliverable as error:
            log.warning("%s: reply %s cannot be delivered: %s", channel.name, reply.builder.id, error)
            reply.given_up = True
        except Exception:
            log.exception("%s: showing reply %s failed", channel.name, reply.builder.id)
            reply.failures += 1
            reply.given_up = reply.failures >= MAX_FAILURES
            await self._back_off(chat)

    async def _show_newest(self, chat: _Chat, channel: Channel, reply: _Reply) -> None:
        builder = reply.builder
        document, version = builder.reply(), builder.version
        if not reply.given_up:
            await channel.show(document, reply.ledger)
            chat.backoff, reply.failures = 0.0, 0
        if reply.builder is not builder:
            return
        reply.shown_version, reply.since = version, time.monotonic()
        if document.done:
            await _try_to_store(self._outbox.delivered(document.id))
            chat.replies.pop(document.id, None)
        elif document.parked:
            # Removed before the next await: a turn that is resumed reads from the store what was sent.
            chat.replies.pop(document.id, None)
            await _try_to_store(self._outbox.delivered(document.id))
        else:
            chat.last_preview = reply.since

    @contextmanager
    def _counting(self, channel: Channel) -> Iterator[None]:
        self._in_progress[channel.name] += 1
        try:
            yield
        finally:
            self._in_progress[channel.name] -= 1

    async def _back_off(self, chat: _Chat) -> None:
        chat.backoff = min(MAX_BACKOFF, max(0.5, 2 * chat.backoff))
        await asyncio.sleep(chat.backoff * random.uniform(0.7, 1.3))


def _chat_key(address: Address) -> ChatKey:
    return (address.channel, address.account, address.chat)


def _next_due(chat: _Chat) -> float:
    """When the next state is due (monotonic seconds)."""
    return min((state.due for state in chat.states.values()), default=math.inf)


def _due_state(chat: _Chat) -> _State | None:
    return next((state for state in chat.states.values() if state.due <= time.monotonic()), None)


async def _wait_for_change(chat: _Chat, seconds: float) -> None:
    """Returns when something in the chat changes, after so many seconds at the latest."""
    chat.changed.clear()
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await chat.changed.wait()


def _next_reply(chat: _Chat) -> _Reply | None:
    """Settled replies first, in their order; then the preview that has waited longest."""
    behind = [reply for reply in chat.replies.values() if reply.is_behind]
    settled = (reply for reply in behind if reply.is_settled)
    return next(settled, None) or min(behind, key=lambda reply: reply.since, default=None)
