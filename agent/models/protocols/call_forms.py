"""Ids and names of calls in the forms that the protocols take, whatever the log holds."""

from __future__ import annotations

import hashlib
import re

MAX_NAME_LENGTH = 64
MAX_ID_LENGTH = 40

_SHORT_ID = re.compile(r"[a-zA-Z0-9]{9}")
_PLAIN_ID = re.compile(rf"[a-zA-Z0-9_-]{{1,{MAX_ID_LENGTH}}}")
_NAME = re.compile(rf"[a-zA-Z0-9_-]{{1,{MAX_NAME_LENGTH}}}")
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")


def short_id(id: str) -> str:
    """The id as nine letters or digits, the same for the same id."""
    return id if _SHORT_ID.fullmatch(id) else _digest(id)[:9]


def plain_id(id: str) -> str:
    """The id in the characters, and of the length, that every protocol takes, the same for the same id."""
    return id if _PLAIN_ID.fullmatch(id) else _digest(id)[:MAX_ID_LENGTH]


def plain_name(name: str) -> str:
    """The name in the characters, and of the length, that every protocol takes."""
    return name if _NAME.fullmatch(name) else _NOT_IN_NAMES.sub("_", name)[:MAX_NAME_LENGTH] or "unknown"


def _digest(id: str) -> str:
    return hashlib.sha256(id.encode(errors="replace")).hexdigest()
