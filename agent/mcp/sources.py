"""Where an MCP server is: a program to start, or a URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    # Comes with the SDK, which is loaded when a server starts.
    import httpx2

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
    """A server at a URL, over the first of `wires` that works. `headers` may be secret; `auth` signs requests in."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    wires: tuple[Wire, ...] = ("http", "sse")
    auth: httpx2.Auth | None = None


Source = ProcessSource | HttpSource
