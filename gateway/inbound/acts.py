"""Recognises what one act of a person makes: an album, a text that their app cut in two, a comment and its forward."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import timedelta
from time import monotonic

from channels.address import Address
from channels.message import InboundMessage

NEAR = timedelta(seconds=1.5)
"""Between a comment and what is forwarded with it. Some platforms tell whole seconds only."""

NEAR_CUT = timedelta(seconds=3)
"""Between the parts of a text that an app cut: it sends each when the one before is accepted."""

KEPT = 60.0
"""Seconds after which an act is forgotten."""

MAX_PEOPLE = 1000
MAX_PARTS = 20
"""Parts that are kept because one that addresses the bot may follow."""


@dataclass(frozen=True, slots=True)
class _Act:
    """`whole` is what its last message was delivered as; `unread` are its parts until now, if none of them addressed
    the bot."""

    whole: tuple[InboundMessage, ...]
    unread: tuple[InboundMessage, ...]
    at: float

    @property
    def last(self) -> InboundMessage:
        return self.whole[-1]


class Acts:
    """In groups a bot is addressed once, and meant with the whole act. In memory: an act takes seconds."""

    def __init__(self) -> None:
        self._newest: OrderedDict[tuple[Address, str], _Act] = OrderedDict()

    def complete(self, message: InboundMessage) -> tuple[InboundMessage, ...]:
        """The message as part of its act, after earlier parts that address the bot only now. The same again for a
        message that could not be stored and is delivered again."""
        act = self._take(message)
        if message.kind not in ("new", "command"):
            return (message,)
        if act is None or (act.last.event_id, act.last.digest) != (message.event_id, message.digest):
            act = _with(message, act)
        self._newest[message.address, message.sender.id] = replace(act, at=monotonic())
        return act.whole

    def _take(self, message: InboundMessage) -> _Act | None:
        """The sender's newest act in this place, which the caller keeps or replaces; old ones are forgotten."""
        now = monotonic()
        while self._newest:
            oldest = next(iter(self._newest))
            if len(self._newest) <= MAX_PEOPLE and now - self._newest[oldest].at < KEPT:
                break
            del self._newest[oldest]
        key = message.address, message.sender.id
        return self._newest.pop(key, None) if message.kind in ("new", "command") else None


def _with(message: InboundMessage, before: _Act | None) -> _Act:
    """The act with the message, or a new one that begins with it."""
    last = before.last if before is not None and _belongs_together(before.last, message) else None
    unread = before.unread if before is not None and last is not None else ()
    message = _as_part(message, last)
    whole = (*(replace(part, addressed=True) for part in unread), message) if message.addressed else (message,)
    unread = () if message.addressed or not _may_have_more(message) else (*unread, message)[-MAX_PARTS:]
    return _Act(whole, unread, monotonic())


def _belongs_together(last: InboundMessage, message: InboundMessage) -> bool:
    if message.kind != "new":
        return False
    if _is_of_album(last, message):
        return True
    apart = abs(message.sent_at - last.sent_at)
    if last.cut is not None:
        return apart <= NEAR_CUT and not (message.files or message.forwarded)
    return apart <= NEAR and (message.forwarded or (last.forwarded and message.addressed))


def _as_part(message: InboundMessage, last: InboundMessage | None) -> InboundMessage:
    if last is None:
        return message if message.cut is None else replace(message, album=message.album or _album_of(message))
    message = replace(message, addressed=message.addressed or last.addressed)
    if last.cut is None or _is_of_album(last, message):
        return message
    return replace(message, album=last.album or _album_of(last), text=last.cut + message.text)


def _is_of_album(last: InboundMessage, message: InboundMessage) -> bool:
    return message.album is not None and message.album == last.album


def _album_of(first: InboundMessage) -> str:
    return f"cut:{first.message_id}"


def _may_have_more(message: InboundMessage) -> bool:
    return message.album is not None or message.cut is not None or message.forwarded
