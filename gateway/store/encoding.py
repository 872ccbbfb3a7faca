"""Values as they are stored: addresses, senders, files and tools as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.gate import json_value
from agent.log import ApprovalRequested, CallEnded, DeclaredTool, Entry, ForeignText, Notice
from agent.media import Attachment
from channels import message
from channels.address import Address, Sender
from channels.message import FileRef
from gateway.store.schema import clean

Json = dict[str, Any]


def attachments_of(entry: Entry) -> tuple[Attachment, ...]:
    """The attachments that an entry refers to and that no inbox row does."""
    match entry:
        case CallEnded(attachments=attachments, images=images, full=full):
            return attachments + images + (() if full is None else (full,))
        case Notice(attachments=attachments):
            return attachments
        case ApprovalRequested(full=full, result=result):
            return (*(() if full is None else (full,)), *(() if result is None else attachments_of(result)))
        case _:
            return ()


def address_to_json(address: Address) -> Json:
    return {
        "channel": clean(address.channel),
        "account": clean(address.account),
        "chat": clean(address.chat),
        "thread": None if address.thread is None else clean(address.thread),
        "kind": address.kind,
    }


def address_from_json(data: Json) -> Address:
    return Address(**data)


def sender_to_json(sender: Sender) -> Json:
    return {
        "id": clean(sender.id),
        "name": clean(sender.name),
        "handle": None if sender.handle is None else clean(sender.handle),
        "level": sender.level,
    }


def sender_from_json(data: Json) -> Sender:
    return Sender(**data)


def files_to_json(files: Sequence[FileRef]) -> list[Json]:
    return [
        {
            "ref": clean(file.ref),
            "name": clean(file.name),
            "media_type": clean(file.media_type),
            "size": file.size,
            "foreign": clean(file.foreign),
        }
        for file in files
    ]


def files_from_json(data: list[Json]) -> tuple[FileRef, ...]:
    return tuple(FileRef(**item) for item in data)


def attachments_to_json(attachments: Sequence[Attachment]) -> list[Json]:
    return [
        {
            "hash": attachment.hash,
            "name": clean(attachment.name),
            "media_type": attachment.media_type,
            "size": attachment.size,
            "width": attachment.width,
            "height": attachment.height,
            "taken_from": attachment.taken_from,
        }
        for attachment in attachments
    ]


def attachments_from_json(data: list[Json]) -> tuple[Attachment, ...]:
    return tuple(Attachment(**item) for item in data)


def tools_to_json(tools: Sequence[message.DeclaredTool | DeclaredTool]) -> list[Json]:
    return [
        {"name": clean(tool.name), "description": clean(tool.description), "schema": json_value(tool.schema)}
        for tool in tools
    ]


def tools_from_json(data: list[Json]) -> tuple[DeclaredTool, ...]:
    return tuple(DeclaredTool(**item) for item in data)


def foreign_to_json(foreign: Sequence[ForeignText | message.ForeignText]) -> list[Json] | None:
    return [{"source": clean(each.source), "text": clean(each.text)} for each in foreign] or None


def foreign_from_json(data: list[Json] | None) -> tuple[ForeignText, ...]:
    return tuple(ForeignText(**item) for item in data or ())


def join_lines(*texts: str) -> str:
    """Those of the texts that are not empty, one below the other."""
    return "\n".join(text for text in texts if text)
