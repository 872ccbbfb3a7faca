"""Conversations as the body of an Anthropic Messages request.

Source: https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, assert_never

from agent.log import Answered, Call, Heard, Text, Thinking
from agent.model import Request, ToolSpec
from agent.models.wording import (
    Piece,
    Sights,
    heard_pieces,
    image_pieces,
    in_words,
    marked,
    notice_text,
    result_text,
)
from agent.transcript import Exchange, Notice, Result, Results

PROVIDER = "anthropic"

REDACTED = "redacted_thinking"

Message = dict[str, Any]
Block = dict[str, Any]


def body(request: Request, sights: Sights) -> dict[str, Any]:
    """The conversation's part of the request's body."""
    messages: list[Message] = []
    for exchange in marked(request.transcript):
        message = _message(exchange, sights)
        if message["content"]:
            messages.append(message)
    if messages:
        messages[-1] = _cached(messages[-1])
    parts: dict[str, Any] = {"messages": messages}
    if request.instructions:
        parts["system"] = request.instructions
    if request.tools:
        parts["tools"] = [_tool(tool) for tool in request.tools]
        if request.in_words:
            parts["tool_choice"] = {"type": "none"}
    return parts


def _message(exchange: Exchange, sights: Sights) -> Message:
    match exchange:
        case Heard():
            return {"role": "user", "content": _content(heard_pieces(exchange, sights))}
        case Answered():
            return {"role": "assistant", "content": _answer(exchange)}
        case Results():
            return {"role": "user", "content": [_result(result, sights) for result in exchange.results]}
        case Notice():
            return {"role": "user", "content": notice_text(exchange)}
        case _:
            assert_never(exchange)


def _cached(message: Message) -> Message:
    """Marks everything up to here for the prompt cache: tools, instructions and messages are one prefix.

    Source: https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching
    """
    content = message["content"]
    blocks = [_block(content)] if isinstance(content, str) else content
    return {**message, "content": [*blocks[:-1], {**blocks[-1], "cache_control": {"type": "ephemeral"}}]}


def _content(pieces: list[Piece]) -> str | list[Block]:
    words = in_words(pieces)
    return [_block(piece) for piece in pieces] if words is None else words


def _block(piece: Piece) -> Block:
    if isinstance(piece, str):
        return {"type": "text", "text": piece}
    return {"type": "image", "source": {"type": "base64", "media_type": piece.media_type, "data": piece.data}}


def _answer(answered: Answered) -> str | list[Block]:
    parts = answered.parts
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text if parts[0].text.strip() else ""
    blocks = list(_answer_blocks(answered))
    # A message of nothing but thinking is refused, and means nothing to anybody.
    return blocks if any(block["type"] in ("text", "tool_use") for block in blocks) else ""


def _answer_blocks(answered: Answered) -> Iterator[Block]:
    for part in answered.parts:
        match part:
            case Text():
                if part.text.strip():
                    yield _block(part.text)
            case Thinking():
                yield from _thinking(part)
            case Call():
                yield {"type": "tool_use", "id": _id(part), "name": part.name, "input": _input(part.arguments)}
            case _:
                assert_never(part)


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


def _result(result: Result, sights: Sights) -> Block:
    pieces: list[Piece] = [result_text(result), *image_pieces(result.images, sights)]
    failed = {"is_error": True} if result.outcome == "failed" else {}
    return {"type": "tool_result", "tool_use_id": _id(result.call), "content": _content(pieces), **failed}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
