"""What is wrong with a configuration, told to the person who wrote it.

ConfigurationError
└── carries one Problem for each thing that is wrong
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Key = tuple[str | int, ...]
"""Where a setting stands: the names of the tables around it, its own name, and its index in a list."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the value at a key, before it is known where that was written."""

    key: Key
    wrong: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A key that is no setting."""

    key: Key


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where it was written ("interject.toml:7"), its dotted key, and what to do.

    Carries no value of any setting: what was mistyped may be a secret.
    """

    wrong: str
    key: str = ""
    place: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.key, self.wrong) if part)


class ConfigurationError(Exception):
    """The configuration cannot be used. Reads as one line for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def dotted(key: Key) -> str:
    """The key as one writes it in TOML, with list indexes in brackets."""
    written = "".join(f"[{part}]" if isinstance(part, int) else f".{_quoted(part)}" for part in key)
    return written.removeprefix(".")


def _quoted(name: str) -> str:
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else json.dumps(name, ensure_ascii=False)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    import difflib  # only a refusal needs it, and the start of the gateway need not wait for it

    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)), None)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint for a word that is not among the known ones: the nearest, or all of them."""
    near = nearest(word, known)
    return f'Did you mean "{near}"?' if near else f"Known: {', '.join(known)}."
