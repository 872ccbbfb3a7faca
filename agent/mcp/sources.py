"""Where an MCP server is: a program to start, or a URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from agent.mcp.account import Account

Wire = Literal["process", "http", "sse"]


@dataclass(frozen=True, slots=True)
class ProcessSource:
    """A server that is started: `command` in `directory`, with this `environment` and no other."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None

    @property
    def wires(self) -> tuple[Wire, ...]:
        return ("process",)


@dataclass(frozen=True, slots=True)
class HttpSource:
    """A server at a URL, over the first of `wires` that works. `headers` may be secret. With an `account`
    requests are signed with its tokens, if the server asks for a sign-in."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    wires: tuple[Wire, ...] = ("http", "sse")
    account: Account | None = None


Source = ProcessSource | HttpSource
