"""Resolves the @names of the settings to user ids: at the start of a channel, or when the person first writes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Protocol

from channels.address import Sender
from channels.channel import Channel, ChannelError, PeopleDirectory
from gateway.inbound.access import AccessPolicy
from gateway.outbound.wording import plain
from gateway.store.records import Identity

log = logging.getLogger(__name__)


class IdentityStore(Protocol):
    async def keep_identities(self, names: Mapping[str, Collection[str]]) -> tuple[Identity, ...]: ...
    async def resolve_names(self, channel: str, names: Collection[str], sender: Sender) -> tuple[str, ...]: ...


class Identities:
    """Keeps who each name means in the store, and tells the access policy."""

    def __init__(self, store: IdentityStore, access: AccessPolicy) -> None:
        self._store = store
        self._access = access

    async def load(self) -> None:
        """Reads what was resolved before; forgets names that are no longer in the settings."""
        for identity in await self._store.keep_identities(self._access.names()):
            self._access.resolved(identity.channel, identity.name, identity.user_id)
            log.info(
                "%s: %s means %s (%s), since %s",
                identity.channel,
                identity.name,
                identity.user_id,
                plain(identity.user_name),
                identity.at.date(),
            )

    def learn(self, channel: str, names: Collection[str], sender: Sender) -> None:
        """The store has resolved these names."""
        for name in names:
            self._access.resolved(channel, name, sender.id)
            log.info("%s: from now on %s means %s (%s)", channel, name, sender.id, plain(sender.name))

    async def look_up(self, channels: Collection[Channel]) -> None:
        """Asks the platforms for the names that are not resolved yet."""
        async with asyncio.TaskGroup() as group:
            for channel in channels:
                if isinstance(channel, PeopleDirectory) and self._access.unresolved(channel.name):
                    group.create_task(self._look_up(channel.name, channel))

    async def _look_up(self, name: str, directory: PeopleDirectory) -> None:
        """A failure here affects only this channel: its names are resolved when their people write."""
        try:
            found = await directory.find_people(self._access.unresolved(name))
        except ChannelError as error:
            log.warning("%s: names cannot be looked up: %s", name, error)
            return
        for handle, sender in found.items():
            resolved = await self._store.resolve_names(name, (handle,), sender)
            self.learn(name, resolved, sender)
        if missing := self._access.unresolved(name):
            log.warning(
                "%s: nobody is called %s; each is resolved when a member of that name first writes",
                name,
                ", ".join(sorted(missing)),
            )
