"""Forks in the store: copies name each other, not what they were copied from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.log import Compacted, MessagesRead
from channels.address import Address
from gateway.sessions import session_key
from gateway.store import Store
from gateway.store.forks import Fork
from tests.gateway.notes import ANSWER, COMPLETED, HERE, PHOTO, PICTURE, SESSION, begin, finish, message, tell

pytestmark = pytest.mark.engines

THERE = Address("web", "local", "fork")
COPY = session_key(THERE)


async def answer(store: Store, text: str) -> str:
    await tell(store, text)
    turn = await begin(store)
    await finish(store, turn)
    return turn.id


async def test_what_is_copied_names_the_copies(store: Store) -> None:
    first = await answer(store, "one")
    await tell(store, "two")
    turn = await begin(store)
    summary = Compacted(1, first, "They said one.")
    assert await store.close(turn.id, turn.epoch, COMPLETED, (summary, ANSWER))
    assert await store.fork(Fork(SESSION, THERE)) == "forked"
    copied = await store.history(COPY)
    rows = {row.text: row for row in await store.rows(COPY)}
    assert [entry for past in copied for entry in past.entries if isinstance(entry, Compacted)] == [
        replace(summary, through=copied[0].id)
    ]
    read = [entry.messages[0] for past in copied for entry in past.entries if isinstance(entry, MessagesRead)]
    assert [(each.text, each.id) for each in read] == [("one", rows["one"].id), ("two", rows["two"].id)]
    assert [rows[text].turn for text in ("one", "two")] == [past.id for past in copied]
    original = {row.id for row in await store.rows(SESSION)} | {past.id for past in await store.history(SESSION)}
    assert not original & ({row.id for row in rows.values()} | {past.id for past in copied})


async def test_files_are_used_by_original_and_copy(store: Store) -> None:
    await store.record_media(PICTURE)
    arrival = await store.accept(message("look", files=(PHOTO,)), SESSION)
    assert arrival is not None
    assert await store.mark_ready(arrival.id, (PHOTO,), (PICTURE,))
    await finish(store, await begin(store))
    assert await store.fork(Fork(SESSION, THERE, message=arrival.id)) == "forked"
    for session in (SESSION, COPY):
        assert await store.find_file(session, PICTURE.hash, "cat.png") == PICTURE


async def test_the_newest_turns_are_copied_of_a_very_long_conversation(store: Store) -> None:
    ids = [await answer(store, f"{number}") for number in range(5)]
    assert await store.fork(Fork(SESSION, THERE, run=ids[3]), 2) == "forked"
    assert [row.text for row in await store.rows(COPY)] == ["2", "3"]
    assert len(await store.history(COPY)) == 2


@pytest.mark.parametrize(
    ("wanted", "outcome"),
    [
        (Fork(SESSION, HERE), "exists"),
        (Fork(SESSION, THERE, run="no run"), "not_found"),
        (Fork(SESSION, THERE, message=10**6), "not_found"),
        (Fork("nowhere", THERE), "not_ended"),
    ],
)
async def test_what_cannot_be_forked_leaves_nothing(store: Store, wanted: Fork, outcome: str) -> None:
    await answer(store, "one")
    assert await store.fork(wanted) == outcome
    assert await store.rows(COPY) == ()
    assert await store.address_of(COPY) is None
