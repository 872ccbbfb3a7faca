"""Decisions on the request of a parked turn: by button, by message and by deadline, each made once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalSubject,
    Call,
    Ended,
    ModelAnswered,
    Notice,
    Resumed,
    Text,
)
from channels.address import Address, Sender
from gateway.store import Store, open_store
from gateway.store.records import AcceptOptions, Arrival, DecisionResult, Turn
from tests.gateway.notes import ANN, HERE, SESSION, add_background_message, begin, left_behind, message, tell, url_of

pytestmark = pytest.mark.engines

BOB = Sender("2", "Bob")
SOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ASKS = ModelAnswered(1, (Text("May I?"), Call("c1", "shell", "{}"), Call("c2", "web", "{}")))


def decision(id: str = "c1", about: ApprovalSubject = "call", until: datetime = SOON) -> ApprovalRequested:
    options = ("Allow once", "Allow for this conversation", "Deny") if about == "call" else ("Continue", "Stop here")
    return ApprovalRequested(id, about, "May I?", options, until.timestamp())


async def asking(store: Store) -> Turn:
    """A turn that has asked for a decision, and does not wait for it yet."""
    await tell(store, "do it")
    turn = await begin(store)
    await store.append(turn.id, turn.epoch, (ASKS, decision()))
    return turn


async def ask(store: Store, asked: ApprovalRequested | None = None, *, turn: Turn | None = None) -> Turn:
    """A turn that waits for a decision."""
    asked = asked or decision()
    if turn is None:
        await tell(store, "do it")
        turn = await begin(store)
        await store.append(turn.id, turn.epoch, (ASKS,))
    await store.append(turn.id, turn.epoch, (asked,))
    assert await store.park(turn.id, turn.epoch, datetime.fromtimestamp(asked.expires_at, UTC))
    return turn


async def press(
    store: Store, number: int, *, key: str = "d:c1", by: Sender = ANN, allowed: bool = True
) -> tuple[Arrival, DecisionResult]:
    arrival = await store.accept(message(f"{key} {number}", kind="command", command="answer", sender=by), SESSION)
    assert arrival is not None
    return arrival, await store.decide(arrival.id, key, number, allowed)


async def say(store: Store, text: str, *, by: Sender = ANN, options: AcceptOptions | None = None) -> Arrival:
    arrival = await store.accept(message(text, sender=by), SESSION, None, options or AcceptOptions())
    assert arrival is not None
    return arrival


async def last_of(store: Store, turn: Turn) -> object:
    return (await store.turn(turn.id)).entries[-1]


@pytest.mark.parametrize(("number", "made"), [(0, "allowed"), (1, "allowed_always"), (2, "denied")])
async def test_a_pressed_option_decides_and_the_turn_is_resumed(store: Store, number: int, made: str) -> None:
    turn = await ask(store)
    assert await store.claim(SESSION) is None
    _, result = await press(store, number)
    assert (result.outcome, result.session, result.by, result.decision) == ("decided", SESSION, "Ann", made)
    assert (await left_behind(store)).commands == ()
    again = await begin(store)
    assert (again.id, again.epoch) == (turn.id, turn.epoch + 1)
    assert again.entries[-2:] == (decision(), ApprovalDecided("c1", made, "Ann"))  # type: ignore[arg-type]
    assert await store.claim(SESSION) is None


async def test_a_limit_has_two_options(store: Store) -> None:
    turn = await ask(store, decision("limit-1", "limit"))
    _, result = await press(store, 2, key="d:limit-1")
    assert result.outcome == "not_open"
    await press(store, 1, key="d:limit-1")
    assert await last_of(store, turn) == ApprovalDecided("limit-1", "denied", "Ann")


async def test_of_two_presses_the_first_decides_and_the_second_learns_who_did(store: Store) -> None:
    turn = await ask(store)
    await press(store, 0)
    arrival, result = await press(store, 2, by=BOB)
    assert (result.outcome, result.by, result.decision) == ("not_open", "Ann", "allowed")
    assert await last_of(store, turn) == ApprovalDecided("c1", "allowed", "Ann")
    assert [command.id for command in (await left_behind(store)).commands] == [arrival.id]
    await store.answer(arrival.id, Notice("Ann has allowed it already."))


async def test_a_press_after_the_end_of_the_turn_learns_who_decided(store: Store) -> None:
    await ask(store)
    await press(store, 2)
    turn = await begin(store)
    await store.close(turn.id, turn.epoch, Ended("stopped", "by Ann"))
    _, result = await press(store, 0, by=BOB)
    assert (result.outcome, result.by, result.decision) == ("not_open", "Ann", "denied")


async def test_an_option_of_an_unknown_request_decides_nothing(store: Store) -> None:
    await ask(store)
    for key, number in (("d:c9", 0), ("q:c1", 0), ("c1", 0), ("d:c1", 3), ("d:c1", -1)):
        _, result = await press(store, number, key=key)
        assert (result.outcome, result.decision) == ("not_open", None)
    assert await store.claim(SESSION) is None


async def test_only_people_who_may_decide_and_the_turns_own_principal_decide(store: Store) -> None:
    turn = await ask(store)
    _, result = await press(store, 0, by=BOB, allowed=False)
    assert result.outcome == "not_allowed"
    _, result = await press(store, 0, by=ANN, allowed=False)
    assert result.outcome == "decided"
    assert await last_of(store, turn) == ApprovalDecided("c1", "allowed", "Ann")


async def test_a_press_before_the_turn_is_parked_decides_and_the_turn_is_not_parked(store: Store) -> None:
    turn = await asking(store)
    _, result = await press(store, 0)
    assert result.outcome == "decided"
    assert await store.park(turn.id, turn.epoch, SOON) == ApprovalDecided("c1", "allowed", "Ann")
    assert await store.claim(SESSION) is None
    await store.append(turn.id, turn.epoch, (decision("c2"),))
    assert await store.park(turn.id, turn.epoch, SOON) is True


@pytest.mark.parametrize("restarts", [0, 1, 3])
async def test_words_before_the_turn_is_parked_decide(store: Store, restarts: int) -> None:
    turn = await asking(store)
    await store.append(turn.id, turn.epoch, (Resumed(),) * restarts)
    arrival = await say(store, "yes")
    assert (arrival.decided, arrival.state) == (True, "answered")
    assert not (await say(store, "no")).decided
    assert await store.park(turn.id, turn.epoch, SOON) == ApprovalDecided("c1", "allowed", "Ann")


async def test_a_decision_before_the_turn_is_parked_survives_its_worker(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path), worker="one") as store:
        turn = await asking(store)
        await say(store, "always")
    async with open_store(url_of(tmp_path), worker="two") as store:
        again = await begin(store)
        assert (again.id, again.allowed) == (turn.id, {"shell"})
        assert again.entries[-2:] == (ApprovalDecided("c1", "allowed_always", "Ann"), Resumed())


async def test_a_message_before_the_decision_has_come_instead_of_it(store: Store) -> None:
    turn = await asking(store)
    assert not (await say(store, "wait")).decided
    assert not (await say(store, "yes")).decided
    _, result = await press(store, 0)
    assert (result.outcome, result.decision) == ("not_open", None)
    assert await store.park(turn.id, turn.epoch, SOON) is False


async def test_a_message_that_waits_for_the_end_of_the_turn_leaves_the_decision_open(store: Store) -> None:
    turn = await asking(store)
    await say(store, "and later this", options=AcceptOptions(busy="queue"))
    assert (await say(store, "yes")).decided
    assert await store.park(turn.id, turn.epoch, SOON) == ApprovalDecided("c1", "allowed", "Ann")


async def test_one_decision_after_another(store: Store) -> None:
    await ask(store)
    await press(store, 0)
    turn = await begin(store)
    await ask(store, decision("c2"), turn=turn)
    _, late = await press(store, 2)
    assert (late.outcome, late.decision) == ("not_open", "allowed")
    await press(store, 2, key="d:c2")
    assert await last_of(store, turn) == ApprovalDecided("c2", "denied", "Ann")


async def test_a_decided_turn_survives_a_crash_and_is_resumed_without_a_restart_entry(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path)) as store:
        await ask(store)
        await press(store, 0)
    async with open_store(url_of(tmp_path)) as store:
        assert (await left_behind(store)).sessions == (SESSION,)
        turn = await begin(store)
        assert turn.entries[-1] == ApprovalDecided("c1", "allowed", "Ann")
        assert Resumed() not in turn.entries


async def test_a_message_that_decides_is_answered_by_that(store: Store) -> None:
    turn = await ask(store)
    arrival = await say(store, "Yes, please!")
    assert (arrival.state, arrival.reason, arrival.decided) == ("answered", "answered the question", True)
    assert await last_of(store, turn) == ApprovalDecided("c1", "allowed", "Ann")
    assert arrival.run is not None
    run = await store.run(arrival.run)
    assert run is not None
    assert (run.state, run.turn, run.step) == ("read", turn.id, 2)
    assert [row.text for row in await store.rows(SESSION)] == ["do it", "Yes, please!"]
    again = await begin(store)
    assert await store.read_inbox(again.id, again.epoch, 2) is None


async def test_a_denial_in_a_message_has_its_reason(store: Store) -> None:
    turn = await ask(store)
    await say(store, "no, because it is Friday")
    assert await last_of(store, turn) == ApprovalDecided("c1", "denied", "Ann", "because it is Friday")


async def test_other_messages_wait_and_resume_the_turn_with_its_decision_open(store: Store) -> None:
    turn = await ask(store)
    arrival = await say(store, "what does it do?")
    assert (arrival.state, arrival.decided, arrival.wakes) == ("waiting", False, "steer")
    again = await begin(store)
    assert again.id == turn.id
    assert again.entries[-1] == decision()
    assert await store.next_deadline() is None
    assert not await store.park(again.id, again.epoch, SOON)


async def test_a_message_with_its_own_busy_mode_decides_nothing(store: Store) -> None:
    await ask(store)
    arrival = await say(store, "yes", options=AcceptOptions(busy="queue"))
    assert (arrival.state, arrival.decided) == ("waiting", False)


async def test_a_decision_by_somebody_who_may_not_decide_is_an_ordinary_message(store: Store) -> None:
    await ask(store)
    assert not (await say(store, "yes", by=BOB, options=AcceptOptions(own_turn_only=True))).decided


async def test_the_turns_own_principal_decides_by_message_in_a_group_too(store: Store) -> None:
    await ask(store)
    assert (await say(store, "yes", options=AcceptOptions(own_turn_only=True))).decided


async def test_only_people_who_may_extend_a_limit_do_so_by_message_and_anybody_may_stop(store: Store) -> None:
    turn = await ask(store, decision("l", "limit"))
    assert (await say(store, "no", options=AcceptOptions(may_extend=False))).decided
    turn = await ask(store, decision("m", "limit"), turn=await begin(store))
    assert not (await say(store, "yes", options=AcceptOptions(may_extend=False))).decided
    assert await last_of(store, turn) == decision("m", "limit")


async def test_a_message_decides_nothing_without_an_open_request(store: Store) -> None:
    assert not (await say(store, "yes")).decided
    turn = await begin(store)
    assert not (await say(store, "yes")).decided
    await store.read_inbox(turn.id, turn.epoch, 2)
    assert await store.park(turn.id, turn.epoch)
    arrival = await say(store, "no")
    assert (arrival.decided, arrival.wakes) == (False, "steer")


async def test_a_tool_allowed_for_the_conversation_stays_allowed_until_it_is_reset(store: Store) -> None:
    turn = await ask(store)
    assert turn.allowed == frozenset()
    await press(store, 1)
    turn = await begin(store)
    assert turn.allowed == {"shell"}
    await ask(store, decision("c2"), turn=turn)
    await say(store, "always")
    turn = await begin(store)
    assert turn.allowed == {"shell", "web"}
    await store.close(turn.id, turn.epoch, Ended("completed"))
    await tell(store)
    turn = await begin(store)
    assert turn.allowed == {"shell", "web"}
    await store.close(turn.id, turn.epoch, Ended("completed"))
    await store.accept(message(), "elsewhere")
    assert (await begin(store, "elsewhere")).allowed == frozenset()
    await store.reset_session(SESSION)
    await tell(store)
    assert (await begin(store)).allowed == frozenset()


async def test_a_decision_that_nobody_makes_in_time_expires_and_the_turn_is_resumed(store: Store) -> None:
    assert await store.next_deadline() is None
    turn = await ask(store)
    assert await store.next_deadline() == SOON
    assert await store.expire(SOON - timedelta(seconds=1)) == ()
    assert await store.expire(SOON) == (SESSION,)
    assert await store.expire(SOON) == ()
    assert await store.next_deadline() is None
    again = await begin(store)
    assert again.id == turn.id
    assert again.entries[-1] == ApprovalDecided("c1", "expired")
    _, result = await press(store, 0)
    assert (result.outcome, result.by, result.decision) == ("not_open", "", "expired")


async def test_the_next_deadline_is_the_earliest(store: Store) -> None:
    await ask(store, decision(until=SOON + timedelta(hours=1)))
    other = Address("telegram", "bot", "8")
    await store.accept(message(address=other), "other")
    turn = await begin(store, "other")
    await store.append(turn.id, turn.epoch, (decision("c9"),))
    await store.park(turn.id, turn.epoch, SOON)
    assert await store.next_deadline() == SOON
    assert await store.expire(SOON + timedelta(hours=2)) == ("other", SESSION)


async def test_a_question_without_a_deadline_never_expires(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    assert await store.park(turn.id, turn.epoch)
    assert await store.next_deadline() is None
    assert await store.expire(SOON + timedelta(days=10_000)) == ()


async def test_nothing_is_decided_for_a_stopped_turn(store: Store) -> None:
    await ask(store)
    assert await store.stop_parked(SESSION, "by Ann")
    assert await store.next_deadline() is None
    _, result = await press(store, 0)
    assert result.outcome == "not_open"
    assert not (await say(store, "yes")).decided
    assert (await begin(store)).stop == "by Ann"


async def test_a_decided_turn_can_be_stopped_before_it_is_resumed(store: Store) -> None:
    await ask(store)
    await press(store, 0)
    assert await store.stop_parked(SESSION, "by Ann")
    assert (await begin(store)).stop == "by Ann"


async def test_a_background_result_neither_decides_nor_resumes_a_parked_turn(store: Store) -> None:
    turn = await ask(store)
    await add_background_message(store, SESSION, HERE, ANN, "yes", (), "work:1")
    assert await store.claim(SESSION) is None
    await press(store, 0)
    again = await begin(store)
    read = await store.read_inbox(again.id, again.epoch, 2)
    assert again.id == turn.id
    assert read is not None
    assert [(each.text, each.source) for each in read.messages] == [("yes", "work")]


async def test_a_turn_is_parked_although_a_background_result_waits(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await add_background_message(store, SESSION, HERE, ANN, "done", (), "work:1")
    assert await store.park(turn.id, turn.epoch)
    await say(store, "green")
    again = await begin(store)
    assert not await store.park(again.id, again.epoch)
    read = await store.read_inbox(again.id, again.epoch, 2)
    assert read is not None
    assert [each.text for each in read.messages] == ["done", "green"]
