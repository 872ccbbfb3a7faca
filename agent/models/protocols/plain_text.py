"""Text of an answer, taken as it is."""

from __future__ import annotations

from collections.abc import Sequence

from agent.events import Delta, TextDelta
from agent.gate import text
from agent.log import Part, Text


class AnswerText:
    def __init__(self) -> None:
        self._pieces: list[str] = []

    def add(self, piece: str) -> Sequence[Delta]:
        self._pieces.append(piece)
        return (TextDelta(piece),) if piece else ()

    def end(self) -> Sequence[Delta]:
        return ()

    def parts(self) -> tuple[Part, ...]:
        joined = text("".join(self._pieces))
        return (Text(joined),) if joined else ()
