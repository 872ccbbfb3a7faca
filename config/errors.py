"""Errors in a configuration, in words for the person who wrote it.

ConfigurationError
└── has one Problem for each error
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Key = tuple[str | int, ...]
"""The path of a setting: the names of the tables around it, its own name, and its index in a list."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An invalid value at a key, before its place in the file is known."""

    key: Key
    wrong: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A key that is not a setting."""

    key: Key


@dataclass(frozen=True, slots=True)
class Problem:
    """One error: its place ("interject.toml:7"), its dotted key, and an explanation.

    Never contains a setting's value: a mistyped value may be a secret.
    """

    wrong: str
    key: str = ""
    place: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.key, self.wrong) if part)


class ConfigurationError(Exception):
    """The configuration is invalid. The message has one line for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def dotted(key: Key) -> str:
    """The key as written in TOML, with list indexes in brackets."""
    written = "".join(f"[{part}]" if isinstance(part, int) else f".{_quoted(part)}" for part in key)
    return written.removeprefix(".")


def _quoted(name: str) -> str:
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else json.dumps(name, ensure_ascii=False)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The most similar known word, or None."""
    import difflib  # only errors need it; it would slow down every start

    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)), None)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint for an unknown word: the most similar known word, or all known words."""
    near = nearest(word, known)
    return f'Did you mean "{near}"?' if near else f"Known: {', '.join(known)}."
