"""The operator's own tools: loaded from files and packages, checked, and loaded anew while the gateway runs."""

from __future__ import annotations

import ast
import inspect
import json
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from agent.gate import one_line
from agent.python_objects import LOAD_TIME, LoadError, attribute, load_file, load_object
from agent.tool import Tool

GROUP = "interject.tools"
"""The entry point group in which packages register tools."""

MAX_FILES = 200
"""Files of a folder that are looked at."""

MAX_FILE_SIZE = 1 << 20
"""Bytes; a larger file of a folder is not looked at."""

_MAY_BE_OURS = re.compile(rb"^[ \t]*(?:from|import)[ \t]+interject\b", re.MULTILINE)
_MAY_BE_A_TOOL = re.compile(rb"^[ \t]*@(?:\w+\.)?tool\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ToolSource:
    """One tool that the operator has named. `path` is "module:name", "/folder/file.py:name" or the name of an entry
    point; `options` are its own settings, not checked yet."""

    name: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolFault:
    """Why a tool, or a file of tools, cannot be used as it is now. `place` is "file:line", a path or the key of a
    setting. `kept`: its last good version stays in use."""

    name: str
    place: str
    wrong: str
    kept: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.wrong}{' (the version before is still in use)' if self.kept else ''}"


@dataclass(frozen=True, slots=True)
class CustomTool:
    """A tool that can be used, and where it comes from: "file:line", or its path."""

    tool: Tool
    origin: str


@dataclass(frozen=True, slots=True)
class Loading:
    """What a load has found. `removed` are the names of tools that there were before."""

    tools: tuple[CustomTool, ...] = ()
    faults: tuple[ToolFault, ...] = ()
    removed: tuple[str, ...] = ()


class CustomTools:
    """A toolset: the tools of the operator, as they were when they were loaded last. Until then there are none.

    A part that cannot be loaded costs itself only. If it could be loaded before, that version stays in use.
    """

    def __init__(
        self,
        sources: Sequence[ToolSource] = (),
        folder: Path | None = None,
        *,
        base: Path | None = None,
        reserved: Collection[str] = (),
        mask: Callable[[str], str] = str,
        load_time: float = LOAD_TIME,
    ) -> None:
        """`folder`: every function with `@tool` in its files is a tool too, see `tool_files`. Files are named
        relative to `base`. `reserved` are the names of built-in tools. `mask` removes known secrets from what is said
        of a fault. A file must have run within `load_time` seconds."""
        self._sources = tuple(sources)
        self._folder = folder
        self._base = "" if base is None else f"{base}/"
        self._reserved = frozenset(reserved)
        self._mask = mask
        self._load_time = load_time
        self._good: dict[str, tuple[CustomTool, ...]] = {}
        """The last good version of each part: by the name of a source, or by the file."""
        self.loaded = Loading()

    def after(self, earlier: CustomTools) -> None:
        """What cannot be loaded stays as the earlier ones have it."""
        self._good, self.loaded = earlier._good, earlier.loaded

    def __iter__(self) -> Iterator[Tool]:
        return iter([each.tool for each in self.loaded.tools])

    def load(self) -> Loading:
        """Loads all of them anew. Runs the operator's code, so it blocks. Not to be called twice at once."""
        files = _Files(self._load_time)
        faults: list[ToolFault] = []
        good: dict[str, tuple[CustomTool, ...]] = {}

        def load(part: str, name: str, read: Callable[[], tuple[CustomTool, ...]]) -> None:
            try:
                good[part] = read()
            except _Unusable as error:
                kept = self._good.get(part)
                if kept:
                    good[part] = kept
                faults.append(self._shown(ToolFault(name, error.place, error.wrong, kept=bool(kept))))

        for source in self._sources:
            load(source.name, source.name, partial(_named_tool, source, files, self._reserved))
        named = files.used
        for file in tool_files(self._folder) if self._folder is not None else ():
            load(str(file), file.name, partial(_tools_in, file, files, named, self._reserved))
        tools, clashes = _without_clashes(good.values())
        self._good = good
        removed = {each.tool.name for each in self.loaded.tools}.difference(each.tool.name for each in tools)
        self.loaded = Loading(
            tuple(replace(each, origin=self._relative(each.origin)) for each in tools),
            (*faults, *map(self._shown, clashes)),
            tuple(sorted(removed)),
        )
        return self.loaded

    def _shown(self, fault: ToolFault) -> ToolFault:
        wrong = one_line(self._relative(self._mask(fault.wrong)))
        return replace(fault, place=self._relative(fault.place), wrong=wrong)

    def _relative(self, text: str) -> str:
        return text.replace(self._base, "") if self._base else text


def tool_files(folder: Path) -> list[Path]:
    """The files of the folder that have tools: they import `interject` and have a function with `@tool`. None is run:
    a folder of other scripts is left alone. Files whose syntax is broken count if they look like that."""
    if not folder.is_dir():
        return []
    return [file for file in sorted(folder.glob("*.py"))[:MAX_FILES] if _has_tools(file)]


class _Unusable(Exception):
    def __init__(self, place: str, wrong: str) -> None:
        super().__init__(wrong)
        self.place = place
        self.wrong = wrong


class _Files:
    """The modules of the files that one load has run, each once; and which of their tools were named."""

    def __init__(self, load_time: float) -> None:
        self.load_time = load_time
        self._modules: dict[Path, ModuleType | LoadError] = {}
        self.used: set[int] = set()
        """The identities of the tools that sections name."""

    def module(self, file: Path) -> ModuleType:
        """Raises `LoadError`."""
        found = self._modules.get(file)
        if found is None:
            try:
                found = load_file(file, self.load_time)
            except LoadError as error:
                found = error
            self._modules[file] = found
        if isinstance(found, LoadError):
            raise found
        return found


def _named_tool(source: ToolSource, files: _Files, reserved: Collection[str]) -> tuple[CustomTool, ...]:
    file, _, name = source.path.rpartition(":")
    try:
        if file.endswith(".py"):
            found = attribute(files.module(Path(file)), name)
        else:
            found = load_object(source.path, GROUP, files.load_time)
    except LoadError as error:
        raise _Unusable(error.place or source.path, str(error)) from error
    if not isinstance(found, Tool):
        raise _Unusable(source.path, f"it is a {type(found).__name__}, not a function with @tool")
    files.used.add(id(found))
    return (_checked(found, source.name, source.options, source.path, reserved),)


def _tools_in(file: Path, files: _Files, named: Collection[int], reserved: Collection[str]) -> tuple[CustomTool, ...]:
    """The tools that the file defines, except those that a section names."""
    if _is_changeable_by_others(file):
        raise _Unusable(str(file), f"other users of this machine can change it. Run chmod o-w {file} {file.parent}")
    try:
        module = files.module(file)
    except LoadError as error:
        raise _Unusable(error.place or str(file), str(error)) from error
    tools = {id(each): each for each in vars(module).values() if isinstance(each, Tool) and _file_of(each) == file}
    return tuple(_checked(each, each.name, {}, str(file), reserved) for key, each in tools.items() if key not in named)


def _checked(found: Tool, name: str, options: Mapping[str, Any], path: str, reserved: Collection[str]) -> CustomTool:
    """The tool with the name and the settings that the operator has given it. Raises `_Unusable`."""
    origin = _origin(found) or path
    if name in reserved:
        raise _Unusable(origin, f"{name} is the name of a built-in tool; give this one another name")
    try:
        json.dumps(found.spec.schema, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _Unusable(origin, f"the schema of its arguments is not JSON: {error}") from error
    settings = _settings(found, name, options)
    try:
        return CustomTool(replace(found, name=name, settings=settings), origin)
    except ValueError as error:
        raise _Unusable(origin, str(error)) from error


def _settings(found: Tool, name: str, options: Mapping[str, Any]) -> BaseModel | None:
    at = f"[tools.{name}]"
    if found.settings_model is None:
        if options:
            raise _Unusable(at, f"the tool has no setting {', '.join(options)}")
        return None
    try:
        return found.settings_model.model_validate(dict(options))
    except ValidationError as error:
        # Without the values: one of them may be a secret.
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'settings'}: {each['msg']}" for each in problems)
        raise _Unusable(at, wrong) from None
    except Exception as error:
        # Whatever a validator of the operator's code raises.
        raise _Unusable(at, f"its settings cannot be checked: {type(error).__name__}: {one_line(error)}") from error


def _without_clashes(
    parts: Collection[tuple[CustomTool, ...]],
) -> tuple[tuple[CustomTool, ...], tuple[ToolFault, ...]]:
    """Of two tools with the same name, the first one counts."""
    tools: dict[str, CustomTool] = {}
    faults = []
    for each in (tool for part in parts for tool in part):
        first = tools.setdefault(each.tool.name, each)
        if first is not each:
            wrong = f"the name {each.tool.name} is taken by the tool at {first.origin}"
            faults.append(ToolFault(each.tool.name, each.origin, wrong))
    return tuple(tools.values()), tuple(faults)


def _origin(tool: Tool) -> str:
    """ "file:line" of the function; "" if it has none."""
    code = getattr(inspect.unwrap(tool.run), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def _file_of(tool: Tool) -> Path | None:
    code = getattr(inspect.unwrap(tool.run), "__code__", None)
    return None if code is None else Path(code.co_filename)


def _is_changeable_by_others(file: Path) -> bool:
    try:
        return bool((file.stat().st_mode | file.parent.stat().st_mode) & stat.S_IWOTH)
    except OSError:
        # It is gone again, which is said when it is read.
        return False


def _has_tools(file: Path) -> bool:
    try:
        if not file.is_file() or file.stat().st_size > MAX_FILE_SIZE:
            return False
        source = file.read_bytes()
    except OSError:
        return False
    if not _MAY_BE_OURS.search(source) or not _MAY_BE_A_TOOL.search(source):
        return False
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    return any(map(_imports_interject, ast.walk(tree))) and any(map(_is_tool, tree.body))


def _imports_interject(node: ast.AST) -> bool:
    match node:
        case ast.ImportFrom(module=str(module), level=0):
            return module.partition(".")[0] == "interject"
        case ast.Import(names=names):
            return any(name.name.partition(".")[0] == "interject" for name in names)
        case _:
            return False


def _is_tool(node: ast.AST) -> bool:
    match node:
        case ast.FunctionDef(decorator_list=decorators) | ast.AsyncFunctionDef(decorator_list=decorators):
            return any(_decorator(each) == "tool" for each in decorators)
        case _:
            return False


def _decorator(node: ast.expr) -> str:
    """The last name of the decorator: `tool` for `@tool(…)` and `@interject.tool(…)`."""
    match node:
        case ast.Call(func=function):
            return _decorator(function)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case _:
            return ""
