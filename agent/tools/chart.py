"""The chart tool: draws data as a picture, in a worker process."""

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
from agent.tools.chart_spec import Chart, ChartKind, InvalidChart, Series, validated
from agent.worker_process import WorkerFailed, run_worker

RENDER_TIMEOUT = 45.0

# Drawing loads a few hundred megabytes of libraries and is CPU-bound: one at a time leaves CPU for the gateway.
_one_at_a_time = asyncio.Semaphore(1)


@tool(effect="read", timeout=120)
async def draw_chart(
    context: ToolContext,
    kind: ChartKind,
    title: Annotated[str, Field(max_length=200)],
    series: Annotated[
        list[Series],
        Field(description="Each with a name and values; x is required for a scatter chart, optional for a line chart."),
    ],
    labels: Annotated[
        list[str], Field(description="A label for each value: categories of bars, slices of a pie, dates of a line.")
    ] = [],  # noqa: B006 - only pydantic sees it, and copies it
    x_label: Annotated[str, Field(max_length=100)] = "",
    y_label: Annotated[str, Field(max_length=100)] = "",
) -> ToolResult:
    """Draws a chart from data. The person sees the picture at this point of your answer; do not repeat it."""
    try:
        chart = validated(Chart(kind, title, tuple(series), tuple(labels), x_label, y_label))
        image = await _render(chart)
        attachment = await context.media.put(image, f"{_file_name(title)}.png")
    except (InvalidChart, MediaError) as error:
        raise ToolError(f"The chart was not drawn: {error}") from error
    quoted_title = f" “{title}”" if title else ""
    return ToolResult(f"A {kind} chart{quoted_title} was drawn and is shown to the person.", attachments=(attachment,))


async def _render(chart: Chart) -> bytes:
    data = json.dumps(asdict(chart)).encode()
    try:
        async with _one_at_a_time:
            return await run_worker("agent.tools.chart_worker", data, seconds=RENDER_TIMEOUT)
    except TimeoutError:
        raise InvalidChart(f"drawing took longer than {RENDER_TIMEOUT:g} s") from None
    except WorkerFailed as error:
        raise InvalidChart(f"drawing failed: {error}") from error


def _file_name(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-_")[:60] or "chart"
