"""What a worker does beside its work: it beats, and looks for what others have left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.lifecycle import supervision, worker_lease
from gateway.lifecycle.worker_lease import WorkerLease
from gateway.store import open_store
from tests.engines import engines
from tests.gateway.test_store_postgres import until
from tests.servers.proxy import proxy

pytestmark = pytest.mark.engines("postgresql")


class Work:
    """It looks until it has looked without a failure; `failures` is how often it fails before."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.looked = asyncio.Event()
        self.beats = 0

    def running_turns(self) -> tuple[int, int]:
        self.beats += 1
        return 0, 1

    async def look(self) -> None:
        if self.failures:
            self.failures -= 1
            raise ZeroDivisionError("an error of the program")
        self.looked.set()

    def drain(self) -> None:
        raise AssertionError("nobody drains it")


async def test_a_look_that_fails_unexpectedly_is_not_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervision, "FIRST_PAUSE", 0.01)
    work = Work(failures=2)
    async with (
        asyncio.timeout(20),
        open_store(engines.url(tmp_path / "interject.db")) as store,
        WorkerLease(store) as lease,
    ):
        lease.attach(work)
        await work.looked.wait()
        assert lease.is_current()
    assert caplog.text.count("ZeroDivisionError: an error of the program") == 2, "an operator can see why"


async def test_after_the_database_was_away_for_long_the_others_get_the_time_to_beat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_lease, "BEATS", 30)
    file, work = tmp_path / "interject.db", Work(failures=0)
    url, expire = engines.url(file), "UPDATE workers SET until = 0 WHERE id = ?"
    async with asyncio.timeout(60), open_store(url, worker="other") as other, open_store(url, worker="dead"):
        with proxy(engines.server().port) as line:
            async with open_store(line.url(url)) as store, WorkerLease(store, seconds=3.0) as lease:
                lease.attach(work)
                engines.sql(file, expire, "dead")
                await until(lambda: not engines.sql(file, "SELECT 1 FROM workers WHERE id = 'dead'"))
                line.stalled.set()
                await until(lambda: not lease.is_current())
                engines.sql(file, expire, "other")
                line.stalled.clear()
                await until(lease.is_current)
                beats = work.beats
                await until(lambda: work.beats > beats + 3)
                assert await other.beat(60.0, 0, 1) is not None
