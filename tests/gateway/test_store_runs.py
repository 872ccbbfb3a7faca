"""Runs: the state of each message that expects its own answer, in a store on a real file."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.log import Ended, Notice
from gateway.store import Store, open_store
from gateway.store.records import AcceptOptions, Arrival, Run
from tests.gateway.notes import PHOTO, SESSION, begin, finish, message, tell, url_of

pytestmark = pytest.mark.engines


async def run_of(store: Store, arrival: Arrival | None) -> Run:
    assert arrival is not None
    assert arrival.run is not None
    run = await store.run(arrival.run)
    assert run is not None
    assert (run.run_id, run.session) == (arrival.run, SESSION)
    return run


async def test_a_waiting_message_has_a_run_and_its_turn_has_the_same_id(store: Store) -> None:
    arrival = await tell(store)
    run = await run_of(store, arrival)
    assert (run.state, run.turn, run.is_over) == ("waiting", None, False)
    turn = await begin(store)
    assert turn.id == arrival.run
    assert await run_of(store, arrival) == Run(turn.id, SESSION, "running", turn.id, 1)


@pytest.mark.parametrize("ended", [Ended("completed"), Ended("failed", "no model"), Ended("stopped", "by Ann")])
async def test_a_run_ends_as_its_turn_does(store: Store, ended: Ended) -> None:
    arrival = await tell(store)
    turn = await begin(store)
    await store.close(turn.id, turn.epoch, ended)
    run = await run_of(store, arrival)
    assert (run.state, run.reason, run.turn, run.step) == (ended.outcome, ended.reason, turn.id, 1)
    assert run.is_over


async def test_a_run_whose_turn_waits_for_people_is_parked(store: Store) -> None:
    arrival = await tell(store)
    turn = await begin(store)
    await store.park(turn.id, turn.epoch)
    run = await run_of(store, arrival)
    assert (run.state, run.is_over) == ("parked", False)


async def test_a_message_read_by_a_running_turn_ends_as_read_by_it(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    arrival = await tell(store, "and this")
    await store.read_inbox(turn.id, turn.epoch, 3)
    run = await run_of(store, arrival)
    assert (run.state, run.turn, run.step, run.is_over) == ("read", turn.id, 3, True)


async def test_messages_that_one_turn_begins_with_are_superseded_by_the_first(store: Store) -> None:
    first, second = await tell(store, "one"), await tell(store, "two")
    turn = await begin(store)
    assert turn.id == first.run
    run = await run_of(store, second)
    assert (run.state, run.turn, run.step) == ("superseded", turn.id, 1)
    assert (await run_of(store, first)).state == "running"


async def test_runs_of_messages_that_no_turn_reads_end_with_their_message(store: Store) -> None:
    refused = await store.accept(message("let me in"), SESSION, "not on the list")
    withdrawn = await tell(store, "oops", id="x")
    await store.accept(message("", id="x", kind="withdrawn"), SESSION)
    await store.accept(message("", files=(PHOTO,), album="a"), SESSION)
    joined = await store.accept(message("", files=(PHOTO,), album="a"), SESSION)
    runs = [await run_of(store, arrival) for arrival in (refused, withdrawn, joined)]
    assert [(run.state, run.reason) for run in runs] == [
        ("refused", "not on the list"),
        ("withdrawn", "withdrawn by its sender"),
        ("superseded", "part of an album"),
    ]
    assert all(run.is_over for run in runs)


async def test_a_second_delivery_has_the_run_of_the_first(store: Store) -> None:
    first = await store.accept(message(event="same"), SESSION)
    again = await store.accept(message(event="same"), SESSION)
    assert first is not None
    assert again is not None
    assert again.duplicate
    assert again.run == first.run


async def test_arrivals_that_expect_no_answer_have_no_run(store: Store) -> None:
    await tell(store, "one", id="x")
    await begin(store)
    edit = await store.accept(message("two", id="x", kind="edited"), SESSION)
    assert edit is not None
    assert edit.run is None
    assert await store.run("nothing") is None


async def test_the_turn_that_answers_a_command_has_the_id_of_its_run(store: Store) -> None:
    command = await store.accept(message(kind="command", command="help"), SESSION)
    assert command is not None
    assert (await run_of(store, command)).state == "waiting"
    assert await store.answer(command.id, Notice("Write to me.")) == command.run
    run = await run_of(store, command)
    assert (run.state, run.turn) == ("completed", command.run)


async def test_a_run_that_another_turn_has_read_is_followed_to_that_turns_end(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    arrival = await tell(store, "and this")
    await store.read_inbox(turn.id, turn.epoch, 3)
    assert arrival.run is not None
    [followed] = (await store.followed_runs([arrival.run, "nothing"])).values()
    assert (followed.run.state, followed.state, followed.is_over) == ("read", "running", False)
    await store.close(turn.id, turn.epoch, Ended("stopped", "by Ann"))
    [followed] = (await store.followed_runs([arrival.run])).values()
    assert (followed.run.turn, followed.state, followed.reason) == (turn.id, "stopped", "by Ann")


async def test_an_edit_that_its_turn_did_not_read_begins_a_turn_without_a_run(store: Store) -> None:
    await tell(store, "one", id="x")
    turn = await begin(store)
    await store.accept(message("two", id="x", kind="edited"), SESSION)
    await store.close(turn.id, turn.epoch, Ended("failed", "no model"))
    next_turn = await begin(store)
    assert next_turn.id != turn.id
    assert await store.run(next_turn.id) is None


async def test_each_run_names_the_turn_that_has_read_its_message(store: Store) -> None:
    arrivals = [await tell(store, "one"), await tell(store, "two")]
    turn = await begin(store)
    arrivals.append(await tell(store, "three"))
    await store.accept(message("later"), SESSION, None, AcceptOptions(busy="queue"))
    await store.read_inbox(turn.id, turn.epoch, 2)
    await finish(store, turn)
    runs = [await run_of(store, arrival) for arrival in arrivals]
    assert [run.state for run in runs] == ["completed", "superseded", "read"]
    assert {run.turn for run in runs} == {turn.id}


async def test_a_run_is_the_same_after_reopening(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path)) as store:
        arrival = await tell(store)
        await finish(store, await begin(store))
        before = await run_of(store, arrival)
    async with open_store(url_of(tmp_path)) as store:
        assert await run_of(store, arrival) == before
