"""Answers that a provider's filter ends in the middle: what was said stays, and people learn why it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.loop.turn import REFUSED
from agent.models.chain import wrap_provider_model
from agent.models.protocols.wire import ProtocolName
from agent.models.provider import ModelOptions, Provider
from agent.models.providers import ProviderModel
from agent.testing import MemoryMedia
from channels.memory import plain_text
from tests.gateway.play import playing
from tests.servers.odd_streams import answer, encoded
from tests.servers.raw_models import RawModelServer, RawRequest, Steps, sse, stream_head

CHAT = (
    {"choices": [{"index": 0, "delta": {"content": "Mix the"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]},
    "[DONE]",
)
MESSAGES = (
    {"type": "message_start", "message": {"id": "m1", "model": "test", "usage": {}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Mix the"}},
    {"type": "message_delta", "delta": {"stop_reason": "refusal"}, "usage": {}},
    {"type": "message_stop"},
)


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
async def test_a_question_that_was_refused_does_not_block_the_next_ones(
    tmp_path: Path, protocol: ProtocolName, begins: bool
) -> None:
    """The provider refuses every request that shows it, some after a few words."""
    events = CHAT if protocol == "openai" else MESSAGES
    told = [events, events if begins else tuple(event for event in events if "Mix" not in str(event))]

    def respond(request: RawRequest) -> Steps:
        if "forbidden" not in request.body.decode():
            return [stream_head(), encoded(protocol, answer(protocol, text="All is well.")).data]
        return [stream_head(), sse(*told[len(server.requests) > 1])]

    async with RawModelServer() as server:
        server.respond(respond)
        model = ProviderModel(Provider("it", protocol, server.url), ModelOptions("test"), MemoryMedia())
        async with playing(tmp_path, wrap_provider_model(model, "it:test", None)) as play:
            await play.say("A forbidden question")
            await play.reply(REFUSED)
            await play.say("And how are you?")
            assert plain_text(await play.reply("All is well.")) == "All is well."
            await play.say("And now?")
            await play.until_idle()
            # What was refused is not sent again.
            assert ["forbidden" in request.body.decode() for request in server.requests] == [True, True, False, False]
        await model.aclose()


@pytest.mark.parametrize(("protocol", "events"), [("openai", CHAT), ("anthropic", MESSAGES)])
async def test_half_an_answer_says_that_a_filter_ended_it(
    tmp_path: Path, protocol: ProtocolName, events: tuple[object, ...]
) -> None:
    async with RawModelServer() as server:
        server.script([stream_head(), sse(*events)])
        model = ProviderModel(Provider("it", protocol, server.url), ModelOptions("test"), MemoryMedia())
        async with playing(tmp_path, model) as play:
            await play.say("How?")
            reply = plain_text(await play.reply(REFUSED))
            assert reply.startswith("Mix the")
        await model.aclose()
