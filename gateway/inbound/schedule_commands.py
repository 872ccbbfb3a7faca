"""The command about scheduled tasks: `/schedules`."""

from __future__ import annotations

from agent.schedules import ScheduleError
from gateway.inbound.access import AccessPolicy
from gateway.outbound.wording import escaped
from gateway.store.records import Command
from gateway.store.schedules import Schedule
from gateway.turns.schedules import ScheduledTasks

CANCEL = "cancel"
NONE = (
    "Nothing is scheduled here. Ask me to remind you of something, or to do something regularly: I schedule it, also "
    "while I work on something else."
)
HOW_TO = "\n\n`/schedules cancel NAME` cancels one."
UNKNOWN = "Write `/schedules`, or `/schedules cancel NAME`."


class ScheduleCommands:
    def __init__(self, schedules: ScheduledTasks, access: AccessPolicy) -> None:
        self._schedules = schedules
        self._access = access

    async def schedules(self, command: Command) -> str:
        """Lists the scheduled tasks of the conversation, or cancels one."""
        match command.arguments.split():
            case []:
                found = await self._schedules.of(command.session)
                return "\n".join(map(_line, found)) + HOW_TO if found else NONE
            case [verb, handle] if verb.lower() == CANCEL:
                may_any = self._access.may_stop_any(command.address, command.sender)
                try:
                    cancelled = await self._schedules.cancel(
                        command.session, handle.lower(), None if may_any else command.sender.id
                    )
                except ScheduleError as error:
                    return str(error)
                return f"Cancelled:\n{_line(cancelled)}"
            case _:
                return UNKNOWN


def _line(schedule: Schedule) -> str:
    return f"- {schedule.task.line()} (of {escaped(schedule.owner.name)})"
