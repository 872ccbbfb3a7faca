"""The states of people's messages, in a store on a real file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.log import ForeignText as ReadForeign
from agent.log import MessagesRead, Notice
from channels.address import Address, Sender
from channels.message import FileRef, ForeignText, InboundMessage
from gateway.store import Store, open_store
from gateway.store.arrivals import NOT_ALLOWED
from gateway.store.records import Turn
from tests.gateway.notes import (
    HERE,
    PHOTO,
    PICTURE,
    SESSION,
    begin,
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

BOB = Sender("2", "Bob")
GROUP = replace(HERE, kind="group")


def first_words_and_notes(turn: Turn) -> list[tuple[str, str]]:
    [read] = [entry for entry in turn.entries if isinstance(entry, MessagesRead)]
    return [(said.text, said.note) for said in read.messages]


async def test_a_new_message_waits_and_wakes_its_session(store: Store) -> None:
    arrival = await tell(store)
    assert (arrival.state, arrival.wakes, arrival.duplicate, arrival.to_fetch) == ("waiting", "steer", False, None)
    assert await store.waiting_busy(SESSION)
    assert await store.count_waiting(SESSION) == 1


async def test_ids_rise_in_the_order_of_arrival(store: Store) -> None:
    ids = [(await tell(store)).id for _ in range(5)]
    assert ids == sorted(set(ids))


async def test_a_second_delivery_of_an_event_changes_nothing(store: Store) -> None:
    first = await store.accept(message("hi", event="same"), SESSION)
    again = await store.accept(message("hi, but changed", event="same"), SESSION)
    assert (again.duplicate, again.id, again.state, again.wakes) == (True, first.id, "waiting", None)
    assert await states(store) == {"hi": "waiting"}


async def test_an_event_is_a_duplicate_even_after_it_was_answered_and_the_store_reopened(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path)) as store:
        await store.accept(message("hi", event="same"), SESSION)
        await finish(store, await begin(store))
    async with open_store(url_of(tmp_path)) as store:
        again = await store.accept(message("hi", event="same"), SESSION)
        assert (again.duplicate, again.state) == (True, "consumed")


async def test_two_channels_may_use_the_same_event_id(store: Store) -> None:
    await store.accept(message(event="same"), SESSION)
    other = await store.accept(message(event="same", address=Address("web", "bot", "7")), "web/bot/7")
    assert not other.duplicate


async def test_a_refused_message_ends_at_once_with_its_reason(store: Store) -> None:
    arrival = await store.accept(message("let me in"), SESSION, "not on the list")
    assert (arrival.state, arrival.reason, arrival.wakes) == ("refused", "not on the list", None)
    assert await states(store) == {"let me in": "refused"}
    assert await store.claim(SESSION) is None


async def test_only_the_first_message_of_a_stranger_is_stored_and_the_others_are_counted(store: Store) -> None:
    people = (BOB, BOB, Sender("3", "Cy"), BOB)
    refusals = [await store.accept(message(sender=sender), SESSION, NOT_ALLOWED) for sender in people]
    assert [arrival.is_stored for arrival in refusals] == [True, False, True, False]
    assert sorted((each.sender.name, each.messages) for each in await store.strangers()) == [("Bob", 3), ("Cy", 1)]


async def test_a_message_with_files_waits_for_them(store: Store) -> None:
    arrival = await store.accept(message("look", files=(PHOTO,)), SESSION)
    assert (arrival.wakes, arrival.to_fetch) == (None, arrival.id)
    assert not await store.waiting_busy(SESSION)
    assert await store.claim(SESSION) is None
    waiting = await store.unfetched(arrival.id)
    assert waiting is not None
    assert (waiting.files, waiting.address) == ((PHOTO,), HERE)


async def test_a_new_turn_waits_for_the_files_of_a_message_and_a_running_one_reads_on(store: Store) -> None:
    await tell(store, "before")
    look = await store.accept(message("look", files=(PHOTO,)), SESSION)
    await tell(store, "after")
    turn = await begin(store)
    assert first_words(turn) == ["before"]
    assert await store.is_arriving(turn.id, turn.epoch)
    assert words(await store.read_inbox(turn.id, turn.epoch, 2)) == ["after"]
    assert await store.mark_ready(look.id, (PHOTO,), (PICTURE,))
    assert words(await store.read_inbox(turn.id, turn.epoch, 2)) == ["look"]
    assert not await store.is_arriving(turn.id, turn.epoch)


async def test_late_files_follow_their_message_in_a_row_of_their_own(store: Store) -> None:
    other = FileRef("photo-2", "two.jpg")
    look = await store.accept(message("look", files=(PHOTO, other)), SESSION)
    late = await store.put_off(look.id, (other,), "[picture still on its way]")
    assert late is not None
    assert await store.mark_ready(look.id, (PHOTO,), (PICTURE,))
    await tell(store, "after")
    turn = await begin(store)
    assert first_words(turn) == ["look", "after"]
    assert not await store.is_arriving(turn.id, turn.epoch)
    assert await store.mark_ready(late, (other,), (PICTURE,))
    assert words(await store.read_inbox(turn.id, turn.epoch, 2)) == [""]
    assert await store.put_off(look.id, (PHOTO,), "") is None


async def test_fetched_files_are_read_with_their_message_and_the_note_is_added(store: Store) -> None:
    arrival = await store.accept(message("look", files=(PHOTO,), note="a forward"), SESSION)
    assert await store.mark_ready(arrival.id, (PHOTO,), (PICTURE,), "one file was too large")
    read = (await begin(store)).entries[0]
    assert isinstance(read, MessagesRead)
    assert read.messages[0].attachments == (PICTURE,)
    assert read.messages[0].note == "a forward\none file was too large"
    assert await store.unfetched(arrival.id) is None


async def test_an_album_becomes_one_message(store: Store) -> None:
    second = FileRef("photo-2", "two.jpg")
    first = await store.accept(message("", files=(PHOTO,), album="a"), SESSION)
    joined = await store.accept(message("the caption", files=(second,), album="a"), SESSION)
    assert (joined.state, joined.reason, joined.to_fetch, joined.wakes) == ("answered", "part of an album", None, None)
    waiting = await store.unfetched(first.id)
    assert waiting is not None
    assert waiting.files == (PHOTO, second)
    assert await states(store) == {"two.jpg: the caption": "waiting"}


async def test_files_fetched_before_the_album_was_complete_are_not_enough(store: Store) -> None:
    first = await store.accept(message("", files=(PHOTO,), album="a"), SESSION)
    await store.accept(message("", files=(FileRef("photo-2", "two.jpg"),), album="a"), SESSION)
    assert not await store.mark_ready(first.id, (PHOTO,), (PICTURE,))
    assert not await store.waiting_busy(SESSION)


async def test_two_albums_and_two_sessions_do_not_mix(store: Store) -> None:
    await store.accept(message("one", files=(PHOTO,), album="a"), SESSION)
    other_album = await store.accept(message("two", files=(PHOTO,), album="b"), SESSION)
    other_session = await store.accept(message("three", files=(PHOTO,), album="a"), "elsewhere")
    assert other_album.to_fetch == other_album.id
    assert other_session.to_fetch == other_session.id


async def test_an_album_that_was_read_already_does_not_take_latecomers(store: Store) -> None:
    first = await store.accept(message("one", files=(PHOTO,), album="a"), SESSION)
    await store.mark_ready(first.id, (PHOTO,), (PICTURE,))
    late = await store.accept(message("two", files=(PHOTO,), album="a"), SESSION)
    assert late.to_fetch == late.id


async def test_a_command_waits_for_its_handler_and_is_never_read_by_a_turn(store: Store) -> None:
    arrival = await store.accept(message("now", kind="command", command="stop"), SESSION)
    assert (arrival.command, arrival.wakes) == ("stop", None)
    assert not await store.waiting_busy(SESSION)
    assert await store.claim(SESSION) is None
    (command,) = (await left_behind(store)).commands
    assert (command.id, command.name, command.arguments) == (arrival.id, "stop", "now")


async def test_an_edit_of_a_waiting_message_changes_it(store: Store) -> None:
    first = await tell(store, "draw a cat", id="x")
    edit = await store.accept(message("draw a dog", id="x", kind="edited"), SESSION)
    assert (edit.state, edit.wakes) == ("answered", None)
    assert edit.changed is not None
    assert (edit.changed.id, edit.changed.message_id, edit.changed.state) == (first.id, "x", "waiting")
    assert first_words(await begin(store)) == ["draw a dog"]


async def test_an_edit_that_changes_no_text_does_nothing(store: Store) -> None:
    await tell(store, "draw a cat", id="x")
    turn = await begin(store)
    edit = await store.accept(message("draw a cat", id="x", kind="edited"), SESSION)
    assert (edit.state, edit.reason, edit.wakes) == ("answered", "nothing changed", None)
    assert await store.read_inbox(turn.id, turn.epoch, 2) is None


async def test_an_edit_of_a_message_that_a_turn_has_read_steers_with_the_old_text(store: Store) -> None:
    await tell(store, "draw a cat", id="x")
    turn = await begin(store)
    edit = await store.accept(message("draw a dog", id="x", kind="edited"), SESSION)
    assert (edit.state, edit.wakes) == ("waiting", "steer")
    read = await store.read_inbox(turn.id, turn.epoch, 2)
    assert words(read) == ["draw a dog"]
    assert read is not None
    assert read.messages[0].note == 'They edited an earlier message. Before: "draw a cat"'


async def test_an_edit_is_compared_with_the_edit_before_it(store: Store) -> None:
    await tell(store, "cat", id="x")
    turn = await begin(store)
    await store.accept(message("dog", id="x", kind="edited"), SESSION)
    waiting = await store.accept(message("cow", id="x", kind="edited"), SESSION)
    assert waiting.state == "answered"
    assert words(await store.read_inbox(turn.id, turn.epoch, 2)) == ["cow"]
    same = await store.accept(message("cow", id="x", kind="edited"), SESSION)
    assert same.reason == "nothing changed"
    back = await store.accept(message("cat", id="x", kind="edited"), SESSION)
    assert back.wakes
    read = await store.read_inbox(turn.id, turn.epoch, 3)
    assert read is not None
    assert read.messages[0].note == 'They edited an earlier message. Before: "cow"'


async def test_in_a_direct_chat_an_edit_after_the_answer_is_a_new_question(store: Store) -> None:
    await tell(store, "cat", id="x")
    await finish(store, await begin(store))
    same = await store.accept(message("cat", id="x", kind="edited"), SESSION)
    assert (same.state, same.wakes) == ("answered", None)
    edit = await store.accept(message("dog", id="x", kind="edited"), SESSION)
    assert (edit.state, edit.wakes) == ("waiting", "steer")
    [read] = first_words_and_notes(await begin(store))
    assert read == ("dog", 'They edited this message after it had been answered. Before: "cat"')


async def test_in_a_group_an_edit_after_the_answer_wakes_nobody(store: Store) -> None:
    await store.accept(message("cat", id="x", address=GROUP), SESSION)
    await finish(store, await begin(store))
    edit = await store.accept(message("dog", id="x", kind="edited", address=GROUP), SESSION)
    assert (edit.state, edit.wakes) == ("answered", None)
    assert edit.reason
    assert await store.claim(SESSION) is None


async def test_an_edit_that_makes_a_message_one_for_the_bot_is_a_new_message(store: Store) -> None:
    edit = message("@bot check the build", id="unheard", kind="edited", address=GROUP)
    other = await store.accept(replace(edit, addressed=False, event_id="other"), SESSION)
    assert (other.state, other.wakes) == ("answered", None)
    other = await store.accept(replace(edit, message_id="2", event_id="second"), SESSION)
    assert (other.state, other.wakes) == ("waiting", "steer")
    assert other.run
    assert first_words(await begin(store)) == ["@bot check the build"]


async def test_a_withdrawal_of_a_message_that_is_not_known_wakes_nobody(store: Store) -> None:
    arrival = await store.accept(message("", id="unknown", kind="withdrawn"), SESSION)
    assert (arrival.state, arrival.wakes) == ("answered", None)
    assert "not known" in arrival.reason


# Updates, in which nobody said anything


def update(text: str, id: str, *foreign: ForeignText) -> InboundMessage:
    return replace(message(text, id=id, kind="edited"), is_update=True, foreign=foreign)


PREVIEW = ForeignText("the preview of a page", "its words")


async def test_an_update_completes_a_waiting_message(store: Store) -> None:
    await tell(store, "see the page", id="x")
    await store.accept(update("see the page", "x", PREVIEW), SESSION)
    await store.accept(update("see the page", "x", PREVIEW), SESSION)
    turn = await begin(store)
    [read] = [entry for entry in turn.entries if isinstance(entry, MessagesRead)]
    assert [(said.text, said.foreign) for said in read.messages] == [
        ("see the page", (ReadForeign("the preview of a page", "its words"),))
    ]


async def test_an_update_is_read_at_the_next_step_and_interrupts_nothing(store: Store) -> None:
    await tell(store, "at 1", id="x")
    turn = await begin(store)
    first = await store.accept(update("at 2", "x"), SESSION)
    second = await store.accept(update("at 3", "x"), SESSION)
    assert (first.wakes, second.wakes) == ("work", None)
    assert words(await store.read_inbox(turn.id, turn.epoch, 2)) == ["at 3"]


async def test_an_update_neither_keeps_a_turn_open_nor_begins_one(store: Store) -> None:
    await tell(store, "at 1", id="x")
    turn = await begin(store)
    await store.accept(update("at 2", "x"), SESSION)
    await finish(store, turn)
    assert await store.claim(SESSION) is None
    assert await store.accept(update("at 3", "x"), SESSION) is None
    assert await store.accept(update("at 3", "never said"), SESSION) is None
    assert await store.claim(SESSION) is None


async def test_an_edit_after_an_unread_update_steers(store: Store) -> None:
    await tell(store, "at 1", id="x")
    turn = await begin(store)
    await store.accept(update("at 2", "x"), SESSION)
    edit = await store.accept(message("never mind", id="x", kind="edited"), SESSION)
    assert edit.wakes == "steer"
    assert words(await store.read_inbox(turn.id, turn.epoch, 2)) == ["never mind"]


async def test_a_withdrawn_message_is_not_read(store: Store) -> None:
    first = await tell(store, "oops", id="x")
    withdrawal = await store.accept(message("", id="x", kind="withdrawn"), SESSION)
    assert withdrawal.changed is not None
    assert (withdrawal.changed.id, withdrawal.changed.state) == (first.id, "withdrawn")
    assert await states(store) == {"oops": "withdrawn"}
    assert await store.claim(SESSION) is None


async def test_withdrawing_a_blocking_message_wakes_the_session(store: Store) -> None:
    await store.accept(message("look", id="x", files=(PHOTO,)), SESSION)
    await tell(store, "after")
    withdrawal = await store.accept(message("", id="x", kind="withdrawn"), SESSION)
    assert withdrawal.wakes
    assert first_words(await begin(store)) == ["after"]


async def test_a_message_that_a_turn_has_read_is_not_withdrawn(store: Store) -> None:
    await tell(store, "go", id="x")
    await begin(store)
    withdrawal = await store.accept(message("", id="x", kind="withdrawn"), SESSION)
    assert (withdrawal.state, withdrawal.changed) == ("answered", None)
    assert await states(store) == {"go": "consumed"}


async def test_stopping_withdraws_the_messages_before_the_command_and_no_others(store: Store) -> None:
    await tell(store, "one")
    await tell(store, "two")
    command = await store.accept(message(kind="command", command="stop"), SESSION)
    await tell(store, "after")
    await tell(store, "elsewhere", "other")
    assert len(await store.withdraw_waiting(SESSION, command.id, "stopped by Ann")) == 2
    assert await states(store) == {"one": "withdrawn", "two": "withdrawn", "after": "waiting"}
    assert await store.count_waiting("other") == 1
    assert len((await left_behind(store)).commands) == 1


async def test_only_what_waits_in_the_conversation_is_removed_from_its_queue(store: Store) -> None:
    read, _ = await tell(store, "read"), await begin(store)
    waits, elsewhere = await tell(store, "waits"), await tell(store, "elsewhere", "other")
    for row in (read.id, elsewhere.id):
        assert await store.remove_queued(SESSION, row, "removed") is None
    changed = await store.remove_queued(SESSION, waits.id, "removed")
    assert changed is not None
    assert (changed.id, changed.state) == (waits.id, "withdrawn")
    assert await store.remove_queued(SESSION, waits.id, "removed") is None
    assert await states(store) == {"read": "consumed", "waits": "withdrawn"}
    assert await store.count_waiting("other") == 1


async def test_text_that_databases_cannot_store_is_stored_as_far_as_possible(store: Store) -> None:
    broken = message("a\ud800b\0c", sender=Sender("1", "An\udfffn"), files=(FileRef("r", "\ud800.txt"),))
    arrival = await store.accept(broken, SESSION)
    await store.mark_ready(arrival.id, broken.files, ())
    assert first_words(await begin(store)) == ["a\ufffdb\ufffdc"]


async def test_a_very_long_message_is_stored_whole(store: Store) -> None:
    await tell(store, "é" * 100_000)
    assert first_words(await begin(store)) == ["é" * 100_000]


async def test_every_row_is_waiting_or_in_one_terminal_state(store: Store, tmp_path: Path) -> None:
    await tell(store, "one", id="1")
    await begin(store)
    await tell(store, "two", id="2")
    await store.accept(message("three", files=(PHOTO,), album="a"), SESSION)
    await store.accept(message("four", files=(PHOTO,), album="a"), SESSION)
    await store.accept(message("two!", id="2", kind="edited"), SESSION)
    await store.accept(message("one!", id="1", kind="edited"), SESSION)
    await store.accept(message("", id="2", kind="withdrawn"), SESSION)
    await store.accept(message("no", sender=BOB), SESSION, "not on the list")
    command = await store.accept(message("", kind="command", command="help"), SESSION)
    await store.answer(command.id, Notice("help yourself"))

    def tally(connection: object) -> dict[str, int]:
        rows = connection.exec_driver_sql("SELECT state, count(*) FROM inbox GROUP BY state")  # type: ignore[attr-defined]
        return dict(tuple(row) for row in rows)

    assert await store.write(tally) == {"consumed": 1, "withdrawn": 1, "waiting": 2, "answered": 4, "refused": 1}
