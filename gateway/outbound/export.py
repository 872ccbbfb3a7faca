"""Exports as a zip file: JSON Lines and Markdown of each conversation, and its files."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from io import BytesIO
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from agent.log import CallEnded, Entry, ModelAnswered, Notice, dump
from agent.media import Attachment, MediaError
from gateway.store.export import ExportedConversation, ExportedMessage
from gateway.store.notes import StoredNote
from gateway.store.records import Turn
from gateway.store.schedules import Schedule

ABOUT = """\
An export of conversations with this bot.

Each folder is one conversation:

- conversation.md: what was written, to read
- messages.jsonl: the same as data, one JSON object per line: people's messages, and the bot's turns with every entry of
  their logs (answers, tool calls with arguments and results, decisions), scheduled tasks and notes
- files/: pictures and files that were sent or made
"""

ReadFile = Callable[[Attachment], Awaitable[bytes]]


async def write_export(conversations: Iterable[ExportedConversation], read: ReadFile, target: IO[bytes]) -> None:
    """Writes the zip file. Files that are no longer stored are named in it."""
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", ABOUT)
        for each in conversations:
            await _write_conversation(archive, each, read)


async def export_bytes(conversations: Iterable[ExportedConversation], read: ReadFile) -> bytes:
    """The zip file in memory, for small exports."""
    target = BytesIO()
    await write_export(conversations, read, target)
    return target.getvalue()


def size_of(conversations: Iterable[ExportedConversation]) -> int:
    """About how many bytes the export has: those of the files."""
    files = {file.hash: file.size for each in conversations for file in each.attachments}
    return sum(files.values())


async def _write_conversation(archive: ZipFile, each: ExportedConversation, read: ReadFile) -> None:
    folder = _folder(each)
    names: dict[str, str] = {}
    for file in each.attachments:
        try:
            data = await read(file)
        except MediaError:
            continue
        names[file.hash] = f"files/{file.hash[:8]}-{_safe(file.name)}"
        # Most files are compressed already.
        archive.writestr(ZipInfo(f"{folder}/{names[file.hash]}", _ZIP_EPOCH), data, ZIP_STORED)
    lines = [json.dumps(line, ensure_ascii=False) for _, line in sorted(_lines(each, names), key=lambda line: line[0])]
    archive.writestr(f"{folder}/messages.jsonl", "".join(f"{line}\n" for line in lines))
    archive.writestr(f"{folder}/conversation.md", _markdown(each, names))


_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)

Order = tuple[datetime, int]


def _lines(each: ExportedConversation, names: dict[str, str]) -> Iterator[tuple[Order, dict[str, Any]]]:
    for message in each.messages:
        yield (message.at, 0), _message_line(message, names)
    for turn in each.turns:
        yield (turn.started_at, 1), _turn_line(turn)
    for schedule in each.schedules:
        yield (schedule.created_at, 2), _schedule_line(schedule)
    for note in each.notes:
        yield (note.at, 3), _note_line(note)


def _message_line(message: ExportedMessage, names: dict[str, str]) -> dict[str, Any]:
    return {
        "kind": "message",
        "id": message.id,
        "at": message.at.isoformat(),
        "sender": {"id": message.sender_id, "name": message.sender},
        "text": message.written,
        "note": message.note,
        "files": [_file_line(file, names) for file in message.attachments],
        "state": message.state,
        "turn": message.turn,
    }


def _file_line(file: Attachment, names: dict[str, str]) -> dict[str, Any]:
    return {"name": file.name, "media_type": file.media_type, "size": file.size, "path": names.get(file.hash)}


def _turn_line(turn: Turn) -> dict[str, Any]:
    return {
        "kind": "turn",
        "id": turn.id,
        "at": turn.started_at.isoformat(),
        "began_by": {"id": turn.principal.id, "name": turn.principal.name},
        "conversation": turn.session,
        "entries": [json.loads(dump(entry)) for entry in turn.entries],
    }


def _schedule_line(schedule: Schedule) -> dict[str, Any]:
    task = schedule.task
    return {
        "kind": "schedule",
        "id": schedule.id,
        "at": schedule.created_at.isoformat(),
        "owner": {"id": schedule.owner.id, "name": schedule.owner.name},
        "task": task.task,
        "due": task.due.isoformat(),
        "cron": task.timing.cron,
        "timezone": task.timing.zone,
    }


def _note_line(note: StoredNote) -> dict[str, Any]:
    return {
        "kind": "note",
        "id": note.note.handle,
        "at": note.at.isoformat(),
        "noted_for": {"id": note.author.id, "name": note.author.name},
        "text": note.note.text,
    }


def _markdown(each: ExportedConversation, names: dict[str, str]) -> str:
    parts: list[tuple[Order, str]] = [
        ((message.at, 0), _message_text(message, names))
        for message in each.messages
        if message.written or message.attachments
    ]
    parts += [((turn.started_at, 1), text) for turn in each.turns if (text := _answer_text(turn.entries, names))]
    texts = [text for _, text in sorted(parts, key=lambda part: part[0])]
    heading = f"# {each.title or each.session}\n"
    return "\n\n".join([heading, *texts]) + "\n"


def _message_text(message: ExportedMessage, names: dict[str, str]) -> str:
    head = f"**{message.sender or message.sender_id or 'deleted'}**, {message.at:%Y-%m-%d %H:%M} UTC"
    return "\n\n".join(filter(None, (head, message.written, *_links(message.attachments, names))))


def _answer_text(entries: Sequence[Entry], names: dict[str, str]) -> str:
    texts: list[str] = []
    for entry in entries:
        match entry:
            case ModelAnswered():
                texts.append(entry.text)
            case Notice():
                texts.append(entry.text)
            case CallEnded():
                texts += [entry.for_user, *_links(entry.attachments, names)]
            case _:
                pass
    shown = [text for text in texts if text.strip()]
    return "\n\n".join(["**Interject**", *shown]) if shown else ""


def _links(files: Iterable[Attachment], names: dict[str, str]) -> Iterator[str]:
    for file in files:
        path = names.get(file.hash)
        yield f"[{file.name}]({path})" if path else f"{file.name} (no longer stored)"


def _folder(each: ExportedConversation) -> str:
    """Readable, and unique by a part of its hash."""
    return f"{_safe(each.session)[:80]}-{sha256(each.session.encode()).hexdigest()[:8]}"


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "file"
