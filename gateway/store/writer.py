"""A writer: a thread that commits all writes in its queue in one transaction."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from sqlalchemy.exc import DBAPIError

from gateway.store.engine import Job
from gateway.store.errors import StoreFailed, StoreUnreachable
from gateway.store.scope import Scope

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_QUEUED = 1024
"""Writes in the queue; further callers wait for a place, in order."""

MAX_BATCH = 256
"""Writes in one transaction, so that in a burst the first does not wait for the last."""


class Transactions(Protocol):
    """What a writer runs jobs with, in its own thread: one connection to a database."""

    def run(self, jobs: Sequence[tuple[Job[Any], Scope]]) -> list[Any]:
        """The results of the jobs, committed in one transaction. Raises what a job raises; none is stored then."""
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
        await self._places.acquire()
        if self._closed:
            self._places.release()
            raise StoreFailed("the store is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Write(job, scope, future, alone))
        return await future

    def _serve(self) -> None:
        while batch := self._next_batch():
            since = time.monotonic()
            outcomes = [self._execute_alone(batch[0])] if batch[0].alone else self._execute(batch)
            self._loop.call_soon_threadsafe(self._settle, batch, outcomes, time.monotonic() - since)

    def _next_batch(self) -> list[_Write]:
        """The queued writes, at least one; none when the store closes."""
        batch: list[_Write] = []
        while not batch or (len(batch) < MAX_BATCH and not self._queue.empty()):
            write = self._next or self._queue.get()
            self._next = None
            if write is None:
                if batch:
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

    def _execute(self, writes: list[_Write]) -> list[_Outcome]:
        try:
            return [_Outcome(value) for value in self._transactions.run([(each.job, each.scope) for each in writes])]
        except StoreUnreachable as error:
            return [_Outcome(error=error)] * len(writes)
        except Exception as error:  # noqa: BLE001  # whatever a job raises goes to its caller, and must not end the writer
            if len(writes) == 1:
                return [_Outcome(error=self._translate(error))]
        return [outcome for write in writes for outcome in self._execute([write])]

    def _translate(self, error: Exception) -> Exception:
        if not isinstance(error, DBAPIError):
            return error
        failed = self._transactions.explain(error)
        failed.__cause__ = error
        return failed

    def _settle(self, batch: list[_Write], outcomes: list[_Outcome], seconds: float) -> None:
        self._committed(Committed(len(batch), seconds, any(outcome.error is not None for outcome in outcomes)))
        for write, outcome in zip(batch, outcomes, strict=True):
            self._places.release()
            if outcome.error is None:
                if not write.future.done():
                    write.future.set_result(outcome.value)
            elif not write.future.done():
                write.future.set_exception(outcome.error)
            else:
                log.error("a write failed after its caller had gone: %s", outcome.error)
