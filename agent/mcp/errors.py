"""Errors of MCP servers.

McpError                 the server cannot be used, or did not do what was asked
    PagesNeeded          it does it only after the person has opened pages
    AccountsUnavailable  what is kept of who is signed in cannot be read or written
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp_types import ElicitRequestURLParams


class McpError(Exception):
    """The message says to a person what is wrong. `lost`: the connection is of no use any more. `not_run`: the server
    has not begun to do what was asked."""

    def __init__(self, message: str, *, lost: bool = False, not_run: bool = False) -> None:
        super().__init__(message)
        self.lost = lost
        self.not_run = not_run


class PagesNeeded(McpError):
    """https://modelcontextprotocol.io/specification/2025-11-25/client/elicitation#url-elicitation-required-error"""

    def __init__(self, pages: Sequence[ElicitRequestURLParams]) -> None:
        super().__init__("the person has to open a page for it first")
        self.pages = tuple(pages)


class AccountsUnavailable(McpError):
    """The message has no secret in it."""
