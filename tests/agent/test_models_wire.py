"""Model servers byte for byte: the quirks of real ones, played by a server that knows nothing of our code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent.events import Delta, ReasoningDelta, TextDelta
from agent.log import Call, MessagesRead, ModelAnswered, Native, Part, Text, Thinking, Usage, UserMessage
from agent.model import Answer, ModelError, ModelSettings, Request, ToolSpec
from agent.models.metering import MeteredModel
from agent.models.prices import Price
from agent.models.protocols import anthropic_messages, chat_completions
from agent.models.protocols.wire import Feature, ProtocolName, Target
from agent.models.provider import ModelOptions, Provider, Timeouts
from agent.models.providers import ProviderModel
from agent.models.retry import RetryingModel
from agent.testing import MemoryMedia
from agent.transcript import Exchange, Result, Results, SystemNote
from tests.servers.raw_models import (
    KeepAlive,
    KeepOpen,
    RawModelServer,
    Reset,
    Step,
    Steps,
    Wait,
    chunk,
    head,
    sse,
    stream_head,
    whole,
)

LOOK = ToolSpec("look", "Looks.", {"type": "object", "properties": {"at": {"type": "string"}}})


@dataclass(slots=True)
class Line:
    """A server of bytes and the models that ask it."""

    server: RawModelServer
    deltas: list[Delta] = field(default_factory=list)
    models: list[ProviderModel] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def model(self, protocol: ProtocolName = "openai", name: str = "it", **options: Any) -> ProviderModel:
        provider = Provider(**{"name": name, "protocol": protocol, "base_url": f"{self.server.url}/v1", **options})
        model = ProviderModel(provider, ModelOptions("test-model"), MemoryMedia())
        self.models.append(model)
        return model

    async def ask(self, model: ProviderModel | RetryingModel | MeteredModel, *transcript: Exchange) -> Answer:
        return await model.answer(Request("Be kind.", transcript or (user("Hello"),), (LOOK,)), self.on_delta)

    async def on_delta(self, delta: Delta) -> None:
        self.deltas.append(delta)
        self.told.set()

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta, TextDelta))

    @property
    def thoughts(self) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta, ReasoningDelta))


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with RawModelServer() as server:
        line = Line(server)
        yield line
        for model in line.models:
            await model.aclose()


def user(text: str) -> MessagesRead:
    return MessagesRead(1, (UserMessage(1, "Ann", text),))


def delta(reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "real-name", "choices": [{"index": 0, "delta": fields, "finish_reason": reason}]}


HELLO = (delta(role="assistant", content=""), delta(content="Hello, "), delta(content="Ann."), delta("stop"))
SAID = (Text("Hello, Ann."),)

BLOCKS = (
    {"type": "message_start", "message": {"id": "m1", "model": "real-name", "usage": {"input_tokens": 7}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello, "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Ann."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
    {"type": "message_stop"},
)


def blocks(*contents: dict[str, Any], reason: str = "end_turn") -> list[dict[str, Any]]:
    """The events of a message with these blocks, each told whole at its beginning."""
    start, *_, stop = BLOCKS
    opened = [
        {"type": "content_block_start", "index": index, "content_block": content}
        for index, content in enumerate(contents)
    ]
    return [start, *opened, {"type": "message_delta", "delta": {"stop_reason": reason}}, stop]


# Streams


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
async def test_lines_may_end_as_they_like_and_bytes_may_be_cut_anywhere(line: Line, newline: str) -> None:
    stream = b"\xef\xbb\xbf: OPENROUTER PROCESSING" + 2 * newline.encode()
    stream += f"id: 1{newline}retry: 10{newline}".encode() + sse(*HELLO, "[DONE]", newline=newline, name="message")
    line.server.script([stream_head(), *(bytes([byte]) for byte in stream)])
    assert (await line.ask(line.model())).parts == SAID
    assert line.text == "Hello, Ann."


async def test_data_in_several_lines_is_one_event(line: Line) -> None:
    first = b'data: {"choices": [{"delta":\ndata:{"content": "Hello, Ann."}}]}\n\n'
    line.server.script([stream_head(), first, sse(delta("stop"), "[DONE]")])
    assert (await line.ask(line.model())).parts == SAID


@pytest.mark.parametrize("events", [BLOCKS, [{**event, "odd": 1} for event in BLOCKS]])
async def test_a_messages_stream_needs_no_event_lines(line: Line, events: Sequence[dict[str, Any]]) -> None:
    line.server.script([stream_head("text/plain"), sse(*events)])
    answer = await line.ask(line.model("anthropic"))
    assert (answer.parts, answer.model, answer.usage) == (SAID, "real-name", Usage(input=7, output=3))


async def test_the_last_event_needs_no_empty_line(line: Line) -> None:
    line.server.script([stream_head(), sse(*HELLO[:-1]), sse(HELLO[-1]).rstrip(b"\n")])
    assert (await line.ask(line.model())).parts == SAID


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
async def test_an_answer_may_come_as_one_object(line: Line, content_type: str) -> None:
    message = {"role": "assistant", "content": "Hello, Ann."}
    usage = {"prompt_tokens": 9, "completion_tokens": 4}
    body = {
        "model": "real-name",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }
    line.server.script(whole(body, content_type=content_type))
    answer = await line.ask(line.model())
    assert (answer.parts, answer.usage, line.text) == (SAID, Usage(input=9, output=4), "Hello, Ann.")


async def test_a_message_may_come_as_one_object(line: Line) -> None:
    content = [
        {"type": "text", "text": "Hello, Ann."},
        {"type": "tool_use", "id": "t", "name": "look", "input": {"at": 5}},
    ]
    line.server.script(whole({"type": "message", "content": content, "stop_reason": "tool_use", "usage": {}}))
    answer = await line.ask(line.model("anthropic"))
    assert (answer.parts, answer.finish) == ((*SAID, Call("t", "look", '{"at": 5}')), "calls")


@pytest.mark.parametrize(("events", "seconds"), [([*HELLO], 2.5), ([*HELLO, "[DONE]"], 0.9)])
async def test_a_whole_answer_is_taken_though_the_connection_stays_open(
    line: Line, events: Sequence[object], seconds: float
) -> None:
    line.server.script([stream_head(), sse(*HELLO)], [stream_head(), sse(*events), KeepOpen()])
    model = line.model()
    await line.ask(model)
    began = time.monotonic()
    assert (await line.ask(model)).parts == SAID
    assert time.monotonic() - began < seconds
    await line.server.requests[1].until_left()


async def test_counts_of_tokens_that_come_late_are_taken(line: Line) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}
    line.server.script([stream_head(), sse(*HELLO), Wait(0.2), sse(usage, "[DONE]")])
    assert (await line.ask(line.model())).usage == Usage(input=9, output=4)


async def test_a_connection_is_used_again(line: Line) -> None:
    answer: Steps = [
        head(content_type="text/event-stream", transfer_encoding="chunked"),
        chunk(sse(*HELLO)),
        chunk(sse("[DONE]")),
        chunk(b""),
        KeepAlive(),
    ]
    line.server.script(answer, answer, answer)
    model = line.model()
    for _ in range(3):
        await line.ask(model)
    assert line.server.connections == 1


@pytest.mark.parametrize("end", [[], [Reset()]])
async def test_a_kept_connection_that_the_server_has_closed_costs_no_attempt(line: Line, end: list[Step]) -> None:
    refusal = whole({"error": {"message": "temperature is not supported"}}, status=400)
    line.server.script([refusal, KeepAlive()], end, [stream_head(), sse(*HELLO)])
    assert (await line.ask(line.model())).parts == SAID
    assert [request.connection for request in line.server.requests] == [1, 1, 2]


@pytest.mark.parametrize("before", [[], [Wait(1.2)], [stream_head(), sse(HELLO[0])]])
async def test_a_request_that_the_server_may_have_begun_to_answer_is_not_sent_again(
    line: Line, before: list[Step]
) -> None:
    """The first: a new connection. The second: one that fails too late. The third: one that has begun."""
    earlier = 1 if before else 0
    line.server.script(*[[whole("busy", status=503), KeepAlive()]] * earlier, [*before, Reset()])
    model = line.model()
    for _ in range(earlier + 1):
        with pytest.raises(ModelError) as raised:
            await line.ask(model)
    assert raised.value.kind == "network"
    assert len(line.server.requests) == earlier + 1


async def test_cancelling_closes_the_connection_within_fifty_milliseconds(line: Line) -> None:
    line.server.script([stream_head(), sse(*HELLO[:2]), KeepOpen()])
    answering = asyncio.create_task(line.ask(line.model()))
    await line.told.wait()
    cancelled = time.monotonic()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert await line.server.requests[0].until_left() - cancelled < 0.05


async def test_signs_of_life_are_not_the_first_piece_and_keep_a_begun_answer_alive(line: Line) -> None:
    pings: list[Step] = [sse({"type": "ping"}), Wait(0.1)]
    line.server.script(
        [stream_head(), sse(BLOCKS[0]), *pings * 20],
        [stream_head(), sse(*BLOCKS[:3]), *pings * 10, sse(*BLOCKS[3:])],
    )
    model = line.model("anthropic", timeouts=Timeouts(first_token=0.8, silence=0.8))
    with pytest.raises(ModelError) as raised:
        await line.ask(model)
    assert raised.value.kind == "timeout"
    assert (await line.ask(model)).parts == SAID


@pytest.mark.parametrize(
    ("protocol", "steps"),
    [
        ("openai", [stream_head(), sse(*HELLO[:-1])]),
        ("openai", [stream_head(), sse(*HELLO[:-1]), Reset()]),
        ("openai", [stream_head()]),
        ("anthropic", [stream_head(), sse(*BLOCKS[:-2])]),
        ("anthropic", [stream_head(), sse(*BLOCKS[:1])]),
    ],
)
async def test_a_stream_without_a_reason_for_its_end_is_a_cut_and_asked_again(
    line: Line, protocol: ProtocolName, steps: Steps
) -> None:
    good = [stream_head(), sse(*(HELLO if protocol == "openai" else BLOCKS))]
    line.server.script(steps, good)

    async def at_once(seconds: float) -> None:
        await asyncio.sleep(0)

    answer = await line.ask(RetryingModel(line.model(protocol), sleep=at_once))
    assert (answer.parts, len(line.server.requests)) == (SAID, 2)


async def test_a_connection_that_breaks_after_the_end_costs_nothing(line: Line) -> None:
    line.server.script(
        [head(content_type="text/event-stream", transfer_encoding="chunked"), chunk(sse(*HELLO)), Reset()]
    )
    assert (await line.ask(line.model())).parts == SAID


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("length", "length"),
        ("max_tokens", "length"),
        ("content_filter", "refused"),
        ("SAFETY", "refused"),
        ("content_filter: PROHIBITED_CONTENT", "refused"),
        ("model_context_window_exceeded", "length"),
        ("eos", "stop"),
    ],
)
async def test_a_reason_for_the_end_says_what_the_answer_is(line: Line, reason: str, finish: str) -> None:
    line.server.script([stream_head(), sse(delta(content="Half"), delta(reason))])
    answer = await line.ask(line.model())
    assert (answer.parts, answer.finish) == ((Text("Half"),), finish)


@pytest.mark.parametrize(
    "reason",
    [
        *("error", "network_error", "insufficient_system_resource"),
        "function_call_filter: MALFORMED_FUNCTION_CALL",
    ],
)
async def test_an_answer_that_the_server_gave_up_is_no_answer(line: Line, reason: str) -> None:
    line.server.script([stream_head(), sse(delta(content="Half"), delta(reason), "[DONE]")])
    with pytest.raises(ModelError) as raised:
        await line.ask(line.model())
    assert (raised.value.kind, raised.value.was_answer) == ("server", True)


@pytest.mark.parametrize(
    ("protocol", "events"),
    [
        ("openai", [delta("content_filter")]),
        ("anthropic", blocks(reason="refusal")),
    ],
)
async def test_a_refusal_without_a_word_is_an_error(line: Line, protocol: ProtocolName, events: list[object]) -> None:
    line.server.script([stream_head(), sse(*events)])
    with pytest.raises(ModelError) as raised:
        await line.ask(line.model(protocol))
    assert raised.value.kind == "refused"


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"error": {"message": "Rate limit reached", "code": 429}}, "rate_limit"),
        ({"error": "upstream is overloaded"}, "overloaded"),
        ({"object": "error", "message": "the prompt is too long", "code": 400}, "too_long"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "overloaded"),
        ({**delta("error"), "error": {"code": 502, "message": "Provider disconnected"}}, "server"),
        (
            {"choices": [{"delta": {}, "finish_reason": "error", "error": {"code": 429, "message": "Slow down"}}]},
            "rate_limit",
        ),
        ({"choices": [], "x_groq": {"id": "req_1", "error": "over capacity"}}, "overloaded"),
    ],
)
async def test_an_error_inside_of_a_stream_is_told_in_any_form(line: Line, event: dict[str, Any], kind: str) -> None:
    line.server.script([stream_head(), sse(delta(content="Half"), event)])
    with pytest.raises(ModelError) as raised:
        await line.ask(line.model())
    assert raised.value.kind == kind


BEGINNINGS: dict[ProtocolName, dict[str, Any]] = {
    "openai": delta(content="Half"),
    "openai-responses": {"type": "response.output_text.delta", "delta": "Half"},
    "anthropic": {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Half"}},
}


@pytest.mark.parametrize("protocol", ["openai", "openai-responses", "anthropic"])
@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (sse({"error": {"message": "Rate limit reached", "type": "rate_limit_error", "code": "429"}}), "rate_limit"),
        (sse({"type": "server_error", "code": 500, "message": "Overloaded."}, name="error"), "overloaded"),
        (sse({"code": 500, "message": "Broken."}, name="error"), "server"),
        # llama.cpp has sent errors in a field of that name, and other servers outside of events.
        (b'error: {"code":500,"message":"Context size has been exceeded.","type":"server_error"}\n\n', "too_long"),
        (b'{"error":{"message":"The account has no credits","code":402}}\n', "billing"),
    ],
)
async def test_an_error_that_is_none_of_the_protocols_own_is_told_too(
    line: Line, protocol: ProtocolName, end: bytes, kind: str
) -> None:
    line.server.script([stream_head(), sse(BEGINNINGS[protocol]), end])
    with pytest.raises(ModelError) as raised:
        await line.ask(line.model(protocol))
    assert raised.value.kind == kind


@pytest.mark.parametrize(
    ("body", "kind", "detail"),
    [
        ("upstream connect error or disconnect/reset before headers", "server", "upstream connect error"),
        (
            [{"error": {"code": 503, "message": "The model is at capacity.", "status": "UNAVAILABLE"}}],
            "overloaded",
            "The model is at capacity.",
        ),
        ('"error: no healthy upstream"', "server", "no healthy upstream"),
    ],
)
async def test_words_in_place_of_an_answer_are_those_of_an_error(
    line: Line, body: object, kind: str, detail: str
) -> None:
    line.server.script(whole(body, content_type="text/plain"))
    with pytest.raises(ModelError) as raised:
        await line.ask(line.model())
    assert raised.value.kind == kind
    assert detail in raised.value.detail


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        [head(200, content_type="text/event-stream", x_policy="x" * 20_000), sse(*HELLO)],
        [head(200, content_length="5", transfer_encoding="chunked"), chunk(sse(*HELLO)), chunk(b"")],
    ],
)
async def test_what_is_not_http_is_trouble_with_the_connection(line: Line, answer: Steps) -> None:
    line.server.script(answer)
    with pytest.raises(ModelError) as raised:
        await line.ask(line.model())
    assert raised.value.kind == "network"


@pytest.mark.parametrize(
    "end",
    [
        [head(401, content_type="application/json", content_encoding="gzip", connection="close"), b"not zipped"],
        [head(401, content_length="1000"), b"{", Wait(0.05), Reset()],
    ],
)
async def test_the_status_counts_though_the_body_cannot_be_read(line: Line, end: list[Step]) -> None:
    line.server.script(end)
    with pytest.raises(ModelError) as raised:
        await line.ask(line.model())
    assert (raised.value.kind, raised.value.status) == ("auth", 401)


async def test_a_long_call_in_the_text_has_begun_though_nothing_of_it_is_shown(line: Line) -> None:
    pieces = [step for _ in range(15) for step in (sse(delta(content=" word")), Wait(0.1))]
    call = ['<tool_call>{"name": "look", "arguments": {"at": "', '"}}</tool_call>']
    line.server.script(
        [stream_head(), sse(delta(content=call[0])), *pieces, sse(delta(content=call[1]), delta("stop"), "[DONE]")]
    )
    answer = await line.ask(line.model(timeouts=Timeouts(first_token=0.8, silence=0.8)))
    assert [part.name for part in answer.parts if isinstance(part, Call)] == ["look"]


async def test_comments_keep_a_begun_answer_alive_and_not_a_whole_one(line: Line) -> None:
    comments: list[Step] = [b": keep-alive\n\n", Wait(0.1)]
    line.server.script(
        [stream_head(), sse(*HELLO[:2]), *comments * 15, sse(*HELLO[2:], "[DONE]")],
        [stream_head(), sse(*HELLO), *comments * 600],
    )
    model = line.model(timeouts=Timeouts(first_token=0.8, silence=0.8))
    assert (await line.ask(model)).parts == SAID
    async with asyncio.timeout(30):
        assert (await line.ask(model)).parts == SAID


@pytest.mark.parametrize("protocol", ["openai", "openai-responses", "anthropic"])
@pytest.mark.parametrize("in_stream", [False, True])
@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (1000, "unknown error", "server"),
        (1001, "request timeout", "timeout"),
        (1002, "rate limit", "rate_limit"),
        (1004, "login fail: please carry the API secret key", "auth"),
        (1008, "insufficient balance", "billing"),
        (1027, "output new_sensitive", "refused"),
        (2013, "invalid params, context window exceeds limit", "too_long"),
        (2013, "invalid params, bad tool schema", "bad_request"),
    ],
)
async def test_an_error_with_the_status_of_an_answer_is_told(
    line: Line, protocol: ProtocolName, in_stream: bool, code: int, message: str, kind: str
) -> None:
    error = {"id": "c1", "choices": None, "base_resp": {"status_code": code, "status_msg": message}}
    line.server.script([stream_head(), sse(error)] if in_stream else whole(error))
    with pytest.raises(ModelError) as raised:
        await line.ask(line.model(protocol))
    assert raised.value.kind == kind


@pytest.mark.parametrize("protocol", ["openai", "openai-responses", "anthropic"])
async def test_an_object_that_is_no_answer_says_what_is_wrong(line: Line, protocol: ProtocolName) -> None:
    line.server.script(whole({"code": 400, "msg": "no such field: tools[0].strict", "success": False}))
    with pytest.raises(ModelError, match=r"no such field: tools\[0\]\.strict"):
        await line.ask(line.model(protocol))


async def test_an_answer_that_says_that_nothing_failed_is_one(line: Line) -> None:
    *said, end = HELLO
    line.server.script([stream_head(), sse(*said, {**end, "base_resp": {"status_code": 0, "status_msg": ""}})])
    assert (await line.ask(line.model())).parts == SAID


@pytest.mark.parametrize("protocol", ["openai", "openai-responses", "anthropic"])
@pytest.mark.parametrize("in_stream", [False, True])
async def test_a_key_that_an_error_with_the_status_of_an_answer_quotes_is_not_shown(
    line: Line, protocol: ProtocolName, in_stream: bool
) -> None:
    key = "sk-very-secret-4711"
    error = {"error": {"message": f"no such thing for {key}", "code": 400}}
    line.server.script([stream_head(), sse({"type": "error", **error})] if in_stream else whole(error))
    with pytest.raises(ModelError) as raised:
        await line.ask(line.model(protocol, keys=(key,)))
    assert "no such thing" in str(raised.value)
    assert key not in f"{raised.value} {raised.value.detail}"


async def test_a_page_in_place_of_an_answer_names_the_base_url(line: Line) -> None:
    line.server.script(whole("<!doctype html><title>Welcome</title>", content_type="text/html"))
    with pytest.raises(ModelError, match="base_url") as raised:
        await line.ask(line.model())
    assert raised.value.kind == "auth"


async def test_a_redirect_is_not_followed_with_the_key(line: Line) -> None:
    line.server.script([head(307, location=f"{line.server.url}/elsewhere", content_length="0")])
    with pytest.raises(ModelError):
        await line.ask(line.model(keys=("sk-1",)))
    assert len(line.server.requests) == 1


async def test_an_event_without_end_is_given_up(line: Line) -> None:
    line.server.script([stream_head(), b"data: ", *[b"x" * 2**20] * 17, KeepOpen()])
    with pytest.raises(ModelError) as raised:
        await line.ask(line.model())
    assert raised.value.kind == "server"


# Requests


async def test_the_address_the_headers_and_the_body_are_as_the_operator_says(line: Line) -> None:
    line.server.script([stream_head(), sse(*HELLO)])
    model = line.model(
        base_url=f"{line.server.url}/deployments/gpt?api-version=2025-01-01",
        query={"team": "a b"},
        keys=("sk-1",),
        key_header="api-key",
        headers={"X-Title": "Interject"},
        extra_body={"provider": {"order": ["first"]}, "stream_options": {"include_usage": False}},
    )
    await line.ask(model)
    (request,) = line.server.requests
    assert request.target == "/deployments/gpt/chat/completions?api-version=2025-01-01&team=a+b"
    assert (request.headers["api-key"], request.headers["x-title"]) == ("sk-1", "Interject")
    assert "authorization" not in request.headers
    assert request.json["provider"] == {"order": ["first"]}
    assert request.json["stream_options"] == {"include_usage": False}


async def test_without_a_key_none_is_sent(line: Line) -> None:
    line.server.script([stream_head(), sse(*HELLO)], [stream_head(), sse(*BLOCKS)])
    await line.ask(line.model())
    await line.ask(line.model("anthropic"))
    assert [request.target for request in line.server.requests] == ["/v1/chat/completions", "/v1/messages"]
    for request in line.server.requests:
        assert not {"authorization", "x-api-key"} & set(request.headers)


async def test_options_of_the_model_hold_where_the_request_leaves_a_value_open(line: Line) -> None:
    line.server.script([stream_head(), sse(*HELLO)])
    options = ModelOptions("test-model", ModelSettings(temperature=0.5, top_p=0.9, reasoning="high"), tools=False)
    model = ProviderModel(Provider("it", "openai", line.server.url), options, MemoryMedia())
    line.models.append(model)
    request = Request("", (user("Hello"),), (LOOK,), settings=ModelSettings(temperature=0.1))
    await model.answer(request, line.on_delta)
    sent = line.server.requests[0].json
    assert (sent["temperature"], sent["top_p"], sent["reasoning_effort"]) == (0.1, 0.9, "high")
    assert "tools" not in sent


# What providers want to see again


async def answers_and_is_asked_on(
    line: Line, model: ProviderModel, events: Sequence[object], then: ProviderModel | None = None
) -> tuple[tuple[Part, ...], dict[str, Any]]:
    """The parts of the answer, and the body of the next request, with a result for each call, to `then`."""
    anthropic_next = [stream_head(), sse(*BLOCKS)]
    line.server.script([stream_head(), sse(*events)])
    line.server.respond(
        lambda request: anthropic_next if request.target.endswith("messages") else [stream_head(), sse(*HELLO)]
    )
    parts = (await line.ask(model)).parts
    answered = ModelAnswered(1, parts)
    results = [Results(tuple(Result(call, "done", "seen") for call in answered.calls))] if answered.calls else []
    await line.ask(then or model, user("Hello"), answered, *results, user("And?"))
    return parts, line.server.requests[-1].json


CALL = {"index": 0, "id": "c1", "function": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_reasoning_is_sent_back_in_the_field_that_it_came_in_with_calls_only(line: Line, name: str) -> None:
    thinking = [delta(**{name: "I "}), delta(**{name: "look."})]
    parts, body = await answers_and_is_asked_on(line, line.model(), [*thinking, delta("tool_calls", tool_calls=[CALL])])
    assert parts[0] == Thinking("I look.", None, name, "it")
    assert body["messages"][2][name] == "I look."
    _, body = await answers_and_is_asked_on(line, line.model(), [*thinking, *HELLO])
    assert name not in body["messages"][2]


@pytest.mark.parametrize("last", [{"text": "", "signature": "c2ln"}, {"signature": "c2ln"}])
async def test_details_of_reasoning_are_put_together_and_sent_back_to_their_provider_only(
    line: Line, last: dict[str, str]
) -> None:
    detail = {"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1"}
    hidden = {"type": "reasoning.encrypted", "data": "c2VjcmV0", "id": "r2", "index": 1}
    events = [
        delta(reasoning="I ", reasoning_details=[{**detail, "text": "I ", "signature": None}]),
        delta(reasoning="look.", reasoning_details=[{**detail, "text": "look."}]),
        delta(reasoning_details=[{**detail, **last}, hidden]),
        delta("tool_calls", tool_calls=[CALL]),
    ]
    _, body = await answers_and_is_asked_on(line, line.model(), events)
    assert body["messages"][2]["reasoning_details"] == [{**detail, "text": "I look.", "signature": "c2ln"}, hidden]
    assert line.thoughts == "I look."
    _, body = await answers_and_is_asked_on(line, line.model(), events, line.model(name="other"))
    assert not {"reasoning", "reasoning_details"} & set(body["messages"][2])


async def test_signatures_of_calls_are_sent_back_with_them_to_their_provider_only(line: Line) -> None:
    signed = {**CALL, "extra_content": {"google": {"thought_signature": "c2ln"}}}
    second = {"index": 1, "id": "c2", "function": {"name": "look", "arguments": '{"at": "it"}'}}
    events = [delta(tool_calls=[signed]), delta("tool_calls", tool_calls=[second])]
    parts, body = await answers_and_is_asked_on(line, line.model(), events)
    assert parts == (Call("c1", "look", "{}", "c2ln", "it"), Call("c2", "look", '{"at": "it"}'))
    first_call, second_call = body["messages"][2]["tool_calls"]
    assert first_call["extra_content"] == {"google": {"thought_signature": "c2ln"}}
    assert "extra_content" not in second_call
    _, body = await answers_and_is_asked_on(line, line.model(), events, line.model(name="other"))
    assert "extra_content" not in body["messages"][2]["tool_calls"][0]


async def test_thinking_is_sent_back_as_it_came_signed_hidden_or_unsigned(line: Line) -> None:
    use = {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "it"}}
    contents: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "aGlkZGVu"},
        {"type": "thinking", "thinking": "Unsigned."},
        use,
    ]
    events = blocks(*contents, reason="tool_use")
    _, body = await answers_and_is_asked_on(line, line.model("anthropic"), events)
    assert body["messages"][1]["content"] == contents
    _, body = await answers_and_is_asked_on(line, line.model("anthropic"), events, line.model("anthropic", "other"))
    assert body["messages"][1]["content"] == [use]


async def test_thinking_whose_signature_did_not_come_is_not_sent_back(line: Line) -> None:
    cut = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    _, body = await answers_and_is_asked_on(
        line, line.model("anthropic"), blocks(cut, {"type": "text", "text": "So."}, reason="max_tokens")
    )
    assert [block["type"] for block in body["messages"][1]["content"]] == ["text"]


async def test_an_answer_of_reasoning_only_is_the_answer(line: Line) -> None:
    line.server.script(
        [stream_head(), sse(delta(reasoning_content="It is "), delta("stop", reasoning_content="four."))]
    )
    assert (await line.ask(line.model())).parts == (Text("It is four."),)
    assert line.text == "It is four."


async def test_nothing_to_add_is_an_answer_without_parts(line: Line) -> None:
    line.server.script([stream_head(), sse(*blocks())])
    answer = await line.ask(line.model("anthropic"))
    assert (answer.parts, answer.finish) == ((), "stop")


async def test_text_in_parts_with_thinking_is_read(line: Line) -> None:
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]
    line.server.script(
        [stream_head(), sse(delta(content=thinking), delta("stop", content=[{"type": "text", "text": "Four."}]))]
    )
    answer = await line.ask(line.model())
    assert (answer.parts[-1], line.thoughts, line.text) == (Text("Four."), "Hm.", "Four.")


async def test_a_cost_that_the_provider_tells_is_taken(line: Line) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 1000, "cost": 0.0125}
    line.server.script([stream_head(), sse(*HELLO, {"choices": [], "usage": usage}, "[DONE]")])
    answer = await line.ask(MeteredModel(line.model(), "it:test-model", Price(input=5, output=5)))
    assert answer.usage.cost == 0.0125


@pytest.mark.parametrize(
    ("usage", "known"),
    [
        ({"prompt_cache_hit_tokens": 6}, Usage(10, 5, cache_read=6)),
        ({"cached_tokens": 6}, Usage(10, 5, cache_read=6)),
        ({"prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 2}}, Usage(10, 5, 6, 2)),
        ({"completion_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 15}, Usage(10, 5, reasoning=3)),
        ({"completion_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 18}, Usage(10, 8, reasoning=3)),
    ],
)
async def test_tokens_are_counted_as_each_server_does(line: Line, usage: dict[str, Any], known: Usage) -> None:
    counts = {"prompt_tokens": 10, "completion_tokens": 5, **usage}
    line.server.script([stream_head(), sse(*HELLO[:-1], {**HELLO[-1], "usage": counts}, "[DONE]")])
    assert (await line.ask(line.model())).usage == known


async def test_a_count_that_is_0_at_the_end_is_the_one_before(line: Line) -> None:
    *said, end, stop = BLOCKS
    line.server.script([stream_head(), sse(*said, {**end, "usage": {"input_tokens": 0, "output_tokens": 3}}, stop)])
    assert (await line.ask(line.model("anthropic"))).usage == Usage(7, 3)


def texts(*contents: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content} for content in contents]


@pytest.mark.parametrize(
    ("contents", "shown"),
    [
        (("<think>Hm.</think>", "Four."), "Four."),
        (("Four.", "<think>Hm.</think>"), "Four."),
        (("<think>Hm.</think>", ""), "Hm."),
        (("<think>Four.", ""), "Four."),
        (("Four, ", "<think>or five."), "Four, or five."),
        (("Pears:", "\n\n- green", "\n- ripe"), "Pears:\n\n- green\n- ripe"),
        (("\n\nFour.",), "Four."),
    ],
)
async def test_a_text_in_several_blocks_is_one_text(line: Line, contents: tuple[str, ...], shown: str) -> None:
    line.server.script([stream_head(), sse(*blocks(*texts(*contents)))])
    answer = await line.ask(line.model("anthropic"))
    assert answer.text == shown
    assert line.text == shown


@pytest.mark.parametrize("after", [True, False])
async def test_thoughts_in_a_block_of_their_own_beside_a_call_are_not_shown(line: Line, after: bool) -> None:
    use = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
    contents = texts("<think>Hm.</think>")
    contents.insert(0 if after else 1, use)
    line.server.script([stream_head(), sse(*blocks(*contents, reason="tool_use"))])
    answer = await line.ask(line.model("anthropic"))
    assert {type(part) for part in answer.parts} == {Thinking, Call}
    assert (line.text, line.thoughts) == ("", "Hm.")


async def test_thoughts_in_a_message_of_their_own_are_not_shown(line: Line) -> None:
    items = [
        {"type": "message", "id": f"msg_{number}", "content": [{"type": "output_text", "text": content}]}
        for number, content in enumerate(("<think>Hm.</think>", "Four."))
    ]
    events = [
        {"type": "response.output_item.done", "output_index": index, "item": item} for index, item in enumerate(items)
    ]
    end = {"type": "response.completed", "response": {"id": "resp_1", "output": items}}
    line.server.script([stream_head(), sse(*events, end)])
    await line.ask(line.model("openai-responses"))
    assert (line.text, line.thoughts) == ("Four.", "Hm.")


# The grammar of what is sent

ID = "0123456789ab_1_0"
LOOKED = Call(ID, "look", '{"at": "it"}')
STEERED = (
    user("Look"),
    ModelAnswered(1, (Text("I look."), LOOKED)),
    Results((Result(LOOKED, "done", "a cat"),)),
    user("Wait"),
    user("And?"),
    SystemNote("Soon out of steps."),
)


def chat(transcript: Sequence[Exchange], *without: Feature, instructions: str = "Be kind.", **fields: Any) -> Any:
    request = replace(Request(instructions, transcript, (LOOK,)), **fields)
    return chat_completions.body(request, {}, Target("it", "test-model", frozenset(without)))


def messages_body(
    transcript: Sequence[Exchange], *without: Feature, model: str = "claude-sonnet-4-5", **fields: Any
) -> Any:
    request = replace(Request("Be kind.", transcript, (LOOK,)), **fields)
    return anthropic_messages.body(request, {}, Target("it", model, frozenset(without)))


def test_roles_alternate_where_the_model_demands_it() -> None:
    messages = chat(STEERED, "consecutive_roles")["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert messages[-1]["content"] == "Wait\n\nAnd?\n\n[Soon out of steps.]"
    assert [message["role"] for message in chat(STEERED)["messages"]][-3:] == ["user"] * 3
    merged = messages_body(STEERED, "consecutive_roles")["messages"]
    assert [message["role"] for message in merged] == ["user", "assistant", "user"]
    assert [block["type"] for block in merged[-1]["content"]] == ["tool_result", "text", "text", "text"]


def test_ids_of_calls_have_nine_characters_where_the_model_demands_it() -> None:
    messages = chat(STEERED, "long_call_ids")["messages"]
    (call,) = messages[2]["tool_calls"]
    assert len(call["id"]) == 9
    assert call["id"].isalnum()
    assert messages[3]["tool_call_id"] == call["id"]
    assert chat(STEERED)["messages"][2]["tool_calls"][0]["id"] == ID


def test_instructions_are_in_the_first_message_where_there_is_no_system_role() -> None:
    messages = chat(STEERED, "system_role")["messages"]
    assert messages[0] == {"role": "user", "content": "Be kind.\n\nLook"}
    body = messages_body(STEERED, "system_role", "cache_control")
    assert "system" not in body
    assert body["messages"][0]["content"] == [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Look"}]


def test_calls_and_results_are_words_where_there_are_no_tools() -> None:
    body = chat(STEERED, "tools", "consecutive_roles")
    assert "tools" not in body
    _, _, answer, then = body["messages"]
    assert answer["content"] == 'I look.\n\n[The tool look was called with {"at": "it"}]'
    assert then["content"].startswith("[Result of the tool look]\na cat")
    blocks_of = [message["content"] for message in messages_body(STEERED, "tools")["messages"]]
    assert "tool_use" not in str(blocks_of)
    assert "tool_result" not in str(blocks_of)


def test_calls_of_another_model_begin_with_blank_thinking_where_some_is_required() -> None:
    assert messages_body(STEERED)["messages"][1]["content"][0]["type"] == "text"
    blank, *_ = messages_body(STEERED, "answers_without_reasoning")["messages"][1]["content"]
    assert blank == {"type": "thinking", "thinking": " "}


def test_an_empty_answer_is_never_sent() -> None:
    transcript = (
        user("Hi"),
        ModelAnswered(1, (Text(" \n"),)),
        user("Hi"),
        ModelAnswered(1, (Thinking("Hm"),)),
        user("Hi"),
    )
    for body in (chat(transcript), messages_body(transcript)):
        assert "assistant" not in [message["role"] for message in body["messages"]]


def test_names_and_arguments_of_an_old_log_are_within_the_grammar() -> None:
    odd = Call("call:1", "функция look!" + "n" * 70, "[broken")
    transcript = (user("Hi"), ModelAnswered(1, (odd,)), Results((Result(odd, "failed", "no"),)))
    (call,) = chat(transcript, instructions="")["messages"][1]["tool_calls"]
    assert call["function"]["name"].isascii()
    assert len(call["function"]["name"]) <= 64
    assert call["function"]["arguments"] == '{"not_valid_json": "[broken"}'
    (use,) = messages_body(transcript)["messages"][1]["content"]
    (result,) = messages_body(transcript)["messages"][2]["content"]
    assert use["input"] == {"not_valid_json": "[broken"}
    assert use["id"].isalnum()
    assert result["tool_use_id"] == use["id"]


@pytest.mark.parametrize(
    ("without", "absent"),
    [
        ("stream_options", "stream_options"),
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("reasoning", "reasoning_effort"),
        ("parallel_tool_calls", "parallel_tool_calls"),
        ("max_completion_tokens", "max_completion_tokens"),
    ],
)
def test_a_field_that_the_server_refuses_is_left_out(without: Feature, absent: str) -> None:
    settings = ModelSettings(0.5, 100, "low", 0.9, False)
    assert absent in chat(STEERED, settings=settings)
    assert absent not in chat(STEERED, without, settings=settings)


def test_a_long_answer_is_not_asked_for_where_that_is_refused() -> None:
    assert messages_body(STEERED, "long_answers")["max_tokens"] == 4096
    long, short = ModelSettings(max_tokens=20_000, reasoning="high"), ModelSettings(max_tokens=77)
    body = messages_body((user("Look"),), "long_answers", settings=long, model="claude-3-7-sonnet")
    assert (body["max_tokens"], body["thinking"]["budget_tokens"]) == (4096, 3072)
    assert chat(STEERED, "long_answers", "max_completion_tokens", settings=long)["max_tokens"] == 4096
    assert chat(STEERED, "long_answers", settings=long)["max_completion_tokens"] == 4096
    assert chat(STEERED, "long_answers", settings=short)["max_completion_tokens"] == 77


def test_the_length_has_the_name_that_the_server_takes() -> None:
    settings = ModelSettings(max_tokens=100)
    assert chat(STEERED, "max_completion_tokens", settings=settings)["max_tokens"] == 100
    both = chat(STEERED, "max_completion_tokens", "max_tokens", settings=settings)
    assert not {"max_tokens", "max_completion_tokens"} & set(both)


@pytest.mark.parametrize(
    ("reasoning", "effort"), [("off", "none"), (0, "none"), ("medium", "medium"), (5000, "medium"), ("max", "xhigh")]
)
def test_an_effort_is_sent_where_efforts_are_taken(reasoning: Any, effort: str) -> None:
    assert chat(STEERED, settings=ModelSettings(reasoning=reasoning))["reasoning_effort"] == effort


@pytest.mark.parametrize(
    "model", ["claude-sonnet-4-5", "claude-opus-4-1-20250805", "claude-3-7-sonnet-latest", "glm-5"]
)
def test_a_budget_is_sent_where_budgets_are_taken(model: str) -> None:
    body = messages_body((user("Look"),), model=model, settings=ModelSettings(0.2, None, "low", 0.5))
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert body["max_tokens"] > 2048
    assert not {"temperature", "top_p", "output_config"} & set(body)
    limited = messages_body((user("Look"),), model=model, settings=ModelSettings(max_tokens=2500, reasoning="high"))
    assert (limited["thinking"]["budget_tokens"], limited["max_tokens"]) == (1476, 2500)
    short = messages_body(STEERED, model=model, settings=ModelSettings(0.2, 30, "high"))
    assert (short["temperature"], short["max_tokens"], "thinking" in short) == (0.2, 30, False)


@pytest.mark.parametrize("model", ["claude-opus-4-7", "claude-sonnet-4-6", "claude-sonnet-5"])
def test_later_claude_models_are_sent_an_effort(model: str) -> None:
    body = messages_body(STEERED, model=model, settings=ModelSettings(reasoning=30_000))
    assert (body["thinking"]["type"], body["output_config"]) == ("adaptive", {"effort": "max"})
    off = messages_body(STEERED, model=model, settings=ModelSettings(reasoning="off"))
    assert off["thinking"] == {"type": "disabled"}


def test_calls_side_by_side_can_be_forbidden() -> None:
    settings = ModelSettings(parallel_tool_calls=False)
    assert chat(STEERED, settings=settings)["parallel_tool_calls"] is False
    choice = messages_body(STEERED, settings=settings)["tool_choice"]
    assert choice == {"type": "auto", "disable_parallel_tool_use": True}


def test_the_cache_is_not_marked_where_marks_are_refused() -> None:
    assert "cache_control" in str(messages_body(STEERED))
    assert "cache_control" not in str(messages_body(STEERED, "cache_control"))


def test_steps_of_another_providers_own_tools_are_not_sent() -> None:
    transcript = (user("Hi"), ModelAnswered(1, (Native("other", '{"id": "s1"}'), Text("Hello."))), user("Bye"))
    assert "s1" not in str(messages_body(transcript))
