"""The follower makes events of the API from what the bus tells, once for all who watch, and only while somebody does.

The events of a conversation are in order: growing replies are published before whatever comes next in their turn, and
the whole reply before the end of its run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from agent.events import Event as AgentEvent
from agent.events import Logged
from agent.log import (
    ApprovalDecided,
    Call,
    CallEnded,
    CallStarted,
    Entry,
    ModelAnswered,
)
from channels import reply as replies
from channels.message import MessageState
from gateway import bus
from gateway.api import events
from gateway.api.broadcast import EVERYTHING, Broadcast, Frame, Missed, Watcher
from gateway.api.history import read_history
from gateway.api.ids import conversation_id
from gateway.api.items import file_item, message_item, reply_change, reply_item
from gateway.api.runs import describe_run
from gateway.app import Gateway
from gateway.outbound.call_lines import short_title
from gateway.outbound.reply_builder import ReplyBuilder
from gateway.sessions import is_child
from gateway.store import watching
from gateway.store.records import Turn

log = logging.getLogger(__name__)

PACE = 0.05
"""Seconds between two events of a growing reply, at least."""

REST = 4.0
"""After rendering growing replies, so many times the time that it took belongs to everything else."""

PING_SECONDS = 15.0
CHECK_SECONDS = 5.0
"""Between two looks at the channels' trouble, and for topics that nobody watches any more."""

MAX_ITEMS = 200
"""Messages and replies in a snapshot."""

MAX_SHARED = 50
"""A snapshot is used again while it is so many events old, if there are more than `FEW` watchers: they are told what
happened since."""

FEW = 4
"""Watchers each of whom gets a snapshot of its own."""

MAX_TEXT = 2_000
"""Characters of a call's arguments or result in an event."""

APPROVAL = "d:"
"""Begins the keys of approval requests in a reply."""

FIRST_EPOCH = 1
"""The epoch of a turn that has not been resumed."""

TOO_SLOW = "Events were missed: they came faster than they were taken."
TOO_OLD = "The events after that id are gone."

WITHOUT_PROGRESS = frozenset(
    {
        "message",
        "message.state",
        "turn.started",
        "run.ended",
        "conversation.changed",
        "channel.trouble",
        "channel.ok",
    }
)
"""Types of events for which nothing has to be known of what a turn does between its start and its end."""

KINDS_WITHOUT_PROGRESS: tuple[type[bus.BusEvent], ...] = (
    bus.MessageAccepted,
    bus.MessagesChanged,
    bus.TurnStarted,
    bus.TurnEnded,
    bus.HistoryChanged,
    bus.TitleChanged,
)

Listener = Callable[[events.Event], None]
"""Is told of every event but the growth of replies. Never waits, never raises."""


@dataclass(slots=True)
class _Live:
    """A running turn. `sent` is its reply as published last, in `version` of the builder; `open` are the keys of its
    open questions. `elsewhere` is the log of a turn that another worker runs, as far as it is known: the builder is
    made from that and from what is reported. `told` of its entries were reported, None if that is not known yet."""

    session: str
    turn: str
    builder: ReplyBuilder
    sent: replies.Reply | None = None
    version: int = -1
    open: set[str] = field(default_factory=set)
    calls: dict[str, Call] = field(default_factory=dict)
    elsewhere: list[Entry] | None = None
    told: int | None = None


class Follower:
    """Its `run` is a service of the gateway."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        ping_seconds: float = PING_SECONDS,
        pace: float = PACE,
        own_only: bool = False,
        with_progress: bool = True,
    ) -> None:
        """`own_only`: without what happens in other workers, see `Bus.subscribe`. Without progress it tells of a turn
        only what is in `WITHOUT_PROGRESS`, for which other workers need not report each step, and nobody may watch
        streams."""
        self._gateway = gateway
        self._own_only = own_only
        self._with_progress = with_progress
        self._ping_seconds = ping_seconds
        self._pace = pace
        self._broadcast = Broadcast()
        self._listeners: list[Listener] = []
        self._missed: list[Callable[[], None]] = []
        self._live: dict[str, _Live] = {}
        self._dirty: dict[str, _Live] = {}
        self._grown = asyncio.Event()
        self._trouble: dict[str, str] = {}
        self._wanted = asyncio.Event()
        self._following = asyncio.Event()
        self._over = asyncio.Event()

    @contextmanager
    def listen(self, listener: Listener, missed: Callable[[], None]) -> Iterator[None]:
        """Tells the listener while the context is entered. `missed` is called when events may have been missed."""
        self._listeners.append(listener)
        self._missed.append(missed)
        self._wanted.set()
        try:
            yield
        finally:
            self._listeners.remove(listener)
            self._missed.remove(missed)

    async def started(self) -> None:
        """Returns when events are followed, or never will be any more."""
        await self._following.wait()

    # --- streams ---

    async def conversation(self, session: str, last_id: str | None) -> AsyncGenerator[bytes]:
        """Server-sent events of one conversation: a snapshot, or what came after `last_id`, and what comes."""
        with self._watch(session) as watcher:
            await self.started()
            if self._resume(watcher, last_id):
                yield self._own(events.Ping())
            else:
                if last_id is not None:
                    yield self._own(events.Reset(reason=TOO_OLD))
                yield await self._renew(watcher)
            while (found := await watcher.next(self._ping_seconds)) is not None:
                match found:
                    case Missed():
                        yield self._own(events.Reset(reason=TOO_SLOW)) + await self._renew(watcher)
                    case []:
                        yield self._own(events.Ping(), watcher.position)
                    case _:
                        yield _joined(found)
                        if any(frame.renews for frame in found):
                            yield await self._renew(watcher)

    async def everything(self, sees: Callable[[str], bool], last_id: str | None) -> AsyncGenerator[bytes]:
        """Server-sent events of the conversations and channels that `sees` is true for: what came after `last_id`, and
        what comes. It is asked with ids of conversations, and with "" for channels."""
        loop = asyncio.get_running_loop()
        said_at = loop.time()
        with self._watch(EVERYTHING) as watcher:
            await self.started()
            if self._resume(watcher, last_id):
                yield self._own(events.Ping(), watcher.position)
            else:
                yield self._own(events.Reset(reason=TOO_OLD), watcher.position)
            while (found := await watcher.next(self._ping_seconds)) is not None:
                match found:
                    case Missed():
                        watcher.position = self._broadcast.number
                        yield self._own(events.Reset(reason=TOO_SLOW), watcher.position)
                    case _:
                        seen = [frame for frame in found if sees(frame.conversation)]
                        if seen:
                            yield _joined(seen)
                        elif not found or loop.time() - said_at >= self._ping_seconds:
                            yield self._own(events.Ping(), watcher.position)
                        else:
                            continue
                        said_at = loop.time()

    @contextmanager
    def _watch(self, key: str) -> Iterator[Watcher]:
        with self._broadcast.watch(key) as watcher:
            self._wanted.set()
            yield watcher

    def _resume(self, watcher: Watcher, last_id: str | None) -> bool:
        """Whether the watcher has all events since that id, or begins without one in the stream of everything."""
        if last_id is None:
            return watcher.topic.key == EVERYTHING
        number = self._broadcast.number_of(last_id)
        if number is None or watcher.topic.after(number) is None:
            return False
        watcher.position = number
        watcher.wake()
        return True

    def _own(self, event: events.Event, position: int | None = None) -> bytes:
        """An event for one watcher."""
        return events.encoded(event, None if position is None else self._broadcast.id(position))

    async def _renew(self, watcher: Watcher) -> bytes:
        """A snapshot; the watcher goes on with the events after it."""
        topic = watcher.topic
        async with topic.lock:
            if not self._is_shared(watcher):
                topic.snapshot = await self._snapshot(topic.key)
            assert topic.snapshot is not None
        watcher.position = topic.snapshot.number
        watcher.wake()
        return topic.snapshot.data

    def _is_shared(self, watcher: Watcher) -> bool:
        """Whether the last snapshot of the topic, with the events after it, is as good as a new one."""
        if len(watcher.topic.watchers) <= FEW:
            return False
        snapshot = watcher.topic.snapshot
        later = None if snapshot is None else watcher.topic.after(snapshot.number)
        return later is not None and len(later) <= MAX_SHARED and not any(frame.renews for frame in later)

    async def _snapshot(self, session: str) -> Frame:
        """What is published later changes it: replies are in it as they were published last."""
        lives = [live for live in self._live.values() if live.session == session]
        for live in lives:
            self._publish_reply(live)
        number, sent = self._broadcast.number, {live.turn: live.sent for live in lives}
        newest = await read_history(self._gateway, session, MAX_ITEMS, shown=sent)
        id = conversation_id(session)
        event = events.Snapshot(
            conversation=id, items=newest.items, more=newest.before is not None, before=newest.before
        )
        return Frame(number, id, events.encoded(event, self._broadcast.id(number)))

    # --- following ---

    async def run(self) -> None:
        """Follows the bus while somebody watches, until it has closed or this is cancelled. Then all streams end."""
        try:
            while not self._over.is_set():
                await self._wanted.wait()
                self._wanted.clear()
                await self._follow()
        except asyncio.CancelledError:
            self._end()
            raise
        self._end()

    def _end(self) -> None:
        self._broadcast.close()
        self._following.set()

    async def _follow(self) -> None:
        """Follows until nobody watches."""
        kinds = () if self._with_progress else KINDS_WITHOUT_PROGRESS
        async with self._gateway.bus.subscribe(None, *kinds, own_only=self._own_only) as subscription:
            self._following.set()
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(self._read(subscription)),
                        group.create_task(self._publish_growth()),
                        group.create_task(self._broadcast.distribute()),
                    ]
                    await self._until_idle()
                    for task in tasks:
                        task.cancel()
            finally:
                self._following.clear()
                if not self._over.is_set():
                    self._lose()
                if self._listeners or not self._broadcast.is_idle:
                    # It failed, and is restarted.
                    self._wanted.set()

    async def _until_idle(self) -> None:
        """Returns when nobody watches any more, or the bus has closed."""
        while not self._over.is_set() and (self._listeners or not self._broadcast.is_idle):
            self._tell_trouble()
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._over.wait()
            self._broadcast.expire()
            self._forget_unwatched()

    def _forget_unwatched(self) -> None:
        """What is not told of a turn is not known of it either; whoever watches it later begins with its log."""
        for live in [each for each in self._live.values() if not self._is_followed(each.session)]:
            self._forget(live.turn)

    def _lose(self) -> None:
        self._live.clear()
        self._dirty.clear()
        self._broadcast.lose()
        for missed in self._missed:
            missed()

    async def _read(self, subscription: bus.Subscription) -> None:
        async for event in subscription:
            if isinstance(event, bus.Lagged):
                log.warning("events of the API: %s events of the bus were missed; watchers begin again", event.count)
                self._lose()
            elif event.session is not None and self._is_followed(event.session):
                await self._handle(event)
        self._over.set()

    def _is_followed(self, session: str) -> bool:
        """Delegated tasks have no conversation of their own."""
        return (bool(self._listeners) or self._broadcast.is_watched(session)) and not is_child(session)

    async def _handle(self, event: bus.BusEvent) -> None:
        match event:
            case bus.MessageAccepted():
                await self._message_accepted(event)
            case bus.MessagesChanged():
                await self._messages_changed(event)
            case bus.TurnStarted():
                await self._turn_started(event)
            case bus.TurnProgress():
                await self._turn_progressed(event)
            case bus.TurnParked():
                await self._turn_parked(event)
            case bus.TurnEnded():
                await self._turn_ended(event)
            case bus.NoticeSent():
                await self._tell_reply(event.session, event.turn)
            case bus.HistoryChanged() | bus.TitleChanged():
                await self._conversation_changed(event)
            case bus.Lagged():
                pass

    # --- messages ---

    async def _message_accepted(self, event: bus.MessageAccepted) -> None:
        for message in await self._messages([event.id]):
            state: MessageState = "refused" if event.refused else "waiting"
            # It may have been read since.
            shown = message_item(message, state if message.turn or event.refused else None)
            self._publish(event.session, events.MessageAccepted(conversation=_id(event), message=shown))
            if event.refused:
                await self._end_run(event.session, message)

    async def _messages_changed(self, event: bus.MessagesChanged) -> None:
        for message in await self._messages(event.ids):
            if event.state == "waiting":
                shown = message_item(message, "waiting")
                self._publish(event.session, events.MessageAccepted(conversation=_id(event), message=shown))
                continue
            await self._tell_state(event, message)
            if event.state != "read":
                await self._end_run(event.session, message)
        for command in await self._gateway.store.read(partial(watching.hidden_commands, ids=event.ids)):
            await self._tell_state(event, command)
            if event.state != "read":
                await self._end_run(event.session, command)

    async def _tell_state(self, event: bus.MessagesChanged, message: watching.WatchedMessage) -> None:
        """The answer of a command comes before its state. An option that was pressed has no answer of its own."""
        if message.is_command and message.turn is not None and message.turn == message.run:
            await self._tell_reply(event.session, message.turn)
        self._publish_state(message, event.state, event.reason)

    async def _tell_reply(self, session: str, turn: str) -> None:
        """The reply of a command or a notice, which begins and ends at once."""
        with suppress(LookupError):
            self._publish_whole(session, await self._gateway.conversation_view.reply(session, turn))

    def _publish_state(self, message: watching.WatchedMessage, state: MessageState, reason: str) -> None:
        event = events.MessageStateChanged(
            conversation=conversation_id(message.session),
            id=message.id,
            state=state,
            reason=reason,
            turn=message.turn,
            step=message.step,
        )
        self._publish(message.session, event)

    async def _end_run(self, session: str, message: watching.WatchedMessage) -> None:
        ended = await run_ended(self._gateway, message)
        if ended is not None:
            self._publish(session, ended)

    async def _messages(self, ids: Collection[int]) -> Sequence[watching.WatchedMessage]:
        return await self._gateway.store.read(partial(watching.messages, ids=ids))

    # --- turns ---

    async def _turn_started(self, event: bus.TurnStarted) -> None:
        try:
            record = await self._record(event.session, event.turn)
        except LookupError:
            return
        agents, by = self._gateway.agents, record.principal
        started = events.TurnStarted(
            conversation=_id(event),
            turn=event.turn,
            agent=agents.pick(record.agent, record.address, by),
            model=record.model,
            by=events.Person(id=by.id, name=by.name),
        )
        self._publish(event.session, started)
        if not self._with_progress:
            return
        self._live.pop(event.turn, None)
        live = await self._live_turn(event.session, event.turn)
        if live is not None and record.epoch == FIRST_EPOCH:
            # Nothing was asked before it started; what is asked by now has not been told.
            live.open.clear()
        if live is not None and record.entries and isinstance(decided := record.entries[-1], ApprovalDecided):
            # Made while the turn was parked.
            live.open.add(f"{APPROVAL}{decided.id}")
        if live is not None:
            self._publish_reply(live)

    async def _turn_progressed(self, event: bus.TurnProgress) -> None:
        if event.turn not in self._live and self._gateway.conversation_view.active(event.session, event.turn) is None:
            # It may be in the middle of an answer.
            self._gateway.bus.recall(event.session)
        live = await self._live_turn(event.session, event.turn)
        if live is None:
            return
        if live.elsewhere is not None:
            await self._build(live, live.elsewhere, event)
        elif isinstance(event.event, Logged):
            self._entry_logged(live, event.event.entry)
        if self._broadcast.is_watched(live.session) or _asks(event.event):
            self._dirty[live.turn] = live
            self._grown.set()

    async def _build(self, live: _Live, log: list[Entry], event: bus.TurnProgress) -> None:
        """Builds the reply of a turn that another worker runs. The log may be ahead of the reports, or reports missing;
        both show in the size of the log that each report tells."""
        is_entry = isinstance(event.event, Logged)
        if live.told is None:
            live.told = event.entries - is_entry
        if event.entries > len(log) + is_entry:
            await self._read_again(live, log)
        if isinstance(event.event, Logged) and event.entries == len(log) + 1:
            log.append(event.event.entry)
            live.builder.apply(event.event)
        elif not is_entry and event.entries == len(log):
            live.builder.apply(event.event)
        for entry in log[live.told : event.entries]:
            self._entry_logged(live, entry)
        live.told = max(live.told, event.entries)

    async def _read_again(self, live: _Live, log: list[Entry]) -> None:
        """Builds the reply anew from the log of the turn that another worker runs."""
        with suppress(LookupError):
            record = await self._gateway.store.turn(live.turn)
            log[:] = record.entries
            live.builder = self._gateway.conversation_view.builder_of(record)
            live.version = -1

    def _entry_logged(self, live: _Live, entry: Entry) -> None:
        match entry:
            case ModelAnswered():
                live.calls.update((call.id, call) for call in entry.calls)
                self._publish_reply(live)
                step = events.TurnStep(
                    conversation=conversation_id(live.session),
                    turn=live.turn,
                    step=entry.step,
                    model=entry.model,
                    input=entry.usage.input,
                    output=entry.usage.output,
                    cost=entry.usage.cost,
                    calls=[call.id for call in entry.calls],
                )
                self._publish(live.session, step)
            case CallStarted(call_id) if call_id in live.calls:
                call = live.calls[call_id]
                started = events.ToolStarted(
                    conversation=conversation_id(live.session),
                    turn=live.turn,
                    call=call_id,
                    name=entry.tool or call.name,
                    title=short_title(call),
                    arguments=(entry.arguments or call.arguments)[:MAX_TEXT],
                )
                self._publish(live.session, started)
            case CallEnded(call_id):
                ended = events.ToolEnded(
                    conversation=conversation_id(live.session),
                    turn=live.turn,
                    call=call_id,
                    name=live.calls[call_id].name if call_id in live.calls else "",
                    outcome=entry.outcome,
                    background=entry.background,
                    text=entry.text[:MAX_TEXT],
                    files=list(map(file_item, entry.attachments)),
                )
                self._publish(live.session, ended)
            case _:
                pass

    async def _turn_parked(self, event: bus.TurnParked) -> None:
        live = await self._live_turn(event.session, event.turn)
        self._forget(event.turn)
        if live is not None:
            if live.elsewhere is not None:
                await self._read_again(live, live.elsewhere)
            self._publish_reply(live)
            parked = events.TurnParked(
                conversation=_id(event), turn=event.turn, decisions=[f"{event.turn}.{key}" for key in sorted(live.open)]
            )
            self._publish(event.session, parked)

    async def _turn_ended(self, event: bus.TurnEnded) -> None:
        """The whole reply comes first, and the ends of runs last."""
        live = await self._live_turn(event.session, event.turn) if self._with_progress else None
        self._forget(event.turn)
        if live is not None:
            if live.elsewhere is not None:
                await self._read_again(live, live.elsewhere)
            reply = live.builder.reply()
            self._publish_decisions(live, reply)
            self._publish_whole(event.session, reply)
        messages = await self._gateway.store.read(partial(watching.read_by, turn=event.turn))
        for message in messages:
            self._publish_state(message, message.state, message.reason)
        for message in messages:
            await self._end_run(event.session, message)

    async def _live_turn(self, session: str, turn: str) -> _Live | None:
        """None if it is not stored any more."""
        if turn in self._live:
            return self._live[turn]
        view = self._gateway.conversation_view
        try:
            record = await self._record(session, turn)
        except LookupError:
            return None
        builder, active = view.builder_of(record), view.active(session, turn)
        entries = record.entries if active is None or active.turn is None else active.turn.entries
        live = self._live[turn] = _Live(session, turn, builder)
        live.elsewhere = list(entries) if active is None else None
        live.open = {segment.key for segment in _questions(builder.reply()) if segment.open}
        for entry in entries:
            if isinstance(entry, ModelAnswered):
                live.calls.update((call.id, call) for call in entry.calls)
        return live

    async def _record(self, session: str, turn: str) -> Turn:
        """Raises `LookupError`."""
        active = self._gateway.conversation_view.active(session, turn)
        return (active and active.record) or await self._gateway.store.turn(turn)

    def _forget(self, turn: str) -> None:
        self._live.pop(turn, None)
        self._dirty.pop(turn, None)

    # --- replies ---

    async def _publish_growth(self) -> None:
        """Publishes growing replies, each at most once in `PACE` seconds."""
        loop = asyncio.get_running_loop()
        while True:
            await self._grown.wait()
            self._grown.clear()
            began = loop.time()
            dirty, self._dirty = self._dirty, {}
            for live in dirty.values():
                if self._live.get(live.turn) is live:
                    self._publish_reply(live)
                await asyncio.sleep(0)
            await asyncio.sleep(max(self._pace, REST * (loop.time() - began)))

    def _publish_reply(self, live: _Live) -> None:
        """What has changed of the reply since it was published last."""
        self._dirty.pop(live.turn, None)
        is_watched = self._broadcast.is_watched(live.session)
        if is_watched and live.builder.version == live.version and live.sent is not None:
            return
        reply = live.builder.reply()
        if is_watched:
            live.version = live.builder.version
            self._publish_change(live, reply)
        self._publish_decisions(live, reply)

    def _publish_change(self, live: _Live, reply: replies.Reply) -> None:
        before, live.sent = live.sent, reply
        if before is None:
            if reply.segments or reply.status:
                self._publish_whole(live.session, reply, is_growing=True)
            else:
                live.sent = None
            return
        if before == reply:
            return
        changed = reply_change(conversation_id(live.session), before, reply)
        self._publish(live.session, changed, is_growing=True)

    def _publish_whole(self, session: str, reply: replies.Reply, *, is_growing: bool = False) -> None:
        shown = events.ReplyShown(conversation=conversation_id(session), turn=reply.id, reply=reply_item(reply))
        self._publish(session, shown, is_growing=is_growing)

    def _publish_decisions(self, live: _Live, reply: replies.Reply) -> None:
        """What is asked since the last time, and what was decided."""
        conversation = conversation_id(live.session)
        for segment in _questions(reply):
            kind: events.DecisionKind = "approval" if segment.key.startswith(APPROVAL) else "question"
            if segment.open and segment.key not in live.open:
                live.open.add(segment.key)
                expires = live.builder.expiry(segment.key)
                asked = events.DecisionAsked(
                    conversation=conversation,
                    turn=live.turn,
                    id=f"{live.turn}.{segment.key}",
                    kind=kind,
                    question=segment.question,
                    options=list(segment.options),
                    until=None if expires is None else datetime.fromtimestamp(expires, UTC),
                )
                self._publish(live.session, asked)
            elif not segment.open and segment.key in live.open:
                live.open.discard(segment.key)
                decided = events.DecisionDecided(
                    conversation=conversation,
                    turn=live.turn,
                    id=f"{live.turn}.{segment.key}",
                    kind=kind,
                    decision=segment.decision,
                    answer=segment.answer,
                )
                self._publish(live.session, decided)

    # --- conversations and channels ---

    async def _conversation_changed(self, event: bus.HistoryChanged | bus.TitleChanged) -> None:
        found = await self._gateway.store.read(partial(watching.conversation, session=event.session))
        change: events.Change
        match event, found:
            case _, None:
                change = "deleted"
            case bus.TitleChanged(), _:
                change = "title"
            case _, watching.WatchedConversation(is_empty=True):
                change = "new"
            case _:
                change = "history"
        changed = events.ConversationChanged(
            conversation=conversation_id(event.session), change=change, title=found.title if found else ""
        )
        erases = change == "deleted" or (isinstance(event, bus.HistoryChanged) and event.erased)
        self._publish(event.session, changed, renews=change != "title", erases=erases)

    def _tell_trouble(self) -> None:
        """Channels that have got into trouble since the last look, or out of it."""
        before, self._trouble = self._trouble, dict(self._gateway.problems())
        for channel, problem in self._trouble.items():
            if before.get(channel) != problem:
                self._publish("", events.ChannelTrouble(channel=channel, problem=problem))
        for channel in before.keys() - self._trouble.keys():
            self._publish("", events.ChannelOk(channel=channel))

    # --- out ---

    def _publish(
        self,
        session: str,
        event: events.Event,
        *,
        is_growing: bool = False,
        renews: bool = False,
        erases: bool = False,
    ) -> None:
        if self._broadcast.is_watched(session):
            conversation = conversation_id(session)
            self._broadcast.publish(session, conversation, partial(events.encoded, event), renews=renews, erases=erases)
        if not is_growing:
            for listener in self._listeners:
                listener(event)


async def run_ended(gateway: Gateway, message: watching.WatchedMessage) -> events.RunEnded | None:
    """The end of the run that the message has; None if it gets no answer of its own, or the run has not ended."""
    if message.run is None:
        return None
    found = (await gateway.store.followed_runs([message.run])).get(message.run)
    if found is None or not found.is_over:
        return None
    run = await describe_run(gateway, found)
    return events.RunEnded(conversation=conversation_id(message.session), turn=message.turn, run=run)


def _joined(frames: Sequence[Frame]) -> bytes:
    return frames[0].data if len(frames) == 1 else b"".join(frame.data for frame in frames)


def _id(event: bus.BusEvent) -> str:
    return conversation_id(event.session or "")


def _asks(event: AgentEvent) -> bool:
    """Whether it may open or close a question."""
    return isinstance(event, Logged) and not isinstance(event.entry, ModelAnswered)


def _questions(reply: replies.Reply) -> list[replies.QuestionSegment]:
    """Those that the turn waits for; the others are offers."""
    found = (segment for segment in reply.segments if isinstance(segment, replies.QuestionSegment))
    return [segment for segment in found if segment.step and not segment.typed]
