"""Outage: what is waited for, how long, and what the person sees."""

from __future__ import annotations

import pytest

from agent.events import Delta, TextDelta, Waiting, Withdrawn
from agent.log import MessagesRead, Text, UserMessage
from agent.model import Answer, ModelError, ModelErrorKind, Request
from agent.models.outage import OutageModel
from agent.models.scripted import Script, ScriptedModel

REQUEST = Request("", (MessagesRead(1, (UserMessage(1, "Ann", "Hello"),)),))


class Wait:
    """One answer through an `OutageModel` with ten minutes of patience; `now` is its clock."""

    def __init__(self, *script: Script) -> None:
        self.inner = ScriptedModel(*script)
        self.deltas: list[Delta] = []
        self.now = 0.0
        self.model = OutageModel(self.inner, 600, sleep=self._sleep, clock=lambda: self.now)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds

    async def _on_delta(self, delta: Delta) -> None:
        self.deltas.append(delta)

    async def answer(self) -> Answer:
        return await self.model.answer(REQUEST, self._on_delta)


@pytest.mark.parametrize("kind", ["overloaded", "rate_limit", "timeout", "network", "server"])
async def test_a_model_that_is_down_for_minutes_is_waited_for_with_one_line(kind: ModelErrorKind) -> None:
    wait = Wait(*[ModelError(kind, "x")] * 8, "Fine.")
    assert (await wait.answer()).parts == (Text("Fine."),)
    assert wait.now == 10 + 20 + 40 + 60 * 5
    [line] = [delta.reason for delta in wait.deltas if isinstance(delta, Waiting)]
    assert line.endswith("trying again for up to 10 min.")


async def test_after_the_time_the_error_is_raised() -> None:
    wait = Wait(*[ModelError("network", "words")] * 20)
    with pytest.raises(ModelError, match="words"):
        await wait.answer()
    assert 540 <= wait.now <= 600


@pytest.mark.parametrize("kind", ["auth", "billing", "refused", "too_long", "no_vision", "bad_request"])
async def test_an_error_that_stays_is_raised_at_once(kind: ModelErrorKind) -> None:
    wait = Wait(ModelError(kind, "words"), "never")
    with pytest.raises(ModelError, match="words"):
        await wait.answer()
    assert wait.now == 0


@pytest.mark.parametrize(
    "error",
    [ModelError("server", "empty", was_answer=True), ModelError("rate_limit", "an hour", retry_after=3600)],
    ids=str,
)
async def test_an_answer_without_use_and_a_longer_time_are_not_waited_for(error: ModelError) -> None:
    wait = Wait(error, "never")
    with pytest.raises(ModelError, match=str(error)):
        await wait.answer()
    assert wait.now == 0


async def test_the_time_that_a_provider_asks_for_is_waited() -> None:
    wait = Wait(ModelError("rate_limit", "x", retry_after=300), "Fine.")
    await wait.answer()
    assert wait.now == 300


class Breaking:
    """Says something and fails, then answers."""

    asked = 0

    async def answer(self, request: Request, on_delta) -> Answer:  # type: ignore[no-untyped-def]  # a test's own
        self.asked += 1
        await on_delta(TextDelta("Well"))
        if self.asked == 1:
            raise ModelError("network", "gone")
        return Answer((Text("Well"),))


async def test_what_was_said_before_is_withdrawn() -> None:
    wait = Wait()
    await OutageModel(Breaking(), 600, sleep=wait._sleep).answer(REQUEST, wait._on_delta)
    assert [type(delta) for delta in wait.deltas] == [TextDelta, Withdrawn, Waiting, TextDelta]
