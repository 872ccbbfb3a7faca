"""The gate: who may speak, and in which places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from channels.address import Sender
from channels.message import InboundMessage


class Verdict(Enum):
    ADMITTED = "admitted"
    REFUSED = "refused"
    """Kept, never read, and answered once in a direct chat."""
    NOT_OURS = "not ours"
    """Not kept: group talk that is not meant for the bot."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`allow` holds user ids and @names; "*" is everybody, empty is nobody."""

    allow: frozenset[str]
    groups: Literal["mention", "all", "off"] = "mention"

    def admits(self, sender: Sender) -> bool:
        names = {"*", sender.id}
        if sender.handle:
            names.add("@" + sender.handle.lower())
        return not names.isdisjoint(self.allow)


def policy(allow: list[str], groups: Literal["mention", "all", "off"]) -> Policy:
    return Policy(frozenset(name.lower() for name in allow), groups)


class Gate:
    """Judges by the channel's policy; a channel without one (web, terminal) is its owner's alone and admits all."""

    def __init__(self, policies: Mapping[str, Policy]) -> None:
        self._policies = policies

    def judge(self, message: InboundMessage) -> Verdict:
        policy = self._policies.get(message.address.channel)
        if policy is None:
            return Verdict.ADMITTED
        if message.address.kind == "group" and not self._is_for_us(message, policy):
            return Verdict.NOT_OURS
        return Verdict.ADMITTED if policy.admits(message.sender) else Verdict.REFUSED

    def _is_for_us(self, message: InboundMessage, policy: Policy) -> bool:
        match policy.groups:
            case "off":
                return False
            case "all":
                return True
            case "mention":
                return message.addressed or message.kind == "edited"
