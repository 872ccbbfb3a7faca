"""The cost of answers, and of attempts without one."""

import asyncio
from dataclasses import dataclass, field

import pytest

from agent.events import Charged, Delta, OnDelta, ReasoningDelta, TextDelta
from agent.log import MessagesRead, Text, Usage, UserMessage
from agent.model import Answer, ModelError, ModelErrorKind, Request
from agent.models.metering import MeteredModel
from agent.models.prices import PRICES, Price, price_of
from agent.models.scripted import Script, ScriptedModel

REQUEST = Request("", (MessagesRead(1, (UserMessage(1, "Ann", "x" * 3984),)),))
PRICE = Price(input=10, output=20, cache_read=1, cache_write=12)


@dataclass(slots=True)
class Meter:
    """A metered model and what it charged."""

    deltas: list[Delta] = field(default_factory=list)
    spoke: asyncio.Event = field(default_factory=asyncio.Event)

    async def on_delta(self, delta: Delta) -> None:
        self.deltas.append(delta)
        self.spoke.set()

    async def ask(self, *script: Script, price: Price | None = PRICE) -> Answer:
        return await MeteredModel(ScriptedModel(*script), "openai:x", price).answer(REQUEST, self.on_delta)

    @property
    def charged(self) -> list[Charged]:
        return [delta for delta in self.deltas if isinstance(delta, Charged)]


@dataclass(slots=True)
class Breaking:
    """Says something and then has an error."""

    delta: Delta
    kind: ModelErrorKind

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        await on_delta(self.delta)
        raise ModelError(self.kind, "gone")


async def test_an_answer_has_its_cost_and_its_models_name() -> None:
    used = Usage(1_000_000, 100_000, cache_read=500_000, cache_write=100_000, reasoning=50_000)
    answer = await Meter().ask(Answer((Text("Four."),), used))
    assert answer.usage.cost == pytest.approx(0.4 * 10 + 0.5 * 1 + 0.1 * 12 + 0.1 * 20)
    assert (answer.usage.reasoning, answer.usage.estimated, answer.model) == (50_000, False, "openai:x")


async def test_without_a_price_it_costs_nothing_and_the_tokens_are_counted() -> None:
    assert (await Meter().ask(Answer((), Usage(7, 8)), price=None)).usage == Usage(7, 8)


async def test_what_a_provider_does_not_count_is_estimated_and_said_to_be() -> None:
    answer = await Meter().ask("x" * 400)
    assert answer.usage == Usage(1000, 100, cost=0.012, estimated=True)


@pytest.mark.parametrize(
    "kind",
    ["overloaded", "rate_limit", "network", "server", "auth", "billing", "refused", "too_long", "bad_request"],
)
async def test_what_was_turned_down_costs_nothing(kind: ModelErrorKind) -> None:
    meter = Meter()
    with pytest.raises(ModelError):
        await meter.ask(ModelError(kind, "no"))
    assert meter.charged == []


async def test_a_time_out_was_perhaps_worked_on_in_full() -> None:
    meter = Meter()
    with pytest.raises(ModelError):
        await meter.ask(ModelError("timeout", "slow"))
    assert meter.charged == [Charged(Usage(1000, 0, cost=0.01, estimated=True), "openai:x", "failed")]


@pytest.mark.parametrize("delta", [TextDelta("x" * 400), ReasoningDelta("x" * 400)])
@pytest.mark.parametrize("kind", ["network", "server", "overloaded"])
async def test_an_answer_that_breaks_off_has_cost_what_came_of_it(delta: Delta, kind: ModelErrorKind) -> None:
    meter = Meter()
    with pytest.raises(ModelError):
        await MeteredModel(Breaking(delta, kind), "openai:x", PRICE).answer(REQUEST, meter.on_delta)
    assert meter.charged == [Charged(Usage(1000, 100, cost=0.012, estimated=True), "openai:x", "failed")]


@pytest.mark.parametrize(("spoken", "output"), [((), 0), (("x" * 400,), 100)])
async def test_a_cancelled_attempt_is_charged_with_what_was_told(spoken: tuple[str, ...], output: int) -> None:
    meter, model = Meter(), ScriptedModel([*spoken, asyncio.Event()])
    async with asyncio.timeout(60):
        answering = asyncio.create_task(MeteredModel(model, "openai:x", PRICE).answer(REQUEST, meter.on_delta))
        await model.asked()
        if spoken:
            await meter.spoke.wait()
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering
    (charged,) = meter.charged
    assert (charged.purpose, charged.model) == ("cancelled", "openai:x")
    assert (charged.usage.input, charged.usage.output, charged.usage.estimated) == (1000, output, True)


# Prices


def test_well_known_models_have_a_price_and_others_none() -> None:
    assert price_of("openai:gpt-5") == Price(1.25, 10, 0.125)
    assert price_of("anthropic:claude-sonnet-5") == Price(2, 10, 0.2, 2.5)
    assert price_of("openai:claude-sonnet-5") is None
    assert price_of("openai:qwen3") is None
    assert price_of("demo") is None


def test_the_price_of_a_reseller_is_not_assumed() -> None:
    for name in ("openrouter:openai/gpt-5", "openrouter:gpt-5", "azure:gpt-5", "work:gpt-5"):
        assert price_of(name) is None
    assert price_of("openai:gpt-5", is_listed=False) is None
    assert price_of("openai:gpt-5", {"gpt-5": Price(1, 1)}, is_listed=False) == Price(1, 1)


@pytest.mark.parametrize("version", ["gpt-5-2025-08-07", "gpt-5-20250807", "gpt-5-latest"])
def test_a_dated_version_has_the_price_of_its_model(version: str) -> None:
    assert price_of(f"openai:{version}") == PRICES["openai:gpt-5"]


def test_the_operators_prices_go_first() -> None:
    own = {"gpt-5": Price(1, 1), "qwen3": Price(0, 0)}
    assert price_of("openai:gpt-5", own) == own["gpt-5"]
    assert price_of("openai:gpt-5-2025-08-07", own) == own["gpt-5"]
    assert price_of("openai:qwen3", own) == own["qwen3"]
    assert price_of("openai:gpt-5-mini", own) == PRICES["openai:gpt-5-mini"]


def test_cached_tokens_cost_as_much_as_others_where_nothing_else_is_known() -> None:
    assert Price(2, 4).of(Usage(1_000_000, 0, cache_read=400_000, cache_write=300_000)) == pytest.approx(2)


@pytest.mark.parametrize("name", PRICES)
def test_every_price_makes_sense(name: str) -> None:
    price = PRICES[name]
    assert 0 < price.input <= price.output
    assert price.cache_read is None or price.cache_read < price.input
    assert price.cache_write is None or price.cache_write >= price.input
