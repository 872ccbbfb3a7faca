"""Requests of OpenAI's clients to what they ask of the gateway. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, BeforeValidator, Field

from channels.message import DeclaredTool
from channels.runs import CallResult
from channels.web.parse import clean_name, clean_text
from gateway.api.bodies import MAX_FILES, MAX_TEXT
from gateway.api.openai.errors import Refusal

MODEL = "interject"
"""The model that is the agent which the settings choose; `interject/NAME` is the agent of that name."""

RESPONSE = "resp_"
"""Begins the id of a response; its run follows."""

_SEPARATOR = "."

_CONVERSATION = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class GivenFile:
    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `agent` is "" for the one that the settings choose. `conversation` None: a conversation of its own,
    of which `note` tells the model what the request says of it. With `results`, of the run `run`, nothing new is
    said. `after` is the run of an earlier answer, in whose conversation this is."""

    agent: str
    conversation: str | None
    text: str = ""
    files: tuple[GivenFile, ...] = ()
    note: str = ""
    tools: tuple[DeclaredTool, ...] = ()
    run: str = ""
    results: tuple[CallResult, ...] = ()
    stream: bool = False
    after: str = ""


class _Loose(BaseModel, extra="ignore"):
    """Clients send many fields that mean nothing here (temperature, seed, …)."""


class Function(_Loose):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(_Loose):
    type: str = "function"
    function: Function | None = None
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Part(_Loose):
    """A part of a message, in either protocol's words."""

    type: str
    text: str = ""
    image_url: Any = None
    file: dict[str, Any] | None = None
    file_data: str | None = None
    filename: str | None = None


def _as_parts(content: Any) -> Any:
    if content is None:
        return []
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


Parts = Annotated[list[Part], BeforeValidator(_as_parts)]


class CalledFunction(_Loose):
    name: str = ""
    arguments: str = ""


class ToolCall(_Loose):
    id: str
    function: CalledFunction = CalledFunction()


class ChatMessage(_Loose):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Parts = []
    tool_call_id: str = ""
    tool_calls: list[ToolCall] | None = None


class StreamOptions(_Loose):
    include_usage: bool = False


class ChatRequest(_Loose):
    """The body of POST /v1/chat/completions."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    tools: list[Tool] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None


class ResponsesItem(_Loose):
    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: Parts = []
    call_id: str = ""
    output: Any = ""


def _as_items(given: Any) -> Any:
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


class ResponsesRequest(_Loose):
    """The body of POST /v1/responses."""

    model: str
    input: Annotated[list[ResponsesItem], BeforeValidator(_as_items)] = Field(min_length=1)
    instructions: str | None = None
    stream: bool = False
    tools: list[Tool] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None


def asked_in_chat(body: ChatRequest, conversation: str | None) -> Asked:
    """Raises `Refusal`."""
    conversation = _named(conversation or (body.metadata or {}).get("conversation"))
    results = _tail(body.messages, "tool")
    common = (_agent_of(body.model), conversation)
    if results:
        run, found = _results((each.tool_call_id, _text(each.content)) for each in results)
        return Asked(*common, run=run, results=found, stream=body.stream)
    said = _tail(body.messages, "user")
    if not said:
        raise Refusal(400, "no_user_message", 'The last of the messages must be of the role "user" or "tool".')
    before = body.messages[: len(body.messages) - len(said)]
    text, files = _content(part for each in said for part in each.content)
    note = "" if conversation else _note([(each.role, _text(each.content)) for each in before])
    return Asked(*common, text, files, note, _declared(body.tools or ()), stream=body.stream)


def asked_in_responses(body: ResponsesRequest, conversation: str | None) -> Asked:
    """Raises `Refusal`."""
    given = body.conversation.get("id") if isinstance(body.conversation, dict) else body.conversation
    conversation = _named(conversation or given or (body.metadata or {}).get("conversation"))
    common = (_agent_of(body.model), conversation)
    results = list(takewhile(lambda item: item.type == "function_call_output", reversed(body.input)))[::-1]
    if results:
        run, found = _results((each.call_id, _output(each.output)) for each in results)
        return Asked(*common, run=run, results=found, stream=body.stream)
    messages = [item for item in body.input if item.type == "message"]
    said = list(takewhile(lambda item: item.role == "user", reversed(messages)))[::-1]
    if not said:
        raise Refusal(400, "no_user_message", "The input must end with what a user says, or with outputs of calls.")
    text, files = _content(part for each in said for part in each.content)
    before = [(item.role, _text(item.content)) for item in messages[: len(messages) - len(said)]]
    instructions = [("system", body.instructions)] if body.instructions else []
    after = "" if conversation else (body.previous_response_id or "").removeprefix(RESPONSE)
    note = "" if conversation or after else _note([*instructions, *before])
    return Asked(*common, text, files, note, _declared(body.tools or ()), stream=body.stream, after=after)


def call_id(run: str, call: str) -> str:
    """The id of a call for clients, from which the run is found again after a restart."""
    return f"{run}{_SEPARATOR}{call}"


def _named(conversation: object) -> str | None:
    """The name of a conversation; None if there is none."""
    if not conversation:
        return None
    if not isinstance(conversation, str) or not _CONVERSATION.fullmatch(conversation):
        message = "The name of a conversation must be 1 to 64 letters, digits, '-' and '_'."
        raise Refusal(400, "invalid_conversation", message)
    return conversation


def _agent_of(model: str) -> str:
    head, _, name = model.partition("/")
    if head != MODEL:
        raise unknown_model(model)
    return name


def unknown_model(model: str) -> Refusal:
    return Refusal(404, "model_not_found", f'There is no model "{model}". GET /v1/models lists them.')


def _tail(messages: Sequence[ChatMessage], role: str) -> list[ChatMessage]:
    return list(takewhile(lambda message: message.role == role, reversed(messages)))[::-1]


def _results(given: Iterable[tuple[str, str]]) -> tuple[str, tuple[CallResult, ...]]:
    runs, results = set(), []
    for id, text in given:
        run, separator, call = id.partition(_SEPARATOR)
        if not separator:
            raise Refusal(400, "unknown_tool_call", f'There is no call "{id}".')
        runs.add(run)
        results.append(CallResult(call, _plain(text)))
    if len(runs) != 1:
        raise Refusal(400, "wrong_tool_results", "The results must be of the calls of one answer.")
    return runs.pop(), tuple(results)


def _note(messages: Sequence[tuple[str, str]]) -> str:
    """What a request says of the conversation before its last message, in words for the model."""
    instructions = "\n\n".join(text for role, text in messages if role in ("system", "developer") and text)
    said = "\n".join(f"{role}: {text}" for role, text in messages if role in ("user", "assistant") and text)
    blocks = []
    if instructions:
        blocks.append(f"The program that sends this message gives these instructions:\n{instructions}")
    if said:
        blocks.append(f"The conversation before, as the program tells it:\n{said}")
    return _plain("\n\n".join(blocks))


def _text(parts: Iterable[Part]) -> str:
    return "\n".join(part.text for part in parts if part.text)


def _output(output: Any) -> str:
    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)


def _content(parts: Iterable[Part]) -> tuple[str, tuple[GivenFile, ...]]:
    texts, files = [], []
    for part in parts:
        match part.type:
            case "text" | "input_text" | "output_text":
                texts.append(part.text)
            case "image_url" | "input_image":
                address = part.image_url.get("url") if isinstance(part.image_url, dict) else part.image_url
                files.append(_from_data_url(str(address or ""), "picture"))
            case "file" | "input_file":
                given = part.file or {"file_data": part.file_data, "filename": part.filename}
                files.append(_from_data_url(str(given.get("file_data") or ""), str(given.get("filename") or "file")))
            case _:
                raise Refusal(400, "unsupported_content", f'Content of the type "{part.type}" is not supported.')
    if len(files) > MAX_FILES:
        raise Refusal(413, "too_many_files", f"The message has {len(files)} files; the limit is {MAX_FILES}.")
    return _plain("\n".join(texts)), tuple(files)


def _plain(text: str) -> str:
    """The text as it is stored. Raises `Refusal` if it is too long."""
    if len(text) > MAX_TEXT:
        raise Refusal(413, "too_long", f"A text has {len(text):,} characters; the limit is {MAX_TEXT:,}.")
    return clean_text(text)


def _from_data_url(address: str, name: str) -> GivenFile:
    """The file in a `data:` URL (RFC 2397). Other addresses are refused: the gateway fetches nothing for a request."""
    head, comma, data = address.partition(",")
    if not address.startswith("data:") or not comma:
        raise Refusal(400, "unsupported_address", 'Pictures and files must be sent as "data:" URLs.')
    try:
        content = base64.b64decode(data, validate=True) if head.endswith(";base64") else unquote_to_bytes(data)
    except (binascii.Error, ValueError):
        raise Refusal(400, "invalid_base64", f"The data of {name} is not valid base64.") from None
    kind = head.removeprefix("data:").partition(";")[0]
    suffix = kind.partition("/")[2] if kind.startswith("image/") and "." not in name else ""
    return GivenFile(clean_name(f"{name}.{suffix}" if suffix else name), content)


def _declared(tools: Iterable[Tool]) -> tuple[DeclaredTool, ...]:
    """Functions only: other tools (web search, …) are the provider's, and the agent has its own."""
    found = []
    for tool in tools:
        given = tool.function or (Function(**tool.model_dump(exclude={"type", "function"})) if tool.name else None)
        if tool.type == "function" and given is not None:
            schema = given.parameters or {"type": "object", "properties": {}}
            found.append(DeclaredTool(given.name, clean_text(given.description or ""), schema))
    return tuple(found)
