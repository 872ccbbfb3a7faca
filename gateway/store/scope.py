"""Scopes: what a write belongs to, and so what else must not be written at the same time.

The scope of a new operation follows from what it *decides*. In PostgreSQL a statement sees what was committed before it
began (READ COMMITTED): what one statement has read may have changed when the next one writes. So

- an operation that reads rows and writes because of them needs a scope in which everybody writes such rows: those of a
  conversation `OfSession` (or `OfTurn`, `OfMessage`, which are looked up), those of a table that belongs to nobody
  `OfTable`;
- one that only reads, only inserts, or decides within one statement (`UPDATE ... WHERE`, `ON CONFLICT`) is `Apart`;
- one that decides over rows of several conversations is `Whole`. It stops all writing of all processes, so nothing may
  be `Whole` that happens with each message or step.

Rows that come with others in one transaction (usage, audit, uses of media) are inserted only and need nothing. A number
that the database has given is no order of commits: who reads on from the last one looks back a little.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(frozen=True, slots=True)
class Whole:
    """Anything: nothing else is written meanwhile."""


@dataclass(frozen=True, slots=True)
class OfSession:
    """A conversation with all tasks that are delegated in it. Its writes take place one after another, and so do those
    that name the same `person`, of whose rows they decide too ("": of nobody's), or the same `table`, as with `OfTable`
    ("": none)."""

    key: str
    person: str = ""
    table: str = ""


@dataclass(frozen=True, slots=True)
class OfTurn:
    """The conversation of the turn with this id."""

    id: str


@dataclass(frozen=True, slots=True)
class OfMessage:
    """The conversation of the message with this inbox id."""

    id: int


@dataclass(frozen=True, slots=True)
class Apart:
    """Rows of its own, which no operation reads to decide about others. Those of this process with the same name follow
    one another; they run beside all others but `Whole` ones."""

    name: str


@dataclass(frozen=True, slots=True)
class OfTable:
    """Rows of no conversation, which operations read to decide about others of them: writes with the same name take
    place one after another, beside all others but `Whole` ones."""

    name: str


@dataclass(frozen=True, slots=True)
class Urgent:
    """One statement on rows of this process, such as its lease. It waits for nobody, not even for `Whole` writes, which
    may take longer than a lease."""


Scope = Whole | OfSession | OfTurn | OfMessage | OfTable | Apart | Urgent


def group_of(scope: Scope) -> Scope:
    """Those writes of a process whose scopes have the same group are run in the order of the calls."""
    return OfSession(scope.key) if isinstance(scope, OfSession) and (scope.person or scope.table) else scope


ScopeOf = Callable[[tuple[Any, ...], dict[str, Any]], Scope]
"""The scope of one call, from its arguments."""

Rule = Callable[[Callable[..., Any], int], ScopeOf]
"""How calls of an operation get their scope; the number is that of its first arguments which its callers do not give
(the connection, the worker)."""

WHOLE = Whole()


def whole(operation: Callable[..., Any], injected: int) -> ScopeOf:
    return lambda args, kwargs: WHOLE


def by(name: str, make: Callable[[Any], Scope]) -> Rule:
    """The scope is made from the argument with this name."""

    def rule(operation: Callable[..., Any], injected: int) -> ScopeOf:
        argument = _argument(operation, injected, name)
        return lambda args, kwargs: make(argument(args, kwargs))

    return rule


def _argument(
    operation: Callable[..., Any], injected: int, name: str
) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """Finds the operation's argument with this name in a call, which may leave it out if it has a default."""
    parameters = inspect.signature(operation).parameters
    place, default = list(parameters).index(name) - injected, parameters[name].default

    def argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if place < len(args):
            return args[place]
        return kwargs[name] if name in kwargs or default is inspect.Parameter.empty else default

    return argument


def always(scope: Scope) -> Rule:
    return lambda operation, injected: lambda args, kwargs: scope


def apart(name: str) -> Rule:
    """The operation's rows are apart from all others, under this name."""
    return always(Apart(name))


urgent = always(Urgent())
of_pairs = always(OfTable("pairs"))
of_keys = always(OfTable("keys"))
of_notes = always(OfTable("notes"))
of_identities = always(OfTable("identities"))
of_spending = always(OfTable("spending"))
of_workers = always(OfTable("workers"))
of_settings = always(OfTable("settings"))
of_sign_ins = always(OfTable("sign-ins"))


def by_arrival(operation: Callable[..., Any], injected: int) -> ScopeOf:
    """The conversation of the arriving message, with its sender if their messages are counted."""
    message, session, options = (_argument(operation, injected, name) for name in ("message", "session", "options"))

    def scope(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scope:
        arriving, counts = message(args, kwargs), options(args, kwargs).limit is not None
        return OfSession(session(args, kwargs), f"{arriving.address.channel}:{arriving.sender.id}" if counts else "")

    return scope


by_session = by("session", OfSession)
by_session_in_slots = by("session", partial(OfSession, table="slots"))
by_turn = by("turn_id", OfTurn)
by_command = by("command_id", OfMessage)
by_row = by("row_id", OfMessage)
by_reply = by("reply_id", Apart)
