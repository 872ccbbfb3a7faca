"""The turn loop: read the inbox, ask the model, run its calls, and repeat until nothing is left to do."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from agent.agent import Agent
from agent.decisions.approvals import DROPPED, open_decision, refused_limit
from agent.decisions.external_tools import endings_without_result
from agent.decisions.questions import ANSWERED
from agent.events import Emit, Event, Logged, as_json
from agent.gate import storable
from agent.interrupt import Interrupted, race, shielded
from agent.journal import Journal, JournalError, TurnLost
from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    Call,
    CallEnded,
    Ended,
    Entry,
    ModelAnswered,
    Notice,
    Resumed,
    Spent,
    TurnOutcome,
    Undelivered,
    UndeliveredPart,
)
from agent.log_state import (
    deadline,
    detect_loop,
    endings,
    is_answered,
    restarts_in_a_row,
    step_of,
    tools_in_place,
    unresolved,
    waits_for_people,
)
from agent.loop.attachments import ConversationFiles
from agent.loop.model_step import ModelStep
from agent.loop.offered_tools import callable_tools
from agent.loop.recorded_hooks import RecordedHooks
from agent.loop.streaming import EndTurn
from agent.loop.tool_calls import CANCELLED, SKIPPED, ToolCallRunner
from agent.model import ModelError
from agent.tools.received_files import copy_to_workspace, open_workspace
from agent.transcript import UNKNOWN, Conversation, RenderedTurn, undelivered_parts
from agent.turn_context import TurnContext

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_RESTARTS = 5
"""A turn that is interrupted by so many restarts without progress is probably their cause."""

READ_TOGETHER = 0.3
"""Seconds after an interjection has cut the model off in which further ones are read together."""

SAVED_WITHIN = 300.0
"""Seconds for saving the last changes of the workspace before the turn ends, waits for people, or goes on elsewhere."""

SAVED_AFTER_STOP = 20.0
SAVED_AT_EXIT = 5.0
"""The same, where the turn was stopped, and where the process ends."""

KEPT_EVERY = 1.0
"""Seconds after which more of a growing answer is kept for the case of a restart."""

INTERNAL_ERROR = "internal error in the gateway; details are in its log"
LOOP_DETECTED = "loop detected: {tools} was called repeatedly with the same arguments and the same result"
COMPLETED = Ended("completed")
CUT_OFF = "_The answer was cut off at the model's length limit._"
REFUSED = "_The model's provider ended the answer here: its filter refused the rest._"

_CANCELLED_AT_END = "Cancelled: the turn ended while this call was running: "


class Turn:
    """One run of the agent. `entries` is its log so far: the messages that a new turn has read, or the whole log of a
    resumed turn. `past` is the conversation before this turn. `run()` may be called once.
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
        is_seen: Callable[[], bool] = lambda: True,
    ) -> None:
        """`is_seen`: whether people may have read any of the answer that the model is giving."""
        self._hooks = RecordedHooks(agent.hooks)
        self._agent = replace(agent, hooks=self._hooks)
        self._journal = journal
        self._emit = emit
        self._id = id
        self._conversation = Conversation(past)
        self._files = ConversationFiles(past)
        self._turn_context = turn_context or TurnContext()
        self._is_seen = is_seen
        self._entries = list(entries)
        self._model_step: ModelStep | None = None
        self._task: asyncio.Task[object] | None = None
        self._stop_reason: str | None = None
        self._draft: ModelAnswered | None = None
        self._cut_at = -READ_TOGETHER
        self._ended: Ended | None = None
        self._parked = False
        self._leaving = False
        self._undelivered: list[UndeliveredPart] = []

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The log so far."""
        return tuple(self._entries)

    @property
    def step(self) -> int:
        """The current step, counted from 1."""
        return step_of(self._entries)

    @property
    def unlogged(self) -> tuple[Spent | ModelAnswered, ...]:
        """The current answer, which is not in the log yet: its cost and its text so far."""
        return () if self._model_step is None else self._model_step.stream.unlogged()

    def stop(self, reason: str) -> None:
        """Cancels the running work; the turn ends as stopped, for `reason`. Later calls have no effect."""
        if self._stop_reason is None:
            self._stop_reason = reason
            if self._task is not None:
                self._task.cancel()

    def not_delivered(self, part: UndeliveredPart) -> None:
        """The platform did not take a part of the reply: the model is told at its next step."""
        self._undelivered.append(part)

    def leave(self) -> None:
        """`run` returns before the next step: somebody else goes on from the log."""
        self._leaving = True

    @property
    def has_left(self) -> bool:
        """Whether `run` has returned because of `leave`."""
        return self._leaving and not self._parked and self._ended is None

    async def run(self) -> Ended | None:
        """Runs the turn and returns its end, as logged. None: the turn is parked until a message, a decision or the
        results of external tools arrive, or it has left. Raises `JournalError`.

        Cancelling the task (rather than calling `stop`) leaves the turn unfinished, to be resumed later.
        """
        self._task = asyncio.current_task()
        try:
            await self._run_to_the_end()
        finally:
            self._turn_context.budget.release()
            await self._turn_context.workspace.aclose()
            await self._absorb_late_stop()
            self._task = None
        assert self._parked or self._leaving or self._ended is not None
        return self._ended

    async def _run_to_the_end(self) -> None:
        self._observe_beginning()
        try:
            await self._run_steps()
        except ModelError as error:
            await self._end("failed", str(error))
        except EndTurn as end:
            await self._end("stopped" if end.stopped else "failed", str(end))
        except JournalError:
            raise
        except asyncio.CancelledError:
            await self._cancelled()
        except Exception:
            log.exception("turn %s failed", self._id)
            await self._end("failed", INTERNAL_ERROR)

    async def _cancelled(self) -> None:
        """Ends the turn if it was stopped or if its work cancelled itself; raises if the task was cancelled."""
        assert self._task is not None
        if self._stop_reason is not None:
            self._task.uncancel()
            if self._ended is None:
                await self._end("stopped", self._stop_reason)
        elif self._task.cancelling():
            await shielded(self._keep())
            await shielded(self._turn_context.workspace.settled(SAVED_AT_EXIT))
            raise asyncio.CancelledError
        else:
            log.error("turn %s failed: the model cancelled itself", self._id)
            await self._end("failed", INTERNAL_ERROR)

    async def _absorb_late_stop(self) -> None:
        """A stop after the end of the work must not cancel the caller."""
        task = self._task
        if self._stop_reason is not None and task is not None and task.cancelling():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            task.uncancel()

    async def _run_steps(self) -> None:
        if self._stop_reason is not None:
            raise asyncio.CancelledError
        if restarts_in_a_row(self._entries) >= MAX_RESTARTS:
            await self._end("failed", f"interrupted by {MAX_RESTARTS} restarts in a row, and not resumed again")
        elif waits_for_people(self._entries):
            await self._await_people()
        else:
            await self._finish_step()
        while self._ended is None and not self._parked and not self._leaving:
            await self._take_step()
        if self._leaving:
            await self._save_workspace()

    async def _take_step(self) -> None:
        if (reason := refused_limit(self._entries)) is not None:
            # Unread messages are for the next turn: this one does not answer any more.
            await self._end("stopped", reason)
            return
        await self._read_inbox()
        if self._undelivered:
            parts, self._undelivered = self._undelivered, []
            await self._append(Undelivered((*undelivered_parts(self._entries), *parts)))
        if is_answered(self._entries):
            await self._close(COMPLETED)
        elif tools := detect_loop(self._entries):
            await self._end_loop(LOOP_DETECTED.format(tools=" and ".join(f"`{tool}`" for tool in tools)))
        else:
            await self._append(*self._workspace_notes())
            await self._answer(await self._ask())

    async def _end_loop(self, reason: str) -> None:
        """Ends the turn as failed with the model's word on how far it came, if it has one."""
        try:
            answered = await self._ask()
        except ModelError as error:
            log.info("turn %s: the model does not say how far it came: %s", self._id, error)
            await self._end("failed", reason)
        else:
            await self._answer(answered, Ended("failed", reason))

    async def _answer(self, answered: ModelAnswered | ApprovalRequested | None, ended: Ended = COMPLETED) -> None:
        """Runs the calls of the answer, ends the turn with it, or waits for an approval. None: there is no answer."""
        if answered is None:
            return
        step = self._model_step
        charges, denials, notice = ((), (), "") if step is None else (step.stream.charges, step.denials, step.notice)
        if isinstance(answered, ApprovalRequested):
            await self._append(*charges, answered)
            await self._await_people()
        elif answered.interrupted:
            await self._append(*charges, answered)
        elif answered.calls:
            await self._append(*charges, answered, *denials)
            await self._run([call for call, _ in unresolved(self._entries)])
        else:
            notice = notice if ended is COMPLETED else ""
            ending = CUT_OFF if answered.cut_off else REFUSED if answered.refused else ""
            notices = (Notice(text) for text in (ending, notice) if text)
            await self._close(ended, *charges, answered, *notices)

    async def _read_inbox(self) -> bool:
        """Logs the unread messages; whether one of them is from a person and not from background work."""
        read = None
        while read is None and self._journal.has_unread:
            read = await shielded(self._journal.read_inbox(self.step))
            if read is None and not await self._journal.arrival():
                break
        if read is not None:
            await self._record(read)
        return read is not None and any(message.source != "work" for message in read.messages)

    async def _ask(self) -> ModelAnswered | ApprovalRequested | None:
        """The model's answer, marked as interrupted if an interjection came first; None if that came before people
        could read any of it."""
        self._model_step = step = ModelStep(
            self._agent,
            self._turn_context,
            self._append,
            self._emit_event,
            self._journal.now,
            id=self._id,
            conversation=self._conversation,
            entries=self._entries,
        )
        try:
            return await race(step.answer(), self._interjection(), every=KEPT_EVERY, meanwhile=self._keep)
        except Interrupted:
            *_, last = (None, *step.stream.unlogged())
            if isinstance(last, ModelAnswered) and last.text.strip() and self._is_seen():
                return last
            await self._discard_answer(step)
            return None

    async def _discard_answer(self, step: ModelStep) -> None:
        """Nothing is left of an answer that nobody has read, but its cost."""
        await self._append(*await step.stream.discard())
        self._model_step = None
        self._turn_context.budget.release()
        await self._keep()

    async def _interjection(self) -> None:
        """The first message cuts the model off at once; those that follow too soon are read together."""
        await self._journal.interjection()
        await asyncio.sleep(self._cut_at + READ_TOGETHER - time.monotonic())
        self._cut_at = time.monotonic()

    async def _keep(self) -> None:
        """Keeps what people have read of the current answer: a restart does not take it back."""
        draft = next((entry for entry in self.unlogged if isinstance(entry, ModelAnswered)), None)
        if draft == self._draft:
            return
        try:
            await self._journal.keep(None if draft is None else storable(draft))
        except TurnLost:
            raise
        except JournalError as error:
            log.warning("turn %s: its answer so far cannot be stored: %s", self._id, error)
        else:
            self._draft = draft

    async def _run(self, calls: Sequence[Call]) -> None:
        agent, files = self._agent, self._files
        files.update(self._entries)
        await open_workspace(agent.workspace)
        await copy_to_workspace(files.workspace_files, agent.workspace, agent.media)
        changes, workspace = self._may_change_files(calls), self._turn_context.workspace
        if changes:
            await workspace.begin()
        runner = ToolCallRunner(
            agent,
            self._turn_context,
            self._journal,
            self._append,
            self._record,
            self._emit_event,
            entries=self._entries,
            attachments=tuple(files.attachments),
            past=self._conversation.past,
        )
        try:
            is_done = await runner.run(calls)
        finally:
            if changes:
                workspace.changed()
        if not is_done:
            await self._await_people()

    def _may_change_files(self, calls: Sequence[Call]) -> bool:
        """Also where a hook has another tool run in place of the one that was called."""
        if self._hooks.active("before_tool"):
            return True
        effects = {tool.name: tool.effect for tool in callable_tools(self._agent.tools, self._entries)}
        return any(effects.get(call.name, "read") != "read" for call in calls)

    async def _save_workspace(self) -> None:
        seconds = SAVED_WITHIN if self._stop_reason is None else SAVED_AFTER_STOP
        await shielded(self._turn_context.workspace.settled(seconds))

    def _workspace_notes(self) -> tuple[Notice, ...]:
        return tuple(Notice(note, for_model=True) for note in self._turn_context.workspace.notes())

    async def _finish_step(self) -> None:
        """Runs the calls that are left after a restart or a wait for people, unless a new message has arrived.

        If the outcome of a call is unknown, no later call is run, unless the call is repeatable.
        """
        left, ran = unresolved(self._entries), tools_in_place(self._entries)
        if not left:
            return
        repeatable = {tool.name for tool in callable_tools(self._agent.tools, self._entries) if tool.repeatable}
        if any(started and ran.get(call.id, call.name) not in repeatable for call, started in left):
            await self._append(*endings(self._entries, "unknown", UNKNOWN))
        elif await self._read_inbox():
            await self._append(*endings(self._entries, "cancelled", CANCELLED))
        else:
            await self._run([call for call, _ in left])

    async def _await_people(self) -> None:
        """Parks the turn, unless somebody has decided already or there is a new message: any message counts as the
        answer."""
        await self._save_workspace()
        parked = await shielded(self._journal.park(deadline(self._entries)))
        if isinstance(parked, ApprovalDecided):
            await self._record(parked)
            await self._finish_step()
        elif parked:
            self._parked = True
            # A stop in the meantime arrives here, while the turn can still be ended.
            await asyncio.sleep(0)
        else:
            await self._append(*_resolve_waiting(self._entries))

    async def _end(self, outcome: TurnOutcome, reason: str) -> None:
        """Ends the turn, with its partial answer and a result for each call in the log. The reason may be in the words
        of a server or of a hook."""
        reason = self._agent.mask(reason)
        calls = endings(self._entries, "cancelled", _CANCELLED_AT_END + reason)
        await self._close(Ended(outcome, reason), *self.unlogged, *calls)

    async def _append(self, *entries: Entry) -> None:
        """Every entry of the turn passes the gate here, or in `_close`: the log in memory is the stored one."""
        if entries:
            passed = tuple(map(storable, self._hooks.attached(entries)))
            await shielded(self._journal.append(*passed))
            await self._record(*passed)

    async def _close(self, ended: Ended, *entries: Entry) -> None:
        await self._save_workspace()
        entries = (*entries, *self._workspace_notes())
        passed = tuple(map(storable, self._hooks.attached(entries)))
        ended = storable(replace(ended, hooks=self._hooks.left()))
        last = await shielded(self._journal.close(ended, *passed))
        if last:
            self._ended = ended
        await self._record(*passed, *last)

    async def _record(self, *entries: Entry) -> None:
        self._entries.extend(entries)
        if any(isinstance(entry, ModelAnswered | ApprovalRequested) for entry in entries):
            self._model_step = self._draft = None
            self._turn_context.budget.release()
        for entry in entries:
            await self._emit_event(Logged(entry))

    async def _emit_event(self, event: Event) -> None:
        if not isinstance(event, Logged):
            # The entry of a logged event has passed the gate.
            event = storable(event)
        self._observe(as_json, event)
        await self._emit(event)

    def _observe_beginning(self) -> None:
        """Observers learn that the turn runs, and what it has read before it runs for the first time."""
        is_resumed = any(isinstance(entry, ModelAnswered | Resumed) for entry in self._entries)
        self._observe(dict, {"event": "TurnStarted", "resumed": is_resumed})
        if not is_resumed:
            for entry in self._entries:
                self._observe(as_json, Logged(entry))

    def _observe(self, render: Callable[[T], dict[str, Any]], event: T) -> None:
        """Passes the event to the hooks that observe, rendered only if there are any."""
        if self._agent.hooks.active("on_event"):
            masked = json.loads(self._agent.mask(json.dumps(render(event))))
            self._agent.hooks.observe(self._turn_context.hook_context, masked)


async def fail_turn(
    journal: Journal, entries: Sequence[Entry], reason: str, *unlogged: Spent | ModelAnswered
) -> tuple[Entry, ...]:
    """Ends a turn as failed that cannot continue; returns its log. Raises `JournalError` if that cannot be written.

    `unlogged` is the unfinished answer of the turn, which is not in the log yet.
    """
    ended = storable(Ended("failed", reason))
    rest: tuple[Entry, ...] = (*unlogged, *endings(entries, "cancelled", _CANCELLED_AT_END + reason))
    rest = tuple(map(storable, rest))
    return (*entries, *rest, *await shielded(journal.close(ended, *rest)))


def _resolve_waiting(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The entries that end the turn's wait when a message arrives: it is the answer, or replaces it."""
    request, left = open_decision(entries), unresolved(entries)
    if request is not None:
        skipped = (CallEnded(call.id, "skipped", DROPPED if call.id == request.id else SKIPPED) for call, _ in left)
        return ApprovalDecided(request.id, "dropped"), *skipped
    return endings_without_result(entries) or endings(entries, "done", ANSWERED)
