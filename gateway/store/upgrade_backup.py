"""Backups of the database that are made before it is upgraded to a newer schema."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.private_files import private_folder
from gateway.store.backup_archive import DATABASE, copy_database, write_archive
from gateway.store.errors import StoreFailed

log = logging.getLogger(__name__)

KEPT = 3
"""Backups; older ones are deleted when another is made."""

MAX_AGE = 30 * 24 * 3600.0
"""Seconds. What people delete later is in a backup until then."""


def back_up_before_upgrade(path: Path, revision: str) -> Path:
    """Writes what is in the database into a file for `interject restore`, one per schema revision; the media that it
    names stay where they are. Raises `StoreFailed`."""
    folder = _folder(path)
    target = folder / f"before-upgrade-from-{revision}.zip"
    try:
        private_folder(folder)
        with TemporaryDirectory(dir=folder, prefix=".backup-") as temporary:
            copy, archive = Path(temporary) / DATABASE, Path(temporary) / target.name
            copy_database(path, copy)
            write_archive(copy, None, {}, archive)
            archive.replace(target)
    except OSError as error:
        raise StoreFailed(
            f"{target} cannot be written: {error.strerror}. The database is backed up there before its upgrade, and "
            "nothing was changed yet"
        ) from error
    delete_old_backups(path)
    return target


def delete_old_backups(path: Path) -> None:
    """Deletes those made before upgrades of this database that are too many or too old."""
    found = sorted(_folder(path).glob("before-upgrade-from-*.zip"), key=_made_at, reverse=True)
    for place, backup in enumerate(found):
        if place >= KEPT or time.time() - _made_at(backup) > MAX_AGE:
            try:
                backup.unlink(missing_ok=True)
            except OSError as error:
                log.warning("the old backup %s cannot be deleted: %s", backup, error.strerror)


def _folder(path: Path) -> Path:
    return path.with_name("backups")


def _made_at(backup: Path) -> float:
    with suppress(FileNotFoundError):
        return backup.stat().st_mtime
    return 0.0
