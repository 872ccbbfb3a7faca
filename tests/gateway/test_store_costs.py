"""Usage in the logs of turns, summed for turns, conversations and people, in a store on a real file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agent.journal import TurnLost
from agent.log import ModelAnswered, Spent, Text, Usage
from channels.address import Address, Sender
from gateway.store import Store
from gateway.store.records import UsageTotals
from tests.gateway.notes import ANSWER, COMPLETED, HERE, SESSION, begin, finish, message, tell

pytestmark = pytest.mark.engines

BOB = Sender("2", "Bob")
ONE = Usage(100, 10, 80, 5, 3, 0.25)
TWO = Usage(50, 5, cost=0.5, estimated=True)


def answered(usage: Usage, step: int = 1) -> ModelAnswered:
    return ModelAnswered(step, (Text("Hello."),), usage, "m")


async def test_the_usage_of_a_turn_is_that_in_its_log(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await store.append(turn.id, turn.epoch, (answered(ONE), Spent(2, TWO, "m", "a summary")))
    await store.close(turn.id, turn.epoch, COMPLETED, (answered(ONE, 2),))
    assert await store.spent(turn=turn.id) == UsageTotals(3, 250, 25, 160, 10, 6, 1.0, estimated=True)


async def test_there_is_no_usage_without_a_model_call(store: Store) -> None:
    await tell(store)
    await finish(store, await begin(store))
    assert ANSWER.usage == Usage()
    assert await store.spent() == await store.spent(session="nowhere") == UsageTotals()


async def test_calls_without_a_known_price_are_marked(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await store.append(turn.id, turn.epoch, (answered(Usage(100, 10)),))
    assert await store.spent(turn=turn.id) == UsageTotals(1, 100, 10, unpriced=True)


async def test_usage_is_summed_by_conversation_by_person_and_by_time(store: Store) -> None:
    start = datetime.now(UTC)
    other = Address("telegram", "bot", "8")
    for session, address, sender, usage in (
        (SESSION, HERE, None, ONE),
        ("other", other, None, ONE),
        ("other", other, BOB, TWO),
    ):
        sent = message(address=address) if sender is None else message(address=address, sender=sender)
        await store.accept(sent, session)
        turn = await begin(store, session)
        await store.close(turn.id, turn.epoch, COMPLETED, (answered(usage),))
    assert (await store.spent(session="other")).cost == 0.75
    assert (await store.spent(person="telegram:1")).cost == 0.5
    assert (await store.spent(person="telegram:2", session="other")).cost == 0.5
    assert (await store.spent(person="telegram:2", session=SESSION)).calls == 0
    assert (await store.spent()).cost == (await store.spent(since=start)).cost == 1.0
    assert await store.spent(person="telegram:1", since=datetime.now(UTC) + timedelta(hours=1)) == UsageTotals()


async def test_entries_that_are_not_written_add_no_usage(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await finish(store, turn)
    with pytest.raises(TurnLost):
        await store.append(turn.id, turn.epoch, (answered(ONE),))
    assert await store.spent() == UsageTotals()


async def test_a_side_question_has_usage_of_its_own(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    arrival = await store.accept(message("what?", kind="command", command="btw"), SESSION)
    assert arrival is not None
    side = await store.begin_side_question(arrival.id)
    await store.close(side.id, side.epoch, COMPLETED, (answered(ONE),))
    assert (await store.spent(turn=side.id)).calls == (await store.spent(session=SESSION)).calls == 1
    assert (await store.spent(turn=turn.id)).calls == 0


async def test_usage_added_after_a_turn_counts_for_it(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await finish(store, turn)
    await store.add_spent(turn.id, ONE, "small", "title")
    bills = [
        await store.spent(turn=turn.id),
        await store.spent(session=SESSION),
        await store.spent(person="telegram:1"),
    ]
    assert bills == [UsageTotals(1, 100, 10, 80, 5, 3, 0.25)] * 3
    with pytest.raises(LookupError):
        await store.add_spent("nothing", ONE, "small", "title")
