"""Access: who may write to the bot, in which chats, and who has more rights than others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal, Protocol

from channels.address import FULL, Address, Sender
from channels.message import InboundMessage
from gateway.store.records import Admission, Busy, Speaker
from gateway.turns.roles import Role, Roles

ROLE = "role:"
"""How a role of the platform is written."""


class Access(Enum):
    ADMITTED = "admitted"
    REFUSED = "refused"
    """Never read; counted, and answered once a day in a direct chat."""
    IGNORED = "ignored"
    """Not stored: a group message that is not meant for the bot."""


@dataclass(frozen=True, slots=True)
class ChannelAccess:
    """A channel's access settings.

    `allow` (the allowlist), `admins`, `members` and `guests` hold ids of users and groups and their names, in lower
    case; "*" is every member, empty is nobody. People in the other lists are allowed too. `pair`: others may request
    pairing, which an admin approves. `outsiders`: "*" and pairing include guests and people of other workspaces. `busy`
    is what messages do while a turn runs, where the conversation has no setting of its own. `owner` is the id of the
    gateway's owner, where they write beside others.
    """

    allow: frozenset[str]
    groups: Literal["mention", "all", "off"] = "mention"
    admins: frozenset[str] = frozenset()
    pair: bool = False
    busy: Busy = "steer"
    outsiders: bool = False
    members: frozenset[str] = frozenset()
    guests: frozenset[str] = frozenset()
    owner: str = ""

    @property
    def listed(self) -> frozenset[str]:
        return self.allow | self.admins | self.members | self.guests

    @property
    def names(self) -> frozenset[str]:
        """The names, which mean nobody until they are resolved to an id."""
        return frozenset(filter(is_name, self.listed))

    def by_role(self) -> Iterator[tuple[Role, frozenset[str]]]:
        """The lists that give a role, the one with most rights first."""
        yield from (("admin", self.admins), ("member", self.members), ("guest", self.guests))

    def default_role(self, sender: Sender) -> Role:
        """The role of somebody who is admitted, but in none of these lists."""
        return "guest" if self.members or sender.membership != "member" else "member"

    def wildcard_includes(self, sender: Sender) -> bool:
        """Whether "*" and pairing include the sender: they mean people, and members unless the settings say more."""
        return sender.is_person and (self.outsiders or sender.membership == "member")

    def wildcard_in(self, users: Collection[str], sender: Sender) -> bool:
        """Whether the list has "*", and that includes the sender."""
        return "*" in users and self.wildcard_includes(sender)


def is_name(user: str) -> bool:
    """Whether the entry of a list has to be resolved to an id: the @name of a person or group, the name of a role."""
    return user.startswith("@") or (user.startswith(ROLE) and not user.removeprefix(ROLE).isdecimal())


UNRESTRICTED = ChannelAccess(frozenset({"*"}), "all")
"""For a channel without access settings (terminal, and web if no proxy signs people in): its only user is the owner."""


NOBODY = ChannelAccess(frozenset(), "off")
"""For a channel that was removed while the gateway runs."""


class Programs(Protocol):
    """Senders that are programs with a key of the control API, on every channel."""

    async def reload(self) -> None:
        """Reads which keys there are. Raises `StoreError`."""

    def is_program(self, sender: str) -> bool:
        """Whether this is the sender id of a program."""

    def role(self, sender: str) -> Role | None:
        """None: its key is not valid any more, or lets it write nothing."""

    def oversees(self, sender: str) -> bool:
        """Whether it is an admin in all conversations, for all agents."""

    def manages(self, sender: str) -> bool:
        """Whether it oversees, and may decide on people and settings."""


class NoPrograms:
    async def reload(self) -> None:
        pass

    def is_program(self, sender: str) -> bool:
        return False

    def role(self, sender: str) -> Role | None:
        return None

    def oversees(self, sender: str) -> bool:
        return False

    def manages(self, sender: str) -> bool:
        return False


Gate = Literal["key", "bots", "groups", "mention", "allowlist"]
"""What did not let a message in: the key of a program is not valid; other bots are not allowed; the bot does not answer
in groups; it is not addressed there; the lists of the settings."""


@dataclass(frozen=True, slots=True)
class AccessCheck:
    """The result of a check without the store, and what the store checks before it accepts an admitted message: see
    `Admission` and `AcceptOptions`. `level` is the sender's; `named_level`, if one of the names means the sender.
    `gate` is what did not let the message in. `speaker` counts for messages of bots in a row."""

    access: Access
    admission: Admission = "open"
    names: tuple[str, ...] = ()
    only_by_name: bool = False
    level: int = FULL
    named_level: int = 0
    gate: Gate | None = None
    speaker: Speaker = "person"

    def with_at_most(self, level: int) -> AccessCheck:
        """The same with no higher level than this."""
        return replace(self, level=min(self.level, level), named_level=min(self.named_level, level))


class AccessPolicy:
    """The access settings of all channels. Only ids count: a name counts as the id that it was resolved to."""

    def __init__(self, channels: Mapping[str, ChannelAccess], roles: Roles | None = None) -> None:
        self.roles = roles or Roles()
        self.programs: Programs = NoPrograms()
        self._channels = dict(channels)
        self._ids: dict[tuple[str, str], str] = {}

    def use(self, channels: Mapping[str, ChannelAccess], roles: Roles) -> None:
        """From now on these. On a channel that is no longer there, nobody is admitted; a name that is no longer there
        means nobody."""
        removed = {channel: NOBODY for channel in self._channels if channel not in channels}
        self.roles, self._channels = roles, {**channels, **removed}
        self._ids = {key: id for key, id in self._ids.items() if key[1] in self._settings(key[0]).names}

    def check(self, message: InboundMessage) -> AccessCheck:
        channel, sender = message.address.channel, message.sender
        settings = self._settings(channel)
        if message.kind == "withdrawn":
            # Not every platform says who deleted a message; a deletion affects admitted messages only.
            return AccessCheck(Access.ADMITTED, "known", speaker="other")
        if self.programs.is_program(sender.id):
            # The settings of the channel are about its people.
            role = self.programs.role(sender.id)
            return (
                AccessCheck(Access.REFUSED, gate="key")
                if role is None
                else AccessCheck(Access.ADMITTED, level=self.roles.level(role), speaker="other")
            )
        if not sender.is_person and not self._allows(channel, sender):
            return AccessCheck(Access.IGNORED, gate="bots")
        admission = _admission(message, settings)
        if admission is None:
            return AccessCheck(Access.IGNORED, gate="groups" if settings.groups == "off" else "mention")
        names = self._possible_names(channel, sender)
        named_level = self._named_level(settings, sender, names)
        role = self._role(channel, sender)
        if role is not None:
            level = self.roles.level(role)
            # People write in the name of a chat, too.
            speaker: Speaker = "bot" if sender.kind in ("bot", "webhook") else "person"
            return AccessCheck(Access.ADMITTED, admission, names, level=level, named_level=named_level, speaker=speaker)
        level = self.roles.level(settings.default_role(sender))
        if settings.pair and settings.wildcard_includes(sender):
            paired: Admission = "paired" if admission == "open" else "known and paired"
            return AccessCheck(Access.ADMITTED, paired, names, bool(names), level, named_level)
        if names:
            return AccessCheck(Access.ADMITTED, admission, names, True, 0, named_level)
        access = Access.IGNORED if message.kind == "edited" else Access.REFUSED
        return AccessCheck(access, admission, gate="allowlist")

    # Names

    def names(self) -> dict[str, frozenset[str]]:
        """The names in the settings, by channel."""
        return {channel: settings.names for channel, settings in self._channels.items()}

    def unresolved(self, channel: str) -> frozenset[str]:
        return frozenset(name for name in self._settings(channel).names if (channel, name) not in self._ids)

    def resolved(self, channel: str, name: str, user_id: str) -> None:
        """From now on the name means this user or group, whatever anybody is called."""
        self._ids[channel, name] = user_id.lower()

    def _possible_names(self, channel: str, sender: Sender) -> tuple[str, ...]:
        """The unresolved @names that mean the sender. Names mean people of this workspace, never programs."""
        if not sender.is_person or sender.membership == "outsider" or not sender.handle:
            return ()
        name = f"@{sender.handle.lower()}"
        return (name,) if name in self.unresolved(channel) else ()

    # Rights

    def groups(self, channel: str) -> frozenset[str]:
        """The ids that may be of groups, in lower case."""
        return self._ids_of(channel, self._settings(channel).listed)

    def listed(self, channel: str) -> Iterator[tuple[Role, frozenset[str]]]:
        """Who is listed with a role in the settings."""
        return self._settings(channel).by_role()

    def lists(self) -> Iterator[tuple[str, Role | Literal["allow"], frozenset[str]]]:
        """Who is listed in the settings, with a role or on the allowlist, by channel."""
        for channel, settings in self._channels.items():
            yield from ((channel, role, users) for role, users in settings.by_role() if users)
            if settings.allow:
                yield channel, "allow", settings.allow

    def level_of(self, channel: str, sender: Sender, *, is_paired: bool = False) -> int | None:
        """What the settings and pairing give the sender; None: nothing."""
        role = self.current_role(channel, sender, is_paired=is_paired)
        return None if role is None else self.roles.level(role)

    def current_role(self, channel: str, sender: Sender, *, is_paired: bool) -> Role | None:
        """The role that the settings and pairing give the sender now; None: none."""
        role = self._role(channel, sender)
        if role is None and is_paired and self.has_pairing(channel):
            role = self._settings(channel).default_role(sender)
        return role

    def role_of(self, channel: str, sender: Sender) -> Role:
        """The role of somebody who may write there."""
        return self._role(channel, sender) or self._settings(channel).default_role(sender)

    def is_foreign(self, channel: str, author: Sender) -> bool:
        """Whether a text of this author is text from outside: the settings do not allow them to write to the bot."""
        return self.has_settings(channel) and not self._allows(channel, author)

    def _allows(self, channel: str, sender: Sender) -> bool:
        return self._role(channel, sender) is not None

    def _role(self, channel: str, sender: Sender) -> Role | None:
        """The one with most rights of those that the settings give the sender; None if they do not admit the sender.

        "*" stands for everybody who is not listed otherwise: whom a role lists has that role, and whom the allowlist
        lists has no fewer rights than "*" gives."""
        if self.programs.is_program(sender.id):
            return self.programs.role(sender.id)
        if self.is_owner(channel, sender):
            return "admin"
        settings = self._settings(channel)
        for role, users in settings.by_role():
            if self._names(channel, users, sender):
                return role
        everybodys = next((role for role, users in settings.by_role() if settings.wildcard_in(users, sender)), None)
        if self._names(channel, settings.allow, sender):
            return "member" if everybodys == "member" else settings.default_role(sender)
        if everybodys is None and settings.wildcard_in(settings.allow, sender):
            return settings.default_role(sender)
        return everybodys

    def _named_level(self, settings: ChannelAccess, sender: Sender, names: Collection[str]) -> int:
        """The sender's level, if one of the names means the sender."""
        roles = [role for role, users in settings.by_role() if not users.isdisjoint(names)]
        return self.roles.level(roles[0] if roles else settings.default_role(sender))

    def _names(self, channel: str, users: Collection[str], sender: Sender) -> bool:
        """Whether the list means the sender, or a group of theirs, other than by "*"."""
        ids = self._ids_of(channel, users)
        in_group = sender.is_person and any(group.lower() in ids for group in sender.groups)
        return in_group or sender.id.lower() in ids

    def is_admin(self, address: Address, sender: Sender) -> bool:
        channel = address.channel
        if self.programs.is_program(sender.id):
            return self.programs.role(sender.id) == "admin"
        return self.is_owner(channel, sender) or self._names(channel, self._settings(channel).admins, sender)

    def oversees(self, address: Address, sender: Sender) -> bool:
        """Whether they may see and do what concerns other conversations and people too. A program may be an admin in
        some conversations only."""
        if self.programs.is_program(sender.id):
            return self.programs.oversees(sender.id)
        return self.is_admin(address, sender)

    def manages(self, address: Address, sender: Sender) -> bool:
        """Whether they may decide on people's access, settings and shared accounts."""
        if self.programs.is_program(sender.id):
            return self.programs.manages(sender.id)
        return self.is_admin(address, sender)

    def may_delete_all(self, address: Address, sender: Sender) -> bool:
        """Whether they may delete the whole conversation: a direct chat is its person's, not a program's there."""
        is_program = self.programs.is_program(sender.id)
        return address.kind == "direct" and (not is_program or self.is_admin(address, sender))

    def may_stop_any(self, address: Address, sender: Sender) -> bool:
        """Whether they may stop and decide for everybody's turns: in groups admins only, in direct chats all."""
        return address.kind == "direct" or self.is_admin(address, sender)

    def may_extend(self, address: Address, sender: Sender) -> bool:
        """Whether they may let a turn go beyond a limit: admins only, where there are any, and nobody whose role has
        limits."""
        if self._settings(address.channel).admins:
            return self.is_admin(address, sender)
        return sender.level >= FULL

    def admins(self, channel: str) -> frozenset[str]:
        """User ids in lower case."""
        return self._ids_of(channel, self._settings(channel).admins)

    def has_settings(self, channel: str) -> bool:
        """Whether the channel is for others than the owner."""
        return channel in self._channels

    def is_owner(self, channel: str, sender: Sender) -> bool:
        """Whether the sender is the gateway's owner, whose rights do not end with the channel."""
        return not self.has_settings(channel) or self._settings(channel).owner == sender.id != ""

    def _ids_of(self, channel: str, users: Collection[str]) -> frozenset[str]:
        ids = (self._ids.get((channel, user)) if is_name(user) else user for user in users)
        return frozenset(id for id in ids if id)

    def busy(self, channel: str) -> Busy:
        return self._settings(channel).busy

    def has_pairing(self, channel: str) -> bool:
        return self._settings(channel).pair

    def _settings(self, channel: str) -> ChannelAccess:
        return self._channels.get(channel, UNRESTRICTED)


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
