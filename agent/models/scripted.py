"""A model that follows a script, for tests of everything around models."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import assert_never

from agent.events import OnDelta, ReasoningDelta, TextDelta
from agent.log import Call, MessagesRead, Native, Part, Text, Thinking
from agent.model import Answer, Request
from agent.models.continuation import merge_texts

Piece = str | Part | asyncio.Event
"""A part of an answer, a plain text, or an event: the stream waits until it is set."""

Script = str | Sequence[Piece] | Answer | Exception | Callable[[Request], "Script"]
"""One answer: pieces, a whole answer, an error to raise, or a function that gets the request and decides."""


class ScriptedModel:
    """Gives the scripted answers in order, one per request; after the last it echoes the newest message."""

    def __init__(self, *answers: Script) -> None:
        self.requests: list[Request] = []
        self._script = deque(answers)
        self._asked = asyncio.Condition()

    def add(self, *answers: Script) -> None:
        self._script.extend(answers)

    async def asked(self, count: int = 1) -> Request:
        """Waits for that many requests and returns the last of them. Has no timeout: give the test one."""
        async with self._asked:
            await self._asked.wait_for(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        async with self._asked:
            self.requests.append(request)
            self._asked.notify_all()
        return await _play(self._script.popleft() if self._script else _echo, request, on_delta)


async def _play(script: Script, request: Request, on_delta: OnDelta) -> Answer:
    match script:
        case Exception():
            raise script
        case Answer():
            return await _stream(script.parts, on_delta, whole=script)
        case str():
            return await _stream((script,), on_delta)
        case Sequence():
            return await _stream(script, on_delta)
        case _:
            return await _play(script(request), request, on_delta)


async def _stream(pieces: Sequence[Piece], on_delta: OnDelta, whole: Answer | None = None) -> Answer:
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
        await _stream_part(part, on_delta)
        parts.append(part)
    calls = any(isinstance(part, Call) for part in parts)
    return whole or Answer(merge_texts(parts), finish="calls" if calls else "stop", model="scripted")


async def _stream_part(part: Part, on_delta: OnDelta) -> None:
    match part:
        case Text():
            for word in re.findall(r"\s*\S+\s*$|\s*\S+|\s+$", part.text):
                await on_delta(TextDelta(word))
        case Thinking():
            await on_delta(ReasoningDelta(part.text))
        case Call() | Native():
            pass
        case _:
            assert_never(part)


def _echo(request: Request) -> Script:
    read = (exchange for exchange in reversed(request.transcript) if isinstance(exchange, MessagesRead))
    last = next(read, None)
    return f"You said: {last.messages[-1].text if last else ''}"
