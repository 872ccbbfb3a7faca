"""The turn loop: hear, ask the model, run its calls, and again, until nothing is left to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agent.asking import ANSWERED, asked
from agent.calls import Calls
from agent.events import Delta, Emit, Logged, TextDelta, Withdrawn
from agent.journal import Journal, JournalError
from agent.log import (
    Answered,
    Call,
    CallEnded,
    CallStarted,
    Ended,
    Entry,
    Heard,
    Outcome,
    Resumed,
    Text,
    Told,
    TurnOutcome,
)
from agent.media import Attachment, MediaStore
from agent.model import Answer, Model, ModelError, Request
from agent.racing import Interjected, surely, unless
from agent.received import lay_out
from agent.tool import Tool
from agent.transcript import NEVER_STARTED, UNKNOWN, Exchange, Notice, transcript

log = logging.getLogger(__name__)

MOST_RESTARTS = 5
"""A turn that was interrupted by this many restarts, with nothing done between them, is likely their cause."""

BROKE = "something broke inside the gateway; its log has the details"

SUM_UP = (
    "You have used all the steps allowed for this task, and tools are no longer available. Tell the person, in words, "
    "what was done, what was not, and how to go on."
)
_ENDED_WHILE_RUNNING = "Cancelled: the turn ended while this call was running: "

CUT_OFF = "_The answer was cut off at the model's length limit._"


@dataclass(frozen=True, slots=True)
class Mind:
    """What an agent is made of. `max_steps` counts model calls since a person last spoke."""

    model: Model
    media: MediaStore
    workspace: Path
    tools: tuple[Tool, ...] = ()
    instructions: str = ""
    max_steps: int = 50


class Turn:
    """One run of the agent. `entries` is its log so far: what a new turn has heard, or all that a resumed one has.

    `past` is the conversation before this turn. `run()` may be called once.
    """

    def __init__(
        self,
        mind: Mind,
        journal: Journal,
        emit: Emit,
        *,
        id: str,
        entries: Sequence[Entry],
        past: Sequence[Exchange] = (),
    ) -> None:
        self._mind = mind
        self._journal = journal
        self._emit = emit
        self._id = id
        self._past = past
        self._entries = list(entries)
        self._partial = ""
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
        return 1 + sum(isinstance(entry, Answered) for entry in self._entries)

    @property
    def running_calls(self) -> tuple[Call, ...]:
        """The calls that have started and not ended."""
        return tuple(call for call, started in _unresolved(self._entries) if started)

    @property
    def unwritten(self) -> tuple[Answered, ...]:
        """The answer that is being given and is not in the log, as far as it has been told."""
        return (Answered(self.step, (Text(self._partial),), interrupted=True),) if self._partial else ()

    def stop(self, reason: str) -> None:
        """Cancels what runs; the turn ends as stopped, for `reason`. Later stops change nothing."""
        if self._stop_reason is None:
            self._stop_reason = reason
            if self._task is not None:
                self._task.cancel()

    async def run(self) -> Ended | None:
        """Runs to the end and returns it, as logged; None when it has asked people something and is parked until
        somebody says something. Raises `JournalError`.

        Cancelling the task (rather than calling `stop`) abandons the turn as it stands, to be resumed later.
        """
        self._task = asyncio.current_task()
        try:
            await self._go_on_to_the_end()
        finally:
            await self._absorb_late_stop()
            self._task = None
        assert self._parked or self._ended is not None
        return self._ended

    async def _go_on_to_the_end(self) -> None:
        try:
            await self._go_on()
        except ModelError as error:
            await self._end("failed", str(error))
        except JournalError:
            raise
        except asyncio.CancelledError:
            await self._cancelled()
        except Exception:
            log.exception("turn %s broke", self._id)
            await self._end("failed", BROKE)

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
            await self._end("failed", BROKE)

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
        if _restarts_in_a_row(self._entries) >= MOST_RESTARTS:
            await self._end("failed", f"{MOST_RESTARTS} restarts in a row interrupted it, and it was given up")
            return
        if _has_open_question(self._entries):
            await self._await_answer()
        else:
            await self._append(*_endings(self._entries, "unknown", UNKNOWN))
        while self._ended is None and not self._parked:
            await self._take_step()

    async def _await_answer(self) -> None:
        """Parks the turn, unless somebody has said something: whatever it is, it is the answer."""
        self._parked = await surely(self._journal.park())
        if self._parked:
            # A stop that came meanwhile arrives here, while the turn can still be ended.
            await asyncio.sleep(0)
        else:
            await self._append(*_endings(self._entries, "done", ANSWERED))

    async def _take_step(self) -> None:
        await self._hear()
        if _is_answered(self._entries):
            # What waited when the answer was kept was withdrawn, or a crash came before the turn's end.
            await self._close(Ended("completed"))
            return
        answered, cut_off = await self._ask()
        if answered.interrupted:
            await self._append(answered)
        elif answered.calls:
            await self._append(answered)
            if not await self._run(answered.calls):
                await self._await_answer()
        else:
            await self._close(Ended("completed"), answered, *((Told(CUT_OFF),) if cut_off else ()))

    async def _hear(self) -> None:
        if self._journal.interjected:
            heard = await surely(self._journal.hear(self.step))
            if heard is not None:
                await self._record(heard)

    async def _ask(self) -> tuple[Answered, bool]:
        """The model's answer (an interrupted one if an interjection came first), and whether it was cut off."""
        step = self.step
        request = self._request()
        self._partial = ""
        try:
            answer = await unless(self._mind.model.answer(request, self._tell), self._journal.interjection())
        except Interjected:
            return self._interrupted_answer(), False
        parts = tuple(
            replace(part, id=f"{self._id[:12]}_{step}_{number}") if isinstance(part, Call) else part
            for number, part in enumerate(answer.parts)
            if not (request.in_words and isinstance(part, Call))
        )
        return Answered(step, parts, answer.usage, answer.model), _is_cut_off(answer)

    def _request(self) -> Request:
        conversation = [*self._past, *transcript(self._entries)]
        tools = tuple(tool.spec for tool in self._mind.tools)
        if _steps_since_heard(self._entries) >= self._mind.max_steps:
            return Request(self._mind.instructions, [*conversation, Notice(SUM_UP)], tools, in_words=True)
        return Request(self._mind.instructions, conversation, tools)

    async def _tell(self, delta: Delta) -> None:
        match delta:
            case TextDelta(text):
                self._partial += text
            case Withdrawn():
                self._partial = ""
            case _:
                pass
        await self._emit(delta)

    def _interrupted_answer(self) -> Answered:
        return self.unwritten[0] if self.unwritten else Answered(self.step, (), interrupted=True)

    async def _run(self, calls: Sequence[Call]) -> bool:
        mind = self._mind
        conversation = [*self._past, *self._entries]
        await lay_out(_received(conversation), mind.workspace, mind.media)
        seen = _attachments(conversation)
        running = Calls(mind.tools, mind.workspace, mind.media, self._journal, self._append, self._emit, seen)
        return await running.run(calls)

    async def _end(self, outcome: TurnOutcome, reason: str) -> None:
        """Ends the turn with everything in it accounted for: the partial answer and each call's result."""
        calls = _endings(self._entries, "cancelled", _ENDED_WHILE_RUNNING + reason)
        await self._close(Ended(outcome, reason), *self.unwritten, *calls)

    async def _append(self, *entries: Entry) -> None:
        if entries:
            await surely(self._journal.append(*entries))
            await self._record(*entries)

    async def _close(self, ended: Ended, *entries: Entry) -> None:
        if await surely(self._journal.close(ended, *entries)):
            self._ended = ended
            entries = (*entries, ended)
        await self._record(*entries)

    async def _record(self, *entries: Entry) -> None:
        self._entries.extend(entries)
        if any(isinstance(entry, Answered) for entry in entries):
            self._partial = ""
        for entry in entries:
            await self._emit(Logged(entry))


async def give_up(journal: Journal, entries: Sequence[Entry], reason: str, *unwritten: Answered) -> tuple[Entry, ...]:
    """Ends a turn that cannot go on as failed; returns its log. Raises `JournalError` while that cannot be written.

    `unwritten` is the answer that was being given when the turn broke.
    """
    ended = Ended("failed", reason)
    rest: tuple[Entry, ...] = (*unwritten, *_endings(entries, "cancelled", _ENDED_WHILE_RUNNING + reason))
    await surely(journal.close(ended, *rest))
    return (*entries, *rest, ended)


def _unresolved(entries: Sequence[Entry]) -> list[tuple[Call, bool]]:
    """The calls that have no result yet, each with whether it had started."""
    started = {entry.call_id for entry in entries if isinstance(entry, CallStarted)}
    ended = {entry.call_id for entry in entries if isinstance(entry, CallEnded)}
    calls = [call for entry in entries if isinstance(entry, Answered) for call in entry.calls]
    return [(call, call.id in started) for call in calls if call.id not in ended]


def _has_open_question(entries: Sequence[Entry]) -> bool:
    return any(started and asked(call) for call, started in _unresolved(entries))


def _endings(entries: Sequence[Entry], outcome: Outcome, text: str) -> tuple[CallEnded, ...]:
    """A result for each call that has none: `outcome` if it had started, else skipped."""
    return tuple(
        CallEnded(call.id, outcome, text) if started else CallEnded(call.id, "skipped", NEVER_STARTED)
        for call, started in _unresolved(entries)
    )


def _is_answered(entries: Sequence[Entry]) -> bool:
    """Whether the model has answered, wants nothing done, and has heard nothing new since."""
    last = next((entry for entry in reversed(entries) if isinstance(entry, Heard | Answered)), None)
    return isinstance(last, Answered) and not last.interrupted and not last.calls


def _restarts_in_a_row(entries: Sequence[Entry]) -> int:
    """Restarts since a call last came to a result of its own."""
    count = 0
    for entry in reversed(entries):
        if isinstance(entry, CallEnded) and entry.outcome in ("done", "failed", "cancelled"):
            break
        count += isinstance(entry, Resumed)
    return count


def _steps_since_heard(entries: Sequence[Entry]) -> int:
    count = 0
    for entry in reversed(entries):
        if isinstance(entry, Heard):
            break
        count += isinstance(entry, Answered) and not entry.interrupted
    return count


def _is_cut_off(answer: Answer) -> bool:
    return answer.finish == "length" and not any(isinstance(part, Call) for part in answer.parts)


def _attachments(conversation: Sequence[Entry | Exchange]) -> tuple[Attachment, ...]:
    """What was attached by people and made by tools, oldest first."""
    found: list[Attachment] = []
    for item in conversation:
        match item:
            case Heard():
                found.extend(_received([item]))
            case CallEnded():
                found.extend(item.attachments)
            case _:
                pass
    return tuple(found)


def _received(conversation: Sequence[Entry | Exchange]) -> list[Attachment]:
    """What was attached by people, oldest first."""
    heard = (item for item in conversation if isinstance(item, Heard))
    return [attachment for item in heard for message in item.messages for attachment in message.attachments]
