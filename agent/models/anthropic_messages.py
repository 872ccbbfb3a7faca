"""Conversations as the body of an Anthropic Messages request.

Source: https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, assert_never

from agent.log import Call, MessagesRead, ModelAnswered, Native, Text, Thinking
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
from agent.transcript import Exchange, Result, Results, SystemNote

PROVIDER = "anthropic"

REDACTED = "redacted_thinking"

WEB_SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
"""The provider's own search: https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/web-search-tool"""

CACHE = {"cache_control": {"type": "ephemeral"}}
"""A mark: everything up to here may be read from the prompt cache by later requests, in the order of tools,
instructions, messages. At most four are allowed in a request.

Source: https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching
"""

MARKABLE = frozenset({"text", "image", "tool_use", "tool_result"})

Message = dict[str, Any]
Block = dict[str, Any]


def body(request: Request, sights: LoadedImages, *, web_search: bool = False) -> dict[str, Any]:
    """The request's part of the body. With `web_search` the provider may search the web by itself."""
    parts: dict[str, Any] = {"messages": _messages(request, sights)}
    if request.instructions:
        parts["system"] = [{**_block(request.instructions), **CACHE}]
    if tools := [*map(_tool, request.tools), *([WEB_SEARCH] if web_search else [])]:
        parts["tools"] = [*tools[:-1], {**tools[-1], **CACHE}]
        if request.in_words:
            parts["tool_choice"] = {"type": "none"}
    if request.settings.temperature is not None:
        parts["temperature"] = request.settings.temperature
    if request.settings.max_tokens is not None:
        parts["max_tokens"] = request.settings.max_tokens
    return parts


def _messages(request: Request, sights: LoadedImages) -> list[Message]:
    """The conversation, marked at its end and before the newest words of people: what comes after those may look
    different next time, what came before them does not."""
    messages: list[Message] = []
    settled = -1
    for exchange in marked(request.transcript):
        message = _message(exchange, sights)
        if message["content"]:
            if isinstance(exchange, MessagesRead):
                settled = len(messages) - 1
            messages.append(message)
    for place in {settled, len(messages) - 1} - {-1}:
        messages[place] = _cached(messages[place])
    return messages


def _message(exchange: Exchange, sights: LoadedImages) -> Message:
    match exchange:
        case MessagesRead():
            return {"role": "user", "content": _content(message_content(exchange, sights))}
        case ModelAnswered():
            return {"role": "assistant", "content": _answer(exchange)}
        case Results():
            return {"role": "user", "content": [_result(result, sights) for result in exchange.results]}
        case SystemNote():
            return {"role": "user", "content": notice_text(exchange)}
        case _:
            assert_never(exchange)


def _cached(message: Message) -> Message:
    """Marked at its last block that can carry a mark, if it has one."""
    content = message["content"]
    blocks = [_block(content)] if isinstance(content, str) else content
    place = next((place for place in reversed(range(len(blocks))) if blocks[place]["type"] in MARKABLE), None)
    if place is None:
        return message
    return {**message, "content": [*blocks[:place], {**blocks[place], **CACHE}, *blocks[place + 1 :]]}


def _content(pieces: list[Piece]) -> str | list[Block]:
    words = in_words(pieces)
    return [_block(piece) for piece in pieces] if words is None else words


def _block(piece: Piece) -> Block:
    if isinstance(piece, str):
        return {"type": "text", "text": piece}
    return {"type": "image", "source": {"type": "base64", "media_type": piece.media_type, "data": piece.data}}


def _answer(answered: ModelAnswered) -> str | list[Block]:
    parts = answered.parts
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text if parts[0].text.strip() else ""
    blocks = list(_answer_blocks(answered))
    # A message of nothing but thinking is refused, and means nothing to anybody.
    return blocks if any(block["type"] in ("text", "tool_use") for block in blocks) else ""


def _answer_blocks(answered: ModelAnswered) -> Iterator[Block]:
    own = _own_tools(answered)
    for place, part in enumerate(answered.parts):
        match part:
            case Text():
                if part.text.strip():
                    yield _block(part.text)
            case Thinking():
                yield from _thinking(part)
            case Call():
                yield {"type": "tool_use", "id": _id(part), "name": part.name, "input": _input(part.arguments)}
            case Native():
                if place in own:
                    yield own[place]
            case _:
                assert_never(part)


def _own_tools(answered: ModelAnswered) -> dict[int, Block]:
    """What the provider did by itself, by its place in the answer. A use without a result, which an answer that was cut
    off may have, is refused, and is left out."""
    blocks: dict[int, Block] = {
        place: json.loads(part.data)
        for place, part in enumerate(answered.parts)
        if isinstance(part, Native) and part.provider == PROVIDER
    }
    used = {block["id"] for block in blocks.values() if "id" in block}
    ended = {block["tool_use_id"] for block in blocks.values() if "tool_use_id" in block}
    whole = used & ended
    return {place: block for place, block in blocks.items() if block.get("id", block.get("tool_use_id")) in whole}


def _thinking(part: Thinking) -> Iterator[Block]:
    """Only thinking with its signature, which an interrupted block never got, is taken back."""
    if part.provider != PROVIDER or not part.signature:
        return
    if part.id == REDACTED:
        yield {"type": REDACTED, "data": part.signature}
    else:
        yield {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _id(call: Call) -> str:
    """Ids from other providers may hold characters that this one refuses."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", call.id)


def _input(arguments: str) -> dict[str, Any]:
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"not_valid_json": arguments}


def _result(result: Result, sights: LoadedImages) -> Block:
    pieces: list[Piece] = [result_text(result), *image_content(result.images, sights)]
    failed = {"is_error": True} if result.outcome == "failed" else {}
    return {"type": "tool_result", "tool_use_id": _id(result.call), "content": _content(pieces), **failed}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
