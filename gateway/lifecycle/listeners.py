"""The tasks that listen on channels, one each: channels come and go while the others go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from agent.interrupt import Interrupted, cancel_and_wait, race
from channels.channel import Channel, CommandHelp, ExclusiveChannel, ShardedChannel
from channels.message import Deliver
from gateway.lifecycle.connectors import Connectors, connector_of, while_held
from gateway.lifecycle.shards import SharedShards
from gateway.lifecycle.supervision import listen
from gateway.observations import Observations

log = logging.getLogger(__name__)

Commands = Callable[[], tuple[CommandHelp, ...]]


class Listeners:
    def __init__(self, channels: Mapping[str, Channel], observations: Observations, connectors: Connectors) -> None:
        """`channels` are those to listen on, by name; it may change, see `follow`. Where a channel needs `connectors`,
        it is listened on, or to a part of it, while this worker holds one."""
        self._channels = channels
        self._observations = observations
        self._connectors = connectors
        self._changed = asyncio.Event()
        self._closing = False
        self._listening: dict[str, tuple[Channel, asyncio.Task[None]]] = {}
        self.problems: dict[str, str] = {}
        """Why a channel does not work at the moment, by its name, for people."""

    def follow(self) -> None:
        """Channels were added, removed or replaced by others. No message is taken from a former one any more."""
        for name, (channel, task) in self._listening.items():
            if self._channels.get(name) is not channel:
                task.cancel()
        self._changed.set()

    def look(self) -> None:
        """Another worker may have stopped listening on a channel."""
        self._connectors.look()

    def is_listening(self, channel: Channel) -> bool:
        """Whether it does, or waits for another worker to end."""
        return any(not task.done() for task in self.at_work_on(channel))

    def connections(self) -> dict[str, int]:
        """By channel for which a connector is needed, how many of them this worker holds."""
        names = {name: connector_of(channel) for name, channel in self._channels.items()}
        return {name: len(self._connectors.held(connector)) for name, connector in names.items() if connector}

    def at_work_on(self, channel: Channel) -> frozenset[asyncio.Task[None]]:
        """The task that listens on the channel."""
        return frozenset(task for listened, task in self._listening.values() if listened is channel)

    async def run(self, deliver: Deliver, commands: Commands) -> None:
        """Listens until cancelled. `commands` gives those for the menus, when a channel begins to listen."""
        self._closing = False
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    self._changed.clear()
                    await self._stop_former()
                    for name, channel in self._channels.items():
                        if name not in self._listening:
                            task = group.create_task(self._listen(channel, deliver, commands))
                            self._listening[name] = channel, task
                    await self._changed.wait()
            finally:
                self._closing = True

    async def _listen(self, channel: Channel, deliver: Deliver, commands: Commands) -> None:
        if isinstance(channel, ShardedChannel):
            shards = SharedShards(channel.connector, self._connectors)
            channel.use_shards(shards)
            try:
                return await self._listen_once(channel, deliver, commands)
            finally:
                if not self._is_kept(channel.connector):
                    await shards.release()
        if not isinstance(channel, ExclusiveChannel) or (connector := channel.connector) is None:
            return await self._listen_once(channel, deliver, commands)
        try:
            while True:
                lease = await self._connectors.take(connector)
                channel.use_lease(lease)
                try:
                    return await race(self._listen_once(channel, while_held(deliver, lease), commands), lease.lost())
                except Interrupted:
                    log.warning("%s: another worker listens from now on", channel.name)
                    self.problems.pop(channel.name, None)
        finally:
            if not self._is_kept(connector):
                await self._connectors.release(connector)

    async def _listen_once(self, channel: Channel, deliver: Deliver, commands: Commands) -> None:
        await listen(channel, deliver, commands, self.problems, self._observations)

    def _is_kept(self, connector: str) -> bool:
        """Whether a channel that has replaced the former one goes on with it."""
        return not self._closing and any(connector_of(channel) == connector for channel in self._channels.values())

    async def _stop_former(self) -> None:
        """A platform may not bear two connections of one bot: the new one begins when the former has ended."""
        former = {name: task for name, (channel, task) in self._listening.items() if self._is_former(name, channel)}
        await cancel_and_wait(*former.values())
        for name in former:
            del self._listening[name]
            self.problems.pop(name, None)

    def _is_former(self, name: str, channel: Channel) -> bool:
        return self._channels.get(name) is not channel
