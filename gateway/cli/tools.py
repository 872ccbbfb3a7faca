"""`interject tools`: lists the tools that there are, and runs one by hand."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.decisions.approvals import visible
from agent.decisions.input_requests import is_answer
from agent.gate import one_line
from agent.log import InputEnded, InputKind, InputRequested
from agent.masking import Mask
from agent.testing import MemoryMedia
from agent.tool import Tool, ToolContext, ToolError
from agent.tool_result import ToolResult
from agent.toolset import Changed, Toolset
from config.errors import did_you_mean
from config.load import Configuration
from config.settings import every_secret
from config.tools import TOOLS
from gateway.assembly.custom_tools import OwnTools
from gateway.assembly.mcp import open_mcp, personal_servers
from gateway.assembly.shell_policy import shell_policy
from gateway.assembly.tools import built_in_tools, configured_tools, with_rules
from gateway.cli.event_loop import run_in_loop
from gateway.outbound.wording import plain

if TYPE_CHECKING:
    # Only where servers are configured.
    from agent.mcp.server import McpServer, Status

BUILT_IN = "built-in"

IN_CONVERSATION = frozenset({"ask_user", "delegate", "background"})
"""Tools that do nothing outside a conversation."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A tool that there is. `note` says where it is not offered."""

    tool: Tool
    origin: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Tools:
    rows: Sequence[_Row]
    off: Mapping[str, str]
    """Why a built-in tool is not there, by name."""
    own: OwnTools

    def find(self, name: str) -> Tool | None:
        return next((row.tool for row in self.rows if row.tool.name == name), None)


def show_tools(configuration: Configuration, *, as_json: bool) -> int:
    """Prints the tools. Returns the exit code: 1 when one is broken."""
    return run_in_loop(_show(configuration, as_json=as_json))


def try_tool(
    configuration: Configuration, name: str, arguments: str, *, as_json: bool, workspace: Path | None, allowed: bool
) -> int:
    """Runs the tool once, and prints its result; what it reports while it runs is printed on stderr. Without a
    `workspace` it works in a temporary folder, whose files are copied to the current one. `allowed`: nobody is asked
    for approval. Returns the exit code: 0 if it has a result."""
    run = _try(configuration, name, arguments, as_json=as_json, workspace=workspace, allowed=allowed)
    return run_in_loop(run)


async def _show(configuration: Configuration, *, as_json: bool) -> int:
    async with _opened(configuration, with_servers=True) as tools:
        lines = _as_json(tools) if as_json else _as_table(tools)
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        return 1 if tools.own.faults else 0


@asynccontextmanager
async def _opened(configuration: Configuration, *, with_servers: bool) -> AsyncIterator[_Tools]:
    """`with_servers`: the tools of MCP servers too, which are started for that."""
    settings = configuration.settings
    async with AsyncExitStack() as stack:
        policy = await shell_policy(configuration)
        configured = configured_tools(settings, policy, stack)
        own = OwnTools(configuration, _mask(configuration))
        own.load()
        note = f"in web and terminal only: {policy.unavailable}" if policy.unavailable else ""
        built_in = [
            _Row(tool, BUILT_IN, note if tool.runs_code else "") for tool in built_in_tools(settings, configured)
        ]
        there = {row.tool.name for row in built_in}
        off: dict[str, str] = {name: _why_off(configuration, name) for name in TOOLS if name not in there}
        rows = [*built_in, *_own_rows(configuration, own, note)]
        if with_servers:
            servers = await open_mcp(configuration, stack)
            for server in servers:
                status = await server.settled()
                rows += _rows_of(server, status, own)
                if status.state != "running":
                    off[f"{server.name}_*"] = f"MCP server {server.name}: {status}"
            off |= {f"{name}_*": f"MCP server {name}: {said}" for name, said in personal_servers(configuration).items()}
        yield _Tools(rows, off, own)


def _own_rows(configuration: Configuration, own: OwnTools, note: str) -> Iterator[_Row]:
    tools: Toolset = Changed(own, lambda tool: with_rules(configuration.settings, tool))
    for tool, listed in zip(tools, own.listed, strict=True):
        yield _Row(tool, listed.origin, note if tool.runs_code else "")


def _rows_of(server: McpServer, status: Status, own: OwnTools) -> Iterator[_Row]:
    note = "" if status.state == "running" else "as last known"
    origins = {each.tool.name: each.origin for each in own.listed}
    for tool in server:
        taken = f"not offered: a tool of yours has the name, {origins[tool.name]}" if tool.name in origins else ""
        yield _Row(tool, f"MCP server {server.name}", taken or note)


def _why_off(configuration: Configuration, name: str) -> str:
    if name not in configuration.settings.tools.enabled:
        return "not in enabled of [tools]"
    return f"[tools.{name}] names no {'model' if name == 'generate_image' else 'provider'}"


def _as_table(tools: _Tools) -> Iterator[str]:
    rows = [("tool", "effect", "approval", "on_steer", "from")]
    rows += [
        (row.tool.name, row.tool.effect, row.tool.approval, row.tool.on_steer, f"{row.origin}{_noted(row.note)}")
        for row in tools.rows
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[4]])
    yield from (f"off: {name}: {why}" for name, why in tools.off.items())
    yield from (f"broken: {plain(fault.name)}: {fault}" for fault in tools.own.faults)


def _noted(note: str) -> str:
    return f" ({note})" if note else ""


def _as_json(tools: _Tools) -> Iterator[str]:
    """One object per line, for each tool by its state."""
    for row in tools.rows:
        tool = row.tool
        yield json.dumps(
            {
                "name": tool.name,
                "state": "on",
                "from": row.origin,
                "effect": tool.effect,
                "approval": tool.approval,
                "on_steer": tool.on_steer,
                "timeout": tool.timeout,
                "final": tool.final,
                "description": tool.description,
                "arguments": tool.spec.schema,
            }
            | ({"note": row.note} if row.note else {}),
            ensure_ascii=False,
        )
    for name, why in tools.off.items():
        yield json.dumps({"name": name, "state": "off", "why": why}, ensure_ascii=False)
    for fault in tools.own.faults:
        broken = {"name": fault.name, "state": "broken", "from": fault.place, "why": fault.wrong}
        yield json.dumps(broken, ensure_ascii=False)


async def _try(
    configuration: Configuration, name: str, arguments: str, *, as_json: bool, workspace: Path | None, allowed: bool
) -> int:
    with_servers = any(name.startswith(f"{server}_") for server in configuration.settings.mcp)
    async with _opened(configuration, with_servers=with_servers) as tools:
        tool = tools.find(name)
        if tool is None:
            return _fail(_missing(tools, name))
        if name in IN_CONVERSATION:
            return _fail(f"{name} works in a conversation only")
        try:
            tool.check(arguments)
        except ToolError as error:
            return _fail(str(error))
        if not allowed and not await _approved(tool, arguments):
            return _fail(f"{name} was not run: it needs approval. In a terminal you are asked; --yes approves it")
        return await _run(tool, arguments, _mask(configuration), workspace, as_json=as_json)


async def _run(tool: Tool, arguments: str, mask: Mask, workspace: Path | None, *, as_json: bool) -> int:
    media = MemoryMedia()

    async def progress(text: str) -> None:
        sys.stderr.write(f"{one_line(mask(text))}\n")
        sys.stderr.flush()

    with tempfile.TemporaryDirectory(prefix="interject-") as temporary:
        folder = (workspace or Path(temporary)).absolute()
        try:
            async with asyncio.timeout(tool.timeout) as limit:
                context = ToolContext(
                    folder, media, progress, call_id="try", settings=tool.settings, ask_person=_Asked(mask, limit)
                )
                result = await tool.call(context, arguments)
        except TimeoutError:
            return _fail(f"{tool.name} timed out after {tool.timeout:g} seconds")
        except ToolError as error:
            return _fail(f"{tool.name} failed: {mask(str(error))}")
        except Exception:  # noqa: BLE001 - whatever the tool raises is shown
            # The person who tries a tool is the one who mends it.
            return _fail(f"{tool.name} failed:\n{mask(traceback.format_exc())}")
        files = [*_kept(folder, workspace), *await _delivered(media, result)]
    _print(result, files, mask, as_json=as_json)
    return 1 if result.failed else 0


def _print(result: ToolResult, files: Sequence[Path], mask: Mask, *, as_json: bool) -> None:
    names = [str(file) for file in files]
    if as_json:
        told = {"text": mask(result.text), "for_user": mask(result.for_user), "files": names, "failed": result.failed}
        sys.stdout.write(f"{json.dumps(told, ensure_ascii=False)}\n")
        return
    texts = (mask(text) for text in (result.text, result.for_user, result.caption, result.how) if text)
    sys.stdout.write("".join(f"{text.rstrip()}\n" for text in texts))
    sys.stdout.write("".join(f"file: {name}\n" for name in names))


def _kept(folder: Path, workspace: Path | None) -> list[Path]:
    """The files of a temporary workspace, copied to the current folder."""
    if workspace is not None:
        return []
    made = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [_written(path.relative_to(folder), path.read_bytes()) for path in made]


async def _delivered(media: MemoryMedia, result: ToolResult) -> list[Path]:
    """The files that people would get, in the current folder."""
    return [_written(Path(Path(each.name).name), await media.read(each)) for each in result.attachments]


def _written(name: Path, data: bytes) -> Path:
    """The file in the current folder; nothing that is there is overwritten."""
    name.parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        file = name if number == 1 else name.with_name(f"{name.stem}-{number}{name.suffix}")
        try:
            with file.open("xb") as opened:
                opened.write(data)
        except FileExistsError:
            continue
        return file
    raise OSError(f"there are too many files like {name}")


class _Asked:
    """Asks the person in the terminal. Meanwhile the call's time stands still."""

    def __init__(self, mask: Mask, limit: asyncio.Timeout) -> None:
        self._mask = mask
        self._limit = limit

    async def __call__(self, question: str, options: Sequence[str], takes: InputKind) -> InputEnded:
        if not sys.stdin.isatty():
            raise ToolError("Nobody can be asked here: in a terminal you are asked.")
        loop = asyncio.get_running_loop()
        left = (self._limit.when() or loop.time()) - loop.time()
        self._limit.reschedule(None)
        try:
            text = await self._answer(f"{question}\n{' / '.join(options)}".rstrip(), options, takes)
        finally:
            self._limit.reschedule(loop.time() + left)
        return InputEnded("try", "given", text) if text else InputEnded("try", "dropped")

    async def _answer(self, shown: str, options: Sequence[str], takes: InputKind) -> str:
        """What is typed, as soon as it answers the question; "" for an empty line."""
        request = InputRequested("try", "try", shown, tuple(options), takes, 0.0)
        while True:
            sys.stderr.write(f"{visible(self._mask(shown))}\n> ")
            sys.stderr.flush()
            text: str = (await asyncio.to_thread(sys.stdin.readline)).strip()
            if not text or is_answer(request, text):
                return text


async def _approved(tool: Tool, arguments: str) -> bool:
    if tool.approval == "never":
        return True
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f"{tool.name} {visible(arguments)}\nRun it? [y/N] ")
    sys.stderr.flush()
    answer = await asyncio.to_thread(sys.stdin.readline)
    return answer.strip().lower() in ("y", "yes")


def _missing(tools: _Tools, name: str) -> str:
    if name in tools.off:
        return f"{name} is off: {tools.off[name]}"
    server = next((why for each, why in tools.off.items() if each.endswith("_*") and name.startswith(each[:-1])), None)
    if server is not None:
        return f"{name} cannot be tried: {server}"
    broken = next((fault for fault in tools.own.faults if fault.name == name), None)
    if broken is not None:
        return f"{name} is broken: {broken}"
    return f"there is no tool {plain(name)}. {did_you_mean(name, [row.tool.name for row in tools.rows])}"


def _mask(configuration: Configuration) -> Mask:
    return Mask(secret.get_secret_value() for secret in every_secret(configuration.settings))


def _fail(message: str) -> int:
    sys.stderr.write(f"interject: {message}\n")
    return 1
