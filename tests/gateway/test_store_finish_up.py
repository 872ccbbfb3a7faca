"""Wishes that the running turn come to its end, in the store: read by that turn, by no other, and never lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.log import Ended, MessagesRead
from channels.message import FileRef
from gateway.store import Store, open_store
from gateway.store.records import AcceptOptions
from tests.gateway.notes import ANSWER, COMPLETED, PHOTO, SESSION, begin, first_words, message, states, tell, url_of


async def wish(store: Store, words: str = "and be brief", *, id: str | None = None) -> bool:
    arrival = await store.accept(message(words, id=id, kind="command", command="wrap"), SESSION)
    assert arrival is not None
    return await store.wrap(arrival.id)


async def test_a_wish_is_heard_by_the_running_turn_with_its_words_and_where_it_comes_from(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    assert await wish(store)
    assert await store.waiting_busy(SESSION) == "wrap"
    heard = await store.read_inbox(turn.id, turn.epoch, 2)
    assert heard is not None
    assert [(said.text, said.source) for said in heard.messages] == [("and be brief", "wrap")]
    assert (await store.pending()).commands == ()


async def test_what_people_say_comes_from_people(store: Store) -> None:
    await tell(store)
    heard = (await begin(store)).entries[0]
    assert isinstance(heard, MessagesRead)
    assert heard.messages[0].source == "person"


async def test_where_nothing_runs_a_wish_stays_a_command(store: Store) -> None:
    await tell(store)
    assert not await wish(store)
    assert [command.name for command in (await store.pending()).commands] == ["wrap"]


async def test_a_wish_is_not_granted_twice(store: Store) -> None:
    await tell(store)
    await begin(store)
    arrival = await store.accept(message("", kind="command", command="wrap"), SESSION)
    assert await store.wrap(arrival.id)
    assert not await store.wrap(arrival.id)


async def test_a_wish_is_heard_together_with_what_steers_in_the_order_of_arrival(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await tell(store, "one")
    await wish(store, "two")
    await tell(store, "three")
    assert await store.waiting_busy(SESSION) == "steer"
    heard = await store.read_inbox(turn.id, turn.epoch, 2)
    assert heard is not None
    assert [said.text for said in heard.messages] == ["one", "two", "three"]


async def test_a_wish_is_not_kept_from_the_turn_by_what_waits_for_the_next(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await store.accept(message("later"), SESSION, None, AcceptOptions(busy="queue"))
    await wish(store)
    assert await store.waiting_busy(SESSION) == "wrap"
    heard = await store.read_inbox(turn.id, turn.epoch, 2)
    assert heard is not None
    assert [said.text for said in heard.messages] == ["and be brief"]
    assert await store.waiting_busy(SESSION) == "queue"


async def test_a_turn_that_answers_meanwhile_is_completed_and_has_heard_the_wish_at_its_last_step(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await wish(store)
    added = await store.close(turn.id, turn.epoch, COMPLETED, (ANSWER,))
    entries = (await store.turn(turn.id)).entries
    assert entries[1] == ANSWER
    assert added == entries[2:]
    assert isinstance(entries[2], MessagesRead)
    assert entries[2].step == ANSWER.step
    assert entries[3] == COMPLETED
    assert await states(store) == {"hi": "consumed", "/wrap and be brief": "consumed"}
    assert await store.claim(SESSION) is None


async def test_a_turn_is_not_completed_over_other_words_because_of_a_wish(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await wish(store)
    await tell(store, "wait")
    assert not await store.close(turn.id, turn.epoch, COMPLETED, (ANSWER,))


@pytest.mark.parametrize("ended", [Ended("stopped", "by Ann"), Ended("failed", "the model is gone")])
async def test_a_wish_that_was_not_read_ends_with_a_stopped_turn_and_begins_no_other(
    store: Store, ended: Ended
) -> None:
    await tell(store)
    turn = await begin(store)
    await wish(store)
    assert await store.close(turn.id, turn.epoch, ended)
    row = (await store.rows(SESSION))[-1]
    assert (row.state, row.reason) == ("withdrawn", "the task had ended already")
    assert await store.claim(SESSION) is None


@pytest.mark.parametrize("ended", [COMPLETED, Ended("stopped", "by Ann")])
async def test_a_wish_behind_a_file_ends_with_its_turn_too(store: Store, ended: Ended) -> None:
    await tell(store)
    turn = await begin(store)
    look = await store.accept(message("look", files=(PHOTO,)), SESSION)
    await wish(store)
    assert await store.waiting_busy(SESSION) is None
    assert await store.close(turn.id, turn.epoch, ended)
    await store.mark_ready(look.id, (FileRef("photo-1", "photo.jpg", "image/jpeg", 100),), ())
    assert first_words(await begin(store)) == ["look"]


async def test_a_wish_wakes_a_parked_turn(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    assert await store.park(turn.id, turn.epoch)
    await wish(store)
    again = await begin(store)
    assert again.id == turn.id
    assert not await store.park(again.id, again.epoch)
    assert await store.read_inbox(again.id, again.epoch, 2) is not None


async def test_a_wish_that_waits_keeps_what_was_queued_behind_it_from_answering_a_question(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await wish(store)
    await store.accept(message("later"), SESSION, None, AcceptOptions(busy="queue"))
    assert not await store.park(turn.id, turn.epoch)
    heard = await store.read_inbox(turn.id, turn.epoch, 2)
    assert heard is not None
    assert [said.text for said in heard.messages] == ["and be brief"]


async def test_a_wish_for_a_turn_that_another_worker_left_is_not_lost(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path), worker="first") as store:
        await tell(store)
        left = await begin(store)
        await wish(store)
    async with open_store(url_of(tmp_path), worker="second") as store:
        turn = await begin(store)
        assert turn.id == left.id
        heard = await store.read_inbox(turn.id, turn.epoch, 2)
        assert heard is not None
        assert heard.messages[0].source == "wrap"


async def test_deleting_the_only_message_stops_the_turn_though_somebody_wished_it_to_end(store: Store) -> None:
    await tell(store, "go", id="x")
    turn = await begin(store)
    await wish(store, id="y")
    await store.read_inbox(turn.id, turn.epoch, 2)
    withdrawal = await store.accept(message("", id="x", kind="withdrawn"), SESSION)
    assert withdrawal.stop_reason
