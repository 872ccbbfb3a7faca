"""Deletion of folders, whatever is in them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from secrets import token_hex

DELETED = ".deleted-"
"""How the names of folders begin that are being deleted."""


def delete_folder(folder: Path) -> bool:
    """Deletes the folder, and what an earlier attempt left of it; whether there was anything. Raises `OSError`."""
    moving = f"{DELETED}{folder.name}-"
    if os.path.lexists(folder):
        folder.rename(folder.with_name(f"{moving}{token_hex(4)}"))
    found = [each for each in folder.parent.glob(f"{DELETED}*") if each.name.startswith(moving)]
    for each in found:
        remove_for_good(each)
    return bool(found)


def remove_for_good(folder: Path) -> None:
    """Links are deleted, not followed. The system's programs delete any depth of folders, and go on after an error.
    Raises `OSError`."""
    if not folder.is_symlink():
        _run("chmod", "-R", "u+rwX", "--", str(folder))
    _run("rm", "-rf", "--", str(folder))
    if os.path.lexists(folder):
        raise OSError(f"{folder} cannot be deleted completely: delete it by hand")


def _run(*command: str) -> None:
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    quiet = subprocess.DEVNULL
    subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, env=environment, check=False)
