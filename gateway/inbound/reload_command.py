"""`/reload`: admins have the gateway load its settings and tools anew."""

from __future__ import annotations

from gateway.inbound.access import AccessPolicy
from gateway.inbound.access_commands import ADMINS_ONLY
from gateway.lifecycle.reloading import Reload
from gateway.store.records import Command


class ReloadCommand:
    def __init__(self, access: AccessPolicy, reload: Reload) -> None:
        self._access = access
        self._reload = reload

    async def reload(self, command: Command) -> str:
        if not self._access.manages(command.address, command.sender):
            return ADMINS_ONLY
        return (await self._reload()).text
