"""Folders that programs and libraries write to, on a system where only the data directory can be written."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from gateway.private_files import private_folder

log = logging.getLogger(__name__)

TEMPORARY = ("TMPDIR", "TEMP", "TMP")
_DEFAULTS = ("/tmp", "/var/tmp")
_OURS = "tmp"


def use_writable_folders(home: Path) -> None:
    """Moves temporary files, caches and the home directory of programs into the data directory `home`, each only if it
    can be written nowhere else: on a read-only system, and for a user without a home directory. Raises `OSError`."""
    if not any(map(_is_writable, filter(None, (*map(os.environ.get, TEMPORARY), *_DEFAULTS)))):
        _use("TMPDIR", home / _OURS)
    if not os.path.isdir(os.path.expanduser("~")):
        _use("HOME", home / "home")
    if "MPLCONFIGDIR" not in os.environ and not _is_writable(os.path.expanduser("~")):
        # Else matplotlib looks for the system's fonts again with each chart.
        _use("MPLCONFIGDIR", home / "cache" / "matplotlib")


def remove_old_temporary_files(home: Path, before: float) -> None:
    """Deletes what earlier processes have left in the folder for temporary files in the data directory, by the time of
    its last change."""
    folder = home / _OURS
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            if path.lstat().st_mtime < before:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError as error:
            log.warning("%s cannot be deleted: %s", path, error.strerror)


def _use(variable: str, folder: Path) -> None:
    private_folder(folder)
    os.environ[variable] = str(folder)


def _is_writable(folder: str) -> bool:
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)
