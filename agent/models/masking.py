"""Masking what models are asked: a model around a model, that takes the gateway's secrets out of requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar, assert_never

from agent.events import Tell
from agent.log import Call, MessagesRead, ModelAnswered, Native, Part, Text, Thinking, UserMessage
from agent.model import Answer, Model, Request
from agent.transcript import Exchange, Result, Results, SystemNote

Masking = Callable[[str], str]

T = TypeVar("T")


class MaskingModel:
    """Masks every text of a request before it leaves. A mask that changes nothing costs one look at the whole.

    Signed reasoning that holds a secret loses its signature with it: its provider would refuse it changed.
    """

    def __init__(self, model: Model, mask: Masking) -> None:
        self._model = model
        self._mask = mask

    async def answer(self, request: Request, tell: Tell) -> Answer:
        return await self._model.answer(masked(request, self._mask), tell)


def masked(request: Request, mask: Masking) -> Request:
    """The request without secrets; the same object where there are none."""
    # One look at everything is much cheaper than one at each of hundreds of texts, and mostly the last.
    whole = "\0".join(_texts(request))
    if mask(whole) == whole:
        return request
    transcript = [_exchange(exchange, mask) for exchange in request.transcript]
    return replace(request, instructions=mask(request.instructions), transcript=transcript)


def _texts(request: Request) -> Iterator[str]:
    yield request.instructions
    for exchange in request.transcript:
        match exchange:
            case MessagesRead():
                for said in exchange.messages:
                    yield said.text
                    yield said.note
            case ModelAnswered():
                yield from map(_text, exchange.parts)
            case Results():
                for result in exchange.results:
                    yield result.text
            case SystemNote():
                yield exchange.text
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


def _exchange(exchange: Exchange, mask: Masking) -> Exchange:
    match exchange:
        case MessagesRead():
            return replace(exchange, messages=_each(exchange.messages, mask, _said))
        case ModelAnswered():
            return replace(exchange, parts=_each(exchange.parts, mask, _part))
        case Results():
            return Results(_each(exchange.results, mask, _result))
        case SystemNote():
            return replace(exchange, text=mask(exchange.text))
        case _:
            assert_never(exchange)


def _each(items: Sequence[T], mask: Masking, change: Callable[[T, Masking], T]) -> tuple[T, ...]:
    return tuple(change(item, mask) for item in items)


def _said(said: UserMessage, mask: Masking) -> UserMessage:
    return replace(said, text=mask(said.text), note=mask(said.note))


def _result(result: Result, mask: Masking) -> Result:
    return replace(result, text=mask(result.text))


def _part(part: Part, mask: Masking) -> Part:
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
