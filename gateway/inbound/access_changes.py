"""Changes of who may write to the bot, by a command in a chat or through the API: pairing and its end."""

from __future__ import annotations

from typing import Protocol

from agent.log import Notice
from gateway.inbound.revocations import Revocations
from gateway.outbound.notices import Notices
from gateway.store.records import Pairing, Revoked

APPROVED = "Your access was approved. What can I do for you?"


class AccessStore(Protocol):
    async def approve_pairing(self, code: str, by: str, by_name: str, channel: str | None) -> Pairing | None: ...
    async def revoke_pairing(self, channel: str, sender: str, by: str, by_name: str) -> Revoked | None: ...
    async def pairings(self) -> tuple[Pairing, ...]: ...


class AccessChanges:
    """`by` and `by_name` are who changes it, as actor of the audit log; `channel` None means all."""

    def __init__(self, store: AccessStore, notices: Notices, revocations: Revocations) -> None:
        self._store = store
        self._notices = notices
        self._revocations = revocations

    async def approve(self, code: str, by: str, by_name: str, channel: str | None) -> Pairing | None:
        """Approves who was given the code, and tells them; None if it is unknown or has expired."""
        code = code.strip().upper()
        pairing = await self._store.approve_pairing(code, by, by_name, channel) if code else None
        if pairing is not None:
            key = f"approved:{pairing.code}"
            await self._notices.send(pairing.session, pairing.address, None, Notice(APPROVED), key)
        return pairing

    async def revoke(self, user: str, by: str, by_name: str, channel: str | None) -> Pairing | None:
        """Takes back what pairing gave the user with this id, also from what waits and runs; None if it gave
        nothing."""
        wanted = user.lower()
        paired = [each for each in await self._store.pairings() if channel in (None, each.channel)]
        found = next((each for each in paired if each.sender.id.lower() == wanted), None)
        if found is None:
            return None
        revoked = await self._store.revoke_pairing(found.channel, found.sender.id, by, by_name)
        if revoked is not None:
            await self._revocations.apply(revoked)
        return found
