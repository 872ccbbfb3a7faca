"""A model that follows a script, for tests of everything around models."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import assert_never

from agent.events import ReasoningDelta, Tell, TextDelta
from agent.log import Call, MessagesRead, Native, Part, Text, Thinking
from agent.model import Answer, Request
from agent.models.continuation import merge_texts

Piece = str | Part | asyncio.Event
"""A part of an answer, a text for short, or an event: the stream is held there until it is set."""

Script = str | Sequence[Piece] | Answer | Exception | Callable[[Request], "Script"]
"""One answer: pieces, a whole answer, an error to raise, or a function that decides when asked."""


class ScriptedModel:
    """Gives the scripted answers in order, one per request; after the last it says what it heard."""

    def __init__(self, *answers: Script) -> None:
        self.requests: list[Request] = []
        self._script = deque(answers)
        self._asked = asyncio.Condition()

    def add(self, *answers: Script) -> None:
        self._script.extend(answers)

    async def asked(self, count: int = 1) -> Request:
        """Waits until the model has been asked that many times, and returns that request. Unbounded: bound the test."""
        async with self._asked:
            await self._asked.wait_for(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    async def answer(self, request: Request, tell: Tell) -> Answer:
        async with self._asked:
            self.requests.append(request)
            self._asked.notify_all()
        return await _play(self._script.popleft() if self._script else _echo, request, tell)


async def _play(script: Script, request: Request, tell: Tell) -> Answer:
    match script:
        case Exception():
            raise script
        case Answer():
            return await _stream(script.parts, tell, whole=script)
        case str():
            return await _stream((script,), tell)
        case Sequence():
            return await _stream(script, tell)
        case _:
            return await _play(script(request), request, tell)


async def _stream(pieces: Sequence[Piece], tell: Tell, whole: Answer | None = None) -> Answer:
    parts: list[Part] = []
    for piece in pieces:
        match piece:
            case asyncio.Event():
                await piece.wait()
                continue
            case str():
                part: Part = Text(piece)
            case _:
                part = piece
        await _tell_part(part, tell)
        parts.append(part)
    calls = any(isinstance(part, Call) for part in parts)
    return whole or Answer(merge_texts(parts), finish="calls" if calls else "stop", model="scripted")


async def _tell_part(part: Part, tell: Tell) -> None:
    match part:
        case Text():
            for word in re.findall(r"\s*\S+\s*$|\s*\S+|\s+$", part.text):
                await tell(TextDelta(word))
        case Thinking():
            await tell(ReasoningDelta(part.text))
        case Call() | Native():
            pass
        case _:
            assert_never(part)


def _echo(request: Request) -> Script:
    heard = (exchange for exchange in reversed(request.transcript) if isinstance(exchange, MessagesRead))
    last = next(heard, None)
    return f"You said: {last.messages[-1].text if last else ''}"
