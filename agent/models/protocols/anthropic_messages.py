"""Renders a conversation as the body of an Anthropic Messages request.

Source: https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, assert_never

from agent.gate import json_value
from agent.log import Call, MessagesRead, ModelAnswered, Native, Text, Thinking
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
from agent.models.protocols.wire import JsonObject, Target
from agent.transcript import Exchange, Result, Results, SystemNote

PROVIDER = "anthropic"

REDACTED = "redacted_thinking"

WEB_SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
"""The provider's web search: https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/web-search-tool"""

CACHE_BREAKPOINT = {"cache_control": {"type": "ephemeral"}}
"""Later requests may read everything up to here from the prompt cache, in the order of tools, instructions, messages.
At most four breakpoints are allowed in a request.

Source: https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching
"""

CACHEABLE = frozenset({"text", "image", "tool_use", "tool_result"})
"""The types of blocks that may carry a breakpoint."""

Message = dict[str, Any]
Block = dict[str, Any]


def body(request: Request, images: LoadedImages, target: Target) -> JsonObject:
    """The part of the body that comes from the request."""
    fields: dict[str, Any] = {"messages": _messages(request, images)}
    if instructions := instructions_of(request):
        fields["system"] = [{**_block(instructions), **CACHE_BREAKPOINT}]
    if tools := [*map(_tool, request.tools), *([WEB_SEARCH] if target.web_search else [])]:
        fields["tools"] = [*tools[:-1], {**tools[-1], **CACHE_BREAKPOINT}]
        if request.text_only:
            fields["tool_choice"] = {"type": "none"}
    if request.settings.temperature is not None:
        fields["temperature"] = request.settings.temperature
    if request.settings.max_tokens is not None:
        fields["max_tokens"] = request.settings.max_tokens
    return fields


def _messages(request: Request, images: LoadedImages) -> list[Message]:
    """The conversation, with cache breakpoints at its end and before people's newest messages: what comes before those
    is the same in later requests, what comes after them may change."""
    messages: list[Message] = []
    last_stable = -1
    for exchange in with_notices(request.transcript):
        message = _message(exchange, images)
        if message["content"]:
            if isinstance(exchange, MessagesRead):
                last_stable = len(messages) - 1
            messages.append(message)
    for index in {last_stable, len(messages) - 1} - {-1}:
        messages[index] = _with_breakpoint(messages[index])
    return messages


def _message(exchange: Exchange, images: LoadedImages) -> Message:
    match exchange:
        case MessagesRead():
            return {"role": "user", "content": _content(message_content(exchange, images))}
        case ModelAnswered():
            return {"role": "assistant", "content": _answer(exchange)}
        case Results():
            return {"role": "user", "content": [_result(result, images) for result in exchange.results]}
        case SystemNote():
            return {"role": "user", "content": notice_text(exchange)}
        case _:
            assert_never(exchange)


def _with_breakpoint(message: Message) -> Message:
    """The message with a breakpoint at its last block that can carry one, if any."""
    content = message["content"]
    blocks = [_block(content)] if isinstance(content, str) else content
    last = next((index for index in reversed(range(len(blocks))) if blocks[index]["type"] in CACHEABLE), None)
    if last is None:
        return message
    return {**message, "content": [*blocks[:last], {**blocks[last], **CACHE_BREAKPOINT}, *blocks[last + 1 :]]}


def _content(parts: list[ContentPart]) -> str | list[Block]:
    text = joined_text(parts)
    return [_block(part) for part in parts] if text is None else text


def _block(part: ContentPart) -> Block:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": part.data}}


def _answer(answered: ModelAnswered) -> str | list[Block]:
    parts = answered.parts
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text if parts[0].text.strip() else ""
    blocks = list(_answer_blocks(answered))
    # A message of thinking alone is rejected, and carries no information.
    return blocks if any(block["type"] in ("text", "tool_use") for block in blocks) else ""


def _answer_blocks(answered: ModelAnswered) -> Iterator[Block]:
    native = _native_blocks(answered)
    for index, part in enumerate(answered.parts):
        match part:
            case Text():
                if part.text.strip():
                    yield _block(part.text)
            case Thinking():
                yield from _thinking(part)
            case Call():
                yield {"type": "tool_use", "id": _id(part), "name": part.name, "input": _input(part.arguments)}
            case Native():
                if index in native:
                    yield native[index]
            case _:
                assert_never(part)


def _native_blocks(answered: ModelAnswered) -> dict[int, Block]:
    """Calls and results of the provider's own tools, by their index in the answer. A call without a result, which an
    answer that was cut off may have, would be rejected and is left out."""
    blocks: dict[int, Block] = {
        index: json_value(json.loads(part.data))
        for index, part in enumerate(answered.parts)
        if isinstance(part, Native) and part.provider == PROVIDER
    }
    called = {block["id"] for block in blocks.values() if "id" in block}
    ended = {block["tool_use_id"] for block in blocks.values() if "tool_use_id" in block}
    complete = called & ended
    return {index: block for index, block in blocks.items() if block.get("id", block.get("tool_use_id")) in complete}


def _thinking(part: Thinking) -> Iterator[Block]:
    """Thinking is accepted only with its signature, which an interrupted block does not have."""
    if part.provider != PROVIDER or not part.signature:
        return
    if part.id == REDACTED:
        yield {"type": REDACTED, "data": part.signature}
    else:
        yield {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _id(call: Call) -> str:
    """The call's id; ids from other providers may contain characters that this one rejects."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", call.id)


def _input(arguments: str) -> dict[str, Any]:
    try:
        value = json_value(json.loads(arguments or "{}"))
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"not_valid_json": arguments}


def _result(result: Result, images: LoadedImages) -> Block:
    parts: list[ContentPart] = [result_text(result), *image_content(result.images, images)]
    failed = {"is_error": True} if result.outcome == "failed" else {}
    return {"type": "tool_result", "tool_use_id": _id(result.call), "content": _content(parts), **failed}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
