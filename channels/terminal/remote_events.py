"""The events of the API (see docs/reference/events.md) back to our types. Pure."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from pydantic import TypeAdapter

from channels.address import Address
from channels.message import MessageStatus
from channels.reply import Reply, Segment, TextSegment

Wire = dict[str, Any]

_reply: TypeAdapter[Reply] = TypeAdapter(Reply)
_segment: TypeAdapter[Segment] = TypeAdapter(Segment)
_status: TypeAdapter[MessageStatus] = TypeAdapter(MessageStatus)


def read_reply(wire: Wire, address: Address) -> Reply:
    """Raises `pydantic.ValidationError` (a ValueError) if it is no reply; the others here likewise."""
    return _reply.validate_python({**wire, "address": asdict(address)})


def read_status(wire: Wire, address: Address) -> MessageStatus:
    """The state of a message, from the message or from a change of its state."""
    known = {name: wire.get(name) for name in ("id", "message_id", "state", "step", "reason")}
    return _status.validate_python({**known, "address": asdict(address)})


def changed(reply: Reply, change: Wire) -> Reply:
    """The reply after an event `reply.changed`."""
    segments = {segment.key: segment for segment in reply.segments}
    for key, added in change["grown"].items():
        match segments[key]:
            case TextSegment() as text:
                segments[key] = replace(text, markdown=text.markdown + added)
    for wire in change["segments"]:
        segments[wire["key"]] = _segment.validate_python(wire)
    ordered = tuple(segments[key] for key in change["order"])
    return replace(reply, segments=ordered, status=change["status"], done=change["done"], parked=change["parked"])


def items_since(items: list[Wire], message: int) -> list[Wire]:
    """Those of the messages and replies, oldest first, that do not come before the message with this id."""
    places = (place for place, item in enumerate(items) if item["kind"] == "message" and item["id"] >= message)
    return items[next(places, len(items)) :]
