"""Questions of the agent: a parked turn uses no resources, survives a restart, and continues with the next message."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent.decisions.questions import ask_user
from agent.log import Call, Ended, MessagesRead
from agent.models.scripted import ScriptedModel
from agent.transcript import Results
from channels.address import Sender
from channels.channel import Ledger, Undeliverable
from channels.memory import MemoryChannel, plain_text
from channels.reply import Reply
from gateway.inbound.access import ChannelAccess
from gateway.sessions import session_key
from gateway.store import Store, open_store
from tests.engines import engines
from tests.gateway.notes import left_behind
from tests.gateway.play import PLACE, Play, inbound, playing, until

GROUP = replace(PLACE, chat="team", kind="group")
WHICH = "Which colour?"


def asking(*options: str) -> Call:
    return Call("", "ask_user", json.dumps({"question": WHICH, "options": options}))


async def press(play: Play, key: str, number: int) -> None:
    await play.deliver(inbound(f"/answer {key} {number}"))


async def test_a_question_is_answered_with_a_message(tmp_path: Path) -> None:
    model = ScriptedModel([asking("red", "blue")], "Green it is.")
    async with playing(tmp_path, model, ask_user) as play:
        await play.say("paint it")
        question = await play.asked(WHICH)
        assert question.options == ("red", "blue")
        await play.say("green")
        reply = await play.reply("Green it is.")
        await play.until_idle()
        assert [segment.kind for segment in reply.segments] == ["question", "text"]
        assert len(play.shown()) == 1
        *_, results, heard = model.requests[1].transcript
        assert isinstance(results, Results)
        assert isinstance(heard, MessagesRead)
        assert heard.messages[0].text == "green"


async def test_a_question_is_answered_by_a_button_once(tmp_path: Path) -> None:
    model = ScriptedModel([asking("red", "blue")], "Blue it is.")
    async with playing(tmp_path, model, ask_user) as play:
        await play.say("paint it")
        question = await play.asked(WHICH)
        await press(play, question.key, 1)
        reply = await play.reply("Blue it is.")
        await press(play, question.key, 0)
        await play.reply("That question has been answered already.")
        await play.until_idle()
        assert await play.messages_read() == [["paint it", "blue"]]
        assert reply.segments[0].answer == "blue"  # type: ignore[union-attr]  # the question


async def test_a_parked_turn_holds_no_slot_and_shows_nothing_running(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel([asking()], "Hello."), ask_user, max_running_turns=1) as play:
        await play.say("paint it")
        await play.asked(WHICH)
        await play.until_idle()
        assert play.gateway.dispatcher.running() == ()
        await play.say("/status")
        await play.reply(f"Waiting for an answer to: {WHICH}")
        await play.say("hi", address=replace(PLACE, chat="other"))
        await play.reply("Hello.")


async def test_a_question_survives_a_restart(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel([asking("red")]), ask_user) as play:
        await play.say("paint it")
        question = await play.asked(WHICH)
        memory = play.channel.replies
    async with playing(tmp_path, model := ScriptedModel("Red it is."), ask_user) as play:
        play.channel.replies.update(memory)
        assert model.requests == []
        await press(play, question.key, 0)
        await play.reply("Red it is.")
        await play.until_idle()
        assert await play.messages_read() == [["paint it", "red"]]
        assert play.sql("SELECT count(*) FROM turns WHERE kind = 'turn'") == [(1,)]


async def test_a_question_that_was_not_shown_before_a_crash_is_shown_after_it(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel([asking()]), ask_user) as play:
        await play.say("paint it")
        await play.asked(WHICH)
    engines.sql(tmp_path / "test.db", "UPDATE turns SET delivered = false")
    engines.sql(tmp_path / "test.db", "DELETE FROM outbox")
    async with playing(tmp_path, ScriptedModel(), ask_user) as play:
        await play.asked(WHICH)


async def test_stop_ends_a_parked_turn(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel([asking()]), ask_user) as play:
        await play.say("paint it")
        await play.asked(WHICH)
        await play.until_idle()
        await play.say("/stop")
        await play.reply("Stopped: waiting for your answer.")
        reply = await play.reply(WHICH)
        await play.until_idle()
        assert plain_text(reply).endswith("⏹ _Stopped._")
        assert reply.segments[0].open is False  # type: ignore[union-attr]  # the question
        await play.say("hi")
        await play.reply("You said: hi")


async def test_a_queued_message_answers_a_question_too(tmp_path: Path) -> None:
    policies = {"memory": ChannelAccess(frozenset({"*"}), busy="queue")}
    async with playing(tmp_path, ScriptedModel([asking()], "Green it is."), ask_user, policies=policies) as play:
        await play.say("paint it")
        await play.asked(WHICH)
        await play.say("green")
        await play.reply("Green it is.")
        assert await play.messages_read() == [["paint it", "green"]]


async def test_a_new_conversation_ends_a_question(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel([asking()]), ask_user) as play:
        await play.say("paint it")
        await play.asked(WHICH)
        await play.until_idle()
        await play.say("/new", "hello")
        await play.reply("You said: hello")
        await play.until_idle()
        assert play.sql("SELECT state FROM turns WHERE kind = 'turn' ORDER BY number") == [("stopped",), ("completed",)]


async def test_in_a_group_only_its_owner_and_admins_may_end_a_question(tmp_path: Path) -> None:
    policies = {"memory": ChannelAccess(frozenset({"*"}))}
    async with playing(tmp_path, ScriptedModel([asking()]), ask_user, policies=policies) as play:
        await play.say("paint it", address=GROUP)
        await play.asked(WHICH)
        await play.until_idle()
        await play.say("/stop", address=GROUP, by=Sender("8", "Bob"))
        await play.reply("Only Ann and admins may stop this.")


async def test_of_two_options_pressed_at_once_the_first_answers(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel([asking("red", "blue")], "Red it is."), ask_user) as play:
        await play.say("paint it")
        question = await play.asked(WHICH)
        await play.until_idle()
        await play.say(f"/answer {question.key} 0", f"/answer {question.key} 1")
        await play.reply("Red it is.")
        await play.reply("That question has been answered already.")
        await play.until_idle()
        assert await play.messages_read() == [["paint it", "red"]]


async def test_an_invalid_option_blocks_nothing(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        await play.say(f"/answer q:x {'9' * 5000}")
        await play.reply("That question has been answered already.")
        await play.say("hi")
        await play.reply("You said: hi")


async def test_deleting_the_message_of_a_question_ends_it(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel([asking("red")]), ask_user) as play:
        await play.deliver(inbound("paint it", id="m"))
        await play.asked(WHICH)
        await play.until_idle()
        await play.deliver(inbound(kind="withdrawn", id="m"))
        await play.reply("⏹ _Stopped: its message was deleted._")


async def test_queued_messages_answer_a_question_one_by_one(tmp_path: Path) -> None:
    gate = asyncio.Event()
    model = ScriptedModel(["Well", gate, asking()], "Green it is.", "Then that.")
    policies = {"memory": ChannelAccess(frozenset({"*"}), busy="queue")}
    async with playing(tmp_path, model, ask_user, policies=policies) as play:
        await play.say("paint it")
        await play.reply("Well", done=False)
        await play.say("green", "and then that")
        gate.set()
        await play.reply("Then that.")
        assert await play.messages_read() == [["paint it", "green"], ["and then that"]]
        heard = model.requests[1].transcript[-1]
        assert isinstance(heard, MessagesRead), "the answer is read before the model is asked again"


class HeldParking:
    """A store that parks turns at once and returns when it is released."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.parked = asyncio.Event()
        self.go_on = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def park(self, turn_id: str, epoch: int, until: datetime | None = None) -> bool:
        parked = await self._store.park(turn_id, epoch, until)
        self.parked.set()
        await self.go_on.wait()
        return parked


async def test_a_stop_while_a_turn_is_being_parked_ends_it(tmp_path: Path) -> None:
    held: list[HeldParking] = []

    def hold(store: Store) -> HeldParking:
        held.append(HeldParking(store))
        return held[0]

    async with playing(tmp_path, ScriptedModel([asking("red")]), ask_user, store=hold) as play:
        await play.say("paint it")
        await held[0].parked.wait()
        await play.say("/stop")
        await until(lambda: play.gateway.dispatcher.running()[0].stop_reason)
        held[0].go_on.set()
        await play.reply("⏹ _Stopped._")
        await play.until_idle()
        assert play.sql("SELECT DISTINCT state FROM turns ORDER BY state") == [("completed",), ("stopped",)]


async def test_an_undeliverable_question_is_given_up(tmp_path: Path) -> None:
    class Blocked(MemoryChannel):
        async def show(self, reply: Reply, ledger: Ledger) -> None:
            raise Undeliverable("blocked")

    async with playing(tmp_path, ScriptedModel([asking()]), ask_user, channel=Blocked()) as play:
        await play.say("paint it")
        await until(lambda: play.sql("SELECT 1 FROM turns WHERE parked AND delivered"))
        assert play.gateway.delivery.waiting() == 0


@pytest.mark.parametrize("late", [False, True], ids=["in time", "late"])
async def test_a_delivered_question_does_not_count_as_delivery_of_the_rest(tmp_path: Path, late: bool) -> None:
    """Even if the turn was resumed before its question was known to be delivered."""
    async with open_store(engines.url(tmp_path / "test.db")) as store:
        message = inbound("paint it")
        await store.accept(message, session_key(PLACE))
        turn = await store.claim(session_key(PLACE))
        assert turn is not None
        assert await store.park(turn.id, turn.epoch)
        if not late:
            await store.delivered(turn.id)
        await store.accept(inbound("green"), session_key(PLACE))
        again = await store.claim(session_key(PLACE))
        assert again is not None
        if late:
            await store.delivered(turn.id)
        await store.close(again.id, again.epoch, Ended("completed"), ())
        await store.read_inbox(again.id, again.epoch, 2)
        await store.close(again.id, again.epoch, Ended("completed"), ())
        assert (await left_behind(store)).undelivered == (turn.id,)
