"""Stops what people have running when they may no longer do it: settings or groups of the platform have changed."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Protocol

from channels.address import Sender
from channels.channel import Channel, ChannelError, GroupDirectory
from gateway.inbound.access import AccessPolicy
from gateway.inbound.revocations import Revocations
from gateway.outbound.wording import plain
from gateway.store.records import ActivePerson, Identity, Revoked

log = logging.getLogger(__name__)

INTERVAL = 60.0
"""Seconds between two looks at the groups."""


class RoleStore(Protocol):
    async def active_people(self) -> tuple[ActivePerson, ...]: ...
    async def identities(self) -> tuple[Identity, ...]: ...
    async def take_back_access(self, channel: str, sender: Sender) -> Revoked: ...


class RoleChanges:
    """People whose rights are the same or have grown are left alone."""

    def __init__(
        self,
        store: RoleStore,
        access: AccessPolicy,
        revocations: Revocations,
        channels: Mapping[str, Channel],
    ) -> None:
        self._store = store
        self._access = access
        self._revocations = revocations
        self._channels = channels

    async def watch(self) -> None:
        """Until cancelled. Looks at once: the settings may have changed since the last start."""
        while True:
            await self.check()
            await asyncio.sleep(INTERVAL)

    async def check(self) -> None:
        """One channel does not wait for another."""
        people: defaultdict[str, list[ActivePerson]] = defaultdict(list)
        for person in await self._store.active_people():
            if self._access.has_settings(person.channel) and person.sender.id:
                people[person.channel].append(person)
        if people:
            await self._learn()
        await asyncio.gather(*(self._check(self._channels.get(channel), each) for channel, each in people.items()))

    async def _learn(self) -> None:
        """What other workers may have been told of these people: their keys, and whom names mean. It is read after the
        people, so that what admitted them is there."""
        await self._access.programs.reload()
        names = self._access.names()
        for identity in await self._store.identities():
            if identity.name in names.get(identity.channel, ()):
                self._access.resolved(identity.channel, identity.name, identity.user_id)

    async def _check(self, channel: Channel | None, people: Sequence[ActivePerson]) -> None:
        for person in people:
            try:
                found = await channel.find_person(person.sender) if isinstance(channel, GroupDirectory) else None
            except ChannelError as error:
                log.info("%s: the groups of %s are not known now: %s", person.channel, person.sender.id, error)
                continue
            await self._compare(person, found or person.sender)

    async def _compare(self, person: ActivePerson, sender: Sender) -> None:
        level = self._access.level_of(person.channel, sender, is_paired=person.is_paired)
        if level is None or level < person.sender.level:
            name = plain(person.sender.name)
            log.info("%s: %s (%s) may no longer do what is running", person.channel, name, person.sender.id)
            await self._revocations.apply(await self._store.take_back_access(person.channel, person.sender))
