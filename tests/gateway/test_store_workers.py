"""Workers in the store: who is alive, what only the holder may write, and who goes on with what others have left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from agent.journal import TurnLost
from agent.log import Notice, Undelivered, UndeliveredPart
from gateway.store import Store, adoption, command_turns, cursors, delivery, open_store, outbox, turns, workers
from gateway.store.decisions import RELEASED
from gateway.store.records import Turn
from gateway.store.scope import WHOLE
from tests.engines import engines
from tests.gateway.notes import HERE, PHOTO, SESSION, begin, finish, first_words, message, tell

pytestmark = pytest.mark.engines

T = TypeVar("T")

OTHER = "other"
OTHER_SESSION = "telegram/bot/8"


async def as_other(store: Store, operation: Callable[..., T], *values: object) -> T:
    """What the operation gives to another worker."""
    return await store.write(lambda connection: operation(connection, OTHER, *values))


async def alive_beside(store: Store, seconds: float = 15.0) -> None:
    """Another worker is alive for so long."""
    await as_other(store, workers.enlist, "", "0", seconds)


async def die(store: Store) -> None:
    """This worker is buried."""
    assert await store.write(lambda connection: workers.bury(connection, OTHER, [store.worker], expired=False)) == (
        store.worker,
    )


# Who is alive


async def test_a_worker_beats_until_it_is_buried(store: Store) -> None:
    assert await store.beat(15.0, 1, 4) is not None
    await die(store)
    assert await store.beat(15.0, 1, 4) is None


async def test_only_those_whose_lease_has_run_out_are_buried(store: Store) -> None:
    await alive_beside(store, seconds=-1.0)
    await store.write(lambda connection: workers.enlist(connection, "third", "", "0"))
    beat = await store.beat(15.0, 0, 4)
    assert beat is not None
    assert beat.next_end is not None
    assert beat.next_end < 0
    assert await store.bury((), expired=False) == ()
    assert await store.bury((), expired=True) == (OTHER,)
    assert {worker.id for worker in await store.list_workers()} == {store.worker, "third"}


async def test_a_connector_is_held_as_long_as_its_worker_is_alive(store: Store) -> None:
    await alive_beside(store)
    lease = await store.take_lease("telegram:1")
    assert lease is not None
    assert await store.save_lease_state("telegram:1", {"sequence": 7})
    assert await as_other(store, workers.take_lease, "telegram:1") is None
    await die(store)
    next_lease = await as_other(store, workers.take_lease, "telegram:1")
    assert next_lease is not None
    assert (next_lease.epoch, next_lease.state) == (lease.epoch + 1, {"sequence": 7})
    assert not await store.save_lease_state("telegram:1", {}), "it is another's now"
    await store.release_lease("telegram:1")
    assert await as_other(store, workers.save_lease_state, "telegram:1", {}), "what is another's is not released"
    await as_other(store, workers.leave)
    assert await store.take_lease("telegram:1") is None, "who is buried gets nothing"


async def test_of_several_connectors_each_is_free_when_its_own_holder_is_gone(store: Store) -> None:
    await alive_beside(store)
    assert await as_other(store, workers.take_lease, "discord:1") is not None
    for name in ("telegram:1", "webhook:1"):
        assert await store.take_lease(name) is not None
    await store.release_lease("telegram:1")
    assert await as_other(store, workers.take_lease, "telegram:1") is not None
    await die(store)
    assert await as_other(store, workers.take_lease, "webhook:1") is not None


async def test_positions_are_added_replaced_and_removed_together(store: Store) -> None:
    await store.keep_cursors("slack", {"a": "1", "b": "1"})
    await store.keep_cursors("discord", {"a": "1"})
    await store.keep_cursors("slack", {"a": None, "b": "2", "c": "1", "d": None})
    assert await store.cursors("slack") == {"b": "2", "c": "1"}
    assert await store.cursors("discord") == {"a": "1"}


async def test_only_the_holder_of_a_webhook_moves_its_position(store: Store) -> None:
    await alive_beside(store)
    assert await store.take_lease("webhook:1") is not None
    assert await store.keep_cursor_as_holder("webhook:1", "/webhooks", "key", "1")
    assert not await as_other(store, cursors.save_as_holder, "webhook:1", "/webhooks", "key", "0")
    assert not await store.keep_cursor_as_holder("webhook:2", "/webhooks", "key", "0"), "held by nobody"
    await die(store)
    assert await as_other(store, workers.take_lease, "webhook:1") is not None
    assert not await store.keep_cursor_as_holder("webhook:1", "/webhooks", "key", "2"), "it is another's now"
    assert await store.cursors("/webhooks") == {"key": "1"}
    assert await as_other(store, cursors.save_as_holder, "webhook:1", "/webhooks", "key", "3")
    assert await store.cursors("/webhooks") == {"key": "3"}


async def test_who_holds_the_parts_of_an_account_is_known_and_turns_are_not_listened_with(store: Store) -> None:
    await alive_beside(store)
    for name in ("discord:1:0/2", f"{workers.TURN}discord:1:identify 0", "discord:12"):
        assert await store.take_lease(name) is not None
    assert await as_other(store, workers.take_lease, "discord:1:1/2") is not None
    assert await store.lease_holders("discord:1") == {"discord:1:0/2": store.worker, "discord:1:1/2": OTHER}
    listed = {worker.id: worker.connectors for worker in await store.list_workers()}
    assert listed == {store.worker: ("discord:12", "discord:1:0/2"), OTHER: ("discord:1:1/2",)}
    await die(store)
    assert await store.lease_holders("discord:1") == {"discord:1:1/2": OTHER}


# What only the holder may write


async def test_a_turn_of_a_worker_that_is_alive_is_not_claimed(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await tell(store, "more")
    assert await as_other(store, turns.claim, SESSION) is None
    await die(store)
    taken = await as_other(store, turns.claim, SESSION)
    assert taken is not None
    assert (taken.id, taken.epoch) == (turn.id, turn.epoch + 1)
    with pytest.raises(TurnLost):
        await store.append(turn.id, turn.epoch, ())


async def test_a_reply_is_sent_and_ended_by_the_worker_of_its_turn_only(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await store.sending(turn.id, "t1")
    await finish(store, turn)
    with pytest.raises(TurnLost):
        await as_other(store, outbox.sending, turn.id, "t1")
    lost = Undelivered((UndeliveredPart("no", whole=True),))
    await as_other(store, delivery.delivered, turn.id, lost)
    assert await store.undelivered(None) == ()
    assert await store.own_undelivered() == (turn.id,), "it is still to be delivered here"
    await die(store)
    assert (await as_other(store, adoption.pending)).undelivered == (turn.id,)
    with pytest.raises(TurnLost):
        await store.sending(turn.id, "t1")


async def test_a_reply_is_next_when_the_earlier_ones_of_its_conversation_are_shown(store: Store) -> None:
    await tell(store)
    await finish(store, first := await begin(store))
    await tell(store, "elsewhere", OTHER_SESSION)
    await finish(store, elsewhere := await begin(store, OTHER_SESSION))
    await tell(store, "more")
    second = await begin(store)
    assert await store.is_next(first.id)
    assert await store.is_next(elsewhere.id)
    assert not await store.is_next(second.id), "whoever has to show the first"
    await store.delivered(first.id, None)
    assert await store.is_next(second.id)


async def test_an_answer_to_a_command_waits_for_the_question_that_another_worker_has_not_shown_yet(
    store: Store,
) -> None:
    await tell(store)
    turn = await begin(store)
    command = await store.accept(message(kind="command", command="status"), SESSION)
    answer = await store.answer(command.id, Notice("No task is running."))
    assert await store.is_next(answer), "the turn still runs: its reply grows beside others"
    assert await store.park(turn.id, turn.epoch)
    assert not await store.is_next(answer)
    await store.delivered(turn.id, None)
    assert await store.is_next(answer)


async def test_the_reply_of_a_turn_that_is_free_may_still_be_ended(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await store.sending(turn.id, "t1")
    await store.release(turn.id, turn.epoch)
    assert await store.write(lambda connection: _worker_of(connection, turn)) == RELEASED
    await store.sending(turn.id, "t2")


def _worker_of(connection: Connection, turn: Turn) -> str:
    return str(connection.exec_driver_sql(f"SELECT worker FROM turns WHERE id = '{turn.id}'").scalar_one())


async def test_a_released_turn_is_continued_by_anybody_without_an_interruption(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await store.release(turn.id, turn.epoch)
    with pytest.raises(TurnLost):
        await store.append(turn.id, turn.epoch, ())
    taken = await as_other(store, turns.claim, SESSION)
    assert taken is not None
    assert [entry.kind for entry in taken.entries] == ["messages_read"]


# Who goes on


async def test_nothing_of_a_worker_that_is_alive_is_adopted(store: Store) -> None:
    await alive_beside(store)
    await tell(store)
    await begin(store)
    await store.accept(message("stop", kind="command", command="stop"), SESSION)
    await store.accept(message("look", files=(PHOTO,)), SESSION)
    found = await as_other(store, adoption.pending)
    assert (found.commands, found.unfetched, found.undelivered, found.sessions) == ((), (), (), ())


async def test_what_a_dead_worker_has_left_is_adopted_once(store: Store) -> None:
    await tell(store)
    await finish(store, done := await begin(store))
    await tell(store, "again")
    await begin(store)
    aside = await store.accept(message("btw", kind="command", command="btw"), SESSION)
    assert aside is not None
    question = await as_other(store, command_turns.begin_side_question, aside.id)
    command = await store.accept(message("stop", kind="command", command="stop"), SESSION)
    photo = await store.accept(message("look", files=(PHOTO,)), SESSION)
    assert command is not None
    assert photo is not None
    await store.write(lambda connection: workers.enlist(connection, "third", "", "0"), WHOLE)
    await die(store)
    found = await store.write(lambda connection: adoption.pending(connection, "third"))
    assert [each.id for each in found.commands] == [command.id]
    assert [each.id for each in found.unfetched] == [photo.id]
    assert (found.undelivered, found.side_questions) == ((done.id,), (question.id,))
    assert SESSION in found.sessions
    again = await store.write(lambda connection: adoption.pending(connection, "third"))
    assert (again.commands, again.unfetched, again.undelivered, again.side_questions) == ((), (), (), ())


async def test_a_new_message_is_left_to_the_worker_that_has_accepted_it_for_a_while(store: Store) -> None:
    await tell(store)
    assert (await store.pending(60.0)).sessions == ()
    assert (await store.pending()).sessions == (SESSION,)


async def test_a_message_that_a_dead_worker_has_accepted_is_left_to_nobody(store: Store) -> None:
    """Nor is it asked for how long it has waited: the clock of the dead worker may have been fast."""
    await tell(store)
    assert (await as_other(store, adoption.pending, 60.0)).sessions == ()
    await die(store)
    assert (await as_other(store, adoption.pending, 60.0)).sessions == (SESSION,)


async def test_a_turn_says_after_which_one_it_goes_on(store: Store) -> None:
    await tell(store, "one")
    first = await begin(store)
    assert (first.after, first.first) == ("", True)
    await finish(store, first)
    await tell(store, "two")
    second = await begin(store)
    assert (second.after, second.first, first_words(second)) == (first.id, False, ["two"])
    assert second.address == HERE


# A process that has ended


async def test_a_worker_that_leaves_is_not_alive(tmp_path: Path) -> None:
    url = engines.url(tmp_path / "interject.db")
    async with open_store(url, worker="first") as store:
        await tell(store)
        turn = await begin(store)
    async with open_store(url, worker="second") as store:
        assert [worker.id for worker in await store.list_workers()] == ["second"]
        taken = await begin(store)
        assert (taken.id, taken.epoch) == (turn.id, turn.epoch + 1)
