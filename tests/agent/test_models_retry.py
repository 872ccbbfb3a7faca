"""Retry: which errors, after which delays, and what the person sees."""

import pytest

from agent.events import Charged, Delta, TextDelta, Waiting, Withdrawn
from agent.log import Call, MessagesRead, Text, Thinking, Usage, UserMessage
from agent.model import Answer, ModelError, ModelErrorKind, Request
from agent.models.retry import RetryingModel
from agent.models.scripted import Script, ScriptedModel

REQUEST = Request("", (MessagesRead(1, (UserMessage(1, "Ann", "Hello"),)),))


class Attempt:
    """One answer through a `RetryingModel` over a script, with all deltas and delays."""

    def __init__(self, *script: Script, attempts: int = 4, random: float = 1.0) -> None:
        self.inner = ScriptedModel(*script)
        self.deltas: list[Delta] = []
        self.slept: list[float] = []
        self.model = RetryingModel(self.inner, attempts=attempts, sleep=self._sleep, random=lambda: random)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def _on_delta(self, delta: Delta) -> None:
        self.deltas.append(delta)

    async def answer(self) -> Answer:
        return await self.model.answer(REQUEST, self._on_delta)


class Breaking:
    """A model that says something and then fails, once; after that it answers."""

    def __init__(self) -> None:
        self.asked = 0

    async def answer(self, request: Request, on_delta) -> Answer:  # type: ignore[no-untyped-def]  # a test's own
        self.asked += 1
        if self.asked == 1:
            await on_delta(TextDelta("The answer is"))
            raise ModelError("network", "gone")
        await on_delta(TextDelta("Four."))
        return Answer((Text("Four."),))


@pytest.mark.parametrize("kind", ["overloaded", "rate_limit", "timeout", "network", "server"])
async def test_an_error_that_passes_is_tried_again_with_one_quiet_line(kind: ModelErrorKind) -> None:
    attempt = Attempt(ModelError(kind, "x"), "Fine.")
    assert (await attempt.answer()).parts == (Text("Fine."),)
    assert [type(delta) for delta in attempt.deltas] == [Waiting, TextDelta]
    assert len(attempt.slept) == 1


async def test_a_wait_of_0_seconds_is_none_and_the_pauses_grow() -> None:
    attempt = Attempt(*[ModelError("rate_limit", "x", retry_after=0)] * 2, "Fine.")
    assert (await attempt.answer()).parts == (Text("Fine."),)
    assert attempt.slept == [1.0, 2.0]


@pytest.mark.parametrize("kind", ["auth", "billing", "refused", "too_long", "no_vision", "bad_request"])
async def test_an_error_that_stays_is_raised_at_once(kind: ModelErrorKind) -> None:
    attempt = Attempt(ModelError(kind, "words"), "never")
    with pytest.raises(ModelError, match="words"):
        await attempt.answer()
    assert (len(attempt.inner.requests), attempt.deltas, attempt.slept) == (1, [], [])


async def test_pauses_grow_and_the_last_error_is_raised() -> None:
    attempt = Attempt(*(ModelError("server", f"fault {number}") for number in range(1, 5)))
    with pytest.raises(ModelError, match="fault 4"):
        await attempt.answer()
    assert attempt.slept == [1.0, 2.0, 4.0]


async def test_pauses_are_up_to_half_as_long_by_chance() -> None:
    attempt = Attempt(*[ModelError("server", "x")] * 3, "Fine.", random=0.0)
    await attempt.answer()
    assert attempt.slept == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(("random", "seconds"), [(0.0, 20), (1.0, 22)])
async def test_the_pause_the_provider_asked_for_is_kept_and_a_little_more(random: float, seconds: int) -> None:
    attempt = Attempt(ModelError("rate_limit", "x", retry_after=20), "Fine.", random=random)
    await attempt.answer()
    assert attempt.slept == [seconds]
    notice = f"The model's rate limit is reached; trying again in {seconds} s."
    assert attempt.deltas[0] == Waiting(notice, error="rate_limit", seconds=seconds)


async def test_nobody_waits_for_more_than_a_minute_in_all() -> None:
    attempt = Attempt(*[ModelError("rate_limit", "No more.", retry_after=25)] * 4, random=0.0)
    with pytest.raises(ModelError, match="No more"):
        await attempt.answer()
    assert attempt.slept == [25, 25]


async def test_a_long_pause_is_told_instead_of_waited_for() -> None:
    attempt = Attempt(ModelError("rate_limit", "No more for now.", retry_after=3600))
    with pytest.raises(ModelError, match=r"No more for now\. Retry after 60 min\."):
        await attempt.answer()
    assert attempt.slept == []


async def test_a_time_out_is_tried_once_more_only() -> None:
    attempt = Attempt(*[ModelError("timeout", "too slow")] * 4)
    with pytest.raises(ModelError, match="too slow"):
        await attempt.answer()
    assert len(attempt.inner.requests) == 2


async def test_a_time_out_is_not_tried_again_where_another_model_stands_by() -> None:
    model = ScriptedModel(*[ModelError("timeout", "too slow")] * 4)

    async def never(seconds: float) -> None:
        raise AssertionError("nothing to wait for")

    async def ignore(delta: Delta) -> None:
        pass

    with pytest.raises(ModelError, match="too slow"):
        await RetryingModel(model, timeouts=1, sleep=never).answer(REQUEST, ignore)
    assert len(model.requests) == 1


async def test_text_that_was_shown_is_withdrawn_before_the_next_attempt() -> None:
    deltas: list[Delta] = []

    async def on_delta(delta: Delta) -> None:
        deltas.append(delta)

    async def sleep(seconds: float) -> None:
        assert deltas[1] == Withdrawn()

    await RetryingModel(Breaking(), sleep=sleep).answer(REQUEST, on_delta)
    assert [type(delta) for delta in deltas] == [TextDelta, Withdrawn, Waiting, TextDelta]


async def test_an_empty_answer_is_asked_for_once_more() -> None:
    attempt = Attempt([Thinking("hm")], "Now.")
    assert (await attempt.answer()).parts == (Text("Now."),)


async def test_an_empty_answer_is_paid_for() -> None:
    used = Usage(10, 5, cost=0.5)
    attempt = Attempt(Answer((), used, model="openai:x"), "Now.")
    await attempt.answer()
    assert attempt.deltas[0] == Charged(used, "openai:x", "failed")


async def test_two_empty_answers_are_an_error_in_words() -> None:
    attempt = Attempt([], [Text("  ")], "never")
    with pytest.raises(ModelError, match="empty answer") as raised:
        await attempt.answer()
    assert raised.value.kind == "server"
    assert len(attempt.inner.requests) == 2


async def test_an_answer_of_calls_alone_is_not_empty() -> None:
    attempt = Attempt([Call("c1", "shell", "{}")])
    assert (await attempt.answer()).finish == "calls"
