"""Toolsets: where the tools of an agent come from, and policies around them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from fnmatch import fnmatchcase
from typing import Protocol

from agent.tool import Tool

_WILDCARD = re.compile(r"[*?\[]")


class Toolset(Protocol):
    """Any iterable of tools; a tuple of them is the simplest one.

    It is iterated anew at each step of a turn, because the tools of a server, or of a file that was edited, may change
    in the middle of a conversation. Iterating it does no I/O.
    """

    def __iter__(self) -> Iterator[Tool]: ...


class Combined:
    """The tools of several toolsets, in their order. Of two tools with the same name, the first one counts."""

    def __init__(self, *toolsets: Toolset) -> None:
        self._toolsets = toolsets

    def __iter__(self) -> Iterator[Tool]:
        names: set[str] = set()
        for toolset in self._toolsets:
            for tool in toolset:
                if tool.name not in names:
                    names.add(tool.name)
                    yield tool


class Filtered:
    """The tools of a toolset that pass a test."""

    def __init__(self, toolset: Toolset, keep: Callable[[Tool], bool]) -> None:
        self._toolset = toolset
        self._keep = keep

    def __iter__(self) -> Iterator[Tool]:
        return filter(self._keep, self._toolset)


class Changed:
    """The tools of a toolset as `change` returns them: with other rules, or another name. Each tool is changed once."""

    def __init__(self, toolset: Toolset, change: Callable[[Tool], Tool]) -> None:
        self._toolset = toolset
        self._change = change
        self._changed: dict[int, tuple[Tool, Tool]] = {}
        """Both forms of each tool, by the identity of the given one, which the entry keeps alive."""

    def __iter__(self) -> Iterator[Tool]:
        self._changed = {id(tool): self._changed.get(id(tool)) or (tool, self._change(tool)) for tool in self._toolset}
        return iter([changed for _, changed in self._changed.values()])


_person: ContextVar[str] = ContextVar("_person", default="")


class ForPerson:
    """The tools of a toolset as they are for one person ("channel:id"), where some of them are a person's own."""

    def __init__(self, toolset: Toolset, person: str) -> None:
        self._toolset = toolset
        self._for = person

    def __iter__(self) -> Iterator[Tool]:
        before = _person.set(self._for)
        try:
            return iter(tuple(self._toolset))
        finally:
            _person.reset(before)


def current_person() -> str:
    """For toolsets with tools that are a person's own: whose are asked for; "" for nobody's."""
    return _person.get()


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns is the name, or fits it: `github_*` fits `github_search`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def may_match(prefix: str, patterns: Iterable[str]) -> bool:
    """Whether a name that begins so may fit one of the patterns. Of a wildcard only where it begins is looked at."""
    heads = (_WILDCARD.split(pattern, maxsplit=1) for pattern in patterns)
    return any(head.startswith(prefix) or (bool(rest) and prefix.startswith(head)) for head, *rest in heads)
