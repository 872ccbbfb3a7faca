"""Accounts at MCP servers: who is signed in where, in files for the gateway's user only."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from agent.hook import HookContext

CLIENT_NAME = "Interject"
"""What authorization servers show people of us."""

MAX_FILE = 1_000_000
"""Bytes of a file that is read."""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What an authorization server knows us as, where it does not register clients by itself; `scope` is what is asked
    for ("": what the server says)."""

    client_id: str = ""
    client_secret: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Callback:
    """What the authorization server sent back with the person: a code for tokens."""

    code: str
    state: str
    issuer: str | None = None


class Link(Protocol):
    """The way to one person who is to sign in.

    `redirect_uri` is where the authorization server sends them back to: None where no browser of theirs could come
    back, so that they sign in with a code (device flow). `document` is the URL at which it can read what client this
    is, None if there is none. `without_code` says what to do instead where the server offers no sign-in with a code.
    """

    redirect_uri: str | None
    document: str | None
    without_code: str

    async def show(self, url: str) -> None:
        """Shows the person the page of the authorization server at which they sign in. Raises `McpError`."""

    async def show_code(self, url: str, code: str, seconds: float) -> None:
        """Shows the person the page at which they enter the code, on any device, within this time. Raises
        `McpError`."""

    async def returned(self) -> Callback:
        """What the person came back with. Raises `McpError` if they refuse, or if it takes too long. After `show_code`
        nobody comes back: it ends with the link."""


class OpenLink(Protocol):
    async def __call__(self, server: str, asked: HookContext, *, personal: bool) -> Link:
        """A link for the person who asked, to sign in at a server: for themselves if it is `personal`, else for
        everybody. Raises `McpError` with what to do instead."""


class Account:
    """The sign-in of everybody, or of one person, at one MCP server. Methods block for a small file."""

    def __init__(self, file: Path, url: str, client: ClientSettings | None = None) -> None:
        self.file = file
        self.url = url
        self.client = client or ClientSettings()
        self.refused = False
        """Whether the server wants a sign-in that it has not got."""

    @property
    def signed_in(self) -> bool:
        return self.file.exists()

    @property
    def version(self) -> tuple[int, int] | None:
        """Another one after each sign-in; None while nobody is signed in."""
        try:
            found = self.file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def read(self) -> dict[str, Any]:
        """What was written last; nothing if there is none, or if the file cannot be read any more."""
        try:
            if self.file.stat().st_size > MAX_FILE:
                return {}
            kept = json.loads(self.file.read_bytes())
        except (OSError, ValueError):
            return {}
        return kept if isinstance(kept, dict) and kept.get("url") == self.url else {}

    def write(self, kept: dict[str, Any]) -> None:
        """Replaces the file as a whole: a crash leaves the old one or the new one. Raises `OSError`."""
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.file.with_suffix(f".{os.getpid()}.new")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump({"url": self.url, **kept}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self.file)
        self.refused = False

    def forget(self) -> bool:
        """Signs out here; whether somebody was signed in. Raises `OSError`."""
        try:
            self.file.unlink()
        except FileNotFoundError:
            return False
        return True


class Accounts:
    """The folder of all accounts: `NAME.json` of a server, `NAME.PERSON.json` with a hash in the place of the person.

    Called, it gives the secrets in it, for masking.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._secrets: frozenset[str] = frozenset()
        self._version = 0

    def shared(self, server: str, url: str, client: ClientSettings) -> Account:
        return Account(self._folder / f"{server}.json", url, client)

    def personal(self, server: str, person: str, url: str, client: ClientSettings) -> Account:
        """`person` is "channel:id"."""
        return Account(self._folder / f"{server}.{_hash(person)}.json", url, client)

    def of_person(self, person: str) -> list[Account]:
        """All of the person ("channel:id"), also at servers that are no longer in the settings."""
        return [Account(file, _url_in(file)) for file in self._folder.glob(f"*.{_hash(person)}.json")]

    def signed_in(self, server: str) -> int:
        """How many sign-ins there are: at most one if it is not per person."""
        return len([*self._folder.glob(f"{server}.json"), *self._folder.glob(f"{server}.*.json")])

    def __call__(self) -> frozenset[str]:
        """Reads the files again when one of them has been replaced."""
        with suppress(OSError):
            version = self._folder.stat().st_mtime_ns
            if version != self._version:
                self._secrets = frozenset(
                    secret for file in self._folder.glob("*.json") for secret in _secrets_in(file)
                )
                self._version = version
        return self._secrets


def _secrets_in(file: Path) -> tuple[str, ...]:
    """None of a file that is no longer there, or is none of ours."""
    try:
        return tuple(_secrets(json.loads(file.read_bytes())))
    except (OSError, ValueError):
        return ()


def _secrets(kept: object) -> Iterator[str]:
    if isinstance(kept, dict):
        for key, value in kept.items():
            if isinstance(value, str) and key in ("access_token", "refresh_token", "client_secret"):
                yield value
            else:
                yield from _secrets(value)


def _url_in(file: Path) -> str:
    """The server of the account; "" if the file cannot be read."""
    try:
        return str(json.loads(file.read_bytes())["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def tools_file(account: Path) -> Path:
    """Where the tools are kept that an account was offered last."""
    return account.with_suffix(".tools")


def _hash(person: str) -> str:
    return sha256(person.encode()).hexdigest()[:32]
