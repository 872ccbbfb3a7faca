"""The Python tool: runs code in the workspace as the shell runs commands, and delivers the pictures that it draws."""

from __future__ import annotations

import asyncio
import logging
import shlex
import shutil
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from secrets import token_hex
from typing import Annotated

from pydantic import Field

from agent.interrupt import shielded
from agent.media import Attachment, MediaError
from agent.tool import Tool, ToolContext, ToolError, tool
from agent.tool_result import ToolResult
from agent.tools.sandbox import CommandPolicy, python_environment
from agent.tools.shell import MAX_TIMEOUT, NETWORK, NO_NETWORK, SANDBOXED, run_command
from agent.tools.workspace import file_errors, inside, read_bytes

log = logging.getLogger(__name__)

MAX_COMMAND = 120_000
"""Bytes of the command line: Linux takes 128 KiB as one argument (execve(2), MAX_ARG_STRLEN)."""

MAX_PICTURES = 10
MAX_PICTURE_BYTES = 20_000_000

Code = Annotated[str, Field(description="Python code; the value of a last line that is an expression is shown.")]
Timeout = Annotated[int, Field(ge=1, le=MAX_TIMEOUT)]

_POLICY = CommandPolicy()


async def run_code(
    policy: CommandPolicy, context: ToolContext, code: Code, timeout_seconds: Timeout = 120
) -> ToolResult:
    """Runs the code as the policy says. Raises `ToolError`."""
    folder = f".pictures-{token_hex(6)}"
    command = _command(policy, code, folder)
    try:
        result = await run_command(policy, context, command, timeout_seconds)
        return await _with_pictures(result, context, folder)
    finally:
        await shielded(asyncio.to_thread(_remove, context.workspace, folder))


@tool(
    effect="external",
    on_steer="background",
    timeout=MAX_TIMEOUT + 30,
    runs_code=True,
    compensation="What it has done until then is not undone: check before running it again.",
)
async def run_python(context: ToolContext, code: Code, timeout_seconds: Timeout = 120) -> ToolResult:
    """Runs Python code in the workspace and returns its output, and the value of its last expression.

    Each call is a process of its own: nothing is left of it but files. numpy, matplotlib, PIL, openpyxl, docx, pptx and
    pypdf can be imported. Figures of matplotlib are shown to the person as pictures, at this point of your answer; do
    not save them for that.
    """
    return await run_code(_POLICY, context, code, timeout_seconds)


def run_python_with(policy: CommandPolicy) -> Tool:
    """The tool that runs its code by this policy. Outside the sandbox it needs approval once, as the shell does."""
    where = f"{SANDBOXED}{NETWORK if policy.network else NO_NETWORK}" if policy.sandboxed else ""
    return replace(
        run_python,
        description=run_python.description + where,
        run=partial(run_code, replace(policy, programs=(*policy.programs, *python_folders()))),
        approval="never" if policy.sandboxed else "once",
        effect="write" if policy.sandboxed and not policy.network else "external",
    )


@cache
def python_folders() -> tuple[Path, ...]:
    """The folders of the gateway's own Python and its packages."""
    prefixes = dict.fromkeys(Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix))
    return tuple(path for prefix in prefixes for path in python_environment(prefix))


@cache
def _script() -> str:
    return Path(__file__).with_name("python_script.py").read_text(encoding="utf-8")


def _command(policy: CommandPolicy, code: str, folder: str) -> str:
    # Isolated: the environment and the user's own packages change nothing. Unbuffered: progress is shown as it comes.
    python = [sys.executable, "-I", "-B", "-u", "-X", "utf8", "-c", _script(), code, folder]
    command = f"exec {shlex.join(python)}"
    if len(command.encode(errors="replace")) > MAX_COMMAND:
        raise ToolError(
            "The code is too long for one call: write it to a file of the workspace with write_file, and import that."
        )
    return command


async def _with_pictures(result: ToolResult, context: ToolContext, folder: str) -> ToolResult:
    pictures: list[Attachment] = []
    problems: list[str] = []
    for name in await asyncio.to_thread(_names, context.workspace, folder):
        try:
            pictures.append(await _stored(context, folder, name, len(pictures) + 1))
        except (ToolError, MediaError) as error:
            problems.append(f"[A picture is not shown: {error}]")
    if pictures:
        count = "1 picture is" if len(pictures) == 1 else f"{len(pictures)} pictures are"
        problems.insert(0, f"[{count} shown to the person: {', '.join(picture.name for picture in pictures)}]")
    return replace(result, text="\n".join((result.text, *problems)), attachments=tuple(pictures))


async def _stored(context: ToolContext, folder: str, name: str, number: int) -> Attachment:
    data = await asyncio.to_thread(_read, context.workspace, f"{folder}/{name}")
    return await context.media.put(data, f"figure-{number}.png")


def _names(workspace: Path, folder: str) -> list[str]:
    """The pictures in the folder, in order. What the code itself has put there counts as far as it looks like one."""
    path = workspace.resolve() / folder
    try:
        return [] if path.is_symlink() else sorted(each.name for each in path.glob("*.png"))[:MAX_PICTURES]
    except OSError:
        return []


def _read(workspace: Path, path: str) -> bytes:
    with file_errors(path):
        data = read_bytes(workspace, inside(workspace, path), MAX_PICTURE_BYTES)
    if isinstance(data, int):
        raise ToolError(f"it has {data:,} bytes, more than the limit of {MAX_PICTURE_BYTES:,}")
    return data


def _remove(workspace: Path, folder: str) -> None:
    path = workspace / folder
    try:
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)
    except OSError as error:
        log.warning("the pictures of a call are left in the workspace: %s", error)
