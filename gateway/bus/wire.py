"""What workers tell each other, as the JSON text of notifications.

A notification is `{"v": 1, "from": worker, "n": number, "m": [messages]}`: a worker numbers its notifications, so that
the others notice when one is missing. A message is an object whose key `k` is its kind. Another version may know more
kinds and fields: those that are unknown here are ignored, and new fields need defaults.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from agent import gate
from agent.events import Charged, Logged, Progress, ReasoningDelta, TextDelta, Waiting, Withdrawn
from agent.events import Event as AgentEvent
from agent.log import dump, load
from channels.address import Address
from channels.visible import MALFORMED
from gateway.bus.events import (
    BusEvent,
    HistoryChanged,
    MessageAccepted,
    MessagesChanged,
    NoticeSent,
    TitleChanged,
    TurnEnded,
    TurnParked,
    TurnProgress,
    TurnStarted,
)

log = logging.getLogger(__name__)

VERSION = 1

MAX_PAYLOAD = 7_999
"""Bytes of a notification: PostgreSQL takes less than 8000 (https://www.postgresql.org/docs/current/sql-notify.html)."""

MAX_MESSAGE = MAX_PAYLOAD - 250
"""Bytes of a message: the rest is for what is around it."""

MAX_TEXT = 1_200
"""Characters of a text in one message; each has at most six bytes in JSON."""


@dataclass(frozen=True, slots=True)
class Wake:
    """Something is unread in the session. `anyone`: nobody may run it, and the sender has no room. `by` is as in
    `Bus.wake`."""

    session: str
    by: str = ""
    anyone: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """As `Bus.stop`."""

    session: str
    before: int
    reason: str


@dataclass(frozen=True, slots=True)
class Happened:
    event: BusEvent

    @property
    def session(self) -> str:
        assert self.event.session is not None
        return self.event.session


@dataclass(frozen=True, slots=True)
class Untold:
    """Something has happened in the session that is too large for a notification: look at the store."""

    session: str


@dataclass(frozen=True, slots=True)
class Watch:
    """The sender tells the progress of these sessions to subscribers; "" stands for all. `again`: it has missed what
    was reported of them."""

    sessions: tuple[str, ...]
    again: bool = False
    session: str = ""


@dataclass(frozen=True, slots=True)
class Released:
    """As `Bus.released`."""

    session: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """As `PostgresBus.ask_for`."""

    connector: str
    session: str = ""


@dataclass(frozen=True, slots=True)
class Hello:
    """The sender is there. `new`: it has begun to listen, and knows nobody."""

    new: bool = False
    session: str = ""


Message = Wake | Stop | Happened | Untold | Watch | Released | Wanted | Hello
"""What is about no session in particular has the session ""."""


@dataclass(frozen=True, slots=True)
class Notification:
    sender: str
    number: int
    messages: tuple[Message, ...]


_PLAIN: dict[str, TypeAdapter[Any]] = {
    kind.__name__: TypeAdapter(kind) for kind in (Wake, Stop, Untold, Watch, Released, Wanted, Hello)
}
_EVENTS: dict[str, TypeAdapter[Any]] = {
    kind.__name__: TypeAdapter(kind)
    for kind in (
        MessageAccepted,
        MessagesChanged,
        TurnStarted,
        TurnParked,
        TurnEnded,
        NoticeSent,
        HistoryChanged,
        TitleChanged,
    )
}
_REPORTS: dict[str, TypeAdapter[Any]] = {
    kind.__name__: TypeAdapter(kind) for kind in (TextDelta, ReasoningDelta, Withdrawn, Waiting, Charged, Progress)
}
_ADDRESS: TypeAdapter[Address] = TypeAdapter(Address)
_PROGRESS = TurnProgress.__name__


# Sending


def merged(last: Message, new: Message) -> Message | None:
    """One message that says what these two of a session say, one after the other; None if there is none."""
    match last, new:
        case Wake(), Wake():
            return Wake(new.session, new.by or last.by, last.anyone or new.anyone)
        case Untold(), Untold():
            return new
        case Happened(TurnProgress() as one), Happened(TurnProgress() as other):
            if (one.turn, one.entries) != (other.turn, other.entries):
                return None
            event = _grown(one.event, other.event)
            return None if event is None else Happened(replace(one, event=event))
        case _:
            return None


def _grown(one: AgentEvent, other: AgentEvent) -> AgentEvent | None:
    match one, other:
        case TextDelta(), TextDelta() if len(one.text) + len(other.text) <= MAX_TEXT:
            return TextDelta(one.text + other.text)
        case ReasoningDelta(), ReasoningDelta() if len(one.text) + len(other.text) <= MAX_TEXT:
            return ReasoningDelta(one.text + other.text)
        case Progress(), Progress() if one.call_id == other.call_id:
            return other
        case _:
            return None


def texts(message: Message) -> Iterator[str]:
    """The JSON texts that say it, each with at most `MAX_MESSAGE` bytes."""
    for part in _parts(message):
        text = _text(part)
        yield text if len(text.encode()) <= MAX_MESSAGE else _text(_shortened(part))


def _parts(message: Message) -> Iterator[Message]:
    match message:
        case Happened(TurnProgress(event=TextDelta() | ReasoningDelta() as event) as progress):
            for start in range(0, max(1, len(event.text)), MAX_TEXT):
                piece = replace(event, text=event.text[start : start + MAX_TEXT])
                yield Happened(replace(progress, event=piece))
        case Happened(TurnProgress(event=Progress() as event) as progress):
            yield Happened(replace(progress, event=replace(event, text=event.text[-MAX_TEXT:])))
        case _:
            yield message


def _shortened(message: Message) -> Message:
    """For what is too large. The size of the log says that an entry is missing."""
    match message:
        case Happened(TurnProgress() as progress) if progress.entries:
            return Happened(replace(progress, event=TextDelta("")))
        case Stop():
            return replace(message, reason=message.reason[:MAX_TEXT])
        case _:
            return Untold(message.session)


def _text(message: Message) -> str:
    value = gate.json_value(_as_object(message))
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _as_object(message: Message) -> dict[str, Any]:
    match message:
        case Happened(TurnProgress() as progress):
            report = progress.event
            about = {"k": _PROGRESS, "session": progress.session, "turn": progress.turn, "entries": progress.entries}
            about["address"] = _ADDRESS.dump_python(progress.address, mode="json", exclude_none=True)
            if isinstance(report, Logged):
                return about | {"logged": json.loads(dump(report.entry))}
            kind = type(report).__name__
            return about | {"event": kind, "about": _REPORTS[kind].dump_python(report, mode="json")}
        case Happened(event):
            kind = type(event).__name__
            return {"k": kind, **_EVENTS[kind].dump_python(event, mode="json")}
        case _:
            kind = type(message).__name__
            return {"k": kind, **_PLAIN[kind].dump_python(message, mode="json", exclude_defaults=True)}


def payloads(sender: str, number: int, messages: Iterable[str]) -> Iterator[str]:
    """Notifications of these messages, numbered from `number` on, in their order."""
    head = f'{{"v":{VERSION},"from":{json.dumps(sender)},"n":'
    packed: list[str] = []
    size = 0
    for text in messages:
        length = len(text.encode()) + 1
        if packed and size + length > MAX_MESSAGE:
            yield f'{head}{number},"m":[{",".join(packed)}]}}'
            packed, size, number = [], 0, number + 1
        packed.append(text)
        size += length
    if packed:
        yield f'{head}{number},"m":[{",".join(packed)}]}}'


# Receiving


def read(payload: str) -> Notification | None:
    """None for what is no notification of this version: whoever may connect to the database can send anything."""
    try:
        found = json.loads(payload)
        if found["v"] != VERSION:
            return None
        messages = tuple(message for each in found["m"] if (message := _read_message(each)) is not None)
        return Notification(str(found["from"]), int(found["n"]), messages)
    except MALFORMED as error:
        log.warning("a notification of another worker is not understood: %s", error)
        return None


def _read_message(found: dict[str, Any]) -> Message | None:
    try:
        return _message(found)
    except MALFORMED as error:
        log.warning("a message of another worker is not understood: %s", error)
        return None


def _message(found: dict[str, Any]) -> Message | None:
    """None for a kind that this version does not know. Raises one of `MALFORMED`."""
    kind = found.pop("k")
    if kind == _PROGRESS:
        return _progress(found)
    if kind in _EVENTS:
        return Happened(_EVENTS[kind].validate_python(found))
    if kind in _PLAIN:
        message: Message = _PLAIN[kind].validate_python(found)
        return message
    return None


def _progress(found: dict[str, Any]) -> Message | None:
    event: AgentEvent
    if "logged" in found:
        (entry,) = load([json.dumps(found["logged"])])
        event = Logged(entry)
    elif found["event"] in _REPORTS:
        event = _REPORTS[found["event"]].validate_python(found["about"])
    else:
        return None
    address = _ADDRESS.validate_python(found["address"])
    return Happened(TurnProgress(found["session"], address, found["turn"], event, found["entries"]))
