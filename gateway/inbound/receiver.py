"""The receiver: stores a channel's message in the inbox, then passes it on to whoever handles it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Protocol
from weakref import WeakValueDictionary

from agent.hook import Deny, HookContext, Hooks, MessageIn
from agent.interrupt import shielded
from agent.log import MessagesRead, Notice
from channels.address import Address
from channels.channel import NotStored
from channels.message import ForeignText, InboundMessage, MessageState, MessageStatus, Receipt
from gateway.bus import Bus, MessageAccepted, MessagesChanged
from gateway.inbound.access import Access, AccessCheck, AccessPolicy
from gateway.inbound.acts import Acts
from gateway.inbound.attachments import AttachmentFetcher, FetchedMessage
from gateway.inbound.command_handler import CommandHandler, WaitingStore, wake_waiting
from gateway.inbound.commands import ANSWER, FOR_ONE_MESSAGE, FOR_THE_AGENT, is_unlimited
from gateway.inbound.debounce import Debounce
from gateway.inbound.heard import Heard
from gateway.inbound.identities import Identities
from gateway.inbound.message_rate import MessageRate
from gateway.inbound.refusals import Refusals
from gateway.inbound.stop_words import asks_to_stop
from gateway.inbound.trace_command import about_answered_message
from gateway.lifecycle.tasks import BackgroundTasks
from gateway.log_context import in_conversation
from gateway.observations import Observations
from gateway.outbound.delivery import Delivery
from gateway.outbound.notices import Notices
from gateway.outbound.wording import queued_messages
from gateway.sessions import person_key, session_key
from gateway.store import records
from gateway.store.arrivals import NOT_ALLOWED
from gateway.store.edits import TOO_LATE_TO_EDIT
from gateway.store.errors import StoreError
from gateway.store.reactions import ReactionAnswer
from gateway.turns.dispatcher import Dispatcher

DENIED = "⚠️ This message was rejected: {reason}"
OVER_LIMIT = "more than {limit} messages a minute"
NOT_TAKEN = (
    "⚠️ Not taken: this message, and any that follow too soon. I take {limit} messages a minute from each person; "
    "please send it again in a minute."
)
EDITED_LATE = (
    "✏️ I had answered this message already when it was changed. To have it answered as it is now, please send it again."
)
NO_DEBOUNCE: Mapping[str, float] = {}
MANY_QUEUED = "{queued}. None is lost: I read them as soon as I can. `/stop` ends the running task."


class ReceiverStore(WaitingStore, Protocol):
    async def accept(
        self, message: InboundMessage, session: str, refused: str | None, options: records.AcceptOptions
    ) -> records.Arrival | None: ...
    async def accept_and_begin(
        self, message: InboundMessage, session: str, refused: str | None, options: records.AcceptOptions
    ) -> tuple[records.Arrival | None, records.Turn | None]: ...
    async def answer_in_reaction(self, place: Address, message_id: str, said: str) -> ReactionAnswer | None: ...
    async def count_waiting(self, session: str) -> int: ...


class Receiver:
    """Use as `async with`. Channels are given `deliver`, through the bus."""

    def __init__(
        self,
        store: ReceiverStore,
        bus: Bus,
        access: AccessPolicy,
        identities: Identities,
        hooks: Hooks,
        dispatcher: Dispatcher,
        commands: CommandHandler,
        attachments: AttachmentFetcher,
        refusals: Refusals,
        delivery: Delivery,
        notices: Notices,
        *,
        waiting_notice_at: int,
        messages_per_minute: int | None = None,
        is_shared: bool = False,
        debounce: Mapping[str, float] = NO_DEBOUNCE,
        observations: Observations | None = None,
    ) -> None:
        """People are told when `waiting_notice_at` messages are queued, and when they send more than
        `messages_per_minute`, which are refused; `is_shared`: other workers take messages of theirs too.
        `debounce` are the seconds without another message after which an idle conversation is answered, by channel."""
        self._store = store
        self._bus = bus
        self._access = access
        self._identities = identities
        self.hooks = hooks
        self._observations = observations or Observations()
        self._dispatcher = dispatcher
        self._commands = commands
        self._attachments = attachments
        self._refusals = refusals
        self._delivery = delivery
        self._notices = notices
        self.waiting_notice_at = waiting_notice_at
        self.rate = MessageRate(messages_per_minute)
        self._is_shared = is_shared
        self._acts = Acts()
        self._heard = Heard(alone=not is_shared)
        self._hook_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._reviews: set[asyncio.Future[None]] = set()
        self._tasks = BackgroundTasks("receiver: handling a message failed; it is resumed at the next start")
        self.debounce = debounce
        self._pauses = Debounce(self._tasks, self._wake_waiting)

    async def __aenter__(self) -> Receiver:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._tasks.__aexit__(*exc)

    @property
    def at_work(self) -> frozenset[asyncio.Future[None]]:
        """What handles messages, or waits for hooks."""
        return self._tasks.running | self._reviews

    def resume(self, pending: records.Pending) -> None:
        """Handles what an earlier process left: commands first, so that a stop takes effect in time."""
        for command in pending.commands:
            self._tasks.start(partial(self._commands.handle, command))
        for unfetched in pending.unfetched:
            self._fetch(unfetched.id)

    async def deliver(self, message: InboundMessage) -> Receipt | None:
        """Stores the message; see `channels.message.Deliver`. Raises `NotStored`."""
        if message.kind == "reaction":
            answer = await self._answer_in(message)
            return None if answer is None else await self._deliver_part(answer)
        *earlier, message = self._acts.complete(message)
        for part in earlier:
            await self._deliver_part(part)
        return await self._deliver_part(message)

    async def _answer_in(self, reaction: InboundMessage) -> InboundMessage | None:
        """The reaction as the pressed option or the words that it stands for. None: nothing is asked there."""
        place, on, said = reaction.address, reaction.message_id or "", reaction.text
        try:
            answer = await self._store.answer_in_reaction(place, on, said)
        except StoreError as error:
            raise NotStored(f"The gateway cannot read its store at the moment: {error}") from error
        if answer is None:
            return None
        if answer.words:
            return replace(reaction, kind="new", address=answer.address, message_id=None, text=answer.words)
        option = f"{answer.question} {answer.option}"
        return replace(reaction, kind="command", address=answer.address, command=ANSWER, text=option)

    async def _deliver_part(self, message: InboundMessage) -> Receipt | None:
        with in_conversation(message.address.channel, session_key(message.address)):
            return await self._check_and_take(message)

    async def _check_and_take(self, message: InboundMessage) -> Receipt | None:
        checked = self._access.check(message)
        access = checked.access
        if access is Access.IGNORED or self._is_for_another_bot(message):
            self._heard.note(message, None)
            return None
        is_command = message.kind == "command"
        message, busy = _for_one_message(about_answered_message(message))
        if access is Access.ADMITTED:
            message = self._commands.as_message(message, checked.level)
        if message.most_rights is not None:
            checked = checked.with_at_most(message.most_rights)
        message = replace(message, sender=replace(message.sender, level=checked.level))
        options = self._options(message, checked, busy)
        arrival = await self._take(message, access, options)
        self._heard.note(message, arrival)
        if arrival is None:
            return None
        reason = arrival.reason if arrival.state == "refused" else None
        waits = is_command and message.kind == "new" and arrival.state == "waiting"
        words = message.text if waits else None
        return Receipt(arrival.id, arrival.duplicate, reason, words, arrival.run, arrival.differs, arrival.command)

    async def _take(
        self, message: InboundMessage, access: Access, options: records.AcceptOptions
    ) -> records.Arrival | None:
        """Stores the message, as refused if its sender has sent too many."""
        limit = self.rate.per_minute
        if access is not Access.ADMITTED or _is_unlimited(message) or limit is None:
            return await self._review(message, access, options)
        reason = OVER_LIMIT.format(limit=limit)
        if self._is_shared:
            options = replace(options, limit=records.MessageLimit(limit, reason))
        if not self.rate.take(message):
            # Nobody has to review it.
            arrival = await shielded(self._accept(message, None, replace(options, over_limit=reason)))
        else:
            arrival = None
            try:
                arrival = await self._review(message, access, options)
            finally:
                if arrival is None or arrival.duplicate or arrival.over_limit or not arrival.is_stored:
                    self.rate.give_back(message)
        if arrival is not None and arrival.over_limit and not arrival.was_told and self.rate.tell(message):
            self._tell_over_limit(message, arrival, limit)
        return arrival

    async def _review(
        self, message: InboundMessage, access: Access, options: records.AcceptOptions
    ) -> records.Arrival | None:
        """Stores the message, reviewed by hooks if the agent is to read it."""
        if access is Access.ADMITTED and self._is_for_the_agent(message) and self.hooks.active("on_message"):
            return await self._review_and_accept(message, options)
        # If the caller is cancelled, the message is stored anyway; its next delivery is a duplicate.
        refused = NOT_ALLOWED if access is Access.REFUSED else None
        return await shielded(self._accept(message, refused, options))

    def _options(
        self, message: InboundMessage, checked: AccessCheck, busy: records.Busy | None
    ) -> records.AcceptOptions:
        address, sender = message.address, message.sender
        return records.AcceptOptions(
            checked.admission,
            busy,
            self._access.busy(address.channel),
            own_turn_only=not self._access.may_stop_any(address, sender),
            may_extend=self._access.may_extend(address, sender),
            names=checked.names,
            only_by_name=checked.only_by_name,
            named_level=checked.named_level,
            catches_up=self._heard.catches_up(message),
            only_known_target=message.kind == "withdrawn" and self._access.is_foreign(address.channel, sender),
            debounced=busy is None and self.debounce.get(address.channel, 0) > 0,
            speaker=checked.speaker,
            stops=busy is None and not (message.literal or message.forwarded) and asks_to_stop(message.text),
        )

    def _is_for_another_bot(self, message: InboundMessage) -> bool:
        """An unknown command in a group, not addressed to this bot."""
        return message.kind == "command" and not message.addressed and not self._commands.knows(message.command or "")

    def _is_for_the_agent(self, message: InboundMessage) -> bool:
        """Whether a model may read it; hooks review such messages. It reads the arguments of some commands, and an
        unknown command when its sender has it sent as text."""
        command = message.command or ""
        is_read = command in FOR_THE_AGENT or not self._commands.knows(command)
        return message.kind != "command" or (is_read and bool(message.text.strip()))

    async def _review_and_accept(
        self, message: InboundMessage, options: records.AcceptOptions
    ) -> records.Arrival | None:
        """Stores the message as changed by the hooks, or as refused if they deny it. One at a time in each session, so
        that no message overtakes one that hooks are reviewing."""
        session = session_key(message.address)
        lock = self._hook_locks.setdefault(session, asyncio.Lock())
        async with lock:
            if message.kind == "withdrawn":
                return await shielded(self._accept(message, None, options))
            context = HookContext(session, message.address.channel, "", message.sender.name, message.sender.id)
            reviewed = MessageIn(message.text, message.note, tuple(file.name for file in message.files))
            with self._reviewing():
                reviewed, ruled = await self.hooks.ask("on_message", context, reviewed)
            if ruled is None or not isinstance(ruled.ruling, Deny):
                message = replace(message, text=reviewed.text, note=reviewed.note)
                return await shielded(self._accept(message, None, options))
            reason = ruled.ruling.reason
            arrival = await shielded(self._accept(message, reason, options, is_denied=True))
        if arrival is not None and arrival.is_stored and not arrival.duplicate and arrival.reason == reason:
            notice, key = Notice(DENIED.format(reason=reason)), f"denied:{arrival.id}"
            self._tasks.start(partial(self._notices.send, session, message.address, message.message_id, notice, key))
        return arrival

    @contextmanager
    def _reviewing(self) -> Iterator[None]:
        """Hooks are being asked, which must stay open."""
        review = asyncio.get_running_loop().create_future()
        self._reviews.add(review)
        try:
            yield
        finally:
            self._reviews.discard(review)
            review.set_result(None)

    def _tell_over_limit(self, message: InboundMessage, arrival: records.Arrival, limit: int) -> None:
        """The person is told, once a minute, that the message was refused."""
        self._show_status(message, arrival.id, "refused", arrival.reason)
        notice, key = Notice(NOT_TAKEN.format(limit=limit)), f"rate:{arrival.id}"
        session = arrival.session
        self._tasks.start(partial(self._notices.send, session, message.address, message.message_id, notice, key))

    async def _accept(
        self, message: InboundMessage, refused: str | None, options: records.AcceptOptions, *, is_denied: bool = False
    ) -> records.Arrival | None:
        """Stores and passes on the message; one that a hook has denied (`is_denied`) is only stored."""
        message = self._with_foreign_text(message)
        try:
            arrival, is_read = await self._store_message(message, refused, options)
        except StoreError as error:
            raise NotStored(f"The gateway cannot store messages at the moment: {error}") from error
        if arrival is not None and arrival.named:
            self._identities.learn(message.address.channel, arrival.named, message.sender)
        if arrival is not None and arrival.is_stored and not arrival.duplicate:
            is_refused = arrival.state == "refused"
            self._bus.publish(MessageAccepted(arrival.session, message.address, arrival.id, is_refused))
            self._observations.received(message, arrival.id, arrival.state, arrival.reason)
            is_denied = is_denied and arrival.reason == refused
            if not is_denied and not is_read and not arrival.over_limit:
                self._pass_on(message, arrival)
            if is_read:
                arrival = replace(arrival, state="consumed")
        return arrival

    async def _store_message(
        self, message: InboundMessage, refused: str | None, options: records.AcceptOptions
    ) -> tuple[records.Arrival | None, bool]:
        """Stores the message; whether a turn has read it, which begins in the same transaction if the session is
        idle."""
        session = session_key(message.address)
        reserved = None
        if message.kind == "new" and refused is None and not options.debounced:
            by = person_key(message.address.channel, message.sender.id)
            reserved = self._dispatcher.reserve(session, by=by)
        if reserved is None:
            return await self._store.accept(message, session, refused, options), False
        turn = None
        try:
            arrival, turn = await self._store.accept_and_begin(message, session, refused, options)
        finally:
            self._dispatcher.begin(reserved, turn)
        return arrival, turn is not None and arrival is not None and _has_read(turn, arrival.id)

    def _with_foreign_text(self, message: InboundMessage) -> InboundMessage:
        """The message with what it quotes and forwards of others, who may not write here, apart from its own text."""
        channel, sender = message.address.channel, message.sender
        others = [author for author in message.quoted if author.id not in (sender.id, message.address.account)]
        strangers = [author.name for author in others if self._access.is_foreign(channel, author)]
        if not strangers:
            return message
        text = "\n".join(filter(None, (message.note, message.text if message.forwarded else "")))
        source = f"a message of {', '.join(dict.fromkeys(strangers))}"
        files = tuple(
            replace(file, foreign=source) if message.forwarded or file.is_quoted else file for file in message.files
        )
        own = "" if message.forwarded else message.text
        return replace(message, note="", text=own, files=files, foreign=(*message.foreign, ForeignText(source, text)))

    def _pass_on(self, message: InboundMessage, arrival: records.Arrival) -> None:
        if arrival.stop_reason:
            self._bus.stop(arrival.session, before=arrival.id, reason=arrival.stop_reason)
            # A parked turn is resumed to be ended.
            self._bus.wake(arrival.session, "interrupt")
        if arrival.state == "waiting" and not arrival.command and self._dispatcher.active(arrival.session) is not None:
            if message.kind != "withdrawn" and not message.is_update:
                self._show_status(message, arrival.id, "waiting")
            self._tasks.start(partial(self._notify_of_many_queued, message, arrival))
        by = person_key(message.address.channel, message.sender.id)
        if arrival.begins:
            self._pauses.hold(arrival.session, self.debounce.get(message.address.channel, 0), by)
        if arrival.command:
            self._tasks.start(partial(self._commands.handle, _command(message, arrival)))
        elif arrival.to_fetch is not None:
            if arrival.wakes is not None:
                self._bus.wake(arrival.session, arrival.wakes, by=by)
            self._fetch(arrival.to_fetch)
        elif arrival.wakes is not None and not arrival.begins:
            self._bus.wake(arrival.session, arrival.wakes, by=by)
        elif arrival.decided:
            self._bus.wake(arrival.session, "queue")
            self._show_status(message, arrival.id, "answered")
        elif arrival.reason == TOO_LATE_TO_EDIT and message.addressed:
            notice, key = Notice(EDITED_LATE), f"edited:{arrival.id}"
            args = (arrival.session, message.address, message.message_id, notice, key)
            self._tasks.start(partial(self._notices.send, *args))
        elif arrival.state == "refused" and message.address.kind == "direct":
            self._show_status(message, arrival.id, "refused", arrival.reason)
            self._tasks.start(partial(self._refusals.answer, message, arrival))
        if arrival.changed is not None:
            self._show_change(message, arrival, arrival.changed)

    def _show_status(self, message: InboundMessage, id: int, state: MessageState, reason: str = "") -> None:
        self._delivery.show_status(MessageStatus(message.address, id, message.message_id, state, None, reason))

    def _show_change(self, message: InboundMessage, arrival: records.Arrival, change: records.MessageChange) -> None:
        """The new state of the earlier message that this one has edited or withdrawn."""
        address = message.address
        self._delivery.show_status(
            MessageStatus(address, change.id, change.message_id, change.state, None, change.reason)
        )
        self._bus.publish(MessagesChanged(arrival.session, address, (change.id,), change.state, change.reason))

    async def _notify_of_many_queued(self, message: InboundMessage, arrival: records.Arrival) -> None:
        """Once a turn."""
        active = self._dispatcher.active(arrival.session)
        count = await self._store.count_waiting(arrival.session)
        if count >= self.waiting_notice_at and active is not None and active.record is not None:
            key = f"many:{active.record.id}"
            notice = Notice(MANY_QUEUED.format(queued=queued_messages(count)))
            await self._notices.send(arrival.session, message.address, None, notice, key)

    def _fetch(self, row_id: int) -> None:
        self._tasks.start(partial(self._attachments.fetch, row_id, self._fetched))

    async def _fetched(self, fetched: FetchedMessage) -> None:
        """A message can be read, or its late files can."""
        row = fetched.row
        if row.files and row.follows is None:
            # It has files now.
            self._bus.publish(MessagesChanged(row.session, row.address, (row.id,), "waiting"))
        if not self._pauses.is_waiting(row.session):
            await self._wake_waiting(row.session, person_key(row.address.channel, row.sender))
        if fetched.missing:
            # The model is told too, but might not pass it on.
            notice = Notice("\n\n".join(f"⚠️ {missing}" for missing in fetched.missing))
            await self._notices.send(row.session, row.address, None, notice, f"files:{row.id}")

    async def _wake_waiting(self, session: str, by: str) -> None:
        await wake_waiting(self._store, self._bus, session, by=by)


def _for_one_message(message: InboundMessage) -> tuple[InboundMessage, records.Busy | None]:
    """A command like "/queue …" as a message, with what it does to a running turn."""
    busy = FOR_ONE_MESSAGE.get(message.command or "")
    if busy is None or not (message.text.strip() or message.files):
        return message, message.busy
    return replace(message, kind="new", command=None), busy


def _is_unlimited(message: InboundMessage) -> bool:
    """Whether it is taken however many messages its sender has sent."""
    if message.kind == "command":
        return is_unlimited(message.command or "")
    return message.kind == "withdrawn" or message.is_update or message.most_rights is not None


def _has_read(turn: records.Turn, row: int) -> bool:
    read = (entry for entry in turn.entries if isinstance(entry, MessagesRead))
    return any(message.id == row for entry in read for message in entry.messages)


def _command(message: InboundMessage, arrival: records.Arrival) -> records.Command:
    return records.Command(
        id=arrival.id,
        session=arrival.session,
        address=message.address,
        sender=message.sender,
        message_id=message.message_id,
        name=arrival.command,
        arguments=message.text if message.kind == "command" else "",
    )
