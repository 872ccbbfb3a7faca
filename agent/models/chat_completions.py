"""Conversations as the body of an OpenAI Chat Completions request.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal, assert_never
from urllib.parse import urlsplit

from agent.log import Call, MessagesRead, ModelAnswered, Text, Thinking
from agent.model import Request, ToolSpec
from agent.models.content import (
    LoadedImages,
    Piece,
    image_content,
    in_words,
    marked,
    message_content,
    notice_text,
    result_text,
)
from agent.transcript import Exchange, Results, SystemNote

PROVIDER = "openai"

REASONING_FIELDS = frozenset({"reasoning", "reasoning_content"})
"""Where compatible servers put reasoning (OpenAI itself has none here), and where they want to see it again."""

Message = dict[str, Any]


Limit = Literal["max_completion_tokens", "max_tokens"]
"""What the bound on an answer's length is called: OpenAI's newer models (at Azure too) refuse the second name, and
servers that are only compatible may not know the first."""


def max_tokens_field(base_url: str | None) -> Limit:
    """The name that the server at the address knows; None is OpenAI's own."""
    newer = base_url is None or "openai" in (urlsplit(base_url).hostname or "")
    return "max_completion_tokens" if newer else "max_tokens"


def body(request: Request, sights: LoadedImages, *, limit: Limit = "max_completion_tokens") -> dict[str, Any]:
    """The request's part of the body."""
    messages: list[Message] = []
    if request.instructions:
        messages.append({"role": "system", "content": request.instructions})
    for exchange in marked(request.transcript):
        messages += _messages(exchange, sights)
    parts: dict[str, Any] = {"messages": messages}
    if request.tools:
        parts["tools"] = [_tool(tool) for tool in request.tools]
        if request.in_words:
            parts["tool_choice"] = "none"
    if request.settings.temperature is not None:
        parts["temperature"] = request.settings.temperature
    if request.settings.max_tokens is not None:
        parts[limit] = request.settings.max_tokens
    return parts


def _messages(exchange: Exchange, sights: LoadedImages) -> Iterable[Message]:
    match exchange:
        case MessagesRead():
            return (_user(message_content(exchange, sights)),)
        case ModelAnswered():
            return _assistant(exchange)
        case Results():
            return _results(exchange, sights)
        case SystemNote():
            return ({"role": "user", "content": notice_text(exchange)},)
        case _:
            assert_never(exchange)


def _user(pieces: list[Piece]) -> Message:
    words = in_words(pieces)
    return {"role": "user", "content": [_part(piece) for piece in pieces] if words is None else words}


def _part(piece: Piece) -> dict[str, Any]:
    if isinstance(piece, str):
        return {"type": "text", "text": piece}
    return {"type": "image_url", "image_url": {"url": f"data:{piece.media_type};base64,{piece.data}"}}


def _assistant(answered: ModelAnswered) -> tuple[Message, ...]:
    parts = answered.parts
    if len(parts) == 1 and isinstance(parts[0], Text):
        return ({"role": "assistant", "content": parts[0].text},)
    text = answered.text
    if calls := answered.calls:
        tool_calls = [_call(call) for call in calls]
        return ({"role": "assistant", "content": text or None, **_reasoning(answered), "tool_calls": tool_calls},)
    return ({"role": "assistant", "content": text},) if text else ()


def _reasoning(answered: ModelAnswered) -> dict[str, str]:
    """Reasoning leads up to its calls, and servers that have it want it back with them; elsewhere it is dropped."""
    fields: dict[str, str] = {}
    for part in answered.parts:
        if isinstance(part, Thinking) and part.provider == PROVIDER and part.id in REASONING_FIELDS:
            fields[part.id] = fields.get(part.id, "") + part.text
    return fields


def _call(call: Call) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _sound(call.arguments)}}


def _sound(arguments: str) -> str:
    """Servers parse the arguments in the history, and refuse the whole request over broken ones."""
    try:
        is_object = isinstance(json.loads(arguments), dict)
    except ValueError:
        is_object = False
    return arguments if is_object else json.dumps({"not_valid_json": arguments} if arguments else {})


def _results(results: Results, sights: LoadedImages) -> Iterator[Message]:
    for result in results.results:
        yield {"role": "tool", "tool_call_id": result.call.id, "content": result_text(result)}
    # Pictures are only allowed in a user's message, which may not stand between the results.
    images = image_content((image for result in results.results for image in result.images), sights)
    if images:
        yield _user(["[Pictures from the tool results above]", *images])


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.schema}
    return {"type": "function", "function": function}
