"""Input of people for running calls: one request at a time in a turn, which waits while the call runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from agent.agent import Agent
from agent.interrupt import cancel_and_wait, shielded
from agent.journal import Journal
from agent.log import Entry, InputEnded, InputKind, InputOutcome, InputRequested
from agent.tool import AskPerson, ToolError
from agent.turn_context import TurnContext

INPUT_TIME = 600.0
"""Seconds that a call waits for an answer, at most."""

MAX_REQUESTS = 50
"""Requests of one call."""

Write = Callable[..., Awaitable[None]]


class CallInput:
    def __init__(
        self,
        agent: Agent,
        turn_context: TurnContext,
        journal: Journal,
        append: Write,
        record: Write,
        entries: Sequence[Entry],
    ) -> None:
        """`entries` is the turn's log, which `append` extends; `record` extends it by what the journal has written."""
        self._agent = agent
        self._turn_context = turn_context
        self._journal = journal
        self._append = append
        self._record = record
        self._entries = entries
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def of_call(self, call_id: str, limit: asyncio.Timeout) -> AsyncIterator[AskPerson]:
        """The call runs inside, with this limit of time, which does not count while it waits for a person."""
        clock, asked, ended = _Clock(limit), 0, False

        async def ask(question: str, options: Sequence[str], takes: InputKind) -> InputEnded:
            nonlocal asked
            if ended:
                raise ToolError("The call has ended.")
            if self._turn_context.unattended:
                raise ToolError("Nobody can be asked here.")
            asked += 1
            if asked > MAX_REQUESTS:
                raise ToolError(f"A call may ask people {MAX_REQUESTS} times.")
            with clock.paused():
                async with self._lock:
                    seconds = min(INPUT_TIME, self._agent.approval_timeout)
                    until = await self._journal.now() + seconds
                    request = InputRequested(*self._new(call_id, question, options), takes, until)
                    return await self._ask(request, seconds)

        try:
            yield ask
        finally:
            ended = True

    def _new(self, call_id: str, question: str, options: Sequence[str]) -> tuple[str, str, str, tuple[str, ...]]:
        """The id, unique in the turn also if the call is repeated after a restart, and what is asked."""
        number = sum(isinstance(entry, InputRequested) for entry in self._entries)
        mask = self._agent.mask
        return f"{call_id}:{number}", call_id, mask(question), tuple(map(mask, options))

    async def _ask(self, request: InputRequested, seconds: float) -> InputEnded:
        """Waits for so many seconds. However this ends, the request has its end in the log."""
        if self._journal.interjected:
            return InputEnded(request.id, "dropped")
        await self._append(request)
        outcome: InputOutcome = "dropped"
        try:
            outcome = await self._answer(seconds)
        finally:
            ended = await shielded(self._journal.end_input(InputEnded(request.id, outcome)))
            await self._record(ended)
        return ended

    async def _answer(self, seconds: float) -> InputOutcome:
        """A message that is no answer is for the turn: the call goes on without one, so that the turn can read it."""
        answered = asyncio.ensure_future(self._journal.answered())
        interjected = asyncio.ensure_future(self._journal.interjection())
        try:
            done, _ = await asyncio.wait((answered, interjected), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(answered, interjected)
        return "dropped" if done else "expired"


class _Clock:
    """The time of a call, which stands still while the call waits for people."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self._limit = limit
        self._left = 0.0
        self._waiting = 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        now = asyncio.get_running_loop().time
        if self._waiting == 0:
            self._left = (self._limit.when() or now()) - now()
            self._limit.reschedule(None)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if self._waiting == 0:
                self._limit.reschedule(now() + self._left)
