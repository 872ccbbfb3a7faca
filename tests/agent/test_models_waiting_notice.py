"""A notice when the first output takes long."""

import asyncio

import pytest

from agent.events import Delta, OnDelta, TextDelta, Waiting
from agent.log import MessagesRead, Text, UserMessage
from agent.model import Answer, ModelError, Request
from agent.models.scripted import ScriptedModel
from agent.models.waiting_notice import STILL_WAITING, WaitingNoticeModel

REQUEST = Request("", (MessagesRead(1, (UserMessage(1, "Ann", "Hello"),)),))


class Screen:
    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.spoke = asyncio.Event()

    async def on_delta(self, delta: Delta) -> None:
        self.deltas.append(delta)
        self.spoke.set()


async def test_a_model_that_is_silent_for_long_is_said_to_be_waited_for_once() -> None:
    screen, gate = Screen(), asyncio.Event()
    model = WaitingNoticeModel(ScriptedModel([gate, "Here."]), seconds=0)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        answering = tasks.create_task(model.answer(REQUEST, screen.on_delta))
        await screen.spoke.wait()
        gate.set()
    assert answering.result().parts == (Text("Here."),)
    assert screen.deltas == [Waiting(STILL_WAITING), TextDelta("Here.")]


class Prompt:
    """A model that speaks at once, and then takes its time."""

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        await on_delta(TextDelta("Well, "))
        for _ in range(10):
            await asyncio.sleep(0)
        return Answer((Text("Well, "),))


async def test_after_the_first_word_nothing_is_said() -> None:
    screen = Screen()
    await WaitingNoticeModel(Prompt(), seconds=0).answer(REQUEST, screen.on_delta)
    assert screen.deltas == [TextDelta("Well, ")]


async def test_an_error_and_a_stop_pass_through_and_leave_nothing_behind() -> None:
    screen = Screen()
    with pytest.raises(ModelError, match="broke"):
        await WaitingNoticeModel(ScriptedModel(ModelError("server", "broke")), seconds=3600).answer(
            REQUEST, screen.on_delta
        )
    inner = ScriptedModel([asyncio.Event()])
    answering = asyncio.create_task(WaitingNoticeModel(inner, seconds=3600).answer(REQUEST, screen.on_delta))
    async with asyncio.timeout(60):
        await inner.asked()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert screen.deltas == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
