"""A client of the control API, for programs.

    from interject.client import Interject

    with Interject("http://127.0.0.1:8321", key) as interject:
        run = interject.ask("web:local:build-42", "The build is red. What broke it?")
        print(run.text)

`AsyncInterject` has the same methods for asyncio. Nothing of the gateway is imported.
"""

from __future__ import annotations

from interject.client.clients import AsyncInterject, Interject
from interject.client.errors import ApiError, StillRunning, Unreachable
from interject.client.models import (
    Call,
    Conversation,
    Decision,
    Draining,
    Event,
    File,
    QueuedMessage,
    Run,
    Sent,
    Session,
    Stopped,
    Tool,
    Worker,
)
from interject.client.requests import file_url

__all__ = [
    "ApiError",
    "AsyncInterject",
    "Call",
    "Conversation",
    "Decision",
    "Draining",
    "Event",
    "File",
    "Interject",
    "QueuedMessage",
    "Run",
    "Sent",
    "Session",
    "StillRunning",
    "Stopped",
    "Tool",
    "Unreachable",
    "Worker",
    "file_url",
]
