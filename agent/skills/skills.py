"""Collections of skills: what is found in folders of them, read anew when files change."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from agent.skills.skill import FILE, InvalidSkill, Skill, SkillFault, is_name, parse_skill
from agent.tools.workspace import read_bytes
from agent.toolset import matches

MAX_SKILLS = 500
"""Folders that are looked at in one place."""

MAX_SCANNED = 10_000
"""Files and folders of a place."""

MAX_SKILL_BYTES = 256_000
"""Of a SKILL.md."""

MAX_PARSED = 2_000
"""Parsed files that are kept."""

LEADS_OUT = "a link leads out of the folder that is searched for skills"

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
class Invalid:
    """Why a file is no skill; `line` is 0 if it is none of its lines. `place` contains the file."""

    place: Path
    file: Path
    text: str
    line: int = 0
    is_foreign: bool = False

    def __str__(self) -> str:
        return f"{self.file}{f':{self.line}' if self.line else ''}: {self.text}"

    @property
    def short(self) -> str:
        """Without the folders above its place, which are for the operator."""
        return str(replace(self, file=Path(os.path.relpath(self.file, self.place.parent))))


@dataclass(frozen=True, slots=True)
class Skills:
    """The valid skills, by name, and what is wrong with the others."""

    found: tuple[FoundSkill, ...] = ()
    invalid: tuple[Invalid, ...] = ()

    def named(self, patterns: Sequence[str] | None) -> Skills:
        """Those whose names are, or fit, one of these; None for all."""
        if patterns is None:
            return self
        return replace(self, found=tuple(each for each in self.found if matches(each.skill.name, patterns)))

    def get(self, name: str) -> FoundSkill | None:
        return next((each for each in self.found if each.skill.name == name), None)


class SkillReader:
    """Finds skills; a file that has not changed is not read again."""

    def __init__(self) -> None:
        self._parsed: OrderedDict[tuple[Path, Signature], Skill | InvalidSkill] = OrderedDict()

    def read(self, places: Iterable[Path], workspace: Path | None = None) -> Skills:
        """The skills in these places, each a folder of skills or the folder of one, and in a workspace. Of two with the
        same name the first one counts. Blocking."""
        found: dict[str, FoundSkill] = {}
        invalid: list[Invalid] = []
        for each in self._all(places, workspace):
            match each:
                case Invalid():
                    invalid.append(each)
                case FoundSkill(skill=skill) if (known := found.get(skill.name)) is not None:
                    text = f"there is a skill of this name already, in {known.folder.parent.name}"
                    invalid.append(Invalid(each.place, each.folder / FILE, text, is_foreign=each.is_foreign))
                case FoundSkill():
                    found[each.skill.name] = each
        return Skills(tuple(found[name] for name in sorted(found)), tuple(invalid))

    def find(self, places: Iterable[Path], name: str) -> FoundSkill | None:
        """The skill of this name in these places, as it is now. It looks at one file in each."""
        for place in places if is_name(name) else ():
            root = place.resolve()
            found = next(self._in_folder(root, root if root.name == name else root / name), None)
            if isinstance(found, FoundSkill):
                return found
        return None

    def _all(self, places: Iterable[Path], workspace: Path | None) -> Iterator[FoundSkill | Invalid]:
        for place in places:
            root = place.resolve()
            yield from self._in_place(root, root)
        if workspace is not None and (workspace / WORKSPACE_FOLDER).is_dir():
            root = workspace.resolve()
            for each in self._in_place(root, root / WORKSPACE_FOLDER):
                yield replace(each, is_foreign=True)

    def _in_place(self, place: Path, parent: Path) -> Iterator[FoundSkill | Invalid]:
        """What is found in `parent`, a folder of `place`, which no link may leave."""
        if not parent.resolve().is_relative_to(place):
            yield Invalid(place, parent, LEADS_OUT)
            return
        try:
            folders = [parent] if (parent / FILE).exists() else _folders(parent)
        except OSError as error:
            yield Invalid(place, parent, error.strerror or str(error))
            return
        for folder in folders[:MAX_SKILLS]:
            yield from self._in_folder(place, folder)
        if len(folders) > MAX_SKILLS:
            yield Invalid(place, parent, f"it has more than {MAX_SKILLS:,} folders; the others are not read")

    def _in_folder(self, place: Path, folder: Path) -> Iterator[FoundSkill | Invalid]:
        file = folder / FILE
        try:
            real = file.resolve()
            if not real.is_relative_to(place):
                yield Invalid(place, file, LEADS_OUT)
                return
            yield FoundSkill(self._parse(place, real, folder.name), real.parent, place)
        except InvalidSkill as error:
            yield from (Invalid(place, file, fault.text, fault.line) for fault in error.faults)
        except FileNotFoundError:
            yield Invalid(place, file, "there is no such file, so this folder is no skill")
        except OSError as error:
            yield Invalid(place, file, error.strerror or str(error))
        except RuntimeError as error:
            # A loop of links, before Python 3.13.
            yield Invalid(place, file, str(error))

    def _parse(self, place: Path, file: Path, folder: str) -> Skill:
        """Raises `InvalidSkill` and `OSError`."""
        key = (file / folder, _signature(file))
        parsed = self._parsed.get(key)
        if parsed is None:
            parsed = self._parsed[key] = _parsed(read_bytes(place, file, MAX_SKILL_BYTES), folder)
            while len(self._parsed) > MAX_PARSED:
                self._parsed.popitem(last=False)
        if isinstance(parsed, InvalidSkill):
            raise InvalidSkill(*parsed.faults)
        return parsed


Signature = tuple[int, int, int, int]


def _signature(file: Path) -> Signature:
    """What is different once a file has been written or replaced."""
    status = file.stat()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _folders(parent: Path) -> list[Path]:
    """Those that may be skills, in the order of their names; hidden ones are none."""
    with os.scandir(parent) as entries:
        scanned = islice(entries, MAX_SCANNED)
        names = sorted(entry.name for entry in scanned if not entry.name.startswith(".") and entry.is_dir())
    return [parent / name for name in names]


def _parsed(data: bytes | int, folder: str) -> Skill | InvalidSkill:
    if isinstance(data, int):
        return InvalidSkill(SkillFault(0, f"it has {data:,} bytes; the limit is {MAX_SKILL_BYTES:,}"))
    try:
        return parse_skill(data.decode("utf-8-sig"), folder)
    except UnicodeDecodeError as error:
        return InvalidSkill(SkillFault(data.count(b"\n", 0, error.start) + 1, "it is not UTF-8 text"))
    except InvalidSkill as error:
        return error


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
