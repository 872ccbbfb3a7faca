"""What a server refuses is learnt once and left out from then on, over real sockets."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent.events import Delta, Waiting
from agent.log import Call, MessagesRead, ModelAnswered, Text, Thinking, UserMessage
from agent.media import Attachment
from agent.model import Answer, ModelError, ModelSettings, Request, ToolSpec
from agent.models.abilities import FORGOTTEN_AFTER, LearnedAbilities
from agent.models.protocols.wire import Feature, ProtocolName
from agent.models.provider import ModelOptions, Provider
from agent.models.providers import ProviderModel
from agent.testing import MemoryMedia
from agent.transcript import Exchange, Result, Results
from tests.servers import models as server_of

SHELL = ToolSpec("shell", "Runs.", {"type": "object", "properties": {}})
PNG = b"\x89PNG\r\n\x1a\n of a cat"
SETTINGS = ModelSettings(temperature=0.5, max_tokens=77, top_p=0.9, parallel_tool_calls=False)


@dataclass(slots=True)
class Line:
    server: server_of.ModelServer
    provider: ProtocolName
    media: MemoryMedia = field(default_factory=MemoryMedia)
    deltas: list[Delta] = field(default_factory=list)
    models: list[ProviderModel] = field(default_factory=list)

    def model(self, without: frozenset[Feature] = frozenset(), vision: bool | None = None) -> ProviderModel:
        url = self.server.openai_url if self.provider == "openai" else self.server.anthropic_url
        provider = Provider(self.provider, self.provider, url, keys=("test-key",), without=without)
        model = ProviderModel(provider, ModelOptions("big", SETTINGS, vision=vision), self.media)
        self.models.append(model)
        return model

    def refuse(self, holds: Callable[[dict[str, Any]], bool], message: str, status: int = 400) -> None:
        """The server refuses every body for which this holds, and answers the others."""
        self.server.respond(
            lambda request: server_of.Fail(status, message=message) if holds(request.body) else server_of.Say("Fine.")
        )

    async def ask(self, model: ProviderModel, *transcript: Exchange) -> Answer:
        self.deltas.clear()
        return await model.answer(Request("Be kind.", transcript or (user("Hello"),), (SHELL,)), self._on_delta)

    async def _on_delta(self, delta: Delta) -> None:
        self.deltas.append(delta)

    @property
    def told(self) -> list[str]:
        return [delta.reason for delta in self.deltas if isinstance(delta, Waiting)]

    @property
    def body(self) -> dict[str, Any]:
        return self.server.requests[-1].body


@pytest.fixture(params=["openai", "anthropic"])
async def line(request: pytest.FixtureRequest) -> AsyncIterator[Line]:
    async with server_of.ModelServer() as server:
        line = Line(server, request.param)
        yield line
        for model in line.models:
            await model.aclose()
        assert server.refusals == []


def user(words: str, *files: Attachment) -> MessagesRead:
    return MessagesRead(1, (UserMessage(1, "Ann", words, files),))


def roles(body: dict[str, Any]) -> list[str]:
    return [message["role"] for message in body["messages"]]


@pytest.mark.parametrize("line", ["openai"], indirect=True)
@pytest.mark.parametrize(
    ("holds", "message", "status"),
    [
        (lambda body: "stream_options" in body, "Unknown parameter: 'stream_options'.", 400),
        (lambda body: "parallel_tool_calls" in body, "'parallel_tool_calls' is not supported with this model.", 400),
        (lambda body: "temperature" in body, "Unsupported value: 'temperature' does not support 0.5.", 400),
        (lambda body: "top_p" in body, "`temperature` and `top_p` cannot both be specified.", 400),
        (
            lambda body: "max_completion_tokens" in body,
            "body.max_completion_tokens: Extra inputs are not permitted",
            422,
        ),
        (lambda body: "tools" in body, "tools param requires --jinja flag", 500),
        (lambda body: "system" in roles(body), "System role not supported", 400),
    ],
)
async def test_a_refused_field_is_left_out_at_once_and_from_then_on(
    line: Line, holds: Callable[[dict[str, Any]], bool], message: str, status: int
) -> None:
    line.refuse(holds, message, status)
    model = line.model()
    assert (await line.ask(model)).parts == (Text("Fine."),)
    await line.ask(model)
    assert [holds(request.body) for request in line.server.requests] == [True, False, False]


@pytest.mark.parametrize("line", ["openai"], indirect=True)
async def test_the_length_limit_goes_by_the_name_that_the_server_asks_for(line: Line) -> None:
    line.refuse(
        lambda body: "max_tokens" in body,
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    )
    await line.ask(line.model(without=frozenset({"max_completion_tokens"})))
    assert line.body["max_completion_tokens"] == 77


@pytest.mark.parametrize("line", ["openai"], indirect=True)
async def test_a_template_that_wants_roles_to_alternate_gets_them(line: Line) -> None:
    def repeats(body: dict[str, Any]) -> bool:
        return any(one == other for one, other in zip(roles(body), roles(body)[1:], strict=False))

    line.refuse(repeats, "Conversation roles must alternate user/assistant/user/assistant/...", 500)
    await line.ask(line.model(), user("One"), user("Two"))
    assert not repeats(line.body)
    assert all(words in str(line.body) for words in ("One", "Two"))


@pytest.mark.parametrize("line", ["openai"], indirect=True)
async def test_a_server_that_wants_short_call_ids_gets_them(line: Line) -> None:
    def has_long_ids(body: dict[str, Any]) -> bool:
        return any(len(message.get("tool_call_id", "123456789")) != 9 for message in body["messages"])

    line.refuse(has_long_ids, "Tool call id was call_abcdef but must be a-z, A-Z, 0-9, with a length of 9.")
    call = Call("call_abcdef", "shell", "{}")
    await line.ask(line.model(), user("List"), ModelAnswered(1, (call,)), Results((Result(call, "done", "file"),)))
    assert not has_long_ids(line.body)


def answers(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [message for message in body["messages"] if message["role"] == "assistant"]


@pytest.mark.parametrize("line", ["openai"], indirect=True)
async def test_calls_of_another_model_get_the_stand_in_of_a_signature_where_one_is_required(line: Line) -> None:
    def is_unsigned(body: dict[str, Any]) -> bool:
        return any("extra_content" not in message["tool_calls"][0] for message in answers(body))

    line.refuse(is_unsigned, "Function call is missing a thought_signature in functionCall parts.")
    foreign, own = Call("a", "shell", "{}"), Call("b", "shell", "{}", "c2ln", line.provider)
    beside = Call("c", "shell", "{}")
    transcript: list[Exchange] = [user("List")]
    for step, calls in enumerate([(foreign, beside), (own, beside)]):
        transcript.append(ModelAnswered(step, tuple(replace(call, id=f"{call.id}{step}") for call in calls)))
        transcript.append(Results(tuple(Result(call, "done", "") for call in transcript[-1].calls)))
    assert (await line.ask(line.model(), *transcript)).parts == (Text("Fine."),)
    signatures = [
        [call.get("extra_content", {}).get("google", {}).get("thought_signature") for call in message["tool_calls"]]
        for message in answers(line.body)
    ]
    assert signatures == [["skip_thought_signature_validator", None], ["c2ln", None]]


@pytest.mark.parametrize("line", ["openai"], indirect=True)
async def test_answers_of_another_model_get_blank_reasoning_where_some_is_required(line: Line) -> None:
    def is_unreasoned(body: dict[str, Any]) -> bool:
        return any(not message.get("reasoning_content") for message in answers(body))

    line.refuse(is_unreasoned, "The `reasoning_content` in the thinking mode must be passed back to the API.")
    call = Call("a", "shell", "{}")
    own = Thinking("I know.", None, "reasoning_content", line.provider)
    history = (
        *(user("List"), ModelAnswered(1, (Thinking("Hm.", None, "reasoning_content", "other"), call))),
        *(Results((Result(call, "done", "file"),)), ModelAnswered(2, (own, Text("A file.")))),
        *(user("Thanks"), ModelAnswered(1, (Text("Gladly."),)), user("Bye")),
    )
    await line.ask(line.model(), *history)
    assert [message["reasoning_content"] for message in answers(line.body)] == [" ", "I know.", " "]


async def test_several_refusals_one_after_the_other_are_all_learnt(line: Line) -> None:
    line.server.script(
        server_of.Fail(400, message="`temperature` is deprecated for this model."),
        server_of.Fail(400, message="top_p: Extra inputs are not permitted"),
        server_of.Say("Fine."),
    )
    assert (await line.ask(line.model())).parts == (Text("Fine."),)
    assert not {"temperature", "top_p"} & set(line.body)
    assert line.told == []


async def test_missing_tools_are_told_once(line: Line) -> None:
    line.refuse(lambda body: "tools" in body, "gemma:2b does not support tools")
    model = line.model()
    await line.ask(model)
    assert line.told == [f"{line.provider}:big does not support tools; it answers without them."]
    await line.ask(model)
    assert line.told == []


async def test_a_model_without_vision_gets_words_in_place_of_pictures_and_the_person_is_told_once(line: Line) -> None:
    cat = await line.media.put(PNG, "cat.png")
    notes = await line.media.put(b"text", "notes.txt")
    line.refuse(lambda body: "base64" in str(body), "this model does not support image input")
    call = Call("call_a", "look", "{}")
    seen = (user("Look", cat, notes), ModelAnswered(1, (call,)), Results((Result(call, "done", "a cat", (cat,)),)))
    model = line.model()
    await line.ask(model, *seen)
    assert line.told == [f"{line.provider}:big does not support pictures; it gets a text in place of each."]
    words = " ".join(message.text for message in line.server.requests[-1].messages)
    assert words.count("cannot be shown to you: this model does not support pictures") == 2
    assert "notes.txt" in words
    await line.ask(model, *seen)
    assert (line.told, len(line.server.requests)) == ([], 3)


async def test_a_model_that_is_said_to_be_blind_is_sent_no_picture_and_the_person_is_told(line: Line) -> None:
    cat = await line.media.put(PNG, "cat.png")
    await line.ask(line.model(vision=False), user("Look", cat))
    assert len(line.server.requests) == 1
    assert "base64" not in str(line.body)
    assert line.told == [f"{line.provider}:big does not support pictures; it gets a text in place of each."]


async def test_an_error_with_pictures_where_there_are_none_is_raised(line: Line) -> None:
    line.refuse(lambda body: True, "this model does not support image input")
    with pytest.raises(ModelError, match="pictures"):
        await line.ask(line.model())
    assert len(line.server.requests) == 1


async def test_what_is_refused_again_without_it_is_raised(line: Line) -> None:
    line.refuse(lambda body: True, "temperature is not supported")
    with pytest.raises(ModelError, match="temperature"):
        await line.ask(line.model())
    assert len(line.server.requests) == 2


def test_a_refused_feature_is_tried_again_after_a_day_and_told_once() -> None:
    now = 1000.0
    abilities = LearnedAbilities("acme:big", frozenset({"long_call_ids"}), clock=lambda: now)
    error = ModelError("bad_request", "no", detail="big does not support tools", status=400)
    assert abilities.learn(error)
    assert not abilities.learn(error)
    assert abilities.without == {"long_call_ids", "tools"}
    request = Request("", (user("Hello"),), (SHELL,))
    assert abilities.untold(request) == ["acme:big does not support tools; it answers without them."]
    now += FORGOTTEN_AFTER
    assert abilities.without == {"long_call_ids"}
    assert abilities.learn(error)
    assert abilities.untold(request) == []


def test_two_requests_that_meet_the_same_refusal_are_both_repeated() -> None:
    abilities = LearnedAbilities("acme:big")
    error = ModelError("bad_request", "no", detail="big does not support tools", status=400)
    sent = abilities.without
    assert abilities.learn(error, sent)
    assert abilities.learn(error, sent)
