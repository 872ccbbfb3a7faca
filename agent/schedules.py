"""Scheduled tasks: what the agent is to do in a conversation at a time, once or again and again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Protocol
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from cronsim import CronSim

MIN_INTERVAL = timedelta(minutes=5)
"""Between two times of one schedule."""

MAX_AHEAD = timedelta(days=5 * 366)
"""How far ahead the first time may be."""

MAX_TASK = 4_000
"""Characters of a task."""

_CHECKED_TIMES = 100
"""Times of a cron expression that are checked for `MIN_INTERVAL`."""

_NOT_AHEAD = "The time {at} is not in the future: it is {now} now."


class ScheduleError(Exception):
    """It cannot be scheduled, or there is no such scheduled task; the message tells whoever asked why."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When a task is due after its first time: by the cron expression, in the time zone with this IANA name; once
    without one. The zone "" is that of the machine."""

    cron: str = ""
    zone: str = ""

    def next(self, after: datetime) -> datetime | None:
        """The next time after this one, in UTC; None if there is none."""
        if not self.cron:
            return None
        local = _local(after, self.zone)
        found = next(_cron(self.cron, local if self.zone else local.replace(tzinfo=None)), None)
        return None if found is None else found.astimezone(UTC)

    def shown(self, at: datetime) -> str:
        """The moment in this time zone, for people and models."""
        local = _local(at, self.zone)
        zone = local.tzinfo.key if isinstance(local.tzinfo, ZoneInfo) else f"{local:%Z}"
        return f"{local:%A, %Y-%m-%d %H:%M} {zone}"


@dataclass(frozen=True, slots=True)
class ScheduledTask:
    """`handle` is its name for people and models; `due` is its next time, in UTC."""

    handle: str
    task: str
    due: datetime
    timing: Timing

    def line(self) -> str:
        """One line for people and models."""
        repeated = f", repeated by the cron expression {self.timing.cron}" if self.timing.cron else ""
        return f"{self.handle}: {self.timing.shown(self.due)}{repeated}: {' '.join(self.task.split())}"


class Schedules(Protocol):
    """The scheduled tasks of one conversation, as a turn there sees them. All methods raise `ScheduleError`."""

    async def add(self, call_id: str, task: str, due: datetime, timing: Timing) -> ScheduledTask:
        """Schedules a task; the same `call_id` finds the one that it has made again."""
        ...

    async def tasks(self) -> tuple[ScheduledTask, ...]:
        """All of the conversation, the next one first."""
        ...

    async def cancel(self, handle: str) -> ScheduledTask: ...


class NoSchedules:
    """Where nothing can be scheduled."""

    async def add(self, call_id: str, task: str, due: datetime, timing: Timing) -> ScheduledTask:
        raise ScheduleError("Tasks cannot be scheduled here: only turns of the conversation itself can do that.")

    async def tasks(self) -> tuple[ScheduledTask, ...]:
        return ()

    async def cancel(self, handle: str) -> ScheduledTask:
        raise ScheduleError(f"There is no scheduled task {handle}.")


def checked_task(task: str) -> str:
    """The task without blanks around it. Raises `ScheduleError`."""
    task = task.strip()
    if not task:
        raise ScheduleError("The task is empty: say what is to be done then.")
    if len(task) > MAX_TASK:
        raise ScheduleError(f"The task has {len(task):,} characters; at most {MAX_TASK:,} are possible.")
    return task


def one_time(at: str, zone: str, now: datetime) -> tuple[datetime, Timing]:
    """The moment that this text means, like "2026-12-24T09:00" in the time zone, or with an offset of its own. Raises
    `ScheduleError`."""
    timing = Timing(zone=_checked_zone(zone))
    try:
        local = datetime.fromisoformat(at.strip())
        if local.tzinfo is None and timing.zone:
            local = local.replace(tzinfo=ZoneInfo(timing.zone))
        due = local.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ScheduleError(f"{at!r} is no date and time: write it like 2026-12-24T09:00.") from error
    return _checked_due(due, timing, now), timing


def time_of(
    at: str | None, minutes: float | None, cron: str | None, zone: str, now: datetime
) -> tuple[datetime, Timing]:
    """The first time and the timing, said in one of three ways. Raises `ScheduleError`."""
    if sum(each is not None for each in (at, minutes, cron)) != 1:
        raise ScheduleError("Say when with one of at, in_minutes and cron.")
    if at is not None:
        return one_time(at, zone, now)
    return after_minutes(minutes, zone, now) if minutes is not None else repeated(cron or "", zone, now)


def after_minutes(minutes: float, zone: str, now: datetime) -> tuple[datetime, Timing]:
    """The moment after so many minutes. Raises `ScheduleError`."""
    timing = Timing(zone=_checked_zone(zone))
    try:
        due = now + timedelta(minutes=minutes)
    except (ValueError, OverflowError) as error:
        raise ScheduleError(f"{minutes} minutes cannot be counted.") from error
    return _checked_due(due, timing, now), timing


def repeated(cron: str, zone: str, now: datetime) -> tuple[datetime, Timing]:
    """The first time of a cron expression with five fields, like "0 9 * * 1-5". Raises `ScheduleError`."""
    from cronsim import CronSimError

    timing = Timing(" ".join(cron.split()), _checked_zone(zone))
    if len(timing.cron.split()) != 5:
        raise ScheduleError(f"{cron!r} is no cron expression: five fields are needed, such as 0 9 * * 1-5.")
    try:
        times = list(islice(_cron(timing.cron, now.astimezone(UTC)), _CHECKED_TIMES))
        due = timing.next(now)
    except CronSimError as error:
        raise ScheduleError(f"{cron!r} is no cron expression: {error}.") from error
    if due is None:
        raise ScheduleError(f"{cron!r} never comes.")
    if any(later - earlier < MIN_INTERVAL for earlier, later in pairwise(times)):
        minutes = MIN_INTERVAL // timedelta(minutes=1)
        raise ScheduleError(f"{cron!r} comes too often: at most every {minutes} minutes.")
    return _checked_due(due, timing, now), timing


def _cron(cron: str, after: datetime) -> CronSim:
    from cronsim import CronSim  # few gateways have schedules

    return CronSim(cron, after)


def _checked_zone(zone: str) -> str:
    try:
        return ZoneInfo(zone.strip()).key if zone.strip() else ""
    except (ValueError, OSError, LookupError) as error:
        raise ScheduleError(f"There is no time zone {zone!r}: write a name like Europe/Berlin.") from error


def _checked_due(due: datetime, timing: Timing, now: datetime) -> datetime:
    if due <= now:
        raise ScheduleError(_NOT_AHEAD.format(at=timing.shown(due), now=timing.shown(now)))
    if due - now > MAX_AHEAD:
        raise ScheduleError(f"{timing.shown(due)} is too far ahead: at most five years are possible.")
    return due


def _local(at: datetime, zone: str) -> datetime:
    if not zone:
        return at.astimezone()
    try:
        return at.astimezone(ZoneInfo(zone))
    except (ValueError, OSError, LookupError):
        # This machine does not know the zone; the one where it was scheduled does.
        return at.astimezone(UTC)
