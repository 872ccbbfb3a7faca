"""Providers through their real SDKs over real sockets: what they are sent, what is deltas, and what goes wrong."""

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent.events import Charged, Delta, ReasoningDelta, TextDelta, Waiting
from agent.log import Call, MessagesRead, ModelAnswered, Native, Text, Thinking, Usage, UserMessage
from agent.masking import Mask
from agent.media import Attachment, MediaMissing
from agent.model import Answer, ModelError, ModelErrorKind, ModelSettings, Request, ToolSpec
from agent.models.continuation import ContinuingModel
from agent.models.masking import MaskingModel
from agent.models.metering import MeteredModel
from agent.models.protocols import chat_completions
from agent.models.protocols.wire import ProtocolName, Target
from agent.models.provider import ModelOptions, Provider, Timeouts, refused_at
from agent.models.providers import ProviderModel
from agent.models.retry import RetryingModel
from agent.transcript import Exchange, Result, Results, SystemNote
from tests.servers import models as server_of

KEY = "sk-very-secret-4711"
PNG = b"\x89PNG\r\n\x1a\n of a cat"
SHELL = ToolSpec("shell", "Runs.", {"type": "object", "properties": {"command": {"type": "string"}}})


class Media:
    """Bytes in memory; `missing` ones are gone."""

    def __init__(self) -> None:
        self.reads = 0
        self._bytes: dict[str, bytes] = {}

    async def put(self, data: bytes, name: str) -> Attachment:
        digest = hashlib.sha256(data).hexdigest()
        self._bytes[digest] = data
        return Attachment(digest, name, "image/png" if data.startswith(PNG[:8]) else "text/plain", len(data))

    async def read(self, attachment: Attachment) -> bytes:
        self.reads += 1
        if attachment.hash not in self._bytes:
            raise MediaMissing(attachment)
        return self._bytes[attachment.hash]


@dataclass(slots=True)
class Line:
    """A model, the server behind it, and all deltas."""

    server: server_of.ModelServer
    provider: ProtocolName
    media: Media = field(default_factory=Media)
    deltas: list[Delta] = field(default_factory=list)
    something_told: asyncio.Event = field(default_factory=asyncio.Event)
    models: list[ProviderModel] = field(default_factory=list)

    def model(
        self,
        key: str | None = KEY,
        url: str | None = None,
        patience: float = 20,
        silence: float = 20,
        total: float = 60,
        web_search: bool = False,
        name: str = "test-model",
    ) -> ProviderModel:
        own = self.server.anthropic_url if self.provider == "anthropic" else self.server.openai_url
        provider = Provider(
            self.provider,
            self.provider,
            url or own,
            keys=(key,) if key else (),
            timeouts=Timeouts(patience, silence, total),
            without=refused_at(own),
            web_search=web_search,
        )
        model = ProviderModel(provider, ModelOptions(name), self.media)
        self.models.append(model)
        return model

    async def ask(self, *transcript: Exchange, tools: Sequence[ToolSpec] = ()) -> Answer:
        asked = transcript or (user("Hello"),)
        return await self.model().answer(Request("Be kind.", asked, tuple(tools)), self.on_delta)

    async def fails(self, model: ProviderModel | None = None) -> ModelError:
        with pytest.raises(ModelError) as raised:
            await (model or self.model()).answer(Request("", (user("Hello"),)), self.on_delta)
        return raised.value

    async def on_delta(self, delta: Delta) -> None:
        self.deltas.append(delta)
        self.something_told.set()

    async def until_output(self) -> None:
        async with asyncio.timeout(60):
            await self.something_told.wait()

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta, TextDelta))

    @property
    def thoughts(self) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta, ReasoningDelta))

    @property
    def sent(self) -> Sequence[server_of.Message]:
        return [message for message in self.server.requests[-1].messages if message.role != "system"]


@pytest.fixture(params=["openai", "openai-responses", "anthropic"])
async def line(request: pytest.FixtureRequest) -> AsyncIterator[Line]:
    async with server_of.ModelServer() as server:
        line = Line(server, request.param)
        yield line
        for model in line.models:
            await model.aclose()
        # The server refuses what the real providers refuse: broken history, bad pictures, empty texts.
        assert server.refusals == []


def user(text: str, *attachments: Attachment, sender: str = "Ann", note: str = "") -> MessagesRead:
    return MessagesRead(1, (UserMessage(1, sender, text, attachments, note),))


def own_type(line: Line, fail: server_of.Fail) -> server_of.Fail:
    """The same with the type that Anthropic has for the status: it knows none of OpenAI's codes."""
    if line.provider != "anthropic":
        return fail
    by_status = {400: "invalid_request_error", 402: "billing_error", 429: "billing_error"}
    return replace(fail, code=by_status[fail.status])


def marks(message: dict[str, Any]) -> int:
    return 0 if isinstance(message["content"], str) else sum("cache_control" in block for block in message["content"])


def called(*calls: Call, text: str = "") -> ModelAnswered:
    return ModelAnswered(1, (*((Text(text),) if text else ()), *calls))


# Answers


async def test_text_is_told_in_pieces_and_answered_whole(line: Line) -> None:
    line.server.script(
        [server_of.Say(["Two ", "plus two", " is four."]), server_of.Usage(input=21, output=8, cached=5)]
    )
    answer = await line.ask(user("2+2?"))
    assert answer.parts == (Text("Two plus two is four."),)
    assert len(line.deltas) == 3
    assert line.text == "Two plus two is four."
    assert (answer.finish, answer.model) == ("stop", "test-model")
    assert answer.usage == Usage(input=21, output=8, cache_read=5)
    assert line.server.requests[0].system == "Be kind."


async def test_input_counts_the_cached_tokens_too_and_output_the_reasoning(line: Line) -> None:
    written = 40 if line.provider == "anthropic" else 0
    line.server.script([server_of.Say("Hi"), server_of.Usage(200, 80, cached=100, written=written, reasoning=30)])
    usage = (await line.ask()).usage
    assert usage == Usage(input=200, output=80, cache_read=100, cache_write=written, reasoning=30)


async def test_what_a_provider_does_not_count_is_estimated(line: Line) -> None:
    line.server.script([server_of.Say("x" * 400), server_of.Usage(0, 0)])
    answer = await MeteredModel(line.model(), "it", None).answer(Request("x" * 4000, (user("Hi"),)), line.on_delta)
    assert (answer.usage.output, answer.usage.estimated) == (100, True)
    assert 1000 <= answer.usage.input <= 1010


async def test_reasoning_is_told_apart_and_sent_back_before_its_calls(line: Line) -> None:
    line.server.script(
        [server_of.Think("Let me look."), server_of.Say("Looking."), server_of.Call("shell", {"command": "ls"})],
        server_of.Say("Done."),
    )
    asked = user("What is there?")
    answer = await line.ask(asked, tools=[SHELL])
    assert line.thoughts == "Let me look."
    # What a Responses server gave with the parts is kept behind them.
    thinking, text, call = (part for part in answer.parts if not isinstance(part, Native))
    assert isinstance(thinking, Thinking)
    assert isinstance(call, Call)
    assert (thinking.text, thinking.provider, text) == ("Let me look.", line.provider, Text("Looking."))
    await line.ask(asked, ModelAnswered(1, answer.parts), Results((Result(call, "done", "file"),)), tools=[SHELL])
    assert [message.thoughts for message in line.sent] == ["", "Let me look.", ""]


async def test_reasoning_of_another_provider_is_not_sent(line: Line) -> None:
    foreign = Thinking("Foreign.", "c2lnbmVk", None, "other")
    await line.ask(user("Hi"), ModelAnswered(1, (foreign, Text("Hello."))), user("Bye"))
    assert [message.thoughts for message in line.sent] == ["", "", ""]


async def test_calls_come_whole_though_their_arguments_come_in_pieces(line: Line) -> None:
    line.server.script(
        [
            server_of.Say("Both."),
            server_of.Call("shell", ['{"comm', 'and": "l', 's"}'], id="call_a"),
            server_of.Call("shell", {"command": "pwd"}, id="call_b"),
        ]
    )
    answer = await line.ask(tools=[SHELL])
    assert answer.parts == (
        Text("Both."),
        Call("call_a", "shell", '{"command": "ls"}'),
        Call("call_b", "shell", '{"command": "pwd"}'),
    )
    assert answer.finish == "calls"
    assert line.server.requests[0].tools == ("shell",)


async def test_broken_arguments_arrive_as_they_are_and_can_be_sent_back(line: Line) -> None:
    line.server.script(server_of.Call("shell", '{"command": "ls', id="call_a"), server_of.Say("Sorry."))
    call = (await line.ask(tools=[SHELL])).parts[-1]
    assert call == Call("call_a", "shell", '{"command": "ls')
    assert isinstance(call, Call)
    await line.ask(user("?"), called(call), Results((Result(call, "failed", "not JSON"),)), tools=[SHELL])
    assert line.server.requests[1].results == {"call_a": "not JSON"}


async def test_an_answer_cut_at_its_length_says_so(line: Line) -> None:
    line.server.script([server_of.Say("And so"), server_of.End("length")])
    assert (await line.ask()).finish == "length"


async def test_an_answer_cut_at_its_length_is_completed(line: Line) -> None:
    line.server.script(
        [server_of.Think("Hm."), server_of.Say("One, two"), server_of.End("length")], server_of.Say(", three.")
    )
    answer = await ContinuingModel(line.model()).answer(Request("", (user("Count"),)), line.on_delta)
    assert answer.text == "One, two, three."
    assert (answer.finish, line.text) == ("stop", "One, two, three.")
    assert [message.role for message in line.sent] == ["user", "assistant", "user"]
    assert "cut off at the length limit" in line.sent[-1].text


async def test_a_completion_keeps_the_blank_lines_at_its_beginning_and_an_answer_has_none(line: Line) -> None:
    line.server.script(
        [server_of.Say("\n\nOne.\nTwo."), server_of.End("length")], server_of.Say(["\n", "\n", "    Three.\n"])
    )
    answer = await ContinuingModel(line.model()).answer(Request("", (user("Count"),)), line.on_delta)
    assert answer.text == "One.\nTwo.\n\n    Three.\n"
    assert line.text == "One.\nTwo.\n\n    Three.\n"


async def test_an_empty_answer_is_asked_for_once_more_and_then_is_an_error(line: Line) -> None:
    line.server.script([], [])

    async def at_once(seconds: float) -> None:
        raise AssertionError("nothing to wait for")

    model = RetryingModel(line.model(), sleep=at_once)
    with pytest.raises(ModelError, match="empty answer"):
        await model.answer(Request("", (user("Hello"),)), line.on_delta)
    assert len(line.server.requests) == 2


# What the provider does by itself


@pytest.mark.parametrize("line", ["anthropic"], indirect=True)
async def test_a_search_of_the_providers_own_stays_in_its_place_and_is_sent_back(line: Line) -> None:
    line.server.script(
        [
            server_of.Say("I look. "),
            server_of.Search("weather", ["https://example.org/1"], id="srv_1"),
            server_of.Say("Rain."),
            server_of.Call("shell", {}, id="call_a"),
        ],
        server_of.Say("Done."),
    )
    model = line.model(web_search=True)
    answer = await model.answer(Request("", (user("Weather?"),), (SHELL,)), line.on_delta)
    first, use, found, second, call = answer.parts
    assert isinstance(use, Native)
    assert isinstance(found, Native)
    assert isinstance(call, Call)
    assert (first, second) == (Text("I look. "), Text("Rain."))
    assert (use.summary, use.provider) == ("Searched the web: weather", "anthropic")
    assert [delta.reason for delta in line.deltas if isinstance(delta, Waiting)] == ["The model is searching the web …"]
    assert line.server.requests[0].tools == ("shell", "web_search")

    results = Results((Result(call, "done", ""),))
    await model.answer(
        Request("", (user("Weather?"), ModelAnswered(1, answer.parts), results), (SHELL,)), line.on_delta
    )
    blocks = line.server.requests[1].body["messages"][1]["content"]
    assert [block["type"] for block in blocks] == [
        "text",
        "server_tool_use",
        "web_search_tool_result",
        "text",
        "tool_use",
    ]
    assert (blocks[1]["id"], blocks[1]["input"]) == ("srv_1", {"query": "weather"})
    (page,) = blocks[2]["content"]
    assert (page["url"], bool(page["encrypted_content"])) == ("https://example.org/1", True)


async def test_a_search_of_another_provider_or_without_a_result_is_left_out(line: Line) -> None:
    foreign = Native("other", '{"type": "search", "id": "s1"}')
    lonely = Native("anthropic", '{"type": "server_tool_use", "id": "s2", "name": "web_search", "input": {}}')
    await line.ask(user("Hi"), ModelAnswered(1, (foreign, Text("Hello."), lonely)), user("Bye"))
    assert [message.text for message in line.sent] == ["Hi", "Hello.", "Bye"]


@pytest.mark.parametrize("line", ["anthropic"], indirect=True)
async def test_a_provider_that_pauses_in_its_own_work_is_asked_on(line: Line) -> None:
    line.server.script(
        [server_of.Say("I look. "), server_of.Search("weather", None), server_of.End("pause")], server_of.Say("Rain.")
    )
    model = ContinuingModel(line.model(web_search=True))
    answer = await model.answer(Request("", (user("Weather?"),)), line.on_delta)
    assert (line.text, answer.finish) == ("I look. Rain.", "stop")


# What is sent


async def test_settings_are_sent_where_they_are_set(line: Line) -> None:
    await line.model().answer(Request("", (user("Hi"),), settings=ModelSettings(0.25, 77)), line.on_delta)
    await line.ask()
    with_settings, without = (request.body for request in line.server.requests)
    limit = "max_output_tokens" if line.provider == "openai-responses" else "max_tokens"
    assert (with_settings["temperature"], with_settings[limit]) == (0.25, 77)
    assert "temperature" not in without
    assert without.get(limit) != 77


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://my.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("http://127.0.0.1:11434/v1", "max_tokens"),
    ],
)
def test_the_length_has_the_name_that_the_server_knows(url: str, name: str) -> None:
    target = Target("it", "test", refused_at(url))
    body = chat_completions.body(Request("", (user("Hi"),), settings=ModelSettings(None, 77)), {}, target)
    assert body[name] == 77


@pytest.mark.parametrize("line", ["anthropic"], indirect=True)
async def test_the_prompt_cache_is_marked_after_tools_instructions_what_is_settled_and_the_end(line: Line) -> None:
    call = Call("c1", "shell", "{}")
    before = (user("Hi"), ModelAnswered(1, (Text("Hello."), Thinking("hm", None, None, "anthropic"))))
    now = (user("List"), ModelAnswered(1, (call,)), Results((Result(call, "done", "file"),)))
    await line.ask(*before, *now, tools=[SHELL, replace(SHELL, name="other")])
    body = line.server.requests[0].body
    assert ["cache_control" in tool for tool in body["tools"]] == [False, True]
    assert ["cache_control" in block for block in body["system"]] == [True]
    assert [marks(message) for message in body["messages"]] == [0, 1, 0, 0, 1]


@pytest.mark.parametrize("line", ["anthropic"], indirect=True)
async def test_a_conversation_that_begins_is_marked_at_its_end(line: Line) -> None:
    await line.ask()
    assert [marks(message) for message in line.server.requests[0].body["messages"]] == [1]


async def test_no_secret_is_sent(line: Line) -> None:
    model = MaskingModel(line.model(), Mask(["my-secret-word"]))
    await model.answer(Request("", (user("It is my-secret-word."),)), line.on_delta)
    assert line.sent[0].text == "It is [secret]."


async def test_a_model_that_cannot_see_is_asked_again_in_words(line: Line) -> None:
    cat = await line.media.put(PNG, "cat.png")
    line.server.script(server_of.Fail(400, message="this model does not support image input"), server_of.Say("I see."))
    model = line.model()
    assert (await model.answer(Request("", (user("Look", cat),)), line.on_delta)).parts == (Text("I see."),)
    (message,) = line.sent
    assert message.images == ()
    assert "cat.png" in message.text
    assert line.deltas[0] == Waiting(
        f"{line.provider}:test-model does not support pictures; it gets a text in place of each."
    )


async def test_pictures_are_shown_and_files_are_named(line: Line) -> None:
    cat, notes = await line.media.put(PNG, "cat.png"), await line.media.put(b"text", "notes.txt")
    await line.ask(user("Look", cat, notes))
    (message,) = line.sent
    assert message.images == (PNG,)
    assert message.text.startswith("Look")
    assert "cat.png" in message.text
    assert "notes.txt, text/plain, 4 bytes" in message.text


async def test_pictures_in_tool_results_are_shown_after_all_results(line: Line) -> None:
    cat = await line.media.put(PNG, "cat.png")
    one, two = Call("a", "shell", "{}"), Call("b", "shell", "{}")
    results = Results((Result(one, "done", "a cat", (cat,)), Result(two, "done", "nothing")))
    await line.ask(user("?"), called(one, two), results, tools=[SHELL])
    assert [image for message in line.sent for image in message.images] == [PNG]
    request = line.server.requests[0]
    assert request.results["a"].startswith("a cat")
    assert request.results["b"] == "nothing"


async def test_a_picture_that_is_gone_becomes_a_sentence(line: Line) -> None:
    await line.ask(user("Look", Attachment("0" * 64, "cat.png", "image/png", 12)))
    (message,) = line.sent
    assert message.images == ()
    assert "cat.png cannot be shown to you" in message.text


async def test_a_picture_is_read_once_for_many_requests(line: Line) -> None:
    cat = await line.media.put(PNG, "cat.png")
    model = line.model()
    for _ in range(3):
        await model.answer(Request("", (user("Look", cat),)), line.on_delta)
    assert line.media.reads == 1


async def test_only_the_newest_pictures_are_shown(line: Line) -> None:
    pictures = [await line.media.put(PNG + bytes([number]), f"{number}.png") for number in range(25)]
    await line.ask(user("Look", *pictures))
    (message,) = line.sent
    assert message.images == tuple(PNG + bytes([number]) for number in range(5, 25))
    assert "4.png cannot be shown to you: only the newest pictures are shown" in message.text


async def test_in_a_group_senders_are_named(line: Line) -> None:
    first = MessagesRead(1, (UserMessage(1, "Ann", "Hi", in_group=True, sender_id="7"),))
    second = MessagesRead(2, (UserMessage(2, "Bob", "Me too", note="quoting Ann: Hi", in_group=True, sender_id="8"),))
    await line.ask(first, ModelAnswered(1, (Text("Hello."),)), second)
    assert [message.text for message in line.sent] == [
        '<message from="Ann" id="7">\nHi\n</message>',
        "Hello.",
        '<message from="Bob" id="8">\n<note>quoting Ann: Hi</note>\nMe too\n</message>',
    ]


async def test_whoever_is_alone_with_the_agent_is_not_named(line: Line) -> None:
    await line.ask(MessagesRead(1, (UserMessage(1, "Ann", "One"), UserMessage(2, "Ann", "Two"))))
    assert line.sent[0].text == "One\n\nTwo"


async def test_the_model_learns_that_it_was_interrupted(line: Line) -> None:
    await line.ask(user("Tell me a story"), ModelAnswered(1, (Text("Once upon"),), interrupted=True), user("Shorter"))
    first, partial, *rest = line.sent
    assert (first.text, partial.text) == ("Tell me a story", "Once upon")
    assert "interrupted" in rest[0].text
    assert rest[-1].text.endswith("Shorter")


async def test_an_answer_interrupted_before_a_word_leaves_a_sound_history(line: Line) -> None:
    thinking = Thinking("Hm", None, None, line.provider)
    await line.ask(user("Tell me a story"), ModelAnswered(1, (thinking,), interrupted=True), user("Shorter"))
    assert "assistant" not in [message.role for message in line.sent]


@pytest.mark.parametrize(
    "transcript",
    [
        (user(""),),
        (user("  \n "),),
        (user("Hi"), ModelAnswered(1, (Text("  "),)), user("Again")),
        (user("Hi"), SystemNote("The turn ended here: stopped"), user("Again")),
        (user("Hi"), ModelAnswered(1, (Text("Partial"),), interrupted=True)),
        (user("Hi"), ModelAnswered(1, (Text("Complete."),))),
        (
            user("Hi"),
            ModelAnswered(1, (Text("I"), Call("functions.shell:0", "shell", "")), interrupted=True),
            Results((Result(Call("functions.shell:0", "shell", ""), "skipped", ""),)),
            user("Again"),
        ),
    ],
)
async def test_no_conversation_is_refused_by_a_strict_provider(line: Line, transcript: tuple[Exchange, ...]) -> None:
    line.server.script(server_of.Say("Fine."))
    assert (await line.ask(*transcript, tools=[SHELL])).parts == (Text("Fine."),)


@pytest.mark.parametrize("line", ["anthropic"], indirect=True)
async def test_a_budget_of_thinking_waits_until_the_calls_of_another_model_are_over(line: Line) -> None:
    call = Call("a", "shell", "{}")
    calling = (user("List"), called(call), Results((Result(call, "done", "file"),)))
    model, settings = line.model(name="claude-sonnet-4-5"), ModelSettings(reasoning="low")
    for transcript in (calling, (*calling, called(text="A file."), user("Thanks"))):
        await model.answer(Request("", transcript, (SHELL,), settings=settings), line.on_delta)
    assert ["thinking" in request.body for request in line.server.requests] == [False, True]


# Interruption


async def test_cancelling_in_mid_stream_closes_the_connection_at_once(line: Line) -> None:
    line.server.script(server_of.Say(["Once upon ", server_of.Pause(), "a time"]))
    answering = asyncio.create_task(line.ask())
    held = await line.server.until_held()
    await line.until_output()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    await line.server.until(lambda: held.disconnected)
    assert line.text == "Once upon "


async def test_cancelling_before_the_first_byte_closes_the_connection_too(line: Line) -> None:
    line.server.script([server_of.Pause(), server_of.Say("late")])
    answering = asyncio.create_task(line.ask())
    held = await line.server.until_held()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    await line.server.until(lambda: held.disconnected)


async def test_what_was_cancelled_or_timed_out_is_charged_and_what_was_refused_is_not(line: Line) -> None:
    line.server.script(
        server_of.Say(["Once upon ", server_of.Pause(), "a time"]),
        server_of.Fail(429),
        server_of.Fail(500),
        [server_of.Say("Half"), server_of.Drop()],
        [server_of.Silence()],
    )
    answering = asyncio.create_task(
        MeteredModel(line.model(), "it", None).answer(Request("", (user("Hi"),)), line.on_delta)
    )
    await line.server.until_held()
    await line.until_output()
    answering.cancel()
    await asyncio.wait([answering])
    patient, impatient = line.model(), line.model(patience=0.2)
    nowhere = line.model(url="http://127.0.0.1:1/v1")
    for model in (patient, patient, patient, nowhere, impatient):
        with pytest.raises(ModelError):
            await MeteredModel(model, "it", None).answer(Request("", (user("Hi"),)), line.on_delta)
    charged = [(delta.purpose, delta.usage.output) for delta in line.deltas if isinstance(delta, Charged)]
    assert charged == [("cancelled", 3), ("failed", 1), ("failed", 0)]


async def test_a_model_answers_again_after_it_was_cancelled(line: Line) -> None:
    line.server.script([server_of.Say(["Once ", server_of.Pause()])], server_of.Say("Hello again."))
    model = line.model()
    answering = asyncio.create_task(model.answer(Request("", (user("Tell me a story"),)), line.on_delta))
    await line.server.until_held()
    answering.cancel()
    await asyncio.wait([answering])
    assert (await model.answer(Request("", (user("Hi"),)), line.on_delta)).parts == (Text("Hello again."),)


# Trouble


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, None, "bad_request"),
        (401, None, "auth"),
        (402, None, "billing"),
        (403, None, "auth"),
        (404, None, "auth"),
        (408, None, "timeout"),
        (413, None, "too_long"),
        (422, None, "bad_request"),
        (429, None, "rate_limit"),
        (500, None, "server"),
        (502, None, "server"),
        (503, None, "overloaded"),
        (504, None, "timeout"),
        (524, None, "timeout"),
        (529, "overloaded_error", "overloaded"),
    ],
)
async def test_each_refusal_has_its_class_and_is_asked_once(
    line: Line, status: int, code: str | None, kind: ModelErrorKind
) -> None:
    line.server.script(server_of.Fail(status, code=code))
    assert (await line.fails()).kind == kind
    assert len(line.server.requests) == 1


async def test_a_conversation_beyond_the_window_is_too_long(line: Line) -> None:
    line.server.script(server_of.TooLong())
    error = await line.fails()
    assert error.kind == "too_long"
    assert "/new" in str(error)


@pytest.mark.parametrize(
    "fail",
    [
        server_of.Fail(429, code="insufficient_quota", message="You exceeded your current quota."),
        server_of.Fail(402, code="billing_error", message="Insufficient Balance"),
        server_of.Fail(
            400,
            code="billing_hard_limit_reached",
            message="Your credit balance is too low to access the API. Please go to Plans & Billing.",
        ),
    ],
)
async def test_an_empty_account_is_not_a_rate_limit(line: Line, fail: server_of.Fail) -> None:
    line.server.script(own_type(line, fail))
    assert (await line.fails()).kind == "billing"


@pytest.mark.parametrize(
    "message",
    [
        "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input length",
        "the request exceeds the available context size, try increasing it",
        "This endpoint's maximum context length is 16384 tokens. However, you requested about 94307 tokens.",
        "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).",
        "prompt is too long: 250000 tokens > 200000 maximum",
    ],
)
async def test_each_way_to_say_that_it_is_too_long_is_understood(line: Line, message: str) -> None:
    line.server.script(server_of.Fail(400, message=message))
    assert (await line.fails()).kind == "too_long"


@pytest.mark.parametrize("in_stream", [False, True])
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Output blocked by content filtering policy"),
        (400, "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."),
        (400, "Invalid prompt: your prompt was flagged as potentially violating our usage policy."),
    ],
)
async def test_what_a_content_filter_holds_back_is_refused(
    line: Line, status: int, message: str, in_stream: bool
) -> None:
    code = "400" if line.provider == "openai" else "invalid_request_error"
    line.server.script(server_of.Fail(status, code=code, message=message, in_stream=in_stream))
    error = await line.fails()
    assert error.kind == "refused"
    assert "rephrase your message" in str(error)


@pytest.mark.parametrize("line", ["openai"], indirect=True)
@pytest.mark.parametrize("code", ["content_filter", "content_policy_violation"])
async def test_a_content_filter_that_has_a_code_is_understood_by_it(line: Line, code: str) -> None:
    line.server.script(server_of.Fail(400, code=code, message="No."))
    assert (await line.fails()).kind == "refused"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "this model does not support image input (ref: b8bd630e)"),
        (400, "facebook/opt-125m is not a multimodal model None"),
        (400, "Invalid content type. image_url is only supported by certain models."),
        (400, "Failed to deserialize: messages[0]: unknown variant `image_url`, expected `text` at line 1"),
        (400, "Unsupported content part type for text-only server: image_url"),
        (400, "Model does not support images. Please use a model that does."),
        (404, "No endpoints found that support image input"),
        (500, 'Failed to parse messages: Unsupported content part type: "image_url"; messages = ['),
        (500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"),
    ],
)
async def test_a_model_that_cannot_see_says_so(line: Line, status: int, message: str) -> None:
    line.server.script(server_of.Fail(status, message=message))
    error = await line.fails()
    assert error.kind == "no_vision"
    assert "does not support pictures" in str(error)


@pytest.mark.parametrize(
    "message",
    [
        "You uploaded an unsupported image. Please make sure your image is valid.",
        "messages.0.content.1.image.source.base64: image exceeds 5 MB maximum",
        "Could not process image",
        "Image URLs are only allowed for messages with role 'user'",
        "This model does not support image/tiff.",
    ],
)
async def test_a_picture_that_is_wrong_is_not_a_model_that_cannot_see(line: Line, message: str) -> None:
    line.server.script(server_of.Fail(400, message=message))
    error = await line.fails()
    assert error.kind == "bad_request"
    assert message in str(error)


async def test_a_model_that_is_not_there_is_named(line: Line) -> None:
    line.server.script(server_of.Fail(404))
    assert "has no model 'test-model'" in str(await line.fails())


async def test_the_providers_wish_to_wait_is_passed_on(line: Line) -> None:
    line.server.script(server_of.Fail(429, retry_after=7))
    assert (await line.fails()).retry_after == 7


async def test_a_providers_own_words_help_with_a_bad_request_but_never_show_the_key(line: Line) -> None:
    line.server.script(server_of.Fail(400, message=f"no seed for {KEY}"))
    error = await line.fails()
    assert "no seed for …" in str(error)
    assert error.__cause__ is None


async def test_a_refused_key_is_not_shown(line: Line) -> None:
    line.server.script(server_of.Fail(401, message=f"Incorrect API key provided: {KEY}"))
    error = await line.fails()
    assert "key" in str(error)
    assert KEY not in str(error)
    assert error.__cause__ is None


async def test_an_error_inside_the_stream_is_classified_too(line: Line) -> None:
    kind = "server_is_overloaded" if line.provider == "openai" else "overloaded_error"
    line.server.script([server_of.Say("Once"), server_of.Fail(529, code=kind, in_stream=True)])
    assert (await line.fails()).kind in ("overloaded", "server")
    assert line.text == "Once"


@pytest.mark.parametrize("begun", [True, False])
async def test_silence_before_the_first_word_ends_in_time(line: Line, begun: bool) -> None:
    line.server.script([server_of.Silence(begun)])
    model = line.model(patience=1)
    assert (await line.fails(model)).kind == "timeout"
    await line.server.until(lambda: line.server.requests[0].disconnected)


async def test_silence_in_the_middle_ends_in_time(line: Line) -> None:
    line.server.script([server_of.Say("Once"), server_of.Silence()])
    assert (await line.fails(line.model(silence=0.2))).kind == "timeout"
    assert line.text == "Once"
    await line.server.until(lambda: line.server.requests[0].disconnected)


async def test_an_answer_without_end_ends_in_time(line: Line) -> None:
    line.server.script(server_of.Say(["more "] * 2000, delay=0.05))
    assert (await line.fails(line.model(total=0.5))).kind == "timeout"
    await line.server.until(lambda: line.server.requests[0].disconnected)


@pytest.mark.parametrize("part", [(), (server_of.Say("Once"),)])
async def test_a_dropped_connection_is_a_network_error(line: Line, part: tuple[server_of.Say, ...]) -> None:
    line.server.script([*part, server_of.Drop()])
    assert (await line.fails()).kind == "network"


async def test_a_server_that_is_not_there_is_a_network_error(line: Line) -> None:
    error = await line.fails(line.model(url="http://127.0.0.1:1/v1"))
    assert error.kind == "network"


async def test_an_answer_that_is_not_json_is_a_servers_error(line: Line) -> None:
    line.server.script([server_of.Say("Once"), server_of.Malformed()])
    assert (await line.fails()).kind == "server"


async def test_retrying_goes_on_until_the_provider_answers(line: Line) -> None:
    line.server.script(server_of.Fail(503), [server_of.Say("Half"), server_of.Drop()], server_of.Say("Whole."))

    async def at_once(seconds: float) -> None:
        await asyncio.sleep(0)

    answer = await RetryingModel(line.model(), sleep=at_once).answer(Request("", (user("Hi"),)), line.on_delta)
    assert answer.parts == (Text("Whole."),)
    kinds = [type(delta).__name__ for delta in line.deltas]
    assert kinds[0] == "Waiting"
    assert kinds[kinds.index("Withdrawn") + 1] == "Waiting"


# Weight


async def test_the_key_is_sent(line: Line) -> None:
    await line.ask()
    headers = line.server.requests[0].headers
    assert (headers.get("authorization", "").removeprefix("Bearer ") or headers.get("x-api-key")) == KEY


async def test_requests_side_by_side_share_one_client_and_many_connections(line: Line) -> None:
    count = 110
    line.server.script(*([server_of.Pause(), server_of.Say("Hi")] for _ in range(count)))
    model = line.model()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(model.answer(Request("", (user("Hi"),)), line.on_delta)) for _ in range(count)]
        await line.server.until(count)
        line.server.release(count)
    assert {answer.result().parts for answer in answers} == {(Text("Hi"),)}


def test_importing_the_module_loads_no_providers_library() -> None:
    program = (
        "import sys, agent.models.providers, agent.models.demo, agent.models.retry\n"
        "heavy = {'pydantic_ai', 'openai', 'anthropic', 'httpx2', 'aiohttp', 'httpx_aiohttp'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
