"""What is typed in a terminal, made into an inbound message; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from channels.address import Address, Sender
from channels.message import InboundMessage

OWNER = Sender("owner", "You")

_COMMAND = re.compile(r"/([A-Za-z][A-Za-z0-9_-]*)(?:\s+(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Said:
    """What the person sent. `id` is new for each and unique for ever; `quiet`: a key press rather than words."""

    id: str
    text: str
    quiet: bool = False


def parse(said: Said, address: Address, at: datetime) -> InboundMessage | None:
    """The message; None for nothing but space."""
    text = clean(said.text).strip()
    if not text:
        return None
    command = _COMMAND.fullmatch(text)
    return InboundMessage(
        event_id=said.id,
        address=address,
        sender=OWNER,
        sent_at=at,
        kind="command" if command else "new",
        message_id=said.id,
        text=(command[2] or "") if command else text,
        command=command[1].lower() if command else None,
    )


def clean(text: str) -> str:
    """The text without what no database or model takes: NUL, and lone surrogates (bytes that were not UTF-8)."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
