"""Undo, retry and side questions, in a store on a real file."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.journal import TurnLost
from agent.log import Ended, MessagesRead, Notice, Resumed
from channels.address import Sender
from gateway.store import Store, open_store
from gateway.store.records import ModelChoice
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
)

pytestmark = pytest.mark.engines

BOB = Sender("2", "Bob")


async def command(store: Store, name: str, words: str = "", **more: str) -> int:
    arrival = await store.accept(message(words, kind="command", command=name, **more), SESSION)  # type: ignore[arg-type]
    assert arrival is not None
    return arrival.id


async def test_an_undone_turn_is_removed_from_the_history_and_stays_on_screens(store: Store) -> None:
    for text in ("one", "two"):
        await tell(store, text)
        await finish(store, await begin(store))
    undone = await store.undo(SESSION)
    assert undone is not None
    assert undone.texts == ("two",)
    (past,) = await store.history(SESSION)
    assert past.id != undone.id
    assert [turn.id for turn in await store.turns_of(SESSION)] == [past.id, undone.id]
    assert (await store.turn(undone.id)).entries[-1] == COMPLETED


async def test_undoing_again_removes_the_turn_before_until_there_is_none(store: Store) -> None:
    await tell(store, "of old")
    await finish(store, await begin(store))
    await store.reset_session(SESSION)
    await tell(store, "one")
    await finish(store, await begin(store))
    await tell(store, "two")
    await store.close((turn := await begin(store)).id, turn.epoch, Ended("failed", "no model"))
    undone = [await store.undo(SESSION) for _ in range(3)]
    assert [each and each.texts for each in undone] == [("two",), ("one",), None]
    assert await store.history(SESSION) == ()


async def test_a_running_turn_is_not_undone(store: Store) -> None:
    await tell(store)
    await begin(store)
    assert await store.undo(SESSION) is None


async def test_a_retry_repeats_peoples_messages_and_undoes_the_turn(store: Store) -> None:
    await tell(store, "draw a cat", id="1")
    turn = await begin(store)
    await tell(store, "and a dog", id="2")
    await store.accept(message("draw a cow", id="1", kind="edited"), SESSION)
    await tell(store, "and a hen", id="3")
    await store.read_inbox(turn.id, turn.epoch, 2)
    await store.accept(message("", id="3", kind="withdrawn"), SESSION)
    await store.read_inbox(turn.id, turn.epoch, 3)
    await store.close(turn.id, turn.epoch, Ended("stopped", "by Ann"))
    row = await command(store, "retry", id="again")
    assert await store.retry(row)
    assert await store.waiting_busy(SESSION) == "steer"
    again = await begin(store)
    assert first_words(again) == ["draw a cow\nand a dog"]
    assert (again.reply_to, again.principal) == ("again", ANN)
    assert again.id != turn.id
    run = await store.run(again.id)
    assert run is not None
    assert run.state == "running"
    assert await store.history(SESSION) == ()
    assert (await left_behind(store)).commands == ()


async def test_a_retry_uses_the_files_of_the_messages(store: Store) -> None:
    await store.record_media(PICTURE)
    look = await store.accept(message("look", files=(PHOTO,)), SESSION)
    await store.mark_ready(look.id, (PHOTO,), (PICTURE,))
    await finish(store, await begin(store))
    assert await store.retry(await command(store, "retry"))
    read = (await begin(store)).entries[0]
    assert isinstance(read, MessagesRead)
    assert read.messages[0].attachments == (PICTURE,)
    assert not (await store.claim_unused_media(datetime.now(UTC) + timedelta(hours=1))).hashes


async def test_a_retry_of_messages_of_several_people_names_them(store: Store) -> None:
    await tell(store, "tea")
    await store.accept(message("coffee", sender=BOB), SESSION)
    await finish(store, await begin(store))
    assert await store.retry(await command(store, "retry"))
    assert first_words(await begin(store)) == ['Ann (1): "tea"\nBob (2): "coffee"']


async def test_there_is_nothing_to_retry_without_an_ended_turn_or_while_a_turn_runs(store: Store) -> None:
    assert not await store.retry(await command(store, "retry"))
    (waiting,) = (await left_behind(store)).commands
    await store.answer(waiting.id, Notice("There is nothing to do again."))
    await tell(store)
    await finish(store, await begin(store))
    await tell(store)
    await begin(store)
    assert not await store.retry(await command(store, "retry"))
    assert len(await store.history(SESSION)) == 1


async def test_a_side_question_is_answered_while_a_turn_runs(store: Store) -> None:
    await tell(store, "go")
    turn = await begin(store)
    await tell(store, "and this")
    side = await store.begin_side_question(await command(store, "btw", "what is that?", id="x"))
    assert (side.kind, side.address, side.principal, side.reply_to) == ("aside", HERE, ANN, "x")
    assert first_words(side) == ["what is that?"]
    assert await store.read_inbox(side.id, side.epoch, 2) is None
    await store.append(side.id, side.epoch, (ANSWER,))
    assert await store.close(side.id, side.epoch, COMPLETED)
    assert (await store.turn(side.id)).entries == (*side.entries, ANSWER, COMPLETED)
    assert await states(store) == {"go": "consumed", "and this": "waiting", "/btw what is that?": "answered"}
    assert await store.read_inbox(turn.id, turn.epoch, 2) is not None
    await finish(store, turn)
    assert [past.id for past in await store.history(SESSION)] == [turn.id]
    assert [each.kind for each in await store.turns_of(SESSION)] == ["turn", "aside"]
    assert (await left_behind(store)).undelivered == (turn.id, side.id)


async def test_a_side_question_blocks_no_turn_and_is_never_claimed(store: Store) -> None:
    first = await store.begin_side_question(await command(store, "btw", "one?"))
    second = await store.begin_side_question(await command(store, "btw", "two?"))
    assert await store.claim(SESSION) is None
    assert await store.unfinished(SESSION) is None
    await tell(store)
    turn = await begin(store)
    assert len({first.id, second.id, turn.id}) == 3
    with pytest.raises(ValueError, match="aside"):
        await store.park(first.id, first.epoch)


async def test_a_side_question_is_begun_once(store: Store) -> None:
    row = await command(store, "btw", "one?")
    await store.begin_side_question(row)
    with pytest.raises(LookupError):
        await store.begin_side_question(row)
    with pytest.raises(LookupError):
        await store.begin_side_question((await tell(store)).id)


async def test_a_side_question_that_another_worker_left_is_resumed(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path), worker="first") as store:
        left = await store.begin_side_question(await command(store, "btw", "one?"))
        done = await store.begin_side_question(await command(store, "btw", "two?"))
        await store.close(done.id, done.epoch, COMPLETED)
    async with open_store(url_of(tmp_path), worker="second") as store:
        pending = await left_behind(store)
        assert (pending.side_questions, pending.sessions, pending.undelivered) == ((left.id,), (), (done.id,))
        side = await store.resume_side_question(left.id)
        assert (side.epoch, side.entries) == (2, (*left.entries, Resumed()))
        with pytest.raises(TurnLost):
            await store.append(left.id, left.epoch, (ANSWER,))
        await store.close(side.id, side.epoch, COMPLETED, (ANSWER,))
        assert (await left_behind(store)).side_questions == ()
        with pytest.raises(LookupError):
            await store.resume_side_question(left.id)


async def test_the_model_chosen_in_a_conversation_is_that_of_its_next_turns(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    assert (turn.model, turn.reasoning, await store.model_of(SESSION)) == ("", None, ModelChoice())
    await store.set_model(SESSION, ModelChoice("openai:gpt-5", 8000))
    await finish(store, turn)
    await store.reset_session(SESSION)
    await tell(store)
    turn = await begin(store)
    assert ModelChoice(turn.model, turn.reasoning) == await store.model_of(SESSION) == ModelChoice("openai:gpt-5", 8000)
    await store.set_model(SESSION, ModelChoice(reasoning="high"))
    aside = await store.begin_side_question(await command(store, "btw", "one?"))
    assert (aside.model, aside.reasoning) == ("", "high")


async def test_a_conversation_is_listed_with_its_title(store: Store) -> None:
    web = replace(HERE, channel="web")
    await store.accept(message("draw a cat", address=web), "one")
    turn = await begin(store, "one")
    await store.set_title("one", "A cat\n drawn", turn.generation)
    (listed,) = await conversations_of(store, "web")
    assert listed.title == "A cat drawn"
    await store.reset_session("one")
    await store.set_title("one", "Too late", turn.generation)
    assert await conversations_of(store, "web") == (), "nothing was said in it yet"
    (earlier,) = await store.earlier("web")
    assert (earlier.title, earlier.generation) == ("draw a cat", turn.generation)
    await store.accept(message("draw a dog", address=web), "one")
    (listed,) = await conversations_of(store, "web")
    assert listed.title == "draw a dog"
    await store.set_title("one", "In time")
    (listed,) = await conversations_of(store, "web")
    assert listed.title == "In time"
