"""The OpenAI-compatible endpoint, through the real SDK of OpenAI."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI
from PIL import Image

from gateway.api.openai.errors import answer_errors
from gateway.api.problems import answer_problems
from tests.api.conftest import Api, control_api
from tests.servers.models import Call, ModelServer, Pause, Request, Say, Usage
from tests.servers.telegram import BotApi

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "openai-clients.md"

AGENTS = '[agents.poet]\ninstructions = "Answer in verse."\n'

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@asynccontextmanager
async def endpoint(
    folder: Path, telegram: BotApi, models: ModelServer, more: str = ""
) -> AsyncIterator[tuple[openai.AsyncOpenAI, Api]]:
    """OpenAI's client on a running gateway."""
    async with (
        control_api(folder, telegram, models, more=more) as control,
        openai.AsyncOpenAI(api_key=control.token, base_url=f"{control.url}/v1", max_retries=0) as client,
    ):
        yield client, control


def saying(role: str, content: Any) -> Any:
    return {"role": role, "content": content}


def said(request: Request) -> str:
    return "\n".join(message.text for message in request.messages)


async def test_a_completion_is_a_turn_with_what_the_request_says(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script([Say("Oslo."), Usage(12, 3)])
    async with endpoint(tmp_path, api, models) as (client, _):
        answer = await client.chat.completions.create(
            model="interject",
            messages=[
                saying("system", "You are a geographer."),
                saying("user", "Where is Norway?"),
                saying("assistant", "In the north."),
                saying("user", "Its capital?"),
            ],
            temperature=0,
        )
    assert answer.choices[0].message.content == "Oslo."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (12, 3)
    [request] = models.requests
    for words in ("You are a geographer.", "user: Where is Norway?", "assistant: In the north.", "Its capital?"):
        assert words in said(request)


async def test_a_stream_has_the_answer_while_it_grows(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.script([Say(["One, ", Pause(), "two."]), Usage(12, 3)])
    async with endpoint(tmp_path, api, models) as (client, _):
        stream = await client.chat.completions.create(
            model="interject",
            messages=[saying("user", "Count.")],
            stream=True,
            stream_options={"include_usage": True},
        )
        pieces: list[str] = []
        usage = None
        reasons = []
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                if choice.delta.content:
                    if not pieces:
                        models.release()
                    pieces.append(choice.delta.content)
                if choice.finish_reason:
                    reasons.append(choice.finish_reason)
    assert pieces[0].strip() == "One,"
    assert "".join(pieces) == "One, two."
    assert reasons == ["stop"]
    assert usage is not None
    assert usage.total_tokens == 15


async def test_agents_are_models(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Done."))
    async with endpoint(tmp_path, api, models, AGENTS) as (client, _):
        listed = [model.id async for model in client.models.list()]
        await client.chat.completions.create(model="interject/poet", messages=[saying("user", "Hello")])
        with pytest.raises(openai.NotFoundError) as refused:
            await client.chat.completions.create(model="gpt-5", messages=[saying("user", "Hello")])
    assert listed == ["interject", "interject/main", "interject/poet"]
    assert "Answer in verse." in said(models.requests[0])
    assert refused.value.code == "model_not_found"


async def test_a_key_for_one_agent_uses_no_other(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("A verse."))
    async with endpoint(tmp_path, api, models, AGENTS) as (_, control):
        made = await control.client.post("/keys", json={"name": "poet", "scope": "chat", "agents": ["poet"]})
        async with openai.AsyncOpenAI(
            api_key=made.json()["secret"], base_url=f"{control.url}/v1", max_retries=0
        ) as client:
            assert [model.id async for model in client.models.list()] == ["interject/poet"]
            answer = await client.chat.completions.create(model="interject/poet", messages=[saying("user", "Hello")])
            assert answer.choices[0].message.content == "A verse."
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="interject", messages=[saying("user", "Hello")])


async def test_a_second_request_in_a_conversation_steers_the_running_one(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Say(["Looking at ", Pause(), "Rome."]), Say("Paris it is."))
    async with endpoint(tmp_path, api, models) as (client, _):
        named = {"Interject-Conversation": "trip"}

        async def ask(words: str) -> str:
            stream = await client.chat.completions.create(
                model="interject", messages=[saying("user", words)], stream=True, extra_headers=named
            )
            pieces = []
            async for chunk in stream:
                pieces += [choice.delta.content or "" for choice in chunk.choices]
            return "".join(pieces)

        first = asyncio.create_task(ask("Plan a trip to Rome."))
        await models.until_held()
        second = await ask("Paris instead!")
        assert second == "Paris it is."
        assert (await first).endswith("Paris it is.")
    assert "Paris instead!" in said(models.requests[1])


async def test_a_lasting_conversation_has_its_own_history(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Yes."))
    async with endpoint(tmp_path, api, models) as (client, _):
        for words in ("My name is Ann.", "Who am I?"):
            await client.chat.completions.create(
                model="interject", messages=[saying("user", words)], metadata={"conversation": "ann"}
            )
    assert said(models.requests[1]).count("My name is Ann.") == 1


async def test_functions_of_the_program_are_called_and_their_results_read(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Call("weather", {"city": "Oslo"}), Say("It is cold."))
    async with endpoint(tmp_path, api, models) as (client, _):
        messages = [saying("user", "Is it cold in Oslo?")]
        asked = await client.chat.completions.create(model="interject", messages=messages, tools=[WEATHER])
        choice = asked.choices[0]
        assert choice.finish_reason == "tool_calls"
        [call] = choice.message.tool_calls or ()
        assert call.type == "function"
        assert (call.function.name, call.function.arguments) == ("weather", '{"city": "Oslo"}')
        messages.append(choice.message.model_dump(exclude_none=True))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "-4 °C"})
        answer = await client.chat.completions.create(model="interject", messages=messages, tools=[WEATHER])
        assert answer.choices[0].message.content == "It is cold."
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="interject", messages=messages, tools=[WEATHER])
    assert refused.value.code == "wrong_tool_results"
    assert "-4 °C" in said(models.requests[1])


async def test_responses_stream_text_and_calls(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.script([Say("Let me look."), Call("weather", {"city": "Oslo"})], Say("Cold."))
    tool: Any = {"type": "function", "strict": False, **WEATHER["function"]}
    async with endpoint(tmp_path, api, models) as (client, _):
        async with client.responses.stream(
            model="interject", input="Oslo?", instructions="Be brief.", tools=[tool]
        ) as stream:
            kinds = [event.type async for event in stream]
            asked = await stream.get_final_response()
        assert asked.output_text == "Let me look."
        [call] = [item for item in asked.output if item.type == "function_call"]
        answer = await client.responses.create(
            model="interject",
            input=[{"type": "function_call_output", "call_id": call.call_id, "output": "-4 °C"}],
        )
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert "response.output_text.delta" in kinds
    assert answer.output_text == "Cold."
    assert "Be brief." in said(models.requests[0])


async def test_a_response_goes_on_after_an_earlier_one(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Yes."))
    async with endpoint(tmp_path, api, models) as (client, control):
        first = await client.responses.create(model="interject", input="My name is Ann.")
        await client.responses.create(model="interject", input="Who am I?", previous_response_id=first.id)
        elsewhere = await control.client.post(
            "/conversations/web:local:rome/messages?wait=30", json={"client_id": "message-1", "text": "Hello"}
        )
        for unknown in ("resp_0", f"resp_{elsewhere.json()['run']}"):
            with pytest.raises(openai.NotFoundError) as refused:
                await client.responses.create(model="interject", input="And?", previous_response_id=unknown)
            assert refused.value.code == "response_not_found"
    assert said(models.requests[1]).count("My name is Ann.") == 1


async def test_a_limited_key_reaches_no_other_conversation_by_ids_of_answers_and_calls(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Say("A secret."), Call("weather", {}), Say("Cold."))
    async with endpoint(tmp_path, api, models) as (client, control):
        theirs = await client.responses.create(model="interject", input="Keep a secret.")
        asked = await client.chat.completions.create(
            model="interject", messages=[saying("user", "Is it cold?")], tools=[WEATHER]
        )
        [call] = asked.choices[0].message.tool_calls or ()
        limits = {"name": "ci", "scope": "chat", "conversations": ["api:local:ci-*"]}
        made = await control.client.post("/keys", json=limits)
        async with openai.AsyncOpenAI(
            api_key=made.json()["secret"], base_url=f"{control.url}/v1", max_retries=0
        ) as stranger:
            with pytest.raises(openai.NotFoundError):
                await stranger.responses.create(model="interject", input="What was it?", previous_response_id=theirs.id)
            with pytest.raises(openai.NotFoundError):
                await stranger.chat.completions.create(
                    model="interject", messages=[{"role": "tool", "tool_call_id": call.id, "content": "Hot."}]
                )
            with pytest.raises(openai.NotFoundError):
                await stranger.chat.completions.create(model="interject", messages=[saying("user", "Hello")])
    assert len(models.requests) == 2


async def test_pictures_are_shown_to_the_model(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Red."))
    picture = BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    address = f"data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}"
    async with endpoint(tmp_path, api, models, "") as (client, _):
        content = [{"type": "text", "text": "Which colour?"}, {"type": "image_url", "image_url": {"url": address}}]
        await client.chat.completions.create(model="interject", messages=[saying("user", content)])
        remote = [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="interject", messages=[saying("user", remote)])
    assert any(message.images for message in models.requests[0].messages)
    assert refused.value.code == "unsupported_address"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_program_that_goes_away_stops_what_nobody_can_go_on_with(
    tmp_path: Path, models: ModelServer, api: BotApi, stream: bool
) -> None:
    models.script(Say(["One, ", Pause(), "two."]))
    async with endpoint(tmp_path, api, models) as (client, _):

        async def ask() -> None:
            answer: Any = await client.chat.completions.create(
                model="interject", messages=[saying("user", "Count.")], stream=stream
            )
            async for _ in answer:
                pass

        asking = asyncio.create_task(ask())
        held = await models.until_held()
        asking.cancel()
        await asyncio.wait_for(held.disconnection.wait(), 30)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([saying("user", " ")], "invalid_request"),
        ([{"role": "tool", "tool_call_id": "nothing.call", "content": "x"}], "unknown_tool_call"),
        ([saying("assistant", "Hello.")], "no_user_message"),
    ],
)
async def test_what_is_wrong_with_a_request_is_said_before_an_answer_begins(
    tmp_path: Path, models: ModelServer, api: BotApi, stream: bool, messages: Any, code: str
) -> None:
    async with endpoint(tmp_path, api, models) as (client, _):
        with pytest.raises(openai.BadRequestError) as raised:
            await client.chat.completions.create(model="interject", messages=messages, stream=stream)
    assert raised.value.code == code


@pytest.mark.parametrize("answering", [answer_errors, answer_problems])
async def test_an_unexpected_error_is_told_without_its_words(answering: Callable[[FastAPI], None]) -> None:
    app = FastAPI()
    answering(app)

    @app.get("/")
    async def fail() -> None:
        raise RuntimeError("the words of a secret")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.get("/")
    assert answer.status_code == 500
    assert "internal_error" in answer.text
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    "messages",
    [
        [saying("user", "x" * 2_000_001)],
        [saying("system", "x" * 2_000_001), saying("user", "hi")],
        [{"role": "tool", "tool_call_id": "run.call", "content": "x" * 2_000_001}],
        [saying("user", [{"type": "image_url", "image_url": {"url": "data:,x"}}] * 51)],
    ],
)
async def test_what_is_too_much_is_refused(tmp_path: Path, models: ModelServer, api: BotApi, messages: Any) -> None:
    models.respond(lambda _: Say("Hello."))
    async with endpoint(tmp_path, api, models) as (client, _):
        with pytest.raises(openai.APIStatusError) as raised:
            await client.chat.completions.create(model="interject", messages=messages)
    assert raised.value.status_code == 413
    assert not models.requests


@pytest.mark.parametrize("name", ["a/b", "x" * 65, "a b", "a\0b", {"id": 5}, {"id": ["a"]}])
async def test_a_conversation_has_a_plain_name(tmp_path: Path, models: ModelServer, api: BotApi, name: Any) -> None:
    async with endpoint(tmp_path, api, models) as (client, control):
        with pytest.raises(openai.BadRequestError) as raised:
            await client.responses.create(model="interject", input="hi", conversation=name)
        listed = (await control.client.get("/conversations")).json()["conversations"]
    assert raised.value.code == "invalid_conversation"
    assert listed == []


async def test_without_a_key_the_error_is_in_openais_form(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with (
        control_api(tmp_path, api, models) as control,
        openai.AsyncOpenAI(api_key="wrong", base_url=f"{control.url}/v1", max_retries=0) as client,
    ):
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.models.list()
    assert refused.value.code == "key_missing"


async def test_the_example_of_the_guide_runs(
    tmp_path: Path, models: ModelServer, api: BotApi, capsys: pytest.CaptureFixture[str]
) -> None:
    models.respond(lambda _: Say("Nothing yet."))
    [example] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    async with control_api(tmp_path, api, models) as control:
        made = await control.client.post("/keys", json={"name": "notebook", "scope": "chat"})
        names: dict[str, Any] = {"URL": control.url, "KEY": made.json()["secret"]}
        await asyncio.to_thread(exec, compile(example, str(GUIDE), "exec"), names)
    names["client"].close()
    assert capsys.readouterr().out == "Nothing yet.\n"


async def test_one_model_is_found_and_what_does_not_exist_is_named(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with endpoint(tmp_path, api, models, AGENTS) as (client, control):
        found = await client.models.retrieve("interject/poet")
        with pytest.raises(openai.NotFoundError) as missing:
            await client.models.retrieve("gpt-5")
        with pytest.raises(openai.NotFoundError) as nowhere:
            await client.embeddings.create(model="interject", input="Hello")
        wrong = await control.client.delete(f"{control.url}/v1/models")
    assert found.id == "interject/poet"
    assert (missing.value.code, nowhere.value.code) == ("model_not_found", "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["Allow"] == "GET"


async def test_a_request_without_a_key_is_told_what_to_send(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with control_api(tmp_path, api, models) as control, httpx.AsyncClient(trust_env=False) as nobody:
        refused = [await nobody.get(f"{control.url}{path}") for path in ("/api/v1/now", "/v1/models", "/metrics")]
    assert [(each.status_code, each.headers["WWW-Authenticate"]) for each in refused] == [(401, "Bearer")] * 3


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_are_kept_by_no_cache_and_shown_in_no_frame(
    tmp_path: Path, models: ModelServer, api: BotApi, stream: bool
) -> None:
    models.respond(lambda _: Say("Done."))
    async with endpoint(tmp_path, api, models) as (client, _):
        answer = await client.chat.completions.with_raw_response.create(
            model="interject", messages=[saying("user", "Hello")], stream=stream
        )
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
