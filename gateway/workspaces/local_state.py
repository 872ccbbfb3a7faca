"""What this machine knows of the workspaces that it has: which version each was brought to, and what its files were."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

from gateway.workspaces.folder import Known
from gateway.workspaces.manifest import Entries, Manifest, UnreadableManifest, checked_path, from_json, to_json

FORMAT = 1
STATE = ".json"
MARK = ".mark"


@dataclass(frozen=True, slots=True)
class Version:
    """The version of the workspace `key` that its folder was brought to, or that was saved from it."""

    key: str
    id: str
    version: int
    manifest: str


@dataclass(frozen=True, slots=True)
class LocalState:
    """`known` are files whose hash need not be found again, by their paths. `lost` are the paths of files that are in
    the manifest and not in the folder, because the media store did not have them: nobody has deleted them."""

    version: Version
    manifest: Manifest
    known: Mapping[str, Known]
    lost: frozenset[str] = frozenset()

    @property
    def brought(self) -> Entries:
        """What the folder was brought to."""
        return {path: entry for path, entry in self.manifest.entries.items() if path not in self.lost}


@dataclass(frozen=True, slots=True)
class Mark:
    """The last turn that has worked in the folder, and whether what it changed may be unsaved."""

    turn: str = ""
    unsaved: bool = False


@dataclass(frozen=True, slots=True)
class LocalStates:
    """Files in a folder of the gateway's own. All methods block, and raise `OSError`; what cannot be understood counts
    as not there, so that nothing is taken for known."""

    folder: Path

    def read(self, key: str) -> LocalState | None:
        lines = self._read(key)
        if len(lines) < 2:
            return None
        try:
            data = json.loads(lines[1])
            known = {path: Known(*values) for path, values in data["known"].items()}
            version, manifest = _version_from(json.loads(lines[0])), from_json(data["manifest"])
            return LocalState(version, manifest, known, frozenset(data["lost"]))
        except (ValueError, TypeError, KeyError, AttributeError, UnreadableManifest):
            return None

    def write(self, state: LocalState) -> None:
        version = state.version
        head = {
            "format": FORMAT,
            "key": version.key,
            "id": version.id,
            "version": version.version,
            "manifest": version.manifest,
        }
        body = {
            "manifest": to_json(state.manifest),
            "known": {path: [*known.status, known.hash] for path, known in state.known.items()},
            "lost": sorted(state.lost),
        }
        self._write(f"{_name(version.key)}{STATE}", f"{json.dumps(head)}\n{json.dumps(body, separators=(',', ':'))}\n")

    def version(self, key: str) -> Version | None:
        """Reads less than `read`."""
        return _first_line(self.folder / f"{_name(key)}{STATE}")

    def versions(self) -> Iterator[Version]:
        """Those of all workspaces that this machine has."""
        for file in self.folder.glob(f"*{STATE}"):
            if (found := _first_line(file)) is not None:
                yield found

    def mark(self, key: str) -> Mark:
        try:
            data = json.loads((self.folder / f"{_name(key)}{MARK}").read_text(encoding="utf-8"))
            return Mark(str(data["turn"]), bool(data["unsaved"]))
        except FileNotFoundError:
            return Mark()
        except (ValueError, TypeError, KeyError):
            return Mark(unsaved=True)

    def set_mark(self, key: str, mark: Mark) -> None:
        self._write(f"{_name(key)}{MARK}", json.dumps({"turn": mark.turn, "unsaved": mark.unsaved}))

    def forget(self, key: str) -> None:
        for end in (STATE, MARK):
            (self.folder / f"{_name(key)}{end}").unlink(missing_ok=True)

    def _read(self, key: str) -> list[str]:
        try:
            return (self.folder / f"{_name(key)}{STATE}").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def _write(self, name: str, text: str) -> None:
        """Whole or not at all."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.folder / f".{token_hex(8)}.tmp"
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(text)
            temporary.rename(self.folder / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _name(key: str) -> str:
    return sha256(key.encode(errors="surrogateescape")).hexdigest()[:32]


def _first_line(file: Path) -> Version | None:
    try:
        with file.open(encoding="utf-8") as stream:
            return _version_from(json.loads(stream.readline()))
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _version_from(data: Any) -> Version:
    """Raises `ValueError`, `TypeError` and `KeyError`."""
    if data["format"] != FORMAT:
        raise ValueError("of another version of Interject")
    return Version(checked_path(data["key"]), str(data["id"]), int(data["version"]), str(data["manifest"]))
