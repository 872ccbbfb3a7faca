"""The chain of hooks: their order, their timeouts, and the handling of failures."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from agent.gate import one_line
from agent.hook import Ask, Deny, End, HookContext, Point, Respond, Ruled, Ruling, Stop, Subject
from agent.hooks.observer import Observer
from agent.hooks.rules import check_answer, denial
from agent.hooks.runner import HookError, Runner
from agent.interrupt import cancel_and_wait

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Subject)

OnError = Literal["open", "closed"]
"""A hook that fails open is ignored; one that fails closed denies."""


@dataclass(frozen=True, slots=True)
class RegisteredHook:
    """One hook: its code and its points.

    Hooks run in the order of `priority`, lowest first, then by name. `timeout` is in seconds per call. `on_error` None:
    closed at approve_tool, open elsewhere. `trusted`: its response for a tool needs no approval.
    """

    name: str
    runner: Runner
    points: tuple[Point, ...]
    priority: int = 100
    timeout: float = 5.0
    on_error: OnError | None = None
    trusted: bool = False


HookOutcome = Literal["continue", "changed", "respond", "ask", "deny", "end", "stop", "failed"]
"""What a hook decided. `failed`: it raised or timed out, whatever that stands for."""


@dataclass(frozen=True, slots=True)
class HookAnswered:
    """A hook was asked at a point, and took so many seconds."""

    hook: str
    point: Point
    outcome: HookOutcome
    seconds: float


def _untold(answered: HookAnswered) -> None:
    """For whoever does not measure."""


class HookChain:
    """All hooks of a gateway (`agent.hook.Hooks`), running while entered. `answered` is told of each answer, and never
    raises. Raises `HookError` for duplicate names."""

    def __init__(self, hooks: Sequence[RegisteredHook], answered: Callable[[HookAnswered], None] = _untold) -> None:
        self._answered = answered
        self._hooks = sorted(hooks, key=lambda hook: (hook.priority, hook.name))
        _check_names(self._hooks)
        points: tuple[Point, ...] = get_args(Point)
        self._at = {point: [hook for hook in self._hooks if point in hook.points] for point in points}
        self._observers = [Observer(hook.name, hook.runner, hook.timeout) for hook in self._at["on_event"]]
        self._running = contextlib.AsyncExitStack()

    async def __aenter__(self) -> HookChain:
        async with contextlib.AsyncExitStack() as opening:
            for hook in self._hooks:
                await opening.enter_async_context(hook.runner)
            if self._observers:
                serving = [asyncio.create_task(observer.serve()) for observer in self._observers]
                opening.push_async_callback(_stop_observers, self._observers, serving)
            self._running = opening.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._running.aclose()

    @property
    def problems(self) -> dict[str, str]:
        """Why hooks cannot be asked at the moment, by name."""
        return {hook.name: hook.runner.problem for hook in self._hooks if hook.runner.problem}

    def active(self, point: Point) -> bool:
        return bool(self._at[point])

    async def ask(self, point: Point, context: HookContext, subject: S) -> tuple[S, Ruled | None]:
        asked: Ruled | None = None
        for hook in self._at[point]:
            answer = await self._measured(hook, point, context, subject)
            if isinstance(answer, Deny | End | Stop) or (isinstance(answer, Respond) and asked is None):
                return subject, Ruled(answer, hook.name, hook.trusted)
            if isinstance(answer, Ask):
                asked = asked or Ruled(answer, hook.name, hook.trusted)
            elif not isinstance(answer, Respond):
                subject = answer
        return subject, asked

    def observe(self, context: HookContext, event: Mapping[str, Any]) -> None:
        for observer in self._observers:
            observer.put(context, event)

    async def _measured(self, hook: RegisteredHook, point: Point, context: HookContext, subject: S) -> S | Ruling:
        since = time.monotonic()
        answer, failed = await _ask(hook, point, context, subject)
        outcome = "failed" if failed else _outcome(subject, answer)
        self._answered(HookAnswered(hook.name, point, outcome, time.monotonic() - since))
        return answer


def _outcome(subject: Subject, answer: Subject | Ruling) -> HookOutcome:
    match answer:
        case Respond():
            return "respond"
        case Ask():
            return "ask"
        case Deny():
            return "deny"
        case End():
            return "end"
        case Stop():
            return "stop"
        case _:
            return "continue" if answer == subject else "changed"


async def _ask(hook: RegisteredHook, point: Point, context: HookContext, subject: S) -> tuple[S | Ruling, bool]:
    """The hook's answer, or the answer that its failure stands for; whether it failed. Catches whatever a hook
    raises."""
    limit = asyncio.timeout(hook.timeout)
    try:
        async with limit:
            answer = await hook.runner.ask(point, context, subject)
        return check_answer(point, subject, answer), False
    except HookError as error:
        why = str(error)
    except Exception as error:
        if limit.expired():
            why = f"it timed out after {hook.timeout:g} s"
        else:
            why = f"{type(error).__name__}: {one_line(error)}"
            log.exception("hook %s raised at %s", hook.name, point)
    closed = point == "approve_tool" if hook.on_error is None else hook.on_error == "closed"
    log.warning("hook %s failed at %s, treated as %s: %s", hook.name, point, "denied" if closed else "continue", why)
    return (denial(point, f"the hook {hook.name!r} failed: {why}") if closed else subject), True


def _check_names(hooks: Sequence[RegisteredHook]) -> None:
    names = [hook.name for hook in hooks]
    for name in names:
        if names.count(name) > 1:
            raise HookError(f"there are two hooks named {name!r}; hook names must be unique")


async def _stop_observers(observers: Sequence[Observer], serving: Sequence[asyncio.Task[None]]) -> None:
    try:
        await asyncio.gather(*(observer.finish() for observer in observers))
    finally:
        await cancel_and_wait(*serving)
