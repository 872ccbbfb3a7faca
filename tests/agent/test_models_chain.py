"""All wrappers together, over the real libraries: what a conversation asks, and what each part adds to it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from agent.events import Charged, Delta, TextDelta, Waiting, Withdrawn
from agent.log import MessagesRead, Text, UserMessage
from agent.masking import Mask
from agent.media import Attachment
from agent.model import Answer, Model, ModelError, Request
from agent.models.chain import model_chain, wrap_provider_model
from agent.models.fallback import CoolDowns
from agent.models.prices import Price
from agent.models.protocols.wire import ProtocolName
from agent.models.provider import ModelOptions, Provider, Timeouts
from agent.models.providers import ProviderModel
from agent.testing import MemoryMedia
from tests.servers import models as server_of

BIG, SMALL, OTHER = "openai:big", "openai:small", "anthropic:other"
KEY = "sk-very-secret-4711"


@dataclass(slots=True)
class Gateway:
    """Two models of one provider and one of another, the last two as fallbacks, and the deltas."""

    openai: server_of.ModelServer
    anthropic: server_of.ModelServer
    media: MemoryMedia = field(default_factory=MemoryMedia)
    opened: list[ProviderModel] = field(default_factory=list)
    deltas: list[Delta] = field(default_factory=list)

    def chain(self, names: Sequence[str] = (BIG, OTHER), *, small: str = "", patience: float = 20) -> Model:
        """`patience` is how many seconds the big model is waited for."""
        models = {name: self._model(name, patience if name == BIG else 20) for name in (BIG, SMALL, OTHER)}
        return model_chain(names, models, CoolDowns(), mask=Mask([KEY]), small=small)

    def _model(self, name: str, patience: float) -> Model:
        provider, _, bare = name.partition(":")
        url = self.openai.openai_url if provider == "openai" else self.anthropic.anthropic_url
        protocol: ProtocolName = "openai" if provider == "openai" else "anthropic"
        at = Provider(provider, protocol, url, keys=("k",), timeouts=Timeouts(patience))
        model = ProviderModel(at, ModelOptions(bare), self.media)
        self.opened.append(model)
        return wrap_provider_model(model, name, Price(1_000_000, 0))

    async def ask(self, model: Model, text: str = "Write it", *files: Attachment, choose: str = "") -> Answer:
        self.deltas.clear()
        return await model.answer(
            Request("", (MessagesRead(1, (UserMessage(1, "Ann", text, files),)),), model=choose), self._on_delta
        )

    async def _on_delta(self, delta: Delta) -> None:
        self.deltas.append(delta)

    @property
    def lines(self) -> list[str]:
        return [delta.reason for delta in self.deltas if isinstance(delta, Waiting)]

    @property
    def screen(self) -> str:
        last = max((place for place, delta in enumerate(self.deltas) if isinstance(delta, Withdrawn)), default=-1)
        return "".join(delta.text for delta in self.deltas[last + 1 :] if isinstance(delta, TextDelta))

    @property
    def asked(self) -> list[str]:
        return [request.model for server in (self.openai, self.anthropic) for request in server.requests]


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with server_of.ModelServer() as openai, server_of.ModelServer() as anthropic:
        gateway = Gateway(openai, anthropic)
        yield gateway
        for model in gateway.opened:
            await model.aclose()
        assert (openai.refusals, anthropic.refusals) == ([], [])


async def test_small_talk_goes_to_the_small_model_and_work_to_the_big_one(gateway: Gateway) -> None:
    model = gateway.chain(small=SMALL)
    assert (await gateway.ask(model, "Hello!")).model == SMALL
    assert (await gateway.ask(model, "Write a poem")).model == BIG
    assert (await gateway.ask(model, "Hello!", choose=OTHER)).model == OTHER
    assert gateway.asked == ["small", "big", "other"]


async def test_an_answer_has_its_cost(gateway: Gateway) -> None:
    gateway.openai.script([server_of.Say("Hi"), server_of.Usage(3, 5)])
    answer = await gateway.ask(gateway.chain())
    assert (answer.usage.cost, answer.model) == (3, BIG)


async def test_a_time_out_is_not_tried_again_where_another_stands_by_and_is_charged(gateway: Gateway) -> None:
    gateway.openai.respond(lambda request: server_of.Silence())
    answer = await gateway.ask(gateway.chain(patience=0.2))
    assert answer.model == OTHER
    assert [(delta.model, delta.purpose) for delta in gateway.deltas if isinstance(delta, Charged)] == [(BIG, "failed")]


async def test_a_model_that_stands_alone_is_asked_again_after_a_time_out(gateway: Gateway) -> None:
    gateway.openai.respond(lambda request: server_of.Silence())
    with pytest.raises(ModelError):
        await gateway.ask(gateway.chain((BIG,), patience=0.2))
    assert len([delta for delta in gateway.deltas if isinstance(delta, Charged)]) == 2


async def test_an_answer_cut_off_is_completed_by_another_model_when_the_first_has_an_error(gateway: Gateway) -> None:
    gateway.openai.script([server_of.Say(f"It is {KEY}, and"), server_of.End("length")], server_of.Fail(401))
    gateway.anthropic.script(server_of.Say(" so on."))
    answer = await gateway.ask(gateway.chain())
    assert answer.parts == (Text(f"It is {KEY}, and so on."),)
    assert gateway.screen == f"It is {KEY}, and so on."
    # What goes out anew is masked anew.
    assert [message.text for message in gateway.anthropic.requests[0].messages][1] == "It is [secret], and"


async def test_a_blind_model_is_told_about_pictures_and_nobody_else_is_asked(gateway: Gateway) -> None:
    cat = await gateway.media.put(b"\x89PNG\r\n\x1a\n of a cat", "cat.png")
    gateway.openai.script(server_of.Fail(400, message="This model does not support image input"))
    model = gateway.chain()
    answer = await gateway.ask(model, "Look", cat)
    assert answer.model == BIG
    assert gateway.lines == [f"{BIG} does not support pictures; it gets a text in place of each."]
    await gateway.ask(model, "Look", cat)
    assert (gateway.lines, gateway.asked) == ([], ["big", "big", "big"])
