"""Access: who may write to the bot, in which chats, and who has more rights than others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from channels.address import Address, Sender
from channels.message import InboundMessage
from gateway.sessions import session_key
from gateway.store.records import Admission, Busy

MAX_BOT_MESSAGES = 5
"""Messages of other bots in one conversation without a person's between them: two bots that answer each other would
never end."""

MAX_TRACKED_SESSIONS = 1000


class Access(Enum):
    ADMITTED = "admitted"
    REFUSED = "refused"
    """Stored, never read, and answered once in a direct chat."""
    IGNORED = "ignored"
    """Not stored: a group message that is not meant for the bot."""


@dataclass(frozen=True, slots=True)
class ChannelAccess:
    """A channel's access settings.

    `allow` (the allowlist) and `admins` hold user ids and @names; "*" in `allow` is everybody, empty is nobody. Admins
    are always allowed. `pair`: others may request pairing, which an admin approves. `busy` is what messages do while a
    turn runs, where the conversation has no setting of its own.
    """

    allow: frozenset[str]
    groups: Literal["mention", "all", "off"] = "mention"
    admins: frozenset[str] = frozenset()
    pair: bool = False
    busy: Busy = "steer"

    def allows(self, sender: Sender) -> bool:
        # "*" means people: a bot must be allowed by its id or name.
        everybody = set() if sender.bot else {"*"}
        return not (_names(sender) | everybody).isdisjoint(self.allow | self.admins)

    def is_admin(self, sender: Sender) -> bool:
        return not _names(sender).isdisjoint(self.admins)


UNRESTRICTED = ChannelAccess(frozenset({"*"}), "all")
"""For a channel without access settings (web, terminal): its only user is the owner."""


def _names(sender: Sender) -> set[str]:
    names = {sender.id.lower()}
    if sender.handle:
        names.add("@" + sender.handle.lower())
    return names


class AccessPolicy:
    """The access settings of all channels."""

    def __init__(self, channels: Mapping[str, ChannelAccess]) -> None:
        self._channels = channels
        self._bot_messages: OrderedDict[str, int] = OrderedDict()

    def check(self, message: InboundMessage) -> tuple[Access, Admission]:
        """The result so far, and what the store checks before it accepts an admitted message."""
        settings = self._settings(message.address.channel)
        if message.kind == "withdrawn":
            # Not every platform says who deleted a message; a deletion affects admitted messages only.
            return Access.ADMITTED, "open" if message.address.kind == "direct" else "known"
        if message.sender.bot and not self._may_bot_write(message, settings):
            return Access.IGNORED, "open"
        admission = _admission(message, settings)
        if admission is None:
            return Access.IGNORED, "open"
        if settings.allows(message.sender):
            self._count_bot_messages(message)
            return Access.ADMITTED, admission
        if settings.pair and not message.sender.bot:
            return Access.ADMITTED, "paired" if admission == "open" else "known and paired"
        return (Access.IGNORED if message.kind == "edited" else Access.REFUSED), admission

    def is_admin(self, address: Address, sender: Sender) -> bool:
        return address.channel not in self._channels or self._settings(address.channel).is_admin(sender)

    def may_stop_any(self, address: Address, sender: Sender) -> bool:
        """Whether they may stop and decide for everybody's turns: in groups admins only, in direct chats all."""
        return address.kind == "direct" or self.is_admin(address, sender)

    def may_extend(self, address: Address, sender: Sender) -> bool:
        """Whether they may let a turn go beyond a limit: admins only, where there are any."""
        return not self.admins(address.channel) or self.is_admin(address, sender)

    def admins(self, channel: str) -> frozenset[str]:
        """User ids and @names in lower case."""
        return self._settings(channel).admins

    def busy(self, channel: str) -> Busy:
        return self._settings(channel).busy

    def has_pairing(self, channel: str) -> bool:
        return self._settings(channel).pair

    def _settings(self, channel: str) -> ChannelAccess:
        return self._channels.get(channel, UNRESTRICTED)

    def _may_bot_write(self, message: InboundMessage, settings: ChannelAccess) -> bool:
        count = self._bot_messages.get(session_key(message.address), 0)
        return settings.allows(message.sender) and count < MAX_BOT_MESSAGES

    def _count_bot_messages(self, message: InboundMessage) -> None:
        """Consecutive ones; a person's message resets the count."""
        session = session_key(message.address)
        count = self._bot_messages.pop(session, 0)
        if message.sender.bot:
            self._bot_messages[session] = count + 1
            if len(self._bot_messages) > MAX_TRACKED_SESSIONS:
                self._bot_messages.popitem(last=False)


def _admission(message: InboundMessage, settings: ChannelAccess) -> Admission | None:
    """By kind of chat and the setting `groups`; None for a message that is not meant for the bot."""
    if message.address.kind == "direct":
        return "open"
    match settings.groups:
        case "off":
            return None
        case "all":
            return "open"
        case "mention":
            if message.addressed:
                return "open"
            return "known" if message.follows or message.kind == "edited" else None
