"""Which settings a running gateway takes over when it reloads, and which at its next start only."""

from __future__ import annotations

from collections.abc import Iterable
from secrets import token_hex

from config.fingerprint import fingerprints
from config.settings import Settings

AT_START = (
    "agent.shutdown_grace",
    "store.url",
    "media.path",
    "web.enabled",
    "web.host",
    "web.port",
    "web.url",
)
"""The settings that take effect at a start only. All others do at a reload."""


def in_force(running: Settings, new: Settings) -> Settings:
    """The new settings as a gateway with the running ones can take them over."""
    for key in AT_START:
        name, setting = key.split(".")
        section, before = getattr(new, name), getattr(running, name)
        section = section.model_copy(update={setting: getattr(before, setting)})
        new = new.model_copy(update={name: section})
    return new


def changed(before: Settings, after: Settings) -> tuple[str, ...]:
    """The keys of the settings that differ, like `agent.model`, in alphabetical order."""
    salt = token_hex(8)
    old, new = fingerprints(before, salt), fingerprints(after, salt)
    return tuple(sorted(key for key in {*old, *new} if old.get(key) != new.get(key)))


def as_sections(keys: Iterable[str]) -> tuple[str, ...]:
    """The keys as people write them: `[agent] model`."""
    return tuple(f"[{section}] {setting}" if section else setting for section, _, setting in map(_parts, keys))


def _parts(key: str) -> tuple[str, str, str]:
    return key.rpartition(".")
