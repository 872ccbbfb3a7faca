"""Commands about tasks: `/stop`, `/wrap`, `/btw`, `/undo`, `/retry`, `/new`, `/status`."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from channels.address import Sender
from gateway.bus import Bus
from gateway.inbound.access import AccessPolicy
from gateway.outbound.reply_builder import STOPPED_BY, STOPPED_BY_USER
from gateway.outbound.wording import duration, escaped, queued_messages, quoted
from gateway.store.records import AuditEvent, Command, Turn, UndeliveredReply, UndoneTurn
from gateway.turns.agents import MAIN, Agents, ModelChoices, next_choice
from gateway.turns.background import BackgroundWork
from gateway.turns.budgets import person_on
from gateway.turns.context_use import ContextUse
from gateway.turns.dispatcher import ActiveTurn, Dispatcher
from gateway.turns.history_cache import HistoryCache
from gateway.turns.mcp import Mcp, NoMcp
from gateway.turns.running import RunningTurn, RunningTurns, running_here
from gateway.turns.workspaces import Workspaces

log = logging.getLogger(__name__)

ALL = "all"
"""The argument of `/stop` that stops background tasks too."""

CLEAN = "clean"
"""The argument of `/new` that deletes the files of the workspace."""

STOP_TIMEOUT = 5.0
"""Seconds that a stop waits for the turn's end to be stored before it answers without."""

MAX_SIDE_QUESTIONS = 3
"""Side questions answered at once in a conversation."""

SHOWN_SHARE = 0.01
"""Share of the model's context window from which `/status` tells it."""

_REPLY_ID = re.compile("[0-9a-f]{32}")


class TaskStore(ModelChoices, Protocol):
    async def reset_session(self, session: str) -> None: ...
    async def count_waiting(self, session: str) -> int: ...
    async def unfinished(self, session: str) -> Turn | None: ...
    async def turn(self, turn_id: str) -> Turn: ...
    async def running_elsewhere(self) -> tuple[Turn, ...]: ...
    async def count_running_beside(self, session: str) -> int: ...
    async def request_stop(self, session: str, before: int, reason: str, of: str | None = None) -> Turn | None: ...
    async def stop_parked(self, session: str, reason: str) -> bool: ...
    async def open_question(self, session: str) -> str | None: ...
    async def wrap(self, command_id: int) -> bool: ...
    async def begin_side_question(self, command_id: int) -> Turn: ...
    async def undo(self, session: str, by: str | None = None) -> UndoneTurn | None: ...
    async def retry(self, command_id: int, by: str | None = None, of: str = "") -> bool: ...
    async def who_began(self, session: str) -> Sender | None: ...
    async def who_began_last_task(self, session: str) -> Sender | None: ...
    async def undelivered(self, session: str | None = None) -> tuple[UndeliveredReply, ...]: ...
    async def record_audit(self, *events: AuditEvent) -> None: ...


@dataclass(frozen=True, slots=True)
class Stopped:
    """What a stop has ended: the task, described for people ("" if there was none), with its turn, its step and the
    calls that ran; queued messages and background tasks. `has_ended`: the task's end is stored already."""

    task: str = ""
    turn: Turn | None = None
    step: int | None = None
    calls: tuple[str, ...] = ()
    withdrawn: int = 0
    background: tuple[str, ...] = ()
    has_ended: bool = True

    def __str__(self) -> str:
        task = f"Stopped: {self.task}" if self.task else ""
        late = "It has not ended yet." if self.task and not self.has_ended else ""
        return " ".join(filter(None, (task, late, _discarded(self.withdrawn))))


class NotAllowed(Exception):
    """The sender may not do this; the message says who may, for people."""


class TaskCommands:
    """Each method runs one command and returns the answer to the person; None if the agent answers."""

    def __init__(
        self,
        store: TaskStore,
        bus: Bus,
        dispatcher: Dispatcher,
        histories: HistoryCache,
        background: BackgroundWork,
        access: AccessPolicy,
        problem: Callable[[], Mapping[str, str]],
        context: ContextUse,
        agents: Agents,
        workspaces: Workspaces | None = None,
        tool_problems: Callable[[], Mapping[str, str]] = dict,
        mcp: Mcp | None = None,
    ) -> None:
        """`problem` gives the current problems of the gateway's parts, by part; `tool_problems` those of the operator's
        own tools, which admins see. `mcp` are the MCP servers, at some of which each person signs in."""
        self._store = store
        self._bus = bus
        self._dispatcher = dispatcher
        self._running = RunningTurns(store, bus, dispatcher)
        self._histories = histories
        self._background = background
        self._access = access
        self._problems = problem
        self._context = context
        self._agents = agents
        self._workspaces = workspaces
        self._tool_problems = tool_problems
        self._mcp = mcp or NoMcp()

    async def stop(self, command: Command) -> str:
        reply_id = stopped_reply(command)
        if reply_id:
            turn = await self._unfinished(command.session)
            if turn is None or turn.id != reply_id:
                return "That task has already ended."
            active = self._dispatcher.active(command.session)
            if active is not None and active.is_stopped:
                return "That task is being stopped already."
        if refusal := await self._refusal(command):
            withdrawn = await self._withdraw(command, _stop_reason(command))
            return f"{refusal} {_discarded(withdrawn)}".strip()
        stopped = str(await self._stop_all(command, _stop_reason(command)))
        if command.arguments.strip().lower() != ALL:
            return stopped or "No task is running."
        return await self._stop_background(command, stopped)

    async def stop_now(self, command: Command, *, background: bool) -> Stopped:
        """Stops what runs in the conversation, for a program; with `background`, also background tasks. The id of the
        command is above those of all messages that this discards. Raises `NotAllowed`."""
        if refusal := await self._refusal(command):
            raise NotAllowed(refusal)
        if background and not self._may_stop_any(command):
            raise NotAllowed("Only admins may stop background tasks here.")
        stopped = await self._stop_all(command, _stop_reason(command))
        items = await self._background.stop_all(command.session) if background else ()
        return replace(stopped, background=tuple(item.handle for item in items))

    async def _stop_background(self, command: Command, stopped: str) -> str:
        if not self._may_stop_any(command):
            return f"{stopped} Only admins may stop background tasks here.".lstrip()
        items = await self._background.stop_all(command.session)
        names = ", ".join(f"{item.handle} ({item.title})" for item in items)
        return " ".join(filter(None, (stopped, names and f"Stopped background tasks: {names}."))) or (
            "No task is running."
        )

    async def new(self, command: Command) -> str:
        if refusal := await self._reset_refusal(command):
            return refusal
        stopped = str(await self._stop_all(command, "a new conversation was started"))
        await self._store.reset_session(command.session)
        self._histories.forget(command.session)
        files = await self._renew_workspace(command, clean=command.arguments.strip().lower() == CLEAN)
        return f"{stopped}\n\nA new conversation starts here.{files}".strip()

    async def _renew_workspace(self, command: Command, *, clean: bool) -> str:
        """Deletes the conversation's files, or keeps them; what is to be said about that."""
        if self._workspaces is None or not await self._workspaces.has_files(command.session):
            return ""
        if not clean:
            return f" The files of the workspace are kept; `/new {CLEAN}` deletes them."
        # What still runs there would write to the new workspace.
        await self._background.stop_all(command.session)
        try:
            kept = await self._workspaces.clear(command.session)
        except OSError as error:
            log.warning("session %s: its workspace cannot be deleted: %s", command.session, error)
            return " The files of the workspace could not be deleted; the gateway's log has the reason."
        return f" The files are kept: {kept}." if kept else " The files of the workspace were deleted."

    async def wrap(self, command: Command) -> str | None:
        if refusal := await self._refusal(command):
            return refusal
        return None if await self._store.wrap(command.id) else "No task is running that could finish up."

    async def ask_aside(self, command: Command) -> str | None:
        if not command.arguments.strip():
            return "Add your question: `/btw what was the name of that file?`."
        if self._dispatcher.side_questions(command.session) >= MAX_SIDE_QUESTIONS:
            return f"{MAX_SIDE_QUESTIONS} side questions are being answered already. Please try again in a moment."
        self._dispatcher.begin_side_question(await self._store.begin_side_question(command.id))
        return None

    async def undo(self, command: Command) -> str:
        # Before any other await: of several such commands, each finds what the last has left.
        undone = await self._store.undo(command.session, self._only_of(command))
        if undone is None:
            return await self._history_refusal(command) or "There is no task to remove."
        self._histories.forget(command.session)
        if not undone.texts:
            return "The summary is taken back: the model sees the conversation in full again."
        return f"Removed from context: {quoted(' '.join(undone.texts))}. Side effects are not undone."

    async def retry(self, command: Command) -> str | None:
        # Before any other await: a stop that comes next covers the task that is run again.
        of = command.arguments.strip() if _REPLY_ID.fullmatch(command.arguments.strip()) else ""
        if not await self._store.retry(command.id, self._only_of(command), of):
            none = "That task is not the last one any more." if of else "There is no task to run again."
            return await self._history_refusal(command) or none
        self._histories.forget(command.session)
        return None

    async def status(self, command: Command) -> str:
        running = await self._running.of(command.session)
        queued = await self._store.count_waiting(command.session)
        question = None if running is not None else await self._store.open_question(command.session)
        lines = ["No task is running."]
        if running is not None:
            lines = [f"Running task: {_describe(running)}"]
        elif question is not None:
            lines = [f"Waiting for an answer to: {question}"]
        if (agent := await self._agent_of(command, running)) != MAIN:
            lines.append(f"Agent: `{agent}`.")
        if queued:
            lines.append(f"Queued messages: {queued}.")
        items = [item for item in await self._background.items(command.session) if item.state == "running"]
        lines.extend(f"Background task {item.handle}: {item.title}" for item in items)
        if undelivered := await self._store.undelivered(command.session):
            count = "1 reply" if len(undelivered) == 1 else f"{len(undelivered)} replies"
            lines.append(f"Not delivered: {count} ({escaped(undelivered[-1].reason)}). `/redeliver` tries again.")
        if self._access.oversees(command.address, command.sender):
            elsewhere = len(await self._store.undelivered(None)) - len(undelivered)
            if elsewhere:
                lines.append(f"Not delivered in other conversations: {elsewhere}. `/redeliver {ALL}` tries again.")
        context = await self._context.of(command.session, command.address, command.sender)
        if context is not None and context.share >= SHOWN_SHARE:
            lines.append(f"Context: {context.share:.0%} of the model's {context.window:,} tokens.")
        if others := await self._store.count_running_beside(command.session):
            lines.append(f"Running tasks in other conversations: {others}.")
        lines.extend(f"{part}: {problem}" for part, problem in self._problems().items())
        if self._mcp.personal:
            signed_out = await asyncio.to_thread(self._mcp.signed_out, person_on(command.address, command.sender))
            lines.extend(f"MCP server {name}: per person; sign in with `/mcp login {name}`" for name in signed_out)
        if self._access.oversees(command.address, command.sender):
            lines.extend(f"{part}: {problem}" for part, problem in self._tool_problems().items())
        return "\n\n".join(lines)

    async def _agent_of(self, command: Command, running: RunningTurn | None) -> str:
        """That of the running task, else the one that this person's next task will have."""
        if running is not None:
            turn = running.record
            return self._agents.pick(turn.agent, turn.address, turn.principal)
        choice = await next_choice(self._store, self._agents, command.session, command.address, command.sender)
        return choice.agent

    def _may_stop_any(self, command: Command) -> bool:
        return self._access.may_stop_any(command.address, command.sender)

    async def _refusal(self, command: Command) -> str:
        """Why they may not stop the task, "" if they may."""
        if self._may_stop_any(command):
            # Without an await: a person's own stop takes effect at once.
            return ""
        turn = await self._unfinished(command.session)
        if turn is None or turn.principal.id == command.sender.id:
            return ""
        name = escaped(turn.principal.name) or "the person who started it"
        return f"Only {name} and admins may stop this."

    async def _reset_refusal(self, command: Command) -> str:
        """Why they may not start a new conversation, "" if they may."""
        if refusal := await self._refusal(command):
            return refusal
        if self._may_stop_any(command):
            return ""
        beginner = await self._store.who_began(command.session)
        return only_beginner(beginner, command, "it changes the context for everybody")

    async def _history_refusal(self, command: Command) -> str:
        """Why the last task cannot be removed, "" if it can."""
        if await self._unfinished(command.session) is not None:
            return await self._refusal(command) or f"A task is running. `/stop` it first, then `/{command.name}`."
        if self._may_stop_any(command):
            return ""
        beginner = await self._store.who_began_last_task(command.session)
        return only_beginner(beginner, command, "it changes the context for everybody")

    def _only_of(self, command: Command) -> str | None:
        """Whose tasks they may stop and remove: everybody's (None), or their own."""
        return None if self._may_stop_any(command) else command.sender.id

    async def _withdraw(self, command: Command, reason: str) -> int:
        """Withdraws queued messages, in a group only the person's own; their number."""
        sender = None if command.address.kind == "direct" else command.sender.id
        return await self._dispatcher.withdraw_waiting(command.address, before=command.id, reason=reason, sender=sender)

    async def _unfinished(self, session: str) -> Turn | None:
        """The running or parked turn."""
        active = self._dispatcher.active(session)
        running = None if active is None else active.record
        return running or await self._store.unfinished(session)

    async def _stop_all(self, command: Command, reason: str) -> Stopped:
        """Stops the running or parked turn and withdraws queued messages."""
        active = self._dispatcher.stop(command.session, before=command.id, reason=reason, of=self._only_of(command))
        here = None if active is None or active.turn is None else running_here(active)
        # Before any other await: no turn begins with the messages that this withdraws.
        withdrawn = await self._withdraw(command, reason)
        elsewhere = await self._stop_elsewhere(command, reason) if here is None else None
        running = here or elsewhere
        task = "" if running is None else _describe(running)
        parked = None if task else await self._store.unfinished(command.session)
        if not task and await self._store.stop_parked(command.session, reason):
            task = "waiting for your answer."
            self._bus.wake(command.session)
            active = self._dispatcher.active(command.session)
        if elsewhere is not None:
            has_ended = await self._running.over(elsewhere.record, seconds=STOP_TIMEOUT)
        else:
            has_ended = await self._wait_for_end(command.session, active)
        if not task and active is not None and active.is_stopped:
            task = "the task had just begun."
        began = None if active is None else active.record
        stopped = parked or (began if running is None else running.record)
        if task or withdrawn:
            await self._store.record_audit(_stop_event(command, stopped, withdrawn))
        step, calls = (None, ()) if running is None else (running.step, running.calls)
        return Stopped(task, stopped if task else None, step, calls, withdrawn, has_ended=has_ended)

    async def _stop_elsewhere(self, command: Command, reason: str) -> RunningTurn | None:
        """Stops the turn if another worker runs it."""
        if self._dispatcher.runs(command.session):
            return None
        only_of = self._only_of(command)
        turn = await self._store.request_stop(command.session, command.id, reason, only_of)
        if turn is None:
            return None
        self._bus.stop(command.session, before=command.id, reason=reason)
        return await self._running.elsewhere(turn)

    async def _wait_for_end(self, session: str, active: ActiveTurn | None) -> bool:
        """Whether the stopped turn has ended, within `STOP_TIMEOUT`."""
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                while active is not None and active.task is not None:
                    await active.ended.wait()
                    # One that found nothing to do is followed by the one that ends the parked turn.
                    active = self._dispatcher.active(session) if active.record is None else None
        except TimeoutError:
            return False
        return True


def _stop_reason(command: Command) -> str:
    """In a group it names the person."""
    name = "" if command.address.kind == "direct" else command.sender.name
    return f"{STOPPED_BY}{name}" if name else STOPPED_BY_USER


def _discarded(count: int) -> str:
    return f"{queued_messages(count)} discarded." if count else ""


def only_beginner(beginner: Sender | None, command: Command, why: str) -> str:
    """The refusal of a command that only whoever began it and admins may use; "" if this is their own, or nobody's."""
    if beginner is None or beginner.id == command.sender.id:
        return ""
    name = escaped(beginner.name) or "the person who started it"
    return f"Only {name} and admins may use `/{command.name}` here: {why}."


def _stop_event(command: Command, turn: Turn | None, withdrawn: int) -> AuditEvent:
    actor = person_on(command.address, command.sender)
    detail: dict[str, object] = {"command": command.name, "withdrawn": withdrawn}
    if turn is not None:
        detail |= {"turn": turn.id, "began_by": person_on(turn.address, turn.principal)}
    return AuditEvent("stopped", actor, command.sender.name, command.session, detail)


def stopped_reply(command: Command) -> str:
    """The id of the reply whose stop button was pressed, "" if it is another command."""
    argument = command.arguments.strip()
    return argument if command.name == "stop" and _REPLY_ID.fullmatch(argument) else ""


def _describe(running: RunningTurn) -> str:
    """One line: the running calls, the step, and since when."""
    calls = ", ".join(f"`{name}`" for name in running.calls) or "the model is answering"
    return f"{calls}, step {running.step}, for {duration(running.seconds)}."
