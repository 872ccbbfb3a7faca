"""Answers cut off at the length limit are continued seamlessly."""

import asyncio

import pytest

from agent.events import Charged, Delta, OnDelta, TextDelta, Withdrawn
from agent.log import Call, MessagesRead, ModelAnswered, Native, Text, Thinking, Usage, UserMessage
from agent.model import Answer, Model, ModelError, ModelSettings, Request
from agent.models.continuation import CONTINUE, ContinuingModel
from agent.models.retry import RetryingModel
from agent.models.scripted import Script, ScriptedModel

QUESTION = MessagesRead(1, (UserMessage(1, "Ann", "Count"),))


def cut(text: str, cost: float = 1.0) -> Answer:
    return Answer((Text(text),), Usage(10, 5, cost=cost), "length", "m")


class Screen:
    """What a person sees of the answer, and all deltas."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.spoke = asyncio.Condition()

    async def on_delta(self, delta: Delta) -> None:
        async with self.spoke:
            self.deltas.append(delta)
            self.spoke.notify_all()

    async def until(self, text: str) -> None:
        async with asyncio.timeout(60), self.spoke:
            await self.spoke.wait_for(lambda: self.text == text)

    @property
    def text(self) -> str:
        last = max((place for place, delta in enumerate(self.deltas) if isinstance(delta, Withdrawn)), default=-1)
        return "".join(delta.text for delta in self.deltas[last + 1 :] if isinstance(delta, TextDelta))

    async def ask(self, model: Model, most: int | None = None) -> Answer:
        request = Request("Be kind.", (QUESTION,), settings=ModelSettings(max_tokens=most))
        return await ContinuingModel(model).answer(request, self.on_delta)


async def test_the_answer_goes_on_where_it_was_cut_off() -> None:
    model, screen = ScriptedModel(cut("One, two"), Answer((Text(", three."),), Usage(20, 7, cost=2.0))), Screen()
    answer = await screen.ask(model)
    assert answer.parts == (Text("One, two, three."),)
    assert (answer.finish, answer.usage) == ("stop", Usage(30, 12, cost=3.0))
    assert screen.text == "One, two, three."
    assert Withdrawn() not in screen.deltas
    assert list(model.requests[1].transcript) == [QUESTION, ModelAnswered(0, (Text("One, two"),)), CONTINUE]
    assert model.requests[1].instructions == "Be kind."


async def test_after_steps_of_the_providers_own_it_goes_on_too() -> None:
    search = Native("it", "{}", "Searched the web: wells")
    model, screen = ScriptedModel(Answer((search,), finish="length"), "Found."), Screen()
    answer = await screen.ask(RetryingModel(model))
    assert (answer.parts, answer.finish) == ((search, Text("Found.")), "stop")
    assert len(model.requests) == 2


async def test_after_two_more_it_stays_cut_off() -> None:
    model, screen = ScriptedModel(cut("a"), cut("b"), cut("c"), "never"), Screen()
    answer = await screen.ask(model)
    assert (answer.parts, answer.finish, answer.usage.cost) == ((Text("abc"),), "length", 3.0)
    assert len(model.requests) == 3


@pytest.mark.parametrize(
    "answer",
    [
        Answer((Text("Whole."),)),
        Answer((Text("I"), Call("c", "shell", '{"comm')), finish="length"),
        Answer((Thinking("hm"),), finish="length"),
    ],
)
async def test_what_is_whole_or_calls_or_says_nothing_stays_as_it_is(answer: Answer) -> None:
    model = ScriptedModel(answer, "never")
    assert await Screen().ask(model) == answer
    assert len(model.requests) == 1


async def test_a_length_that_was_asked_for_is_kept() -> None:
    model = ScriptedModel(cut("A ti"), "never")
    assert (await Screen().ask(model, 5)).finish == "length"
    assert len(model.requests) == 1


async def test_the_continuation_may_call_tools() -> None:
    call = Call("c", "shell", "{}")
    answer = await Screen().ask(ScriptedModel(cut("I look"), [Text("."), call]))
    assert (answer.parts, answer.finish) == ((Text("I look."), call), "calls")


class BreakingOff:
    """Gives what is scripted, but says something and fails at its second answer."""

    def __init__(self, *script: Script) -> None:
        self._inner = ScriptedModel(*script)
        self._asked = 0

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        self._asked += 1
        if self._asked == 2:
            await on_delta(TextDelta(", thr"))
            raise ModelError("server", "broke")
        return await self._inner.answer(request, on_delta)


async def test_a_continuation_that_fails_leaves_the_answer_cut_off_and_the_screen_as_it_was() -> None:
    screen = Screen()
    answer = await screen.ask(BreakingOff(cut("One, two")))
    assert (answer.parts, answer.finish) == ((Text("One, two"),), "length")
    assert screen.text == "One, two"


async def test_a_continuation_that_is_tried_again_takes_back_only_itself() -> None:
    screen = Screen()

    async def at_once(seconds: float) -> None:
        assert screen.text == "One, two"

    answer = await screen.ask(RetryingModel(BreakingOff(cut("One, two"), ", three."), sleep=at_once))
    assert answer.parts == (Text("One, two, three."),)
    assert screen.text == "One, two, three."


async def test_an_answer_that_is_stopped_in_its_continuation_has_cost_its_first_part() -> None:
    model, screen = ScriptedModel(cut("One, two"), [", three", asyncio.Event()]), Screen()
    asking = asyncio.create_task(screen.ask(model))
    await screen.until("One, two, three")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [delta for delta in screen.deltas if isinstance(delta, Charged)] == [
        Charged(Usage(10, 5, cost=1.0), "m", "cancelled")
    ]
