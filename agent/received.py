"""Files that people sent, laid out in the workspace, where file tools and shell commands find them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

from agent.media import Attachment, MediaError, MediaStore

log = logging.getLogger(__name__)

FOLDER = "received"
LONGEST_NAME = 100


def place_of(attachment: Attachment) -> str:
    """Its path in the workspace: a function of the attachment alone, so that it is the same after a restart."""
    name = Path(attachment.name.replace("\\", "/")).name[-LONGEST_NAME:] or "file"
    return f"{FOLDER}/{attachment.hash[:8]}-{name}"


async def lay_out(attachments: Iterable[Attachment], workspace: Path, media: MediaStore) -> None:
    """Writes those that are not there yet. One that cannot be had or written is only logged: its reader will say so."""
    for attachment in attachments:
        path = workspace / place_of(attachment)
        try:
            if not await asyncio.to_thread(path.exists):
                await asyncio.to_thread(_write, path, await media.read(attachment))
        except (MediaError, OSError) as error:
            log.warning("%s cannot be put into the workspace: %s", attachment.name, error)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_bytes(data)
    unfinished.rename(path)
