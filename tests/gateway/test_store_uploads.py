"""Files that no message has named yet: kept for an hour, and then removed; sooner with their conversation."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from agent.media import Attachment, MediaMissing
from channels.message import STORED, FileRef
from gateway.media import FolderBlobs, Media
from gateway.store import Store
from gateway.store.records import DeletionRequest
from gateway.store.uploads import KEPT
from tests.gateway.notes import HERE, SESSION, message, tell

pytestmark = pytest.mark.engines

DAY = timedelta(days=1)


@pytest.fixture
def media(tmp_path: Path, store: Store) -> Media:
    return Media(FolderBlobs(tmp_path / "media"), store)


async def run(store: Store, sql: str) -> int:
    return int(await store.write(lambda connection: connection.exec_driver_sql(sql).rowcount))


async def uploaded(media: Media, store: Store, data: bytes, session: str = SESSION) -> Attachment:
    file = await media.put(data, "a.txt")
    await store.add_upload(session, file)
    return file


async def test_a_file_is_found_under_the_name_that_a_message_gives_it_and_only_there(
    media: Media, store: Store
) -> None:
    file = await uploaded(media, store, b"words")
    assert await store.find_file(SESSION, file.hash, "b.txt") == replace(file, name="b.txt")
    assert await store.find_file("telegram/bot/8", file.hash, "b.txt") is None


async def test_a_file_of_a_message_that_is_not_ready_yet_is_found_in_its_conversation_only(
    media: Media, store: Store
) -> None:
    file = await media.put(b"words", "a.txt")
    stored = FileRef(f"{STORED}{TypeAdapter(Attachment).dump_json(file).decode()}", "a.txt", "text/plain", 5)
    await store.accept(message("see", files=(stored,)), SESSION)
    assert await store.find_file(SESSION, file.hash, "b.txt") == replace(file, name="b.txt")
    assert await store.find_file("telegram/bot/8", file.hash, "b.txt") is None


async def test_a_file_is_kept_for_an_hour_and_removed_after_it(media: Media, store: Store) -> None:
    file = await uploaded(media, store, b"words")
    await run(store, "UPDATE media SET created_at = 0")
    assert await media.sweep(DAY) == 0
    assert await media.remove([file.hash]) == 0
    assert await media.read(file) == b"words"
    await run(store, f"UPDATE uploads SET at = at - {KEPT.total_seconds()}")
    assert await store.find_file(SESSION, file.hash, "a.txt") is None
    assert await media.sweep(DAY) == 1
    assert await run(store, "DELETE FROM uploads") == 0


async def test_a_new_upload_forgets_those_that_are_too_old(media: Media, store: Store) -> None:
    await uploaded(media, store, b"old")
    await run(store, f"UPDATE uploads SET at = at - {KEPT.total_seconds()}")
    await uploaded(media, store, b"new")
    assert await run(store, "DELETE FROM uploads") == 1


async def test_a_file_goes_with_its_conversation_but_not_what_was_uploaded_since(media: Media, store: Store) -> None:
    last = await tell(store)
    before = await uploaded(media, store, b"before")
    elsewhere = await uploaded(media, store, b"elsewhere", "telegram/bot/8")
    wanted = DeletionRequest("conversation", session=SESSION, upto=last.id + 1, by="operator")
    request = await store.request_deletion(wanted)
    since = await uploaded(media, store, b"since")
    deleted = await store.carry_out_deletion(request, datetime.now(UTC) - DAY)
    assert deleted is not None
    assert deleted.hashes == {before.hash}
    assert await media.remove(deleted.hashes) == 1
    with pytest.raises(MediaMissing):
        await media.read(before)
    assert await store.find_file(SESSION, before.hash, "a.txt") is None
    assert await store.find_file(SESSION, since.hash, "a.txt") == since
    assert await store.find_file("telegram/bot/8", elsewhere.hash, "a.txt") == elsewhere


async def test_a_file_moves_with_its_chat(media: Media, store: Store) -> None:
    new = replace(HERE, chat="-1007")
    await store.open_with_agent("telegram/bot/-1007", new, "")
    for session in (SESSION, "telegram/bot/-1007"):
        both = await uploaded(media, store, b"both", session)
    file = await uploaded(media, store, b"words", "telegram/bot/-1007")
    await store.move_address(HERE, new)
    for each in (both, file):
        assert await store.find_file(SESSION, each.hash, "a.txt") == each
