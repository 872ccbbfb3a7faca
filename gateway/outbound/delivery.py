"""Delivery: brings each platform up to date with replies and message states, until each reply is shown or known to be
undeliverable.

One sender per conversation: finished replies go first, then previews, then states. Nothing that fails in one
conversation holds up another.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TypeVar

from agent.log import Undelivered, UndeliveredPart
from channels.address import Address
from channels.channel import (
    Channel,
    ChatMoved,
    OutcomeUnknown,
    RetryLater,
    Sent,
    ServerFailed,
    Superseded,
    Undeliverable,
    Unreachable,
)
from channels.message import MessageState, MessageStatus
from channels.reply import Reply
from gateway.observations import Observations
from gateway.outbound.ledger import Outbox, ReplyLedger, try_to_store
from gateway.outbound.moved_chats import MovedChats
from gateway.outbound.reply_builder import ReplyBuilder, call_of
from gateway.store.errors import StoreError

log = logging.getLogger(__name__)

PREVIEW_CONCURRENCY = 6
"""Replies that may be shown on a channel at once before previews wait, so that finished replies need not."""

STORE_PAUSE = 0.5
"""Seconds between attempts to store that a reply is shown."""

STATE_DELAY = 1.0
"""Seconds that a message's state must last before it is shown on a remote channel: a quick answer then costs one call
to the platform, not three."""

REMOTE_PACE = 0.5
"""A channel with at least this pace (seconds) is remote: it calls a platform. The others are screens of our own."""

MAX_REMEMBERED = 2000
"""Messages whose displayed state is remembered, and replies of which it is remembered that they were not delivered."""

MAX_ERRORS = 5
"""Delivery of a reply is given up after so many unexpected errors in a row."""


def always() -> bool:
    return True


ORDER_PATIENCE = 20.0
"""Seconds that a reply waits for earlier ones that other workers have to show."""

ORDER_PAUSE = 0.5
"""Seconds until it is asked again whether these are shown."""

INTERNAL_ERROR = "internal error in the gateway; details are in its log"


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """How long delivery tries while a platform answers, but with errors.

    A file is replaced by a notice after `attempts`; a reply lets those behind it go first after so many. It is given up
    when nothing of it could be shown for `seconds`. While a platform cannot be reached at all, replies wait.
    """

    attempts: int = 4
    seconds: float = 3600.0
    max_backoff: float = 30.0


DEFAULT_LIMITS = RetryLimits()

IsNext = Callable[[str], Awaitable[bool]]
"""Whether the earlier replies of the conversation are shown, or given up. Raises `StoreError`."""

OnPartUndelivered = Callable[[str, UndeliveredPart], None]
"""A part of the reply with this id is undeliverable; the reply may still grow."""

OnUndelivered = Callable[[ReplyBuilder, Undelivered], Awaitable[None]]
"""The reply was not delivered, or not all of it; the store knows it."""


@dataclass(slots=True)
class _Reply:
    """A reply that is being delivered. `since` is when it was last shown, or when it arrived, `due` when it may be
    tried again (monotonic seconds).

    `attempts` have failed in a row, the first at `failing_since`; `progress` is the ledger's at that time. `errors` in
    a row were unexpected, and at `unreachable` in a row the platform could not be reached. `given_up`: it is shown
    again only when it is settled. `calls` is held while it is being shown. `given` are the keys of the segments that
    the channel was last given. `is_next`: no other worker has an earlier reply to show, as far as that is waited for;
    `yields`: those of this worker go first.
    """

    builder: ReplyBuilder
    ledger: ReplyLedger
    since: float
    streams: bool
    shown_version: int = -1
    due: float = 0.0
    attempts: int = 0
    failing_since: float | None = None
    progress: int = 0
    errors: int = 0
    unreachable: int = 0
    given_up: bool = False
    calls: asyncio.Lock = field(default_factory=asyncio.Lock)
    given: frozenset[str] = frozenset()
    is_next: bool = False
    yields: bool = False
    waits_until: float = field(default_factory=lambda: time.monotonic() + ORDER_PATIENCE)

    @property
    def is_settled(self) -> bool:
        """Whether it is ended or parked, so that it does not change until a person writes."""
        return self.builder.done or self.builder.parked

    @property
    def is_behind(self) -> bool:
        """Whether the platform is to be brought up to date."""
        changed = self.builder.version > self.shown_version
        return self.builder.done or (changed and (self.builder.parked or (self.streams and not self.given_up)))

    def succeeded(self) -> None:
        self.attempts = self.errors = self.unreachable = 0
        self.failing_since = None

    def failed_since(self, now: float) -> float:
        """When the failures began: with this one, if something of it was shown since the last."""
        if self.failing_since is None or self.ledger.progress != self.progress:
            self.failing_since, self.progress = now, self.ledger.progress
        return self.failing_since


@dataclass(slots=True)
class _State:
    """The newest state of a message, to be shown from `due` on (monotonic seconds); `urgent`: before replies.

    `reply` is the id of the reply that must be delivered first, "" for none.
    """

    status: MessageStatus
    due: float
    urgent: bool
    reply: str


@dataclass(slots=True)
class _Conversation:
    """One conversation's replies in the order in which they began, and the task that sends while there is something to
    send."""

    replies: dict[str, _Reply] = field(default_factory=dict)
    states: dict[int, _State] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def address(self) -> Address | None:
        """None: there is nothing to show."""
        replies = (reply.builder.address for reply in self.replies.values())
        states = (state.status.address for state in self.states.values())
        return next(chain(replies, states), None)

    @property
    def is_busy(self) -> bool:
        return bool(self.states) or any(reply.is_behind for reply in self.replies.values())


@dataclass(slots=True)
class _Chat:
    """The conversations of one chat: one, or its threads.

    `last_preview` is when a growing reply was last shown in the chat (monotonic seconds): the pace is per chat.
    """

    conversations: dict[str | None, _Conversation] = field(default_factory=dict)
    last_preview: float = -math.inf


ChatKey = tuple[str, str, str]

K = TypeVar("K")
V = TypeVar("V")


class Delivery:
    """Use as `async with`; leaving it cancels the senders, and what was not confirmed stays in the outbox."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        outbox: Outbox,
        *,
        chats: MovedChats,
        undelivered: OnUndelivered,
        part_undelivered: OnPartUndelivered,
        whole: Container[str] = (),
        limits: RetryLimits = DEFAULT_LIMITS,
        observations: Observations | None = None,
        may_send: Callable[[], bool] = always,
        is_next: IsNext | None = None,
    ) -> None:
        """On the channels named in `whole`, replies are shown only when they are complete. While `may_send` is false,
        nothing is sent. Where others show replies too, `is_next` tells whose turn it is."""
        self._is_next = is_next
        self._may_send = may_send
        self._observations = observations or Observations()
        self._channels = channels
        self._outbox = outbox
        self._on_undelivered = undelivered
        self._on_part_undelivered = part_undelivered
        self._moved_chats = chats
        self.whole = whole
        self._limits = limits
        self._states: OrderedDict[tuple[str, str, str], MessageState] = OrderedDict()
        self._not_delivered: OrderedDict[str, str] = OrderedDict()
        self._chats: dict[ChatKey, _Chat] = {}
        self._missing: set[str] = set()
        self._in_progress: Counter[str] = Counter()
        self._calls: dict[asyncio.Future[None], Channel] = {}
        self._storing: set[asyncio.Task[None]] = set()
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Delivery:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in (*self._senders(), *self._storing):
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    # --- what is to be shown ---

    def show(self, builder: ReplyBuilder, *, pieces: tuple[Sent, ...] = ()) -> None:
        """The reply has changed. Never waits. `pieces` is what an earlier process has sent of it.

        A reply for a channel that is not configured stays in the store until it is.
        """
        if self._is_missing(builder.address.channel):
            return
        conversation = self._conversation(builder.address)
        reply = conversation.replies.get(builder.id)
        if reply is None:
            ledger = ReplyLedger(
                self._outbox,
                builder.id,
                pieces,
                attempts=self._limits.attempts,
                undeliverable=partial(self._part_not_delivered, builder.id),
                may_send=self._may_send,
            )
            # A reply that an earlier process has shown is shown again only when it changes.
            shown_version = builder.version if pieces and not builder.parked else -1
            streams = builder.address.channel not in self.whole
            conversation.replies[builder.id] = _Reply(builder, ledger, time.monotonic(), streams, shown_version)
            self._not_delivered.pop(builder.id, None)
        elif reply.builder is not builder:
            reply.builder, reply.shown_version = builder, -1
        self._wake_sender(builder.address, conversation)

    def is_showing(self, builder: ReplyBuilder) -> bool:
        """Whether this reply is being delivered, so that its ledger is in memory."""
        return self._find(builder) is not None

    def is_seen(self, builder: ReplyBuilder) -> bool:
        """Whether people may have read any of the text that the model is generating: the channel was given some."""
        reply = self._find(builder)
        return reply is not None and not reply.given.isdisjoint(builder.growing)

    def _find(self, builder: ReplyBuilder) -> _Reply | None:
        chat = self._chats.get(_chat_key(builder.address))
        conversation = None if chat is None else chat.conversations.get(builder.address.thread)
        return None if conversation is None else conversation.replies.get(builder.id)

    async def hand_over(self, builder: ReplyBuilder) -> None:
        """Somebody else goes on with the reply: nothing of it is sent here any more once this returns."""
        reply = self._find(builder)
        if reply is not None:
            chat = self._chats[_chat_key(builder.address)]
            chat.conversations[builder.address.thread].replies.pop(builder.id, None)
            async with reply.calls:
                await reply.ledger.recorded()

    def show_status(self, status: MessageStatus, *, reply: str = "") -> None:
        """A person's message has changed its state. Never waits.

        With the id of a `reply`, the state is shown once that is delivered; if it cannot be, "undelivered" is shown.
        """
        if self._is_missing(status.address.channel):
            return
        is_remote = self._channels[status.address.channel].pace(status.address) >= REMOTE_PACE
        if reply in self._not_delivered:
            status = replace(status, state="undelivered", reason=self._not_delivered[reply])
        delay = STATE_DELAY if is_remote and status.state in ("waiting", "read") else 0.0
        conversation = self._conversation(status.address)
        is_urgent = not is_remote and not reply
        conversation.states[status.id] = _State(status, time.monotonic() + delay, urgent=is_urgent, reply=reply)
        self._wake_sender(status.address, conversation)

    def _is_missing(self, channel: str) -> bool:
        if channel in self._channels:
            return False
        if channel not in self._missing:
            self._missing.add(channel)
            log.warning("replies for channel %s stay in the outbox: the channel is not configured", channel)
        return True

    def _conversation(self, address: Address) -> _Conversation:
        chat = self._chats.setdefault(_chat_key(address), _Chat())
        return chat.conversations.setdefault(address.thread, _Conversation())

    def _wake_sender(self, address: Address, conversation: _Conversation) -> None:
        conversation.changed.set()
        if conversation.task is None:
            conversation.task = self._tasks.create_task(self._send(address, conversation))

    # --- channels that come and go ---

    def at_work_on(self, channel: Channel) -> frozenset[asyncio.Future[None]]:
        """The calls of the channel that are being made."""
        return frozenset(call for call, called in self._calls.items() if called is channel)

    def pause(self, channel: str) -> None:
        """The channel is removed: nothing is sent there until it is back."""
        for _, conversation in self._on(channel):
            if conversation.task is not None:
                conversation.task.cancel()
                conversation.task = None

    def resume(self, channel: str) -> None:
        """The channel is there again."""
        self._missing.discard(channel)
        for address, conversation in self._on(channel):
            self._wake_sender(address, conversation)

    def _on(self, channel: str) -> list[tuple[Address, _Conversation]]:
        """The conversations on the channel in which there is something to show, each with its address."""
        chats = [chat for key, chat in self._chats.items() if key[0] == channel]
        found = [conversation for chat in chats for conversation in chat.conversations.values()]
        return [(address, each) for each in found if (address := each.address) is not None]

    async def settle(self, seconds: float) -> None:
        """Waits until everything is shown, for so many seconds at most."""
        if sending := self._senders():
            await asyncio.wait(sending, timeout=seconds)

    def waiting(self) -> int:
        """The number of replies that are not confirmed yet."""
        return sum(len(conversation.replies) for conversation in self._conversations())

    def _conversations(self) -> list[_Conversation]:
        return [conversation for chat in self._chats.values() for conversation in chat.conversations.values()]

    def _senders(self) -> list[asyncio.Task[None]]:
        return [conversation.task for conversation in self._conversations() if conversation.task is not None]

    # --- sending ---

    async def _send(self, address: Address, conversation: _Conversation) -> None:
        """Sends until the platform is up to date with the conversation's replies and states."""
        while conversation.is_busy:
            # It may be replaced by another, or removed, at any time.
            channel = self._channels.get(address.channel)
            if channel is None:
                conversation.task = None
                return
            reply, state = self._next_settled(conversation), _due_state(conversation)
            if reply is not None and not (state and state.urgent):
                await self._show(conversation, channel, reply)
            elif state is not None:
                await self._show_status(conversation, channel, state)
            elif (preview := self._next_preview(address, conversation)) is not None:
                self._chats[_chat_key(address)].last_preview = time.monotonic()
                await self._show(conversation, channel, preview)
            else:
                await _wait_for_change(conversation, self._next_due(address, conversation) - time.monotonic())
        conversation.task = None
        chat = self._chats.get(_chat_key(address))
        if not conversation.replies and chat and chat.conversations.get(address.thread) is conversation:
            del chat.conversations[address.thread]
            if not chat.conversations:
                del self._chats[_chat_key(address)]

    def _next_settled(self, conversation: _Conversation) -> _Reply | None:
        """The first settled reply, if it may be tried now. One that has failed often lets the next go first."""
        now = time.monotonic()
        for reply in conversation.replies.values():
            if reply.is_settled and reply.is_behind:
                if reply.due <= now:
                    return reply
                if self._goes_first(reply):
                    return None
        return None

    def _goes_first(self, reply: _Reply) -> bool:
        """Whether all behind it wait for it."""
        is_ahead = reply.is_settled and reply.is_behind and reply.attempts < self._limits.attempts
        return is_ahead and not reply.yields

    def _next_preview(self, address: Address, conversation: _Conversation) -> _Reply | None:
        """The growing reply that has waited longest, if it is due and none in another thread of the chat has waited
        longer."""
        now, chat = time.monotonic(), self._chats[_chat_key(address)]
        if any(map(self._goes_first, conversation.replies.values())):
            return None
        if self._in_progress[address.channel] >= PREVIEW_CONCURRENCY:
            return None
        due = [
            reply
            for each in chat.conversations.values()
            for reply in _previews(each)
            if self._preview_due(chat, reply) <= now
        ]
        longest = min(due, key=lambda reply: reply.since, default=None)
        return longest if longest is not None and longest.builder.id in conversation.replies else None

    def _preview_due(self, chat: _Chat, reply: _Reply) -> float:
        """When a preview may be shown, as the pace requires."""
        pace = self._channels[reply.builder.address.channel].pace(reply.builder.address)
        return max(reply.since + pace / 4, chat.last_preview + pace, reply.due)

    def _next_due(self, address: Address, conversation: _Conversation) -> float:
        """When something in the conversation may be due (monotonic seconds)."""
        chat = self._chats[_chat_key(address)]
        # A preview that is due already waits for others: they are looked at again soon.
        soon = time.monotonic() + self._channels[address.channel].pace(address) / 4
        states = [state.due for state in conversation.states.values() if state.reply not in conversation.replies]
        settled = [reply.due for reply in conversation.replies.values() if reply.is_settled and reply.is_behind]
        previews = [max(soon, self._preview_due(chat, reply)) for reply in _previews(conversation)]
        return min([*states, *settled, *previews], default=math.inf)

    async def _show_status(self, conversation: _Conversation, channel: Channel, state: _State) -> None:
        """Shows a message's state once. A failure affects only this state."""
        status = replace(state.status, address=self._moved_chats.current(state.status.address))
        del conversation.states[status.id]
        # An edit is a row of its own in the inbox, and the same message on the platform.
        message = (channel.name, status.address.chat, status.message_id or str(status.id))
        if not self._may_send():
            return
        try:
            with self._calling(channel):
                await channel.show_status(replace(status, before=self._states.get(message)))
        except RetryLater as error:
            self._observations.rate_limited(channel.name, error.after)
            again = replace(state, due=time.monotonic() + error.after, urgent=False)
            conversation.states.setdefault(status.id, again)
        except Exception:
            log.exception("%s: showing a message's state failed", channel.name)
        else:
            _remember(self._states, message, status.state)

    async def _show(self, conversation: _Conversation, channel: Channel, reply: _Reply) -> None:
        """Shows the newest version once. A failure affects only this reply."""
        try:
            async with reply.calls:
                with self._counting(channel):
                    await self._show_newest(conversation, channel, reply)
        except ChatMoved as error:
            await self._follow(conversation, channel, reply, error.chat)
        except RetryLater as error:
            self._observations.rate_limited(channel.name, error.after)
            await self._try_later(conversation, channel, reply, str(error), error.after)
        except (ServerFailed, OutcomeUnknown) as error:
            reply.attempts += 1
            await self._try_later(conversation, channel, reply, str(error), self._backoff(reply.attempts))
        except Unreachable as error:
            if reply.yields:
                self._delay(reply, str(error), ORDER_PAUSE)
                return
            log.warning("%s: a reply could not be shown yet: %s", channel.name, error)
            reply.failing_since, reply.unreachable = None, reply.unreachable + 1
            self._delay(reply, str(error), self._backoff(reply.unreachable))
        except Undeliverable as error:
            await self._give_up(conversation, channel, reply, str(error))
        except Superseded as error:
            log.info("%s: %s", channel.name, error)
            conversation.replies.pop(reply.builder.id, None)
        except Exception:
            log.exception("%s: showing reply %s failed", channel.name, reply.builder.id)
            reply.errors += 1
            reply.due = time.monotonic() + self._backoff(reply.errors)
            if reply.errors >= MAX_ERRORS:
                await self._give_up(conversation, channel, reply, INTERNAL_ERROR)
        finally:
            await reply.ledger.recorded()

    async def _show_newest(self, conversation: _Conversation, channel: Channel, reply: _Reply) -> None:
        await self._wait_for_earlier(reply)
        builder = reply.builder
        document, version = builder.reply(), builder.version
        reply.given = frozenset(segment.key for segment in document.segments)
        address = self._moved_chats.current(document.address)
        await channel.show(replace(document, address=address), reply.ledger)
        reply.succeeded()
        if reply.builder is not builder:
            return
        reply.shown_version, reply.since = version, time.monotonic()
        if document.done or document.parked:
            await self._end(conversation, reply, document, _refused_parts(reply.ledger.pieces()))

    async def _wait_for_earlier(self, reply: _Reply) -> None:
        """Raises `Unreachable` while another worker has an earlier reply of the conversation to show."""
        if self._is_next is None or reply.is_next:
            return
        try:
            reply.is_next = await self._is_next(reply.builder.id)
        except StoreError as error:
            log.warning("whether earlier replies are shown is not known: %s", error)
        reply.is_next = reply.is_next or time.monotonic() > reply.waits_until
        reply.yields = not reply.is_next
        if reply.yields:
            raise Unreachable("another worker has not shown an earlier reply yet")

    def _backoff(self, attempts: int) -> float:
        return min(self._limits.max_backoff, 0.5 * 2.0 ** (min(attempts, 30) - 1)) * random.uniform(0.7, 1.3)

    @contextmanager
    def _counting(self, channel: Channel) -> Iterator[None]:
        self._in_progress[channel.name] += 1
        try:
            with self._calling(channel):
                yield
        finally:
            self._in_progress[channel.name] -= 1

    @contextmanager
    def _calling(self, channel: Channel) -> Iterator[None]:
        """The channel must stay open."""
        call = asyncio.get_running_loop().create_future()
        self._calls[call] = channel
        try:
            yield
        finally:
            del self._calls[call]
            call.set_result(None)

    # --- failures ---

    async def _try_later(
        self, conversation: _Conversation, channel: Channel, reply: _Reply, reason: str, seconds: float
    ) -> None:
        log.warning("%s: a reply could not be shown yet: %s", channel.name, reason)
        now = time.monotonic()
        if now - reply.failed_since(now) >= self._limits.seconds:
            await self._give_up(conversation, channel, reply, reason)
        else:
            self._delay(reply, reason, seconds)

    def _delay(self, reply: _Reply, reason: str, seconds: float) -> None:
        reply.due = time.monotonic() + seconds
        self._observations.delayed(reply.builder.reply(), reason, seconds)

    async def _follow(self, conversation: _Conversation, channel: Channel, reply: _Reply, chat: str) -> None:
        """The chat has another id: the reply goes on there."""
        try:
            await self._moved_chats.move(reply.builder.address, chat)
        except Exception:
            log.exception("%s: a chat has the id %s now, which cannot be recorded yet", channel.name, chat)
            reply.attempts += 1
            await self._try_later(conversation, channel, reply, "the chat has moved", self._backoff(reply.attempts))

    async def _give_up(self, conversation: _Conversation, channel: Channel, reply: _Reply, reason: str) -> None:
        """A reply that still grows gets one more chance when it is settled."""
        log.warning("%s: reply %s cannot be delivered: %s", channel.name, reply.builder.id, reason)
        reply.succeeded()
        document = reply.builder.reply()
        if not (document.done or document.parked):
            reply.given_up = True
            return
        reply.shown_version = reply.builder.version
        parts = (UndeliveredPart(reason, whole=True), *_refused_parts(reply.ledger.pieces()))
        await self._end(conversation, reply, document, parts)

    async def _end(
        self, conversation: _Conversation, reply: _Reply, document: Reply, parts: tuple[UndeliveredPart, ...]
    ) -> None:
        """The reply is shown, or known to be undeliverable. Recorded, and told."""
        undelivered = Undelivered(parts) if parts else None
        self._observations.delivered(document, undelivered)
        if undelivered is not None:
            _remember(self._not_delivered, document.id, undelivered.reason)
            for state in conversation.states.values():
                if state.reply == document.id:
                    state.status = replace(state.status, state="undelivered", reason=undelivered.reason)
        if document.parked:
            # Removed before the next await: a turn that is resumed reads from the store what was sent.
            conversation.replies.pop(document.id, None)
        _, is_stored = await asyncio.gather(
            reply.ledger.recorded(), try_to_store(lambda: self._outbox.delivered(document.id, undelivered))
        )
        if document.done:
            conversation.replies.pop(document.id, None)
        if not (is_stored and (document.done or reply.ledger.is_stored)):
            if document.parked:
                # A turn that is resumed before the store knows what was sent goes on with what is known here.
                conversation.replies.setdefault(document.id, reply)
            storing = self._tasks.create_task(self._store_end(conversation, reply, document, undelivered))
            self._storing.add(storing)
            storing.add_done_callback(self._storing.discard)
        if undelivered is not None:
            await self._tell(reply.builder, undelivered)

    async def _store_end(
        self, conversation: _Conversation, reply: _Reply, document: Reply, undelivered: Undelivered | None
    ) -> None:
        """Stores how the delivery has ended as soon as the store writes again: until then other replies of the
        conversation wait for it."""
        builder = reply.builder
        while True:
            await asyncio.sleep(STORE_PAUSE)
            if not self._may_send():
                # Another worker may go on with it.
                continue
            try:
                await reply.ledger.store_rest()
                if reply.builder is builder:
                    await self._outbox.delivered(document.id, undelivered)
            except StoreError as error:
                log.debug("the end of the delivery of reply %s is not stored yet: %s", document.id, error)
            except Exception:
                log.exception("the end of the delivery of reply %s cannot be stored", document.id)
                break
            else:
                log.info("the end of the delivery of reply %s is stored", document.id)
                break
        if document.parked and reply.builder is builder and conversation.replies.get(document.id) is reply:
            del conversation.replies[document.id]

    def _part_not_delivered(self, reply: str, key: str, reason: str) -> None:
        self._on_part_undelivered(reply, UndeliveredPart(reason, call_of(key)))

    async def _tell(self, builder: ReplyBuilder, undelivered: Undelivered) -> None:
        """A failure here affects only this."""
        try:
            await self._on_undelivered(builder, undelivered)
        except Exception:
            log.exception("reply %s was not delivered, and this could not be told", builder.id)


def _refused_parts(pieces: tuple[Sent, ...]) -> tuple[UndeliveredPart, ...]:
    return tuple(
        UndeliveredPart(piece.reason, call_of(piece.key)) for piece in pieces if piece.state == "undeliverable"
    )


def _chat_key(address: Address) -> ChatKey:
    return (address.channel, address.account, address.chat)


def _due_state(conversation: _Conversation) -> _State | None:
    now = time.monotonic()
    due = (state for state in conversation.states.values() if state.due <= now)
    return next((state for state in due if state.reply not in conversation.replies), None)


async def _wait_for_change(conversation: _Conversation, seconds: float) -> None:
    """Returns when something in the conversation changes, after so many seconds at the latest."""
    conversation.changed.clear()
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds) if seconds < math.inf else None):
            await conversation.changed.wait()


def _previews(conversation: _Conversation) -> Iterator[_Reply]:
    return (reply for reply in conversation.replies.values() if reply.is_behind and not reply.is_settled)


def _remember(known: OrderedDict[K, V], key: K, value: V) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > MAX_REMEMBERED:
        known.popitem(last=False)
