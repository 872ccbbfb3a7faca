"""Where a conversation takes place and who writes there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Address:
    """A conversation's place. Made once, by the channel, and carried by everything that sends.

    `channel` is the channel's name in the settings, `account` the bot's own id on the platform, `chat` and
    `thread` the platform's ids. `thread` is set only where a thread or topic is a conversation of its own.
    """

    channel: str
    account: str
    chat: str
    thread: str | None = None
    kind: Literal["direct", "group"] = "direct"


@dataclass(frozen=True, slots=True)
class Sender:
    """The author of a message. `id` and `handle` (without @) are the platform's, `name` is for display.

    `bot`: the author is another program.
    """

    id: str
    name: str
    handle: str | None = None
    bot: bool = False
