"""A tool with settings of its own, which opens tickets in a tracker over HTTP.

Copy it to the folder `tools` beside interject.toml, and give it a section there:

    [tools.open_ticket]
    path = "tools/tickets.py:open_ticket"
    url = "https://tickets.example.com/api/tickets"
    token = "${TICKETS_TOKEN}"

It has an effect outside the workspace, so people are asked before the first ticket of a conversation; `approval` in
the section changes that. `interject check` says what is missing.
"""

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from interject import ToolContext, ToolError, tool


class Tracker(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: str = Field(pattern="^https?://")
    token: SecretStr
    labels: list[str] = []


@tool(
    effect="external",
    approval="once",
    timeout=20,
    settings=Tracker,
    compensation="The ticket may have been opened: look before you open it again.",
)
async def open_ticket(context: ToolContext, title: str, text: str = "") -> str:
    """Opens a ticket in the team's tracker. The result is its address."""
    tracker: Tracker = context.settings
    ticket = {"title": title, "text": text, "labels": tracker.labels}
    # A call that is repeated after a restart has the same id, so the tracker can tell.
    headers = {"Authorization": f"Bearer {tracker.token.get_secret_value()}", "Idempotency-Key": context.call_id}
    async with httpx.AsyncClient() as client:
        response = await client.post(tracker.url, json=ticket, headers=headers)
    if response.status_code != 201:
        raise ToolError(f"the tracker refused the ticket: HTTP status {response.status_code}")
    return f"Opened: {response.json()['url']}"
