"""Deletion of data: what runs is stopped, then the rows, files, folders and traces are removed."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from agent.log import MessagesRead
from agent.media import MediaError
from gateway.bus import Bus
from gateway.store import records
from gateway.store.deletion import Deleted
from gateway.store.inbox import MAX_ROW_ID
from gateway.store.records import DeletionReport, DeletionRequest, FolderOwner
from gateway.turns.background import BackgroundWork
from gateway.turns.budgets import midnight, person_on
from gateway.turns.dispatcher import Dispatcher
from gateway.turns.running import RunningTurn, RunningTurns, running_here

log = logging.getLogger(__name__)

STOPPED = "its data is being deleted"

STOP_TIMEOUT = 5.0
"""Seconds to wait for a stopped turn. One that has not ended by then cannot write any more."""

COMPACT_PAUSE = 600.0
"""Seconds between two compactions of the database, which make all writes wait. Deleted rows are overwritten at once."""

BATCH = 20
"""Conversations whose old parts are deleted in one transaction, while other writes wait."""

CHECK_PAUSE = 1.0
"""Seconds between two looks for requests of the command line."""

FIRST_PAUSE = 5.0
MAX_PAUSE = 600.0
"""Seconds until a deletion that failed is tried again: twice as long after each failure."""


class DeletionStore(Protocol):
    async def request_deletion(self, wanted: DeletionRequest) -> int: ...
    async def unfinished_deletions(self) -> tuple[tuple[DeletionRequest, bool, tuple[FolderOwner, ...]], ...]: ...
    async def carry_out_deletion(self, request_id: int, today: datetime) -> Deleted | None: ...
    async def deletion_result(self, request_id: int) -> tuple[str, DeletionReport | None]: ...
    async def deletions_done(self, request_ids: Collection[int]) -> None: ...
    async def folders_removed(self, request_id: int, folders: int) -> None: ...
    async def old_sessions(
        self, before: datetime, channel: str | None, besides: Collection[str]
    ) -> tuple[str, ...]: ...
    async def delete_older(self, keys: Sequence[str], before: datetime, today: datetime) -> Deleted | None: ...
    async def sessions_of(self, person: str) -> tuple[str, ...]: ...
    async def forget_costs(self, today: datetime) -> None: ...
    async def expire_media(self, before: datetime) -> frozenset[str]: ...
    async def delete_audit_before(self, time: datetime) -> int: ...
    async def vacuum(self) -> bool: ...


class AffectedStore(Protocol):
    async def is_deleted_whole(self, session: str, wanted: DeletionRequest) -> bool: ...
    async def rows_of(self, session: str, person: str) -> frozenset[int]: ...
    async def turn(self, turn_id: str) -> records.Turn: ...
    async def running_elsewhere(self) -> tuple[records.Turn, ...]: ...
    async def unfinished(self, session: str) -> records.Turn | None: ...
    async def request_stop(self, session: str, before: int, reason: str) -> records.Turn | None: ...
    async def stop_parked(self, session: str, reason: str) -> bool: ...
    async def withdraw_waiting(self, session: str, upto: int, reason: str) -> tuple[records.MessageChange, ...]: ...


RemoveFiles = Callable[[Collection[str], datetime], Awaitable[int]]
"""Deletes those of the stored files that nothing uses since then; how many."""


async def keep_files(hashes: Collection[str], since: datetime) -> int:
    """For a gateway whose files are not on disk."""
    return 0


async def keep_folder(owner: FolderOwner) -> bool:
    """For a gateway without folders of conversations."""
    return False


async def forget_nobody(person: str) -> None:
    """For a gateway that stores nothing of people beside the store."""


async def stop_nothing(session: str, wanted: DeletionRequest) -> None:
    """For a process without turns."""


def forget_nothing(session: str) -> None:
    """For a process without turns."""


class DataDeletion:
    def __init__(
        self,
        store: DeletionStore,
        remove_files: RemoveFiles = keep_files,
        remove_folder: Callable[[FolderOwner], Awaitable[bool]] = keep_folder,
        *,
        forget_person: Callable[[str], Awaitable[None]] = forget_nobody,
        stop: Callable[[str, DeletionRequest], Awaitable[None]] = stop_nothing,
        forget: Callable[[str], None] = forget_nothing,
    ) -> None:
        """`remove_folder` deletes a workspace, and says whether there was one. `forget_person` removes what is stored
        of a person elsewhere, such as their sign-ins. `stop` stops what a deletion affects in a session, `forget` drops
        the session's history from memory."""
        self._store = store
        self._remove_files = remove_files
        self._remove_folder = remove_folder
        self._forget_person = forget_person
        self._stop = stop
        self._forget = forget
        self._lock = asyncio.Lock()
        self._compacted_at = -math.inf
        self._pauses: dict[int, float] = {}
        """The pause after the last failure, by request."""
        self._not_before: dict[int, float] = {}

    async def delete(self, wanted: DeletionRequest) -> DeletionReport:
        """Deletes and returns what was deleted. A crash on the way delays the deletion until the next start. Raises
        `StoreError`."""
        request_id = await self._store.request_deletion(wanted)
        async with self._lock:
            state, _ = await self._store.deletion_result(request_id)
            if state == "requested":
                await self._delete(replace(wanted, id=request_id))
        _, report = await self._store.deletion_result(request_id)
        return report or DeletionReport()

    async def delete_older(self, age: timedelta, channel: str | None, *, besides: frozenset[str] = frozenset()) -> None:
        """Deletes what is older in the conversations of the channel; None: of all channels besides some."""
        before = datetime.now(UTC) - age
        keys = await self._store.old_sessions(before, channel, besides)
        for first in range(0, len(keys), BATCH):
            async with self._lock:
                since = datetime.now(UTC)
                deleted = await self._store.delete_older(keys[first : first + BATCH], before, midnight())
                if deleted is not None:
                    await self._clean_up(deleted, since)

    async def expire_media(self, age: timedelta) -> None:
        """Deletes files stored longer ago, also those that messages refer to."""
        async with self._lock:
            now = datetime.now(UTC)
            await self._remove(await self._store.expire_media(now - age), now)

    async def expire_audit_log(self, age: timedelta) -> None:
        await self._store.delete_audit_before(datetime.now(UTC) - age)

    async def watch(self) -> None:
        """Carries out requests of the command line, and what an earlier process left; never returns."""
        while True:
            await self.catch_up()
            await asyncio.sleep(CHECK_PAUSE)

    async def catch_up(self) -> None:
        """Carries out what was requested and is not done. A failure affects one request, which is tried again later."""
        if not await self._store.unfinished_deletions():
            return
        async with self._lock:
            for wanted, is_deleted, folders in await self._store.unfinished_deletions():
                if time.monotonic() < self._not_before.get(wanted.id, -math.inf):
                    continue
                try:
                    await (self._finish(wanted.id, folders) if is_deleted else self._delete(wanted))
                except Exception:
                    log.exception("a deletion (%s) failed and is tried again", wanted.scope)
                    self._postpone(wanted.id)
            await self._compact()

    # One deletion

    async def _delete(self, wanted: DeletionRequest) -> None:
        sessions = (wanted.session,) if wanted.session else await self._store.sessions_of(wanted.person)
        await asyncio.gather(*(self._stop(session, wanted) for session in sessions))
        if wanted.scope == "person":
            # Before it counts as deleted: what fails here is tried again.
            await self._forget_person(wanted.person)
        since = datetime.now(UTC)
        deleted = await self._store.carry_out_deletion(wanted.id, midnight())
        if deleted is None:
            return
        log.info("deleted (%s, asked for by %s): %s", wanted.scope, wanted.by or "the settings", deleted.report)
        await self._clean_up(deleted, since)

    async def _clean_up(self, deleted: Deleted, since: datetime) -> None:
        """Files that were stored since the deletion began are others'."""
        for session in deleted.sessions:
            self._forget(session)
        await self._remove(deleted.hashes, since)
        await self._finish(deleted.request, deleted.folders)
        await self._compact()

    async def _remove(self, hashes: Collection[str], since: datetime) -> None:
        """Files that cannot be removed now are removed by the daily cleanup."""
        try:
            await self._remove_files(hashes, since)
        except MediaError as error:
            log.warning("files of a deleted conversation are removed later: %s", error)

    async def _finish(self, request_id: int, folders: Sequence[FolderOwner]) -> None:
        """Folders that cannot be removed now are tried again."""
        try:
            await self._remove_folders(request_id, folders)
        except OSError as error:
            log.warning("the workspace of a deleted conversation cannot be removed yet: %s", error)
            self._postpone(request_id)

    def _postpone(self, request_id: int) -> None:
        pause = self._pauses[request_id] = min(MAX_PAUSE, 2 * self._pauses.get(request_id, FIRST_PAUSE / 2))
        self._not_before[request_id] = time.monotonic() + pause

    async def _remove_folders(self, request_id: int, folders: Sequence[FolderOwner]) -> None:
        """Raises `OSError`: the request stays undone, and is tried again."""
        removed, errors = 0, []
        for owner in folders:
            try:
                removed += await self._remove_folder(owner)
            except OSError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        if folders:
            await self._store.folders_removed(request_id, removed)

    async def _compact(self) -> None:
        """Removes the last traces from the database file; the requests are done then."""
        unfinished = await self._store.unfinished_deletions()
        finished = [wanted.id for wanted, is_deleted, folders in unfinished if is_deleted and not folders]
        if not finished or time.monotonic() - self._compacted_at < COMPACT_PAUSE:
            return
        if await self._store.vacuum():
            self._compacted_at = time.monotonic()
            await self._store.forget_costs(midnight())
            await self._store.deletions_done(finished)


class AffectedTurns:
    """The running and parked turns, and the background work, that a deletion affects."""

    def __init__(self, store: AffectedStore, bus: Bus, dispatcher: Dispatcher, background: BackgroundWork) -> None:
        self._store = store
        self._bus = bus
        self._running = RunningTurns(store, bus, dispatcher)
        self._dispatcher = dispatcher
        self._background = background

    async def stop(self, session: str, wanted: DeletionRequest) -> None:
        """Stops what runs in the session, as far as it is deleted, and waits for its end."""
        whole = await self._store.is_deleted_whole(session, wanted)
        theirs: frozenset[int] = frozenset() if whole else await self._store.rows_of(session, wanted.person)
        upto = MAX_ROW_ID if wanted.upto is None else wanted.upto
        active = self._dispatcher.active(session)
        if active is not None and (whole or _is_theirs(running_here(active), wanted.person, theirs)):
            self._dispatcher.stop(session, before=upto, reason=STOPPED)
        else:
            active = None
        elsewhere = None
        if not self._dispatcher.runs(session):
            running = await self._running.of(session)
            if running is not None and (whole or _is_theirs(running, wanted.person, theirs)):
                elsewhere = await self._store.request_stop(session, upto, STOPPED)
                self._bus.stop(session, before=upto, reason=STOPPED)
        if whole:
            await self._store.withdraw_waiting(session, upto, STOPPED)
        await self._background.stop_all(session, None if whole else wanted.person)
        parked = await self._store.unfinished(session)
        if parked is not None and parked.parked:
            began = person_on(parked.address, parked.principal) == wanted.person
            if (whole or began) and await self._store.stop_parked(session, STOPPED):
                self._bus.wake(session, "interrupt")
                active = self._dispatcher.active(session)
        if active is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT):
                    await active.ended.wait()
        if elsewhere is not None:
            await self._running.over(elsewhere, seconds=STOP_TIMEOUT)


def _is_theirs(running: RunningTurn | None, person: str, rows: frozenset[int]) -> bool:
    """Whether the person began the turn, or it has read a message of theirs. One that has not begun may do so."""
    if running is None:
        return True
    record = running.record
    read = (message.id for entry in running.entries if isinstance(entry, MessagesRead) for message in entry.messages)
    return person_on(record.address, record.principal) == person or not rows.isdisjoint(read)
