"""A rejected request is repeated without what may be the reason, over real sockets: no history is rejected for ever."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from agent.events import Delta, Waiting
from agent.log import Call, MessagesRead, ModelAnswered, Text, UserMessage
from agent.media import Attachment
from agent.model import Answer, Model, ModelError, Request, ToolSpec
from agent.models.chain import wrap_provider_model
from agent.models.protocols.wire import ProtocolName
from agent.models.provider import ModelOptions, Provider
from agent.models.providers import ProviderModel
from agent.testing import MemoryMedia
from agent.transcript import TURN_ENDED, Exchange, Result, Results, SystemNote
from tests.servers import models as server_of

PNG = b"\x89PNG\r\n\x1a\n of a "
SHELL = ToolSpec("shell", "Runs.", {"type": "object", "properties": {}})
LOOK = ToolSpec("look", "Looks.", {"type": "object", "properties": {}})
FAILED = SystemNote(f"{TURN_ENDED}the provider refused")


def pictures(request: server_of.Request) -> int:
    return sum(len(message.images) for message in request.messages)


def text(request: server_of.Request) -> str:
    return "\n".join(message.text for message in request.messages)


@dataclass(slots=True)
class Line:
    server: server_of.ModelServer
    model: Model
    media: MemoryMedia
    provider: str
    deltas: list[Delta] = field(default_factory=list)

    def refuse(self, holds: Callable[[server_of.Request], bool], message: str, status: int = 400) -> None:
        """The server rejects every request for which this holds, and answers the others."""
        self.server.respond(
            lambda request: server_of.Fail(status, message=message) if holds(request) else server_of.Say("Fine.")
        )

    async def ask(self, *transcript: Exchange, tools: tuple[ToolSpec, ...] = ()) -> Answer:
        self.deltas.clear()
        return await self.model.answer(Request("", transcript, tools), self._on_delta)

    async def fails(self, *transcript: Exchange, tools: tuple[ToolSpec, ...] = ()) -> ModelError:
        with pytest.raises(ModelError) as raised:
            await self.ask(*transcript, tools=tools)
        return raised.value

    async def _on_delta(self, delta: Delta) -> None:
        self.deltas.append(delta)

    @property
    def told(self) -> list[str]:
        return [delta.reason for delta in self.deltas if isinstance(delta, Waiting)]

    @property
    def sent(self) -> str:
        """The conversation of the last request, as text."""
        return text(self.server.requests[-1])


@pytest.fixture(params=["openai", "anthropic"])
async def line(request: pytest.FixtureRequest) -> AsyncIterator[Line]:
    protocol: ProtocolName = request.param
    async with server_of.ModelServer() as server:
        url = server.openai_url if protocol == "openai" else server.anthropic_url
        media = MemoryMedia()
        opened = ProviderModel(Provider(protocol, protocol, url, keys=("k",)), ModelOptions("big"), media)
        yield Line(server, wrap_provider_model(opened, f"{protocol}:big", None), media, protocol)
        await opened.aclose()
        assert server.refusals == []


def user(words: str, *files: Attachment, id: int = 1) -> MessagesRead:
    return MessagesRead(1, (UserMessage(id, "Ann", words, files),))


def said(words: str) -> ModelAnswered:
    return ModelAnswered(1, (Text(words),))


async def test_a_picture_that_the_provider_refuses_is_replaced_by_words_and_named(line: Line) -> None:
    good, bad = await line.media.put(PNG + b"dog", "dog.png"), await line.media.put(PNG + b"cat", "cat.png")
    line.refuse(lambda request: pictures(request) > 1, "Could not process image")
    answer = await line.ask(user("First", good), said("A dog."), user("And this?", bad, id=2))
    assert answer.parts == (Text("Fine."),)
    assert line.told == [f"{line.provider}:big rejected the request; trying again without the picture cat.png."]
    assert "cat.png" in line.sent
    assert "provider refused it" in line.sent
    # From then on it is not sent at all.
    await line.ask(user("First", good), said("A dog."), user("And this?", bad, id=2), said("Fine."), user("So?", id=3))
    assert (line.told, len(line.server.requests)) == ([], 3)


async def test_reasoning_that_the_provider_does_not_take_back_is_left_out(line: Line) -> None:
    line.server.script([server_of.Think("Hm."), server_of.Call("shell", {}, id="call_a")])
    answer = await line.ask(user("List"), tools=(SHELL,))
    (call,) = (part for part in answer.parts if isinstance(part, Call))
    line.refuse(
        lambda request: any(message.thoughts for message in request.messages),
        "messages.1.content.0: Invalid `signature` in `thinking` block",
    )
    history = (user("List"), ModelAnswered(1, answer.parts), Results((Result(call, "done", "a file"),)))
    assert (await line.ask(*history, tools=(SHELL,))).parts == (Text("Fine."),)
    assert line.told == [f"{line.provider}:big rejected the request; trying again without its earlier reasoning."]


async def test_a_message_that_was_refused_does_not_block_the_next_one(line: Line) -> None:
    line.refuse(lambda request: "forbidden" in text(request), "Your prompt was flagged by our content policy.")
    assert (await line.fails(user("forbidden words"))).kind == "refused"
    assert len(line.server.requests) == 1
    answer = await line.ask(user("forbidden words"), FAILED, user("Hello", id=2))
    assert answer.parts == (Text("Fine."),)
    assert line.told == [f"{line.provider}:big rejected the request; trying again without an earlier message."]
    assert "left out, because the model's provider refused it" in line.sent


async def test_a_tools_result_that_is_refused_is_left_out_and_the_model_goes_on(line: Line) -> None:
    line.refuse(lambda request: "forbidden" in text(request), "Input data may contain inappropriate content.")
    call = Call("call_a", "shell", "{}")
    history = (user("Read it"), ModelAnswered(1, (call,)), Results((Result(call, "done", "forbidden words"),)))
    assert (await line.ask(*history, tools=(SHELL,))).parts == (Text("Fine."),)
    assert line.server.requests[-1].results == {"call_a": "[left out, because the model's provider refused it]"}


@pytest.mark.parametrize("message", ["Invalid schema for function 'look'.", "tools.1.input_schema: not valid"])
async def test_one_invalid_tool_does_not_take_the_others_away(line: Line, message: str) -> None:
    line.refuse(lambda request: "look" in request.tools, message)
    await line.ask(user("Hi"), tools=(SHELL, LOOK))
    assert line.server.requests[-1].tools == ("shell",)
    assert line.told == [f"{line.provider}:big rejected the request; trying again without the tool look."]


async def test_a_request_too_large_for_a_proxy_goes_without_older_pictures(line: Line) -> None:
    old, new = await line.media.put(PNG + b"dog", "dog.png"), await line.media.put(PNG + b"cat", "cat.png")
    line.refuse(lambda request: pictures(request) > 1, "Request Entity Too Large", status=413)
    await line.ask(user("First", old), said("A dog."), user("And this?", new, id=2))
    assert pictures(line.server.requests[-1]) == 1
    assert line.told == [f"{line.provider}:big rejected the request; trying again without the picture dog.png."]


async def test_when_nothing_helps_the_first_rejection_is_told(line: Line) -> None:
    cat = await line.media.put(PNG + b"cat", "cat.png")
    line.refuse(lambda request: True, "The moon is in the wrong phase.")
    error = await line.fails(user("Look", cat))
    assert "wrong phase" in str(error)
    assert len(line.server.requests) == 2


async def test_a_request_with_nothing_to_leave_out_is_sent_once(line: Line) -> None:
    line.refuse(lambda request: True, "The moon is in the wrong phase.")
    await line.fails(user("Hello"))
    assert (len(line.server.requests), line.told) == (1, [])
