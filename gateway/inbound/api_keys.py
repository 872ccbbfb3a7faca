"""Programs with a key of the control API: whose secret is whose, and what their messages may do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from gateway.store.api_keys import SENDER, id_in, is_secret_of
from gateway.store.records import ApiKey, ApiKeyScope
from gateway.turns.roles import Role

MAX_AGE = 1.0
"""Seconds for which the keys are not read again: a key that another process revokes works no longer."""

USED_EVERY = 60.0
"""Seconds between two notes that a key is used."""

OWNER = f"{SENDER}owner"
"""The sender of what the owner of the web chat writes in conversations of other channels."""

_ROLES: Mapping[ApiKeyScope, Role | None] = {"read": None, "chat": "member", "operate": "admin", "admin": "admin"}

UNKNOWN_AGE = 0.05
"""Seconds until the keys are read again for a key that is not among them."""


class KeyStore(Protocol):
    async def api_keys(self) -> tuple[ApiKey, ...]: ...
    async def note_key_used(self, key: str) -> None: ...


class ApiKeys:
    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._keys: dict[str, ApiKey] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._noted: dict[str, float] = {}

    async def load(self) -> None:
        """Reads the keys, unless that was done a moment ago. Raises `StoreError`."""
        if time.monotonic() - self._read_at < MAX_AGE:
            return
        async with self._reading:
            if time.monotonic() - self._read_at >= MAX_AGE:
                await self._read()

    async def reload(self) -> None:
        """Reads the keys, whenever that was done last. Raises `StoreError`."""
        async with self._reading:
            await self._read()

    def forget(self) -> None:
        """The keys have changed."""
        self._read_at = float("-inf")

    async def find(self, secret: str) -> ApiKey | None:
        """The valid key with this secret. Raises `StoreError`."""
        id = id_in(secret)
        if id is None:
            return None
        await self.load()
        if id not in self._keys and time.monotonic() - self._read_at > UNKNOWN_AGE:
            # It may have been made since, by a command or another worker.
            await self.reload()
        key = self._keys.get(id)
        if key is None or not key.is_valid(datetime.now(UTC)) or not is_secret_of(key, secret):
            return None
        await self._note_used(key)
        return key

    def is_program(self, sender: str) -> bool:
        """Whether the id of a sender is one of a program, whatever its key is worth."""
        return sender.startswith(SENDER)

    def role(self, sender: str) -> Role | None:
        """The role of a program with this sender id; None: its key lets it write nothing, or is no longer valid."""
        if sender == OWNER:
            return "admin"
        key = self._valid(sender)
        return None if key is None else _ROLES[key.scope]

    def oversees(self, sender: str) -> bool:
        """Whether a program with this sender id is an admin in all conversations, for all agents."""
        key = self._valid(sender)
        is_unlimited = key is not None and key.conversations is None and key.agents is None
        return sender == OWNER or (is_unlimited and self.role(sender) == "admin")

    def manages(self, sender: str) -> bool:
        """Whether it oversees, and may decide on people and settings."""
        key = self._valid(sender)
        return self.oversees(sender) and (key is None or key.scope == "admin")

    def _valid(self, sender: str) -> ApiKey | None:
        key = self._keys.get(sender.removeprefix(SENDER))
        return key if key is not None and key.is_valid(datetime.now(UTC)) else None

    async def _read(self) -> None:
        started = time.monotonic()
        self._keys = {key.id: key for key in await self._store.api_keys()}
        self._read_at = started

    async def _note_used(self, key: ApiKey) -> None:
        now = time.monotonic()
        if now - self._noted.get(key.id, float("-inf")) < USED_EVERY:
            return
        self._noted[key.id] = now
        await self._store.note_key_used(key.id)
