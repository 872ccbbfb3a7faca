"""Processes that store, use and delete the same files: every interleaving of what they do to the database and to the
bucket, with crashes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, insert, select

from agent.media import Attachment
from gateway.media import Media
from gateway.media.blobs import BlobMissing, StoredBlob
from gateway.media.incoming import IncomingFile
from gateway.store import media_cleanup
from gateway.store.media_cleanup import MediaClaim
from gateway.store.schema import media, media_uses
from gateway.store.sqlite_file import open_current

EXAMPLES = int(os.environ.get("MEDIA_INTERLEAVINGS", "60"))
"""More of them find what is rarer."""

FILES = (b"one", b"two")
GRACE = timedelta(days=1)


class Gate:
    """Stops everybody before each step until the test lets one of them go on."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []
        self.changed = asyncio.Event()

    async def __call__(self, seconds: float = 0.0) -> None:
        step = asyncio.get_running_loop().create_future()
        self.waiting.append(step)
        self.changed.set()
        await step


class Bucket:
    """What one process sees of the bucket that all share."""

    def __init__(self, shared: dict[str, bytes], gate: Gate, incoming: Path) -> None:
        self.incoming = incoming
        self._shared = shared
        self._gate = gate

    async def put(self, hash: str, file: IncomingFile) -> None:
        await self._gate()
        self._shared[hash] = file.path.read_bytes()

    async def read(self, hash: str) -> bytes:
        await self._gate()
        return self._shared[hash]

    @asynccontextmanager
    async def local_file(self, hash: str) -> AsyncIterator[Path]:
        raise BlobMissing
        yield

    async def delete(self, hashes: Collection[str]) -> None:
        for hash in hashes:
            await self._gate()
            self._shared.pop(hash, None)

    async def stored(self, first: str = "") -> AsyncIterator[StoredBlob]:
        for hash, data in list(self._shared.items()):
            await self._gate()
            yield StoredBlob(hash, len(data), datetime.fromtimestamp(0, UTC))

    async def delete_leftovers(self, before: datetime) -> int:
        return 0


class Table:
    """The operations of the store, each a step of its own."""

    def __init__(self, connection: Connection, gate: Gate) -> None:
        self._connection = connection
        self._gate = gate
        self.crashed = False

    async def _do(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        await self._gate()
        if self.crashed:
            raise asyncio.CancelledError
        return operation(self._connection, *arguments)

    async def record_media(self, attachment: Attachment) -> bool:
        return bool(await self._do(media_cleanup.record, attachment))

    async def claim_unused_media(self, before: datetime) -> MediaClaim:
        claim: MediaClaim = await self._do(media_cleanup.claim_unused, before)
        return claim

    async def claim_unused_media_of(self, hashes: Collection[str], since: datetime) -> MediaClaim:
        claim: MediaClaim = await self._do(media_cleanup.claim_unused_of, hashes, since)
        return claim

    async def claim_unknown_media(self, hashes: Collection[str]) -> MediaClaim:
        claim: MediaClaim = await self._do(media_cleanup.claim_unknown, hashes)
        return claim

    async def end_media_claim(self, claim: MediaClaim, deleted: Collection[str], kept: Collection[str]) -> None:
        await self._do(media_cleanup.end_claim, claim, deleted, kept)


class Process:
    """One gateway's media store, with what runs in it."""

    def __init__(self, connection: Connection, shared: dict[str, bytes], gate: Gate, folder: Path) -> None:
        self.table = Table(connection, gate)
        self.media = Media(Bucket(shared, gate, folder), self.table, pause=gate)
        self.puts: set[asyncio.Task[None]] = set()
        self.deletions: set[asyncio.Task[None]] = set()


class World:
    def __init__(self, connection: Connection, folder: Path) -> None:
        self.shared: dict[str, bytes] = {}
        self.awaited: list[Attachment] = []
        """Stored, and given to somebody who is going to use it."""
        self._connection = connection
        self._folder = folder
        self._gate = Gate()
        self._processes = [self._process(), self._process()]
        # The message that uses the files is left out; nothing is committed.
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")

    def _process(self) -> Process:
        return Process(self._connection, self.shared, self._gate, self._folder)

    # What may happen, each with one number that says how

    def put(self, n: int) -> None:
        process, data = self._processes[n % 2], FILES[n // 2 % 2]

        async def put() -> None:
            self.awaited.append(await process.media.put(data, "file"))

        self._start(process.puts, put())

    def use(self, n: int) -> None:
        """A message, or a log, refers to a file that was stored for it."""
        if self.awaited:
            used = self.awaited.pop(n % len(self.awaited))
            self._connection.execute(insert(media_uses).values(hash=used.hash, inbox=1))

    def forget(self, n: int) -> None:
        """A conversation that uses a file is deleted."""
        uses = self._connection.execute(select(media_uses.c.id, media_uses.c.hash)).all()
        if uses:
            since, use = datetime.now(UTC), uses[n % len(uses)]
            self._connection.execute(delete(media_uses).where(media_uses.c.id == use.id))
            process = self._processes[n % 2]
            self._start(process.deletions, process.media.remove([use.hash], since))

    def sweep(self, n: int) -> None:
        process = self._processes[n % 2]
        self._start(process.deletions, process.media.sweep(GRACE))

    def grow_old(self, n: int) -> None:
        """A day passes, in which whoever was going to use a file has done so or never will."""
        if not any(process.puts for process in self._processes):
            self.awaited.clear()
            self._connection.exec_driver_sql("UPDATE media SET created_at = created_at - 2 * 86400")
            self._expire_claims()

    def crash(self, n: int) -> None:
        process = self._processes[n % 2]
        process.table.crashed = True
        for task in (*process.puts, *process.deletions):
            task.cancel()
        self._processes[n % 2] = self._process()

    def step(self, n: int) -> None:
        if self._gate.waiting:
            step = self._gate.waiting.pop(n % len(self._gate.waiting))
            if not step.done():
                step.set_result(None)

    # The driver

    def _start(self, tasks: set[asyncio.Task[None]], work: Awaitable[object]) -> None:
        async def run() -> None:
            try:
                await work
            finally:
                tasks.discard(task)
                self._gate.changed.set()

        task = asyncio.create_task(run())
        tasks.add(task)

    def _expire_claims(self) -> None:
        """Time passes for claims whose owner has crashed. A living one ends its claim long before that."""
        if not any(process.deletions for process in self._processes):
            self._connection.exec_driver_sql("UPDATE media SET claimed_at = claimed_at - 3600")

    async def settle(self) -> None:
        """Everybody waits for a step."""
        while True:
            await asyncio.sleep(0)
            self._gate.waiting = [step for step in self._gate.waiting if not step.done()]
            running = sum(len(process.puts) + len(process.deletions) for process in self._processes)
            if len(self._gate.waiting) >= running:
                return
            self._gate.changed.clear()
            with suppress(TimeoutError):
                # What is not finished waits for a thread that writes a file.
                await asyncio.wait_for(self._gate.changed.wait(), 1)

    async def finish(self) -> None:
        """Everybody's work comes to its end."""
        while any(process.puts or process.deletions for process in self._processes):
            await self.settle()
            self._expire_claims()
            self.step(0)

    def check(self) -> None:
        used = self._connection.execute(select(media_uses.c.hash)).scalars()
        for hash in {*used, *(attachment.hash for attachment in self.awaited)}:
            assert hash in self.shared, "bytes that somebody needs are gone"

    async def clean_up(self) -> None:
        """Nobody needs anything any more: nothing is left over."""
        self._connection.execute(delete(media_uses))
        self.grow_old(0)
        self.sweep(0)
        await self.finish()
        assert not self.shared
        assert not self._connection.execute(select(media.c.hash)).all()


ACTS: tuple[Callable[[World, int], None], ...] = (
    *(World.step,) * 12,
    *(World.put,) * 4,
    *(World.use,) * 3,
    *(World.forget,) * 3,
    *(World.sweep,) * 2,
    World.grow_old,
    World.crash,
)


async def play(connection: Connection, folder: Path, example: bytes) -> None:
    world = World(connection, folder)
    for act, n in zip(example[::2], example[1::2], strict=False):
        note(f"{ACTS[act % len(ACTS)].__name__} {n}")
        ACTS[act % len(ACTS)](world, n)
        await world.settle()
        world.check()
    await world.finish()
    world.check()
    await world.clean_up()


@contextmanager
def database(folder: Path) -> Iterator[Connection]:
    engine = open_current(folder / "test.db")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def test_no_interleaving_loses_a_file_or_leaves_one_behind(tmp_path: Path) -> None:
    with database(tmp_path) as connection, asyncio.Runner() as runner:

        @settings(max_examples=EXAMPLES, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.binary(min_size=60, max_size=240))
        def check(example: bytes) -> None:
            with connection.begin() as kept:
                runner.run(play(connection, tmp_path, example))
                kept.rollback()

        check()


@pytest.mark.parametrize("first_step", [0, 1, 2, 3])
def test_a_file_that_is_stored_while_another_process_deletes_it_is_there_afterwards(
    tmp_path: Path, first_step: int
) -> None:
    """The put begins after so many steps of the sweep."""

    async def race(connection: Connection) -> None:
        world = World(connection, tmp_path)
        world.put(0)
        await world.finish()
        world.grow_old(0)
        world.sweep(1)
        for _ in range(first_step):
            await world.settle()
            world.step(0)
        world.put(0)
        await world.settle()
        while world._processes[0].puts:
            # The put goes first as long as it can.
            world.step(-1)
            await world.settle()
            if world._processes[1].deletions:
                world.step(0)
                await world.settle()
        await world.finish()
        assert world.shared == {sha256(FILES[0]).hexdigest(): FILES[0]}

    with database(tmp_path) as connection, connection.begin():
        asyncio.run(race(connection))
