"""Carries out stored commands and pressed buttons, and stores and shows their answers."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import Protocol, assert_never

from agent.log import Notice
from channels.message import InboundMessage, MessageStatus
from gateway.bus import Bus, MessagesChanged
from gateway.inbound.access import AccessPolicy
from gateway.inbound.commands import ANSWER, AS_TEXT, PAIR, Commands
from gateway.inbound.refusals import PAIRING_KEY
from gateway.inbound.task_commands import stopped_reply
from gateway.lifecycle.retry import retry_until_stored
from gateway.outbound.delivery import Delivery
from gateway.outbound.notices import Notices
from gateway.outbound.reply_builder import RETRY, SUGGESTED
from gateway.outbound.wording import escaped
from gateway.store import records
from gateway.store.errors import StoreError

log = logging.getLogger(__name__)

ALREADY_ANSWERED = "That question has been answered already."
MAY_NOT_ANSWER = "Only people with the rights of the person who started the task may answer this."
NOT_ASKED = "Only the person who started the task is asked this, and answers it once."
NOT_SUGGESTED = "That belongs to an earlier conversation, or was removed. Please write what you want."
NOT_SENT = "Not sent: it was sent already, or it is somebody else's."
MAY_NOT_DECIDE = "Only admins and the person who started the task may decide this."
MAY_ONLY_STOP = "You may not let a task go beyond a limit here, but you may stop it."

_OPTION = re.compile("[0-9]{1,3}")


class WaitingStore(Protocol):
    async def waiting_busy(self, session: str) -> records.Busy | None: ...


class CommandStore(WaitingStore, Protocol):
    async def answer(self, command_id: int, notice: Notice) -> str: ...
    async def choose(self, command_id: int, question: str, option: int) -> records.ChoiceOutcome: ...
    async def send_as_text(self, command_id: int, unknown: int) -> bool: ...
    async def say_suggested(self, command_id: int, turn_id: str, place: int, option: int) -> bool: ...
    async def decide(
        self, command_id: int, key: str, number: int, may_decide: bool, may_extend: bool
    ) -> records.DecisionResult: ...


class CommandHandler:
    def __init__(
        self,
        store: CommandStore,
        bus: Bus,
        access: AccessPolicy,
        commands: Commands,
        delivery: Delivery,
        notices: Notices,
    ) -> None:
        self._store = store
        self._bus = bus
        self._access = access
        self._commands = commands
        self._delivery = delivery
        self._notices = notices

    def knows(self, name: str) -> bool:
        return self._commands.knows(name)

    def as_message(self, message: InboundMessage, level: int) -> InboundMessage:
        """A command that begins a message, as the message that it is; any other message unchanged."""
        return self._commands.as_message(message, level)

    async def handle(self, command: records.Command) -> None:
        """Carries out the command and stores its answer. Until then, no later message of the session is read."""
        is_press = _is_press(command)
        command = _as_typed(command)
        answer = await (self._press(command) if command.name == ANSWER else self._run(command))
        if answer is not None:
            notice = answer if isinstance(answer, Notice) else Notice(answer)
            await self._show_answer(command, notice, is_press=is_press)
        await wake_waiting(self._store, self._bus, command.session)

    async def _show_answer(self, command: records.Command, notice: Notice, *, is_press: bool) -> None:
        turn_id = await retry_until_stored(
            lambda: self._store.answer(command.id, notice), "a command's answer cannot be stored"
        )
        if not is_press:
            self._delivery.show_status(MessageStatus(command.address, command.id, command.message_id, "answered"))
        self._bus.publish(MessagesChanged(command.session, command.address, (command.id,), "answered"))
        self._notices.show(turn_id, command.address, command.message_id, notice)

    async def _run(self, command: records.Command) -> str | Notice | None:
        """The answer. A failure here affects only this command."""
        try:
            return await self._commands.answer(command)
        except StoreError as error:
            return f"⚠️ `/{command.name}` did not work: {error}"
        except Exception:
            log.exception("command /%s failed", command.name)
            return f"⚠️ `/{command.name}` did not work: internal error in the gateway; details are in its log"

    async def _press(self, command: records.Command) -> str | None:
        """A pressed option. None if it has answered its question or decided an approval."""
        question, number = _pressed_option(command)
        if question.startswith(AS_TEXT):
            return await self._send_as_text(command, question.removeprefix(AS_TEXT))
        if question.startswith(SUGGESTED):
            return await self._say_suggested(command, question.removeprefix(SUGGESTED), number)
        outcome = await retry_until_stored(
            lambda: self._store.choose(command.id, question, number), "a chosen answer cannot be stored"
        )
        match outcome:
            case "chosen":
                return None
            case "not_allowed":
                return MAY_NOT_ANSWER
            case "not_yours":
                return NOT_ASKED
            case "not_open":
                return await self._decide(command, question, number)
            case _:
                assert_never(outcome)

    async def _send_as_text(self, command: records.Command, unknown: str) -> str | None:
        sent = unknown.isdecimal() and await retry_until_stored(
            lambda: self._store.send_as_text(command.id, int(unknown)), "a text cannot be stored"
        )
        return None if sent else NOT_SENT

    async def _say_suggested(self, command: records.Command, key: str, option: int) -> str | None:
        turn_id, _, place = key.partition(":")
        if _OPTION.fullmatch(place) is None:
            return NOT_SUGGESTED
        said = await retry_until_stored(
            lambda: self._store.say_suggested(command.id, turn_id, int(place), option),
            "a suggested reply cannot be stored",
        )
        return None if said else NOT_SUGGESTED

    async def _decide(self, command: records.Command, question: str, number: int) -> str | None:
        may_decide = self._access.may_stop_any(command.address, command.sender)
        may_extend = self._access.may_extend(command.address, command.sender)
        result = await retry_until_stored(
            lambda: self._store.decide(command.id, question, number, may_decide, may_extend),
            "a decision cannot be stored",
        )
        match result.outcome:
            case "decided":
                self._bus.wake(command.session, "queue")
                return None
            case "not_allowed":
                return MAY_NOT_DECIDE
            case "may_only_stop":
                return MAY_ONLY_STOP
            case "not_open":
                return _earlier_decision(result)
            case _:
                assert_never(result.outcome)


async def wake_waiting(store: WaitingStore, bus: Bus, session: str, *, by: str = "") -> None:
    """Wakes the session if messages can be read now that waited for a command or for files."""
    busy = await retry_until_stored(lambda: store.waiting_busy(session), "the inbox cannot be read")
    if busy is not None:
        bus.wake(session, busy, by=by)


def _pressed_option(command: records.Command) -> tuple[str, int]:
    """The question's key, and the option's number; -1 if it has none."""
    question, _, option = command.arguments.rpartition(" ")
    return question, int(option) if _OPTION.fullmatch(option) else -1


def _earlier_decision(result: records.DecisionResult) -> str:
    by = escaped(result.by) if result.by else "Somebody"
    match result.decision:
        case "allowed" | "allowed_always":
            return f"{by} has allowed it already."
        case "denied":
            return f"{by} has denied it already."
        case _:
            return ALREADY_ANSWERED


def _as_typed(command: records.Command) -> records.Command:
    """A press of a button that does what a typed command does, as that command."""
    question, _ = _pressed_option(command)
    if command.name == ANSWER:
        for key, name in ((PAIRING_KEY, PAIR), (RETRY, "retry")):
            if question.startswith(key):
                return replace(command, name=name, arguments=question.removeprefix(key))
    return command


def _is_press(command: records.Command) -> bool:
    """Whether it comes from a button: its message is then one of the bot's."""
    return command.name == ANSWER or bool(stopped_reply(command))
