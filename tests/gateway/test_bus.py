"""The bus of a single process, and what a gateway publishes on it."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path
from typing import Any

import pytest

import gateway.bus
from agent.events import Logged
from agent.log import Call, Ended
from agent.models.scripted import ScriptedModel
from agent.tools import load_tools
from gateway.bus import (
    BusEvent,
    LocalBus,
    MessageAccepted,
    MessagesChanged,
    TurnEnded,
    TurnParked,
    TurnProgress,
    TurnStarted,
)
from tests.gateway.bus_contract import HERE, BusContract, Gateway, OpenBus, read, started
from tests.gateway.play import PLACE, playing

QUESTION = '{"question": "Which?", "options": ["this one", "that one"]}'
WITHOUT_PROGRESS = (MessageAccepted, MessagesChanged, TurnStarted, TurnParked, TurnEnded)


class TestLocalBus(BusContract):
    @pytest.fixture
    def open_bus(self) -> OpenBus:
        return lambda backlog: LocalBus(backlog=backlog)


async def test_a_local_bus_acts_before_it_returns() -> None:
    part = Gateway()
    async with LocalBus() as bus, bus.subscribe(HERE) as subscription:
        bus.attach(part, part)
        bus.wake(HERE, "work")
        bus.stop(HERE, before=2, reason="enough")
        assert part.dispatched == [(HERE, "work"), (HERE, "stop before 2: enough")]
        bus.publish(started(1))
        reading = asyncio.ensure_future(read(subscription, 1))
        await asyncio.sleep(0)
        assert reading.done()


async def test_a_gateway_publishes_a_turn_from_its_message_to_its_end(tmp_path: Path) -> None:
    async with (
        playing(tmp_path, ScriptedModel("Hello.")) as play,
        play.gateway.bus.subscribe(HERE, *WITHOUT_PROGRESS) as events,
    ):
        await play.say("hi")
        accepted, begun, changed, ended = await read(events, 4)
        assert isinstance(accepted, MessageAccepted)
        assert isinstance(begun, TurnStarted)
        assert changed == MessagesChanged(HERE, PLACE, (accepted.id,), "read")
        assert ended == TurnEnded(HERE, PLACE, begun.turn, "completed")


async def test_a_gateway_publishes_what_the_agent_reports(tmp_path: Path) -> None:
    async with (
        playing(tmp_path, ScriptedModel("Hello.")) as play,
        play.gateway.bus.subscribe(None, TurnProgress, TurnEnded) as events,
    ):
        await play.say("hi")
        found: list[BusEvent] = []
        while not (found and isinstance(found[-1], TurnEnded)):
            found += await read(events, 1)
        reported = [event.event for event in found if isinstance(event, TurnProgress)]
        assert reported[-1] == Logged(Ended("completed"))


async def test_a_gateway_publishes_that_a_turn_is_parked_and_starts_again(tmp_path: Path) -> None:
    model = ScriptedModel([Call("c1", "ask_user", QUESTION)], "Thanks.")
    async with (
        playing(tmp_path, model, *load_tools(["ask_user"])) as play,
        play.gateway.bus.subscribe(HERE, TurnStarted, TurnParked, TurnEnded) as events,
    ):
        await play.say("go")
        begun, parked = await read(events, 2)
        assert isinstance(begun, TurnStarted)
        assert parked == TurnParked(HERE, PLACE, begun.turn)
        await play.say("this one")
        assert await read(events, 2) == [begun, TurnEnded(HERE, PLACE, begun.turn, "completed")]


async def test_a_gateway_publishes_withdrawn_and_refused_messages(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with (
        playing(tmp_path, ScriptedModel(["Well", gate])) as play,
        play.gateway.bus.subscribe(HERE, MessagesChanged) as events,
    ):
        await play.say("first")
        await read(events, 1)
        await play.say("/queue second")
        await play.say("/stop")
        (withdrawn,) = await read(events, 1)
        assert isinstance(withdrawn, MessagesChanged)
        assert (len(withdrawn.ids), withdrawn.state) == (1, "withdrawn")


async def test_the_subscriber_of_the_documentation_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gateway.bus.__doc__ is not None
    example = gateway.bus.__doc__.partition(":\n\n")[2]
    names: dict[str, Any] = {}
    exec(textwrap.dedent(example), names)
    async with playing(tmp_path, ScriptedModel("Hello.")) as play:
        running = asyncio.ensure_future(names["report_turns"](play.gateway.bus))
        await asyncio.sleep(0)
        await play.say("hi")
        await play.until_idle()
    await running
    assert capsys.readouterr().out == f"{HERE}: started\n{HERE}: completed\n"
