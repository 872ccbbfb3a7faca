"""The token of the web chat's owner: in a file of the data directory that only its owner can read, or, where several
processes share a database, in the store."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from gateway.store.errors import StoreError
from gateway.store.shared_secrets import WEB_TOKEN

log = logging.getLogger(__name__)

_FILE = "web-token"

MAX_AGE = 1.0
"""Seconds for which the store is not asked again: a token that another process replaces is worth nothing then."""


class OwnerToken(Protocol):
    def __call__(self) -> str:
        """The token, as this process knows it."""

    async def current(self) -> str:
        """The token, also if another process has replaced it."""


class SecretStore(Protocol):
    async def find_secret(self, name: str) -> str | None: ...
    async def find_or_add_secret(self, name: str, value: str) -> str: ...


def new_token() -> str:
    return secrets.token_urlsafe(24)


def token_file(home: Path) -> Path:
    return home / _FILE


class StoredToken:
    """The token of all processes that share a database. Made by `open_stored_token`."""

    def __init__(self, store: SecretStore, token: str) -> None:
        self._store = store
        self._token = token
        self._read_at = time.monotonic()
        self._reading = asyncio.Lock()

    def __call__(self) -> str:
        return self._token

    async def current(self) -> str:
        """The last one that is known, while the store does not answer."""
        if time.monotonic() - self._read_at < MAX_AGE:
            return self._token
        async with self._reading:
            if time.monotonic() - self._read_at >= MAX_AGE:
                await self._read()
        return self._token

    async def _read(self) -> None:
        started = time.monotonic()
        try:
            self._token = await self._store.find_secret(WEB_TOKEN) or self._token
            self._read_at = started
        except StoreError as error:
            log.warning("whether the owner's token was replaced cannot be read: %s", error)
            # Other requests do not wait for that, too.
            self._read_at = time.monotonic()


async def open_stored_token(store: SecretStore, home: Path) -> StoredToken:
    """The token in the store. If there is none yet, it is that of the file in the data directory, so that links from
    before stay valid, or a new one. Raises `StoreError` and `OSError`."""
    return StoredToken(store, await store.find_or_add_secret(WEB_TOKEN, token_before(home) or new_token()))


def token_before(home: Path) -> str:
    """The token of a process that was alone on its database; "" if there was none. Blocking for a small file. Raises
    `OSError`."""
    with suppress(FileNotFoundError):
        return token_file(home).read_text(encoding="utf-8").strip()
    return ""


class WebToken:
    """The token in a file. Call it for the current one. It is created once; a token replaced by another process holds
    at once. It is never empty: an empty file is replaced at the start, and changes nothing while the gateway runs."""

    def __init__(self, home: Path) -> None:
        self.file = token_file(home)
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

    async def current(self) -> str:
        return self()

    def rotate(self) -> None:
        """Replaces the token: whoever has the old one has no access any more."""
        temporary = self.file.with_suffix(f".{os.getpid()}")
        with suppress(FileNotFoundError):
            temporary.unlink()
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(new_token())
        temporary.replace(self.file)
