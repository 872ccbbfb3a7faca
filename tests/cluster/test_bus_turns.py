"""Messages, stops, answers and decisions reach a turn that another worker runs, and what it does is told everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from agent.log import Call, MessagesRead
from agent.models.scripted import ScriptedModel
from agent.tool import ToolContext, tool
from agent.tools import load_tools
from channels.address import Sender
from channels.memory import plain_text
from gateway.api.follower import Follower
from gateway.bus import TurnEnded, TurnStarted
from gateway.store.records import DeletionRequest
from tests.api.streams import Stream
from tests.cluster.pair import Worker, answered, known, two_gateways
from tests.gateway.play import ANN, PLACE, inbound

SESSION = "memory/me/chat"
BOB = Sender("8", "Bob")
MESSAGES = 10
"""Of each of two people who write at once."""
QUESTION = '{"question": "Which?", "options": ["this one", "that one"]}'


async def test_a_message_that_one_worker_accepts_steers_the_turn_of_another_one(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with two_gateways(tmp_path, ScriptedModel(), ScriptedModel(["Well", never], "Blue, then.")) as (a, b):
        await b.say("paint it red")
        await b.reply("Well", done=False)
        await a.say("no, blue")
        assert "Blue, then." in plain_text(await b.reply("Blue, then."))
        assert not a.model.requests
        assert not a.channel.replies


async def test_people_who_steer_a_turn_through_two_workers_at_once_are_all_heard_in_order(tmp_path: Path) -> None:
    never = asyncio.Event()
    model = ScriptedModel(["Well", never], *(["And", never] for _ in range(2 * MESSAGES)))
    async with two_gateways(tmp_path, ScriptedModel(), model) as (a, b):
        await b.say("begin")
        await b.reply("Well", done=False)
        said = [
            worker.say(f"{worker.store.worker}{number}", by=by)
            for number in range(MESSAGES)
            for worker, by in ((a, ANN), (b, BOB))
        ]
        receipts = await asyncio.gather(*said)
        turn = await b.store.unfinished(SESSION)
        assert turn is not None
        while len(heard := await _heard(b, turn.id)) < len(said) + 1:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        assert [id for id, _ in heard[1:]] == sorted(receipt.id for receipt in receipts)
        for name in "ab":
            numbers = [text for _, text in heard[1:] if text.startswith(name)]
            assert numbers == [f"{name}{number}" for number in range(MESSAGES)]
        assert not a.model.requests


async def _heard(worker: Worker, turn_id: str) -> list[tuple[int, str]]:
    """The messages that the turn has read, in this order."""
    read = [entry for entry in (await worker.store.turn(turn_id)).entries if isinstance(entry, MessagesRead)]
    return [(message.id, message.text) for entry in read for message in entry.messages]


async def test_a_message_that_waits_for_the_end_of_another_worker_s_turn_is_answered_after_it(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with two_gateways(tmp_path, ScriptedModel(), ScriptedModel(["Well", gate])) as (a, b):
        await b.say("first")
        await b.reply("Well", done=False)
        await a.say("/queue second")
        gate.set()
        shown = asyncio.ensure_future(a.reply("second"))
        also = asyncio.ensure_future(b.reply("second"))
        done, left = await asyncio.wait({shown, also}, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        for each in left:
            each.cancel()
        assert done


async def test_a_late_wake_of_a_message_that_was_read_already_interrupts_nothing(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with two_gateways(tmp_path, ScriptedModel(), ScriptedModel(["Well", gate])) as (a, b):
        await b.say("hello")
        await b.reply("Well", done=False)
        async with a.bus.subscribe(SESSION, TurnEnded) as ended:
            a.bus.wake(SESSION)
            await known(a.bus, b.bus)
            gate.set()
            await anext(ended)
        assert len(b.model.requests) == 1


async def test_the_tasks_that_another_worker_runs_are_counted_in_the_status(tmp_path: Path) -> None:
    never = asyncio.Event()
    elsewhere = replace(PLACE, chat="other")
    async with two_gateways(tmp_path, ScriptedModel(["Well", never]), ScriptedModel()) as (a, b):
        await a.say("a long story")
        await a.reply("Well", done=False)
        await b.gateway.deliver(inbound("/status", address=elsewhere))
        shown = await b.reply("No task is running.")
        assert "Running tasks in other conversations: 1." in plain_text(shown)


@pytest.mark.parametrize("command", ["/stop", "/new"])
async def test_a_command_at_one_worker_stops_the_turn_of_another_one(tmp_path: Path, command: str) -> None:
    never = asyncio.Event()
    async with two_gateways(tmp_path, ScriptedModel(), ScriptedModel(["Well", never])) as (a, b):
        await b.say("a long story")
        await b.reply("Well", done=False)
        await a.say("/status")
        assert "Running task: the model is answering, step 1" in plain_text(await a.reply("Running task"))
        await a.say(command)
        answer = plain_text(await a.reply("Stopped: "))
        assert "the model is answering, step" in answer
        assert "has not ended" not in answer
        assert (await b.reply("Well")).done
        await a.say("/status")
        await a.reply("No task is running.")


async def test_the_last_task_is_not_removed_while_another_worker_runs_it(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with two_gateways(tmp_path, ScriptedModel(), ScriptedModel(["Well", never])) as (a, b):
        await b.say("a long story")
        await b.reply("Well", done=False)
        await a.say("/undo")
        await a.reply("A task is running. `/stop` it first")


async def test_a_deletion_at_one_worker_waits_for_the_end_of_another_one_s_turn(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with two_gateways(tmp_path, ScriptedModel(), ScriptedModel(["Well", never])) as (a, b):
        await b.say("a long story")
        await b.reply("Well", done=False)
        async with b.bus.subscribe(SESSION, TurnEnded) as ended:
            await a.gateway.deletion.delete(DeletionRequest("conversation", SESSION, by="memory:7"))
            event = await anext(ended)
            assert isinstance(event, TurnEnded)
            assert event.outcome == "stopped"
        assert await a.gateway.store.turns_of(SESSION) == ()


async def test_the_answer_to_a_question_of_one_worker_is_taken_by_another_one(tmp_path: Path) -> None:
    asking = ScriptedModel([Call("c1", "ask_user", QUESTION)], "That one, then.")
    going_on = ScriptedModel("That one, then.")
    async with two_gateways(tmp_path, going_on, asking, *load_tools(["ask_user"])) as (a, b):
        await b.say("go")
        segment = await b.asked()
        assert segment.question == "Which?"
        await b.unparked()
        await a.say("that one")
        await answered("That one, then.", a, b)


async def test_an_approval_pressed_at_one_worker_resumes_the_turn_that_another_one_has_parked(tmp_path: Path) -> None:
    done = []

    @tool(effect="external", approval="always")
    async def launch(context: ToolContext) -> str:
        """Launches it."""
        done.append("launched")
        return "launched"

    asking = ScriptedModel([Call("c1", "launch", "{}")], "It flies.")
    async with two_gateways(tmp_path, ScriptedModel("It flies."), asking, launch) as (a, b):
        await b.say("launch it")
        segment = await b.asked()
        await b.unparked()
        await a.say(f"/answer {segment.key} 0")
        await answered("It flies.", a, b)
        assert done == ["launched"]


async def test_waiting_at_one_worker_returns_the_run_that_another_one_answers(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with two_gateways(tmp_path, ScriptedModel(), ScriptedModel(["Well", gate])) as (a, b):
        await b.say("first")
        await b.reply("Well", done=False)
        accepted = await a.say("and this")
        assert accepted.run is not None
        waiting = asyncio.ensure_future(a.gateway.runs.wait(accepted.run))
        gate.set()
        report = await waiting
        assert (report.finished, report.state) == (True, "read")


async def test_a_worker_without_room_hands_a_message_to_one_that_has_some(tmp_path: Path) -> None:
    never = asyncio.Event()
    full = ScriptedModel(["Well", never])
    async with two_gateways(tmp_path, full, ScriptedModel("Here."), max_running_turns=1) as (a, b):
        await a.say("a long story")
        await a.reply("Well", done=False)
        elsewhere = replace(PLACE, chat="other")
        async with a.bus.subscribe("memory/me/other", TurnStarted) as started:
            await a.gateway.deliver(inbound("hello", address=elsewhere))
            await anext(started)
        await b.reply("Here.")


# Live text


@asynccontextmanager
async def watching(worker: Worker) -> AsyncIterator[Stream]:
    """The stream of events of the place, as a client of this worker gets it."""
    follower = Follower(worker.gateway, pace=0.001)
    running = asyncio.ensure_future(follower.run())
    try:
        async with aclosing(follower.conversation(SESSION, None)) as events:
            yield Stream(httpx.Response(200, content=events))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until_text(stream: Stream, turn: str, text: str) -> None:
    """Reads on until the client has this text of the reply; what it has on the way is always the beginning of it."""
    while turn not in stream.replies or stream.text(turn) != text.strip():
        await stream.next()
        if turn in stream.replies:
            assert text.startswith(stream.text(turn)), (stream.text(turn), text)


async def test_a_client_of_one_worker_sees_the_text_of_another_one_s_turn_grow_in_order(tmp_path: Path) -> None:
    pauses = [asyncio.Event() for _ in range(3)]

    @tool(effect="read")
    async def look(context: ToolContext) -> str:
        """Looks."""
        return "x" * 20_000

    script = ScriptedModel(
        ["One ", pauses[0], "two ", pauses[1], "three.", Call("c1", "look", "{}")], ["And ", pauses[2], "four."]
    )
    async with two_gateways(tmp_path, ScriptedModel(), script, look) as (a, b), watching(a) as stream:
        await stream.until("snapshot")
        run = (await b.say("count")).run
        assert run is not None
        for text, pause in zip(("One ", "One two ", "One two three.\n\nAnd "), pauses, strict=True):
            await until_text(stream, run, text)
            pause.set()
        await until_text(stream, run, "One two three.\n\nAnd four.")
        await stream.until("run.ended")
        told = [event.type for event in stream.events if event.type in ("turn.step", "tool.started", "tool.ended")]
        assert told == ["turn.step", "tool.started", "tool.ended", "turn.step"]
        assert len(next(event for event in stream.events if event.type == "tool.ended").data["text"]) == 2000


async def test_a_client_that_comes_in_the_middle_of_an_answer_gets_what_was_said_before(tmp_path: Path) -> None:
    pauses = [asyncio.Event() for _ in range(2)]
    script = ScriptedModel(["Once upon ", pauses[0], "a time ", pauses[1], "the end."])
    async with two_gateways(tmp_path, ScriptedModel(), script) as (a, b):
        receipt = await b.say("tell")
        await b.reply("Once upon", done=False)
        async with watching(a) as stream:
            await stream.until("snapshot")
            pauses[0].set()
            assert receipt.run is not None
            await until_text(stream, receipt.run, "Once upon a time ")
            pauses[1].set()
            await until_text(stream, receipt.run, "Once upon a time the end.")


async def test_who_tells_events_on_gets_those_of_their_own_worker_only(tmp_path: Path) -> None:
    async with (
        two_gateways(tmp_path, ScriptedModel(), ScriptedModel("Hello.")) as (a, b),
        a.bus.subscribe(SESSION, TurnEnded) as seen,
        a.bus.subscribe(SESSION, own_only=True) as own,
    ):
        await b.say("hi")
        assert isinstance(await anext(seen), TurnEnded)
        mine = TurnEnded(SESSION, PLACE, "own", "completed")
        a.bus.publish(mine)
        assert await anext(own) == mine
