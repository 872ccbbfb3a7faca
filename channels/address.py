"""Where a conversation takes place and who speaks there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Address:
    """Made once at the border and carried by everything that may speak.

    `channel` is the channel's name in the settings, `account` the bot's own id on the platform, `chat` and
    `thread` the platform's ids. `thread` is set only where threads or topics are places of their own.
    """

    channel: str
    account: str
    chat: str
    thread: str | None = None
    kind: Literal["direct", "group"] = "direct"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who wrote: `id` and `handle` (without @) are the platform's, `name` is for reading. `bot`: another program."""

    id: str
    name: str
    handle: str | None = None
    bot: bool = False
