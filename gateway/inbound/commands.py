"""Commands: what people say to the gateway rather than to the agent. They never wait behind a turn."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from agent.log import Notice
from channels.address import Address, Sender
from channels.channel import CommandHelp
from gateway.bus import Bus
from gateway.outbound.notices import Notices
from gateway.outbound.reply_builder import ASKED_TO_STOP
from gateway.outbound.wording import bill, duration, messages, quoted, were
from gateway.store.records import Busy, Command, Pairing, Turn, UndoneTurn
from gateway.turns.background import BackgroundWork
from gateway.turns.budgets import UsageStore, midnight, person_on
from gateway.turns.dispatcher import ActiveTurn, Dispatcher
from gateway.turns.history_cache import HistoryCache

_REPLY_ID = re.compile("[0-9a-f]{32}")

STOP_WITHIN = 5.0
"""Seconds a stop command waits for the turn's end to be written before it answers without."""


ANSWER = "answer"
"""What a pressed option of a question says; people do not type it."""

FOR_ONE_MESSAGE: Mapping[str, Busy] = {"queue": "queue", "steer": "steer"}
"""Commands that say of the message after them what it does while something runs."""

FOR_THE_AGENT = ("wrap", "btw")
"""Commands whose words the agent reads."""

PAIR = "pair"

ALL = "all"

MOST_ASIDES = 3
"""Questions on the side that are answered at once in a conversation."""

USUAL_MODEL = "usual"

LET_IN = "You have been let in. What can I do for you?"

_BUSY: Mapping[Busy, str] = {
    "steer": "is read at once by what runs",
    "queue": "waits until it is done, and is then read by itself",
    "collect": "waits until it is done, and is then read together with the others that wait",
    "interrupt": "stops it, and is read instead",
}

_ALIASES = {"start": "help", "cancel": "stop", "reset": "new"}


class CommandStore(UsageStore, Protocol):
    async def reset_session(self, session: str) -> None: ...
    async def count_waiting(self, session: str) -> int: ...
    async def unfinished(self, session: str) -> Turn | None: ...
    async def stop_parked(self, session: str, reason: str) -> bool: ...
    async def open_question(self, session: str) -> str | None: ...
    async def set_busy(self, session: str, busy: Busy) -> None: ...
    async def approve_pairing(self, code: str) -> Pairing | None: ...
    async def wrap(self, command_id: int) -> bool: ...
    async def begin_side_question(self, command_id: int) -> Turn: ...
    async def undo(self, session: str) -> UndoneTurn | None: ...
    async def retry(self, command_id: int) -> bool: ...
    async def newest_turn(self, session: str) -> str | None: ...
    async def set_model(self, session: str, name: str | None) -> None: ...
    async def model_of(self, session: str) -> str | None: ...


@dataclass(frozen=True, slots=True)
class _Entry:
    help: str
    run: Callable[[Command], Awaitable[str | None]]
    arguments: str = ""


class Commands:
    """`answer` runs a command and returns what to tell the person, as markdown.

    What must take effect at once (stopping) does so before the first await. `trouble` tells what is wrong with the
    gateway's parts, a line each; `is_admin` whether somebody may do what others may not; `models` are the names of
    those that a conversation may choose from.
    """

    def __init__(
        self,
        store: CommandStore,
        bus: Bus,
        dispatcher: Dispatcher,
        histories: HistoryCache,
        notices: Notices,
        background: BackgroundWork,
        trouble: Callable[[], Mapping[str, str]],
        is_admin: Callable[[Address, Sender], bool],
        models: Sequence[str] = (),
    ) -> None:
        self._store = store
        self._bus = bus
        self._dispatcher = dispatcher
        self._histories = histories
        self._notices = notices
        self._background = background
        self._trouble = trouble
        self._is_admin = is_admin
        self._models = models
        self._table = {
            "stop": _Entry("stop what is running now, or with it all background work", self._stop, ALL),
            "wrap": _Entry("let what runs come to its end and sum up", self._wrap, "message"),
            "btw": _Entry("ask something on the side, without touching what runs", self._aside, "question"),
            "undo": _Entry("take the last task out of what I remember", self._undo),
            "retry": _Entry("take the last task out and do it again", self._retry),
            "new": _Entry("begin a new conversation", self._new),
            "status": _Entry("show what is running", self._status),
            "steer": _Entry("this message is read at once by what runs", self._say_how, "message"),
            "queue": _Entry("this message waits until what runs is done", self._say_how, "message"),
            "busy": _Entry("choose what your messages do while something runs", self._busy, " | ".join(_BUSY)),
            "model": _Entry("show or choose the model that answers here", self._model, "name"),
            "usage": _Entry("show what was used and what it cost", self._usage),
            PAIR: _Entry("let somebody in who was given this code (admins)", self._pair, "code"),
            "help": _Entry("show these commands", self._help),
        }

    def list(self) -> tuple[CommandHelp, ...]:
        return tuple(CommandHelp(name, entry.help, entry.arguments) for name, entry in self._table.items())

    def may_stop_all(self, address: Address, sender: Sender) -> bool:
        """Whether they may stop whatever runs there: in groups, only admins and whoever it was begun for may."""
        return address.kind == "direct" or self._is_admin(address, sender)

    def knows(self, name: str) -> bool:
        return name == ANSWER or _ALIASES.get(name, name) in self._table

    async def answer(self, command: Command) -> str | None:
        """None: the command has become a message, or a question on the side, and is answered as such."""
        entry = self._table.get(_ALIASES.get(command.name, command.name))
        if entry is None:
            return f"There is no command `/{command.name}`.\n\n{await self._help(command)}"
        return await entry.run(command)

    async def _stop(self, command: Command) -> str:
        pressed = reply_to_stop(command)
        if pressed:
            turn = await self._at_work(command.session)
            if turn is None or turn.id != pressed:
                return "That task has already ended."
        if refusal := await self._refusal(command):
            return refusal
        ended = await self._end_all(command, _why_stopped(command))
        also = command.arguments.strip().lower() == ALL
        if also and not self.may_stop_all(command.address, command.sender):
            return f"{ended} Only admins may stop what goes on in the background here.".lstrip()
        beside = await self._background.stop_all(command.session) if also else ()
        names = ", ".join(f"{item.handle} ({item.title})" for item in beside)
        told = " ".join(filter(None, (ended, names and f"Stopped in the background: {names}.")))
        return told or "Nothing is running, so there was nothing to stop."

    async def _refusal(self, command: Command) -> str:
        """Why they may not stop what runs there, "" if they may."""
        if self.may_stop_all(command.address, command.sender):
            # Nothing is awaited on the way to a person's own stop.
            return ""
        turn = await self._at_work(command.session)
        if turn is None or turn.principal.id == command.sender.id:
            return ""
        return f"Only {turn.principal.name or 'whoever asked for it'} and admins may stop this."

    async def _at_work(self, session: str) -> Turn | None:
        """The turn that runs there or is parked."""
        live = self._dispatcher.active(session)
        running = None if live is None else live.record
        return running or await self._store.unfinished(session)

    async def _wrap(self, command: Command) -> str | None:
        if refusal := await self._refusal(command):
            return refusal
        return None if await self._store.wrap(command.id) else "Nothing is running, so there is nothing to wrap up."

    async def _aside(self, command: Command) -> str | None:
        if not command.arguments.strip():
            return "Write your question behind it: `/btw what was the name of that file?`."
        if self._dispatcher.side_questions(command.session) >= MOST_ASIDES:
            return f"{MOST_ASIDES} questions on the side are being answered here. Please ask again in a moment."
        self._dispatcher.begin_side_question(await self._store.begin_side_question(command.id))
        return None

    async def _undo(self, command: Command) -> str:
        if not self.may_stop_all(command.address, command.sender):
            return await self._not_while_running(command)
        # Written in the first breath, like a second try: of several such commands each finds what the last has left.
        undone = await self._store.undo(command.session)
        if undone is None:
            return await self._not_while_running(command) or "There is no task here to take out."
        self._histories.forget(command.session)
        words = quoted(" ".join(undone.texts))
        return f"Taken out: {words}. I no longer know of it; what it did in the world stays done."

    async def _retry(self, command: Command) -> str | None:
        if not self.may_stop_all(command.address, command.sender):
            return await self._not_while_running(command)
        # Written in the first breath: a stop that comes next covers what is done again.
        if not await self._store.retry(command.id):
            return await self._not_while_running(command) or "There is no task here to do again."
        self._histories.forget(command.session)
        return None

    async def _not_while_running(self, command: Command) -> str:
        """Why the last task cannot be taken out, "" if it can."""
        if not self.may_stop_all(command.address, command.sender):
            return f"Only admins may do that here: `/{command.name}` changes what everybody said."
        if await self._at_work(command.session) is not None:
            return f"Something is running. `/stop` it first, then `/{command.name}`."
        return ""

    async def _model(self, command: Command) -> str:
        name = command.arguments.strip()
        if not name:
            current = await self._store.model_of(command.session) or "the usual one"
            known = "\n".join(f"- `/model {model}`" for model in (*self._models, USUAL_MODEL))
            return f"Here answers {current}.\n\n{known}"
        if name not in (*self._models, USUAL_MODEL):
            return f"There is no model `{name}`. {await self._model(replace(command, arguments=''))}"
        await self._store.set_model(command.session, None if name == USUAL_MODEL else name)
        return f"From the next task on, {'the usual model' if name == USUAL_MODEL else f'`{name}`'} answers here."

    async def _usage(self, command: Command) -> str:
        today, person = midnight(), person_on(command.address, command.sender)
        here = await self._store.spent(session=command.session)
        yours = await self._store.spent(person=person, since=today)
        lines = [f"This conversation: {bill(here)}", f"You, today: {bill(yours)}"]
        newest = await self._store.newest_turn(command.session)
        if newest is not None:
            lines.insert(0, f"The last task: {bill(await self._store.spent(turn=newest))}")
        if self._is_admin(command.address, command.sender):
            lines.append(f"Everybody, today: {bill(await self._store.spent(since=today))}")
        if here.estimated or yours.estimated:
            lines.append("_Some of it is estimated: calls that failed or were stopped are not counted by providers._")
        if here.unpriced or yours.unpriced:
            lines.append("_Some models have no known price, and count as free here._")
        return "\n\n".join(lines)

    async def _new(self, command: Command) -> str:
        if refusal := await self._refusal(command):
            return refusal
        ended = await self._end_all(command, "a new conversation was begun")
        await self._store.renew(command.session)
        self._histories.forget(command.session)
        return f"{ended}\n\nA new conversation begins here.".strip()

    async def _end_all(self, command: Command, reason: str) -> str:
        """Stops the running turn and sets aside what waits; says what that was, "" if there was nothing."""
        live = self._dispatcher.stop(command.session, before=command.id, reason=reason)
        what = _what_runs(live) if live is not None and live.turn is not None else ""
        # Asked for before anything else can be: no turn begins with what this sets aside.
        aside = await self._dispatcher.withdraw_waiting(command.address, before=command.id, reason=reason)
        if not what and await self._store.stop_parked(command.session, reason):
            what = "waiting for your answer."
            self._bus.wake(command.session)
            live = self._dispatcher.active(command.session)
        over = await self._is_over(command.session, live)
        if not what and live is not None and live.is_stopped:
            what = "what had just begun."
        if not over:
            what += " It is still winding down."
        unread = "" if aside == 0 else f"{messages(aside)} not read yet {were(aside)} set aside."
        return " ".join(part for part in (what and f"Stopped: {what}", unread) if part)

    async def _is_over(self, session: str, live: ActiveTurn | None) -> bool:
        """Whether what was stopped has ended, within some seconds."""
        try:
            async with asyncio.timeout(STOP_WITHIN):
                while live is not None and live.task is not None:
                    await live.ended.wait()
                    # One that found nothing to do makes room for the one that ends the parked turn.
                    live = self._dispatcher.active(session) if live.record is None else None
        except TimeoutError:
            return False
        return True

    async def _status(self, command: Command) -> str:
        live = self._dispatcher.active(command.session)
        waiting = await self._store.counts(command.session)
        question = None if live is not None else await self._store.open_question(command.session)
        lines = ["Nothing is running."]
        if live is not None and live.turn is not None:
            lines = [f"Running: {_what_runs(live)}"]
        elif question is not None:
            lines = [f"Waiting for an answer to: {question}"]
        if waiting:
            lines.append(f"{messages(waiting)} {were(waiting)} not read yet.")
        beside = [item for item in await self._background.items(command.session) if item.state == "running"]
        lines.extend(f"In the background: {item.handle}, {item.title}" for item in beside)
        elsewhere = sum(other is not live and not other.is_extra for other in self._dispatcher.running())
        if elsewhere:
            lines.append(f"In other conversations, {elsewhere} running.")
        lines.extend(f"{part}: {problem}" for part, problem in self._trouble().items())
        return "\n\n".join(lines)

    async def _say_how(self, command: Command) -> str:
        return f"Write your message behind it: `/{command.name} and then do this`."

    async def _busy(self, command: Command) -> str:
        chosen = command.arguments.strip().lower()
        for busy, meaning in _BUSY.items():
            if busy == chosen:
                await self._store.set_busy(command.session, busy)
                return f"From now on, what is written here while I work {meaning}."
        ways = "\n".join(f"- `/busy {busy}`: it {meaning}" for busy, meaning in _BUSY.items())
        return f"What is to become of a message that is written while I work?\n\n{ways}"

    async def _pair(self, command: Command) -> str:
        if not self._is_admin(command.address, command.sender):
            return "Only admins may let people in."
        code = command.arguments.strip().upper()
        pair = await self._store.approve_pairing(code) if code else None
        if pair is None:
            return "That is nobody's code, or it has expired. Write it behind the command: `/pair CODE`."
        await self._notices.say(pair.session, pair.address, None, Notice(LET_IN), f"let in:{pair.code}")
        return f"{pair.sender.name or pair.sender.id} may talk to me now."

    async def _help(self, command: Command) -> str:
        lines = "\n".join(f"- `/{name}`: {entry.help}" for name, entry in self._table.items())
        return f"Write to me at any time, also while I work: I read it at once.\n\n{lines}"


def _why_stopped(command: Command) -> str:
    """Among several people it is told who did it."""
    name = "" if command.address.kind == "direct" else command.sender.name
    return f"{name} asked to stop" if name else ASKED_TO_STOP


def reply_to_stop(command: Command) -> str:
    """The reply whose stop button said it, "" if it is no such command."""
    words = command.arguments.strip()
    return words if command.name == "stop" and _REPLY_ID.fullmatch(words) else ""


def _what_runs(live: ActiveTurn) -> str:
    """One line: what runs, since when, at which step."""
    assert live.turn is not None
    calls = ", ".join(f"`{call.name}`" for call in live.turn.running_calls) or "the model is answering"
    step = live.turn.step - bool(live.turn.running_calls)
    return f"{calls}, step {step}, for {duration(time.monotonic() - live.since)}."
