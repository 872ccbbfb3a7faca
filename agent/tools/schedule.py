"""The tool that schedules tasks: reminders, and work that is done at a time or again and again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, assert_never

from pydantic import Field

from agent.schedules import MAX_TASK, ScheduleError, checked_task, time_of
from agent.tool import ToolContext, ToolError, tool


@tool(effect="external", repeatable=True)
async def schedule(
    context: ToolContext,
    action: Annotated[Literal["add", "list", "cancel"], Field(description="add a task, list all, or cancel one.")],
    task: Annotated[
        str | None,
        Field(max_length=MAX_TASK, description="What to do then, clear without the rest of the conversation."),
    ] = None,
    at: Annotated[str | None, Field(max_length=40, description='Date and time, like "2026-12-24T09:00".')] = None,
    in_minutes: Annotated[float | None, Field(gt=0, description="Minutes from now.")] = None,
    cron: Annotated[
        str | None, Field(max_length=100, description='Repeated by a cron expression, like "0 9 * * 1-5".')
    ] = None,
    timezone: Annotated[
        str, Field(max_length=64, description='IANA name like "Europe/Berlin"; by default that of this machine.')
    ] = "",
    handle: Annotated[str | None, Field(max_length=20, description="The handle of the task to cancel.")] = None,
) -> str:
    """Schedules tasks for you in this conversation, once or again and again, such as reminders and regular reports.

    At its time a task arrives as a message here, and you work on it for the person who has it scheduled now.
    """
    try:
        match action:
            case "add":
                due, timing = time_of(at, in_minutes, cron, timezone, datetime.now(UTC))
                added = await context.schedules.add(context.call_id, checked_task(task or ""), due, timing)
                return f"Scheduled. {added.line()}\nIt is {timing.shown(datetime.now(UTC))} now."
            case "list":
                tasks = await context.schedules.tasks()
                return "\n".join(each.line() for each in tasks) or "There are no scheduled tasks."
            case "cancel":
                if not handle:
                    raise ScheduleError("Give the handle of the task; the list has it.")
                return f"Cancelled. {(await context.schedules.cancel(handle)).line()}"
            case _:
                assert_never(action)
    except ScheduleError as error:
        raise ToolError(str(error)) from error
