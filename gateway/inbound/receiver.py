"""Intake: from a channel's message to a committed inbox row, and on to whoever deals with it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Protocol, assert_never
from weakref import WeakValueDictionary

from agent.hook import Deny, HookContext, Hooks, MessageIn
from agent.interrupt import shielded
from agent.log import Notice
from channels.address import Address, Sender
from channels.channel import NotStored
from channels.message import InboundMessage, MessageState, MessageStatus, Receipt
from gateway.bus import Bus, MessageAccepted, MessagesChanged
from gateway.inbound.access import Access, AccessPolicy
from gateway.inbound.attachments import Fetching
from gateway.inbound.commands import ANSWER, FOR_ONE_MESSAGE, FOR_THE_AGENT, PAIR, Commands, reply_to_stop
from gateway.lifecycle.retry import retry_until_stored
from gateway.lifecycle.tasks import BackgroundTasks
from gateway.outbound.delivery import Delivery
from gateway.outbound.notices import Notices
from gateway.sessions import session_key
from gateway.store import records
from gateway.store.errors import StoreError
from gateway.turns.dispatcher import Dispatcher

log = logging.getLogger(__name__)

NOT_ALLOWED = "Sorry, I only answer people my operator has allowed. (Your id here is `{id}`.)"
PAIR_BUTTON = "pair:"
"""Before the code, in the key of the question that admins are asked."""

WANTS_IN = "**{name}** asks to be let in, and may talk to me if you agree."
ASK_AN_ADMIN = (
    "I do not know you yet. Your code is `{code}`. Ask an admin to let you in: they write `/pair {code}` to me, or run "
    "`interject pair approve {code}`. The code is good for an hour."
)
DENIED = "⚠️ I may not read this: {reason}"
NO_LONGER_OPEN = "That question has been answered already."
PARKS_WITHIN = 0.05
MANY = "{count} messages wait to be read. Nothing is lost: I read them as soon as I can. `/stop` ends what runs."


_OPTION = re.compile("[0-9]{1,3}")


class ReceiverStore(Protocol):
    async def accept(
        self, message: InboundMessage, session: str, refused: str | None, options: records.AcceptOptions
    ) -> records.Arrival | None: ...
    async def answer(self, command_id: int, text: str) -> str: ...
    async def waiting_busy(self, session: str) -> records.Busy | None: ...
    async def choose(self, command_id: int, question: str, option: int) -> bool: ...
    async def decide(
        self, command_id: int, key: str, number: int, may_decide: bool, may_extend: bool
    ) -> records.DecisionResult: ...
    async def count_waiting(self, session: str) -> int: ...
    async def direct_chats(self, channel: str, people: Collection[str]) -> tuple[tuple[str, Address], ...]: ...
    async def request_pairing(
        self, channel: str, sender: Sender, session: str, address: Address
    ) -> records.Pairing | None: ...


class Receiver:
    """Use as `async with`. `deliver` is what channels are given."""

    def __init__(
        self,
        store: ReceiverStore,
        access: AccessPolicy,
        hooks: Hooks,
        bus: Bus,
        dispatcher: Dispatcher,
        commands: Commands,
        delivery: Delivery,
        notices: Notices,
        fetching: Fetching,
        *,
        many: int,
    ) -> None:
        """`many` is the number of waiting messages that a person is told of."""
        self._store = store
        self._access = access
        self._hooks = hooks
        self._reviewing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._bus = bus
        self._dispatcher = dispatcher
        self._commands = commands
        self._delivery = delivery
        self._notices = notices
        self._fetching = fetching
        self._many = many
        self._tasks = BackgroundTasks("intake: handling a message broke; it is taken up again at the next start")

    async def __aenter__(self) -> Receiver:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._tasks.__aexit__(*exc)

    async def deliver(self, message: InboundMessage) -> Receipt | None:
        """Keeps the message; see `channels.message.Deliver`. Raises `NotStored`."""
        decision, admission = self._access.check(message)
        if decision is Access.NOT_OURS or self._is_for_another_bot(message):
            return None
        refused = "not on the allow list" if decision is Access.REFUSED else None
        message, busy = _for_one_message(message)
        own_turn_only = not self._commands.may_stop_all(message.address, message.sender)
        may_extend = self._access.may_extend(message.address, message.sender)
        options = records.AcceptOptions(
            admission, busy, self._access.busy(message.address.channel), own_turn_only, may_extend
        )
        if refused is None and _is_for_the_agent(message) and self._hooks.active("on_message"):
            arrival = await self._accept_in_turn(message, options)
        else:
            # A caller that is cancelled has kept it all the same, and will be told of a duplicate the next time.
            arrival = await shielded(self._accept(message, refused, options))
        if arrival is None:
            return None
        reason = arrival.reason if arrival.state == "refused" else None
        return Receipt(arrival.id, arrival.duplicate, reason, None if busy is None else message.text, arrival.run)

    async def _accept_in_turn(self, message: InboundMessage, options: records.AcceptOptions) -> records.Arrival | None:
        """Keeps it as the hooks leave it, or refused if they deny it; one after another in each conversation, so that
        nothing overtakes a message which they look at."""
        session = session_key(message.address)
        lock = self._reviewing.setdefault(session, asyncio.Lock())
        async with lock:
            if message.kind == "withdrawn":
                return await shielded(self._accept(message, None, options))
            hook_context = HookContext(session, message.address.channel, "", message.sender.name, message.sender.id)
            seen = MessageIn(message.text, message.note, tuple(file.name for file in message.files))
            seen, ruled = await self._hooks.ask("on_message", hook_context, seen)
            if ruled is None or not isinstance(ruled.ruling, Deny):
                return await shielded(self._accept(replace(message, text=seen.text, note=seen.note), None, options))
            arrival = await shielded(self._accept(message, ruled.ruling.reason, options, told=False))
        if arrival is not None and not arrival.duplicate:
            told = Notice(DENIED.format(reason=ruled.ruling.reason))
            key = f"denied:{arrival.id}"
            self._tasks.start(partial(self._notices.say, session, message.address, message.message_id, told, key))
        return arrival

    def _is_for_another_bot(self, message: InboundMessage) -> bool:
        """A command in other people's talk that is none of ours."""
        return message.kind == "command" and not message.addressed and not self._commands.knows(message.command or "")

    async def _accept(
        self, message: InboundMessage, refused: str | None, options: records.AcceptOptions, *, told: bool = True
    ) -> records.Arrival | None:
        try:
            arrival = await self._store.accept(message, session_key(message.address), refused, options)
        except StoreError as error:
            raise NotStored(f"The gateway cannot keep messages just now: {error}") from error
        if arrival is not None and not arrival.duplicate:
            is_refused = arrival.state == "refused"
            self._bus.publish(MessageAccepted(arrival.session, message.address, arrival.id, is_refused))
            if told:
                self._go_on(message, arrival)
        return arrival

    def resume(self, pending: records.Pending) -> None:
        """Goes on with what an earlier process left: commands first, so that a stop is still in time."""
        for command in pending.commands:
            self._tasks.start(partial(self._answer, command))
        for unfetched in pending.unfetched:
            self._tasks.start(partial(self._fetch, unfetched.id))

    def _go_on(self, message: InboundMessage, arrival: records.Arrival) -> None:
        if arrival.stop_reason:
            self._bus.stop(arrival.session, before=arrival.id, reason=arrival.stop_reason)
            # Of a parked turn nothing runs: it is taken up to be ended.
            self._bus.wake(arrival.session, "interrupt")
        if arrival.state == "waiting" and not arrival.command and self._dispatcher.active(arrival.session) is not None:
            if message.kind != "withdrawn":
                self._mark(message, arrival.id, "waiting")
            self._tasks.start(partial(self._tell_of_many, message, arrival))
        if arrival.command:
            self._tasks.start(partial(self._answer, _command(message, arrival)))
        elif arrival.to_fetch is not None:
            self._tasks.start(partial(self._fetch, arrival.to_fetch))
        elif arrival.wakes is not None:
            self._bus.wake(arrival.session, arrival.wakes)
        elif arrival.decided:
            self._bus.wake(arrival.session, "queue")
            self._mark(message, arrival.id, "answered")
        elif arrival.state == "refused" and message.address.kind == "direct":
            self._mark(message, arrival.id, "refused", arrival.reason)
            self._tasks.start(partial(self._refuse, message, arrival))
        changed = arrival.changed
        if changed is not None:
            mark = MessageStatus(message.address, changed.id, changed.message_id, changed.state, None, changed.reason)
            self._delivery.mark(mark)
            self._bus.publish(
                MessagesChanged(arrival.session, message.address, (changed.id,), changed.state, changed.reason)
            )

    def _mark(self, message: InboundMessage, id: int, state: MessageState, reason: str = "") -> None:
        self._delivery.mark(MessageStatus(message.address, id, message.message_id, state, None, reason))

    async def _answer(self, command: records.Command) -> None:
        """Carries a command out and keeps its answer, before which nothing that was said later is read."""
        is_press = _is_press(command)
        command = _let_in(command)
        if command.name == ANSWER and await self._choose(command):
            await self._wake(command.session)
            return
        text = await self._decide(command) if command.name == ANSWER else await self._carry_out(command)
        if text is None:
            await self._wake(command.session)
            return
        turn_id = await retry_until_stored(
            lambda: self._store.answer(command.id, text), "a command's answer cannot be kept"
        )
        if not is_press:
            self._delivery.mark(MessageStatus(command.address, command.id, command.message_id, "answered"))
        self._bus.publish(MessagesChanged(command.session, command.address, (command.id,), "answered"))
        self._notices.show(turn_id, command.address, command.message_id, Notice(text))
        await self._wake(command.session)

    async def _wake(self, session: str) -> None:
        """What kept messages from being read is gone."""
        waits = await retry_until_stored(lambda: self._store.waiting_busy(session), "the inbox cannot be read")
        if waits is not None:
            self._bus.wake(session, waits)

    async def _choose(self, command: records.Command) -> bool:
        """Whether the pressed option now answers its question, as a message in its place in the inbox."""
        question, _, option = command.arguments.rpartition(" ")
        number = int(option) if _OPTION.fullmatch(option) else -1
        return await retry_until_stored(
            lambda: self._store.choose(command.id, question, number), "a chosen answer cannot be kept"
        )

    async def _decide(self, command: records.Command) -> str | None:
        """What to tell whoever pressed a button that answers no question; None if it has decided something."""
        question, _, option = command.arguments.rpartition(" ")
        number = int(option) if _OPTION.fullmatch(option) else -1
        allowed = self._commands.may_stop_all(command.address, command.sender)
        may_extend = self._access.may_extend(command.address, command.sender)
        while True:
            decision = await retry_until_stored(
                lambda: self._store.decide(command.id, question, number, allowed, may_extend),
                "a decision cannot be kept",
            )
            match decision.outcome:
                case "decided":
                    self._bus.wake(command.session, "queue")
                    return None
                case "too_early":
                    await self._until_parked(command.session)
                case "not_allowed":
                    return "Only admins, or whoever asked for it, may decide this."
                case "not_open":
                    return NO_LONGER_OPEN if decision.decision is None else _decided_before(decision)
                case _:
                    assert_never(decision.outcome)

    async def _until_parked(self, session: str) -> None:
        """The question is seen a moment before its turn is parked."""
        live = self._dispatcher.active(session)
        with suppress(TimeoutError):
            async with asyncio.timeout(PARKS_WITHIN):
                await (asyncio.Event() if live is None else live.ended).wait()

    async def _carry_out(self, command: records.Command) -> str | None:
        """What to tell the person. This is the edge at which a broken command costs itself only."""
        try:
            return await self._commands.answer(command)
        except StoreError as error:
            return f"⚠️ `/{command.name}` did not work: {error}"
        except Exception:
            log.exception("command /%s broke", command.name)
            return f"⚠️ `/{command.name}` did not work: something broke inside the gateway; its log has the details"

    async def _refuse(self, message: InboundMessage, arrival: records.Arrival) -> None:
        """Told once, or with a code whenever the last one has expired."""
        text, key = NOT_ALLOWED.format(id=message.sender.id.replace("`", "")), f"refused:{arrival.id}"
        if self._access.pairs(message.address.channel):
            address = message.address
            pair = await self._store.request_pairing(address.channel, message.sender, arrival.session, address)
            if pair is None:
                return
            text, key = ASK_AN_ADMIN.format(code=pair.code), f"pair:{pair.code}"
            await self._ask_admins(pair)
        elif not arrival.first_refusal:
            return
        await self._notices.say(arrival.session, message.address, message.message_id, Notice(text), key)

    async def _ask_admins(self, pair: records.Pairing) -> None:
        """With a button, wherever admins have talked to the bot directly."""
        name = f"{pair.sender.name} ({pair.sender.id})" if pair.sender.name else pair.sender.id
        told = Notice(WANTS_IN.format(name=name), ("Let in",), f"{PAIR_BUTTON}{pair.code}")
        for session, address in await self._store.direct_chats(pair.channel, self._access.admins(pair.channel)):
            await self._notices.say(session, address, None, told, f"{told.key}:{session}")

    async def _tell_of_many(self, message: InboundMessage, arrival: records.Arrival) -> None:
        """Once a turn, when more wait than people would think."""
        live = self._dispatcher.active(arrival.session)
        count = await self._store.counts(arrival.session)
        if count >= self._many and live is not None and live.record is not None:
            key = f"many:{live.record.id}"
            told = Notice(MANY.format(count=count))
            await self._notices.say(arrival.session, message.address, None, told, key)

    async def _fetch(self, row_id: int) -> None:
        completed = await self._fetching.complete(row_id)
        if completed is None:
            return
        row = completed.row
        await self._wake(row.session)
        if completed.missing:
            # The model is told too, and may say so in its own way; whether it does is not left to it.
            told = Notice("\n\n".join(f"⚠️ {missing}" for missing in completed.missing))
            await self._notices.say(row.session, row.address, None, told, f"files:{row.id}")


def _decided_before(decision: records.DecisionResult) -> str:
    by = decision.by or "Somebody"
    match decision.decision:
        case "allowed" | "allowed_always":
            return f"{by} has allowed it already."
        case "denied":
            return f"{by} has denied it already."
        case _:
            return NO_LONGER_OPEN


def _let_in(command: records.Command) -> records.Command:
    """An admin's press of the button is the command that they could have written."""
    question, _, _ = command.arguments.rpartition(" ")
    if command.name != ANSWER or not question.startswith(PAIR_BUTTON):
        return command
    return replace(command, name=PAIR, arguments=question.removeprefix(PAIR_BUTTON))


def _is_press(command: records.Command) -> bool:
    """Whether a button said it: its message is then one of ours."""
    return command.name == ANSWER or bool(reply_to_stop(command))


def _for_one_message(message: InboundMessage) -> tuple[InboundMessage, records.Busy | None]:
    """A command like "/queue …" is a message that says itself what it does to a running turn."""
    busy = FOR_ONE_MESSAGE.get(message.command or "")
    if busy is None or not (message.text.strip() or message.files):
        return message, None
    return replace(message, kind="new", command=None), busy


def _is_for_the_agent(message: InboundMessage) -> bool:
    """Whether it is for the agent to read, as the words behind some commands are; hooks look at that."""
    return message.kind != "command" or (message.command in FOR_THE_AGENT and bool(message.text.strip()))


def _command(message: InboundMessage, arrival: records.Arrival) -> records.Command:
    return records.Command(
        id=arrival.id,
        session=arrival.session,
        address=message.address,
        sender=message.sender,
        message_id=message.message_id,
        name=message.command or "",
        arguments=message.text,
    )
