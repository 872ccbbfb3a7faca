"""Busy modes (steer, queue, collect, interrupt), deleted messages, and `/stop`, through the whole gateway."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.decisions.questions import ask_user
from agent.log import Call
from agent.models.scripted import ScriptedModel
from agent.tool import ToolContext, tool
from channels.address import Sender
from channels.memory import MemoryChannel, plain_text
from channels.message import FileRef
from gateway.app import GatewayOptions
from gateway.inbound.access import ChannelAccess
from gateway.sessions import session_key
from gateway.store.records import AcceptOptions, MessageChange, PastTurn
from tests.gateway.play import ANN, ELSEWHERE, PLACE, Play, inbound, playing

GROUP = replace(PLACE, chat="team", kind="group")
BOB = Sender("8", "Bob")
EVERYBODY = frozenset({"*"})


def busy(mode: str) -> dict[str, ChannelAccess]:
    return {"memory": ChannelAccess(EVERYBODY, busy=mode)}  # type: ignore[arg-type]  # from parametrize


async def begin(play: Play, text: str = "begin") -> None:
    """Starts a turn and waits for its first text."""
    await play.say(text)
    await play.reply("Well", done=False)


async def test_queued_messages_are_read_one_by_one_after_the_turn(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with playing(tmp_path, ScriptedModel(["Well", gate, ", done."]), policies=busy("queue")) as play:
        await begin(play)
        await play.say("one", "two", "three")
        gate.set()
        await play.reply("You said: three")
        await play.until_idle()
        assert await play.messages_read() == [["begin"], ["one"], ["two"], ["three"]]
        assert play.shown() == ["Well, done.", "You said: one", "You said: two", "You said: three"]


async def test_collected_messages_are_read_together_after_the_turn(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with playing(tmp_path, ScriptedModel(["Well", gate, ", done."]), policies=busy("collect")) as play:
        await begin(play)
        await play.say("one", "two", "three")
        gate.set()
        await play.reply("You said")
        await play.until_idle()
        assert await play.messages_read() == [["begin"], ["one", "two", "three"]]


async def test_an_interrupting_message_stops_the_turn_and_is_read_by_the_next(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(["Well", asyncio.Event()]), policies=busy("interrupt")) as play:
        await begin(play)
        await play.say("this instead")
        await play.reply("You said: this instead")
        await play.until_idle()
        assert await play.messages_read() == [["begin"], ["this instead"]]
        assert play.shown()[0].endswith("⏹ _Stopped: the next message replaced it._")


async def test_an_interruption_before_a_crash_stops_the_turn_at_the_next_start(tmp_path: Path) -> None:
    model = ScriptedModel(["Well", asyncio.Event()])
    async with playing(tmp_path, model, policies=busy("interrupt")) as play:
        await begin(play)
        message = inbound("this instead")
        await play.store.accept(message, "memory/me/chat", None, AcceptOptions(busy="interrupt"))
    async with playing(tmp_path, ScriptedModel(), policies=busy("interrupt")) as play:
        await play.reply("You said: this instead")
        await play.until_idle()
        assert play.sql("SELECT state FROM turns ORDER BY number") == [("stopped",), ("completed",)]


async def test_a_command_sets_the_busy_mode_of_one_message(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(["Well", asyncio.Event()], "Steered.", "Queued.")) as play:
        await begin(play)
        await play.say("/queue for later", "/steer now please")
        await play.reply("Queued.")
        await play.until_idle()
        assert await play.messages_read() == [["begin", "now please"], ["for later"]]


async def test_the_busy_mode_of_a_conversation_survives_a_restart(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        await play.say("/busy queue")
        await play.reply("waits until that task ends, and is then read alone")
    gate = asyncio.Event()
    async with playing(tmp_path, ScriptedModel(["Well", gate])) as play:
        await begin(play)
        await play.say("one", "two")
        gate.set()
        await play.until_idle()
        assert await play.messages_read() == [["begin"], ["one"], ["two"]]


async def test_an_unknown_busy_mode_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        await play.say("/busy perhaps")
        reply = await play.reply("/busy steer")
        assert all(f"/busy {mode}" in plain_text(reply) for mode in ("steer", "queue", "collect", "interrupt"))


async def test_a_command_that_needs_a_message_says_so(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        await play.say("/queue")
        await play.reply("Add your message")


async def test_in_a_group_another_person_does_not_interrupt_but_steers(tmp_path: Path) -> None:
    model = ScriptedModel(["Well", asyncio.Event()], "For both.")
    async with playing(tmp_path, model, policies=busy("interrupt")) as play:
        await play.say("begin", address=GROUP)
        await play.reply("Well", done=False)
        await play.say("and mine", address=GROUP, by=BOB)
        await play.reply("For both.")
        assert await play.messages_read() == [["begin", "and mine"]]


@pytest.mark.parametrize("by", [BOB, ANN], ids=["Bob", "Ann"])
async def test_in_a_group_a_turn_is_stopped_by_its_owner_and_by_nobody_else(tmp_path: Path, by: Sender) -> None:
    gate = asyncio.Event()
    async with playing(tmp_path, ScriptedModel(["Well", gate]), policies=busy("steer")) as play:
        await play.say("begin", address=GROUP)
        await play.reply("Well", done=False)
        await play.say("/stop", address=GROUP, by=by)
        await play.reply("Only Ann and admins may stop this." if by is BOB else "Stopped: the model is answering")
        gate.set()
        await play.until_idle()
        assert play.sql("SELECT state FROM turns WHERE kind = 'turn'") == [("completed" if by is BOB else "stopped",)]


async def test_an_admin_may_stop_other_peoples_turns(tmp_path: Path) -> None:
    policy = ChannelAccess(EVERYBODY, admins=frozenset({"8"}))
    async with playing(tmp_path, ScriptedModel(["Well", asyncio.Event()]), policies={"memory": policy}) as play:
        await play.say("begin", address=GROUP)
        await play.reply("Well", done=False)
        await play.say("/stop", address=GROUP, by=BOB)
        await play.reply("Stopped: the model is answering")


async def test_deleting_the_only_message_being_worked_on_stops_the_turn(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(["Well", asyncio.Event()])) as play:
        await play.deliver(inbound("begin", id="m"))
        await play.reply("Well", done=False)
        await play.deliver(inbound(kind="withdrawn", id="m"))
        await play.reply("⏹ _Stopped: its message was deleted._")
        await play.until_idle()


async def test_deleting_one_of_several_messages_tells_the_turn_to_leave_it_out(tmp_path: Path) -> None:
    model = ScriptedModel(["Well", asyncio.Event()], ["Both", asyncio.Event()], "Only coffee.")
    async with playing(tmp_path, model) as play:
        await begin(play, "make coffee")
        await play.deliver(inbound("and tea", id="tea"))
        await play.reply("Both", done=False)
        await play.deliver(inbound(kind="withdrawn", id="tea"))
        await play.reply("Only coffee.")
        heard = model.requests[-1].transcript[-1]
        assert heard.messages[0].note == (  # type: ignore[union-attr]  # a Heard
            'They deleted an earlier message; do nothing about it any more. It was: "and tea"'
        )


async def test_deleting_an_answered_message_changes_nothing(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        await play.deliver(inbound("hi", id="m"))
        await play.reply("You said: hi")
        await play.deliver(inbound(kind="withdrawn", id="m"))
        await play.until_idle()
        assert play.shown() == ["You said: hi"]


async def test_many_queued_messages_are_reported_once_and_none_is_dropped(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with playing(
        tmp_path, ScriptedModel(["Well", gate]), policies=busy("collect"), options=GatewayOptions(waiting_notice_at=5)
    ) as play:
        await begin(play)
        for number in range(9):
            await play.say(f"message {number}")
        await play.reply("5 queued messages")
        gate.set()
        await play.until_idle()
        assert (await play.messages_read())[1] == [f"message {number}" for number in range(9)]
        assert sum("queued messages" in text for text in play.shown()) == 1


async def test_without_streaming_only_complete_replies_are_shown(tmp_path: Path) -> None:
    shown: list[bool] = []

    class Watched(MemoryChannel):
        async def show(self, reply, ledger):
            shown.append(reply.done)
            await super().show(reply, ledger)

    gate = asyncio.Event()
    model = ScriptedModel(["Well", gate, ", done."])
    async with playing(tmp_path, model, channel=Watched(), options=GatewayOptions(unstreamed=["memory"])) as play:
        await play.say("go")
        await model.asked(1)
        gate.set()
        await play.reply("Well, done.")
    assert shown == [True]


async def test_message_states_carry_the_platform_id(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with playing(tmp_path, ScriptedModel(["Well", gate]), policies=busy("queue")) as play:
        await play.deliver(inbound("one", id="m1"))
        await play.reply("Well", done=False)
        await play.deliver(inbound("two", id="m2"))
        await play.channel.until(lambda memory: [mark for mark in memory.statuses if mark.message_id == "m2"])
        gate.set()
        await play.channel.until(lambda memory: [mark for mark in memory.statuses if mark.state == "answered"][1:])
        states = [(mark.state, mark.before) for mark in play.channel.statuses if mark.message_id == "m2"]
        assert states[0] == ("waiting", None)
        assert states[-1][0] == "answered"
        assert [before for _, before in states[1:]] == [state for state, _ in states[:-1]]


@pytest.mark.parametrize("mode", ["queue", "collect", "interrupt"])
async def test_an_edit_of_a_message_that_was_read_steers_in_every_busy_mode(tmp_path: Path, mode: str) -> None:
    model = ScriptedModel(["Well", asyncio.Event()], "Better.")
    async with playing(tmp_path, model, policies=busy(mode)) as play:
        await play.deliver(inbound("begin", id="m"))
        await play.reply("Well", done=False)
        await play.deliver(inbound("begin better", id="m", kind="edited"))
        await play.reply("Better.")
        await play.until_idle()
        assert await play.messages_read() == [["begin", "begin better"]]


async def test_interrupting_messages_that_come_before_a_turn_begins_are_answered_together(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), policies=busy("interrupt")) as play:
        await play.say("one", "two")
        await play.until_idle()
        assert play.shown()[-1] == "You said: two"


async def test_an_interrupting_message_answers_a_question(tmp_path: Path) -> None:
    question = Call("", "ask_user", '{"question": "Which?", "options": []}')
    model = ScriptedModel([question], "Green it is.")
    async with playing(tmp_path, model, ask_user, policies=busy("interrupt")) as play:
        await play.say("paint it")
        await play.asked("Which?")
        await play.until_idle()
        await play.say("green")
        await play.reply("Green it is.")
        assert await play.messages_read() == [["paint it", "green"]]


async def test_an_interruption_of_another_persons_turn_steers_it_even_before_it_is_resumed(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(["Well", asyncio.Event()])) as play:
        await play.say("begin", address=GROUP)
        await play.reply("Well", done=False)
        message = inbound("and mine", address=GROUP, by=BOB)
        await play.store.accept(message, session_key(GROUP), None, AcceptOptions(busy="interrupt", own_turn_only=True))
    async with playing(tmp_path, ScriptedModel("For both.")) as play:
        await play.reply("For both.")
        assert await play.messages_read() == [["begin", "and mine"]]


async def test_a_command_does_not_disturb_a_turn_with_queued_messages(tmp_path: Path) -> None:
    gate = asyncio.Event()
    model = ScriptedModel(["Well", gate, ", done."])
    async with playing(tmp_path, model, policies=busy("queue")) as play:
        await begin(play)
        await play.say("later")
        await play.say("/status")
        await play.reply("Queued messages: 1.")
        await play.deliver(inbound("never", id="never"))
        await play.deliver(inbound(kind="withdrawn", id="never"))
        gate.set()
        await play.reply("You said: later")
        assert play.shown()[0] == "Well, done."
        assert len(model.requests) == 2


async def test_a_message_behind_a_file_that_is_fetched_steers_at_once(tmp_path: Path) -> None:
    """And the file's message, which is to be read later, is not forgotten."""
    arrived = asyncio.Event()

    class Slow(MemoryChannel):
        async def fetch(self, file: FileRef) -> bytes:
            await arrived.wait()
            return b"bytes"

    model = ScriptedModel(["Well", asyncio.Event()], "Steered.")
    async with playing(tmp_path, model, channel=Slow(), policies=busy("queue")) as play:
        await begin(play)
        await play.deliver(inbound("look", files=(FileRef("a", "a.txt"),)))
        await play.say("/steer now")
        await play.reply("Steered.")
        assert await play.messages_read() == [["begin", "now"]]
        arrived.set()
        await play.reply("You said: look")
        assert await play.messages_read() == [["begin", "now"], ["look"]]


async def test_a_file_may_come_with_a_busy_mode_command(tmp_path: Path) -> None:
    channel = MemoryChannel()
    channel.files["a"] = b"bytes"
    async with playing(tmp_path, ScriptedModel(), channel=channel) as play:
        await play.deliver(inbound("/queue", files=(FileRef("a", "a.txt"),)))
        await play.until_idle()
        assert await play.messages_read() == [[""]]


async def test_deleting_a_message_ends_its_turn_even_with_a_queued_edit(tmp_path: Path) -> None:
    gate, started = asyncio.Event(), asyncio.Event()

    @tool(effect="write")
    async def work(context: ToolContext) -> str:
        """Works."""
        started.set()
        await gate.wait()
        return "worked"

    async with playing(tmp_path, ScriptedModel([Call("", "work", "{}")]), work) as play:
        await play.deliver(inbound("begin", id="m"))
        await started.wait()
        await play.deliver(inbound("other", id="m", kind="edited"))
        await play.deliver(inbound(kind="withdrawn", id="m"))
        await play.reply("⏹ _Stopped: its message was deleted._")
        await play.until_idle()
        assert await play.messages_read() == [["begin"]]


async def test_deleting_all_messages_of_a_turn_stops_it_and_begins_no_other(tmp_path: Path) -> None:
    model = ScriptedModel(["Well", asyncio.Event()], ["Both", asyncio.Event()])
    async with playing(tmp_path, model) as play:
        await play.deliver(inbound("one", id="1"))
        await play.reply("Well", done=False)
        await play.deliver(inbound("two", id="2"))
        await play.reply("Both", done=False)
        await play.deliver(inbound(kind="withdrawn", id="1"), inbound(kind="withdrawn", id="2"))
        await play.reply("⏹ _Stopped: its message was deleted._")
        await play.until_idle()
        assert len(play.shown()) == 1


class HistoryAfterStop:
    """A store that gives the history once a stop has come."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._stopping = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def history(self, session: str) -> tuple[PastTurn, ...]:
        await self._stopping.wait()
        history: tuple[PastTurn, ...] = await self._store.history(session)
        return history

    async def withdraw_waiting(self, *args: Any) -> tuple[MessageChange, ...]:
        self._stopping.set()
        withdrawn: tuple[MessageChange, ...] = await self._store.withdraw_waiting(*args)
        return withdrawn


async def test_a_stop_right_after_a_message_says_what_it_stopped(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        await play.say("earlier")
        await play.until_idle()
    async with playing(tmp_path, ScriptedModel(["Well", asyncio.Event()]), store=HistoryAfterStop) as play:
        await play.say("begin", "/stop")
        await play.reply("Stopped: the task had just begun.")
        assert "Well" not in "".join(play.shown())


async def test_a_stop_with_arguments_stops(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(["Well", asyncio.Event()])) as play:
        await begin(play)
        await play.say("/stop please")
        await play.reply("Stopped: the model is answering")


async def test_the_stop_button_of_an_ended_reply_does_not_affect_queued_messages(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with playing(tmp_path, ScriptedModel("First.", ["Well", gate]), max_running_turns=1) as play:
        await play.say("one")
        first = await play.reply("First.")
        await play.until_idle()
        await play.say("elsewhere", address=ELSEWHERE)
        await play.reply("Well", done=False)
        await play.say("two")
        await play.say(f"/stop {first.id}")
        await play.reply("That task has already ended.")
        gate.set()
        await play.reply("You said: two")


async def test_messages_discarded_by_a_stop_show_that_state(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(["Well", asyncio.Event()]), policies=busy("queue")) as play:
        await begin(play)
        await play.deliver(inbound("later", id="later"))
        await play.say("/stop")

        def states(memory: MemoryChannel) -> list[str]:
            return [mark.state for mark in memory.statuses if mark.message_id == "later"]

        await play.channel.until(lambda memory: states(memory) == ["waiting", "withdrawn"])


async def test_a_message_that_steers_is_read_at_once_by_a_turn_that_began_with_one_before_it(tmp_path: Path) -> None:
    first, gate = asyncio.Event(), asyncio.Event()
    model = ScriptedModel(["Well", first], "Elsewhere.", ["Together", gate])
    async with playing(tmp_path, model, max_running_turns=1) as play:
        await play.say("begin", address=ELSEWHERE)
        await play.reply("Well", done=False)
        await play.say("/queue one", "two")
        first.set()
        request = await model.asked(2)
        assert [said.text for heard in request.transcript for said in heard.messages] == ["one", "two"]  # type: ignore[union-attr]  # all Heard


async def test_a_stop_right_after_a_retry_covers_the_repeated_task(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel("One.", "Two.")) as play:
        await play.say("hi")
        await play.reply("One.")
        await play.say("/retry", "/stop")
        await play.until_idle()
        assert "Two." not in "\n".join(play.shown())
        assert play.states()["waiting"] == 0
