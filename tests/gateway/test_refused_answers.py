"""Answers that a provider's filter ends in the middle: what was said stays, and people learn why it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.loop.turn import REFUSED
from agent.models.protocols.wire import ProtocolName
from agent.models.provider import ModelOptions, Provider
from agent.models.providers import ProviderModel
from agent.testing import MemoryMedia
from channels.memory import plain_text
from tests.gateway.play import playing
from tests.servers.raw_models import RawModelServer, sse, stream_head

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
