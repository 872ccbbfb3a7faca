"""Token counts: estimates for requests without a provider's count, and sums of usage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import assert_never

from agent.log import Call, MessagesRead, ModelAnswered, Native, Part, Text, Thinking, Usage
from agent.media import for_model
from agent.model import Request
from agent.transcript import Exchange, Results, SystemNote

CHARACTERS_PER_TOKEN = 4
"""For English. Other languages and code have fewer, so their estimates are too low."""

IMAGE_TOKENS = 1500
"""Tokens of one image of any size."""

MAX_IMAGES = 20
"""Images in a request, the newest ones: they are sent again with every request."""

_OVERHEAD = 16
"""Characters that the request format adds to each part of a conversation."""


def estimate_tokens(request: Request) -> int:
    """Estimated tokens of the whole request, with its tools."""
    tools = sum(len(tool.name) + len(tool.description) + len(json.dumps(tool.schema)) for tool in request.tools)
    return tokens_of(len(request.instructions) + tools) + estimate_transcript(request.transcript)


def estimate_transcript(transcript: Sequence[Exchange]) -> int:
    """Estimated tokens of the conversation."""
    characters = sum(map(_characters, transcript))
    images = min(sum(map(_images, transcript)), MAX_IMAGES)
    return tokens_of(characters) + images * IMAGE_TOKENS


def tokens_of(characters: int) -> int:
    """Estimated tokens of so many characters, rounded up."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def characters_of(parts: Iterable[Part]) -> int:
    """The number of characters of the parts."""
    return sum(map(_part_length, parts))


def add_up(usages: Iterable[Usage]) -> Usage:
    """The sum; `estimated` if any of it is."""
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
                _OVERHEAD
                + len(message.text)
                + len(message.note)
                + sum(_OVERHEAD + len(foreign.source) + len(foreign.text) for foreign in message.foreign)
                + sum(_OVERHEAD + len(file.name) for file in message.attachments)
                for message in exchange.messages
            )
        case ModelAnswered():
            return _OVERHEAD + characters_of(exchange.parts)
        case Results():
            return sum(_OVERHEAD + len(result.text) for result in exchange.results)
        case SystemNote():
            return _OVERHEAD + len(exchange.text)
        case _:
            assert_never(exchange)


def _images(exchange: Exchange) -> int:
    match exchange:
        case MessagesRead():
            return sum(file.is_picture for message in exchange.messages for file in for_model(message.attachments))
        case Results():
            return sum(len(result.images) for result in exchange.results)
        case _:
            return 0


def _part_length(part: Part) -> int:
    match part:
        case Text() | Thinking():
            return len(part.text)
        case Call():
            return _OVERHEAD + len(part.name) + len(part.arguments)
        case Native():
            return len(part.data) if part.foreign else 0
        case _:
            assert_never(part)
