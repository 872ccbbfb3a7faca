"""Signing in and out at MCP servers: in a browser, or with a code where no browser could come back."""

from __future__ import annotations

from agent.mcp.account import Account, Link
from agent.mcp.device_code import sign_in_with_code
from agent.mcp.oauth import sign_in_in_browser
from agent.mcp.revocation import revoke


async def sign_in(account: Account, link: Link) -> None:
    """Signs a person in. Their tokens replace those that were there. Raises `McpError` with why it did not work."""
    if link.redirect_uri is None:
        await sign_in_with_code(account, link)
    else:
        await sign_in_in_browser(account, link, link.redirect_uri)


async def sign_out(account: Account) -> str | None:
    """Forgets the account here, and has its tokens revoked where they are from. None if nobody was signed in; else why
    tokens may still be valid there, "" if they are not. Raises `AccountsUnavailable` if they cannot be forgotten."""
    # Not while they are exchanged for new ones, which would stay valid.
    async with account.alone():
        content = await account.forget()
    if content is None:
        return None
    return await revoke(account, content if content.get("url") == account.url else {})
