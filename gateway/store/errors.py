"""Errors of the store, with messages for the person who runs the gateway."""

from __future__ import annotations

from pathlib import Path

# StoreError
# ├── StoreBusy      another gateway has this database open
# ├── StoreCorrupt   the file is damaged, or is not one of ours
# ├── StoreTooNew    a newer version of the gateway wrote it
# └── StoreFailed    reading or writing did not work (disk full, I/O error, read-only, closed); nothing was written
#     └── StoreUnreachable    the database server does not answer at the moment; the same write may work later


class StoreError(Exception):
    """The message is for a person: what is wrong, where, and what to do."""


class StoreBusy(StoreError):
    """`pid` is the process that holds the database, None if it did not say."""

    def __init__(self, path: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(f"{path} is in use by {holder}: stop that gateway, or give this one another [store] url")
        self.path = path
        self.pid = pid


class StoreCorrupt(StoreError):
    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(
            f"{path} cannot be used: {why}. Nothing was changed. Restore a backup of it, "
            "or move it away to start with an empty database"
        )


class StoreTooNew(StoreError):
    def __init__(self, path: Path | str, revision: str) -> None:
        super().__init__(
            f"{path} was written by a newer version of interject (its schema is {revision}). Nothing was changed. "
            "Install that version again, or give this one another [store] url"
        )
        self.revision = revision


class StoreFailed(StoreError):
    pass


class StoreUnreachable(StoreFailed):
    pass
