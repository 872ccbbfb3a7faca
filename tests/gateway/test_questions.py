"""Questions of the agent's: a parked turn costs nothing, survives a restart, and goes on with whatever is said."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from agent.asking import ask_user
from agent.log import Call, Heard
from agent.models.scripted import ScriptedModel
from agent.transcript import Results
from channels.address import Sender
from channels.paper import words
from gateway.gate import Policy
from tests.gateway.play import PLACE, Play, playing, said

GROUP = replace(PLACE, chat="team", kind="group")
WHICH = "Which colour?"


def asking(*options: str) -> Call:
    return Call("", "ask_user", json.dumps({"question": WHICH, "options": options}))


async def press(play: Play, key: str, number: int) -> None:
    await play.deliver(said(f"/answer {key} {number}"))


async def test_a_question_is_answered_with_words(tmp_path: Path) -> None:
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
        assert isinstance(heard, Heard)
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
        assert await play.heard() == [["paint it", "blue"]]
        assert reply.segments[0].answer == "blue"  # type: ignore[union-attr]  # the question


async def test_a_parked_turn_holds_no_slot_and_shows_nothing_running(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel([asking()], "Hello."), ask_user, most_running=1) as play:
        await play.say("paint it")
        await play.asked(WHICH)
        await play.until_idle()
        assert play.house.dispatch.running() == ()
        await play.say("/status")
        await play.reply(f"Waiting for an answer to: {WHICH}")
        await play.say("hi", address=replace(PLACE, chat="other"))
        await play.reply("Hello.")


async def test_a_question_survives_a_restart(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel([asking("red")]), ask_user) as play:
        await play.say("paint it")
        question = await play.asked(WHICH)
        paper = play.channel.replies
    async with playing(tmp_path, model := ScriptedModel("Red it is."), ask_user) as play:
        play.channel.replies.update(paper)
        assert model.requests == []
        await press(play, question.key, 0)
        await play.reply("Red it is.")
        await play.until_idle()
        assert await play.heard() == [["paint it", "red"]]
        assert play.sql("SELECT count(*) FROM turns WHERE kind = 'turn'") == [(1,)]


async def test_a_question_that_was_not_shown_before_a_crash_is_shown_after_it(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel([asking()]), ask_user) as play:
        await play.say("paint it")
        await play.asked(WHICH)
    with closing(sqlite3.connect(tmp_path / "test.db")) as database, database:
        database.execute("UPDATE turns SET delivered = 0")
        database.execute("DELETE FROM outbox")
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
        assert words(reply).endswith("⏹ _Stopped._")
        assert reply.segments[0].open is False  # type: ignore[union-attr]  # the question
        await play.say("hi")
        await play.reply("You said: hi")


async def test_what_waits_in_a_queue_answers_a_question_too(tmp_path: Path) -> None:
    policies = {"paper": Policy(frozenset({"*"}), busy="queue")}
    async with playing(tmp_path, ScriptedModel([asking()], "Green it is."), ask_user, policies=policies) as play:
        await play.say("paint it")
        await play.asked(WHICH)
        await play.say("green")
        await play.reply("Green it is.")
        assert await play.heard() == [["paint it", "green"]]


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
    policies = {"paper": Policy(frozenset({"*"}))}
    async with playing(tmp_path, ScriptedModel([asking()]), ask_user, policies=policies) as play:
        await play.say("paint it", address=GROUP)
        await play.asked(WHICH)
        await play.until_idle()
        await play.say("/stop", address=GROUP, by=Sender("8", "Bob"))
        await play.reply("Only Ann and admins may stop this.")
