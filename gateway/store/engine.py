"""The engine protocol: how the store runs operations on a database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from gateway.store.scope import Scope

T = TypeVar("T")
Job = Callable[[Connection], T]


class Engine(Protocol):
    """One open database. Jobs use their connection and nothing else. Both methods raise what the job raises, or
    `StoreFailed` when the database does not do its part; nothing of the job is stored then."""

    is_shared: bool
    """Whether other processes may use the database at the same time."""

    async def write(self, job: Job[T], scope: Scope) -> T:
        """The job's result, once it is committed.

        Jobs of one scope run one after another, in the order of the calls; each sees what those before it have
        written, and callers learn of their commits in that order. They are queued before the first suspension, and a
        caller that is cancelled afterwards does not undo its job. A job may run several times, each time but the last
        rolled back.
        """
        ...

    async def read(self, query: Job[T]) -> T:
        """The query's result. It runs concurrently with writes and sees what was committed before."""
        ...

    async def vacuum(self) -> bool:
        """Rewrites the database without what was deleted, after the writes queued before. Other writes wait meanwhile.
        False: a reader holds the old content; try again later."""
        ...
