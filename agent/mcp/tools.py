"""Tools of MCP servers, as the turn loop takes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.mcp.rules import ToolRules
from agent.tool import AnyArguments, SchemaTool, ToolContext
from agent.tool_result import ToolResult

UNDOING = (
    "The server was asked to cancel the call, but the call may have taken effect, fully or in part. Check that before "
    "you repeat it."
)

Run = Callable[[ToolContext, Mapping[str, Any]], Awaitable[ToolResult]]


@dataclass(frozen=True, slots=True)
class McpTool(SchemaTool):
    """A tool with the schema of its server. `run` is called with the arguments as one mapping."""

    async def call(self, context: ToolContext, arguments: str) -> ToolResult:
        result: ToolResult | str = await self.run(context, self.check(arguments).model_extra or {})
        return ToolResult(result) if isinstance(result, str) else result


def mcp_tool(name: str, description: str, schema: dict[str, Any], rules: ToolRules, run: Run) -> McpTool:
    return McpTool(
        name=name,
        description=description,
        arguments=AnyArguments,
        run=run,
        effect=rules.effect,
        on_steer=rules.on_steer,
        timeout=rules.timeout,
        approval=rules.approval,
        repeatable=rules.repeatable,
        compensation="" if rules.effect == "read" else UNDOING,
        foreign=rules.foreign,
        uses_account=True,
        schema=schema,
    )
