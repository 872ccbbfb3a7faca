"""No two conversations have the same workspace, even if the short hashes in the names of the folders are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from channels.address import Address
from gateway.sessions import session_key
from gateway.store import open_store
from gateway.store.records import DeletionRequest
from gateway.turns.deletion import DataDeletion
from gateway.turns.workspaces import Workspaces
from tests.engines import engines
from tests.gateway.notes import message
from tests.install.old_databases import database_of

# The first 40 bits of the hashes of these keys are the same, and so is the readable part of their names.
ONE, OTHER = (Address("memory", "me", "a" * 80 + end) for end in ("d1a68", "13ac71"))


async def no_files(*args: object) -> int:
    return 0


@pytest.mark.engines
async def test_conversations_whose_folders_would_have_the_same_name_have_different_ones(tmp_path: Path) -> None:
    async with open_store(engines.url(tmp_path / "interject.db")) as store:
        here, there = (Workspaces(tmp_path, "conversation", store) for _ in range(2))
        for address in (ONE, OTHER):
            await store.accept(message(address=address), session_key(address))
        folders = [await here.folder(session_key(address)) for address in (ONE, OTHER)]
        assert len(set(folders)) == 2
        assert [await there.folder(session_key(address)) for address in (OTHER, ONE)] == folders[::-1]
        for folder in folders:
            folder.mkdir()
            (folder / "notes.txt").touch()
        deletion = DataDeletion(store, no_files, there.remove)
        await deletion.delete(DeletionRequest("conversation", session_key(ONE), by="operator"))
        assert [folder.exists() for folder in folders] == [False, True]
        assert await here.folder(session_key(OTHER)) == folders[1], "a name stays, also when a better one is free"
        assert engines.sql(tmp_path / "interject.db", "SELECT count(*) FROM workspace_names") == [(1,)]


@pytest.mark.engines("sqlite")
async def test_folders_that_there_were_keep_their_names_and_of_two_with_one_the_older_conversation_has_it(
    tmp_path: Path,
) -> None:
    rows = [{"key": session_key(address), "created_at": float(at)} for at, address in enumerate((OTHER, ONE))]
    path = database_of("0028", {"sessions": rows}, tmp_path)
    async with open_store(f"sqlite:///{path}") as store:
        workspaces = Workspaces(tmp_path, "conversation", store)
        names = [(await workspaces.folder(session_key(address))).name for address in (ONE, OTHER)]
    assert names[1] == f"memory-{'a' * 53}-fd9237aaf4"
    assert names[0].startswith(f"memory-{'a' * 53}-fd9237aaf4")
    assert len(names[0]) > len(names[1])
