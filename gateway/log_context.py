"""What the work in progress is about, for the log: set where work begins, inherited by the tasks that it starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class About:
    """Ids; "" where there is none. `run` is the turn that a person began: of a delegated task, another than `turn`."""

    channel: str = ""
    session: str = ""
    turn: str = ""
    run: str = ""


_about: ContextVar[About] = ContextVar("about", default=About())  # noqa: B039  # it is frozen


def about() -> About:
    return _about.get()


def work_is_about(now: About) -> None:
    """For the rest of the current task."""
    _about.set(now)


@contextmanager
def in_conversation(channel: str, session: str) -> Iterator[None]:
    """What is done meanwhile is about this conversation."""
    before = _about.set(replace(_about.get(), channel=channel, session=session))
    try:
        yield
    finally:
        _about.reset(before)
