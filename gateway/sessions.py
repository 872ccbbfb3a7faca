"""Which conversation a message belongs to, and which a task that was delegated in it."""

from __future__ import annotations

import re
from urllib.parse import quote

from channels.address import Address

_CHILD = re.compile(r"([^/]+/[^/]*/[^/]*(?:/[^/]+)?(?:/w/w[0-9]+)*)/w/w[0-9]+")


def session_key(address: Address) -> str:
    """The session's key: one per direct chat, per group chat, per thread or topic. Two places never share one."""
    parts = (address.channel, address.account, address.chat, *(() if address.thread is None else (address.thread,)))
    return "/".join(quote(part, safe="") for part in parts)


def child_key(session: str, handle: str) -> str:
    """The key of the session in which the task of that handle is worked on."""
    return f"{session}/w/{handle}"


def is_child(session: str) -> bool:
    """Whether the session is that of a delegated task, in which no people are."""
    return parent_key(session) is not None


def parent_key(session: str) -> str | None:
    """The session in which the session's task was delegated; None if people speak in it."""
    found = _CHILD.fullmatch(session)
    return found and found[1]
