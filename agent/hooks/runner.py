"""What the chain of hooks knows of a hook: code that is asked and told, wherever it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from agent.hook import Point, Ruling, Subject, HookContext


class HookError(Exception):
    """The hook cannot be used, failed, or does what it may not. The message tells the operator what and why."""


class Runner(Protocol):
    """Runs one hook's code, while it is entered. Whoever calls it bounds the time, by cancelling."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def ask(self, point: Point, context: HookContext, subject: Subject) -> Subject | Ruling | None:
        """What the hook makes of the subject, unchecked: None goes on, a subject of the same type changes it.

        Raises `HookError`, and whatever the hook's own code raises.
        """

    async def observe(self, context: HookContext, event: Mapping[str, Any]) -> None:
        """Shows it an event. Raises as `ask` does."""


def shortened(words: object, most: int = 300) -> str:
    """Foreign words on one line without control characters, bounded, for logs and reasons."""
    text = "".join(character if character.isprintable() else " " for character in str(words)[: 4 * most])
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}…"
