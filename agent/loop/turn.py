"""The turn loop: hear, ask the model, run its calls, and again, until nothing is left to do."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from contextlib import suppress

from agent.agent import Agent
from agent.decisions.approvals import DROPPED, open_decision, refused_limit
from agent.decisions.external_tools import endings_without_result
from agent.decisions.questions import ANSWERED
from agent.events import Emit, Event, Logged, as_json
from agent.interrupt import Interrupted, race, shielded
from agent.journal import Journal, JournalError
from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    Call,
    CallEnded,
    Ended,
    Entry,
    ModelAnswered,
    Notice,
    Spent,
    TurnOutcome,
)
from agent.log_state import (
    deadline,
    detect_loop,
    endings,
    is_answered,
    restarts_in_a_row,
    step_of,
    unresolved,
    waits_for_people,
)
from agent.loop.attachments import ConversationFiles
from agent.loop.model_step import ModelStep
from agent.loop.streaming import EndTurn
from agent.loop.tool_calls import CANCELLED, SKIPPED, Calls
from agent.model import ModelError
from agent.tools.received_files import copy_to_workspace
from agent.transcript import UNKNOWN, Conversation, RenderedTurn
from agent.turn_context import TurnContext

log = logging.getLogger(__name__)

MAX_RESTARTS = 5
"""A turn that was interrupted by this many restarts, with nothing done between them, is likely their cause."""

INTERNAL_ERROR = "internal error in the gateway; details are in its log"
LOOP_DETECTED = "loop detected: `{tool}` was called repeatedly with the same arguments and the same result"
CUT_OFF = "_The answer was cut off at the model's length limit._"

_ENDED_WHILE_RUNNING = "Cancelled: the turn ended while this call was running: "


class Turn:
    """One run of the agent. `entries` is its log so far: what a new turn has heard, or all that a resumed one has.

    `past` is the conversation before this turn. `run()` may be called once.
    """

    def __init__(
        self,
        agent: Agent,
        journal: Journal,
        emit: Emit,
        *,
        id: str,
        entries: Sequence[Entry],
        past: Sequence[RenderedTurn] = (),
        turn_context: TurnContext | None = None,
    ) -> None:
        self._agent = agent
        self._journal = journal
        self._emit = emit
        self._id = id
        self._conversation = Conversation(past)
        self._files = ConversationFiles(past)
        self._turn_context = turn_context or TurnContext()
        self._entries = list(entries)
        self._answering: ModelStep | None = None
        self._task: asyncio.Task[object] | None = None
        self._stop_reason: str | None = None
        self._ended: Ended | None = None
        self._parked = False

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The log so far."""
        return tuple(self._entries)

    @property
    def step(self) -> int:
        """The step the turn is at, counted from 1."""
        return step_of(self._entries)

    @property
    def running_calls(self) -> tuple[Call, ...]:
        """The calls that have started and not ended."""
        return tuple(call for call, started in unresolved(self._entries) if started)

    @property
    def unlogged(self) -> tuple[Spent | ModelAnswered, ...]:
        """What is not in the log of the answer that is being given: what it cost, and what was told of it."""
        return () if self._answering is None else self._answering.speech.unlogged()

    def stop(self, reason: str) -> None:
        """Cancels what runs; the turn ends as stopped, for `reason`. Later stops change nothing."""
        if self._stop_reason is None:
            self._stop_reason = reason
            if self._task is not None:
                self._task.cancel()

    async def run(self) -> Ended | None:
        """Runs to the end and returns it, as logged; None when it has asked people something, or waits for results
        from outside, and is parked until somebody says something, decides or supplies. Raises `JournalError`.

        Cancelling the task (rather than calling `stop`) abandons the turn as it stands, to be resumed later.
        """
        self._task = asyncio.current_task()
        try:
            await self._go_on_to_the_end()
        finally:
            self._turn_context.budget.release()
            await self._absorb_late_stop()
            self._task = None
        assert self._parked or self._ended is not None
        return self._ended

    async def _go_on_to_the_end(self) -> None:
        try:
            await self._go_on()
        except ModelError as error:
            await self._end("failed", str(error))
        except EndTurn as over:
            await self._end("stopped" if over.stopped else "failed", str(over))
        except JournalError:
            raise
        except asyncio.CancelledError:
            await self._cancelled()
        except Exception:
            log.exception("turn %s broke", self._id)
            await self._end("failed", INTERNAL_ERROR)

    async def _cancelled(self) -> None:
        """Ends the turn if it was stopped, or if what it ran cancelled itself; raises if the task was cancelled."""
        assert self._task is not None
        if self._stop_reason is not None:
            self._task.uncancel()
            if self._ended is None:
                await self._end("stopped", self._stop_reason)
        elif self._task.cancelling():
            raise asyncio.CancelledError
        else:
            log.error("turn %s broke: the model cancelled itself", self._id)
            await self._end("failed", INTERNAL_ERROR)

    async def _absorb_late_stop(self) -> None:
        """A stop that comes when nothing is left to stop must not hit whoever awaits us."""
        task = self._task
        if self._stop_reason is not None and task is not None and task.cancelling():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            task.uncancel()

    async def _go_on(self) -> None:
        if self._stop_reason is not None:
            raise asyncio.CancelledError
        if restarts_in_a_row(self._entries) >= MAX_RESTARTS:
            await self._end("failed", f"interrupted by {MAX_RESTARTS} restarts in a row, and not resumed again")
        elif waits_for_people(self._entries):
            await self._await_people()
        else:
            await self._finish_step()
        while self._ended is None and not self._parked:
            await self._take_step()

    async def _take_step(self) -> None:
        if (reason := refused_limit(self._entries)) is not None:
            # What was said since is for the next turn, as this one answers nothing any more.
            await self._end("stopped", reason)
            return
        await self._read_inbox()
        if is_answered(self._entries):
            await self._close(Ended("completed"))
        elif (tool := detect_loop(self._entries)) is not None:
            await self._end("failed", LOOP_DETECTED.format(tool=tool))
        else:
            await self._answer(await self._ask())

    async def _answer(self, answered: ModelAnswered | ApprovalRequested) -> None:
        """Does what the model asks for, or what has to be asked first."""
        charges = () if self._answering is None else self._answering.speech.charges
        if isinstance(answered, ApprovalRequested):
            await self._append(*charges, answered)
            await self._await_people()
        elif answered.interrupted:
            await self._append(*charges, answered)
        elif answered.calls:
            await self._append(*charges, answered)
            await self._run(answered.calls)
        else:
            told = (Notice(CUT_OFF),) if answered.cut_off else ()
            await self._close(Ended("completed"), *charges, answered, *told)

    async def _read_inbox(self) -> bool:
        """Whether people have said something, which is then in the log, as are the results of work beside the turn."""
        heard = await shielded(self._journal.read_inbox(self.step)) if self._journal.has_unread else None
        if heard is not None:
            await self._record(heard)
        return heard is not None and any(said.source != "work" for said in heard.messages)

    async def _ask(self) -> ModelAnswered | ApprovalRequested:
        """The model's answer, an interrupted one if an interjection came first."""
        self._answering = answering = ModelStep(
            self._agent,
            self._turn_context,
            self._append,
            self._tell,
            id=self._id,
            conversation=self._conversation,
            entries=self._entries,
        )
        try:
            return await race(answering.answer(), self._journal.interjection())
        except Interrupted:
            *_, last = (ModelAnswered(self.step, (), interrupted=True), *answering.speech.unlogged())
            return last if isinstance(last, ModelAnswered) else ModelAnswered(self.step, (), interrupted=True)

    async def _run(self, calls: Sequence[Call]) -> None:
        agent, files = self._agent, self._files
        files.update(self._entries)
        await copy_to_workspace(files.workspace_files, agent.workspace, agent.media)
        running = Calls(
            agent,
            self._turn_context,
            self._journal,
            self._append,
            self._tell,
            entries=self._entries,
            attachments=tuple(files.attachments),
        )
        if not await running.run(calls):
            await self._await_people()

    async def _finish_step(self) -> None:
        """Goes on with the calls that a restart or a wait for people left, unless people have said something since.

        Behind one whose outcome is unknown nothing is run; one that may be repeated is.
        """
        left = unresolved(self._entries)
        repeatable = {tool.name for tool in self._agent.tools if tool.repeatable}
        if any(started and call.name not in repeatable for call, started in left):
            await self._append(*endings(self._entries, "unknown", UNKNOWN))
        elif left and await self._read_inbox():
            await self._append(*endings(self._entries, "cancelled", CANCELLED))
        elif left:
            await self._run([call for call, _ in left])

    async def _await_people(self) -> None:
        """Parks the turn, unless somebody has said something: whatever it is, it is the answer."""
        self._parked = await shielded(self._journal.park(deadline(self._entries)))
        if self._parked:
            # A stop that came meanwhile arrives here, while the turn can still be ended.
            await asyncio.sleep(0)
        else:
            await self._append(*_overtaken(self._entries))

    async def _end(self, outcome: TurnOutcome, reason: str) -> None:
        """Ends the turn with everything in it accounted for: the partial answer and each call's result."""
        calls = endings(self._entries, "cancelled", _ENDED_WHILE_RUNNING + reason)
        await self._close(Ended(outcome, reason), *self.unlogged, *calls)

    async def _append(self, *entries: Entry) -> None:
        if entries:
            await shielded(self._journal.append(*entries))
            await self._record(*entries)

    async def _close(self, ended: Ended, *entries: Entry) -> None:
        last = await shielded(self._journal.close(ended, *entries))
        if last:
            self._ended = ended
        await self._record(*entries, *last)

    async def _record(self, *entries: Entry) -> None:
        self._entries.extend(entries)
        if any(isinstance(entry, ModelAnswered | ApprovalRequested) for entry in entries):
            self._answering = None
            self._turn_context.budget.release()
        for entry in entries:
            await self._tell(Logged(entry))

    async def _tell(self, event: Event) -> None:
        if self._agent.hooks.active("on_event"):
            self._agent.hooks.observe(
                self._turn_context.hook_context, json.loads(self._agent.mask(json.dumps(as_json(event))))
            )
        await self._emit(event)


async def fail_turn(
    journal: Journal, entries: Sequence[Entry], reason: str, *unlogged: Spent | ModelAnswered
) -> tuple[Entry, ...]:
    """Ends a turn that cannot go on as failed; returns its log. Raises `JournalError` while that cannot be written.

    `unlogged` is what is not in the log of the answer that was being given when the turn broke.
    """
    ended = Ended("failed", reason)
    rest: tuple[Entry, ...] = (*unlogged, *endings(entries, "cancelled", _ENDED_WHILE_RUNNING + reason))
    return (*entries, *rest, *await shielded(journal.close(ended, *rest)))


def _overtaken(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """What becomes of what the turn waits for when something is said: it is the answer, or comes instead of it."""
    asked, left = open_decision(entries), unresolved(entries)
    if asked is not None:
        skipped = (CallEnded(call.id, "skipped", DROPPED if call.id == asked.id else SKIPPED) for call, _ in left)
        return ApprovalDecided(asked.id, "dropped"), *skipped
    return endings_without_result(entries) or endings(entries, "done", ANSWERED)
