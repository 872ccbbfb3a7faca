"""A writer: a thread that commits all writes in its queue in one transaction."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from sqlalchemy.exc import DBAPIError

from gateway.store.engine import Job
from gateway.store.errors import StoreFailed, StoreUnreachable
from gateway.store.scope import Scope, group_of

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_QUEUED = 1024
"""Writes in the queue; further callers wait for a place, in order."""

MAX_BATCH = 256
"""Writes in one transaction, so that in a burst the first does not wait for the last."""

LATER = object()
"""The result of a job that was not run yet, because somebody else writes in its scope."""


class Transactions(Protocol):
    """What a writer runs jobs with, in its own thread: one connection to a database."""

    def run(self, jobs: Sequence[tuple[Job[Any], Scope]], *, again: bool) -> list[Any]:
        """The results of the jobs, committed in one transaction; `LATER` for all those of a group in which somebody
        else writes now. `again`: it was so before; then it waits a moment for them. Raises what a job raises; none is
        stored then."""
        ...

    def run_alone(self, job: Job[T]) -> T:
        """The result of a job outside a transaction."""
        ...

    def explain(self, error: DBAPIError) -> StoreFailed:
        """The database's error in words for a person."""
        ...


@dataclass(frozen=True, slots=True)
class _Write:
    """`alone`: outside a transaction, with no other write beside it."""

    job: Job[Any]
    scope: Scope
    group: Scope
    future: asyncio.Future[Any]
    alone: bool


@dataclass(frozen=True, slots=True)
class Committed:
    """One transaction with so many writes has taken so many seconds; `failed`: at least one of the writes raised."""

    writes: int
    seconds: float
    failed: bool


OnCommitted = Callable[[Committed], None]
"""Called on the event loop. Never raises."""


def untold(committed: Committed) -> None:
    """For whoever does not measure."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: Any = None
    error: Exception | None = None


_LATER = _Outcome()


class Writer:
    """Runs jobs in the order of the calls, many in one commit; use as `async with`.

    A sync connection in a thread of its own, entered once per group, costs a tenth of the CPU of an asyncio driver that
    enters its thread for every statement.
    """

    def __init__(self, transactions: Transactions, committed: OnCommitted = untold) -> None:
        """`committed` is told of each transaction."""
        self._committed = committed
        self._transactions = transactions
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._places = asyncio.Semaphore(MAX_QUEUED)
        self._loop = asyncio.get_running_loop()
        self._thread = Thread(target=self._serve, name="store-writer", daemon=True)
        self._closed = False
        self._next: _Write | None = None
        self._held: list[_Write] = []
        self._last_held = False
        self._groups = Counter[Scope]()
        self._since: float | None = None

    async def __aenter__(self) -> Writer:
        self._thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closed = True
        self._queue.put(None)
        await asyncio.shield(asyncio.to_thread(self._thread.join))

    async def run(self, job: Job[T], scope: Scope, *, alone: bool = False) -> T:
        """The job's result, once it is committed. Raises what the job raised, or `StoreFailed`; nothing is stored then.

        The job is queued before the first suspension unless the queue is full. From then on it runs even when
        the caller is cancelled. It may run several times, each time but the last rolled back: it may use its connection
        only. `alone`: it runs outside a transaction, while no other write of this writer does.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        await self.queue(job, scope, future, alone=alone)
        return await future

    async def queue(self, job: Job[T], scope: Scope, future: asyncio.Future[T], *, alone: bool = False) -> None:
        """As `run`, for a caller that learns of the result by this future; returns once the job is queued."""
        group = group_of(scope)
        self._groups[group] += 1
        try:
            await self._places.acquire()
        except BaseException:
            self._leave(group)
            raise
        if self._closed:
            self._places.release()
            self._leave(group)
            raise StoreFailed("the store is closed")
        self._queue.put(_Write(job, scope, group, future, alone))

    def has(self, group: Scope) -> bool:
        """Whether a write of this group is not settled yet: others of it must follow it here."""
        return group in self._groups

    @property
    def waiting(self) -> int:
        """Writes in the queue."""
        return self._queue.qsize()

    @property
    def busy_for(self) -> float:
        """For how many seconds the present transaction has gone on; 0 if there is none."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def _leave(self, group: Scope) -> None:
        self._groups[group] -= 1
        if not self._groups[group]:
            del self._groups[group]

    def _serve(self) -> None:
        while batch := self._next_batch():
            self._since = since = time.monotonic()
            outcomes = [self._execute_alone(batch[0])] if batch[0].alone else self._execute(batch)
            self._since = None
            done = [each for each in zip(batch, outcomes, strict=True) if each[1] is not _LATER]
            self._held += [write for write, outcome in zip(batch, outcomes, strict=True) if outcome is _LATER]
            if done:
                self._loop.call_soon_threadsafe(self._settle, done, time.monotonic() - since)

    def _next_batch(self) -> list[_Write]:
        """The next writes, at least one; none when the store closes. Those that are held up by somebody else, of one
        group, and those in the queue take turns; what is queued behind writes that are held up is held up with them."""
        batch: list[_Write] = []
        if not self._held or (self._last_held and not self._queue.empty()):
            batch = self._queued()
            held = {write.group for write in self._held}
            self._held += [write for write in batch if write.group in held]
            batch = [write for write in batch if write.group not in held]
        self._last_held = not batch and bool(self._held)
        if self._last_held:
            group = self._held[0].group
            batch = [write for write in self._held if write.group == group]
            self._held = [write for write in self._held if write.group != group]
        return batch

    def _queued(self) -> list[_Write]:
        """The queued writes, at least one; none when the store closes."""
        batch: list[_Write] = []
        while not batch or (len(batch) < MAX_BATCH and not self._queue.empty()):
            write = self._next or self._queue.get()
            self._next = None
            if write is None:
                # For the next call: there may be writes that are held up.
                self._queue.put(None)
                return batch
            if write.alone and batch:
                self._next = write
                return batch
            batch.append(write)
            if write.alone:
                return batch
        return batch

    def _execute_alone(self, write: _Write) -> _Outcome:
        try:
            return _Outcome(self._transactions.run_alone(write.job))
        except Exception as error:  # noqa: BLE001  # whatever a job raises goes to its caller, and must not end the writer
            return _Outcome(error=self._translate(error))

    def _execute(self, writes: Sequence[_Write]) -> list[_Outcome]:
        try:
            results = self._transactions.run([(each.job, each.scope) for each in writes], again=self._last_held)
            return [_LATER if value is LATER else _Outcome(value) for value in results]
        except StoreUnreachable as error:
            return [_Outcome(error=error)] * len(writes)
        except Exception as error:  # noqa: BLE001  # whatever a job raises goes to its caller, and must not end the writer
            if len(writes) == 1:
                return [_Outcome(error=self._translate(error))]
        outcomes: list[_Outcome] = []
        held = set[Scope]()
        for write in writes:
            outcomes += [_LATER] if write.group in held else self._execute([write])
            if outcomes[-1] is _LATER:
                held.add(write.group)
        return outcomes

    def _translate(self, error: Exception) -> Exception:
        if not isinstance(error, DBAPIError):
            return error
        failed = self._transactions.explain(error)
        failed.__cause__ = error
        return failed

    def _settle(self, done: list[tuple[_Write, _Outcome]], seconds: float) -> None:
        self._committed(Committed(len(done), seconds, any(outcome.error is not None for _, outcome in done)))
        for write, outcome in done:
            self._places.release()
            self._leave(write.group)
            if outcome.error is None:
                if not write.future.done():
                    write.future.set_result(outcome.value)
            elif not write.future.done():
                write.future.set_exception(outcome.error)
            else:
                log.error("a write failed after its caller had gone: %s", outcome.error)
