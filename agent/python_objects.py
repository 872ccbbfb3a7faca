"""The operator's Python code: its objects, from a module, a file or an entry point of a package, and their answers."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import importlib
import importlib.util
import inspect
import linecache
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeVar

from agent.gate import one_line
from agent.interrupt import cancel_and_wait

T = TypeVar("T")

LOAD_TIME = 10.0
"""Seconds in which a file or module must have run."""

ENDLESS = (
    "it did not end within {seconds:g} seconds: code at its top, outside of functions, waits or loops. Move it into a "
    "function (the thread {thread!r} is abandoned)"
)


class LoadError(Exception):
    """The object cannot be loaded. The message says why; `file` and `line` say where, as far as that is known."""

    def __init__(self, message: str, file: Path | None = None, line: int = 0) -> None:
        super().__init__(message)
        self.file = file
        self.line = line

    @property
    def place(self) -> str:
        """ "file:line" or the file, "" if it is not known."""
        if self.file is None:
            return ""
        return f"{self.file}:{self.line}" if self.line else str(self.file)


def load_object(path: str, group: str, seconds: float = LOAD_TIME) -> Any:
    """The object at "module:name" or "folder/file.py:name", or the entry point of this name in the group.

    A file is run anew by each call; a module is imported once. Raises `LoadError`, whatever the code raises, also if it
    does not end within `seconds`.
    """
    module, colon, name = path.rpartition(":")
    if not colon:
        return _entry_point(path, group, seconds)
    if module.endswith(".py"):
        return attribute(load_file(Path(module), seconds), name)
    try:
        found = _bounded(partial(importlib.import_module, module), module, seconds)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise load_error(error, module) from error
    return attribute(found, name)


def load_class(path: str) -> type:
    """The class at "module:Class" or "folder/file.py:Class". Raises `LoadError`, whatever the code raises."""
    found = load_object(path, "")
    if not isinstance(found, type):
        raise LoadError(f"it is a {type(found).__name__}, not a class")
    return found


def create_object(kind: type, *arguments: object) -> Any:
    """An object of the operator's class. Raises `LoadError`, whatever the code raises."""
    try:
        return kind(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        wrong = load_error(error, kind.__module__)
        raise (wrong if wrong.file else LoadError(str(wrong), *place_of(kind))) from error


def place_of(found: type | Callable[..., object]) -> tuple[Path | None, int]:
    """The file and line of a class or function, as far as they are known."""
    try:
        file = inspect.getsourcefile(found)
        return (Path(file), inspect.getsourcelines(found)[1]) if file else (None, 0)
    except (OSError, TypeError):
        return None, 0


async def answer_of(work: Awaitable[T], failed: type[Exception], seconds: float | None = None) -> T:
    """What the operator's code answers; raises what it raises. Code that ignores its cancellation is abandoned, as with
    tools.

    Raises `failed` if the code takes longer than `seconds`, cancels itself, or raises what would end the event loop,
    such as `SystemExit`.
    """
    working = asyncio.ensure_future(_safely(work, failed))
    try:
        await asyncio.wait((working,), timeout=seconds)
        if not working.done():
            raise failed(f"it took longer than {seconds:g} seconds")
    finally:
        if not working.done():
            await cancel_and_wait(working)
    if working.cancelled():
        raise failed("it cancelled itself")
    return working.result()


async def _safely(work: Awaitable[T], failed: type[Exception]) -> T:
    try:
        return await work
    except (asyncio.CancelledError, KeyboardInterrupt, Exception):
        raise
    except BaseException as error:
        raise failed(f"it raised {type(error).__name__}: {one_line(error)}") from error


def load_file(file: Path, seconds: float = LOAD_TIME) -> ModuleType:
    """Runs the Python file as a module with a name of its own, in place of what it was before. Raises `LoadError`;
    then it is what it was. Code that does not end within `seconds` is abandoned."""
    name = _module_name(file)
    loader = _SourceLoader(name, str(file))
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    if spec is None:
        raise LoadError("it is not a Python file", file)
    module = importlib.util.module_from_spec(spec)
    earlier = sys.modules.get(name)
    # Dataclasses and pydantic look their modules up there.
    sys.modules[name] = module
    try:
        _bounded(partial(loader.exec_module, module), name, seconds, file)
    except BaseException as error:
        if earlier is None:
            del sys.modules[name]
        else:
            sys.modules[name] = earlier
        if isinstance(error, KeyboardInterrupt):
            raise
        raise load_error(error, name, file) from error
    finally:
        linecache.checkcache(str(file))
    return module


def attribute(module: ModuleType, name: str) -> Any:
    """Raises `LoadError` if the module has no such name."""
    try:
        return getattr(module, name)
    except AttributeError as error:
        file = Path(module.__file__) if module.__file__ else None
        raise LoadError(f"AttributeError: it has no {name}", file) from error


class _SourceLoader(SourceFileLoader):
    """Reads the source always: a file that is edited within a second may look unchanged to Python's cache."""

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _module_name(file: Path) -> str:
    """The same for the same file, and no other module's."""
    digest = hashlib.sha256(str(file.absolute()).encode(errors="surrogateescape")).hexdigest()[:12]
    return f"_interject_{digest}_{file.stem}"


def _entry_point(name: str, group: str, seconds: float) -> Any:
    from importlib.metadata import entry_points  # it is slow to load, and few need it

    found = tuple(entry_points(group=group, name=name)) if name else ()
    if not found:
        known = ", ".join(sorted(entry_points(group=group).names)) or "none"
        raise LoadError(f"neither module:name nor an entry point of {group}; known entry points: {known}")
    try:
        return _bounded(found[0].load, found[0].module, seconds)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise load_error(error, found[0].module) from error


def _bounded(run: Callable[[], T], module: str, seconds: float, file: Path | None = None) -> T:
    """What `run` returns; raises what it raises. It runs in a thread of its own, because nothing else can leave code
    that does not end: the thread is told to stop, which ends loops, and does not keep the process from ending.

    Raises `LoadError` with the line at which the code of this module is after `seconds`.
    """
    results: list[T] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            results.append(run())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised by the caller
            raised.append(error)

    thread = threading.Thread(target=work, name=f"loading {file or module}", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        where, line = _place_in(thread, module)
        _stop(thread)
        raise LoadError(ENDLESS.format(seconds=seconds, thread=thread.name), where or file, line)
    if raised:
        raise raised[0]
    return results[0]


def _place_in(thread: threading.Thread, module: str) -> tuple[Path | None, int]:
    """Where the thread is in the module's code."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_globals.get("__name__") == module:
            return Path(frame.f_code.co_filename), frame.f_lineno
        frame = frame.f_back
    return None, 0


def _stop(thread: threading.Thread) -> None:
    """https://docs.python.org/3/c-api/init.html#c.PyThreadState_SetAsyncExc"""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))


def load_error(error: BaseException, module: str, file: Path | None = None) -> LoadError:
    """With the line: of a syntax error, else of the module's code that ran last."""
    if isinstance(error, LoadError):
        return error
    if isinstance(error, SyntaxError) and error.filename:
        return LoadError(f"{type(error).__name__}: {one_line(error.msg)}", Path(error.filename), error.lineno or 0)
    line = 0
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__") == module:
            file, line = Path(frame.f_code.co_filename), number
    return LoadError(f"{type(error).__name__}: {one_line(error)}", file, line)
