"""What a person sees of odd model servers, whose answers are played byte by byte: an answer or a told failure, and the
conversation goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.models.chain import model_chain, wrap_provider_model
from agent.models.fallback import CoolDowns
from agent.models.protocols.wire import ProtocolName
from agent.models.provider import ModelOptions, Provider
from agent.models.providers import ProviderModel
from agent.testing import MemoryMedia
from agent.tool import ToolContext, tool
from channels.memory import plain_text
from tests.gateway.play import playing
from tests.servers.odd_streams import answer, encoded
from tests.servers.raw_models import RawModelServer, RawRequest, Reset, Steps, chunk, head, sse, stream_head, whole

NAME = "it:test"


def good(protocol: ProtocolName, text: str) -> Steps:
    return [stream_head(), encoded(protocol, answer(protocol, text=text)).data]


HALF = sse({"choices": [{"index": 0, "delta": {"content": "Half"}, "finish_reason": None}]})
BEGUN = sse(
    {"type": "message_start", "message": {"id": "m1", "model": "test", "usage": {"input_tokens": 9}}},
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
    },
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    },
)
PAUSED = sse({"type": "message_delta", "delta": {"stop_reason": "pause_turn"}}, {"type": "message_stop"})


@pytest.mark.parametrize(
    ("protocol", "odd"),
    [
        ("openai", b"\x15\x03\x01\x00\x02\x02\x46"),
        ("openai", [head(200, content_length="5", transfer_encoding="chunked"), chunk(HALF), chunk(b"")]),
        ("openai", [stream_head(x_policy="x" * 20_000), HALF]),
        ("openai", [stream_head(), HALF, b'error: {"code":500,"message":"CUDA error","type":"server_error"}\n\n']),
        ("openai", [stream_head(), HALF, b'{"error":{"message":"slot unavailable","code":503}}\n']),
        (
            "openai",
            [
                stream_head(),
                HALF,
                sse({"choices": [{"delta": {}, "finish_reason": "function_call_filter: MALFORMED_FUNCTION_CALL"}]}),
            ],
        ),
        ("openai", whole("upstream connect error or disconnect/reset before headers", content_type="text/plain")),
        ("openai", whole([{"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}])),
        ("openai", [head(429, retry_after="0", content_length="0", connection="close")]),
        ("openai", [head(503, content_length="900"), b"<html>", Reset()]),
        ("openai-responses", [stream_head(), sse({"code": 503, "message": "Busy."}, name="error")]),
        ("anthropic", [stream_head(), BEGUN, sse({"error": {"message": "Overloaded", "code": "529"}})]),
        ("anthropic", [stream_head(), BEGUN, PAUSED]),
    ],
)
async def test_trouble_of_a_moment_costs_another_attempt_only(
    tmp_path: Path, protocol: ProtocolName, odd: Steps
) -> None:
    async with RawModelServer() as server:
        server.script(odd, good(protocol, "All is well."), good(protocol, "And still."))
        model = ProviderModel(Provider("it", protocol, server.url), ModelOptions("test"), MemoryMedia())
        chain = model_chain([NAME], {NAME: wrap_provider_model(model, NAME, None)}, CoolDowns(), mask=lambda text: text)
        async with playing(tmp_path, chain) as play:
            await play.say("How?")
            assert plain_text(await play.reply("All is well.")) == "All is well."
            await play.say("And now?")
            await play.reply("And still.")
            assert "All is well." in server.requests[2].body.decode()
        await model.aclose()


@tool(effect="read")
async def weather(context: ToolContext, town: str) -> str:
    """Tells the weather of a town."""
    return f"Rain in {town}."


@pytest.mark.parametrize("protocol", ["openai", "openai-responses", "anthropic"])
async def test_a_call_that_a_model_writes_as_json_runs_and_is_not_shown(tmp_path: Path, protocol: ProtocolName) -> None:
    async with RawModelServer() as server:
        server.script(
            good(protocol, '{"name": "weather", "parameters": {"town": "Bonn"}}'),
            good(protocol, "It rains."),
            good(protocol, '{"name": "Bonn", "parameters": {"town": "Bonn"}}'),
        )
        model = ProviderModel(Provider("it", protocol, server.url), ModelOptions("test"), MemoryMedia())
        async with playing(tmp_path, model, weather) as play:
            await play.say("How is the weather in Bonn?")
            assert plain_text(await play.reply("It rains.")) == "It rains."
            assert "Rain in Bonn." in server.requests[1].body.decode()
            await play.say("Tell me of Bonn, as JSON")
            await play.reply('{"name": "Bonn", "parameters": {"town": "Bonn"}}')
        await model.aclose()


async def test_a_model_of_a_small_window_is_asked_for_a_shorter_answer(tmp_path: Path) -> None:
    def respond(request: RawRequest) -> Steps:
        asked = request.json["max_tokens"]
        if asked <= 8000:
            return good("anthropic", "All is well.")
        words = f"'max_tokens' is too large: {asked}. This model's maximum context length is 8192 tokens."
        return whole({"type": "error", "error": {"type": "invalid_request_error", "message": words}}, status=400)

    async with RawModelServer() as server:
        server.respond(respond)
        model = ProviderModel(Provider("it", "anthropic", server.url), ModelOptions("test"), MemoryMedia())
        chain = model_chain([NAME], {NAME: wrap_provider_model(model, NAME, None)}, CoolDowns(), mask=lambda text: text)
        async with playing(tmp_path, chain) as play:
            await play.say("How?")
            assert plain_text(await play.reply("All is well.")) == "All is well."
            await play.say("And now?")
            await play.until_idle()
        assert [request.json["max_tokens"] for request in server.requests] == [16_384, 4096, 4096]
        await model.aclose()
