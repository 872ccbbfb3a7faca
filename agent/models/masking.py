"""Masking: a model wrapper that replaces the gateway's secrets in requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar, assert_never

from agent.events import OnDelta
from agent.log import Call, ForeignText, MessagesRead, ModelAnswered, Native, Part, Text, Thinking, UserMessage
from agent.model import Answer, Model, Request
from agent.transcript import Exchange, Result, Results, SystemNote

MaskText = Callable[[str], str]

T = TypeVar("T")


class MaskingModel:
    """Masks every text of a request before it is sent. A request without secrets costs one scan.

    Signed reasoning that contains a secret loses its signature: the provider would reject it changed.
    """

    def __init__(self, model: Model, mask: MaskText) -> None:
        self._model = model
        self._mask = mask

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        return await self._model.answer(masked(request, self._mask), on_delta)


def masked(request: Request, mask: MaskText) -> Request:
    """The request without secrets; the same object where there are none."""
    # One scan of everything is much cheaper than one of each of hundreds of texts, and usually enough.
    all_text = "\0".join(_texts(request))
    if mask(all_text) == all_text:
        return request
    transcript = [_exchange(exchange, mask) for exchange in request.transcript]
    return replace(request, instructions=mask(request.instructions), transcript=transcript)


def _texts(request: Request) -> Iterator[str]:
    yield request.instructions
    for exchange in request.transcript:
        match exchange:
            case MessagesRead():
                for message in exchange.messages:
                    yield message.sender
                    yield message.text
                    yield message.note
                    for foreign in message.foreign:
                        yield foreign.source
                        yield foreign.text
            case ModelAnswered():
                yield from map(_text, exchange.parts)
            case Results():
                for result in exchange.results:
                    yield result.text
                    yield from result.foreign
            case SystemNote():
                yield exchange.text
                yield from exchange.foreign
            case _:
                assert_never(exchange)


def _text(part: Part) -> str:
    match part:
        case Text() | Thinking():
            return part.text
        case Call():
            return part.arguments
        case Native():
            return part.data
        case _:
            assert_never(part)


def _exchange(exchange: Exchange, mask: MaskText) -> Exchange:
    match exchange:
        case MessagesRead():
            return replace(exchange, messages=_each(exchange.messages, mask, _message))
        case ModelAnswered():
            return replace(exchange, parts=_each(exchange.parts, mask, _part))
        case Results():
            return Results(_each(exchange.results, mask, _result))
        case SystemNote():
            return replace(exchange, text=mask(exchange.text), foreign=tuple(map(mask, exchange.foreign)))
        case _:
            assert_never(exchange)


def _each(items: Sequence[T], mask: MaskText, change: Callable[[T, MaskText], T]) -> tuple[T, ...]:
    return tuple(change(item, mask) for item in items)


def _message(message: UserMessage, mask: MaskText) -> UserMessage:
    foreign = tuple(ForeignText(mask(each.source), mask(each.text)) for each in message.foreign)
    sender, text, note = map(mask, (message.sender, message.text, message.note))
    return replace(message, sender=sender, text=text, note=note, foreign=foreign)


def _result(result: Result, mask: MaskText) -> Result:
    return replace(result, text=mask(result.text), foreign=tuple(map(mask, result.foreign)))


def _part(part: Part, mask: MaskText) -> Part:
    match part:
        case Text():
            return Text(mask(part.text))
        case Thinking():
            text = mask(part.text)
            return part if text == part.text else replace(part, text=text, signature=None)
        case Call():
            return replace(part, arguments=mask(part.arguments))
        case Native():
            return replace(part, data=mask(part.data))
        case _:
            assert_never(part)
