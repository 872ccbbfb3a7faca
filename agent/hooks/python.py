"""Hooks as Python classes in this process: methods named like the points, each with context and subject."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent.gate import one_line
from agent.hook import Hook, HookContext, Point, Ruling, Subject, ToolCall
from agent.hooks.runner import HookError
from agent.python_objects import LoadError, answer_of, load_object

GROUP = "interject.hooks"
"""The entry point group in which packages register hooks."""

Method = Callable[[HookContext, Any], Awaitable[Any]]


class PythonHook:
    """Calls an object's methods. A method that ignores its cancellation is abandoned, as with tools."""

    problem = ""

    def __init__(self, methods: Mapping[Point, Method]) -> None:
        self._methods = methods

    async def __aenter__(self) -> PythonHook:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def ask(self, point: Point, context: HookContext, subject: Subject) -> Subject | Ruling | None:
        answer: Subject | Ruling | None = await self._call(point, context, _copy(subject))
        return answer

    async def observe(self, context: HookContext, event: Mapping[str, Any]) -> None:
        await self._call("on_event", context, event)

    async def _call(self, point: Point, context: HookContext, subject: object) -> Any:
        return await answer_of(self._methods[point](context, subject), HookError)


def python_hook(path: str, points: Sequence[Point]) -> PythonHook:
    """Loads "module:Class", "folder/file.py:Class" or the name of an entry point, and creates one object of the class.

    Raises `HookError` if that fails, and for a point for which the class has no async method.
    """
    hook = _create(path, _load(path))
    return PythonHook({point: _method(path, hook, point) for point in points})


def _copy(subject: Subject) -> Subject:
    """A copy whose mutable parts the hook may change."""
    if not isinstance(subject, ToolCall):
        return subject
    return replace(subject, arguments=copy.deepcopy(subject.arguments), tools=dict(subject.tools))


def _load(path: str) -> Any:
    try:
        return load_object(path, GROUP)
    except LoadError as error:
        line = f" (line {error.line} of {error.file})" if error.line else ""
        raise HookError(f"{path!r} cannot be loaded: {error}{line}") from error


def _create(path: str, found: Any) -> object:
    if not isinstance(found, type):
        raise HookError(f"{path!r} is a {type(found).__name__}, not a class")
    try:
        return found()
    except (Exception, SystemExit) as error:
        raise HookError(f"{path!r} cannot be created: {type(error).__name__}: {one_line(error)}") from error


def _method(path: str, hook: object, point: Point) -> Method:
    method = getattr(hook, point, None)
    if method is None or getattr(method, "__func__", None) is getattr(Hook, point):
        raise HookError(f"{path!r} is registered at {point}, but has no method of that name")
    if not inspect.iscoroutinefunction(method):
        raise HookError(f"{point} of {path!r} must be an async method: async def {point}(self, context, subject)")
    found: Method = method
    return found
