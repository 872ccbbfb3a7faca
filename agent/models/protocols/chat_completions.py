"""Renders a conversation as the body of an OpenAI Chat Completions request.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, assert_never
from urllib.parse import urlsplit

from agent.log import Call, MessagesRead, ModelAnswered, Text, Thinking
from agent.model import Request, ToolSpec
from agent.models.content import (
    ContentPart,
    LoadedImages,
    image_content,
    instructions_of,
    joined_text,
    message_content,
    notice_text,
    result_text,
    with_notices,
)
from agent.models.protocols.wire import Feature, JsonObject, Target
from agent.transcript import Exchange, Results, SystemNote

PROVIDER = "openai"

REASONING_FIELDS = frozenset({"reasoning", "reasoning_content"})
"""The fields in which compatible servers send reasoning (OpenAI itself sends none), and expect it in the history."""

Message = dict[str, Any]


def refused_at(base_url: str) -> frozenset[Feature]:
    """What is known of the server at an address: OpenAI's newer models (at Azure too) reject `max_tokens`, and servers
    that are only compatible may not know the newer name."""
    is_openai = "openai" in (urlsplit(base_url).hostname or "")
    return frozenset() if is_openai else frozenset({"max_completion_tokens"})


def body(request: Request, images: LoadedImages, target: Target) -> JsonObject:
    """The part of the body that comes from the request."""
    messages: list[Message] = []
    if instructions := instructions_of(request):
        messages.append({"role": "system", "content": instructions})
    for exchange in with_notices(request.transcript):
        messages += _messages(exchange, images)
    fields: dict[str, Any] = {"messages": messages}
    if request.tools:
        fields["tools"] = [_tool(tool) for tool in request.tools]
        if request.text_only:
            fields["tool_choice"] = "none"
    if request.settings.temperature is not None:
        fields["temperature"] = request.settings.temperature
    if request.settings.max_tokens is not None:
        name = "max_completion_tokens" if target.takes("max_completion_tokens") else "max_tokens"
        fields[name] = request.settings.max_tokens
    return fields


def _messages(exchange: Exchange, images: LoadedImages) -> Iterable[Message]:
    match exchange:
        case MessagesRead():
            return (_user(message_content(exchange, images)),)
        case ModelAnswered():
            return _assistant(exchange)
        case Results():
            return _results(exchange, images)
        case SystemNote():
            return ({"role": "user", "content": notice_text(exchange)},)
        case _:
            assert_never(exchange)


def _user(parts: list[ContentPart]) -> Message:
    text = joined_text(parts)
    return {"role": "user", "content": [_part(part) for part in parts] if text is None else text}


def _part(part: ContentPart) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image_url", "image_url": {"url": f"data:{part.media_type};base64,{part.data}"}}


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
    """The reasoning that led to the calls: servers that send it require it with them. Without calls it is dropped."""
    fields: dict[str, str] = {}
    for part in answered.parts:
        if isinstance(part, Thinking) and part.provider == PROVIDER and part.id in REASONING_FIELDS:
            fields[part.id] = fields.get(part.id, "") + part.text
    return fields


def _call(call: Call) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _valid(call.arguments)}}


def _valid(arguments: str) -> str:
    """The arguments as valid JSON: servers parse those in the history and reject the whole request if they cannot."""
    try:
        is_object = isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        is_object = False
    return arguments if is_object else json.dumps({"not_valid_json": arguments} if arguments else {})


def _results(results: Results, images: LoadedImages) -> Iterator[Message]:
    for result in results.results:
        yield {"role": "tool", "tool_call_id": result.call.id, "content": result_text(result)}
    # Images are only allowed in a user's message, which may not come between the results.
    content = image_content((image for result in results.results for image in result.images), images)
    if content:
        yield _user(["[Pictures from the tool results above]", *content])


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.schema}
    return {"type": "function", "function": function}
