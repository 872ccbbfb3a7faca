"""Files that people sent, laid out in the workspace, where file tools and shell commands find them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from agent.media import Attachment, MediaError, MediaStore

log = logging.getLogger(__name__)

FOLDER = "received"
LONGEST_NAME = 100


def workspace_path(attachment: Attachment) -> str:
    """Its path in the workspace: a function of the attachment alone, so that it is the same after a restart."""
    name = Path(attachment.name.replace("\\", "/")).name[-LONGEST_NAME:] or "file"
    return f"{FOLDER}/{attachment.hash[:8]}-{name}"


async def copy_to_workspace(attachments: Iterable[Attachment], workspace: Path, media: MediaStore) -> None:
    """Writes those that are not there yet. One that cannot be had or written is only logged: its reader will say so."""
    places = {workspace / workspace_path(attachment): attachment for attachment in attachments}
    if not places:
        return
    for path in await asyncio.to_thread(_missing, list(places)):
        try:
            await asyncio.to_thread(_write, path, await media.read(places[path]))
        except (MediaError, OSError) as error:
            log.warning("%s cannot be put into the workspace: %s", places[path].name, error)


def _missing(paths: Sequence[Path]) -> list[Path]:
    # Unlike a path's own method it raises nothing for a name that cannot be; writing then tells what is wrong.
    return [path for path in paths if not os.path.exists(path)]


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_bytes(data)
    unfinished.rename(path)
