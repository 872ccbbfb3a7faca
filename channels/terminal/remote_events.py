"""The web channel's events (see `channels.web.render.Event`) back to our types. Pure."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from channels.address import Address
from channels.message import MessageStatus
from channels.reply import Reply, Segment, TextSegment

Wire = dict[str, Any]

_reply: TypeAdapter[Reply] = TypeAdapter(Reply)
_segment: TypeAdapter[Segment] = TypeAdapter(Segment)
_status: TypeAdapter[MessageStatus] = TypeAdapter(MessageStatus)


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    data: Wire


async def read_events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """The server-sent events in the lines of a stream. Raises ValueError for anything else."""
    event, data = "", ""
    async for line in lines:
        field, _, value = line.partition(": ")
        match field:
            case "event":
                event = value
            case "data":
                data = value
            case "":
                yield Event(event, json.loads(data))
                event, data = "", ""


def read_reply(wire: Wire, address: Address) -> Reply:
    """Raises `pydantic.ValidationError` (a ValueError) if it is no reply; the others here likewise."""
    return _reply.validate_python({**wire, "address": asdict(address)})


def read_status(wire: Wire, address: Address) -> MessageStatus:
    return _status.validate_python({**wire, "address": asdict(address)})


def read_history(wire: Wire, address: Address) -> tuple[list[MessageStatus], list[Reply]]:
    """The statuses of all messages, and all replies, oldest first."""
    items = wire["items"]
    statuses = [
        MessageStatus(address, item["id"], item["message_id"], item["state"], item["step"], item["reason"])
        for item in items
        if item["kind"] == "message"
    ]
    return statuses, [read_reply(item["reply"], address) for item in items if item["kind"] == "reply"]


def changed(reply: Reply, change: Wire) -> Reply:
    """The reply after a change, see `channels.web.render.render_change`."""
    segments = {segment.key: segment for segment in reply.segments}
    for key, added in change["grown"].items():
        match segments[key]:
            case TextSegment() as text:
                segments[key] = replace(text, markdown=text.markdown + added)
    for wire in change["segments"]:
        segments[wire["key"]] = _segment.validate_python(wire)
    ordered = tuple(segments[key] for key in change["order"])
    return replace(reply, segments=ordered, status=change["status"], done=change["done"], parked=change["parked"])
