"""What a worker does beside its work: it beats, and looks for what others have left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.lifecycle import supervision
from gateway.lifecycle.worker_lease import WorkerLease
from gateway.store import open_store
from tests.engines import engines

pytestmark = pytest.mark.engines("postgresql")


class Work:
    """It looks until it has looked without a failure; `failures` is how often it fails before."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.looked = asyncio.Event()

    def running_turns(self) -> tuple[int, int]:
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
