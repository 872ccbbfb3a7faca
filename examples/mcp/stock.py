"""An MCP server: the stock of a small shop. Counting takes a while, says how far it is, and can be cancelled.

Copy it to the folder `mcp` beside interject.toml, and name it there, with a Python that has the package `mcp`:

    [mcp.stock]
    command = ["python3", "mcp/stock.py"]

    [mcp.stock.tools.count_shelf]
    approval = "never"
    on_steer = "cancel"

`list_shelves` only reads and says so, so nobody is asked. `count_shelf` writes its number down, so without that section
people are asked before the first one of a conversation, and a message that arrives meanwhile waits for it.
"""

import asyncio
from typing import Literal

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations

BOXES = {"tea": 12, "coffee": 9, "cups": 15}
SECONDS_PER_BOX = 0.4

server = MCPServer("stock")
counted: dict[str, int] = {}


@server.tool(annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
def list_shelves() -> str:
    """Lists the shelves, and how many boxes were last counted on each."""
    return "\n".join(f"{shelf}: {counted.get(shelf, 'not counted yet')}" for shelf in BOXES)


@server.tool(
    annotations=ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    )
)
async def count_shelf(shelf: Literal["tea", "coffee", "cups"], context: Context) -> str:
    """Counts the boxes on a shelf, and writes the number down."""
    boxes = BOXES[shelf]
    for box in range(1, boxes + 1):
        await asyncio.sleep(SECONDS_PER_BOX)
        await context.report_progress(box, boxes, f"box {box} of {boxes}")
    counted[shelf] = boxes
    return f"{shelf}: {boxes} boxes"


if __name__ == "__main__":
    server.run()
