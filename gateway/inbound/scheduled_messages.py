"""Scheduled tasks whose time has come: each becomes a message of the person who has it scheduled."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from channels.address import Sender
from channels.channel import Channel, ChannelError, GroupDirectory, NotStored
from channels.message import InboundMessage, Receipt
from gateway.outbound.wording import plain
from gateway.store.api_keys import SENDER
from gateway.store.arrivals import NOT_ALLOWED, NOT_PAIRED
from gateway.store.errors import StoreError
from gateway.store.schedules import Schedule

log = logging.getLogger(__name__)

LOOK = 30.0
"""Seconds until the store is asked again: a task could not be sent, other workers schedule tasks too, and the clock may
be changed."""

AT_ONCE = 1_000
"""Tasks that are sent before the store is asked again."""

LATE = timedelta(minutes=2)
"""A task that is this late says so."""

NOTE = (
    "A task that {name} has scheduled in this conversation; it is due now, {now}{late}. Do it now. Nobody may be "
    "looking: do not ask whether you should."
)
LATE_NOTE = " (late: its time was {due})"
REPEATED_NOTE = " It is repeated by the cron expression {cron} until the scheduled task {handle} is cancelled."


class DueStore(Protocol):
    async def now(self) -> float: ...
    async def due_schedules(self, now: datetime, channels: Collection[str], most: int) -> tuple[Schedule, ...]: ...
    async def next_schedule(self, now: datetime) -> datetime | None: ...
    async def advance_schedule(self, schedule: Schedule, due: datetime | None) -> bool: ...


class ScheduledMessages:
    """Every worker sends what is due, by the clock of the store: the message is stored once for each time, whoever
    sends it."""

    def __init__(
        self,
        store: DueStore,
        channels: Mapping[str, Channel],
        deliver: Callable[[InboundMessage], Awaitable[Receipt | None]],
        changed: asyncio.Event,
    ) -> None:
        """`deliver` stores a message, and raises `NotStored`; `changed` is set when there may be an earlier task."""
        self._store = store
        self._channels = channels
        self._deliver = deliver
        self._changed = changed

    async def run(self) -> None:
        """Until cancelled. Raises `StoreError`."""
        while True:
            self._changed.clear()
            seconds = await self._send_due(await self._now())
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()

    async def _send_due(self, now: datetime) -> float:
        """Sends what is due on the channels that there are, none of which waits for another; the seconds until there
        may be more."""
        by_channel: defaultdict[str, list[Schedule]] = defaultdict(list)
        for schedule in await self._store.due_schedules(now, tuple(self._channels), AT_ONCE):
            by_channel[schedule.address.channel].append(schedule)
        await asyncio.gather(*(self._send_all(each, now) for each in by_channel.values()))
        due = await self._store.next_schedule(now)
        left = LOOK if due is None else (due - await self._now()).total_seconds()
        return min(max(0.0, left), LOOK)

    async def _now(self) -> datetime:
        return datetime.fromtimestamp(await self._store.now(), UTC)

    async def _send_all(self, schedules: Sequence[Schedule], now: datetime) -> None:
        """A failure affects only its task, which is tried again."""
        for schedule in schedules:
            try:
                await self._send(schedule, now)
            except (ChannelError, NotStored, StoreError) as error:
                log.info("scheduled task %s waits: %s", schedule.id, error)
            except Exception:
                log.exception("scheduled task %s cannot be sent, and is tried again", schedule.id)

    async def _send(self, schedule: Schedule, now: datetime) -> None:
        """It is advanced after its message is stored: a second one of the same time is not taken. Raises
        `ChannelError`, `NotStored` or `StoreError`."""
        owner = await self._owner(schedule)
        receipt = await self._deliver(_message(schedule, owner, now))
        if receipt is None or receipt.refused in (NOT_ALLOWED, NOT_PAIRED):
            log.warning("scheduled task %s is removed: %s may not write there any more", schedule.id, owner.id)
            following = None
        else:
            following = schedule.task.timing.next(now)
        await self._store.advance_schedule(schedule, following)

    async def _owner(self, schedule: Schedule) -> Sender:
        """The person with the groups that they are in now. Raises `ChannelError` if the platform does not say."""
        channel = self._channels.get(schedule.address.channel)
        if not isinstance(channel, GroupDirectory) or schedule.owner.id.startswith(SENDER):
            return schedule.owner
        found = await channel.find_person(schedule.owner)
        return replace(found or replace(schedule.owner, membership="outsider"), level=schedule.owner.level)


def _message(schedule: Schedule, owner: Sender, now: datetime) -> InboundMessage:
    task = schedule.task
    late = LATE_NOTE.format(due=task.timing.shown(task.due)) if now - task.due > LATE else ""
    note = NOTE.format(name=plain(owner.name), now=task.timing.shown(now), late=late)
    if task.timing.cron:
        note += REPEATED_NOTE.format(cron=task.timing.cron, handle=task.handle)
    return InboundMessage(
        schedule.event_id,
        schedule.address,
        owner,
        now,
        text=task.task,
        note=note,
        busy="queue",
        most_rights=schedule.owner.level,
    )
