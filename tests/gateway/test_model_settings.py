"""Models and their providers as the settings say, on a real gateway: what each server is sent."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.gateway.stage import gateway
from tests.gateway.test_from_settings import Person
from tests.servers.models import Call, ModelServer, Request, Say, Turn, Usage
from tests.servers.raw_models import KeepAlive, RawModelServer, RawRequest, Steps, sse, stream_head, whole

WEB = "[web]\nport = 0\n[store]\n"


@asynccontextmanager
async def person(folder: Path, settings: str, environ: dict[str, str] | None = None) -> AsyncIterator[Person]:
    file = folder / "interject.toml"
    file.write_text(f"{settings}\n{WEB}")
    async with gateway(file, environ=environ) as built:
        assert built.link is not None
        origin, _, token = built.link.partition("/?token=")
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=origin, headers=headers, trust_env=False, timeout=60) as client:
            yield Person(client)


@pytest.fixture
async def server() -> AsyncIterator[RawModelServer]:
    """Speaks Chat Completions, and says which model it is."""
    async with RawModelServer() as server:
        server.respond(lambda request: spoken(f"I am {request.json['model']}."))
        yield server


def spoken(text: str) -> Steps:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return [stream_head(), sse({"id": "1", "choices": [choice]}), b"data: [DONE]\n\n"]


def refused(status: int, code: str) -> Steps:
    return [whole({"error": {"message": code, "type": code, "code": code}}, status=status), KeepAlive()]


def keys(server: RawModelServer) -> list[str]:
    return [request.headers["authorization"].removeprefix("Bearer ") for request in server.requests]


# Providers


async def test_a_server_under_a_name_of_ones_own_is_asked_as_its_section_says(
    tmp_path: Path, server: RawModelServer
) -> None:
    settings = f"""
        [agent]
        model = "gpu-box:Qwen/Qwen3-32B:fp8"
        [models.gpu-box]
        type = "openai"
        base_url = "{server.url}/v1?tenant=a%20b"
        api_key = "k-1"
        headers = {{ "X-Team" = "support" }}
        query = {{ version = "7" }}
        extra_body = {{ chat_template_kwargs = {{ enable_thinking = false }} }}
    """
    async with person(tmp_path, settings) as ann:
        assert await ann.asks("who are you?") == "I am Qwen/Qwen3-32B:fp8."
    (request,) = server.requests
    assert httpx.URL(request.target).path == "/v1/chat/completions"
    assert dict(httpx.URL(request.target).params) == {"tenant": "a b", "version": "7"}
    assert (request.headers["authorization"], request.headers["x-team"]) == ("Bearer k-1", "support")
    assert request.json["chat_template_kwargs"] == {"enable_thinking": False}


async def test_two_servers_of_one_protocol_and_one_of_another_are_chosen_between(tmp_path: Path) -> None:
    async with ModelServer(api_key="a") as first, ModelServer(api_key="b") as second:
        for server, name in ((first, "first"), (second, "second")):
            server.respond(lambda request, name=name: Say(f"{name}, {request.provider}"))
        settings = f"""
            [agent]
            model = "first:m"
            fallback = ["second:m"]
            [models.first]
            type = "openai"
            base_url = "{first.openai_url}"
            api_key = "a"
            [models.second]
            type = "openai"
            base_url = "{second.openai_url}"
            api_key = "b"
            [models.third]
            type = "anthropic"
            base_url = "{second.anthropic_url}"
            api_key = "b"
            [models.third."claude"]
            max_tokens = 1000
            [models.fourth]
            type = "openai-responses"
            base_url = "{first.openai_url}"
            api_key = "a"
            [models.fourth.gpt]
        """
        async with person(tmp_path, settings) as ann:
            said = [await ann.asks("hello")]
            for model in ("second:m", "third:claude", "fourth:gpt"):
                assert model in await ann.asks(f"/model {model}")
                said.append(await ann.asks("hello"))
    assert said == ["first, openai", "second, openai", "second, anthropic", "first, openai-responses"]
    assert first.refusals == second.refusals == []


async def test_a_known_provider_needs_only_its_key_and_a_local_one_nothing(
    tmp_path: Path, server: RawModelServer
) -> None:
    settings = f"""
        [agent]
        model = "ollama:qwen3:8b"
        fallback = ["mistral:small"]
        [models.ollama]
        base_url = "{server.url}/v1"
    """
    server.respond(lambda request: spoken("Here.") if request.json["model"] == "qwen3:8b" else refused(500, "no"))
    async with person(tmp_path, settings, {"MISTRAL_API_KEY": "k-mistral"}) as ann:
        assert await ann.asks("hello") == "Here."
    (request,) = server.requests
    assert "authorization" not in request.headers


async def test_the_models_of_a_provider_share_its_connections(tmp_path: Path, server: RawModelServer) -> None:
    def respond(request: RawRequest) -> Steps:
        choice = {"index": 0, "message": {"content": f"I am {request.json['model']}."}, "finish_reason": "stop"}
        return [whole({"choices": [choice]}), KeepAlive()]

    server.respond(respond)
    settings = f"""
        [agent]
        model = "work:m"
        [models.work]
        type = "openai"
        base_url = "{server.url}"
        [models.work.n]
    """
    async with person(tmp_path, settings) as ann:
        assert await ann.asks("hello") == "I am m."
        assert "work:n" in await ann.asks("/model work:n")
        assert await ann.asks("hello") == "I am n."
    assert server.connections == 1


# Keys


async def test_keys_are_used_in_turn_and_one_that_fails_is_left_out(
    tmp_path: Path, server: RawModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    refusals = {"k-rejected": refused(401, "invalid_api_key"), "k-poor": refused(429, "insufficient_quota")}

    def respond(request: RawRequest) -> Steps:
        return refusals.get(request.headers["authorization"].removeprefix("Bearer "), spoken("Here."))

    server.respond(respond)
    settings = f"""
        [agent]
        model = "work:m"
        [models.work]
        type = "openai"
        base_url = "{server.url}"
        api_key = ["k-rejected", "k-good-1", "k-poor", "k-good-2"]
    """
    async with person(tmp_path, settings) as ann:
        for _ in range(4):
            assert await ann.asks("hello") == "Here."
    assert keys(server) == ["k-rejected", "k-good-1", "k-poor", "k-good-2", "k-good-1", "k-good-2"]
    assert "key 1 of work failed (auth); in cool-down for 900 s" in caplog.text
    assert "k-rejected" not in caplog.text


async def test_when_every_key_fails_the_error_of_the_last_is_told(tmp_path: Path, server: RawModelServer) -> None:
    server.respond(lambda request: refused(401, "invalid_api_key"))
    settings = f"""
        [agent]
        model = "work:m"
        [models.work]
        type = "openai"
        base_url = "{server.url}"
        api_key = ["k-1", "k-2"]
    """
    async with person(tmp_path, settings) as ann:
        assert "key" in await ann.asks("hello")
    assert keys(server) == ["k-1", "k-2"]


async def test_requests_beyond_the_limit_of_a_minute_wait_and_people_are_told(
    tmp_path: Path, server: RawModelServer
) -> None:
    settings = f"""
        [agent]
        model = "work:m"
        [models.work]
        type = "openai"
        base_url = "{server.url}"
        requests_per_minute = 2
    """
    async with person(tmp_path, settings) as ann:
        for _ in range(2):
            await ann.asks("hello")
        await ann.say("once more")
        reply = await ann.sees(lambda replies: len(replies) == 3 and "limit" in (replies[-1]["status"] or ""))
        assert "The limit of 2 requests per minute is reached; waiting " in reply
        await ann.say("/stop")
        await ann.sees(lambda replies: bool(replies[-1]["done"]))
    assert len(server.requests) == 2


# Parameters


async def test_the_parameters_of_a_request_are_the_conversations_the_channels_the_agents_or_the_models(
    tmp_path: Path, server: RawModelServer
) -> None:
    settings = f"""
        [agent]
        model = "work:m"
        temperature = 0.1
        reasoning = "low"
        [models.work]
        type = "openai"
        base_url = "{server.url}"
        [models.work.m]
        temperature = 0.9
        top_p = 0.5
        max_tokens = 500
        parallel_tool_calls = false
    """
    async with person(tmp_path, settings) as ann:
        await ann.asks("hello")
        assert await ann.asks("/model high") == "Model from the next task on: `work:m` (default), reasoning high."
        await ann.asks("hello")
        assert "`work:m`, reasoning medium." in await ann.asks("/model work:m medium")
        await ann.asks("hello")
        assert "Current model: `work:m`, reasoning medium." in await ann.asks("/model")
        assert "There is no model `work:n`" in await ann.asks("/model work:n medium")
        await ann.asks("/model default")
        await ann.asks("hello")
    sent = [request.json for request in server.requests]
    assert [body["reasoning_effort"] for body in sent] == ["low", "high", "medium", "low"]
    for body in sent:
        assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.1, 0.5, 500)
        assert body["parallel_tool_calls"] is False


async def test_a_hook_comes_before_all_others_and_leaves_the_rest_as_it_was(
    tmp_path: Path, server: RawModelServer
) -> None:
    (tmp_path / "cold.py").write_text(
        "from dataclasses import replace\n\n\n"
        "class Cold:\n"
        "    async def before_model(self, where, request):\n"
        "        return replace(request, settings=replace(request.settings, temperature=0.0, reasoning=None))\n"
    )
    settings = f"""
        [agent]
        model = "work:m"
        temperature = 1
        reasoning = "low"
        top_p = 0.5
        [models.work]
        type = "openai"
        base_url = "{server.url}"
        [[hooks]]
        name = "cold"
        type = "python"
        path = "cold.py:Cold"
        points = ["before_model"]
        timeout = 60
    """
    async with person(tmp_path, settings) as ann:
        await ann.asks("/model high")
        await ann.asks("hello")
    (request,) = server.requests
    assert [request.json[name] for name in ("temperature", "top_p", "reasoning_effort")] == [0, 0.5, "high"]


async def test_a_delegated_task_reasons_as_much_as_its_conversation(tmp_path: Path) -> None:
    def respond(request: Request) -> Turn:
        if "count the sheep" in request.messages[1].text:
            return Say("There are three.")
        return Say("Three sheep.") if request.results else Call("delegate", {"task": "count the sheep"})

    async with ModelServer(api_key="k") as models:
        models.respond(respond)
        settings = f"""
            [agent]
            model = "work:m"
            [models.work]
            type = "openai"
            base_url = "{models.openai_url}"
            api_key = "k"
        """
        async with person(tmp_path, settings) as ann:
            await ann.asks("/model high")
            assert (await ann.asks("how many?")).endswith("Three sheep.")
    assert [request.body["reasoning_effort"] for request in models.requests] == ["high"] * 3


async def test_a_conversation_is_kept_within_the_window_of_the_model_that_it_uses(tmp_path: Path) -> None:
    async with ModelServer(api_key="k") as models:
        models.respond(
            lambda request: Say("In short: sheep.") if request.model == "small" else [Say("I see."), Usage(16_000, 10)]
        )
        settings = f"""
            [agent]
            model = "openai:wide"
            small_model = "openai:small"
            [models.openai]
            base_url = "{models.openai_url}"
            api_key = "k"
            [models.openai.narrow]
            context_window = 20000
        """
        async with person(tmp_path, settings) as ann:
            for _ in range(2):
                await ann.asks("sheep " * 5000)
            assert "In short: sheep." not in json.dumps(models.requests[-1].body)
            await ann.asks("/model openai:narrow")
            await ann.asks("and now?")
    narrow = models.requests[-1]
    assert narrow.model == "narrow"
    assert "In short: sheep." in json.dumps(narrow.body)
    assert len(json.dumps(narrow.body)) < 60_000


# Pictures


async def test_a_turn_with_pictures_goes_to_the_vision_model_and_the_next_one_to_the_usual(tmp_path: Path) -> None:
    def respond(request: Request) -> Turn:
        if request.model == "eyes":
            return Say("A cat.")
        if request.last_user_text == "look" and not request.results:
            return Call("view_image", {"path": "cat.png"})
        return Say("As I said.")

    async with ModelServer(api_key="k") as models:
        models.respond(respond)
        settings = f"""
            [agent]
            model = "openai:blind"
            vision_model = "openai:eyes"
            workspaces = "shared"
            [models.openai]
            base_url = "{models.openai_url}"
            api_key = "k"
            [models.openai.blind]
            vision = false
        """
        (tmp_path / "home" / "workspace").mkdir(parents=True)
        Image.new("RGB", (30, 20), "red").save(tmp_path / "home" / "workspace" / "cat.png")
        async with person(tmp_path, settings) as ann:
            assert (await ann.asks("look")).endswith("A cat.")
            assert (await ann.asks("what was it?")).endswith("As I said.")
    asked = [(request.model, any(message.images for message in request.messages)) for request in models.requests]
    assert asked == [("blind", False), ("eyes", True), ("blind", False)]
    assert models.refusals == []


# Prices


async def test_models_without_a_known_price_are_named_at_start(
    tmp_path: Path, server: RawModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    settings = f"""
        [agent]
        model = "openai:gpt-5"
        fallback = ["work:gpt-5", "groq:llama", "openrouter:anthropic/claude", "ollama:qwen3:8b", "work:paid"]
        [models.openai]
        api_key = "k"
        [models.groq]
        api_key = "k"
        [models.openrouter]
        api_key = "k"
        [models.work]
        type = "openai"
        base_url = "{server.url}"
        [models.work.paid]
        price = {{ input = 1, output = 2 }}
    """
    with caplog.at_level(logging.WARNING):
        async with person(tmp_path, settings):
            pass
    (line,) = [record.getMessage() for record in caplog.records if "price" in record.getMessage()]
    assert line == "no price is known, so these models count as free: work:gpt-5, groq:llama"
