"""The gate: who may speak, in which places, and who may say more than others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from channels.address import Address, Sender
from channels.message import InboundMessage
from gateway.sessions import session_key
from gateway.store.records import Busy, Admission

MOST_IN_A_ROW = 5
"""Messages of other bots in one place without a person between them: two bots that answer each other never end."""

MOST_PLACES = 1000


class Access(Enum):
    ADMITTED = "admitted"
    REFUSED = "refused"
    """Kept, never read, and answered once in a direct chat."""
    NOT_OURS = "not ours"
    """Not kept: group talk that is not meant for the bot."""


@dataclass(frozen=True, slots=True)
class ChannelAccess:
    """`allow` and `admins` hold user ids and @names; in `allow`, "*" is everybody. Empty is nobody.

    Admins may always speak. `pair`: whoever is unknown may ask an admin to be let in. `busy` is what messages do while
    a turn runs, where their conversation has not chosen.
    """

    allow: frozenset[str]
    groups: Literal["mention", "all", "off"] = "mention"
    admins: frozenset[str] = frozenset()
    pair: bool = False
    busy: Busy = "steer"

    def admits(self, sender: Sender) -> bool:
        # Everybody is people: a bot is let in by its own name only.
        everybody = set() if sender.bot else {"*"}
        return not (_names(sender) | everybody).isdisjoint(self.allow | self.admins)

    def is_admin(self, sender: Sender) -> bool:
        return not _names(sender).isdisjoint(self.admins)


OWN = ChannelAccess(frozenset({"*"}), "all")
"""For a channel without a policy (web, terminal), which is its owner's alone."""


def _names(sender: Sender) -> set[str]:
    names = {sender.id.lower()}
    if sender.handle:
        names.add("@" + sender.handle.lower())
    return names


class AccessPolicy:
    def __init__(self, policies: Mapping[str, ChannelAccess]) -> None:
        self._policies = policies
        self._bots: OrderedDict[str, int] = OrderedDict()

    def check(self, message: InboundMessage) -> tuple[Access, Admission]:
        """The verdict, and on what else it depends: `Access.ADMITTED` is so only if the door is open to them."""
        policy = self._policy(message.address)
        if message.kind == "withdrawn":
            # Not every platform says who deleted a message; it touches nothing but what was let in.
            return Access.ADMITTED, "open" if message.address.kind == "direct" else "known"
        if message.sender.bot and not self._may_go_on(message, policy):
            return Access.NOT_OURS, "open"
        door = self._door(message, policy)
        if door is None:
            return Access.NOT_OURS, "open"
        if policy.admits(message.sender):
            self._count(message)
            return Access.ADMITTED, door
        if policy.pair and not message.sender.bot:
            return Access.ADMITTED, "paired" if door == "open" else "known and paired"
        return (Access.NOT_OURS if message.kind == "edited" else Access.REFUSED), door

    def is_admin(self, address: Address, sender: Sender) -> bool:
        return address.channel not in self._policies or self._policy(address).is_admin(sender)

    def may_extend(self, address: Address, sender: Sender) -> bool:
        """Whether they may let a task go beyond a limit: where there are admins, only they may."""
        return not self._policies.get(address.channel, OWN).admins or self.is_admin(address, sender)

    def admins(self, channel: str) -> frozenset[str]:
        """Their ids and @names, in small letters."""
        return self._policies.get(channel, OWN).admins

    def busy(self, channel: str) -> Busy:
        return self._policies.get(channel, OWN).busy

    def pairs(self, channel: str) -> bool:
        """Whether unknown people may ask to be let in there."""
        return self._policies.get(channel, OWN).pair

    def _policy(self, address: Address) -> ChannelAccess:
        return self._policies.get(address.channel, OWN)

    def _door(self, message: InboundMessage, policy: ChannelAccess) -> Admission | None:
        if message.address.kind == "direct":
            return "open"
        match policy.groups:
            case "off":
                return None
            case "all":
                return "open"
            case "mention":
                if message.addressed:
                    return "open"
                return "known" if message.follows or message.kind == "edited" else None

    def _may_go_on(self, message: InboundMessage, policy: ChannelAccess) -> bool:
        in_a_row = self._bots.get(session_key(message.address), 0)
        return policy.admits(message.sender) and in_a_row < MOST_IN_A_ROW

    def _count(self, message: InboundMessage) -> None:
        place = session_key(message.address)
        in_a_row = self._bots.pop(place, 0)
        if message.sender.bot:
            self._bots[place] = in_a_row + 1
            if len(self._bots) > MOST_PLACES:
                self._bots.popitem(last=False)
