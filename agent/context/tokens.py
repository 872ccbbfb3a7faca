"""How much a model has to read and was used: estimates where nobody counts, and sums."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import assert_never

from agent.log import Call, MessagesRead, ModelAnswered, Native, Part, Text, Thinking, Usage
from agent.model import Request
from agent.transcript import Exchange, Results, SystemNote

CHARACTERS_PER_TOKEN = 4
"""Of English; other languages and code have fewer, so that estimates for them come out low."""

PICTURE = 1500
"""Tokens of one picture, whatever its size."""

MOST_PICTURES = 20
"""How many pictures a model is shown, the newest ones: they come again in every request."""

_FRAME = 16
"""Characters that stand around each part of a conversation."""


def estimate_tokens(request: Request) -> int:
    """About how many tokens the whole request has, tools included."""
    tools = sum(len(tool.name) + len(tool.description) + len(json.dumps(tool.schema)) for tool in request.tools)
    return tokens_of(len(request.instructions) + tools) + estimate_transcript(request.transcript)


def estimate_transcript(transcript: Sequence[Exchange]) -> int:
    """About how many tokens the conversation has."""
    characters = sum(map(_characters, transcript))
    pictures = min(sum(map(_pictures, transcript)), MOST_PICTURES)
    return tokens_of(characters) + pictures * PICTURE


def tokens_of(characters: int) -> int:
    """About how many tokens that many characters are, rounded up."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def characters_of(parts: Iterable[Part]) -> int:
    """The characters that a model wrote."""
    return sum(map(_written, parts))


def add_up(usages: Iterable[Usage]) -> Usage:
    """The sum; estimated if any of it is."""
    total = Usage()
    for usage in usages:
        total = Usage(
            total.input + usage.input,
            total.output + usage.output,
            total.cache_read + usage.cache_read,
            total.cache_write + usage.cache_write,
            total.reasoning + usage.reasoning,
            total.cost + usage.cost,
            total.estimated or usage.estimated,
        )
    return total


def _characters(exchange: Exchange) -> int:
    match exchange:
        case MessagesRead():
            return sum(
                _FRAME + len(said.text) + len(said.note) + sum(_FRAME + len(file.name) for file in said.attachments)
                for said in exchange.messages
            )
        case ModelAnswered():
            return _FRAME + characters_of(exchange.parts)
        case Results():
            return sum(_FRAME + len(result.text) for result in exchange.results)
        case SystemNote():
            return _FRAME + len(exchange.text)
        case _:
            assert_never(exchange)


def _pictures(exchange: Exchange) -> int:
    match exchange:
        case MessagesRead():
            return sum(file.is_picture for said in exchange.messages for file in said.attachments)
        case Results():
            return sum(len(result.images) for result in exchange.results)
        case _:
            return 0


def _written(part: Part) -> int:
    match part:
        case Text() | Thinking():
            return len(part.text)
        case Call():
            return _FRAME + len(part.name) + len(part.arguments)
        case Native():
            return len(part.data)
        case _:
            assert_never(part)
