"""Answers to people who are not on the allowlist: a refusal, or a pairing code that an admin approves."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from agent.log import Notice
from channels.address import Address, Sender
from channels.message import InboundMessage
from gateway.inbound.access import AccessPolicy
from gateway.outbound.notices import Notices
from gateway.store import records

REFUSED = "You are not on the allowlist of this bot. (Your user id is `{id}`.)"
PAIRING_CODE = (
    "You are not on the allowlist of this bot yet. Your pairing code is `{code}`, valid for an hour. Ask an admin to "
    "approve it: they write `/pair {code}` to me, or run `interject pair approve {code}`."
)
PAIRING_REQUEST = "**{name}** requests access to this bot."
APPROVE = "Approve"

PAIRING_KEY = "pair:"
"""Precedes the code in the key of the question that admins are asked."""


class PairingStore(Protocol):
    async def request_pairing(
        self, channel: str, sender: Sender, session: str, address: Address
    ) -> records.Pairing | None: ...
    async def direct_chats(self, channel: str, people: Collection[str]) -> tuple[tuple[str, Address], ...]: ...


class Refusals:
    def __init__(self, store: PairingStore, access: AccessPolicy, notices: Notices) -> None:
        self._store = store
        self._access = access
        self._notices = notices

    async def answer(self, message: InboundMessage, arrival: records.Arrival) -> None:
        """Sends the refusal once, or a new pairing code whenever the last one has expired."""
        if self._access.has_pairing(message.address.channel):
            await self._offer_pairing(message, arrival)
        elif arrival.first_refusal:
            text = REFUSED.format(id=message.sender.id.replace("`", ""))
            await self._send(message, arrival, text, f"refused:{arrival.id}")

    async def _offer_pairing(self, message: InboundMessage, arrival: records.Arrival) -> None:
        address = message.address
        pairing = await self._store.request_pairing(address.channel, message.sender, arrival.session, address)
        if pairing is None:
            return
        await self._ask_admins(pairing)
        await self._send(message, arrival, PAIRING_CODE.format(code=pairing.code), f"pair:{pairing.code}")

    async def _ask_admins(self, pairing: records.Pairing) -> None:
        """Sends a question with a button to each direct chat of an admin."""
        sender = pairing.sender
        name = f"{sender.name} ({sender.id})" if sender.name else sender.id
        notice = Notice(PAIRING_REQUEST.format(name=name), (APPROVE,), f"{PAIRING_KEY}{pairing.code}")
        for session, address in await self._store.direct_chats(pairing.channel, self._access.admins(pairing.channel)):
            await self._notices.send(session, address, None, notice, f"{notice.key}:{session}")

    async def _send(self, message: InboundMessage, arrival: records.Arrival, text: str, key: str) -> None:
        await self._notices.send(arrival.session, message.address, message.message_id, Notice(text), key)
