"""Access: who may write to the bot, in which chats, and who has more rights than others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
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
    """Never read; counted, and answered once a day in a direct chat."""
    IGNORED = "ignored"
    """Not stored: a group message that is not meant for the bot."""


@dataclass(frozen=True, slots=True)
class ChannelAccess:
    """A channel's access settings.

    `allow` (the allowlist) and `admins` hold user ids and @names in lower case; "*" in `allow` is every member, empty
    is nobody. Admins are always allowed. `pair`: others may request pairing, which an admin approves. `outsiders`: "*"
    and pairing include guests and people of other workspaces. `busy` is what messages do while a turn runs, where the
    conversation has no setting of its own.
    """

    allow: frozenset[str]
    groups: Literal["mention", "all", "off"] = "mention"
    admins: frozenset[str] = frozenset()
    pair: bool = False
    busy: Busy = "steer"
    outsiders: bool = False

    @property
    def names(self) -> frozenset[str]:
        """The @names, which mean nobody until they are resolved to an id."""
        return frozenset(user for user in self.allow | self.admins if user.startswith("@"))

    def wildcard_includes(self, sender: Sender) -> bool:
        """Whether "*" and pairing include the sender: they mean people, and members unless the settings say more."""
        return sender.is_person and (self.outsiders or sender.membership == "member")


UNRESTRICTED = ChannelAccess(frozenset({"*"}), "all")
"""For a channel without access settings (web, terminal): its only user is the owner."""


@dataclass(frozen=True, slots=True)
class AccessCheck:
    """The result of a check without the store, and what the store checks before it accepts an admitted message: see
    `Admission` and `AcceptOptions`."""

    access: Access
    admission: Admission = "open"
    names: tuple[str, ...] = ()
    only_by_name: bool = False


class AccessPolicy:
    """The access settings of all channels. Only ids count: an @name counts as the id that it was resolved to."""

    def __init__(self, channels: Mapping[str, ChannelAccess]) -> None:
        self._channels = channels
        self._ids: dict[tuple[str, str], str] = {}
        self._bot_messages: OrderedDict[str, int] = OrderedDict()

    def check(self, message: InboundMessage) -> AccessCheck:
        channel, sender = message.address.channel, message.sender
        settings = self._settings(channel)
        if message.kind == "withdrawn":
            # Not every platform says who deleted a message; a deletion affects admitted messages only.
            return AccessCheck(Access.ADMITTED, "known")
        if not sender.is_person and not self._may_bot_write(message):
            return AccessCheck(Access.IGNORED)
        admission = _admission(message, settings)
        if admission is None:
            return AccessCheck(Access.IGNORED)
        names = self._possible_names(channel, sender)
        if self._allows(channel, sender):
            self._count_bot_messages(message)
            return AccessCheck(Access.ADMITTED, admission, names)
        if settings.pair and settings.wildcard_includes(sender):
            paired: Admission = "paired" if admission == "open" else "known and paired"
            return AccessCheck(Access.ADMITTED, paired, names, only_by_name=bool(names))
        if names:
            return AccessCheck(Access.ADMITTED, admission, names, only_by_name=True)
        return AccessCheck(Access.IGNORED if message.kind == "edited" else Access.REFUSED, admission)

    # Names

    def names(self) -> dict[str, frozenset[str]]:
        """The @names in the settings, by channel."""
        return {channel: settings.names for channel, settings in self._channels.items()}

    def unresolved(self, channel: str) -> frozenset[str]:
        return frozenset(name for name in self._settings(channel).names if (channel, name) not in self._ids)

    def resolved(self, channel: str, name: str, user_id: str) -> None:
        """From now on the @name means this user, whatever anybody is called."""
        self._ids[channel, name] = user_id.lower()

    def _possible_names(self, channel: str, sender: Sender) -> tuple[str, ...]:
        """The unresolved @names that mean the sender. Names mean people of this workspace, never programs."""
        if not sender.is_person or sender.membership == "outsider" or not sender.handle:
            return ()
        name = f"@{sender.handle.lower()}"
        return (name,) if name in self.unresolved(channel) else ()

    # Rights

    def is_foreign(self, channel: str, author: Sender) -> bool:
        """Whether a text of this author is text from outside: the settings do not allow them to write to the bot."""
        return self.has_settings(channel) and not self._allows(channel, author)

    def _allows(self, channel: str, sender: Sender) -> bool:
        settings = self._settings(channel)
        if "*" in settings.allow and settings.wildcard_includes(sender):
            return True
        return sender.id.lower() in self._ids_of(channel, settings.allow | settings.admins)

    def is_admin(self, address: Address, sender: Sender) -> bool:
        return not self.has_settings(address.channel) or sender.id.lower() in self.admins(address.channel)

    def may_stop_any(self, address: Address, sender: Sender) -> bool:
        """Whether they may stop and decide for everybody's turns: in groups admins only, in direct chats all."""
        return address.kind == "direct" or self.is_admin(address, sender)

    def may_extend(self, address: Address, sender: Sender) -> bool:
        """Whether they may let a turn go beyond a limit: admins only, where there are any."""
        return not self._settings(address.channel).admins or self.is_admin(address, sender)

    def admins(self, channel: str) -> frozenset[str]:
        """User ids in lower case."""
        return self._ids_of(channel, self._settings(channel).admins)

    def has_settings(self, channel: str) -> bool:
        """Whether the channel is for others than the owner."""
        return channel in self._channels

    def _ids_of(self, channel: str, users: Collection[str]) -> frozenset[str]:
        ids = (self._ids.get((channel, user)) if user.startswith("@") else user for user in users)
        return frozenset(id for id in ids if id)

    def busy(self, channel: str) -> Busy:
        return self._settings(channel).busy

    def has_pairing(self, channel: str) -> bool:
        return self._settings(channel).pair

    def _settings(self, channel: str) -> ChannelAccess:
        return self._channels.get(channel, UNRESTRICTED)

    def _may_bot_write(self, message: InboundMessage) -> bool:
        count = self._bot_messages.get(session_key(message.address), 0)
        return self._allows(message.address.channel, message.sender) and count < MAX_BOT_MESSAGES

    def _count_bot_messages(self, message: InboundMessage) -> None:
        """Consecutive ones; a person's message resets the count."""
        session = session_key(message.address)
        count = self._bot_messages.pop(session, 0)
        if not message.sender.is_person:
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
