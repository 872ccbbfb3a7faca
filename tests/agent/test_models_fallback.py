"""Fallback: after which errors, for how long a model is in cool-down, and what the person sees."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.events import Delta, OnDelta, TextDelta, Waiting, Withdrawn
from agent.log import MessagesRead, Text, UserMessage
from agent.model import Answer, Model, ModelError, ModelErrorKind, Request
from agent.models.fallback import CoolDowns, FallbackModel, NamedModel
from agent.models.protocols.wire import ProtocolName
from agent.models.provider import ModelOptions, Provider
from agent.models.providers import ProviderModel
from agent.models.retry import RetryingModel
from agent.models.scripted import Script, ScriptedModel
from agent.testing import MemoryMedia
from tests.servers import models as server_of

REQUEST = Request("", (MessagesRead(1, (UserMessage(1, "Ann", "Hello"),)),))
FIRST, SECOND = "openai:first", "anthropic:second"

OF_THE_MODEL: tuple[ModelErrorKind, ...] = (
    "overloaded",
    "rate_limit",
    "timeout",
    "network",
    "server",
    "auth",
    "billing",
    "refused",
    "no_vision",
)
OF_THE_REQUEST: tuple[ModelErrorKind, ...] = ("bad_request", "too_long")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Screen:
    """What the person sees while a model answers."""

    deltas: list[Delta] = field(default_factory=list)

    async def on_delta(self, delta: Delta) -> None:
        self.deltas.append(delta)

    @property
    def text(self) -> str:
        last = max((index for index, delta in enumerate(self.deltas) if isinstance(delta, Withdrawn)), default=-1)
        return "".join(delta.text for delta in self.deltas[last + 1 :] if isinstance(delta, TextDelta))

    @property
    def lines(self) -> list[str]:
        return [delta.reason for delta in self.deltas if isinstance(delta, Waiting)]


class Chain:
    """Scripted models by their names, behind one `FallbackModel`, with a clock and a screen."""

    def __init__(self, *, cool_downs: CoolDowns | None = None, **scripts: tuple[Script, ...]) -> None:
        self.clock = Clock()
        self.cool_downs = cool_downs or CoolDowns(self.clock)
        self.models = {name: ScriptedModel(*script) for name, script in scripts.items()}
        named = [NamedModel(name, model) for name, model in self.models.items()]
        self.model = FallbackModel(named, self.cool_downs)
        self.screen = Screen()

    async def ask(self) -> Answer:
        self.screen.deltas.clear()
        return await self.model.answer(REQUEST, self.screen.on_delta)

    @property
    def asked(self) -> dict[str, int]:
        return {name: len(model.requests) for name, model in self.models.items()}


class Breaking:
    """A model that says something and then fails."""

    def __init__(self, kind: ModelErrorKind, text: str = "The answer is") -> None:
        self._kind: ModelErrorKind = kind
        self._text = text

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        await on_delta(TextDelta(self._text))
        raise ModelError(self._kind, "gone")


def failure(kind: ModelErrorKind, *, retry_after: float | None = None) -> ModelError:
    return ModelError(kind, f"error: {kind}", retry_after=retry_after)


# Which one answers


async def test_the_first_model_answers_as_long_as_it_can() -> None:
    chain = Chain(one=("Fine.",), two=())
    answer = await chain.ask()
    assert (answer.parts, answer.model) == ((Text("Fine."),), "one")
    assert (chain.asked, chain.screen.lines) == ({"one": 1, "two": 0}, [])


@pytest.mark.parametrize("kind", OF_THE_MODEL)
async def test_after_an_error_of_its_own_the_next_is_asked_with_one_quiet_line(kind: ModelErrorKind) -> None:
    chain = Chain(one=(failure(kind),), two=("Instead.",))
    answer = await chain.ask()
    assert (answer.parts, answer.model) == ((Text("Instead."),), "two")
    (line,) = chain.screen.lines
    assert line.endswith("; using two instead.")


@pytest.mark.parametrize("kind", OF_THE_REQUEST)
async def test_a_request_that_is_wrong_or_too_long_is_nobody_elses(kind: ModelErrorKind) -> None:
    chain = Chain(one=(failure(kind), "Fine."), two=())
    with pytest.raises(ModelError, match=kind):
        await chain.ask()
    assert (chain.asked, chain.screen.deltas) == ({"one": 1, "two": 0}, [])
    assert (await chain.ask()).model == "one"


async def test_a_feature_that_the_model_lacks_is_asked_of_another_without_a_cool_down() -> None:
    lacks = ModelError("bad_request", "No.", detail="one does not support tools", status=400)
    chain = Chain(one=(lacks, "Fine."), two=("Hello.",))
    assert (await chain.ask()).model == "two"
    assert chain.screen.lines == ["The model lacks what this request needs; using two instead."]
    assert (await chain.ask()).model == "one"


async def test_the_last_error_is_raised_when_nobody_can_answer() -> None:
    chain = Chain(one=(failure("billing"),), two=(failure("server"),), three=(failure("overloaded"),))
    with pytest.raises(ModelError, match="overloaded"):
        await chain.ask()
    assert chain.asked == {"one": 1, "two": 1, "three": 1}
    assert len(chain.screen.lines) == 2


async def test_a_chain_of_one_is_that_model() -> None:
    chain = Chain(one=(failure("auth"), "Mended."))
    with pytest.raises(ModelError, match="auth"):
        await chain.ask()
    assert (await chain.ask()).parts == (Text("Mended."),)


def test_a_chain_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a model"):
        FallbackModel([], CoolDowns())


async def test_partial_text_is_withdrawn_before_the_next_one_speaks() -> None:
    screen = Screen()
    chain = [NamedModel("one", Breaking("network")), NamedModel("two", ScriptedModel("Four."))]
    await FallbackModel(chain, CoolDowns()).answer(REQUEST, screen.on_delta)
    assert [type(delta) for delta in screen.deltas] == [TextDelta, Withdrawn, Waiting, TextDelta]
    assert screen.text == "Four."


async def test_what_was_withdrawn_within_the_first_model_is_not_withdrawn_again() -> None:
    screen = Screen()

    async def at_once(seconds: float) -> None:
        await asyncio.sleep(0)

    class BreakingOnce:
        asked = 0

        async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
            self.asked += 1
            if self.asked == 1:
                await on_delta(TextDelta("Half"))
            raise ModelError("server", "gone")

    chain = [
        NamedModel("one", RetryingModel(BreakingOnce(), attempts=2, sleep=at_once)),
        NamedModel("two", ScriptedModel("Whole.")),
    ]
    await FallbackModel(chain, CoolDowns()).answer(REQUEST, screen.on_delta)
    assert [type(delta) for delta in screen.deltas] == [TextDelta, Withdrawn, Waiting, Waiting, TextDelta]


async def test_the_text_of_the_last_one_stays_when_it_breaks_off() -> None:
    screen = Screen()
    chain = [NamedModel("one", Breaking("network", "One")), NamedModel("two", Breaking("server", "Two"))]
    with pytest.raises(ModelError):
        await FallbackModel(chain, CoolDowns()).answer(REQUEST, screen.on_delta)
    assert screen.text == "Two"


async def test_cancelling_asks_nobody_else_and_cools_nothing_down() -> None:
    held = asyncio.Event()
    chain = Chain(one=(["Once ", held], "Again."), two=())
    answering = asyncio.create_task(chain.ask())
    async with asyncio.timeout(60):
        await chain.models["one"].asked()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert chain.asked == {"one": 1, "two": 0}
    assert (await chain.ask()).model == "one"


# The model that a request names


class Choice(Chain):
    """A chain of one and two, beside which there is a model named other."""

    def __init__(self, *other: Script, one: tuple[Script, ...] = (), two: tuple[Script, ...] = ()) -> None:
        super().__init__(one=one, two=two)
        self.models["other"] = ScriptedModel(*other)
        named = [NamedModel(name, self.models[name]) for name in ("one", "two")]
        self.model = FallbackModel(named, self.cool_downs, available=self.models)

    async def ask_for(self, model: str) -> Answer:
        return await self.model.answer(replace(REQUEST, model=model), self.screen.on_delta)


@pytest.mark.parametrize("name", ["one", "two", "other"])
async def test_the_model_that_is_asked_for_answers_if_it_is_known(name: str) -> None:
    choice = Choice()
    assert (await choice.ask_for(name)).model == name
    assert choice.asked == {"one": 0, "two": 0, "other": 0} | {name: 1}
    assert choice.screen.lines == []


async def test_after_its_error_the_chain_is_asked_in_its_order() -> None:
    choice = Choice(failure("billing"), one=(failure("server"),))
    assert (await choice.ask_for("other")).model == "two"
    assert choice.asked == {"one": 1, "two": 1, "other": 1}
    assert (await choice.ask_for("other")).model == "two"
    assert choice.asked == {"one": 1, "two": 2, "other": 1}


@pytest.mark.parametrize("kind", ["billing", "refused"])
async def test_a_model_of_the_chain_that_is_asked_for_is_asked_once(kind: ModelErrorKind) -> None:
    choice = Choice(one=(failure("server"),), two=(failure(kind),))
    with pytest.raises(ModelError, match="server"):
        await choice.ask_for("two")
    assert choice.asked == {"one": 1, "two": 1, "other": 0}


async def test_a_model_that_is_not_set_up_is_said_to_be_so_and_the_usual_one_answers() -> None:
    choice = Choice()
    assert (await choice.ask_for("openai:gone")).model == "one"
    assert choice.screen.lines == ["openai:gone is not configured here; using one instead."]


# Cooling down


async def test_a_model_that_cools_down_is_skipped_without_a_word() -> None:
    chain = Chain(one=(failure("overloaded"), "Back."), two=("Instead.", "Again."))
    await chain.ask()
    answer = await chain.ask()
    assert (answer.model, chain.screen.lines) == ("two", [])
    assert chain.asked == {"one": 1, "two": 2}


async def test_it_is_asked_again_when_its_time_has_passed() -> None:
    chain = Chain(one=(failure("overloaded"), "Back."), two=("Instead.",))
    await chain.ask()
    chain.clock.now += 30
    assert (await chain.ask()).model == "one"


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [
        ("overloaded", 30),
        ("network", 30),
        ("server", 30),
        ("rate_limit", 60),
        ("timeout", 60),
        ("auth", 15 * 60),
        ("billing", 30 * 60),
    ],
)
async def test_each_error_has_its_time(kind: ModelErrorKind, seconds: float) -> None:
    chain = Chain(one=(failure(kind),), two=())
    await chain.ask()
    chain.clock.now += seconds - 1
    assert chain.cool_downs.is_cooling("one")
    chain.clock.now += 1
    assert not chain.cool_downs.is_cooling("one")


@pytest.mark.parametrize(("asked_for", "left_alone"), [(5, 60), (600, 600), (10_000_000, 3600)])
async def test_a_provider_may_ask_for_a_longer_time_but_not_for_ever(asked_for: float, left_alone: float) -> None:
    chain = Chain(one=(failure("rate_limit", retry_after=asked_for),), two=())
    await chain.ask()
    chain.clock.now += left_alone - 1
    assert chain.cool_downs.is_cooling("one")
    chain.clock.now += 1
    assert not chain.cool_downs.is_cooling("one")


async def test_a_refusal_is_about_one_request_and_the_next_one_goes_to_the_first_model() -> None:
    chain = Chain(one=(failure("refused"), "Of course."), two=("Instead.",))
    assert (await chain.ask()).model == "two"
    assert (await chain.ask()).model == "one"


async def test_when_all_cool_down_the_one_that_is_back_first_is_asked_alone() -> None:
    chain = Chain(one=(failure("billing"),), two=(failure("overloaded"), "Back."), three=(failure("timeout"),))
    with pytest.raises(ModelError, match="timeout"):
        await chain.ask()
    assert (await chain.ask()).model == "two"
    assert chain.asked == {"one": 1, "two": 2, "three": 1}


async def test_a_short_error_does_not_shorten_a_long_one() -> None:
    chain = Chain(one=(failure("billing"), failure("network")))
    for _ in range(2):
        with pytest.raises(ModelError):
            await chain.ask()
    chain.clock.now += 60
    assert chain.cool_downs.is_cooling("one")


async def test_cool_downs_are_shared_by_all_chains_that_have_the_model() -> None:
    first = Chain(one=(failure("server"),), two=("Instead.",))
    second = Chain(one=("Never.",), three=("Here.",), cool_downs=first.cool_downs)
    await first.ask()
    assert (await second.ask()).model == "three"
    assert second.asked == {"one": 0, "three": 1}


# Whatever happens


@dataclass(frozen=True, slots=True)
class Action:
    """What a model does when it is asked: it says something or not, then has an error or not."""

    text: str
    kind: ModelErrorKind | None
    retry_after: float | None


class ActingModel:
    """A model that does what is planned for the current request, and remembers in which order it was asked."""

    def __init__(self, name: str, asked: list[str]) -> None:
        self.action = Action("", None, None)
        self._name = name
        self._asked = asked

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        self._asked.append(self._name)
        if self.action.text:
            await on_delta(TextDelta(self.action.text))
        if self.action.kind is not None:
            raise ModelError(self.action.kind, self._name, retry_after=self.action.retry_after)
        return Answer((Text(self.action.text),), model="as the provider calls it")


actions = st.builds(
    Action,
    text=st.sampled_from(["", "a", "b"]),
    kind=st.none() | st.sampled_from([*OF_THE_MODEL, *OF_THE_REQUEST]),
    retry_after=st.none() | st.floats(min_value=0, max_value=1e9),
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    data=st.data(),
    names=st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=4, unique=True),
    pauses=st.lists(st.sampled_from([0.0, 1.0, 29.0, 30.0, 61.0, 1000.0, 4000.0]), min_size=1, max_size=8),
)
def test_whatever_happens_one_speaks_each_is_asked_once_and_the_cooling_are_left_alone(
    data: st.DataObject, names: list[str], pauses: list[float]
) -> None:
    clock = Clock()
    cool_downs = CoolDowns(clock)
    asked: list[str] = []
    models = {name: ActingModel(name, asked) for name in names}
    chain = FallbackModel([NamedModel(name, model) for name, model in models.items()], cool_downs)
    for pause in pauses:
        clock.now += pause
        plan = {name: data.draw(actions) for name in names}
        for name, model in models.items():
            model.action = plan[name]
        ready = [name for name in names if not cool_downs.is_cooling(name)]
        back_first = min(names, key=cool_downs.end)
        screen = Screen()
        asked.clear()
        spoke = asyncio.run(outcome(chain, screen))

        assert asked == (ready[: len(asked)] if ready else [back_first])
        *failed, last = asked
        assert all(plan[name].kind in OF_THE_MODEL for name in failed)
        assert spoke == (last, plan[last].kind)
        # Whoever could have been asked was, unless it was answered or the request was at fault.
        assert plan[last].kind not in OF_THE_MODEL or not ready or asked == ready
        assert screen.text == plan[last].text
        assert len(screen.lines) == len(failed)
        for name in asked:
            long = plan[name].kind in ("auth", "billing")
            if plan[name].kind in OF_THE_MODEL and plan[name].kind not in ("refused", "no_vision"):
                assert clock.now + (900 if long else 30) <= cool_downs.end(name) <= clock.now + 3600
        for name in set(ready) - {name for name in asked if plan[name].kind in OF_THE_MODEL}:
            assert not cool_downs.is_cooling(name)


async def outcome(model: Model, screen: Screen) -> tuple[str, ModelErrorKind | None]:
    """Who answered, or whose error was raised and which."""
    try:
        return (await model.answer(REQUEST, screen.on_delta)).model, None
    except ModelError as error:
        return str(error), error.kind


# Over the real libraries


@dataclass(slots=True)
class Gateway:
    """Two providers on the network, and a chain of one retrying model at each."""

    openai: server_of.ModelServer
    anthropic: server_of.ModelServer
    opened: list[ProviderModel] = field(default_factory=list)
    screen: Screen = field(default_factory=Screen)

    def chain(self) -> FallbackModel:
        return FallbackModel(
            [
                NamedModel(FIRST, self._retrying("openai", "first", self.openai.openai_url)),
                NamedModel(SECOND, self._retrying("anthropic", "second", self.anthropic.anthropic_url)),
            ],
            CoolDowns(),
        )

    def _retrying(self, protocol: ProtocolName, name: str, url: str) -> RetryingModel:
        model = ProviderModel(Provider(protocol, protocol, url, keys=("k",)), ModelOptions(name), MemoryMedia())
        self.opened.append(model)

        async def at_once(seconds: float) -> None:
            await asyncio.sleep(0)

        return RetryingModel(model, attempts=2, sleep=at_once)

    @property
    def asked(self) -> tuple[int, int]:
        return len(self.openai.requests), len(self.anthropic.requests)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with server_of.ModelServer() as openai, server_of.ModelServer() as anthropic:
        gateway = Gateway(openai, anthropic)
        yield gateway
        for model in gateway.opened:
            await model.aclose()
        assert (openai.refusals, anthropic.refusals) == ([], [])


@pytest.mark.parametrize(
    ("fail", "requests"),
    [
        (server_of.Fail(401), 1),
        (server_of.Fail(404), 1),
        (server_of.Fail(429, code="insufficient_quota"), 1),
        (server_of.Fail(400, code="content_filter"), 1),
        (server_of.Fail(429, retry_after=3600), 1),
        (server_of.Fail(503), 2),
        (server_of.Drop(), 2),
    ],
)
async def test_a_provider_that_fails_is_replaced_by_another_providers_model(
    gateway: Gateway, fail: server_of.Part, requests: int
) -> None:
    gateway.openai.respond(lambda request: fail)
    gateway.anthropic.script(server_of.Say("Instead."), server_of.Say("Again."))
    chain = gateway.chain()
    answer = await chain.answer(REQUEST, gateway.screen.on_delta)
    assert (answer.parts, answer.model) == ((Text("Instead."),), SECOND)
    assert gateway.asked == (requests, 1)


async def test_half_an_answer_disappears_when_the_other_provider_gives_a_whole_one(gateway: Gateway) -> None:
    gateway.openai.respond(lambda request: [server_of.Say("Half of "), server_of.Drop()])
    gateway.anthropic.script(server_of.Say("All of it."))
    await gateway.chain().answer(REQUEST, gateway.screen.on_delta)
    assert gateway.screen.text == "All of it."
    kinds = [kind.__name__ for kind, _ in itertools.groupby(map(type, gateway.screen.deltas))]
    assert kinds == ["TextDelta", "Withdrawn", "Waiting", "TextDelta", "Withdrawn", "Waiting", "TextDelta"]


@pytest.mark.parametrize("fail", [server_of.Fail(400), server_of.TooLong()])
async def test_the_other_provider_is_not_bothered_with_what_is_wrong(gateway: Gateway, fail: server_of.Part) -> None:
    gateway.openai.script(fail)
    with pytest.raises(ModelError):
        await gateway.chain().answer(REQUEST, gateway.screen.on_delta)
    assert gateway.asked == (1, 0)


async def test_a_stop_ends_the_request_at_the_model_that_was_asked_instead(gateway: Gateway) -> None:
    gateway.openai.script(server_of.Fail(401))
    gateway.anthropic.script(server_of.Say(["Once upon ", server_of.Pause(), "a time"]))
    answering = asyncio.create_task(gateway.chain().answer(REQUEST, gateway.screen.on_delta))
    held = await gateway.anthropic.until_held()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    await gateway.anthropic.until(lambda: held.disconnected)
    assert gateway.asked == (1, 1)
