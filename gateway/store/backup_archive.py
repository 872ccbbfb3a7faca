"""The zip file of a backup: a consistent copy of the database, the media that it names, and workspaces."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfileobj
from urllib.parse import quote
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from gateway.store.errors import StoreFailed

DATABASE = "interject.db"
MANIFEST = "backup.json"
MEDIA = "media/"
WORKSPACES = "workspaces/"
AGENTS = "agents/"
"""Workspaces of agents that have a folder of their own, by the agent's name."""

CHUNK = 1 << 20
"""Bytes copied at once."""


@dataclass(frozen=True, slots=True)
class BackupSummary:
    """What a backup holds. `missing` files were named by the database but not stored. `workspaces` is the number of
    files in workspaces, `left_out` of those that could not be read."""

    made_at: str
    schema: str
    conversations: int
    messages: int
    files: int
    missing: int
    workspaces: int = 0
    left_out: int = 0


Workspaces = Mapping[str, Path]
"""The folders of the workspaces by the name of the agent that has one of its own, "" for all others."""


def copy_database(path: Path, copy: Path) -> None:
    """A copy of what is committed at this moment."""
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=60)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.DatabaseError as error:
        raise StoreFailed(f"{path} cannot be copied: {error}") from error


def write_archive(copy: Path, media: Path | None, workspaces: Workspaces, archive: Path) -> BackupSummary:
    """Writes the database, its files in `media` (None: without them) and the workspaces into a new zip file."""
    with closing(sqlite3.connect(copy)) as database:
        hashes = [hash for (hash,) in database.execute("SELECT hash FROM media ORDER BY hash")] if media else []
        count = {
            table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("sessions", "inbox")
        }
        (schema,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    descriptor = os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream, ZipFile(stream, "w", ZIP_DEFLATED) as zipped:
        zipped.write(copy, DATABASE)
        stored = sum(_add_file(zipped, media, hash) for hash in hashes) if media else 0
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        counts = [
            _add_workspaces(zipped, prefix_of(agent), root) for agent, root in workspaces.items() if root.is_dir()
        ]
        summary = BackupSummary(
            made_at,
            schema,
            count["sessions"],
            count["inbox"],
            stored,
            missing=len(hashes) - stored,
            workspaces=sum(added for added, _ in counts),
            left_out=sum(left_out for _, left_out in counts),
        )
        zipped.writestr(MANIFEST, json.dumps(asdict(summary), indent=2))
    return summary


def _add_file(zipped: ZipFile, media: Path, hash: str) -> bool:
    """False: it was deleted meanwhile."""
    with suppress(FileNotFoundError):
        with (media / hash[:2] / hash[2:]).open("rb") as file:
            entry = ZipInfo(f"{MEDIA}{hash}")
            # Most of them are compressed already.
            entry.compress_type = ZIP_STORED
            with zipped.open(entry, "w", force_zip64=True) as target:
                copyfileobj(file, target, CHUNK)
        return True
    return False


def prefix_of(agent: str) -> str:
    """How the names of the files of that agent's workspaces begin in the archive."""
    return f"{AGENTS}{agent}/" if agent else WORKSPACES


def _add_workspaces(zipped: ZipFile, prefix: str, workspaces: Path) -> tuple[int, int]:
    """The number of files added, and of those that could not be read. Links are not followed, also none that takes the
    place of a folder meanwhile."""
    added = left_out = 0
    for folder, folders, names, descriptor in os.fwalk(workspaces):
        within = Path(folder).relative_to(workspaces)
        if not within.parts:
            # Files of nobody, and what is being deleted or restored.
            folders[:] = [name for name in folders if not name.startswith(".")]
            continue
        for name in names:
            kept = _add_workspace_file(zipped, prefix + (within / name).as_posix(), name, descriptor)
            added, left_out = added + (kept is True), left_out + (kept is False)
    return added, left_out


def _add_workspace_file(zipped: ZipFile, entry_name: str, name: str, folder: int) -> bool | None:
    """False: it cannot be read. None: it is no file, such as a link or a pipe."""
    try:
        entry_name.encode()
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return None
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except (OSError, UnicodeError):
        return False
    with os.fdopen(descriptor, "rb") as stream:
        mode = os.fstat(descriptor).st_mode
        entry = ZipInfo(entry_name)
        entry.compress_type = ZIP_DEFLATED
        entry.external_attr = (mode & 0o777) << 16
        with zipped.open(entry, "w", force_zip64=True) as target:
            copyfileobj(stream, target, CHUNK)
    return True
