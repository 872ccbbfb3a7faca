"""Messages of background work and sessions of delegated tasks, in a store on a real file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert

from agent.log import MessagesRead, ModelAnswered, Text, Usage
from channels.address import Address
from gateway.store import Store, open_store
from gateway.store.records import Turn
from gateway.store.schema import work
from tests.gateway.notes import (
    ANN,
    COMPLETED,
    HERE,
    PHOTO,
    PICTURE,
    SESSION,
    add_background_message,
    begin,
    conversations_of,
    finish,
    first_words,
    left_behind,
    message,
    states,
    tell,
    url_of,
    words,
)

pytestmark = pytest.mark.engines

CHILD = f"{SESSION}/w/w1"


async def delegate(store: Store, turn: Turn, session: str, child: str, root: str) -> Turn:
    """A turn of its own for a task of this turn's."""
    values = {
        "handle": child.rpartition("/")[2],
        "session": session,
        "generation": 0,
        "kind": "task",
        "title": "count the hens",
        "address": {},
        "principal": {},
        "turn": turn.id,
        "root": root,
        "child": child,
        "waited": True,
        "depth": 1,
        "state": "running",
        "shown": "",
        "started_at": datetime.now(UTC),
    }

    def keep(connection: Connection) -> None:
        connection.execute(insert(work), values)

    await store.write(keep)
    await add_background_message(store, child, HERE, ANN, "count the hens", (), f"task:{child}")
    return await begin(store, child)


async def test_a_background_result_begins_a_turn_if_none_runs(store: Store) -> None:
    await tell(store)
    await finish(store, await begin(store))
    arrival = await add_background_message(store, SESSION, HERE, ANN, "built", (), "work:1", "of the call `make`")
    assert (arrival.state, arrival.wakes, arrival.duplicate) == ("waiting", "work", False)
    turn = await begin(store)
    assert (turn.id, turn.principal, turn.address, turn.reply_to) == (arrival.run, ANN, HERE, None)
    read = turn.entries[0]
    assert isinstance(read, MessagesRead)
    (each,) = read.messages
    assert (each.text, each.note, each.source, each.sender) == ("built", "of the call `make`", "work", "Ann")


async def test_a_background_result_steers_a_running_turn_in_order_of_arrival(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await tell(store, "before")
    await add_background_message(store, SESSION, HERE, ANN, "built", (), "work:1")
    await tell(store, "after")
    assert words(await store.read_inbox(turn.id, turn.epoch, 2)) == ["before", "built", "after"]


async def test_a_turn_does_not_complete_before_a_background_result_is_read(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await add_background_message(store, SESSION, HERE, ANN, "built", (), "work:1")
    assert not await store.close(turn.id, turn.epoch, COMPLETED)


async def test_a_background_result_is_read_after_a_file_that_is_there_when_the_turn_begins(store: Store) -> None:
    look = await store.accept(message("look", files=(PHOTO,)), SESSION)
    assert look is not None
    await add_background_message(store, SESSION, HERE, ANN, "built", (), "work:1")
    await store.mark_ready(look.id, (PHOTO,), ())
    assert first_words(await begin(store)) == ["look", "built"]


async def test_a_background_result_is_stored_once_per_event(store: Store) -> None:
    first = await add_background_message(store, SESSION, HERE, ANN, "built", (PICTURE,), "work:1")
    again = await add_background_message(store, SESSION, HERE, ANN, "built", (PICTURE,), "work:1")
    assert (again.duplicate, again.id, again.run) == (True, first.id, first.run)
    assert await store.count_waiting(SESSION) == 1


async def test_the_files_of_a_background_result_are_read_and_not_removed(store: Store) -> None:
    await store.record_media(PICTURE)
    await add_background_message(store, SESSION, HERE, ANN, "built", (PICTURE,), "work:1")
    read = (await begin(store)).entries[0]
    assert isinstance(read, MessagesRead)
    assert read.messages[0].attachments == (PICTURE,)
    assert not (await store.claim_unused_media(datetime.now(UTC) + timedelta(hours=1))).hashes


async def test_a_background_result_is_not_listed_among_peoples_messages(store: Store) -> None:
    await tell(store)
    await add_background_message(store, SESSION, HERE, ANN, "built", (), "work:1")
    assert await states(store) == {"hi": "waiting"}


async def test_sessions_of_tasks_are_no_conversations(store: Store) -> None:
    await tell(store, "go")
    await delegate(store, turn := await begin(store), SESSION, CHILD, turn.id)
    assert [each.session for each in await conversations_of(store, "telegram")] == [SESSION]
    assert [session for session, _ in await store.direct_chats("telegram", ["1"])] == [SESSION]
    assert set((await left_behind(store)).sessions) == {SESSION, CHILD}


async def test_a_chat_named_like_a_task_is_a_conversation(store: Store) -> None:
    place = Address("telegram", "bot", "w", "w1")
    await store.accept(message("hello", address=place), "telegram/bot/w/w1")
    assert [each.title for each in await conversations_of(store, "telegram")] == ["hello"]


async def test_usage_of_a_task_counts_for_the_conversation_and_the_turn_that_a_person_began(store: Store) -> None:
    await tell(store, "go")
    parent = await begin(store)
    child = await delegate(store, parent, SESSION, CHILD, parent.id)
    beneath = await delegate(store, child, CHILD, f"{CHILD}/w/w1", parent.id)
    assert (parent.root, child.root, beneath.root) == (parent.id,) * 3
    for turn in (parent, child, beneath):
        answer = ModelAnswered(1, (Text("12"),), Usage(10, 1, cost=0.25))
        await store.close(turn.id, turn.epoch, COMPLETED, (answer,))
    assert (await store.spent(turn=parent.id)).cost == 0.75
    assert (await store.spent(session=SESSION)).cost == 0.75
    assert (await store.spent(person="telegram:1")).cost == 0.75
    assert (await store.spent(turn=child.id)).calls == 0


async def test_the_reply_of_a_turn_whose_task_goes_on_is_delivered_by_the_next_worker(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path), worker="one") as store:
        await tell(store, "go")
        turn = await begin(store)
        await delegate(store, turn, SESSION, CHILD, turn.id)
        await finish(store, turn)
    async with open_store(url_of(tmp_path), worker="two") as store:
        pending = await store.pending()
        assert (pending.undelivered, pending.sessions, len(pending.background)) == ((turn.id,), (CHILD,), 1)
        assert await store.own_undelivered() == (turn.id,)


async def test_tasks_of_a_parked_turn_are_adopted_once(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path), worker="one") as store:
        await tell(store, "go")
        turn = await begin(store)
        await delegate(store, turn, SESSION, CHILD, turn.id)
        await store.park(turn.id, turn.epoch, None)
        await store.delivered(turn.id)
    async with open_store(url_of(tmp_path), worker="two") as store:
        assert [len((await store.pending()).background) for _ in range(2)] == [1, 0]
