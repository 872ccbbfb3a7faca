"""Answers to people who are not on the allowlist: a refusal, or a pairing code that an admin approves.

Who is refused is decided by `access.py` and, for pairing and @names, by `store/arrivals.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from agent.log import Notice
from channels.address import Address, Sender
from channels.message import InboundMessage
from gateway.inbound.access import AccessPolicy
from gateway.outbound.notices import Notices
from gateway.outbound.wording import person
from gateway.store import records

REFUSED = "You are not on the allowlist of this bot. (Your user id is `{id}`.)"
PAIRING_CODE = (
    "You are not on the allowlist of this bot yet. Your pairing code is `{code}`, valid for an hour. Ask an admin to "
    "approve it: they write `/pair {code}` to me, or run `interject pair approve {code}`."
)
PAIRING_REQUEST = "Access request from {person}."
MORE_REQUESTS = "More people request access to this bot. `/access` lists them."
APPROVE = "Approve"

MAX_ASKED = 10
"""Pending requests of a channel of which admins are told one by one."""

PAIRING_KEY = "pair:"
"""Precedes the code in the key of the question that admins are asked."""


class PairingStore(Protocol):
    async def request_pairing(
        self, channel: str, sender: Sender, session: str, address: Address
    ) -> records.PairingRequest | None: ...
    async def direct_chats(self, channel: str, people: Collection[str]) -> tuple[tuple[str, Address], ...]: ...


class Refusals:
    def __init__(self, store: PairingStore, access: AccessPolicy, notices: Notices) -> None:
        self._store = store
        self._access = access
        self._notices = notices

    async def answer(self, message: InboundMessage, arrival: records.Arrival) -> None:
        """Sends the refusal, or a new pairing code."""
        if self._access.has_pairing(message.address.channel):
            await self._offer_pairing(message, arrival)
        else:
            text = REFUSED.format(id=message.sender.id.replace("`", ""))
            await self._send(message, arrival, text, f"refused:{arrival.id}")

    async def _offer_pairing(self, message: InboundMessage, arrival: records.Arrival) -> None:
        address = message.address
        request = await self._store.request_pairing(address.channel, message.sender, arrival.session, address)
        if request is None:
            return
        await self._ask_admins(request)
        code = request.pairing.code
        await self._send(message, arrival, PAIRING_CODE.format(code=code), f"pair:{code}")

    async def _ask_admins(self, request: records.PairingRequest) -> None:
        """Sends a question with a button to each direct chat of an admin; of many requests, only a notice."""
        pairing = request.pairing
        if request.pending > MAX_ASKED + 1:
            return
        notice = Notice(
            PAIRING_REQUEST.format(person=person(pairing.sender)), (APPROVE,), f"{PAIRING_KEY}{pairing.code}"
        )
        if request.pending > MAX_ASKED:
            notice = Notice(MORE_REQUESTS)
        for session, address in await self._store.direct_chats(pairing.channel, self._access.admins(pairing.channel)):
            await self._notices.send(session, address, None, notice, f"{PAIRING_KEY}{pairing.code}:{session}")

    async def _send(self, message: InboundMessage, arrival: records.Arrival, text: str, key: str) -> None:
        await self._notices.send(arrival.session, message.address, message.message_id, Notice(text), key)
