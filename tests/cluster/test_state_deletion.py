"""What is to be deleted is deleted by one worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.store import open_store
from gateway.store.records import DeletionRequest
from gateway.turns.deletion import DataDeletion
from tests.engines import engines
from tests.gateway.notes import SESSION, begin, finish, states, tell

pytestmark = pytest.mark.engines("postgresql")


async def test_a_request_that_two_workers_have_read_deletes_nothing_that_was_said_after_it(tmp_path: Path) -> None:
    url = engines.url(tmp_path / "interject.db")
    begun = datetime.now(UTC) - timedelta(minutes=1)
    async with open_store(url, worker="a") as one, open_store(url, worker="b") as other:
        await tell(one)
        await finish(one, await begin(one))
        id = await one.request_deletion(DeletionRequest("conversation", session=SESSION, by="operator"))
        ((wanted, *_),) = await other.unfinished_deletions()
        await DataDeletion(one).catch_up()
        await tell(one, "a new conversation")
        assert await other.carry_out_deletion(wanted.id, begun) is None
        assert len(await states(one)) == 1
        _, report = await one.deletion_result(id)
        assert report is not None
        assert report.conversations == 1
        assert len(await one.audit_since(begun, "deleted")) == 1
