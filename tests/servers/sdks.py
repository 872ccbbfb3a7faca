"""The SDKs of OpenAI and Anthropic behind one interface: what they hear from a model server, in the same words."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, assert_never

import anthropic
import openai

from tests.servers.models import ModelServer, Provider


@dataclass(frozen=True, slots=True)
class User:
    text: str
    image: bytes | None = None


@dataclass(frozen=True, slots=True)
class Called:
    id: str
    name: str
    arguments: str

    @property
    def parsed(self) -> Any:
        return json.loads(self.arguments)


@dataclass(frozen=True, slots=True)
class Returned:
    id: str
    text: str = "done"
    image: bytes | None = None


@dataclass(slots=True)
class Heard:
    """An answer; `given` is what of it has to be sent back besides, in the protocol's own form."""

    text: str = ""
    thoughts: str = ""
    calls: list[Called] = field(default_factory=list)
    finish: str = ""
    tokens: tuple[int, int, int] = (0, 0, 0)
    given: list[dict[str, Any]] = field(default_factory=list)


Said = User | Heard | Returned
OnText = Callable[[str], None]


class StreamFailed(Exception):
    """The server told an error inside the stream, which the SDK passed on as an event."""


class Sdk(Protocol):
    provider: Provider

    async def ask(
        self,
        *history: Said,
        streamed: bool = True,
        system: str = "",
        on_text: OnText = ...,
        timeout: float = 60,  # noqa: ASYNC109 - the SDK's own
    ) -> Heard:
        """`on_text` is told the text so far with each piece."""

    async def close(self) -> None: ...


def sdk(provider: Provider, server: ModelServer) -> Sdk:
    match provider:
        case "openai":
            return _ChatCompletions(server)
        case "openai-responses":
            return _Responses(server)
        case "anthropic":
            return _Messages(server)
        case _:
            assert_never(provider)


def _data_url(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _nothing(text: str) -> None:
    return None


class _ChatCompletions:
    provider: Provider = "openai"

    def __init__(self, server: ModelServer) -> None:
        self._client = openai.AsyncOpenAI(base_url=server.openai_url, api_key="k", max_retries=0)

    async def close(self) -> None:
        await self._client.close()

    async def ask(
        self,
        *history: Said,
        streamed: bool = True,
        system: str = "",
        on_text: OnText = _nothing,
        timeout: float = 60,  # noqa: ASYNC109
    ) -> Heard:
        messages: list[Any] = [{"role": "system", "content": system}] if system else []
        messages += [message for said in history for message in self._messages(said)]
        tools: list[Any] = [{"type": "function", "function": {"name": "shell", "parameters": {"type": "object"}}}]
        given: dict[str, Any] = {"model": "test-model", "messages": messages, "tools": tools, "timeout": timeout}
        heard = Heard()
        if not streamed:
            whole = (await self._client.chat.completions.create(**given)).to_dict()
            message = whole["choices"][0]["message"]  # type: ignore[index]
            self._read(heard, message, whole)
            heard.finish = whole["choices"][0]["finish_reason"]  # type: ignore[index]
            return heard
        stream = await self._client.chat.completions.create(
            **given, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            data: dict[str, Any] = chunk.to_dict()
            for choice in data["choices"]:
                self._read(heard, choice["delta"], data)
                heard.finish = choice.get("finish_reason") or heard.finish
                on_text(heard.text)
            self._read(heard, {}, data)
        return heard

    def _read(self, heard: Heard, piece: dict[str, Any], whole: dict[str, Any]) -> None:
        heard.text += piece.get("content") or ""
        heard.thoughts += piece.get("reasoning_content") or ""
        for call in piece.get("tool_calls") or ():
            function = call["function"]
            if "name" in function:
                heard.calls.append(Called(call["id"], function["name"], ""))
            last = heard.calls[-1]
            heard.calls[-1] = Called(last.id, last.name, last.arguments + function["arguments"])
        if usage := whole.get("usage"):
            cached = usage["prompt_tokens_details"]["cached_tokens"]
            heard.tokens = (usage["prompt_tokens"], usage["completion_tokens"], cached)

    def _messages(self, said: Said) -> list[dict[str, Any]]:
        match said:
            case User(text, None):
                return [{"role": "user", "content": text}]
            case User(text, bytes() as image):
                picture = {"type": "image_url", "image_url": {"url": _data_url(image)}}
                return [{"role": "user", "content": [{"type": "text", "text": text}, picture]}]
            case Heard():
                calls = [
                    {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                    for call in said.calls
                ]
                message = {"role": "assistant", "content": said.text or None, "reasoning_content": said.thoughts}
                return [{**message, "tool_calls": calls} if calls else message]
            case Returned(id, text, image):
                result = {"role": "tool", "tool_call_id": id, "content": text}
                return [result] if image is None else [result, *self._messages(User("The picture:", image))]
            case _:
                assert_never(said)


class _Responses:
    provider: Provider = "openai-responses"

    def __init__(self, server: ModelServer) -> None:
        self._client = openai.AsyncOpenAI(base_url=server.openai_url, api_key="k", max_retries=0)

    async def close(self) -> None:
        await self._client.close()

    async def ask(
        self,
        *history: Said,
        streamed: bool = True,
        system: str = "",
        on_text: OnText = _nothing,
        timeout: float = 60,  # noqa: ASYNC109
    ) -> Heard:
        heard = Heard()
        given: dict[str, Any] = {
            "model": "test-model",
            "input": [item for said in history for item in self._items(said)],
            "tools": [{"type": "function", "name": "shell", "parameters": {"type": "object"}, "strict": False}],
            "include": ["reasoning.encrypted_content"],
            "store": False,
            "timeout": timeout,
            **({"instructions": system} if system else {}),
        }
        if not streamed:
            self._end(heard, (await self._client.responses.create(**given)).to_dict())
            return heard
        async for event in await self._client.responses.create(**given, stream=True):
            data: dict[str, Any] = event.to_dict()
            match data["type"]:
                case "response.output_text.delta":
                    heard.text += data["delta"]
                    on_text(heard.text)
                case "error":
                    raise StreamFailed(data["message"])
                case "response.completed" | "response.incomplete":
                    self._end(heard, data["response"])
        return heard

    def _end(self, heard: Heard, response: Any) -> None:
        heard.given = [{key: value for key, value in item.items() if value is not None} for item in response["output"]]
        heard.text = ""
        for item in heard.given:
            match item["type"]:
                case "message":
                    heard.text += "".join(part["text"] for part in item["content"])
                case "reasoning":
                    heard.thoughts += "".join(part["text"] for part in item["summary"])
                case "function_call":
                    heard.calls.append(Called(item["call_id"], item["name"], item["arguments"]))
        is_cut = response["status"] == "incomplete"
        heard.finish = "length" if is_cut else "tool_calls" if heard.calls else "stop"
        if usage := response["usage"]:
            cached = usage["input_tokens_details"]["cached_tokens"]
            heard.tokens = (usage["input_tokens"], usage["output_tokens"], cached)

    def _items(self, said: Said) -> list[dict[str, Any]]:
        match said:
            case User(text, None):
                return [{"role": "user", "content": text}]
            case User(text, bytes() as image):
                picture = {"type": "input_image", "image_url": _data_url(image), "detail": "auto"}
                return [{"role": "user", "content": [{"type": "input_text", "text": text}, picture]}]
            case Heard(given=[_, *_]):
                return said.given
            case Heard():
                words = [{"role": "assistant", "content": said.text}] if said.text else []
                calls = [
                    {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
                    for call in said.calls
                ]
                return [*words, *calls]
            case Returned(id, text, None):
                return [{"type": "function_call_output", "call_id": id, "output": text}]
            case Returned(id, text, bytes() as image):
                picture = {"type": "input_image", "image_url": _data_url(image), "detail": "auto"}
                output = [{"type": "input_text", "text": text}, picture]
                return [{"type": "function_call_output", "call_id": id, "output": output}]
            case _:
                assert_never(said)


class _Messages:
    provider: Provider = "anthropic"

    def __init__(self, server: ModelServer) -> None:
        self._client = anthropic.AsyncAnthropic(base_url=server.anthropic_url, api_key="k", max_retries=0)

    async def close(self) -> None:
        await self._client.close()

    async def ask(
        self,
        *history: Said,
        streamed: bool = True,
        system: str = "",
        on_text: OnText = _nothing,
        timeout: float = 60,  # noqa: ASYNC109
    ) -> Heard:
        heard = Heard()
        given: dict[str, Any] = {
            "model": "test-model",
            "max_tokens": 1000,
            "messages": [{"role": role, "content": block} for said in history for role, block in self._blocks(said)],
            "tools": [{"name": "shell", "input_schema": {"type": "object"}}],
            "timeout": timeout,
            **({"system": system} if system else {}),
        }
        if not streamed:
            whole: dict[str, Any] = (await self._client.messages.create(**given)).to_dict()
            for block in whole["content"]:
                self._begin(heard, block)
            self._end(heard, whole["stop_reason"], whole["usage"])
            return heard
        async for event in await self._client.messages.create(**given, stream=True):
            data: dict[str, Any] = event.to_dict()
            match data["type"]:
                case "content_block_start":
                    self._begin(heard, {**data["content_block"], "input": None})
                case "content_block_delta":
                    self._add(heard, data["delta"])
                    on_text(heard.text)
                case "message_delta":
                    self._end(heard, data["delta"]["stop_reason"], data["usage"])
        return heard

    def _begin(self, heard: Heard, block: dict[str, Any]) -> None:
        match block["type"]:
            case "text":
                heard.text += block["text"]
            case "thinking":
                heard.thoughts += block["thinking"]
                heard.given.append(block)
            case "tool_use":
                arguments = "" if block["input"] is None else json.dumps(block["input"])
                heard.calls.append(Called(block["id"], block["name"], arguments))

    def _add(self, heard: Heard, delta: dict[str, Any]) -> None:
        match delta["type"]:
            case "text_delta":
                heard.text += delta["text"]
            case "thinking_delta":
                heard.thoughts += delta["thinking"]
                heard.given[-1] = {**heard.given[-1], "thinking": heard.thoughts}
            case "signature_delta":
                heard.given[-1] = {**heard.given[-1], "signature": delta["signature"]}
            case "input_json_delta":
                last = heard.calls[-1]
                heard.calls[-1] = Called(last.id, last.name, last.arguments + delta["partial_json"])

    def _end(self, heard: Heard, reason: str, usage: dict[str, Any]) -> None:
        heard.finish = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls"}[reason]
        cached = usage["cache_read_input_tokens"]
        heard.tokens = (usage["input_tokens"] + cached, usage["output_tokens"], cached)

    def _blocks(self, said: Said) -> list[tuple[str, list[dict[str, Any]]]]:
        match said:
            case User(text, image):
                return [("user", [{"type": "text", "text": text}, *_source(image)])]
            case Heard():
                words = [{"type": "text", "text": said.text}] if said.text else []
                calls = [
                    {"type": "tool_use", "id": call.id, "name": call.name, "input": call.parsed} for call in said.calls
                ]
                thoughts = [{key: block[key] for key in ("type", "thinking", "signature")} for block in said.given]
                return [("assistant", [*thoughts, *words, *calls])]
            case Returned(id, text, image):
                content = [{"type": "text", "text": text}, *_source(image)]
                return [("user", [{"type": "tool_result", "tool_use_id": id, "content": content}])]
            case _:
                assert_never(said)


def _source(image: bytes | None) -> Sequence[dict[str, Any]]:
    if image is None:
        return ()
    data = base64.b64encode(image).decode()
    return ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},)
