"""Collections of skills: what is found in folders of them, read anew when files change."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from agent.skills.skill import FILE, InvalidSkill, Skill, parse_skill
from agent.tools.workspace import read_bytes

MAX_SKILLS = 500
"""Folders that are looked at in one place."""

MAX_SKILL_BYTES = 256_000
"""Of a SKILL.md."""

MAX_PARSED = 2_000
"""Parsed files that are kept."""

WORKSPACE_FOLDER = Path(".agents", "skills")
"""Where skills of a workspace are, by the format's convention."""


@dataclass(frozen=True, slots=True)
class FoundSkill:
    """A skill and its folder, an absolute path without links. `place` contains the folder: what the operator has named,
    or a workspace. `is_foreign`: it is from a workspace, so not by the operator."""

    skill: Skill
    folder: Path
    place: Path
    is_foreign: bool = False


@dataclass(frozen=True, slots=True)
class Skills:
    """The valid skills, by name, and the faults of the others, each with its file and line."""

    found: tuple[FoundSkill, ...] = ()
    faults: tuple[str, ...] = ()

    def get(self, name: str) -> FoundSkill | None:
        return next((each for each in self.found if each.skill.name == name), None)


NO_SKILLS = Skills()


class SkillReader:
    """Finds skills; a file that has not changed is not read again."""

    def __init__(self) -> None:
        self._parsed: OrderedDict[tuple[Path, Signature], Skill | tuple[str, ...]] = OrderedDict()

    def read(self, places: Iterable[Path], workspace: Path | None = None) -> Skills:
        """The skills in these places, each a folder of skills or the folder of one, and in a workspace. Of two with the
        same name the first one counts. Blocking."""
        found: dict[str, FoundSkill] = {}
        faults: list[str] = []
        for each in self._all(places, workspace):
            match each:
                case str():
                    faults.append(each)
                case FoundSkill(skill=skill) if (known := found.get(skill.name)) is not None:
                    faults.append(f"{each.folder / FILE}: there is a skill of this name already ({known.folder})")
                case FoundSkill():
                    found[each.skill.name] = each
        return Skills(tuple(found[name] for name in sorted(found)), tuple(faults))

    def _all(self, places: Iterable[Path], workspace: Path | None) -> Iterator[FoundSkill | str]:
        for place in places:
            yield from self._in_place(place.resolve(), place.resolve(), is_foreign=False)
        if workspace is not None and (workspace / WORKSPACE_FOLDER).is_dir():
            root = workspace.resolve()
            yield from self._in_place(root, root / WORKSPACE_FOLDER, is_foreign=True)

    def _in_place(self, place: Path, parent: Path, *, is_foreign: bool) -> Iterator[FoundSkill | str]:
        """What is found in `parent`, a folder of `place`, which no link may leave."""
        if not parent.resolve().is_relative_to(place):
            yield f"{parent}: a link leads out of {place}"
            return
        try:
            folders = [parent] if (parent / FILE).exists() else _folders(parent)
        except OSError as error:
            yield f"{parent}: {error.strerror or error}"
            return
        for folder in folders[:MAX_SKILLS]:
            try:
                yield from self._in_folder(place, folder, is_foreign=is_foreign)
            except (OSError, RuntimeError) as error:
                # Before Python 3.13 a loop of links is a RuntimeError.
                reason = error.strerror if isinstance(error, OSError) else None
                yield f"{folder / FILE}: {reason or error}"
        if len(folders) > MAX_SKILLS:
            yield f"{parent}: it has {len(folders):,} folders; only the first {MAX_SKILLS:,} are read"

    def _in_folder(self, place: Path, folder: Path, *, is_foreign: bool) -> Iterator[FoundSkill | str]:
        """Raises `OSError`."""
        file = folder / FILE
        real = file.resolve()
        if not real.is_relative_to(place):
            yield f"{file}: a link leads out of {place}"
            return
        if not real.exists():
            yield f"{file}: there is no such file, so the folder {folder.name} is no skill"
            return
        parsed = self._parse(place, real, folder.name)
        if isinstance(parsed, Skill):
            yield FoundSkill(parsed, real.parent, place, is_foreign)
        else:
            yield from (f"{file}:{fault}" for fault in parsed)

    def _parse(self, place: Path, file: Path, folder: str) -> Skill | tuple[str, ...]:
        """The skill, or its faults with their lines. Raises `OSError`."""
        key = (file / folder, _signature(file))
        if (known := self._parsed.get(key)) is not None:
            self._parsed.move_to_end(key)
            return known
        parsed = self._parsed[key] = _parsed(read_bytes(place, file, MAX_SKILL_BYTES), folder)
        while len(self._parsed) > MAX_PARSED:
            self._parsed.popitem(last=False)
        return parsed


Signature = tuple[int, int, int, int]


def _signature(file: Path) -> Signature:
    """What is different once a file has been written or replaced."""
    status = file.stat()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _folders(parent: Path) -> list[Path]:
    """Those that may be skills, in the order of their names; hidden ones are none."""
    with os.scandir(parent) as entries:
        scanned = islice(entries, 4 * MAX_SKILLS)
        names = sorted(entry.name for entry in scanned if not entry.name.startswith(".") and entry.is_dir())
    return [parent / name for name in names]


def _parsed(data: bytes | int, folder: str) -> Skill | tuple[str, ...]:
    if isinstance(data, int):
        return (f" it has {data:,} bytes; the limit is {MAX_SKILL_BYTES:,}",)
    try:
        return parse_skill(data.decode("utf-8-sig"), folder)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return (f"{line}: it is not UTF-8 text",)
    except InvalidSkill as error:
        return tuple(f"{fault.line}: {fault.text}" for fault in error.faults)


def files_of(found: FoundSkill, limit: int) -> tuple[Sequence[str], bool]:
    """The files next to its SKILL.md, relative to its folder, at most `limit`; and whether these are all. Hidden ones
    and links to folders are left out. Blocking."""
    names = list(islice(_files(found.folder), limit + 1))
    return names[:limit], len(names) <= limit


def _files(folder: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.relpath(os.path.join(parent, name), folder)
            if not name.startswith(".") and path != FILE:
                yield path
