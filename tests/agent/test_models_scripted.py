"""The scripted model: what tests of the turn loop rely on."""

import asyncio

import pytest

from agent.events import Delta, TextDelta
from agent.log import Call, MessagesRead, Native, Text, UserMessage
from agent.model import Answer, ModelError, Request
from agent.models.scripted import ScriptedModel


def asking(text: str) -> Request:
    return Request("", (MessagesRead(1, (UserMessage(1, "Ann", text),)),))


async def ignore(delta: Delta) -> None:
    pass


async def test_it_gives_its_answers_in_order_and_then_says_what_it_heard() -> None:
    model = ScriptedModel("One.", [Text("Two."), Call("c1", "shell", "{}")], Answer((Text("Three."),), model="x"))
    answers = [await model.answer(asking(f"question {number}"), ignore) for number in range(4)]
    assert [answer.parts for answer in answers] == [
        (Text("One."),),
        (Text("Two."), Call("c1", "shell", "{}")),
        (Text("Three."),),
        (Text("You said: question 3"),),
    ]
    assert [answer.finish for answer in answers] == ["stop", "calls", "stop", "stop"]
    assert len(model.requests) == 4


async def test_what_it_tells_adds_up_to_its_text() -> None:
    deltas: list[str] = []

    async def on_delta(delta: Delta) -> None:
        assert isinstance(delta, TextDelta)
        deltas.append(delta.text)

    text = "  Several words,\n\nwith their spaces. "
    await ScriptedModel(text).answer(asking("?"), on_delta)
    assert len(deltas) > 3
    assert "".join(deltas) == text


async def test_what_a_provider_did_by_itself_stays_in_its_place_and_is_not_told() -> None:
    deltas: list[Delta] = []

    async def on_delta(delta: Delta) -> None:
        deltas.append(delta)

    search = Native("anthropic", "{}", "Searched the web: rain")
    answer = await ScriptedModel(["I look.", search, "Rain."]).answer(asking("?"), on_delta)
    assert answer.parts == (Text("I look."), search, Text("Rain."))
    assert all(isinstance(delta, TextDelta) for delta in deltas)


async def test_an_exception_in_the_script_is_raised_and_a_function_decides_when_asked() -> None:
    model = ScriptedModel(ModelError("auth", "no"), lambda request: f"{len(request.transcript)} exchange")
    with pytest.raises(ModelError, match="no"):
        await model.answer(asking("?"), ignore)
    assert (await model.answer(asking("?"), ignore)).parts == (Text("1 exchange"),)


async def test_the_stream_is_held_at_an_event_until_it_is_set() -> None:
    gate, first_told = asyncio.Event(), asyncio.Event()

    async def on_delta(delta: Delta) -> None:
        first_told.set()

    model = ScriptedModel(["One, ", gate, "two."])
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        answering = tasks.create_task(model.answer(asking("?"), on_delta))
        assert (await model.asked(1)).transcript
        await first_told.wait()
        assert not answering.done()
        gate.set()
    assert answering.result().parts == (Text("One, two."),)
