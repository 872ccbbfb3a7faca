"""Fingerprints of settings, by which a start knows what was changed since the last, without storing a value."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr

from config.section import Section
from config.settings import Settings

_LENGTH = 16


def fingerprints(settings: Settings, salt: str) -> dict[str, str]:
    """A salted hash of each effective setting, by its key, like `agent.model`."""
    return {key: _hash(salt, value) for key, value in _values((), settings)}


def fingerprint(hashes: Mapping[str, str]) -> str:
    """One hash of all settings."""
    return _hash("", "\n".join(f"{key} {value}" for key, value in sorted(hashes.items())))


def _values(at: tuple[str, ...], value: object) -> Iterator[tuple[str, str]]:
    match value:
        case Section():
            for name, inner in value:
                yield from _values((*at, name), inner)
        case dict():
            for name, inner in value.items():
                yield from _values((*at, str(name)), inner)
        case list() if any(isinstance(inner, Section) for inner in value):
            for number, inner in enumerate(value):
                yield from _values((*at, str(number)), inner)
        case _:
            yield ".".join(at), _text(value)


def _text(value: object) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case list():
            return repr([_text(inner) for inner in value])
        case Path() | timedelta():
            return str(value)
        case _:
            return repr(value)


def _hash(salt: str, text: str) -> str:
    return hashlib.sha256(f"{salt}\0{text}".encode(errors="replace")).hexdigest()[:_LENGTH]
