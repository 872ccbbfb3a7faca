"""The model server of the tests, driven by the real SDKs: what it promises other tests, it keeps here."""

import asyncio
import base64
import contextlib
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from tests.servers.models import (
    Call,
    Drop,
    End,
    Fail,
    Gate,
    Malformed,
    ModelServer,
    Pause,
    Request,
    Say,
    ScriptNotPlayed,
    Silence,
    Think,
    TooLong,
    Turn,
    Usage,
    Wait,
)
from tests.servers.responses import encrypted
from tests.servers.sdks import Called, Heard, Returned, Sdk, StreamFailed, User, sdk

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)

FAILED = (openai.APIError, anthropic.APIError, StreamFailed)
REFUSED = (openai.BadRequestError, anthropic.BadRequestError)
DISCONNECTED = (openai.APIConnectionError, anthropic.APIConnectionError, httpx2.TransportError)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
async def openai_sdk(server: ModelServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic_sdk(server: ModelServer) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=server.anthropic_url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture(params=["openai", "openai-responses", "anthropic"])
async def model(request: pytest.FixtureRequest, server: ModelServer) -> AsyncIterator[Sdk]:
    model = sdk(request.param, server)
    yield model
    await model.close()


async def ask(model: Sdk, text: str = "hi", *, streamed: bool = True) -> Heard:
    return await model.ask(User(text), streamed=streamed)


# Answers


async def test_without_a_script_it_echoes_the_last_user_text(server: ModelServer, model: Sdk) -> None:
    assert (await ask(model, "hello")).text == "You said: hello"
    assert (await ask(model, "again", streamed=False)).text == "You said: again"
    assert [request.stream for request in server.requests] == [True, False]
    assert all(request.status == 200 and request.finished.is_set() for request in server.requests)


async def test_each_argument_of_script_is_one_answer(server: ModelServer, model: Sdk) -> None:
    server.script(Say("one"), [Say("two "), Say("three")])
    assert [(await ask(model)).text for _ in range(3)] == ["one", "two three", "You said: hi"]
    assert server.unplayed == 0


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_answer_carries_reasoning_text_calls_and_usage(
    server: ModelServer, model: Sdk, streamed: bool
) -> None:
    server.script(
        [
            Think("Let me think."),
            Say("Two things: é漢"),
            Call("shell", {"command": "ls -l"}),
            Call("shell", {"command": "pwd"}, id="mine"),
            Usage(input=100, output=20, cached=40),
        ]
    )
    heard = await ask(model, streamed=streamed)
    assert (heard.thoughts, heard.text) == ("Let me think.", "Two things: é漢")
    assert [call.parsed for call in heard.calls] == [{"command": "ls -l"}, {"command": "pwd"}]
    assert heard.calls[1].id == "mine"
    assert heard.finish == "tool_calls"
    assert heard.tokens == (100, 20, 40)


async def test_call_ids_differ_even_between_servers() -> None:
    ids = set()
    for _ in range(2):
        async with (
            ModelServer() as server,
            openai.AsyncOpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client,
        ):
            server.script([Call("a"), Call("b")])
            answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
            ids |= {call.id for call in answer.choices[0].message.tool_calls or ()}
    assert len(ids) == 4


async def test_an_answer_cut_by_its_length_says_so(server: ModelServer, model: Sdk) -> None:
    server.script([Say("and then"), End("length")])
    assert (await ask(model)).finish == "length"


async def test_an_empty_answer_has_no_parts(server: ModelServer, model: Sdk) -> None:
    server.script([])
    heard = await ask(model)
    assert not heard.text
    assert not heard.calls


async def test_broken_arguments_arrive_as_they_are(server: ModelServer, model: Sdk) -> None:
    server.script(Call("shell", '{"command": "l'))
    assert (await ask(model)).calls[0].arguments == '{"command": "l'


async def test_text_and_arguments_arrive_in_the_pieces_asked_for(
    server: ModelServer, openai_sdk: openai.AsyncOpenAI
) -> None:
    server.script([Say("abcdef", pieces=2), Say(["x", "yz"]), Call("shell", "{}", pieces=2)])
    stream = await openai_sdk.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}], stream=True
    )
    deltas = [chunk.choices[0].delta async for chunk in stream]
    assert [delta.content for delta in deltas if delta.content] == ["abc", "def", "x", "yz"]
    calls = [call.function.arguments for d in deltas for call in d.tool_calls or () if call.function]
    assert calls == ["", "{", "}"]


async def test_anthropic_streams_whole_blocks_in_the_documented_order(
    server: ModelServer, anthropic_sdk: anthropic.AsyncAnthropic
) -> None:
    server.script([Say(["a", "b"]), Say("c"), Call("shell", pieces=1)])
    stream = await anthropic_sdk.messages.create(
        model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}], stream=True
    )
    assert [event.type async for event in stream] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


async def test_a_function_can_decide_each_answer(server: ModelServer, model: Sdk) -> None:
    def answer(request: Request) -> Turn:
        return Say(f"{len(request.messages)} {request.model} {','.join(request.tools)}")

    server.respond(answer)
    server.script(Say("scripted first"))
    assert (await ask(model)).text == "scripted first"
    assert (await ask(model)).text == "1 test-model shell"


async def test_an_error_in_a_script_function_fails_the_test() -> None:
    def answer(request: Request) -> Turn:
        raise LookupError("no such answer")

    async def play() -> None:
        async with ModelServer() as server, httpx.AsyncClient() as client:
            server.respond(answer)
            body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
            url = f"{server.openai_url}/chat/completions"
            assert (await client.post(url, json=body, headers={"authorization": "Bearer k"})).status_code == 500

    with pytest.raises(ExceptionGroup) as caught:
        await play()
    assert caught.group_contains(LookupError)


async def test_both_makers_list_their_models(
    openai_sdk: openai.AsyncOpenAI, anthropic_sdk: anthropic.AsyncAnthropic
) -> None:
    assert [model.id async for model in openai_sdk.models.list()] == ["test-model"]
    assert [model.display_name async for model in anthropic_sdk.models.list()] == ["Test model"]


# What was received


async def test_a_request_reads_the_same_in_all_protocols(server: ModelServer, model: Sdk) -> None:
    heard = await model.ask(
        User("look", PNG),
        Heard("Looking.", calls=[Called("a", "shell", '{"command": "ls"}'), Called("b", "shell", "{}")]),
        Returned("a", "file.txt"),
        Returned("b", "Skipped: you spoke"),
        User("stop that"),
        system="Be brief.",
    )
    assert heard.text == "You said: stop that"
    [request] = server.requests
    assert [message.role for message in request.messages] == ["system", "user", "assistant", "tool", "tool", "user"]
    assert request.system == "Be brief."
    assert request.messages[1].images == (PNG,)
    assert [(c.id, c.name, json.loads(c.arguments)) for c in request.messages[2].calls] == [
        ("a", "shell", {"command": "ls"}),
        ("b", "shell", {}),
    ]
    assert request.results == {"a": "file.txt", "b": "Skipped: you spoke"}
    assert request.provider == model.provider
    assert request.headers["content-type"] == "application/json"
    assert request.body["model"] == request.model == "test-model"


async def test_reasoning_can_be_given_back(server: ModelServer, model: Sdk) -> None:
    server.script([Think("hmm"), Call("shell", {}, id="a")])
    heard = await ask(model)
    assert (await model.ask(User("hi"), heard, Returned("a"))).text == "You said: hi"
    assert server.requests[1].messages[1].thoughts == "hmm"


async def test_a_picture_in_a_tool_result_arrives(server: ModelServer, model: Sdk) -> None:
    await model.ask(User("draw"), Heard(calls=[Called("a", "shell", "{}")]), Returned("a", image=PNG))
    assert [image for message in server.requests[0].messages for image in message.images] == [PNG]


# Holding and leaving


async def test_a_pause_holds_the_stream_until_it_is_released(server: ModelServer, model: Sdk) -> None:
    server.script(Say(["Hel", Pause(), "lo"]))
    answer = asyncio.create_task(ask(model))
    request = await server.until_held()
    assert not answer.done()
    assert not request.finished.is_set()
    server.release()
    assert (await answer).text == "Hello"
    assert not request.held


async def test_what_precedes_a_pause_has_reached_the_client(server: ModelServer, model: Sdk) -> None:
    server.script([Say("Hel"), Pause(), Say("lo")])

    def on_text(text: str) -> None:
        if text == "Hel":
            server.release()

    assert (await model.ask(User("hi"), on_text=on_text)).text == "Hello"


async def test_a_release_before_the_pause_is_not_lost(server: ModelServer, model: Sdk) -> None:
    server.release(2)
    server.script([Pause(), Say("a"), Pause(), Say("b")])
    assert (await ask(model)).text == "ab"


async def test_pauses_are_released_in_the_order_they_were_reached(server: ModelServer, model: Sdk) -> None:
    server.script([Pause(), Say("first")], [Pause(), Say("second")])
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(ask(model))
        await server.until_held()
        second = tasks.create_task(ask(model))
        await server.until(lambda: sum(request.held for request in server.requests) == 2)
        server.release()
        assert (await first).text == "first"
        assert not second.done()
        server.release()


async def test_a_gate_opens_for_its_event_only(server: ModelServer, model: Sdk) -> None:
    event = asyncio.Event()
    server.script([Call("shell", ['{"a"', Gate(event), ": 1}"])])
    answer = asyncio.create_task(ask(model))
    request = await server.until_held()
    server.release()
    assert request.held
    event.set()
    assert (await answer).calls[0].parsed == {"a": 1}


@pytest.mark.parametrize(
    "turn", [[Say("partly"), Pause()], [Pause()], [Silence()], [Silence(begun=False)], [Call("shell", ["{", Pause()])]]
)
async def test_a_client_that_leaves_is_noticed(server: ModelServer, model: Sdk, turn: Turn) -> None:
    server.script(turn)
    answer = asyncio.create_task(ask(model))
    request = await server.until_held()
    assert not request.disconnected
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer
    async with asyncio.timeout(60):
        await request.disconnection.wait()
    await server.until(lambda: not request.held)
    assert not request.finished.is_set()
    assert (await ask(model, "still there")).text == "You said: still there"


async def test_leaving_the_server_ends_what_it_holds_and_blames_no_client() -> None:
    async with ModelServer() as server:
        model = sdk("openai", server)
        server.script(Silence())
        held = asyncio.create_task(ask(model))
        request = await server.until_held()
    with pytest.raises(DISCONNECTED):
        await held
    await model.close()
    assert not request.disconnected
    assert not request.finished.is_set()


async def test_waiting_for_what_does_not_come_says_what_came(server: ModelServer, model: Sdk) -> None:
    await ask(model, "only this")
    with pytest.raises(ScriptNotPlayed, match="200 'only this'"):
        await server.until(2, timeout=0.01)


# Faults


@pytest.mark.parametrize("fault", [Fail(401), Fail(429, retry_after=7), Fail(500), TooLong()])
async def test_a_failing_status_arrives_as_its_error(server: ModelServer, model: Sdk, fault: Fail | TooLong) -> None:
    server.script(fault)
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as caught:
        await ask(model)
    assert caught.value.status_code == (fault.status if isinstance(fault, Fail) else 400)
    assert server.requests[0].status == caught.value.status_code
    assert len(server.requests) == 1


async def test_retry_after_is_sent_in_seconds(
    server: ModelServer, openai_sdk: openai.AsyncOpenAI, anthropic_sdk: anthropic.AsyncAnthropic
) -> None:
    server.script(Fail(429, retry_after=7), Fail(429, retry_after=0.5))
    with pytest.raises(openai.RateLimitError) as first:
        await openai_sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(anthropic.RateLimitError) as second:
        await anthropic_sdk.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}])
    assert first.value.response.headers["retry-after"] == "7"
    assert first.value.code == "rate_limit_exceeded"
    assert second.value.response.headers["retry-after"] == "0.5"
    assert second.value.type == "rate_limit_error"


@pytest.mark.parametrize("turn", [[Say("partly"), Fail(529)], [Fail(529, in_stream=True)]])
async def test_a_provider_can_fail_within_the_stream(server: ModelServer, model: Sdk, turn: Turn) -> None:
    server.script(turn)
    with pytest.raises(FAILED):
        await ask(model)
    assert server.requests[0].status == 200


@pytest.mark.parametrize("turn", [Drop(), [Say("partly"), Drop()], [Call("shell", ["{", Drop()])]])
async def test_a_dropped_connection_is_a_connection_error(server: ModelServer, model: Sdk, turn: Turn) -> None:
    server.script(turn)
    with pytest.raises(DISCONNECTED):
        await ask(model)
    assert server.requests[0].dropped
    assert not server.requests[0].disconnected
    assert (await ask(model)).text == "You said: hi"


async def test_what_precedes_a_drop_has_reached_the_client(server: ModelServer, model: Sdk) -> None:
    server.script([Say("partly"), Drop()])
    seen: list[str] = []
    with pytest.raises(DISCONNECTED):
        await model.ask(User("hi"), on_text=seen.append)
    assert seen[-1] == "partly"


@pytest.mark.parametrize("begun", [True, False])
async def test_silence_runs_into_the_clients_timeout(server: ModelServer, model: Sdk, begun: bool) -> None:
    server.script(Silence(begun=begun))
    with pytest.raises(DISCONNECTED):
        await model.ask(User("hi"), timeout=0.2)
    assert server.requests[0].status == (200 if begun else None)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_malformed_event_is_not_json(server: ModelServer, streamed: bool) -> None:
    server.script(*([Say("a"), Malformed()] for _ in range(3)))
    messages, bearer = {"messages": [{"role": "user", "content": "x"}]}, {"authorization": "Bearer k"}
    for url, headers, fields in (
        (f"{server.openai_url}/chat/completions", bearer, messages),
        (f"{server.openai_url}/responses", bearer, {"input": "x"}),
        (
            f"{server.anthropic_url}/v1/messages",
            {"x-api-key": "k", "anthropic-version": "2023-06-01"},
            messages | {"max_tokens": 9},
        ),
    ):
        body = {"model": "m", "stream": streamed, **fields}
        async with httpx.AsyncClient() as client:
            text = (await client.post(url, json=body, headers=headers)).text
        lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith(("data: {", "{"))]
        assert len([line for line in lines if not _is_json(line)]) == 1


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


async def test_the_sdks_stumble_over_a_malformed_event(server: ModelServer, model: Sdk) -> None:
    server.script([Say("a"), Malformed()])
    with pytest.raises((*FAILED, ValueError)):
        await ask(model)


async def test_latency_comes_before_the_first_byte() -> None:
    loop = asyncio.get_running_loop()
    async with (
        ModelServer(latency=0.2) as server,
        openai.AsyncOpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client,
    ):
        started = loop.time()
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=False)
        assert loop.time() - started >= 0.2


async def test_a_wait_and_a_delay_pace_the_stream(server: ModelServer, model: Sdk) -> None:
    loop = asyncio.get_running_loop()
    server.script([Say("abc", pieces=3, delay=0.05), Wait(0.05), Say("d")])
    started = loop.time()
    assert (await ask(model)).text == "abcd"
    assert loop.time() - started >= 0.15


# Rules


async def test_no_key_and_a_wrong_key_are_refused() -> None:
    async with ModelServer(api_key="right") as server, httpx.AsyncClient() as client:
        body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
        version = {"anthropic-version": "2023-06-01"}
        for url, none, wrong, right in (
            (
                f"{server.openai_url}/chat/completions",
                {},
                {"authorization": "Bearer no"},
                {"authorization": "Bearer right"},
            ),
            (
                f"{server.anthropic_url}/v1/messages",
                version,
                version | {"x-api-key": "no"},
                version | {"x-api-key": "right"},
            ),
        ):
            statuses = [
                (await client.post(url, json=body, headers=headers)).status_code for headers in (none, wrong, right)
            ]
            assert statuses == [401, 401, 200]
        assert (await client.get(f"{server.openai_url}/models")).status_code == 401


CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": name, "type": "function", "function": {"name": "shell", "arguments": "{}"}} for name in ("a", "b")
    ],
}
USER = {"role": "user", "content": "x"}


def result(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "done"}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "empty array"),
        ([USER, CALLS], "must be followed by tool messages responding to each 'tool_call_id'.* a, b"),
        ([USER, CALLS, result("a")], "did not have response messages: b"),
        ([USER, CALLS, result("a"), USER, result("b")], "did not have response messages: b"),
        ([USER, result("a")], "must be a response to a preceeding message with 'tool_calls'"),
        ([USER, CALLS, result("a"), result("b"), result("c")], "'tool_call_id' of 'c' not found"),
        ([USER, CALLS, result("a"), result("b"), result("b")], "Duplicate value for 'tool_call_id' of 'b'"),
        ([USER, {"role": "assistant", "content": None}], "expected a string, got null"),
        ([{"role": "narrator", "content": "x"}], "Invalid value: 'narrator'"),
        ([{"role": "user"}], "expected a string or an array"),
        ([USER, {"role": "tool", "content": "x"}], "documented form"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}],
            "image/png",
        ),
    ],
)
async def test_openai_refuses_a_broken_history(
    server: ModelServer, openai_sdk: openai.AsyncOpenAI, messages: list[Any], reason: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=reason) as caught:
        await openai_sdk.chat.completions.create(model="m", messages=messages, stream=True)
    assert caught.value.type == "invalid_request_error"
    [refusal] = server.refusals
    assert re.search(reason, refusal)


async def test_openai_takes_a_complete_history(server: ModelServer, openai_sdk: openai.AsyncOpenAI) -> None:
    messages: list[Any] = [USER, CALLS, result("b"), result("a"), USER, CALLS, result("a"), result("b")]
    answer = await openai_sdk.chat.completions.create(model="m", messages=messages)
    assert answer.choices[0].message.content == "You said: x"
    assert server.refusals == []


def uses(*ids: str) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": name, "name": "shell", "input": {}} for name in ids],
    }


def results(*ids: str) -> dict[str, Any]:
    return {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": name, "content": "done"} for name in ids],
    }


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "at least one message"),
        ([{"role": "assistant", "content": "x"}, USER], 'first message must use the "user" role'),
        ([USER, {"role": "assistant", "content": "x"}], "must end with a user message"),
        ([USER, uses("a", "b"), USER], "without `tool_result` blocks immediately after: a, b"),
        ([USER, uses("a", "b"), results("a")], "without `tool_result` blocks immediately after: b"),
        ([USER, uses("a"), USER, results("a")], "without `tool_result` blocks immediately after: a"),
        ([USER, results("a")], "unexpected `tool_use_id` found in `tool_result` blocks: a"),
        ([USER, uses("a"), results("a", "c")], "unexpected `tool_use_id` found in `tool_result` blocks: c"),
        ([USER, uses("a"), results("a", "a")], "Found multiple `tool_result` blocks with id: a"),
        ([USER, uses("a"), results("a"), uses("a"), results("a")], "`tool_use` ids must be unique"),
        ([{"role": "user", "content": ""}], "non-empty content"),
        ([{"role": "user", "content": [{"type": "text", "text": ""}]}], "text content blocks must be non-empty"),
        ([{"role": "user", "content": " \n"}], "non-whitespace"),
        ([{"role": "tool", "content": "x"}], "Input should be 'user' or 'assistant'"),
        ([{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "n", "input": {}}]}], "not permitted"),
    ],
)
async def test_anthropic_refuses_a_broken_history(
    server: ModelServer, anthropic_sdk: anthropic.AsyncAnthropic, messages: list[Any], reason: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=re.escape(reason)) as caught:
        await anthropic_sdk.messages.create(model="m", max_tokens=9, messages=messages, stream=True)
    assert caught.value.type == "invalid_request_error"
    [refusal] = server.refusals
    assert reason in refusal


async def test_anthropic_takes_a_complete_history_with_consecutive_user_messages(
    server: ModelServer, anthropic_sdk: anthropic.AsyncAnthropic
) -> None:
    messages: list[Any] = [USER, USER, uses("a", "b"), results("b", "a"), {"role": "user", "content": "and?"}]
    answer = await anthropic_sdk.messages.create(model="m", max_tokens=9, messages=messages)
    assert answer.content[0].to_dict()["text"] == "You said: and?"
    assert server.refusals == []


CALL = {"type": "function_call", "call_id": "a", "name": "shell", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "a", "output": "done"}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": encrypted("rs_1")}


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([], "Missing required parameter: 'input'"),
        ([USER, CALL], "No tool output found for function call a"),
        ([USER, OUTPUT], "No tool call found for function call output with call_id a"),
        ([USER, OUTPUT, CALL], "No tool call found for function call output with call_id a"),
        ([USER, CALL, OUTPUT, OUTPUT], "No tool call found for function call output with call_id a"),
        ([USER, REASONING], "'rs_1' of type 'reasoning' was provided without its required following item"),
        ([USER, REASONING, USER], "'rs_1' of type 'reasoning' was provided without its required following item"),
        ([USER, {**REASONING, "encrypted_content": "b2Rk"}], "could not be verified"),
        ([USER, {**REASONING, "content": [{"type": "reasoning_text", "text": "x"}]}], "maximum length 0"),
        ([USER, {"type": "reasoning", "id": "rs_1"}], "Missing required parameter: 'input[1].summary'"),
        ([{**USER, "id": "odd"}], "Expected an ID that begins with 'msg'"),
        ([{"role": "user", "content": [{"type": "text", "text": "x"}]}], "Invalid value: 'text'"),
        ([{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}], "Invalid value: 'input_text'"),
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": {"url": "data:image/png;base64,AAAA"}}],
                }
            ],
            "expected an image URL, but got an object",
        ),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]}], "png"),
        ([{"type": "odd"}], "Invalid value: 'odd'"),
    ],
)
async def test_responses_refuses_a_broken_history(
    server: ModelServer, openai_sdk: openai.AsyncOpenAI, items: list[Any], reason: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=re.escape(reason)):
        await openai_sdk.responses.create(model="m", input=items, store=False, stream=True)
    [refusal] = server.refusals
    assert reason in refusal


@pytest.mark.parametrize("item", [{"type": "item_reference", "id": "msg_1"}, {**REASONING, "encrypted_content": None}])
async def test_responses_knows_no_items_that_it_did_not_store(
    server: ModelServer, openai_sdk: openai.AsyncOpenAI, item: Any
) -> None:
    with pytest.raises(openai.NotFoundError, match="not found"):
        await openai_sdk.responses.create(model="m", input=[item], store=False)


async def test_responses_wants_an_item_with_the_reasoning_that_led_to_it(
    server: ModelServer, openai_sdk: openai.AsyncOpenAI
) -> None:
    server.script([Think("hmm"), Call("shell", {}, id="a")])
    include: Any = ["reasoning.encrypted_content"]
    first = await openai_sdk.responses.create(model="m", input="x", store=False, include=include)
    reasoning, call = (item.to_dict(exclude_none=True) for item in first.output)
    whole: list[Any] = [USER, reasoning, call, OUTPUT]
    with pytest.raises(openai.BadRequestError, match="without its required 'reasoning' item"):
        await openai_sdk.responses.create(model="m", input=[USER, call, OUTPUT], store=False)  # type: ignore[list-item]
    with pytest.raises(openai.BadRequestError, match="without its required following item"):
        await openai_sdk.responses.create(model="m", input=[USER, reasoning, CALL, OUTPUT], store=False)  # type: ignore[list-item]
    assert (await openai_sdk.responses.create(model="m", input=whole, store=False)).output_text == "You said: x"


async def test_responses_keeps_a_conversation_until_it_forgets_it(
    server: ModelServer, openai_sdk: openai.AsyncOpenAI
) -> None:
    server.script(Call("shell", {}, id="a"))
    first = await openai_sdk.responses.create(model="m", input="x")
    output: Any = [OUTPUT]
    second = await openai_sdk.responses.create(model="m", input=output, previous_response_id=first.id)
    assert second.output_text == "You said: x"
    assert [message.role for message in server.requests[1].messages] == ["user", "assistant", "tool"]
    unkept = await openai_sdk.responses.create(model="m", input="y", store=False)
    server.stored.forget()
    for response in (second, unkept):
        with pytest.raises(openai.BadRequestError, match="not found") as caught:
            await openai_sdk.responses.create(model="m", input="z", previous_response_id=response.id)
        assert caught.value.code == "previous_response_not_found"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"messages": []}, "Unknown parameter: 'messages'"),
        ({"max_output_tokens": 5}, "Expected a value >= 16"),
        ({"reasoning": {"effort": "odd"}}, "Invalid value: 'odd'"),
        ({"include": ["odd"]}, "Invalid value: 'odd'"),
        ({"tools": [{"type": "function", "function": {"name": "shell"}}]}, "'tools[0].name'"),
    ],
)
async def test_responses_refuses_fields_that_it_does_not_know(
    openai_sdk: openai.AsyncOpenAI, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=re.escape(reason)):
        await openai_sdk.responses.create(model="m", input="x", extra_body=fields)


async def test_a_refusal_arrives_as_a_rejected_request(server: ModelServer, model: Sdk) -> None:
    with pytest.raises(REFUSED):
        await model.ask(User("x"), Heard(calls=[Called("a", "shell", "{}")]), User("y"))
    assert len(server.refusals) == 1


async def test_a_body_that_is_not_json_is_refused(server: ModelServer) -> None:
    async with httpx.AsyncClient() as client:
        url = f"{server.openai_url}/chat/completions"
        for content in (b"{", b"[]", b"\xff"):
            response = await client.post(url, content=content, headers={"authorization": "Bearer k"})
            assert response.status_code == 400
            assert response.json()["error"]["type"] == "invalid_request_error"


# As a process


async def test_it_runs_as_a_process_that_prints_its_port() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.servers.models", "--latency", "0.01", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            port = int(await process.stdout.readline())
            url = f"http://127.0.0.1:{port}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
                answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
            assert answer.choices[0].message.content == "You said: hi"
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
