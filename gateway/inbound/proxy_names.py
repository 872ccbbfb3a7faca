"""Ids of people whom a proxy signs in: names that differ in small and capital letters only mean the same person.

Names are compared in the way of RFC 8265 (section 3.3, UsernameCaseMapped): in lower case, and in Unicode's form NFC.
The id is the name in that form, so that all workers agree on it. A person who has conversations under another spelling,
from a time in which each was a person of its own, keeps it as their id.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from unicodedata import normalize


def folded(name: str) -> str:
    """The same for all spellings of a name."""
    return normalize("NFC", name.lower())


class ProxyNames:
    def __init__(self, *, case_sensitive: bool = False, known: Mapping[str, datetime] | None = None) -> None:
        """`known` are the ids of people who have conversations, with the time of the newest one."""
        self._case_sensitive = case_sensitive
        self._spellings: dict[str, list[str]] = {}
        for name in sorted(known or (), key=(known or {}).__getitem__, reverse=True):
            self._spellings.setdefault(folded(name), []).append(name)

    def ids(self, name: str) -> tuple[str, ...]:
        """The id of the person, that with the newest conversation, and then others whose conversations are theirs."""
        if self._case_sensitive:
            return (name,)
        return tuple(self._spellings.get(folded(name), ())) or (folded(name),)
