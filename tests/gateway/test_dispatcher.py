"""Sessions and their turns through the whole gateway: stops, restarts, and a failing store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.log import Call, MessagesRead
from agent.models.scripted import ScriptedModel
from agent.tool import Tool, ToolContext, tool
from agent.transcript import Results
from channels.address import Address
from channels.channel import Ledger
from channels.memory import MemoryChannel, plain_text
from channels.reply import Reply
from gateway.app import GatewayOptions
from tests.gateway.play import ELSEWHERE, inbound, playing, storing, until


def held() -> asyncio.Event:
    """A hold in a script that nobody lifts."""
    return asyncio.Event()


def writing(gate: asyncio.Event, entered: asyncio.Event) -> Tool:
    @tool(effect="write")
    async def write(context: ToolContext) -> str:
        """Writes."""
        entered.set()
        await gate.wait()
        return "written"

    return write


# Stopping


async def test_a_message_after_a_stop_is_answered_though_all_came_at_once(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        await play.say("before", "/stop", "after")
        await play.reply("You said: after")
        await play.until_idle()
        assert (await play.messages_read())[-1] == ["after"]
        assert "You said: before" not in play.shown()


async def test_a_message_after_a_stop_is_answered_though_a_turn_was_running(tmp_path: Path) -> None:
    model = ScriptedModel(["Well", held()])
    async with playing(tmp_path, model) as play:
        await play.say("first")
        await play.reply("Well", done=False)
        await play.say("second", "/stop", "after")
        await play.reply("You said: after")
        await play.until_idle()
        assert (await play.messages_read())[-1] == ["after"]
        await play.reply("⏹")


async def test_a_message_after_new_has_no_history_though_all_came_at_once(tmp_path: Path) -> None:
    model = ScriptedModel("Noted.")
    async with playing(tmp_path, model) as play:
        await play.say("a secret")
        await play.reply("Noted.")
        await play.say("/new", "hello")
        await play.reply("You said: hello")
        (heard,) = model.requests[-1].transcript
        assert isinstance(heard, MessagesRead)
        assert [message.text for message in heard.messages] == ["hello"]


async def test_a_turn_being_stopped_does_not_read_messages_after_the_stop(tmp_path: Path) -> None:
    gate, entered = asyncio.Event(), asyncio.Event()
    model = ScriptedModel([Call("", "write", "{}"), Call("", "write", "{}")])
    async with playing(tmp_path, model, writing(gate, entered)) as play:
        await play.say("go")
        await entered.wait()
        gate.set()
        for _ in range(4):
            await play.say("/stop", "and this")
            await play.until_idle()
        assert all(texts in (["go"], ["and this"]) for texts in await play.messages_read())
        assert sum(texts == ["and this"] for texts in await play.messages_read()) == 4


async def test_a_stop_and_a_message_that_wait_at_a_restart_are_told_apart(tmp_path: Path) -> None:
    memory: dict[str, Reply] = {}
    async with playing(tmp_path, ScriptedModel(["Well", held()]), channel=MemoryChannel(replies=memory)) as play:
        await play.say("first")
        await play.reply("Well", done=False)
    async with storing(tmp_path) as keep:
        for text in ("second", "/stop", "after"):
            await keep(text)
    async with playing(tmp_path, ScriptedModel(), channel=MemoryChannel(replies=memory)) as play:
        await play.reply("You said: after")
        await play.until_idle()
        assert await play.messages_read() == [["first"], ["after"]]


async def test_a_stop_reaches_a_turn_that_waits_for_a_slot_after_a_restart(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(["One", held()], ["Two", held()])) as play:
        await play.say("one")
        await play.reply("One", done=False)
        await play.say("two", address=ELSEWHERE)
        await play.reply("Two", done=False)
    model = ScriptedModel(["Busy", held()], "Again")
    async with playing(tmp_path, model, max_running_turns=1) as play:
        await play.reply("Busy", done=False)
        (answer,) = await play.say("/stop", address=ELSEWHERE)
        assert answer is not None
        await play.say("/stop")
        await play.until_idle()
        assert len(model.requests) == 1, "the stopped turn did not go on"


async def test_a_stop_button_pressed_just_before_a_crash_stops_the_resumed_turn(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(["Well", held()])) as play:
        await play.say("go")
        reply = await play.reply("Well", done=False)
    async with storing(tmp_path) as keep:
        await keep(f"/stop {reply.id}")
    model = ScriptedModel("Went on.")
    async with playing(tmp_path, model) as play:
        await play.reply("⏹")
        assert model.requests == []


async def test_people_see_why_what_runs_may_stand_still_while_the_gateway_is_being_stopped(tmp_path: Path) -> None:
    gate, memory = held(), MemoryChannel()

    async def life() -> None:
        options = GatewayOptions(shutdown_grace=60)
        async with playing(tmp_path, ScriptedModel(["Well", gate, ", done."]), channel=memory, options=options) as play:
            await play.say("begin")
            await play.reply("Well", done=False)

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(life())
        await memory.until(lambda memory: any("is shutting down" in reply.status for reply in memory.replies.values()))
        gate.set()
    (reply,) = memory.replies.values()
    assert (plain_text(reply), reply.status, reply.done) == ("Well, done.", "", True)


# Things that break


async def test_a_tool_that_cancels_itself_costs_itself_only(tmp_path: Path) -> None:
    @tool(effect="read")
    async def vanish(context: ToolContext) -> str:
        """Vanishes."""
        raise asyncio.CancelledError

    model = ScriptedModel([Call("", "vanish", "{}")], "It did not work.")
    async with playing(tmp_path, model, vanish) as play:
        await play.say("go")
        await play.reply("It did not work.")
        result = model.requests[-1].transcript[-1]
        assert isinstance(result, Results)
        assert result.results[0].outcome == "failed"


async def test_a_model_that_cancels_itself_fails_the_turn_and_the_next_message_works(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(_vanish)) as play:
        await play.say("go")
        await play.reply("I could not finish this")
        await play.say("again")
        await play.reply("You said: again")


def _vanish(request: object) -> str:
    raise asyncio.CancelledError


async def test_an_agent_that_cannot_be_created_is_reported_and_the_next_message_works(tmp_path: Path) -> None:
    from agent.agent import Agent
    from agent.testing import MemoryMedia

    troubles = [OSError("instructions.md is gone")]

    def agent(place: Address) -> Agent:
        if troubles:
            raise troubles.pop()
        return Agent(ScriptedModel(), MemoryMedia(), tmp_path)

    async with playing(tmp_path, ScriptedModel(), agent=agent) as play:
        await play.say("go")
        await play.reply("I could not finish this")
        await play.say("again")
        await play.reply("You said: again")
        await play.until_idle()


async def test_a_history_with_an_unreadable_entry_is_shown_to_the_model_without_it(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        await play.say("one")
        await play.reply("You said: one")
        play.sql("UPDATE turn_log SET entry = '{' WHERE n = 2")
    async with playing(tmp_path, ScriptedModel()) as play:
        await play.say("two")
        await play.reply("You said: two")
        await play.until_idle()


async def test_a_log_that_cannot_be_written_is_reported_once_and_the_next_message_works(tmp_path: Path) -> None:
    model = ScriptedModel(["Well", gate := asyncio.Event()])
    async with playing(tmp_path, model) as play:
        await play.say("go")
        await play.reply("Well", done=False)
        play.refuse_to_write("turn_log")
        gate.set()
        reply = await play.reply("cannot be stored at the moment")
        assert plain_text(reply).count("cannot be stored at the moment") == 1
        assert plain_text(reply).startswith("Well"), "what was said before stays"
        play.write_again("turn_log")
        await play.say("again")
        async with asyncio.timeout(60):
            await play.reply("You said: again")
        await play.until_idle()
        assert sum("cannot be stored at the moment" in text for text in play.shown()) == 1
        assert [state for (state,) in play.sql("SELECT state FROM turns ORDER BY number")] == ["failed", "completed"]


async def test_a_stop_while_the_end_of_a_turn_cannot_be_written_does_not_lose_the_session(tmp_path: Path) -> None:
    model = ScriptedModel(["Well", gate := asyncio.Event()])
    async with playing(tmp_path, model) as play:
        await play.say("go")
        await play.reply("Well", done=False)
        nothing_new = "NOT EXISTS (SELECT 1 FROM inbox WHERE text = 'again')"
        play.refuse_to_write("turn_log", when=f"NEW.entry NOT LIKE '%told%' AND NEW.n > 1 AND {nothing_new}")
        gate.set()
        await play.reply("cannot be stored at the moment")
        await play.say("/stop")
        await play.say("again")
        await play.reply("You said: again")
        await play.until_idle()


async def test_a_stop_while_the_store_is_failing_does_not_lose_the_session(tmp_path: Path) -> None:
    """The stop's own end cannot be written either."""
    model = ScriptedModel(["Well", held()])
    async with playing(tmp_path, model) as play:
        await play.say("go")
        await play.reply("Well", done=False)
        play.refuse_to_write("turns", "UPDATE", "NEW.state = 'stopped'")
        await play.say("/stop")
        await play.reply("cannot be stored at the moment")
        await play.say("again")
        await play.reply("You said: again")
        await play.until_idle()


async def test_a_command_whose_answer_cannot_be_written_is_answered_when_it_can(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        play.refuse_to_write("turn_log")
        await play.say("/help")
        play.write_again("turn_log")
        await play.reply("show these commands")
        await play.until_idle()


# Restarting


async def test_what_waits_is_read_before_a_resumed_turn_asks_the_model(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(["Well", held()])) as play:
        await play.say("first")
        await play.reply("Well", done=False)
    async with storing(tmp_path) as keep:
        await keep("second")
    model = ScriptedModel()
    async with playing(tmp_path, model) as play:
        await play.reply("You said: second")
        assert len(model.requests) == 1


async def test_an_answer_stored_before_a_crash_is_not_given_again(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel("One answer.")) as play:
        await play.say("first")
        await play.until_idle()
        # As if it had crashed between an answer and what was said during it.
        play.sql("DELETE FROM turn_log WHERE n = 3")
        play.sql("UPDATE turns SET state = 'running', delivered = false, ended_at = NULL")
    model = ScriptedModel("A second answer.")
    async with playing(tmp_path, model) as play:
        await play.reply("One answer.")
        await play.until_idle()
        assert play.shown() == ["One answer."]
        assert model.requests == []


async def test_replies_of_before_a_restart_stand_before_those_of_after_it(tmp_path: Path) -> None:
    class Deaf(MemoryChannel):
        async def show(self, reply: Reply, ledger: Ledger) -> None:
            await asyncio.Event().wait()

    async with playing(tmp_path, ScriptedModel("One.", [held()]), channel=Deaf()) as play:
        await play.say("first")
        await until(lambda: not play.gateway.dispatcher.running())
        await play.say("second")
        await until(play.gateway.dispatcher.running)
    async with playing(tmp_path, ScriptedModel("Two.")) as play:
        await play.reply("Two.")
        await play.until_idle()
        assert play.shown() == ["One.", "Two."]


async def test_an_undelivered_reply_that_cannot_be_read_does_not_keep_the_gateway_down(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        await play.say("one")
        await play.until_idle()
        play.sql("UPDATE turns SET delivered = false")
        play.sql("UPDATE turn_log SET entry = '{' WHERE n = 2")
    async with playing(tmp_path, ScriptedModel()) as play:
        await play.say("two", address=ELSEWHERE)
        await play.reply("You said: two")


# Reading the inbox


class Interposed:
    """A store in which somebody says something just before the turn reads its inbox."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.before_read: Any = None
        self.wait_before_read = 5

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def read_inbox(self, turn_id: str, epoch: int, step: int) -> MessagesRead | None:
        if self.before_read is not None:
            self.before_read()
            for _ in range(self.wait_before_read):
                await asyncio.sleep(0)
        heard: MessagesRead | None = await self._store.read_inbox(turn_id, epoch, step)
        return heard


async def test_a_message_that_was_read_already_interrupts_nothing(tmp_path: Path) -> None:
    gate, entered = asyncio.Event(), asyncio.Event()
    gate.set()
    model = ScriptedModel(["Well", held()], [Call("", "write", "{}")], "Both.")
    async with playing(tmp_path, model, writing(gate, entered), store=Interposed) as play:
        store: Any = play.gateway.store
        await play.say("first")
        await play.reply("Well", done=False)
        deliveries: list[asyncio.Task[Any]] = []

        def say_more() -> None:
            if not deliveries:
                deliveries.append(asyncio.ensure_future(play.gateway.bus.deliver(inbound("third"))))

        store.before_read = say_more
        await play.say("second")
        await play.reply("Both.")
        await asyncio.gather(*deliveries)
        await play.until_idle()
        assert await play.messages_read() == [["first", "second", "third"]]
        result = model.requests[-1].transcript[-1]
        assert isinstance(result, Results)
        assert result.results[0].outcome == "done"
        assert len(model.requests) == 3


async def test_a_message_stored_right_after_a_read_of_the_inbox_interrupts_too(tmp_path: Path) -> None:
    model = ScriptedModel(["Well", held()], ["Hm", held()], "All three.")
    async with playing(tmp_path, model, store=Interposed) as play:
        store: Any = play.gateway.store
        await play.say("first")
        await play.reply("Well", done=False)
        loop = asyncio.get_running_loop()
        deliveries: list[asyncio.Task[Any]] = []

        def say_more_and_learn_of_both_at_once() -> None:
            if not deliveries:
                later = asyncio.Event()
                deliveries.append(asyncio.ensure_future(after(later)))
                in_turns(3, later.set)
                in_turns(8, lambda: time.sleep(0.05))

        def in_turns(count: int, act: Callable[[], None]) -> None:
            loop.call_soon(act if count == 0 else lambda: in_turns(count - 1, act))

        async def after(later: asyncio.Event) -> None:
            await later.wait()
            await play.gateway.bus.deliver(inbound("third"))

        store.before_read = say_more_and_learn_of_both_at_once
        store.wait_before_read = 0
        await play.say("second")
        await play.reply("All three.")
        await asyncio.gather(*deliveries)
        await play.until_idle()
        assert await play.messages_read() == [["first", "second", "third"]]


async def test_a_message_sent_while_an_answer_is_being_stored_is_read_by_the_same_turn(tmp_path: Path) -> None:
    class Interrupted(Interposed):
        async def close(self, *arguments: Any) -> Any:
            await play.gateway.bus.deliver(inbound("second", event="late"))
            return await self._store.close(*arguments)

    async with playing(tmp_path, ScriptedModel("One answer."), store=Interrupted) as play:
        await play.say("first")
        await play.reply("You said: second")
        await play.until_idle()
        assert await play.messages_read() == [["first", "second"]]
        assert play.shown() == ["One answer.\nYou said: second"]


async def test_sessions_take_turns_when_there_are_fewer_slots(tmp_path: Path) -> None:
    order: list[str] = []

    def answer(request: Any) -> str:
        text = request.transcript[-1].messages[-1].text
        order.append(text)
        return f"Re {text}"

    gate = asyncio.Event()
    model = ScriptedModel(["Busy", gate], *[answer] * 3)
    async with playing(tmp_path, model, max_running_turns=1) as play:
        await play.say("go", address=ELSEWHERE)
        await play.reply("Busy", done=False)
        for text in "abc":
            await play.say(text, address=Address("memory", "me", text))
        gate.set()
        await play.until_idle()
        assert order == ["a", "b", "c"]


async def test_a_message_withdrawn_while_an_answer_is_being_stored_leaves_one_answer(tmp_path: Path) -> None:
    class Interrupted(Interposed):
        async def close(self, *arguments: Any) -> Any:
            gateway = play.gateway
            if not deliveries:
                deliveries.append(gateway.bus.deliver(inbound("second", id="late")))
                await deliveries[0]
                closed = await self._store.close(*arguments)
                await gateway.bus.deliver(inbound(kind="withdrawn", id="late"))
                return closed
            return await self._store.close(*arguments)

    deliveries: list[Any] = []
    model = ScriptedModel("One answer.", "Another answer.")
    async with playing(tmp_path, model, store=Interrupted) as play:
        await play.say("first")
        await play.reply("One answer.")
        await play.until_idle()
        assert len(model.requests) == 1
        assert await play.messages_read() == [["first"]]
