"""Requests that the running turn finish up: read by that turn, by no other, and never lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.log import Ended, MessagesRead
from channels.message import FileRef
from gateway.store import Store, open_store
from gateway.store.records import AcceptOptions
from tests.gateway.notes import (
    ANSWER,
    COMPLETED,
    PHOTO,
    SESSION,
    begin,
    first_words,
    left_behind,
    message,
    states,
    tell,
    url_of,
)

pytestmark = pytest.mark.engines


async def request_finish(store: Store, words: str = "and be brief", *, id: str | None = None) -> bool:
    arrival = await store.accept(message(words, id=id, kind="command", command="wrap"), SESSION)
    assert arrival is not None
    return await store.wrap(arrival.id)


async def test_a_request_is_read_by_the_running_turn_with_its_text_and_source(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    assert await request_finish(store)
    assert await store.waiting_busy(SESSION) == "wrap"
    read = await store.read_inbox(turn.id, turn.epoch, 2)
    assert read is not None
    assert [(each.text, each.source) for each in read.messages] == [("and be brief", "wrap")]
    assert (await left_behind(store)).commands == ()


async def test_the_source_of_peoples_messages_is_a_person(store: Store) -> None:
    await tell(store)
    read = (await begin(store)).entries[0]
    assert isinstance(read, MessagesRead)
    assert read.messages[0].source == "person"


async def test_without_a_running_turn_a_request_stays_a_command(store: Store) -> None:
    await tell(store)
    assert not await request_finish(store)
    assert [command.name for command in (await left_behind(store)).commands] == ["wrap"]


async def test_a_request_is_not_accepted_twice(store: Store) -> None:
    await tell(store)
    await begin(store)
    arrival = await store.accept(message("", kind="command", command="wrap"), SESSION)
    assert await store.wrap(arrival.id)
    assert not await store.wrap(arrival.id)


async def test_a_request_is_read_together_with_steering_messages_in_order_of_arrival(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await tell(store, "one")
    await request_finish(store, "two")
    await tell(store, "three")
    assert await store.waiting_busy(SESSION) == "steer"
    read = await store.read_inbox(turn.id, turn.epoch, 2)
    assert read is not None
    assert [each.text for each in read.messages] == ["one", "two", "three"]


async def test_a_request_is_not_blocked_by_messages_for_the_next_turn(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await store.accept(message("later"), SESSION, None, AcceptOptions(busy="queue"))
    await request_finish(store)
    assert await store.waiting_busy(SESSION) == "wrap"
    read = await store.read_inbox(turn.id, turn.epoch, 2)
    assert read is not None
    assert [each.text for each in read.messages] == ["and be brief"]
    assert await store.waiting_busy(SESSION) == "queue"


async def test_a_turn_that_answers_meanwhile_is_completed_and_has_read_the_request_at_its_last_step(
    store: Store,
) -> None:
    await tell(store)
    turn = await begin(store)
    await request_finish(store)
    added = await store.close(turn.id, turn.epoch, COMPLETED, (ANSWER,))
    entries = (await store.turn(turn.id)).entries
    assert entries[1] == ANSWER
    assert added == entries[2:]
    assert isinstance(entries[2], MessagesRead)
    assert entries[2].step == ANSWER.step
    assert entries[3] == COMPLETED
    assert await states(store) == {"hi": "consumed", "/wrap and be brief": "consumed"}
    assert await store.claim(SESSION) is None


async def test_a_request_does_not_complete_a_turn_over_a_steering_message(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await request_finish(store)
    await tell(store, "wait")
    assert not await store.close(turn.id, turn.epoch, COMPLETED, (ANSWER,))


@pytest.mark.parametrize("ended", [Ended("stopped", "by Ann"), Ended("failed", "the model is gone")])
async def test_an_unread_request_ends_with_a_stopped_turn_and_begins_no_other(store: Store, ended: Ended) -> None:
    await tell(store)
    turn = await begin(store)
    await request_finish(store)
    assert await store.close(turn.id, turn.epoch, ended)
    row = (await store.rows(SESSION))[-1]
    assert (row.state, row.reason) == ("withdrawn", "the task had ended already")
    assert await store.claim(SESSION) is None


@pytest.mark.parametrize("ended", [COMPLETED, Ended("stopped", "by Ann")])
async def test_a_request_behind_a_file_ends_with_its_turn_too(store: Store, ended: Ended) -> None:
    await tell(store)
    turn = await begin(store)
    look = await store.accept(message("look", files=(PHOTO,)), SESSION)
    await request_finish(store)
    assert await store.waiting_busy(SESSION) == "wrap"
    assert await store.close(turn.id, turn.epoch, ended)
    await store.mark_ready(look.id, (FileRef("photo-1", "photo.jpg", "image/jpeg", 100),), ())
    assert first_words(await begin(store)) == ["look"]


async def test_a_request_resumes_a_parked_turn(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    assert await store.park(turn.id, turn.epoch)
    await request_finish(store)
    again = await begin(store)
    assert again.id == turn.id
    assert not await store.park(again.id, again.epoch)
    assert await store.read_inbox(again.id, again.epoch, 2) is not None


async def test_a_message_queued_behind_a_waiting_request_does_not_answer_a_question(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await request_finish(store)
    await store.accept(message("later"), SESSION, None, AcceptOptions(busy="queue"))
    assert not await store.park(turn.id, turn.epoch)
    read = await store.read_inbox(turn.id, turn.epoch, 2)
    assert read is not None
    assert [each.text for each in read.messages] == ["and be brief"]


async def test_a_request_for_a_turn_that_another_worker_left_is_not_lost(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path), worker="first") as store:
        await tell(store)
        left = await begin(store)
        await request_finish(store)
    async with open_store(url_of(tmp_path), worker="second") as store:
        turn = await begin(store)
        assert turn.id == left.id
        read = await store.read_inbox(turn.id, turn.epoch, 2)
        assert read is not None
        assert read.messages[0].source == "wrap"


async def test_deleting_the_only_message_stops_the_turn_in_spite_of_a_request(store: Store) -> None:
    await tell(store, "go", id="x")
    turn = await begin(store)
    await request_finish(store, id="y")
    await store.read_inbox(turn.id, turn.epoch, 2)
    withdrawal = await store.accept(message("", id="x", kind="withdrawn"), SESSION)
    assert withdrawal.stop_reason
