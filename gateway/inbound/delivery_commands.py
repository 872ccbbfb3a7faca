"""The command about replies that were not delivered: `/redeliver`."""

from __future__ import annotations

from gateway.inbound.access import AccessPolicy
from gateway.inbound.data_commands import EVERYWHERE
from gateway.store.records import AuditEvent, Command
from gateway.turns.budgets import person_on
from gateway.turns.undelivered import StoredReplies


class DeliveryCommands:
    def __init__(self, access: AccessPolicy, replies: StoredReplies) -> None:
        self._access = access
        self._replies = replies

    async def redeliver(self, command: Command) -> str:
        """Tries again to show what the platform did not take."""
        everywhere = command.arguments.strip().lower() == EVERYWHERE
        if everywhere and not self._access.oversees(command.address, command.sender):
            return "Only admins may send replies of all conversations again."
        actor = person_on(command.address, command.sender)
        event = AuditEvent("redelivered", actor, command.sender.name, "" if everywhere else command.session)
        count = await self._replies.show_undelivered(None if everywhere else command.session, event)
        if not count:
            return "Every reply was delivered." if everywhere else "Every reply of this conversation was delivered."
        return "One reply is being sent again." if count == 1 else f"{count} replies are being sent again."
