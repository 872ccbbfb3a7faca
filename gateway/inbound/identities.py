"""Resolves the names of the settings to ids of people and groups: at the start of a channel, or when the person first
writes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from channels.address import Sender
from channels.channel import Channel, ChannelError, GroupDirectory, PeopleDirectory
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

    async def load(self, channels: Iterable[Channel]) -> None:
        """Reads what was resolved before; forgets names that are no longer in the settings. The channels are told which
        groups there are in the settings, before they listen."""
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
        self.watch_groups(channels)

    def watch_groups(self, channels: Iterable[Channel]) -> None:
        """Tells channels which groups there are in the settings."""
        for channel in channels:
            if isinstance(channel, GroupDirectory):
                channel.watch_groups(self._access.groups(channel.name))

    def learn(self, channel: str, names: Collection[str], sender: Sender) -> None:
        """The store has resolved these names."""
        for name in names:
            self._access.resolved(channel, name, sender.id)
            log.info("%s: from now on %s means %s (%s)", channel, name, sender.id, plain(sender.name))

    async def look_up(self, channels: Collection[Channel]) -> None:
        """Asks the platforms for the names that are not resolved yet."""
        async with asyncio.TaskGroup() as group:
            for channel in channels:
                if self._access.unresolved(channel.name):
                    group.create_task(self._look_up(channel))

    async def _look_up(self, channel: Channel) -> None:
        """A failure here affects only this channel: its names are resolved when their people write."""
        name = channel.name
        try:
            await self._look_up_groups(channel)
            await self._look_up_people(channel)
        except ChannelError as error:
            log.warning("%s: names cannot be looked up: %s", name, error)
            return
        if missing := self._access.unresolved(name):
            log.warning(
                "%s: nobody is called %s; a person's name is resolved when a member of that name first writes, a "
                "group's when the gateway starts",
                name,
                ", ".join(sorted(missing)),
            )

    async def _look_up_groups(self, channel: Channel) -> None:
        """Before people: an @name of a group means nobody else."""
        if not isinstance(channel, GroupDirectory):
            return
        found = await channel.find_groups(self._access.unresolved(channel.name))
        for given, group in found.items():
            await self._resolve(channel.name, given, Sender(group.id, group.name))
        if found:
            channel.watch_groups(self._access.groups(channel.name))

    async def _look_up_people(self, channel: Channel) -> None:
        handles = [name for name in self._access.unresolved(channel.name) if name.startswith("@")]
        if isinstance(channel, PeopleDirectory) and handles:
            for handle, sender in (await channel.find_people(handles)).items():
                await self._resolve(channel.name, handle, sender)

    async def _resolve(self, channel: str, given: str, sender: Sender) -> None:
        self.learn(channel, await self._store.resolve_names(channel, (given,), sender), sender)
