"""Keys: of the conversation at an address, of the tasks delegated in it, and of people."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from channels.address import Address

_CHILD = re.compile(r"([^/]+/[^/]*/[^/]*(?:/[^/]+)?(?:/w/w[0-9]+)*)/w/w[0-9]+")


def session_key(address: Address) -> str:
    """One key per direct chat, group chat, thread or topic. Two addresses never share one."""
    parts = (address.channel, address.account, address.chat, *(() if address.thread is None else (address.thread,)))
    return "/".join(quote(part, safe="") for part in parts)


def account_of(session: str) -> str:
    """The account of the conversation with this key."""
    return unquote(session.split("/", 2)[1])


def person_key(channel: str, sender_id: str) -> str:
    """One key per person of a channel."""
    return f"{quote(channel, safe='')}/{quote(sender_id, safe='')}"


def child_key(session: str, handle: str) -> str:
    """The session key of the delegated task with that handle."""
    return f"{session}/w/{handle}"


def is_child(session: str) -> bool:
    """Whether the session belongs to a delegated task, without people."""
    return parent_key(session) is not None


def parent_key(session: str) -> str | None:
    """The session that delegated this session's task; None for a conversation with people."""
    found = _CHILD.fullmatch(session)
    return found and found[1]


def conversation_of(session: str) -> str:
    """The session with people for which this one works; itself, if it has people."""
    parent = parent_key(session)
    return session if parent is None else conversation_of(parent)
