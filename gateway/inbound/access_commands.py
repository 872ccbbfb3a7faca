"""Commands about who may write to the bot: `/pair`, `/access`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Protocol

from gateway.inbound.access import AccessPolicy
from gateway.inbound.access_changes import AccessChanges
from gateway.outbound.wording import escaped, person
from gateway.store.records import Command, Identity, Pairing, Stranger
from gateway.turns.budgets import person_on

ADMINS_ONLY = "Only admins may do that."
REVOKE = "revoke"


class AccessStore(Protocol):
    async def pairings(self) -> tuple[Pairing, ...]: ...
    async def identities(self) -> tuple[Identity, ...]: ...
    async def strangers(self, channel: str | None) -> tuple[Stranger, ...]: ...


class AccessCommands:
    """Each method runs one command and returns the answer to the person."""

    def __init__(self, store: AccessStore, access: AccessPolicy, changes: AccessChanges) -> None:
        self._store = store
        self._access = access
        self._changes = changes

    async def pair(self, command: Command) -> str:
        if not self._access.manages(command.address, command.sender):
            return "Only admins may approve pairing codes."
        actor = person_on(command.address, command.sender)
        channel = self._channel_of(command)
        pairing = await self._changes.approve(command.arguments, actor, command.sender.name, channel)
        if pairing is None:
            return "Unknown or expired pairing code. Usage: `/pair CODE`."
        return f"Approved: {person(pairing.sender)} may now write to me."

    async def access(self, command: Command) -> str:
        """Lists access, or takes back what pairing gave."""
        if not self._access.manages(command.address, command.sender):
            return ADMINS_ONLY
        action, _, user = command.arguments.strip().partition(" ")
        if action.lower() == REVOKE and user.strip():
            return await self._revoke(command, user.strip())
        return await self._list(self._channel_of(command))

    async def _revoke(self, command: Command, user: str) -> str:
        """Takes effect at once: for queued messages and running tasks too."""
        actor = person_on(command.address, command.sender)
        channel = self._channel_of(command)
        found = await self._changes.revoke(user.strip("`"), actor, command.sender.name, channel)
        if found is None:
            return f"Nobody with the user id {escaped(user)} has access by pairing. `/access` lists who has."
        return f"Revoked: {person(found.sender)} may no longer write to me. (Users in the settings are not affected.)"

    async def _list(self, channel: str | None) -> str:
        now = datetime.now(UTC)
        pairings = [each for each in await self._store.pairings() if _is_of(each.channel, channel)]
        identities = [each for each in await self._store.identities() if _is_of(each.channel, channel)]
        paired = [person(each.sender) for each in pairings if each.approved]
        pending = [
            f"{person(each.sender)}: `/pair {each.code}`"
            for each in pairings
            if not each.approved and each.expires_at > now
        ]
        refused = [
            f"{person(each.sender)}: {_messages(each.messages)}" for each in await self._store.strangers(channel)
        ]
        named = [f"{escaped(each.name)} is `{each.user_id}`, {escaped(each.user_name)}" for each in identities]
        lists = (
            ("Roles in the settings", self._roles(channel)),
            ("Names in the settings", named),
            ("Access by pairing (`/access revoke ID` takes it back)", paired),
            ("Requests", pending),
            ("Refused lately", refused),
        )
        return "\n\n".join(_listed(title, lines) for title, lines in lists if lines) or "Nobody has access by pairing."

    def _roles(self, channel: str | None) -> list[str]:
        if channel is None:
            return []
        listed = ((role, users) for role, users in self._access.listed(channel) if users)
        return [f"{role}: {', '.join(map(escaped, sorted(users)))}" for role, users in listed]

    def _channel_of(self, command: Command) -> str | None:
        """An admin's rights end with the channel; the owner (web, terminal) has them in all."""
        channel = command.address.channel
        return None if self._access.is_owner(channel, command.sender) else channel


def _is_of(channel: str, wanted: str | None) -> bool:
    return wanted is None or channel == wanted


def _listed(title: str, lines: list[str]) -> str:
    return "\n".join(_lines(title, lines))


def _lines(title: str, lines: list[str]) -> Iterator[str]:
    yield f"{title}:\n"
    for line in lines:
        yield f"- {line}"


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count:,} messages"
