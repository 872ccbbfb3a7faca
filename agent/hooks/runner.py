"""The protocol between the chain of hooks and the code of one hook, wherever it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from agent.hook import HookContext, Point, Ruling, Subject


class HookError(Exception):
    """The hook cannot be used, failed, or broke the rules. The message tells the operator what and why."""


class Runner(Protocol):
    """Runs one hook's code while entered. The caller limits the time, by cancelling."""

    @property
    def problem(self) -> str:
        """Why it cannot be asked at the moment; "" if it can, or begins to run."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def ask(self, point: Point, context: HookContext, subject: Subject) -> Subject | Ruling | None:
        """The hook's unchecked answer: None to continue, or a changed subject of the same type, or a ruling.

        Raises `HookError`, and whatever the hook's own code raises.
        """

    async def observe(self, context: HookContext, event: Mapping[str, Any]) -> None:
        """Passes an event to the hook. Raises as `ask` does."""


class Running:
    """Implements `Runner` for one that somebody else has entered, and leaves."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    @property
    def problem(self) -> str:
        return self._runner.problem

    async def __aenter__(self) -> Running:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """It runs on."""

    async def ask(self, point: Point, context: HookContext, subject: Subject) -> Subject | Ruling | None:
        return await self._runner.ask(point, context, subject)

    async def observe(self, context: HookContext, event: Mapping[str, Any]) -> None:
        await self._runner.observe(context, event)
