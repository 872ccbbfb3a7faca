"""Puts the calls of an answer together from the pieces in which servers stream them, odd ones included."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from agent.gate import text
from agent.log import Call
from agent.models.protocols import reading
from agent.models.protocols.lenient_json import arguments_text, json_object, written_text

_STRUCTURE = re.compile(r'\\.?|["{}\[\]]', re.DOTALL)
MAX_INDEX = 10_000


class CallAssembler:
    """The calls of one answer.

    Servers that are only compatible number all calls 0 or none, repeat id and name in each piece or leave the id out,
    send arguments as an object, and repeat a whole call at its end. A piece belongs to the call that its id and index
    name; a name after complete arguments begins another call.
    """

    def __init__(self) -> None:
        self._calls: list[_OpenCall] = []
        self._by_id: dict[str, _OpenCall] = {}
        self._by_index: dict[int | None, _OpenCall] = {}

    def add(
        self, *, index: object = None, id: object = None, name: object = None, arguments: object = None
    ) -> int | None:
        """Adds a piece, as the server sent it; the number of its call in `calls()`, None if it says nothing."""
        at, of, named = _index(index), reading.piece(id), reading.piece(name)
        piece = written_text(arguments)
        if not (of or named or piece):
            return None
        call = self._call_of(at, of, named, piece) or self._begin(at)
        if of and not call.id:
            call.id = of
            self._by_id[of] = call
        call.add_name(named)
        call.add_arguments(piece)
        return call.number

    def calls(self) -> tuple[Call, ...]:
        """The calls in the order in which they began. Arguments that are not certain stay as they were written."""
        return tuple(call.finished() for call in self._calls)

    def _begin(self, index: int | None) -> _OpenCall:
        call = _OpenCall(len(self._calls))
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call

    def _call_of(self, index: int | None, id: str, name: str, piece: str) -> _OpenCall | None:
        """The call that the piece continues; None if it begins another."""
        if not self._calls:
            return None
        last = self._calls[-1]
        at_index = last if index is None else self._by_index.get(index)
        if id:
            return self._call_with_id(index, at_index, id, name, piece)
        if name and (repeated := self._repeated_by(name, piece)) is not None:
            return repeated
        if at_index is None:
            return None if name else last
        return None if name and at_index.is_before(name) else at_index

    def _call_with_id(
        self, index: int | None, at_index: _OpenCall | None, id: str, name: str, piece: str
    ) -> _OpenCall | None:
        known = self._by_id.get(id)
        if known is None:
            return None if at_index is None or at_index.is_before(name, id, piece) else at_index
        # Some servers give all calls of an answer the same id, and tell them apart by the index.
        is_same = index is None or known is at_index or not name or not known.is_complete
        return known if is_same else at_index

    def _repeated_by(self, name: str, piece: str) -> _OpenCall | None:
        """The call that a piece without an id tells once more, whole."""
        if not piece.rstrip().endswith("}"):
            return None
        return next(
            (call for call in self._calls if not call.id and call.name == name and call.is_told_by(piece)), None
        )


@dataclass(slots=True)
class _OpenCall:
    number: int
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    _length: int = 0
    _depth: int = 0
    _in_string: bool = False
    _is_escaped: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether the arguments are an object that has ended; `{}` may be a placeholder for what follows."""
        return self._length > len("{}") and self._depth == 0 and not self._in_string

    def is_before(self, name: str, id: str = "", piece: str = "") -> bool:
        """Whether a piece with this name and this new id, at the call's index, begins another call."""
        if not name or not self.name:
            return False
        if self.id and id:
            # Some servers make a new id for each piece.
            return self.is_complete or name != self.name or piece.lstrip().startswith("{")
        return self.is_complete or (name != self.name and bool(self.pieces) and self._depth == 0)

    def is_told_by(self, piece: str) -> bool:
        return len(piece) == self._length and piece == "".join(self.pieces)

    def add_name(self, name: str) -> None:
        if not name or name == self.name:
            return
        if name.startswith(self.name):
            self.name = name
        elif not self.pieces:
            self.name += name

    def add_arguments(self, piece: str) -> None:
        if piece:
            self.pieces.append(piece)
            self._length += len(piece)
            self._follow(piece)

    def finished(self) -> Call:
        return Call(text(self.id) or f"call_{self.number}", text(self.name), self._arguments())

    def _follow(self, piece: str) -> None:
        """Follows how deep in the JSON the arguments are."""
        if self._is_escaped:
            piece, self._is_escaped = piece[1:], False
        for found in _STRUCTURE.finditer(piece):
            match found[0][0]:
                case '"':
                    self._in_string = not self._in_string
                case "\\":
                    self._is_escaped = self._in_string and len(found[0]) == 1
                case "{" | "[":
                    self._depth += not self._in_string
                case _:
                    self._depth -= not self._in_string

    def _arguments(self) -> str:
        """All pieces joined; or a whole object, if the other pieces told the same, its beginning or nothing."""
        joined = "".join(self.pieces)
        if len(self.pieces) < 2 or json_object(joined) is not None:
            return arguments_text(joined)
        *others, last = self.pieces
        whole, before = json_object(last), json_object("".join(others))
        if whole is not None and (_tells(whole, before) or all(map(last.startswith, others))):
            return arguments_text(last)
        if before and whole == {}:
            return arguments_text("".join(others))
        return text(joined)


def _tells(whole: dict[str, Any], before: dict[str, Any] | None) -> bool:
    """Whether everything said before is in the whole too."""
    return before is not None and all(key in whole and whole[key] == value for key, value in before.items())


def _index(index: object) -> int | None:
    if isinstance(index, str) and index.isdecimal() and len(index) < 6:
        index = int(index)
    return index if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < MAX_INDEX else None
