"""The tasks that listen on channels, one each: channels come and go while the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from agent.interrupt import cancel_and_wait
from channels.channel import Channel, CommandHelp
from channels.message import Deliver
from gateway.lifecycle.supervision import listen
from gateway.observations import Observations


class Listeners:
    def __init__(self, channels: Mapping[str, Channel], observations: Observations) -> None:
        """`channels` are those to listen on, by name; it may change, see `follow`."""
        self._channels = channels
        self._observations = observations
        self._changed = asyncio.Event()
        self._listening: dict[str, tuple[Channel, asyncio.Task[None]]] = {}
        self.problems: dict[str, str] = {}
        """Why a channel does not work at the moment, by its name, for people."""

    def follow(self) -> None:
        """Channels were added, removed or replaced by others. No message is taken from a former one any more."""
        for name, (channel, task) in self._listening.items():
            if self._channels.get(name) is not channel:
                task.cancel()
        self._changed.set()

    def is_listening(self, channel: Channel) -> bool:
        return any(not task.done() for task in self.at_work_on(channel))

    def at_work_on(self, channel: Channel) -> frozenset[asyncio.Task[None]]:
        """The task that listens on the channel."""
        return frozenset(task for listened, task in self._listening.values() if listened is channel)

    async def run(self, deliver: Deliver, commands: Callable[[], tuple[CommandHelp, ...]]) -> None:
        """Listens until cancelled. `commands` gives those for the menus, when a channel begins to listen."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                await self._stop_former()
                for name, channel in self._channels.items():
                    if name not in self._listening:
                        task = group.create_task(listen(channel, deliver, commands, self.problems, self._observations))
                        self._listening[name] = channel, task
                await self._changed.wait()

    async def _stop_former(self) -> None:
        """A platform may not bear two connections of one bot: the new one begins when the former has ended."""
        former = {name: task for name, (channel, task) in self._listening.items() if self._is_former(name, channel)}
        await cancel_and_wait(*former.values())
        for name in former:
            del self._listening[name]
            self.problems.pop(name, None)

    def _is_former(self, name: str, channel: Channel) -> bool:
        return self._channels.get(name) is not channel
