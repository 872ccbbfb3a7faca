"""OpenAI's Responses over real sockets: what the server has given is sent back as it came, and only to that server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent.events import Delta, ReasoningDelta, TextDelta, Waiting
from agent.foreign import sources_in
from agent.log import Call, MessagesRead, ModelAnswered, Native, Text, Thinking, Usage, UserMessage
from agent.media import Attachment
from agent.model import Answer, ModelError, ModelErrorKind, ModelSettings, Request, ToolSpec
from agent.models.protocols.wire import Feature
from agent.models.provider import ModelOptions, Provider
from agent.models.providers import ProviderModel
from agent.testing import MemoryMedia
from agent.transcript import Exchange, Result, Results, SystemNote
from tests.servers import models as server_of
from tests.servers.raw_models import RawModelServer, Steps, sse, stream_head, whole

PNG = b"\x89PNG\r\n\x1a\n of a cat"
SHELL = ToolSpec("shell", "Runs.", {"type": "object", "properties": {"command": {"type": "string"}}})
HELLO = MessagesRead(1, (UserMessage(1, "Ann", "Hello"),))


@dataclass(slots=True)
class Line:
    """A model, and what it told."""

    url: str
    media: MemoryMedia = field(default_factory=MemoryMedia)
    deltas: list[Delta] = field(default_factory=list)
    models: list[ProviderModel] = field(default_factory=list)

    def model(self, name: str = "openai", **options: Any) -> ProviderModel:
        provider = Provider(name, "openai-responses", self.url, keys=("key",), **options)
        self.models.append(ProviderModel(provider, ModelOptions("test-model"), self.media))
        return self.models[-1]

    async def ask(
        self, *transcript: Exchange, model: ProviderModel | None = None, settings: ModelSettings | None = None
    ) -> Answer:
        request = Request("Be kind.", transcript or (HELLO,), (SHELL,), settings=settings or ModelSettings())
        return await (model or self.model()).answer(request, self.on_delta)

    async def fails(self, model: ProviderModel | None = None) -> ModelError:
        with pytest.raises(ModelError) as raised:
            await self.ask(model=model)
        return raised.value

    async def on_delta(self, delta: Delta) -> None:
        self.deltas.append(delta)

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta, TextDelta))

    @property
    def thoughts(self) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta, ReasoningDelta))

    async def close(self) -> None:
        for model in self.models:
            await model.aclose()


@pytest.fixture
async def server() -> AsyncIterator[server_of.ModelServer]:
    async with server_of.ModelServer() as server:
        yield server


@pytest.fixture
async def line(server: server_of.ModelServer) -> AsyncIterator[Line]:
    line = Line(server.openai_url)
    yield line
    await line.close()


@pytest.fixture
async def raw() -> AsyncIterator[RawModelServer]:
    async with RawModelServer() as raw:
        yield raw


@pytest.fixture
async def odd(raw: RawModelServer) -> AsyncIterator[Line]:
    line = Line(f"{raw.url}/v1")
    yield line
    await line.close()


def user(text: str, *attachments: Attachment) -> MessagesRead:
    return MessagesRead(1, (UserMessage(1, "Ann", text, attachments),))


def logged(answer: Answer, step: int = 1) -> ModelAnswered:
    """The answer as a turn logs it: calls get ids of the gateway's own."""
    parts = tuple(
        replace(part, id=f"turn_{step}_{number}") if isinstance(part, Call) else part
        for number, part in enumerate(answer.parts)
    )
    return ModelAnswered(step, parts)


def done(answered: ModelAnswered, text: str = "file") -> Results:
    return Results(tuple(Result(call, "done", text) for call in answered.calls))


def told(answer: Answer) -> list[object]:
    """The parts, without what the server keeps beside them."""
    return [part for part in answer.parts if not isinstance(part, Native) or part.foreign]


def kinds(items: Sequence[dict[str, Any]]) -> list[str]:
    return [item.get("type") or item["role"] for item in items]


def stream(*events: dict[str, Any]) -> Steps:
    return [stream_head(), *(sse(event) for event in events)]


def completed(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "response.completed", "response": {"id": "resp_1", "output": list(output), **fields}}


def said(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}


# What is sent back


async def test_reasoning_goes_back_as_it_came_with_the_items_that_it_led_to(
    server: server_of.ModelServer, line: Line
) -> None:
    server.script(
        [
            server_of.Think("Look first."),
            server_of.Say("Looking."),
            server_of.Think("Now run."),
            server_of.Call("shell", {"command": "ls"}),
            server_of.Call("shell", {"command": "pwd"}),
        ]
    )
    model = line.model()
    answer = await line.ask(model=model)
    assert line.thoughts == "Look first.Now run."
    assert [type(part) for part in told(answer)] == [Thinking, Text, Thinking, Call, Call]
    answered = logged(answer)
    await line.ask(HELLO, answered, done(answered), model=model)
    first, second = (request.body for request in server.requests)
    assert first["store"] is False
    assert first["include"] == ["reasoning.encrypted_content"]
    assert kinds(second["input"]) == [
        *("user", "reasoning", "message", "reasoning", "function_call", "function_call"),
        *("function_call_output", "function_call_output"),
    ]
    assert second["input"][1]["encrypted_content"]
    assert server.refusals == []


async def test_another_provider_gets_no_reasoning_and_the_gateways_own_ids(
    server: server_of.ModelServer, line: Line
) -> None:
    server.script([server_of.Think("Hm."), server_of.Search("cats"), server_of.Call("shell", "{}")])
    answered = logged(await line.ask())
    await line.ask(HELLO, answered, done(answered), model=line.model("other"))
    _, call, output = server.requests[-1].body["input"]
    assert call == {"type": "function_call", "call_id": "turn_1_2", "name": "shell", "arguments": "{}"}
    assert output == {"type": "function_call_output", "call_id": "turn_1_2", "output": "file"}


async def test_reasoning_that_led_to_nothing_is_not_sent(server: server_of.ModelServer, line: Line) -> None:
    server.script([server_of.Say("It is"), server_of.Think("Hm, what is it?"), server_of.End("length")])
    answer = await line.ask()
    assert answer.finish == "length"
    await line.ask(HELLO, logged(answer), user("Go on"))
    assert kinds(server.requests[-1].body["input"]) == ["user", "message", "user"]
    assert server.refusals == []


async def test_an_answer_that_a_hook_changed_goes_back_in_its_words_only(
    server: server_of.ModelServer, line: Line
) -> None:
    server.script([server_of.Think("Hm."), server_of.Say("Darn.")])
    answer = await line.ask()
    thinking, _, kept = answer.parts
    await line.ask(HELLO, ModelAnswered(1, (thinking, kept, Text("Well."))), user("Bye"))
    assert server.requests[-1].body["input"][1] == {"role": "assistant", "content": "Well."}
    assert server.refusals == []


async def test_a_search_of_the_web_is_announced_kept_and_sent_back(server: server_of.ModelServer, line: Line) -> None:
    server.script([server_of.Think("Search."), server_of.Search("ripe pears"), server_of.Say("Found.")])
    model = line.model(web_search=True)
    answer = await line.ask(model=model)
    assert [delta for delta in line.deltas if isinstance(delta, Waiting)] == [
        Waiting("The model is searching the web …")
    ]
    _, search, _, kept = answer.parts
    assert isinstance(search, Native)
    assert isinstance(kept, Native)
    assert search.summary == "Searched the web: ripe pears"
    assert sources_in([logged(answer)]) == ("Searched the web: ripe pears",)
    assert server.requests[0].body["tools"][-1] == {"type": "web_search"}
    await line.ask(HELLO, logged(answer), user("And?"), model=model)
    assert kinds(server.requests[1].body["input"]) == ["user", "reasoning", "web_search_call", "message", "user"]
    assert server.refusals == []


async def test_what_the_server_keeps_beside_an_answer_is_no_text_from_outside(
    server: server_of.ModelServer, line: Line
) -> None:
    server.script([server_of.Think("Hm."), server_of.Say("Hi.")])
    answer = await line.ask()
    assert any(isinstance(part, Native) for part in answer.parts)
    assert sources_in([logged(answer)]) == ()


async def test_a_plain_answer_keeps_nothing(server: server_of.ModelServer, line: Line) -> None:
    server.script([server_of.Say("Hi."), server_of.Call("shell", {})])
    assert [type(part) for part in (await line.ask()).parts] == [Text, Call]


async def test_the_phase_of_a_message_goes_back(raw: RawModelServer, odd: Line) -> None:
    raw.script(stream(completed({**said("I look."), "phase": "commentary"})), stream(completed(said("Yes."))))
    answer = await odd.ask()
    await odd.ask(HELLO, logged(answer), user("And?"))
    message = raw.requests[1].json["input"][1]
    assert (message["id"], message["phase"], message["content"][0]["text"]) == ("msg_1", "commentary", "I look.")


async def test_reasoning_that_is_told_in_full_goes_back_in_full(raw: RawModelServer, odd: Line) -> None:
    content = [{"type": "reasoning_text", "text": "We need to greet."}]
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "content": content}
    raw.script(stream(completed(reasoning, said("Hi."))), stream(completed(said("Yes."))))
    answer = await odd.ask()
    assert (odd.thoughts, odd.text) == ("We need to greet.", "Hi.")
    await odd.ask(HELLO, logged(answer), user("And?"))
    assert raw.requests[1].json["input"][1] == reasoning


async def test_reasoning_that_the_server_cannot_read_again_is_not_sent(raw: RawModelServer, odd: Line) -> None:
    summary = [{"type": "summary_text", "text": "Greeting"}]
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": None}
    raw.script(stream(completed(reasoning, said("Hi."))), stream(completed(said("Yes."))))
    answer = await odd.ask()
    assert odd.thoughts == "Greeting"
    await odd.ask(HELLO, logged(answer), user("And?"))
    assert raw.requests[1].json["input"][1] == {"role": "assistant", "content": "Hi."}


async def test_without_some_of_its_reasoning_an_answer_goes_back_in_its_words_only(
    raw: RawModelServer, odd: Line
) -> None:
    hidden = {"type": "reasoning", "id": "rs_1", "summary": []}
    readable = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "c2VjcmV0"}
    raw.script(stream(completed(hidden, CALL, readable, said("Hi."))), stream(completed(said("Yes."))))
    answered = logged(await odd.ask())
    await odd.ask(HELLO, answered, done(answered))
    assert kinds(raw.requests[1].json["input"]) == ["user", "function_call", "assistant", "function_call_output"]


# Where the server keeps the conversation


async def test_the_server_is_sent_only_what_it_does_not_have(server: server_of.ModelServer, line: Line) -> None:
    server.script(
        [server_of.Think("Hm."), server_of.Call("shell", {"command": "ls"})],
        server_of.Say("One file."),
        server_of.Say("No."),
    )
    model = line.model(keeps_state=True)
    first = logged(await line.ask(model=model))
    second = ModelAnswered(2, (await line.ask(HELLO, first, done(first), model=model)).parts)
    await line.ask(HELLO, first, done(first), second, user("Any other?"), model=model)
    bodies = [request.body for request in server.requests]
    assert [kinds(body["input"]) for body in bodies] == [["user"], ["function_call_output"], ["user"]]
    assert "previous_response_id" not in bodies[0]
    assert bodies[2]["store"] is True
    assert server.requests[-1].last_user_text == "Any other?"
    assert [message.role for message in server.requests[-1].messages] == [
        *("system", "user", "assistant", "tool", "assistant", "user"),
    ]
    assert server.refusals == []


async def test_a_conversation_that_changed_is_sent_in_full(server: server_of.ModelServer, line: Line) -> None:
    server.script([server_of.Think("Hm."), server_of.Say("Hi.")], server_of.Say("Bye."), server_of.Say("So."))
    model = line.model(keeps_state=True)
    first = logged(await line.ask(model=model))
    edited = user("Hello there")
    second = logged(await line.ask(edited, first, user("Bye"), model=model))
    await line.ask(edited, first, user("Bye"), second, SystemNote("The turn ended here."), model=model)
    bodies = [request.body for request in server.requests]
    assert ["previous_response_id" in body for body in bodies] == [False, False, True]
    assert kinds(bodies[1]["input"]) == ["user", "reasoning", "message", "user"]
    assert bodies[1]["input"][0]["content"] == "Hello there"
    assert kinds(bodies[2]["input"]) == ["user"]
    assert server.refusals == []


async def test_an_answer_that_was_masked_is_sent_in_full(server: server_of.ModelServer, line: Line) -> None:
    server.script(server_of.Say("The key is 4711."))
    model = line.model(keeps_state=True)
    answer = await line.ask(model=model)
    masked = tuple(Text("The key is [secret].") if isinstance(part, Text) else part for part in answer.parts)
    await line.ask(HELLO, ModelAnswered(1, masked), user("Thanks"), model=model)
    body = server.requests[1].body
    assert "previous_response_id" not in body
    assert "4711" not in json.dumps(body)


async def test_a_server_that_has_lost_the_conversation_is_sent_all_of_it_again(
    server: server_of.ModelServer, line: Line
) -> None:
    model = line.model(keeps_state=True)
    first = logged(await line.ask(model=model))
    server.stored.forget()
    answer = await line.ask(HELLO, first, user("Bye"), model=model)
    assert told(answer) == [Text("You said: Bye")]
    assert [request.status for request in server.requests] == [200, 400, 200]
    assert server.refusals == [
        f"Previous response with id '{server.requests[1].body['previous_response_id']}' not found."
    ]
    assert kinds(server.requests[2].body["input"]) == ["user", "message", "user"]


# The body


async def test_settings_are_sent_in_the_protocols_names(server: server_of.ModelServer, line: Line) -> None:
    settings = ModelSettings(temperature=0.2, max_tokens=5, reasoning="max", top_p=0.9, parallel_tool_calls=False)
    await line.ask(settings=settings)
    body = server.requests[0].body
    assert (body["temperature"], body["top_p"], body["max_output_tokens"]) == (0.2, 0.9, 16)
    assert (body["reasoning"], body["parallel_tool_calls"]) == ({"effort": "xhigh", "summary": "auto"}, False)
    assert body["instructions"] == "Be kind."
    assert body["tools"][0] == {
        "type": "function",
        "name": "shell",
        "description": "Runs.",
        "parameters": SHELL.schema,
        "strict": False,
    }
    await line.ask(settings=ModelSettings(reasoning="off"))
    assert server.requests[1].body["reasoning"] == {"effort": "none"}


@pytest.mark.parametrize(
    ("feature", "absent"),
    [
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("max_tokens", "max_output_tokens"),
        ("reasoning", "reasoning"),
        ("parallel_tool_calls", "parallel_tool_calls"),
        ("encrypted_reasoning", "include"),
        ("tools", "tools"),
        ("system_role", "instructions"),
    ],
)
async def test_what_the_server_refuses_is_not_sent(
    server: server_of.ModelServer, line: Line, feature: Feature, absent: str
) -> None:
    settings = ModelSettings(temperature=0.2, max_tokens=500, reasoning="low", top_p=0.9, parallel_tool_calls=False)
    await line.ask(settings=settings)
    await line.ask(settings=settings, model=line.model(without=frozenset({feature})))
    with_it, without_it = (set(request.body) for request in server.requests)
    assert absent in with_it - without_it
    assert "Be kind." in json.dumps(server.requests[1].body)


async def test_a_model_without_tools_reads_calls_and_results_as_text(server: server_of.ModelServer, line: Line) -> None:
    server.script([server_of.Think("Hm."), server_of.Call("shell", {"command": "ls"})])
    answered = logged(await line.ask())
    await line.ask(HELLO, answered, done(answered), model=line.model(without=frozenset({"tools"})))
    items = server.requests[1].body["input"]
    assert kinds(items) == ["user", "assistant", "user"]
    assert "shell" in items[1]["content"]
    assert "file" in json.dumps(items[2]["content"])


async def test_a_model_that_wants_roles_by_turns_gets_one_message_of_each(
    server: server_of.ModelServer, line: Line
) -> None:
    model = line.model(without=frozenset({"consecutive_roles", "system_role"}))
    await line.ask(user("One"), user("Two"), model=model)
    [item] = server.requests[0].body["input"]
    assert [part["text"] for part in item["content"]] == ["Be kind.", "One", "Two"]


async def test_pictures_of_people_and_of_tools_are_sent(server: server_of.ModelServer, line: Line) -> None:
    cat = await line.media.put(PNG, "cat.png")
    answered = ModelAnswered(1, (Call("c1", "shell", "{}"), Call("c2", "shell", "{}")))
    results = Results(tuple(Result(call, "done", "drawn", (cat,)) for call in answered.calls))
    await line.ask(user("See?", cat), answered, results)
    messages = server.requests[0].messages
    assert [len(message.images) for message in messages if message.role != "system"] == [1, 0, 0, 0, 2]
    picture = server.requests[0].body["input"][0]["content"][-1]
    assert picture["type"] == "input_image"
    assert picture["image_url"].startswith("data:image/png;base64,")
    assert server.refusals == []


# How answers end


async def test_counts_of_tokens_are_read(server: server_of.ModelServer, line: Line) -> None:
    server.script([server_of.Say("Hi"), server_of.Usage(200, 80, cached=100, written=40, reasoning=30)])
    answer = await line.ask()
    assert answer.usage == Usage(input=200, output=80, cache_read=100, cache_write=40, reasoning=30)


async def test_a_refusal_is_said_in_the_models_words(raw: RawModelServer, odd: Line) -> None:
    refusal = {**said(""), "content": [{"type": "refusal", "refusal": "I cannot help with that."}]}
    raw.script(
        stream(
            {"type": "response.output_item.added", "output_index": 0, "item": {**refusal, "content": []}},
            {"type": "response.refusal.delta", "output_index": 0, "item_id": "msg_1", "delta": "I cannot "},
            {"type": "response.output_item.done", "output_index": 0, "item": refusal},
            completed(refusal),
        )
    )
    answer = await odd.ask()
    assert (told(answer), answer.finish) == ([Text("I cannot help with that.")], "refused")
    assert odd.text == "I cannot help with that."


async def test_an_answer_that_a_filter_ended_is_refused_or_cut(raw: RawModelServer, odd: Line) -> None:
    end = {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "content_filter"}}}
    raw.script(stream({"type": "response.output_text.delta", "delta": "Half"}, end), stream(end))
    answer = await odd.ask()
    assert (told(answer), answer.finish) == ([Text("Half")], "refused")
    assert (await odd.fails()).kind == "refused"


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"type": "error", "code": "server_error", "message": "Broken.", "param": None}, "server"),
        ({"type": "error", "error": {"type": "overloaded", "message": "The server is overloaded."}}, "overloaded"),
        ({"error": {"code": "rate_limit_exceeded", "message": "Rate limit reached."}}, "rate_limit"),
        (
            {
                "type": "response.failed",
                "response": {
                    "status": "failed",
                    "error": {
                        "code": "context_length_exceeded",
                        "message": "Your input exceeds the context window of this model.",
                    },
                },
            },
            "too_long",
        ),
        ({"type": "response.failed", "response": {"status": "failed", "error": None}}, "server"),
        ({"type": "response.cancelled", "response": {"status": "cancelled"}}, "server"),
    ],
)
async def test_errors_in_the_stream_are_told_apart(
    raw: RawModelServer, odd: Line, event: dict[str, Any], kind: ModelErrorKind
) -> None:
    raw.script(stream({"type": "response.output_text.delta", "delta": "Half"}, event))
    assert (await odd.fails()).kind == kind


@pytest.mark.parametrize("kind", ["completed", "incomplete"])
@pytest.mark.parametrize("details", [{"reason": "max_output_tokens"}, {"reason": "max_turns"}, None])
async def test_an_answer_that_the_server_calls_incomplete_is_cut(
    raw: RawModelServer, odd: Line, kind: str, details: object
) -> None:
    half = {"type": "response.output_text.delta", "delta": "Half"}
    response = {"id": "resp_1", "status": "incomplete", "incomplete_details": details}
    raw.script(stream(half, {"type": f"response.{kind}", "response": response}))
    answer = await odd.ask()
    assert (told(answer), answer.finish) == ([Text("Half")], "length")


@pytest.mark.parametrize("end", [(), ("[DONE]",)])
async def test_without_the_protocols_end_an_answer_is_cut(raw: RawModelServer, odd: Line, end: tuple[str, ...]) -> None:
    half = {"type": "response.output_text.delta", "delta": "Half"}
    raw.script([stream_head(), sse(half, *end)])
    error = await odd.fails()
    assert (error.kind, error.was_answer) == ("network", True)


async def test_a_conversation_that_is_too_long_is_recognised(server: server_of.ModelServer, line: Line) -> None:
    server.script(server_of.TooLong())
    assert (await line.fails()).kind == "too_long"


# Servers that are only compatible

CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "shell", "arguments": '{"command": "ls"}'}


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([completed(said("Hello."), CALL)], id="only the end"),
        pytest.param(
            [
                {"type": "response.output_text.delta", "delta": "Hel"},
                {"type": "response.output_text.delta", "delta": "lo."},
                {"type": "response.function_call_arguments.done", "name": "shell", "arguments": '{"command": "ls"}'},
                completed(),
            ],
            id="no items",
        ),
        pytest.param(
            [
                {"type": "response.output_item.added", "output_index": 0, "item": {**said(""), "id": "a"}},
                {"type": "response.output_text.delta", "output_index": 0, "item_id": "b", "delta": "Hello"},
                {"type": "response.output_text.delta", "output_index": 0, "item_id": "c", "delta": "."},
                {"type": "response.output_item.done", "output_index": 0, "item": {**said("Hello."), "id": "d"}},
                {"type": "response.output_item.added", "output_index": 1, "item": {**CALL, "id": "e", "arguments": ""}},
                {
                    "type": "response.function_call_arguments.delta",
                    "output_index": 1,
                    "item_id": "f",
                    "delta": '{"command": "ls"}',
                },
                {"type": "response.output_item.done", "output_index": 1, "item": {**CALL, "id": "g"}},
                completed(said("Hello."), {**CALL, "id": "h"}),
            ],
            id="another id in each event",
        ),
        pytest.param(
            [
                {"type": "response.output_item.added", "output_index": 0, "item": said("")},
                {"type": "response.output_text.delta", "output_index": 0, "item_id": "msg_1", "delta": "Hello."},
                {"type": "response.output_item.done", "output_index": 0, "item": said("Hello.")},
                {"type": "response.output_item.done", "output_index": 0, "item": CALL},
                completed(said("Hello."), CALL),
            ],
            id="all items numbered 0",
        ),
        pytest.param(
            [
                {"type": "response.output_text.delta", "output_index": 0, "delta": "Hello."},
                {
                    "type": "response.output_item.done",
                    "output_index": 1,
                    "item": {**CALL, "arguments": {"command": "ls"}},
                },
                completed(),
            ],
            id="arguments as an object",
        ),
    ],
)
async def test_odd_streams_say_the_same(raw: RawModelServer, odd: Line, events: list[dict[str, Any]]) -> None:
    raw.script(stream(*events))
    answer = await odd.ask()
    text, call = told(answer)
    assert text == Text("Hello.")
    assert isinstance(call, Call)
    assert (call.name, json.loads(call.arguments), answer.finish) == ("shell", {"command": "ls"}, "calls")
    assert odd.text == "Hello."


async def test_an_answer_in_one_piece_is_read_too(raw: RawModelServer, odd: Line) -> None:
    usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10, "cost": 0.02}
    raw.script(
        whole({"id": "resp_1", "object": "response", "status": "completed", "output": [said("Hi.")], "usage": usage})
    )
    answer = await odd.ask()
    assert (told(answer), odd.text) == ([Text("Hi.")], "Hi.")
    assert answer.usage == Usage(input=7, output=3, cost=0.02)


async def test_two_messages_of_an_answer_are_two_paragraphs(server: server_of.ModelServer, line: Line) -> None:
    server.script(
        [server_of.Say("I look it up."), server_of.Search("cats"), server_of.Say("Cats purr.")], server_of.Say("Yes.")
    )
    answer = await line.ask()
    assert logged(answer).text == line.text == "I look it up.\n\nCats purr."
    await line.ask(HELLO, logged(answer), user("Sure?"))
    items = server.requests[1].body["input"]
    assert [item["content"][0]["text"] for item in items if item.get("type") == "message"] == [
        "I look it up.",
        "Cats purr.",
    ]
    assert server.refusals == []


async def test_reasoning_in_the_text_is_told_from_the_answer(raw: RawModelServer, odd: Line) -> None:
    pieces = ["<th", "ink>Greet", " them.</think>", "Hi."]
    raw.script(stream(*({"type": "response.output_text.delta", "delta": each} for each in pieces), completed()))
    answer = await odd.ask()
    assert (odd.text, odd.thoughts.strip()) == ("Hi.", "Greet them.")
    assert logged(answer).text == "Hi."


async def test_an_answer_that_is_reasoning_alone_is_the_answer(raw: RawModelServer, odd: Line) -> None:
    raw.script(stream({"type": "response.reasoning_text.delta", "delta": "It is four."}, completed()))
    assert told(await odd.ask()) == [Text("It is four.")]
    assert odd.text == "It is four."
