"""The ids of conversations in addresses of the API: the session's key with ":" for "/"."""

from __future__ import annotations

from urllib.parse import quote, unquote


def conversation_id(session: str) -> str:
    return session.replace("/", ":")


def session_of(conversation: str) -> str:
    """The session with this id, which may have been decoded on its way."""
    return "/".join(quote(unquote(part), safe="") for part in conversation.split(":"))


def channel_of(conversation: str) -> str:
    """The name of the channel of the conversation with this id."""
    return unquote(conversation.partition(":")[0])
