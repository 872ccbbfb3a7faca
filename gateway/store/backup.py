"""Backups: a consistent copy of the database with the media that it names, and with workspaces, in one zip file; and
their way back."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from urllib.parse import quote
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from gateway.store.errors import StoreError, StoreFailed
from gateway.store.sqlite_file import database_path, locked

DATABASE = "interject.db"
MANIFEST = "backup.json"
MEDIA = "media/"
WORKSPACES = "workspaces/"
AGENTS = "agents/"
"""Workspaces of agents that have a folder of their own, by the agent's name."""

_CHUNK = 1 << 20


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


def back_up(
    url: str, media: Path, target: Path, *, workspaces: Workspaces | None = None, overwrite: bool = False
) -> BackupSummary:
    """Writes a backup, also beside a running gateway, without making it wait. `workspaces` are left out if they are the
    operator's own. Raises `StoreError` and `OSError`."""
    path = database_path(url)
    if not path.exists():
        raise StoreFailed(f"{path} does not exist yet: there is nothing to back up")
    if target.exists() and not overwrite:
        raise StoreFailed(f"{target} exists already. Choose another name, or overwrite it with --force")
    with TemporaryDirectory(dir=target.absolute().parent, prefix=".backup-") as folder:
        copy, archive = Path(folder) / DATABASE, Path(folder) / "backup.zip"
        _copy_database(path, copy)
        summary = _write_archive(copy, media, workspaces or {}, archive)
        archive.replace(target)
    return summary


def restore(
    url: str, media: Path, source: Path, *, workspaces: Workspaces | None = None, overwrite: bool = False
) -> BackupSummary:
    """Puts the backup in the place of the database, adds its media, and puts its workspaces in the place of those of
    the same name, after checking all of it. Those of an agent that has no folder in `workspaces` are not restored.

    Raises `StoreBusy` while a gateway runs, `StoreError` for existing data without `overwrite` and for a damaged
    backup, and `OSError`. Nothing is changed then.
    """
    path = database_path(url)
    with locked(path), _opened(source) as archive:
        if _has_data(path) and not overwrite:
            raise StoreFailed(f"{path} holds data already, which a restore would replace. To do that, add --force")
        summary = _summary(archive, source)
        with TemporaryDirectory(dir=path.parent, prefix=".restore-") as folder:
            database = Path(folder) / DATABASE
            _extract(archive, DATABASE, database)
            _check_database(database, source)
            media.mkdir(parents=True, exist_ok=True, mode=0o700)
            with TemporaryDirectory(dir=media, prefix=".restore-") as files:
                _extract_media(archive, Path(files), source)
                _restore_workspaces(archive, workspaces or {}, source)
                _move_media(Path(files), media)
            # A journal of the old database would be applied to the new one.
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            database.replace(path)
    return summary


# Writing


def _copy_database(path: Path, copy: Path) -> None:
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


def _write_archive(copy: Path, media: Path, workspaces: Workspaces, archive: Path) -> BackupSummary:
    with closing(sqlite3.connect(copy)) as database:
        hashes = [hash for (hash,) in database.execute("SELECT hash FROM media ORDER BY hash")]
        count = {
            table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("sessions", "inbox")
        }
        (schema,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    descriptor = os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream, ZipFile(stream, "w", ZIP_DEFLATED) as zipped:
        zipped.write(copy, DATABASE)
        stored = sum(_add_file(zipped, media, hash) for hash in hashes)
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        counts = [_add_workspaces(zipped, _prefix(agent), root) for agent, root in workspaces.items() if root.is_dir()]
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
                copyfileobj(file, target, _CHUNK)
        return True
    return False


def _prefix(agent: str) -> str:
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
            copyfileobj(stream, target, _CHUNK)
    return True


# Restoring


@contextmanager
def _opened(source: Path) -> Iterator[ZipFile]:
    try:
        with ZipFile(source) as archive:
            yield archive
    except BadZipFile as error:
        raise _damaged(source, str(error)) from error


def _damaged(source: Path, why: str) -> StoreError:
    return StoreFailed(f"{source} cannot be restored: it is no complete backup ({why}). Nothing was changed")


def _has_data(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _summary(archive: ZipFile, source: Path) -> BackupSummary:
    try:
        return BackupSummary(**json.loads(archive.read(MANIFEST)))
    except (KeyError, ValueError, TypeError) as error:
        raise _damaged(source, f"{MANIFEST} is missing or not readable") from error


def _extract(archive: ZipFile, name: str, target: Path) -> str:
    """The hash of what was written. Reading to the end checks the sum that the archive has."""
    hashed = sha256()
    with archive.open(name) as stream, os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        while chunk := stream.read(_CHUNK):
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
            if (names := _names_below(archive, _prefix(agent)))
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
