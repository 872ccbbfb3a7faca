"""The list of a workspace's files, as it is kept in the media store, and how two of them that differ become one."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from gateway.media.blobs import HASH

FORMAT = 1

CONFLICT = "conflict"

MAX_NAME = 255
"""Bytes of a name in file systems."""

MAX_SUFFIX = 50
"""Bytes of the last part of a name that stays as it is."""

MAX_NUMBER = 2**63 - 1
"""Of sizes and times in file systems."""

DAMAGED = "the list of the files in the workspace is damaged"


class UnreadableManifest(OSError):
    """The list of files is not one that this version can read."""


@dataclass(frozen=True, slots=True)
class File:
    """`hash` is the SHA-256 of the bytes, `size` their number, `mode` the permissions, `changed` the time of the last
    change in nanoseconds since 1970."""

    hash: str
    size: int
    mode: int
    changed: int


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link: only its text, which is never followed."""

    target: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder without files."""


Entry = File | Link | Folder
Entries = Mapping[str, Entry]
"""By the path within the workspace, with "/"."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or a folder that is not saved, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    entries: Entries = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()

    @property
    def hashes(self) -> frozenset[str]:
        """The files in the media store that it names."""
        return frozenset(entry.hash for entry in self.entries.values() if isinstance(entry, File))


@dataclass(frozen=True, slots=True)
class Merged:
    """`entries` are those of both sides. `renamed` are the paths here of which the other side has another version, with
    the names that the versions from here have now."""

    entries: dict[str, Entry]
    renamed: dict[str, str]


def same(one: Entry | None, other: Entry | None) -> bool:
    """Whether nothing differs that is worth a new version: the time of a change alone is not."""
    if isinstance(one, File) and isinstance(other, File):
        return one.hash == other.hash and one.mode == other.mode
    return one == other


def is_same(one: Manifest, other: Manifest) -> bool:
    if one.left_out != other.left_out or one.entries.keys() != other.entries.keys():
        return False
    return all(same(entry, other.entries[path]) for path, entry in one.entries.items())


def dump_manifest(manifest: Manifest) -> bytes:
    """Names that are not UTF-8 are escaped: file systems allow any bytes."""
    return json.dumps(to_json(manifest), separators=(",", ":")).encode("ascii")


def load_manifest(data: bytes) -> Manifest:
    """Raises `UnreadableManifest`."""
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableManifest(DAMAGED) from error
    return from_json(parsed)


def to_json(manifest: Manifest) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "files": {
            path: [entry.hash, entry.size, entry.mode, entry.changed]
            for path, entry in manifest.entries.items()
            if isinstance(entry, File)
        },
        "links": {path: entry.target for path, entry in manifest.entries.items() if isinstance(entry, Link)},
        "folders": [path for path, entry in manifest.entries.items() if isinstance(entry, Folder)],
        "left_out": [[each.path, each.reason] for each in manifest.left_out],
    }


def from_json(data: Any) -> Manifest:
    """Raises `UnreadableManifest`."""
    try:
        if data["format"] != FORMAT:
            raise UnreadableManifest("the list of the files in the workspace is of a newer version of Interject")
        entries: dict[str, Entry] = {checked_path(path): _file(*values) for path, values in data["files"].items()}
        entries |= {checked_path(path): Link(_name(target)) for path, target in data["links"].items()}
        entries |= {checked_path(path): Folder() for path in data["folders"]}
        return Manifest(entries, tuple(LeftOut(_name(path), str(reason)) for path, reason in data["left_out"]))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise UnreadableManifest(DAMAGED) from error


def _file(hash: Any, size: Any, mode: Any, changed: Any) -> File:
    """Raises `ValueError` and `TypeError`."""
    if not HASH.fullmatch(hash):
        raise ValueError(f"{hash!r} is no SHA-256")
    return File(hash, _number(size), _number(mode) & 0o777, _number(changed))


def _number(value: Any) -> int:
    """Raises `ValueError`."""
    if not isinstance(value, int) or abs(value) > MAX_NUMBER:
        raise ValueError(f"{value!r} is no number of a file system")
    return value


def _name(value: Any) -> str:
    """A name or a path that a file system can have. Raises `ValueError`."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{value!r} is no name in a file system")
    os.fsencode(value)
    return value


def checked_path(path: Any) -> str:
    """A path that stays within its folder. Raises `ValueError`."""
    if any(part in ("", ".", "..") for part in _name(path).split("/")):
        raise ValueError(f"{path!r} is no path within a folder")
    return str(path)


def merge(base: Entries, here: Entries, there: Entries) -> Merged:
    """What both sides have made of `base`, file by file: a change wins over no change, and over a deletion. Of a file
    that both have changed, the version from there keeps the name, and the one from here gets another one."""
    merged: dict[str, Entry] = {}
    kept: dict[str, Entry] = {}
    for path in sorted(base.keys() | here.keys() | there.keys()):
        before, own, other = base.get(path), here.get(path), there.get(path)
        if _is_agreed(before, own, other):
            chosen = other
        elif same(before, other) or other is None:
            chosen = own
        elif own is None or isinstance(own, Folder):
            chosen = other
        else:
            chosen, kept[path] = other, own
        if chosen is not None:
            merged[path] = chosen
    renamed: dict[str, str] = {}
    for path, entry in kept.items():
        renamed[path] = other_name(path, merged)
        merged[renamed[path]] = entry
    _make_room(merged, here, renamed)
    return Merged(_without_filled_folders(merged), renamed)


def _is_agreed(before: Entry | None, own: Entry | None, other: Entry | None) -> bool:
    """Whether there is nothing from here that the version from there does not have."""
    if same(own, other) or same(before, own):
        return True
    return isinstance(own, File) and isinstance(other, File) and own.hash == other.hash


def _make_room(merged: dict[str, Entry], here: Entries, renamed: dict[str, str]) -> None:
    """A file in the place of a folder that the other side has files in gets another name."""
    for path in list(merged):
        for parent in parents(path):
            entry = merged.get(parent)
            if entry is None or isinstance(entry, Folder):
                continue
            name = other_name(parent, merged)
            merged[name] = merged.pop(parent)
            if same(here.get(parent), entry):
                renamed[parent] = name


def _without_filled_folders(entries: dict[str, Entry]) -> dict[str, Entry]:
    filled = {parent for path in entries for parent in parents(path)}
    return {path: entry for path, entry in entries.items() if not (isinstance(entry, Folder) and path in filled)}


def parents(path: str) -> Iterator[str]:
    """The folders that the path is in, from the innermost."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def other_name(path: str, taken: Container[str]) -> str:
    """A name beside the path that nothing has: "plan (conflict).md" for "plan.md". Of a name that would be too long the
    end of the stem is left out."""
    known = PurePosixPath(path)
    stem, suffix = (known.name, "") if known.name.startswith(".") else (known.stem, known.suffix)
    if len(suffix.encode(errors="surrogateescape")) > MAX_SUFFIX:
        stem, suffix = known.name, ""
    folder = path[: len(path) - len(known.name)]
    number = 1
    while True:
        mark = CONFLICT if number == 1 else f"{CONFLICT} {number}"
        end = f" ({mark}){suffix}"
        room = MAX_NAME - len(end.encode(errors="surrogateescape"))
        bytes_of_stem = stem.encode(errors="surrogateescape")
        kept = stem if len(bytes_of_stem) <= room else bytes_of_stem[:room].decode(errors="ignore")
        if (name := f"{folder}{kept}{end}") not in taken:
            return name
        number += 1
