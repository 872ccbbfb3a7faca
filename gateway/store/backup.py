"""Backups: a consistent copy of the database with the media that it names, and with workspaces, in one zip file; and
their way back."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from hashlib import sha256
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from gateway.store.backup_archive import (
    CHUNK,
    DATABASE,
    MANIFEST,
    MEDIA,
    BackupSummary,
    Workspaces,
    prefix_of,
    write_archive,
)
from gateway.store.backup_database import replaced, write_copy
from gateway.store.errors import StoreError, StoreFailed

PutFiles = Callable[[Path], None]
"""Stores the files of a folder, each of which has the hash of its bytes as its name."""


def back_up(
    url: str, media: Path | None, target: Path, *, workspaces: Workspaces | None = None, overwrite: bool = False
) -> BackupSummary:
    """Writes a backup, also beside a running gateway, without making it wait. `media` is the folder of the files, None:
    they are not in the backup. `workspaces` are left out if they are the operator's own. Raises `StoreError` and
    `OSError`."""
    if target.exists() and not overwrite:
        raise StoreFailed(f"{target} exists already. Choose another name, or overwrite it with --force")
    if not target.absolute().parent.is_dir():
        raise StoreFailed(f"{target.parent} is no folder: make it, or choose another one")
    with TemporaryDirectory(dir=target.absolute().parent, prefix=".backup-") as folder:
        copy, archive = Path(folder) / DATABASE, Path(folder) / "backup.zip"
        write_copy(url, copy)
        summary = write_archive(copy, media, workspaces or {}, archive)
        archive.replace(target)
    return summary


def restore(
    url: str, media: Path | PutFiles, source: Path, *, workspaces: Workspaces | None = None, overwrite: bool = False
) -> BackupSummary:
    """Puts the backup in the place of the database, adds its media to their folder or by a function, and puts its
    workspaces in the place of those of the same name, after checking all of it. Those of an agent that has no folder in
    `workspaces` are not restored.

    Raises `StoreBusy` while a gateway runs, `StoreError` for existing data without `overwrite` and for a damaged
    backup, `OSError`, and what the function raises. Nothing is changed then.
    """
    with replaced(url) as old, _opened(source) as archive:
        if old.has_data and not overwrite:
            raise StoreFailed(f"{old.place} holds data already, which a restore would replace. To do that, add --force")
        summary = _summary(archive, source)
        with TemporaryDirectory(dir=old.folder, prefix=".restore-") as folder:
            database = Path(folder) / DATABASE
            _extract(archive, DATABASE, database)
            _check_database(database, source)
            with TemporaryDirectory(dir=_beside(media, folder), prefix=".restore-") as files:
                _extract_media(archive, Path(files), source)
                if not isinstance(media, Path):
                    media(Path(files))
                _restore_workspaces(archive, workspaces or {}, source)
                if isinstance(media, Path):
                    _move_media(Path(files), media)
            old.replace(database)
    return summary


def _beside(media: Path | PutFiles, folder: str) -> Path:
    """A folder from which files can be moved to their place."""
    if not isinstance(media, Path):
        return Path(folder)
    media.mkdir(parents=True, exist_ok=True, mode=0o700)
    return media


@contextmanager
def _opened(source: Path) -> Iterator[ZipFile]:
    try:
        with ZipFile(source) as archive:
            yield archive
    except BadZipFile as error:
        raise _damaged(source, str(error)) from error


def _damaged(source: Path, why: str) -> StoreError:
    return StoreFailed(f"{source} cannot be restored: it is no complete backup ({why}). Nothing was changed")


def _summary(archive: ZipFile, source: Path) -> BackupSummary:
    try:
        return BackupSummary(**json.loads(archive.read(MANIFEST)))
    except (KeyError, ValueError, TypeError) as error:
        raise _damaged(source, f"{MANIFEST} is missing or not readable") from error


def _extract(archive: ZipFile, name: str, target: Path) -> str:
    """The hash of what was written. Reading to the end checks the sum that the archive has."""
    hashed = sha256()
    with archive.open(name) as stream, os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        while chunk := stream.read(CHUNK):
            hashed.update(chunk)
            file.write(chunk)
        os.fsync(file.fileno())
    return hashed.hexdigest()


def _check_database(database: Path, source: Path) -> None:
    from gateway.store.migrate import has_revision

    try:
        with closing(sqlite3.connect(database)) as opened:
            (finding,) = opened.execute("PRAGMA integrity_check(1)").fetchone()
            (revision,) = opened.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.DatabaseError, TypeError) as error:
        raise _damaged(source, str(error)) from error
    if finding != "ok":
        raise _damaged(source, finding)
    if not has_revision(revision):
        raise StoreFailed(f"{source} was made by a newer version of interject. Install that version to restore it")


def _extract_media(archive: ZipFile, files: Path, source: Path) -> None:
    """Names in the archive are not trusted: a file is stored under the hash of its bytes."""
    for name in archive.namelist():
        if name.startswith(MEDIA):
            temporary = files / "file"
            hash = _extract(archive, name, temporary)
            if f"{MEDIA}{hash}" != name:
                raise _damaged(source, f"{name} was changed")
            temporary.rename(files / hash)


def _restore_workspaces(archive: ZipFile, workspaces: Workspaces, source: Path) -> None:
    """Those of all agents are read before one is put in its place."""
    with ExitStack() as stack:
        read = [
            (root, stack.enter_context(_extracted_workspaces(archive, names, root, source)))
            for agent, root in workspaces.items()
            if (names := _names_below(archive, prefix_of(agent)))
        ]
        for root, folder in read:
            _move_workspaces(folder, root)


def _names_below(archive: ZipFile, prefix: str) -> dict[str, str]:
    """The names in the archive that begin so, with the rest of each."""
    return {name: name.removeprefix(prefix) for name in archive.namelist() if name.startswith(prefix)}


@contextmanager
def _extracted_workspaces(archive: ZipFile, names: Mapping[str, str], root: Path, source: Path) -> Iterator[Path]:
    """A folder for what is put in the place of others, `old`, with the files of the archive in `new`."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    # What cannot be deleted now is deleted by the gateway when it starts, by this name.
    with TemporaryDirectory(dir=root, prefix=".deleted-restore-", ignore_cleanup_errors=True) as folder:
        for each in ("new", "old"):
            Path(folder, each).mkdir(mode=0o700)
        for name, within in names.items():
            parts = PurePosixPath(within).parts
            if len(parts) < 2 or parts[0] == "/" or any(part in ("..", ".") or "\\" in part for part in parts):
                raise _damaged(source, f"{name!r} is not the name of a file in a workspace")
            target = Path(folder, "new", *parts)
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _extract(archive, name, target)
            target.chmod((archive.getinfo(name).external_attr >> 16) & 0o700 or 0o600)
        yield Path(folder)


def _move_workspaces(folder: Path, root: Path) -> None:
    """Whole folders take the place of others: what is in those may be links."""
    for made in Path(folder, "new").iterdir():
        place = root / made.name
        if os.path.lexists(place):
            place.rename(folder / "old" / made.name)
        made.rename(place)


def _move_media(files: Path, media: Path) -> None:
    for file in files.iterdir():
        target = media / file.name[:2] / file.name[2:]
        target.parent.mkdir(exist_ok=True, mode=0o700)
        file.replace(target)
