"""Errors of MCP servers.

McpError        the server cannot be used, or did not do what was asked
"""

from __future__ import annotations


class McpError(Exception):
    """The message says to a person what is wrong. `lost`: the connection is of no use any more. `not_run`: the server
    has not begun to do what was asked."""

    def __init__(self, message: str, *, lost: bool = False, not_run: bool = False) -> None:
        super().__init__(message)
        self.lost = lost
        self.not_run = not_run
