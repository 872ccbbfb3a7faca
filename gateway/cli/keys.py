"""`interject keys`: makes, lists and revokes keys of the control API; works beside a running gateway."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from config.age import parse_age
from config.load import Configuration
from gateway.outbound.wording import plain
from gateway.store import offline
from gateway.store.errors import StoreError
from gateway.store.records import ApiKey, ApiKeyScope


def create(
    configuration: Configuration,
    name: str,
    scope: ApiKeyScope,
    *,
    agents: Sequence[str] | None,
    conversations: Sequence[str] | None,
    expires: str | None,
) -> int:
    """Prints the secret alone on standard output. Returns the exit code: 2 for a wrong name or time."""
    lifetime = None if expires is None else parse_age(expires)
    if expires is not None and lifetime is None:
        sys.stderr.write(f"interject: --expires {expires}: expected an age like 90d, 12h or 1y\n")
        return 2
    until = None if lifetime is None else datetime.now(UTC) + lifetime
    try:
        new = offline.create_api_key(
            configuration.settings.store.url, name, scope, agents=agents, conversations=conversations, expires_at=until
        )
    except ValueError as error:
        sys.stderr.write(f"interject: {error}\n")
        return 2
    except StoreError as error:
        sys.stderr.write(f"interject: {error}\n")
        return 1
    sys.stderr.write(f"Key {new.key.id} is made. Its secret is not shown again:\n")
    sys.stdout.write(f"{new.secret}\n")
    return 0


def show(configuration: Configuration, *, as_json: bool) -> int:
    """Returns the exit code."""
    try:
        keys = offline.api_keys(configuration.settings.store.url)
    except StoreError as error:
        sys.stderr.write(f"interject: {error}\n")
        return 1
    if not keys and not as_json:
        sys.stderr.write("No keys. `interject keys create --name NAME --scope chat` makes one.\n")
    now = datetime.now(UTC)
    sys.stdout.write("".join(f"{json.dumps(_data(key, now)) if as_json else _line(key, now)}\n" for key in keys))
    return 0


def revoke(configuration: Configuration, key: str) -> int:
    """Returns the exit code: 1 if there is no such key. What it has running is stopped within seconds."""
    try:
        revoked = offline.revoke_api_key(configuration.settings.store.url, key)
    except StoreError as error:
        sys.stderr.write(f"interject: {error}\n")
        return 1
    if revoked is None:
        sys.stderr.write(
            f"interject: there is no valid key {plain(key)}; `interject keys list` shows the ids of all keys\n"
        )
        return 1
    stopped = sum(len(each.stops) for each in revoked)
    sys.stdout.write(f"Revoked: the key {key} is not accepted any more; {stopped} running tasks are stopped.\n")
    return 0


def _line(key: ApiKey, now: datetime) -> str:
    limits = [f"agents {', '.join(key.agents)}"] if key.agents is not None else []
    limits += [f"conversations {', '.join(key.conversations)}"] if key.conversations is not None else []
    used = "never used" if key.used_at is None else f"last used {key.used_at:%Y-%m-%d %H:%M}"
    return f"{key.id}  {key.state(now):8}{key.scope:8}  {plain(key.name)}  {'; '.join([used, *map(plain, limits)])}"


def _data(key: ApiKey, now: datetime) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scope": key.scope,
        "state": key.state(now),
        "agents": key.agents,
        "conversations": key.conversations,
        "created_at": key.created_at.isoformat(),
        "created_by": key.created_by,
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
        "used_at": None if key.used_at is None else key.used_at.isoformat(),
    }
