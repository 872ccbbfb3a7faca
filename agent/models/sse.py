"""Splits a stream of bytes into server-sent events.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from agent.models.protocols.wire import ServerEvent

MAX_EVENT_BYTES = 16 * 1024 * 1024

MAX_OTHER_BYTES = 64 * 1024
"""Of lines that belong to no event; more of them are not kept."""

_FIELDS = frozenset({b"data", b"event", b"id", b"retry", b""})
"""Those of the format; a comment has an empty one."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLong(ValueError):
    """The server sent an event longer than `MAX_EVENT_BYTES`."""


class EventSplitter:
    """Takes pieces as they arrive, cut anywhere. Lines may end in LF, CR or CRLF.

    The format ignores lines that have none of its fields. Some servers tell an error in them: `other_lines` has them.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._name = ""
        self._after_cr = False
        self._at_start = True
        self._others = bytearray()

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """The events that the piece completes. Raises `EventTooLong`."""
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
            self._after_cr = False
        if not piece:
            return []
        self._after_cr = piece.endswith(b"\r")
        if b"\n" not in piece and b"\r" not in piece:
            self._line += piece
            self._check(len(self._line))
            return []
        lines = bytes(self._line + piece).splitlines()
        self._line.clear()
        if not piece.endswith((b"\n", b"\r")):
            self._line += lines.pop()
        events = [event for line in lines if (event := self._read(line)) is not None]
        self._check(len(self._line))
        return events

    @property
    def other_lines(self) -> str:
        return self._others.decode(errors="replace").strip()

    def end(self) -> list[ServerEvent]:
        """The last event, which some servers do not end with an empty line."""
        last = bytes(self._line)
        self._line.clear()
        return [event for line in (last, b"") if (event := self._read(line)) is not None]

    def _read(self, line: bytes) -> ServerEvent | None:
        if self._at_start:
            line = line.removeprefix(BYTE_ORDER_MARK)
            self._at_start = False
        if not line:
            return self._event()
        field, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            self._data.append(value)
            self._size += len(value)
            self._check(self._size)
        elif field == b"event":
            self._name = value.decode(errors="replace")
        elif field not in _FIELDS and len(self._others) + len(line) < MAX_OTHER_BYTES:
            self._others += line + b"\n"
        return None

    def _event(self) -> ServerEvent | None:
        data, name = self._data, self._name
        if not data:
            self._name = ""
            return None
        self._data, self._size, self._name = [], 0, ""
        return ServerEvent(b"\n".join(data).decode(errors="replace"), name)

    def _check(self, size: int) -> None:
        if size > MAX_EVENT_BYTES:
            raise EventTooLong(f"an event of more than {MAX_EVENT_BYTES:,} bytes")
