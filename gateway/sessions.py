"""Which conversation a message belongs to."""

from __future__ import annotations

from urllib.parse import quote

from channels.address import Address


def session_key(address: Address) -> str:
    """The session's key: one per direct chat, per group chat, per thread or topic. Two places never share one."""
    parts = (address.channel, address.account, address.chat, *(() if address.thread is None else (address.thread,)))
    return "/".join(quote(part, safe="") for part in parts)
