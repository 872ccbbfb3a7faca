"""Accounts in files of one folder, for the gateway's user only: `NAME.json` of a server, `NAME.PERSON.json` with a hash
in the place of the person."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from agent.interrupt import shielded
from agent.mcp.account import AccountKey, KeptAccount, person_hash, secrets_in
from agent.mcp.errors import AccountsUnavailable

MAX_FILE = 1_000_000
"""Bytes of a file that is read."""


class FileAccounts:
    """Implements `agent.mcp.account.AccountStore` for one process; a command beside it may sign people in and out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: WeakValueDictionary[AccountKey, asyncio.Lock] = WeakValueDictionary()
        self._secrets: frozenset[str] = frozenset()
        self._version = 0

    async def read(self, key: AccountKey) -> KeptAccount | None:
        return await asyncio.to_thread(self._read, key)

    async def write(self, key: AccountKey, content: Mapping[str, Any], *, over: str | None = None) -> bool:
        return await shielded(asyncio.to_thread(self._write, key, content, over))

    async def forget(self, key: AccountKey) -> Mapping[str, Any] | None:
        return await shielded(asyncio.to_thread(self._forget, key))

    @asynccontextmanager
    async def alone(self, key: AccountKey) -> AsyncIterator[None]:
        async with self._locks.setdefault(key, asyncio.Lock()):
            yield

    async def servers_of(self, person: str) -> Sequence[str]:
        ending = f".{person_hash(person)}.json"
        return await asyncio.to_thread(
            lambda: [file.name.removesuffix(ending) for file in self._folder.glob(f"*{ending}")]
        )

    async def count(self, server: str) -> int:
        return await asyncio.to_thread(
            lambda: len([*self._folder.glob(f"{server}.json"), *self._folder.glob(f"{server}.*.json")])
        )

    async def look(self) -> Collection[str]:
        """Nothing: the files say at any time what there is."""
        return ()

    def holds(self, key: AccountKey) -> bool:
        return self._file(key).exists()

    def secrets(self) -> frozenset[str]:
        """Reads the files again when one of them has been replaced."""
        with suppress(OSError):
            version = self._folder.stat().st_mtime_ns
            if version != self._version:
                self._secrets = frozenset(
                    secret for file in self._folder.glob("*.json") for secret in secrets_in(_content(file))
                )
                self._version = version
        return self._secrets

    def _file(self, key: AccountKey) -> Path:
        return self._folder / f"{key.stem}.json"

    def _read(self, key: AccountKey) -> KeptAccount | None:
        file = self._file(key)
        try:
            found = file.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AccountsUnavailable(f"the sign-in cannot be read: {error.strerror or error}") from error
        # A file that cannot be read any more is a sign-in with nothing in it.
        content = _content(file) if found.st_size <= MAX_FILE else {}
        return KeptAccount(content, f"{found.st_ino}:{found.st_mtime_ns}")

    def _write(self, key: AccountKey, content: Mapping[str, Any], over: str | None) -> bool:
        """Replaces the file as a whole: a crash leaves the old one or the new one."""
        if over is not None and ((kept := self._read(key)) is None or kept.version != over):
            return False
        file = self._file(key)
        with _explained("stored"):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = file.with_suffix(f".{os.getpid()}.new")
            temporary.unlink(missing_ok=True)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                json.dump(content, stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(file)
        return True

    def _forget(self, key: AccountKey) -> Mapping[str, Any] | None:
        content = _content(self._file(key))
        with _explained("removed"):
            try:
                self._file(key).unlink()
            except FileNotFoundError:
                return None
        return content


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AccountsUnavailable(f"the sign-in cannot be {what}: {error.strerror or error}") from error


def _content(file: Path) -> Mapping[str, Any]:
    """Nothing of a file that is no longer there, or is none of ours."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
