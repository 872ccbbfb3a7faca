"""Which settings a running gateway takes over when it reloads, and which at its next start only."""

from __future__ import annotations

from collections.abc import Set
from secrets import token_hex

from config.fingerprint import fingerprints
from config.settings import Settings

AT_START = (
    "agent.shutdown_grace",
    "store.url",
    "store.lease",
    "media.path",
    "media.url",
    "media.cache_bytes",
    "media.s3",
    "web.enabled",
    "web.host",
    "web.port",
    "web.url",
    "web.trusted_header",
    "web.trusted_proxies",
    "web.trusted_case_sensitive",
    "logging.format",
    "telemetry.endpoint",
    "telemetry.headers",
    "telemetry.content",
    "metrics.public",
)
"""The settings that take effect at a start only. All others do at a reload."""


def in_force(running: Settings, new: Settings) -> Settings:
    """The new settings as a gateway with the running ones can take them over."""
    for key in AT_START:
        name, _, setting = key.partition(".")
        kept = getattr(getattr(running, name), setting)
        new = new.model_copy(update={name: getattr(new, name).model_copy(update={setting: kept})})
    return new


def changed(before: Settings, after: Settings) -> tuple[str, ...]:
    """The settings that differ, as people write them, in alphabetical order: "[agent] model", "[agents.x] (new)"."""
    salt = token_hex(8)
    old, new = fingerprints(before, salt), fingerprints(after, salt)
    sections = {_section(key) for key in old}, {_section(key) for key in new}
    return tuple(sorted({_named(key, *sections) for key in {*old, *new} if old.get(key) != new.get(key)}))


def _section(key: str) -> str:
    return key.rpartition(".")[0]


def _named(key: str, before: Set[str], after: Set[str]) -> str:
    section, _, setting = key.rpartition(".")
    if not section:
        return setting
    if section not in before:
        return f"[{section}] (new)"
    return f"[{section}] {setting}" if section in after else f"[{section}] (removed)"
