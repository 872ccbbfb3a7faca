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


AccountKind = Literal["person", "bot", "webhook", "system"]
"""What kind of account wrote: a person's, another program's, a webhook's, or (`system`) the platform's own or a chat's
instead of one of its members."""

Membership = Literal["member", "guest", "outsider"]
"""Whether the account belongs to the workspace or server: as a member, as a guest with fewer rights, or not at all. On
platforms without workspaces everybody is a member."""


FULL = 2
"""The level of people who may have the agent do everything that the settings allow."""


@dataclass(frozen=True, slots=True)
class Sender:
    """The author of a message. `id` and `handle` (without @) are the platform's, `name` is for display.

    Only `id` and what the platform says of the account (`kind`, `membership`, `groups`) identify the author: a handle
    can be changed, and a name can be anything. `groups` are those of the groups in the settings that the author is in
    (see `channels.channel.GroupDirectory`).
    `level` is how much the author may have the agent do, from 0 to `FULL`. The gateway sets it; channels do not.
    """

    id: str
    name: str
    handle: str | None = None
    kind: AccountKind = "person"
    membership: Membership = "member"
    groups: frozenset[str] = frozenset()
    level: int = FULL

    @classmethod
    def unknown(cls, name: str = "somebody") -> Sender:
        """The author of a quoted message, where the platform does not say who that is."""
        return cls("", name, kind="system")

    @property
    def is_person(self) -> bool:
        return self.kind == "person"
