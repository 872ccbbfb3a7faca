"""Commands: what people say to the gateway rather than to the agent. They never wait behind a turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from channels.channel import CommandHelp
from gateway.dispatch import Dispatch, Live
from gateway.histories import Histories
from gateway.store.records import Command

STOP_WITHIN = 5.0
"""Seconds a stop command waits for the turn's end to be written before it answers without."""


class CommandStore(Protocol):
    async def stop_waiting(self, session: str, upto: int, reason: str) -> int: ...
    async def renew(self, session: str) -> None: ...
    async def counts(self, session: str) -> int: ...


@dataclass(frozen=True, slots=True)
class _Entry:
    help: str
    run: Callable[[Command], Awaitable[str]]


class Commands:
    """`answer` runs a command and returns what to tell the person, as markdown.

    What must take effect at once (stopping) does so before the first await. `trouble` tells what is wrong with the
    gateway's parts, a line each.
    """

    def __init__(
        self, store: CommandStore, dispatch: Dispatch, histories: Histories, trouble: Callable[[], Mapping[str, str]]
    ) -> None:
        self._store = store
        self._dispatch = dispatch
        self._histories = histories
        self._trouble = trouble
        self._table = {
            "stop": _Entry("stop what is running now", self._stop),
            "new": _Entry("begin a new conversation", self._new),
            "status": _Entry("show what is running", self._status),
            "help": _Entry("show these commands", self._help),
        }

    def list(self) -> tuple[CommandHelp, ...]:
        return tuple(CommandHelp(name, entry.help) for name, entry in self._table.items())

    async def answer(self, command: Command) -> str:
        entry = self._table.get(_ALIASES.get(command.name, command.name))
        if entry is None:
            return f"There is no command `/{command.name}`.\n\n{await self._help(command)}"
        return await entry.run(command)

    async def _stop(self, command: Command) -> str:
        live = self._dispatch.live(command.session)
        meant = command.arguments.strip()
        if meant and (live is None or (live.record is not None and live.record.id != meant)):
            return "That task has already ended."
        return await self._end_all(command, "you asked to stop") or "Nothing is running, so there was nothing to stop."

    async def _new(self, command: Command) -> str:
        ended = await self._end_all(command, "a new conversation was begun")
        await self._store.renew(command.session)
        self._histories.forget(command.session)
        return f"{ended}\n\nA new conversation begins here.".strip()

    async def _end_all(self, command: Command, reason: str) -> str:
        """Stops the running turn and sets aside what waits; says what that was, "" if there was nothing."""
        live = self._dispatch.stop(command.session, before=command.id, reason=reason)
        what = _what_runs(live) if live is not None and live.turn is not None else ""
        if live is not None and live.task is not None:
            try:
                async with asyncio.timeout(STOP_WITHIN):
                    await live.over.wait()
            except TimeoutError:
                what += " It is still winding down."
        aside = await self._store.stop_waiting(command.session, command.id, reason)
        unread = "" if aside == 0 else f"{_messages(aside)} not read yet {_were(aside)} set aside."
        return " ".join(part for part in (what and f"Stopped: {what}", unread) if part)

    async def _status(self, command: Command) -> str:
        live = self._dispatch.live(command.session)
        waiting = await self._store.counts(command.session)
        lines = [
            f"Running: {_what_runs(live)}" if live is not None and live.turn is not None else "Nothing is running."
        ]
        if waiting:
            lines.append(f"{_messages(waiting)} {_were(waiting)} not read yet.")
        elsewhere = sum(other is not live for other in self._dispatch.running())
        if elsewhere:
            lines.append(f"In other conversations, {elsewhere} running.")
        lines.extend(f"{part}: {problem}" for part, problem in self._trouble().items())
        return "\n\n".join(lines)

    async def _help(self, command: Command) -> str:
        lines = "\n".join(f"- `/{name}`: {entry.help}" for name, entry in self._table.items())
        return f"Write to me at any time, also while I work: I read it at once.\n\n{lines}"


_ALIASES = {"start": "help", "cancel": "stop", "reset": "new"}


def _what_runs(live: Live) -> str:
    """One line: what runs, since when, at which step."""
    assert live.turn is not None
    calls = ", ".join(f"`{call.name}`" for call in live.turn.running_calls) or "the model is answering"
    step = live.turn.step - bool(live.turn.running_calls)
    return f"{calls}, step {step}, for {_duration(time.monotonic() - live.since)}."


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
