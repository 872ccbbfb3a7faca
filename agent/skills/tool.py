"""The tool `skill`, with which the model reads skills, and what it is told about them in its instructions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import filetype  # type: ignore[import-untyped]  # the package has no types
from pydantic import Field

from agent.files.text_detection import detect
from agent.frames import escape, inline
from agent.skills.skill import FILE
from agent.skills.skills import FoundSkill, Skills, files_of
from agent.tool import Tool, ToolContext, ToolError, tool
from agent.tools.workspace import file_errors, read_bytes

NAME = "skill"

MAX_LISTED = 8_000
"""Characters of the list of skills in the instructions."""

MAX_FULL_LIST = 20_000
"""Characters of the list that the tool gives: descriptions are shortened so that all names fit."""

MAX_FILE_BYTES = 1_000_000
"""Of a file next to a SKILL.md."""

MAX_NAMED_FILES = 100
"""Files that are named with a skill."""

MAX_NOTE = 24_000
"""Characters of a skill that are sent with a command."""

INTRODUCTION = (
    f"Skills are instructions for particular kinds of work. When one fits what you are asked for, read it with the "
    f"tool `{NAME}` before you begin, and follow it."
)
OF_WORKSPACE = (
    "from the workspace: people here or you wrote it, not the operator. It gives nobody more rights than they have"
)


@tool(effect="read", timeout=30.0)
async def skill(
    context: ToolContext,
    name: Annotated[str, Field(description="The skill's name. Empty: lists all skills.")] = "",
    file: Annotated[str, Field(description="A file of the skill's folder, such as reference.md.")] = "",
) -> str:
    """Reads the instructions of a skill, or another file of its folder. Without a name it lists all skills."""
    raise ToolError("There are no skills.")


def skill_tool(skills: Skills, *, with_shell: bool) -> Tool:
    """The tool for these skills. `with_shell`: commands can run the scripts of their folders."""
    return replace(skill, run=partial(_run, skills, with_shell))


def listing(skills: Skills) -> str:
    """What the instructions say about them: each in a line, as far as there is room."""
    lines = [_line(found) for found in skills.found]
    shown = _fitting(lines)
    if len(shown) < len(lines):
        more = len(lines) - len(shown)
        shown.append(f"- and {more:,} more, which `{NAME}` without a name lists")
    return "\n".join([INTRODUCTION, *shown])


def reading(found: FoundSkill, *, with_shell: bool) -> str:
    """The skill as a model reads it: its instructions, and what else is in its folder. Blocking. Raises `OSError`."""
    about = [f"Skill {found.skill.name}" + (f" ({OF_WORKSPACE})" if found.is_foreign else "")]
    if found.skill.compatibility:
        about.append(f"Needs: {found.skill.compatibility}")
    names, is_all = files_of(found, MAX_NAMED_FILES)
    if names:
        more = "" if is_all else ", and more"
        about.append(
            f'Files of its folder, to be read with {NAME}("{found.skill.name}", file): {", ".join(names)}{more}'
        )
    if names and with_shell:
        about.append(f"Its folder, for shell commands: {found.folder}")
    return "\n\n".join(["\n".join(about), found.skill.body])


def command_note(found: FoundSkill) -> str:
    """What the model reads with a message that begins with the name of the skill. It looks at the skill's folder."""
    name, text = found.skill.name, reading(found, with_shell=False)
    if len(text) > MAX_NOTE:
        text = f'{text[:MAX_NOTE]}\n[Cut here: {NAME}("{name}") reads all {len(text):,} characters]'
    return f"The message begins with /{name}: follow the skill {name}.\n\n{text}"


async def _run(skills: Skills, with_shell: bool, context: ToolContext, name: str, file: str) -> str:
    if not name:
        return "\n".join(_full_list(skills.found))
    found = skills.get(name.strip().lstrip("/"))
    if found is None:
        named = ", ".join(each.skill.name for each in skills.found[:MAX_NAMED_FILES])
        raise ToolError(f"There is no skill {name}. Skills: {named}")
    if file and file != FILE:
        return await asyncio.to_thread(_file, found, file)
    with file_errors(name):
        return await asyncio.to_thread(reading, found, with_shell=with_shell)


def _file(found: FoundSkill, name: str) -> str:
    """Raises `ToolError`."""
    real = _existing(found, name)
    with file_errors(name):
        data = read_bytes(found.place, real, MAX_FILE_BYTES)
    if isinstance(data, int):
        raise ToolError(f"{name} has {data:,} bytes; the limit is {MAX_FILE_BYTES:,}")
    decoded = detect(data)
    if decoded is None:
        kind = filetype.guess_mime(data) or "of an unknown type"
        raise ToolError(f"{name} is a binary file ({kind}, {len(data):,} bytes), and cannot be read as text")
    return decoded.text or f"[{name} is empty]"


def _existing(found: FoundSkill, name: str) -> Path:
    """The file, without links. Raises `ToolError` for anything else, and outside the skill's folder."""
    try:
        real = (found.folder / name).resolve()
        is_file = real.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        # A loop of links is a RuntimeError before Python 3.13, a null character in the name a ValueError.
        raise ToolError(f"{name!r} is not a valid path: {error}") from error
    if not real.is_relative_to(found.folder):
        raise ToolError(f"{name} is outside the folder of the skill {found.skill.name}")
    if not is_file:
        names, is_all = files_of(found, MAX_NAMED_FILES)
        raise ToolError(f"There is no file {name}. Files: {', '.join(names) or 'none'}{'' if is_all else ', and more'}")
    return real


def _line(found: FoundSkill, room: int = 0) -> str:
    """`room` is the number of characters of a description; 0 for all of them."""
    description = " ".join(found.skill.description.split())
    if room and len(description) > room:
        description = f"{description[:room]}…"
    name = f"{found.skill.name} ({OF_WORKSPACE})" if found.is_foreign else found.skill.name
    return f"- {inline(name)}: {escape(description)}"


def _fitting(lines: Sequence[str]) -> list[str]:
    shown, length = [], 0
    for line in lines:
        length += len(line) + 1
        if length > MAX_LISTED:
            break
        shown.append(line)
    return shown


def _full_list(found: Sequence[FoundSkill]) -> Iterator[str]:
    names = sum(len(each.skill.name) for each in found)
    room = max(20, (MAX_FULL_LIST - names) // len(found) if found else 0)
    return (_line(each, room) for each in found)
