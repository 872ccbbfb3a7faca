"""The chart tool: data to a picture, drawn in a process of its own."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import asdict
from typing import Annotated

from pydantic import Field

from agent.media import MediaError
from agent.tool import ToolContext, ToolError, tool
from agent.tool_result import ToolResult
from agent.tools.chart_spec import Chart, InvalidChart, Kind, Series, checked
from agent.tools.process import WorkerFailed, run_worker

SECONDS = 45.0

# Drawing loads a few hundred megabytes of libraries at once and is all CPU: one at a time leaves the gateway its share.
_drawing = asyncio.Semaphore(1)


@tool(effect="read", timeout=120)
async def draw_chart(
    context: ToolContext,
    kind: Kind,
    title: Annotated[str, Field(max_length=200)],
    series: Annotated[
        list[Series],
        Field(description="Each with a name and its values; a scatter chart needs x, a line chart may have it."),
    ],
    labels: Annotated[
        list[str], Field(description="A name for each value: bars' categories, a pie's slices, dates of a line.")
    ] = [],  # noqa: B006 - only pydantic sees it, and copies it
    x_label: Annotated[str, Field(max_length=100)] = "",
    y_label: Annotated[str, Field(max_length=100)] = "",
) -> ToolResult:
    """Draws a chart from data. The person is shown the picture where you are in your answer; you need not repeat it."""
    try:
        chart = checked(Chart(kind, title, tuple(series), tuple(labels), x_label, y_label))
        picture = await _draw(chart)
        attachment = await context.media.put(picture, f"{_file_name(title)}.png")
    except (InvalidChart, MediaError) as error:
        raise ToolError(f"The chart was not drawn: {error}") from error
    named = f" “{title}”" if title else ""
    return ToolResult(f"A {kind} chart{named} was drawn and is shown to the person.", attachments=(attachment,))


async def _draw(chart: Chart) -> bytes:
    try:
        async with _drawing:
            return await run_worker("agent.tools.chart_worker", json.dumps(asdict(chart)).encode(), seconds=SECONDS)
    except TimeoutError:
        raise InvalidChart(f"drawing took longer than {SECONDS:g} s") from None
    except WorkerFailed as error:
        raise InvalidChart(f"drawing failed: {error}") from error


def _file_name(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-_")[:60] or "chart"
