"""Turns, replies and media, in a store on a real file."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.journal import TurnLost
from agent.log import Call, CallEnded, CallStarted, Ended, MessagesRead, ModelAnswered, Notice, Resumed, Text
from agent.media import Attachment
from channels.address import Address
from channels.channel import Sent
from gateway.store import Store, open_store
from gateway.store.records import Pending
from tests.gateway.notes import (
    ANN,
    ANSWER,
    COMPLETED,
    HERE,
    PHOTO,
    PICTURE,
    SESSION,
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


async def test_a_session_without_messages_has_nothing_to_claim(store: Store) -> None:
    assert await store.claim(SESSION) is None
    assert not await store.waiting_busy(SESSION)


async def test_a_claimed_turn_has_read_all_waiting_messages(store: Store) -> None:
    await tell(store, "one", id="x")
    await tell(store, "two")
    turn = await begin(store)
    assert first_words(turn) == ["one", "two"]
    assert (turn.epoch, turn.principal, turn.address, turn.reply_to, turn.kind) == (1, ANN, HERE, "x", "turn")
    (one, two) = await store.rows(SESSION)
    assert (one.state, one.turn, one.step) == (two.state, two.turn, two.step) == ("consumed", turn.id, 1)


async def test_a_running_turn_is_not_claimed_a_second_time_by_its_own_worker(store: Store) -> None:
    await tell(store)
    await begin(store)
    await tell(store)
    assert await store.claim(SESSION) is None


async def test_waiting_messages_are_read_once_and_marked_with_the_step(store: Store) -> None:
    await tell(store, "one")
    turn = await begin(store)
    await tell(store, "two")
    assert words(await store.read_inbox(turn.id, turn.epoch, 4)) == ["two"]
    assert await store.read_inbox(turn.id, turn.epoch, 5) is None
    assert [row.step for row in await store.rows(SESSION)] == [1, 4]


async def test_the_log_is_read_back_as_it_was_written(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    entries = (CallStarted("c1"), CallEnded("c1", "done", "a cat", (PICTURE,), (PICTURE,), "a caption"))
    await store.append(turn.id, turn.epoch, (ANSWER,))
    await store.append(turn.id, turn.epoch, ())
    await store.append(turn.id, turn.epoch, entries)
    assert await store.close(turn.id, turn.epoch, COMPLETED, (Notice("bye"),))
    assert (await store.turn(turn.id)).entries == (*turn.entries, ANSWER, *entries, Notice("bye"), COMPLETED)


async def test_a_turn_does_not_complete_while_a_message_waits(store: Store) -> None:
    await tell(store, "one")
    turn = await begin(store)
    await tell(store, "two")
    assert not await store.close(turn.id, turn.epoch, COMPLETED, (ANSWER,))
    assert (await store.turn(turn.id)).entries == (*turn.entries, ANSWER)
    assert words(await store.read_inbox(turn.id, turn.epoch, 2)) == ["two"]
    await finish(store, turn)


@pytest.mark.parametrize("ended", [Ended("stopped", "by Ann"), Ended("failed", "the model is gone")])
async def test_a_stopped_or_failed_turn_ends_whatever_waits(store: Store, ended: Ended) -> None:
    await tell(store, "one")
    turn = await begin(store)
    await tell(store, "two")
    assert await store.close(turn.id, turn.epoch, ended)
    assert first_words(await begin(store)) == ["two"]


async def test_a_turn_completes_while_only_unfetched_files_and_commands_wait(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await store.accept(message(files=(PHOTO,)), SESSION)
    await store.accept(message(kind="command", command="help"), SESSION)
    await finish(store, turn)


async def test_nothing_more_is_written_to_an_ended_turn(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    await finish(store, turn)
    with pytest.raises(TurnLost):
        await store.append(turn.id, turn.epoch, (ANSWER,))
    with pytest.raises(TurnLost):
        await store.read_inbox(turn.id, turn.epoch, 2)
    with pytest.raises(TurnLost):
        await store.close(turn.id, turn.epoch, COMPLETED)


async def test_another_worker_takes_over_an_unfinished_turn(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path), worker="first") as store:
        await tell(store, "one")
        left = await begin(store)
        await store.append(left.id, left.epoch, (ANSWER,))
        await tell(store, "two")
    async with open_store(url_of(tmp_path), worker="second") as store:
        assert (await left_behind(store)).sessions == (SESSION,)
        turn = await begin(store)
        assert (turn.id, turn.epoch) == (left.id, left.epoch + 1)
        assert turn.entries == (*left.entries, ANSWER, Resumed())
        assert (await store.turn(turn.id)).entries == turn.entries
        assert await store.claim(SESSION) is None
        with pytest.raises(TurnLost):
            await store.append(left.id, left.epoch, (ANSWER,))
        with pytest.raises(TurnLost):
            await store.read_inbox(left.id, left.epoch, 2)
        with pytest.raises(TurnLost):
            await store.close(left.id, left.epoch, COMPLETED)
        assert words(await store.read_inbox(turn.id, turn.epoch, 2)) == ["two"]
        await finish(store, turn)


async def test_what_people_have_read_of_an_answer_stands_after_the_process_is_gone(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path), worker="one") as store:
        await tell(store)
        turn = await begin(store)
        await store.keep(turn.id, turn.epoch, ModelAnswered(1, (Text("Hel"),), interrupted=True))
        await store.keep(turn.id, turn.epoch, ModelAnswered(1, (Text("Hello, A"),), interrupted=True))
    async with open_store(url_of(tmp_path), worker="two") as store:
        resumed = await begin(store)
        read = ModelAnswered(1, (Text("Hello, A"),), interrupted=True, by_restart=True)
        assert resumed.entries == (*turn.entries, read, Resumed())
        with pytest.raises(TurnLost):
            await store.keep(turn.id, turn.epoch, None)
        await store.keep(resumed.id, resumed.epoch, ModelAnswered(2, (Text("nn"),), interrupted=True))
        await store.append(resumed.id, resumed.epoch, (ModelAnswered(2, (Text("nn."),)),))
    async with open_store(url_of(tmp_path), worker="three") as store:
        whole = (await begin(store)).entries
    assert whole == (*resumed.entries, ModelAnswered(2, (Text("nn."),)), Resumed())


async def test_a_command_is_answered_once(store: Store) -> None:
    arrival = await store.accept(message(id="x", kind="command", command="help"), SESSION)
    reply = await store.answer(arrival.id, Notice("help yourself"))
    assert await store.answer(arrival.id, Notice("again")) == reply
    turn = await store.turn(reply)
    assert turn.entries == (Notice("help yourself"), COMPLETED)
    assert (turn.kind, turn.reply_to, turn.address, turn.principal) == ("command", "x", HERE, ANN)
    pending = await left_behind(store)
    assert (pending.commands, pending.undelivered, pending.sessions) == ((), (reply,), ())


async def test_a_message_is_no_command(store: Store) -> None:
    arrival = await tell(store)
    with pytest.raises(LookupError):
        await store.answer(arrival.id, Notice("what?"))
    assert await store.waiting_busy(SESSION)


async def test_a_command_is_answered_while_a_turn_runs(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    arrival = await store.accept(message(kind="command", command="status"), SESSION)
    await store.answer(arrival.id, Notice("one turn runs"))
    await finish(store, turn)


async def test_a_notice_is_stored_once_per_key(store: Store) -> None:
    reply = await store.say(SESSION, HERE, "x", Notice("you may not"), "refused:1")
    assert reply is not None
    assert (await store.turn(reply)).entries == (Notice("you may not"), COMPLETED)
    assert await store.say(SESSION, HERE, "x", Notice("you may not"), "refused:1") is None
    assert await store.say(SESSION, HERE, "x", Notice("you may not"), "refused:2") not in (None, reply)


async def test_history_is_the_ended_turns_without_commands_oldest_first(store: Store) -> None:
    for text in ("one", "two"):
        await tell(store, text)
        await finish(store, await begin(store))
    command = await store.accept(message(kind="command", command="help"), SESSION)
    await store.answer(command.id, Notice("help yourself"))
    await tell(store, "three")
    turn = await begin(store)
    assert [past.outcome for past in await store.history(SESSION)] == ["completed", "completed"]
    await store.close(turn.id, turn.epoch, Ended("stopped", "by Ann"))
    history = await store.history(SESSION)
    assert [past.outcome for past in history] == ["completed", "completed", "stopped"]
    assert [words(past.entries[0]) for past in history if isinstance(past.entries[0], MessagesRead)] == [
        ["one"],
        ["two"],
        ["three"],
    ]
    assert history[0].entries[1:] == (ANSWER, COMPLETED)
    assert [turn.kind for turn in await store.turns_of(SESSION)] == ["turn", "turn", "command", "turn"]


async def test_the_history_of_an_unknown_session_is_empty(store: Store) -> None:
    assert await store.history("nowhere") == ()
    assert await store.rows("nowhere") == ()
    assert await store.turns_of("nowhere") == ()


async def test_a_reset_session_has_no_history_and_its_waiting_messages(store: Store) -> None:
    await tell(store, "old")
    await finish(store, await begin(store))
    await tell(store, "waits")
    await store.reset_session(SESSION)
    assert await store.history(SESSION) == ()
    assert await states(store) == {"waits": "waiting"}
    turn = await begin(store)
    await finish(store, turn)
    assert [past.id for past in await store.history(SESSION)] == [turn.id]


async def test_a_turn_that_ran_while_the_session_was_reset_is_not_in_its_history(store: Store) -> None:
    await tell(store, "old")
    turn = await begin(store)
    await store.reset_session(SESSION)
    await store.close(turn.id, turn.epoch, Ended("stopped", "a new session"))
    assert await store.history(SESSION) == ()
    assert await store.turns_of(SESSION) == ()


async def test_pending_names_everything_that_a_new_process_has_to_do(store: Store) -> None:
    assert await left_behind(store) == Pending((), (), {}, (), ())
    await tell(store, "first", "b")
    await tell(store, "second", "a")
    await begin(store, "a")
    await tell(store, "third", "c")
    done = await begin(store, "c")
    await finish(store, done)
    look = await store.accept(message("look", files=(PHOTO,), album="z"), "d")
    command = await store.accept(message(kind="command", command="stop"), "e")
    pending = await left_behind(store)
    assert pending.sessions == ("b", "a", "d")
    assert [(row.id, row.session, row.files, row.album) for row in pending.unfetched] == [(look.id, "d", (PHOTO,), "z")]
    assert [row.id for row in pending.commands] == [command.id]
    assert pending.undelivered == (done.id,)
    await store.delivered(done.id)
    assert (await left_behind(store)).undelivered == ()


async def test_conversations_are_listed_with_the_beginning_of_their_first_message_newest_first(store: Store) -> None:
    web = Address("web", "web", "1")
    await store.accept(message("draw\na cat " + "x" * 200, address=web), "one")
    await store.accept(message("hello", address=Address("web", "web", "2")), "two")
    await store.accept(message("and now a dog", address=web), "one")
    await store.accept(message("let me in", address=Address("web", "web", "3")), "three", "no")
    await tell(store, "elsewhere")
    await begin(store, "two")
    first, second = await conversations_of(store, "web")
    assert (first.session, first.address, first.running) == ("one", web, False)
    assert first.title.startswith("draw a cat xxx")
    assert len(first.title) <= 80
    assert (second.session, second.title, second.running) == ("two", "hello", True)


async def test_an_unknown_turn_is_an_error(store: Store) -> None:
    with pytest.raises(LookupError):
        await store.turn("nothing")


async def test_the_outbox_lists_sent_pieces_in_the_order_of_sending(store: Store) -> None:
    await store.sending("r", "t1")
    await store.sent("r", "t1", "100", "d1")
    await store.sending("r", "t2")
    await store.sending("other", "t1")
    assert await store.pieces("r") == (Sent("t1", "shown", "100", "d1"), Sent("t2", "unknown"))
    await store.sent("r", "t1", "100", "d2")
    await store.rename("r", "t1", "c1")
    assert await store.pieces("r") == (Sent("c1", "shown", "100", ""), Sent("t2", "unknown"))
    await store.removed("r", "t2")
    assert await store.pieces("r") == (Sent("c1", "shown", "100", ""),)
    assert await store.pieces("unknown") == ()


async def test_media_used_by_a_message_or_a_turn_are_not_forgotten(store: Store) -> None:
    now = datetime.now(UTC)
    from_person, from_tool, from_nobody = (f"{number:064}" for number in range(3))
    for hash in (from_person, from_tool, from_nobody):
        await store.record_media(_picture(hash))
    look = await store.accept(message(files=(PHOTO,)), SESSION)
    await store.mark_ready(look.id, (PHOTO,), (_picture(from_person),))
    turn = await begin(store)
    await store.append(turn.id, turn.epoch, (CallEnded("c", "done", "", (_picture(from_tool),)),))
    assert (await store.claim_unused_media(now - timedelta(hours=1))).hashes == frozenset()
    assert (await store.claim_unused_media(now + timedelta(hours=1))).hashes == {from_nobody}


def _picture(hash: str) -> Attachment:
    return replace(PICTURE, hash=hash)


async def test_results_from_outside_stand_where_the_turn_is_stopped_in_the_moment_it_has_parked(store: Store) -> None:
    """Its worker has parked it and knows of no results yet, when it ends the turn."""
    await tell(store)
    turn = await begin(store)
    asked = ModelAnswered(1, (Call("a", "buy", "{}"), Call("b", "buy", "{}")))
    await store.append(turn.id, turn.epoch, (asked, CallStarted("a", 9e9, "{}"), CallStarted("b", 9e9, "{}")))
    assert await store.park(turn.id, turn.epoch)
    results = [CallEnded("a", "done", "Bought."), CallEnded("b", "done", "Bought.")]
    assert await store.supply(turn.id, results) == SESSION
    stopped = Ended("stopped", "stop")
    assert await store.close(turn.id, turn.epoch, stopped, [CallEnded(id, "cancelled", "It ended.") for id in "ab"])
    assert (await store.turn(turn.id)).entries[-3:] == (*results, stopped)
