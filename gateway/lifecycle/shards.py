"""This worker's part of the connections of an account that needs several (shards).

The database says who holds which; there is no other plan. A worker takes what is free. One that has at least two fewer
than another asks that for one, which hands it over with its session, until no two differ by more than one. Whoever
needs more connections than there are takes leases of the larger number, listens with none, and begins when the others,
who see them, have ended theirs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

from agent.interrupt import Interrupted, cancel_and_wait, race
from channels.channel import Lease, ListenOn, Shard
from channels.message import Deliver
from gateway.lifecycle.connectors import Connectors, HeldLease, while_held
from gateway.store.errors import StoreError

log = logging.getLogger(__name__)

HANDOVER = 5.0
"""Seconds for which a connection that another worker has asked for is left to others."""


def connector_names(account: str, count: int) -> tuple[str, ...]:
    """Those of the account's connections, in the order of their shards' numbers."""
    return (account,) if count == 1 else tuple(f"{account}:{number}/{count}" for number in range(count))


def shard_of(account: str, connector: str) -> Shard:
    """The opposite."""
    if connector == account:
        return Shard(0, 1)
    number, _, count = connector.removeprefix(f"{account}:").partition("/")
    return Shard(int(number), int(count))


class SharedShards:
    """`channels.channel.Shards` of one account, among all workers."""

    def __init__(self, account: str, connectors: Connectors) -> None:
        self._account = account
        self._connectors = connectors
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._given: dict[str, float] = {}
        """When another worker was given the connection, by its name, on the event loop's clock."""
        self._is_waiting = False

    async def listen(self, count: int, listen: ListenOn, deliver: Deliver) -> None:
        self._tasks.clear()
        self._is_waiting = False
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    told = self._connectors.told
                    try:
                        holders = await self._connectors.holders(self._account)
                    except StoreError as error:
                        log.warning("%s: who listens is not known, asking again: %s", self._account, error)
                        await self._connectors.until(told)
                        continue
                    count = max(count, *(shard_of(self._account, name).count for name in holders), 1)
                    if await self._end_former(count):
                        continue
                    self._begin(group, holders, count, listen, deliver)
                    if await self._take(holders, count):
                        continue
                    self._ask(holders, count)
                    held = len(self._connectors.held(self._account))
                    await (told.wait() if held == count else self._connectors.until(told))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    def turn(self, name: str) -> AbstractAsyncContextManager[Lease]:
        return self._connectors.turn(f"{self._account}:{name}")

    async def release(self) -> None:
        """Others may listen with all that this worker has."""
        for name in self._connectors.held(self._account):
            await self._connectors.release(name)

    async def _end_former(self, count: int) -> bool:
        """Gives up connections of another number, and those that another worker has asked for. Returns whether there
        were some."""
        self._tasks = {name: task for name, task in self._tasks.items() if not task.done()}
        ended = False
        for name, lease in self._connectors.held(self._account).items():
            is_former = shard_of(self._account, name).count != count
            if not is_former and not lease.is_wanted:
                continue
            ended = True
            if (task := self._tasks.pop(name, None)) is not None:
                await cancel_and_wait(task)
            if is_former:
                # Its session would be one more to which the platform sends the same events.
                await lease.save({})
                log.info("%s: ends, since the account needs %d connections", name, count)
            else:
                self._given[name] = asyncio.get_running_loop().time()
                log.info("%s: another worker listens from now on, which has fewer connections", name)
            await self._connectors.release(name)
        return ended

    def _begin(
        self, group: asyncio.TaskGroup, holders: Mapping[str, str], count: int, listen: ListenOn, deliver: Deliver
    ) -> None:
        """Listens with what it holds, but not as long as others do with connections of another number."""
        held = self._connectors.held(self._account)
        former = [name for name in holders if name not in held and shard_of(self._account, name).count != count]
        for name in former:
            self._connectors.ask_for(name)
        if former:
            return
        for name, lease in held.items():
            # Who has taken one looks once more at what others hold: of two with different numbers, one sees the other.
            if name in holders and name not in self._tasks:
                self._tasks[name] = group.create_task(self._listen_on(name, lease, listen, deliver))

    async def _listen_on(self, name: str, lease: HeldLease, listen: ListenOn, deliver: Deliver) -> None:
        shard = shard_of(self._account, name)
        try:
            await race(listen(shard, lease, while_held(deliver, lease)), lease.lost())
        except Interrupted:
            log.warning("%s: another worker listens from now on", name)
        self._connectors.look()

    async def _take(self, holders: Mapping[str, str], count: int) -> bool:
        """Takes one that is free. Returns whether it did."""
        since = asyncio.get_running_loop().time() - HANDOVER
        self._given = {name: at for name, at in self._given.items() if at > since}
        for name in connector_names(self._account, count):
            if name in holders or name in self._given:
                continue
            if await self._connectors.try_take(name) is not None:
                return True
        return False

    def _ask(self, holders: Mapping[str, str], count: int) -> None:
        """Asks the worker that has the most for one, if it has two more than this one."""
        held = self._connectors.held(self._account)
        others = {name: worker for name, worker in holders.items() if name not in held}
        if not held and others and not self._is_waiting:
            log.info("%s: another worker holds this; this one waits for its turn", self._account)
            self._is_waiting = True
        if len(holders) < count or not others:
            return
        [(most, number)] = Counter(others.values()).most_common(1)
        if number >= len(held) + 2:
            self._connectors.ask_for([name for name in others if others[name] == most][-1])
