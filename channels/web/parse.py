"""Posts of the page and of API clients to messages. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import PurePosixPath

from pydantic import TypeAdapter

from agent.media import Attachment
from channels.address import Address, Sender
from channels.message import DeclaredTool, FileRef, InboundMessage

OWNER = Sender("owner", "You")

LOCAL = "local"
"""The account of the owner and of programs. Each person whom a proxy signs in has one of their own, with their name."""

_CHAT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_COMMAND = re.compile(r"/([A-Za-z][A-Za-z0-9_-]*)(?:\s+(.*))?\s*", re.DOTALL)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_MAX_NAME_LENGTH = 120
_TOOL = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_TOOLS = 64
_MAX_TOOLS_LENGTH = 200_000


class BadPost(Exception):
    """The post is not a valid message; the text says why."""


@dataclass(frozen=True, slots=True)
class Post:
    """A client's post. `client_id` is made by the client and stays the same on a retry."""

    client_id: str
    text: str = ""
    attachments: tuple[Attachment, ...] = ()
    tools: tuple[DeclaredTool, ...] = ()


def parse_address(channel: str, chat: str, account: str = LOCAL) -> Address:
    """The address of a conversation. Raises `BadPost` for an invalid id."""
    if not _CHAT.fullmatch(chat):
        raise BadPost("A conversation id must be 1 to 64 letters, digits, '-' and '_'.")
    return Address(channel, account, chat)


def parse(post: Post, address: Address, at: datetime) -> InboundMessage:
    """The message. Raises `BadPost` when it is empty, or its client id or a tool is invalid."""
    if not _CLIENT_ID.fullmatch(post.client_id):
        raise BadPost("client_id must be 8 to 64 letters, digits, '-' and '_', new for each message.")
    text = clean_text(post.text)
    if not text.strip() and not post.attachments:
        raise BadPost("The message is empty.")
    _check_tools(post.tools)
    command = _COMMAND.fullmatch(text)
    return InboundMessage(
        event_id=post.client_id,
        address=address,
        sender=OWNER,
        sent_at=at,
        kind="command" if command else "new",
        message_id=post.client_id,
        text=(command[2] or "").rstrip() if command else text,
        command=command[1].lower() if command else None,
        files=tuple(map(_file_ref, post.attachments)),
        tools=post.tools,
    )


def _check_tools(tools: Sequence[DeclaredTool]) -> None:
    names = [tool.name for tool in tools]
    if len(tools) > _MAX_TOOLS:
        raise BadPost(f"The message declares {len(tools)} tools; the limit is {_MAX_TOOLS}.")
    for tool in tools:
        if not _TOOL.fullmatch(tool.name):
            raise BadPost("A tool's name must be 1 to 64 letters, digits, '-' and '_'.")
        if names.count(tool.name) > 1:
            raise BadPost(f"The tool {tool.name} is declared twice.")
        if tool.schema.get("type") != "object":
            raise BadPost(f'The schema of the tool {tool.name} must be a JSON schema with "type": "object".')
    if sum(map(_length, tools)) > _MAX_TOOLS_LENGTH:
        raise BadPost(f"The tools have more than {_MAX_TOOLS_LENGTH:,} characters in total.")


def _length(tool: DeclaredTool) -> int:
    """In characters. Raises `BadPost` for numbers that JSON does not have."""
    try:
        return len(tool.description) + len(json.dumps(tool.schema, allow_nan=False))
    except ValueError as error:
        raise BadPost(f"The schema of the tool {tool.name} is not JSON: {error}.") from error


def clean_text(text: str) -> str:
    """The text without NUL and lone surrogates, which databases and models reject, and with LF line ends.

    Browsers turn line ends into CR LF when they post a form (https://html.spec.whatwg.org, multipart/form-data).
    """
    return text.replace("\0", "").replace("\r\n", "\n").encode("utf-8", "replace").decode("utf-8")


def clean_name(name: str | None) -> str:
    """A safe file name: no folders, no control characters, never empty, at most `_MAX_NAME_LENGTH` characters."""
    last = clean_text(name or "").replace("\\", "/").rsplit("/", 1)[-1]
    plain = _UNPRINTABLE.sub("", last).strip(" .")
    if len(plain) > _MAX_NAME_LENGTH:
        suffix = PurePosixPath(plain).suffix[:16]
        plain = plain[: _MAX_NAME_LENGTH - len(suffix)] + suffix
    return plain or "file"


@cache
def _attachments() -> TypeAdapter[Attachment]:
    return TypeAdapter(Attachment)


def attachment_of(file: FileRef) -> Attachment:
    """The stored attachment of a file reference made here. Raises `pydantic.ValidationError` for any other."""
    return _attachments().validate_json(file.ref)


def _file_ref(attachment: Attachment) -> FileRef:
    """The bytes are already in the media store, so the ref is the attachment itself."""
    ref = _attachments().dump_json(attachment).decode()
    return FileRef(ref, attachment.name, attachment.media_type, attachment.size)
