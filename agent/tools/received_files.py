"""Copies of the files that people sent, in the workspace, where file tools and shell commands find them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from agent.media import Attachment, MediaError, MediaStore
from agent.tools.text_edit import plain
from agent.tools.workspace import make_workspace, replace_file

log = logging.getLogger(__name__)

FOLDER = "received"
MAX_NAME_BYTES = 200
"""Of a name; file systems allow 255 bytes."""


def workspace_path(attachment: Attachment) -> str:
    """The path of its copy: a function of the attachment alone, so that it is the same after a restart. The text of a
    document is beside the document. Its name is written as models write it, who use it in commands too."""
    name = plain(Path(attachment.name.replace("\\", "/")).name)
    # The end of it: the suffix tells programs what it is.
    end = name.encode(errors="replace")[-MAX_NAME_BYTES:].decode(errors="ignore") or "file"
    return f"{FOLDER}/{(attachment.taken_from or attachment.hash)[:8]}-{end}"


def has_copy(attachment: Attachment) -> bool:
    """Whether it is copied. A picture taken from a file is for the model only."""
    return attachment.taken_from is None or not attachment.is_picture


async def open_workspace(workspace: Path) -> None:
    """Creates the workspace on its first use. A failure is only logged: the tools that need it report it."""
    # A look costs microseconds, a thread a hundred times that.
    if os.path.isdir(workspace):  # noqa: ASYNC240
        return
    try:
        await asyncio.to_thread(make_workspace, workspace)
    except OSError as error:
        log.warning("the workspace %s cannot be created: %s", workspace, error)


async def copy_to_workspace(attachments: Iterable[Attachment], workspace: Path, media: MediaStore) -> None:
    """Writes the files that are not there yet. A failure is only logged: the tool that reads the file reports it."""
    paths = {workspace / workspace_path(attachment): attachment for attachment in attachments if has_copy(attachment)}
    if not paths:
        return
    for path in await asyncio.to_thread(_missing, list(paths)):
        try:
            await asyncio.to_thread(_write, workspace, path, await media.read(paths[path]))
        except (MediaError, OSError, ValueError) as error:
            log.warning("%s cannot be copied to the workspace: %s", paths[path].name, error)


def _missing(paths: Sequence[Path]) -> list[Path]:
    # Unlike Path.exists it does not raise for an invalid name; writing then reports the error.
    return [path for path in paths if not os.path.exists(path)]


def _write(workspace: Path, path: Path, data: bytes) -> None:
    root = workspace.resolve()
    replace_file(root, root / path.relative_to(workspace), data)
