"""The web chat's token: a file in the data directory that only its owner can read."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

_FILE = "web-token"


class WebToken:
    """Call it for the current token. It is created once; a token replaced by another process holds at once. It is never
    empty: an empty file is replaced at the start, and changes nothing while the gateway runs."""

    def __init__(self, home: Path) -> None:
        self.file = home / _FILE
        self._version: tuple[int, int] | None = None
        self._token = ""
        if not self():
            self.rotate()

    def __call__(self) -> str:
        with suppress(FileNotFoundError):
            found = self.file.stat()
            version = (found.st_ino, found.st_mtime_ns)
            if version != self._version:
                self._token = self.file.read_text(encoding="utf-8").strip() or self._token
                self._version = version
        return self._token

    def rotate(self) -> None:
        """Replaces the token: whoever has the old one has no access any more."""
        temporary = self.file.with_suffix(f".{os.getpid()}")
        with suppress(FileNotFoundError):
            temporary.unlink()
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(secrets.token_urlsafe(24))
        temporary.replace(self.file)
