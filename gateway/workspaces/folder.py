"""The folder of a workspace: which files are there, and how it is brought to another state. Blocking.

Commands may run in it meanwhile: files are opened folder by folder, links are never followed, and what has changed
since it was looked at is never overwritten.
"""

from __future__ import annotations

import os
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePath
from secrets import token_hex
from typing import BinaryIO

from agent.tools.workspace import FOLDER_FLAGS, make_workspace
from gateway.media.blobs import WrongBytes
from gateway.workspaces.manifest import Entry, File, Folder, LeftOut, Link, other_name

TEMPORARY = ".interject-sync-"
"""Begins the names of files that are being written here; a crash leaves them behind."""

CHUNK = 1 << 20
MAX_DEPTH = 200
"""Folders within folders."""

RACE = 50_000_000
"""Nanoseconds: what was changed so short a time before it was looked at may change again without a new time."""


@dataclass(frozen=True, slots=True)
class SyncLimits:
    """Of one workspace: how many files (with links and empty folders) are saved, of so many bytes in all, and how
    large one of them may be."""

    files: int = 20_000
    total: int = 4 << 30
    file: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Known:
    """What a file was when its hash was found; it is the same file as long as this is the same."""

    size: int
    changed: int
    status_changed: int
    inode: int
    hash: str

    def fits(self, status: os.stat_result) -> bool:
        return self.status == (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    @property
    def status(self) -> tuple[int, int, int, int]:
        return self.size, self.changed, self.status_changed, self.inode


@dataclass(slots=True)
class Scanned:
    """What is in the folder. `known` are the files whose hash need not be found again."""

    entries: dict[str, Entry] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)


def scan(folder: Path, known: Mapping[str, Known], limits: SyncLimits) -> Scanned:
    """Reads only the files that are not as `known`. Raises `OSError` if the folder cannot be read."""
    scanned = Scanned()
    root = folder.resolve()
    if not root.is_dir():
        return scanned
    found: dict[str, os.stat_result] = {}
    for path, name, status, parent in _walk(root, scanned):
        if stat.S_ISLNK(status.st_mode):
            with suppress(FileNotFoundError):
                scanned.entries[path] = Link(os.readlink(name, dir_fd=parent))
        elif stat.S_ISDIR(status.st_mode):
            scanned.entries[path] = Folder()
        elif not stat.S_ISREG(status.st_mode):
            scanned.left_out.append(LeftOut(path, "it is no file, no folder and no link"))
        elif status.st_size > limits.file:
            scanned.left_out.append(LeftOut(path, f"it has more than {_mib(limits.file)}"))
        else:
            found[path] = status
    _leave_out_largest(found, limits, scanned)
    for path, status in found.items():
        before = known.get(path)
        if before is not None and before.fits(status):
            _add(path, before, status, scanned)
            scanned.known[path] = before
        else:
            _read(root, path, scanned)
    scanned.left_out.sort(key=lambda each: each.path)
    del scanned.left_out[limits.files :]
    return scanned


def _walk(root: Path, scanned: Scanned) -> Iterator[tuple[str, str, os.stat_result, int]]:
    """The path of each file, link and empty folder, with its name, its state, and the descriptor of its folder."""

    def unreadable(error: OSError) -> None:
        path = Path(error.filename)
        if path == root:
            raise error
        within = path.relative_to(root).as_posix() if path.is_absolute() else str(path)
        scanned.left_out.append(LeftOut(within, f"it cannot be read: {error.strerror}"))

    for within, folders, files, descriptor in _folders(root, unreadable):
        prefix = "" if not within.parts else f"{within.as_posix()}/"
        if len(within.parts) >= MAX_DEPTH:
            scanned.left_out += [LeftOut(f"{prefix}{name}", "it is too deep in other folders") for name in folders]
        for name in (*folders, *files):
            if name.startswith(TEMPORARY):
                continue
            # Another process may delete it meanwhile.
            with suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    yield f"{prefix}{name}", name, status, descriptor
        if prefix and not folders and not files:
            yield prefix[:-1], within.name, os.fstat(descriptor), descriptor


def _folders(root: Path, unreadable: Callable[[OSError], None]) -> Iterator[tuple[PurePath, list[str], list[str], int]]:
    """Each folder by its path within the root: the names of folders (and of links to some) in it, and of the others,
    and its descriptor."""
    for place, folders, files, descriptor in os.fwalk(root, onerror=unreadable, follow_symlinks=False):
        within = PurePath(place).relative_to(root)
        yield within, list(folders), files, descriptor
        if len(within.parts) >= MAX_DEPTH:
            folders.clear()


def _leave_out_largest(found: dict[str, os.stat_result], limits: SyncLimits, scanned: Scanned) -> None:
    """If there is too much, what is in the largest folders (or the largest files) is taken out of `found` and of
    `scanned`, until the rest is within the limits."""
    count, size = len(found) + len(scanned.entries), sum(status.st_size for status in found.values())
    if count <= limits.files and size <= limits.total:
        return
    tops: dict[str, list[str]] = defaultdict(list)
    for path in (*found, *scanned.entries):
        tops[path.partition("/")[0]].append(path)
    counts = {top: len(paths) for top, paths in tops.items()}
    sizes = {top: sum(found[path].st_size for path in paths if path in found) for top, paths in tops.items()}
    for top in sorted(tops, key=lambda top: (counts[top], top), reverse=True):
        if count <= limits.files:
            break
        _leave_out(top, f"{limits.files:,} files", tops.pop(top), found, scanned)
        count, size = count - counts[top], size - sizes[top]
    for top in sorted(tops, key=lambda top: (sizes[top], top), reverse=True):
        if size <= limits.total:
            break
        _leave_out(top, _mib(limits.total), tops.pop(top), found, scanned)
        size -= sizes[top]


def _leave_out(top: str, most: str, paths: Iterable[str], found: dict[str, os.stat_result], scanned: Scanned) -> None:
    scanned.left_out.append(LeftOut(top, f"with it, the workspace would have more than {most}"))
    for path in paths:
        found.pop(path, None)
        scanned.entries.pop(path, None)


def _read(root: Path, path: str, scanned: Scanned) -> None:
    """Adds the file, with the hash of its bytes."""
    hashed = sha256()
    try:
        with opened_file(root, path) as stream:
            status, now = os.fstat(stream.fileno()), time.time_ns()
            for data in chunks_of(stream, status.st_size):
                hashed.update(data)
    except FileNotFoundError:
        # It was deleted since it was listed.
        return
    except OSError as error:
        scanned.left_out.append(LeftOut(path, f"it cannot be read: {error.strerror or error}"))
        return
    known = known_as(status, hashed.hexdigest())
    _add(path, known, status, scanned)
    if now - status.st_ctime_ns > RACE:
        scanned.known[path] = known


def _add(path: str, known: Known, status: os.stat_result, scanned: Scanned) -> None:
    scanned.entries[path] = File(known.hash, known.size, stat.S_IMODE(status.st_mode) & 0o777, known.changed)


def known_as(status: os.stat_result, hash: str) -> Known:
    return Known(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, hash)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB" if size >= 1 << 20 else f"{size:,} bytes"


def chunks_of(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """The first bytes of a file, not more than `size` of them: it may grow faster than it can be read."""
    while size > 0 and (data := stream.read(min(size, CHUNK))):
        size -= len(data)
        yield data


def opened_file(folder: Path, path: str) -> BinaryIO:
    """The file of that path, by folders without links. Raises `FileNotFoundError` if it is no file any more, and
    `OSError`."""
    with _opened(folder.resolve(), path) as parent:
        file = os.open(_last(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        stream = os.fdopen(file, "rb")
        if not stat.S_ISREG(os.fstat(file).st_mode):
            stream.close()
            raise FileNotFoundError(path)
        return stream


# Changes


class FolderChanges:
    """Changes to a folder that was scanned. What has changed there since is kept under another name; `kept` has these
    names by path."""

    def __init__(self, folder: Path, scanned: Scanned, wanted: Collection[str]) -> None:
        """`wanted` are the paths that are to be there."""
        make_workspace(folder)
        self._wanted = frozenset(wanted)
        self.root = folder.resolve()
        self.known: dict[str, Known] = {}
        self.kept: dict[str, str] = {}
        self._scanned = scanned

    def clear_leftovers(self) -> None:
        """Deletes what a crash has left half written."""
        for _, _, files, descriptor in _folders(self.root, lambda error: None):
            for name in files:
                if name.startswith(TEMPORARY):
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=descriptor)

    def rename(self, path: str, name: str) -> str:
        """What is at the path gets this name in the same folder, or another one if something has it; the name."""
        with self._folder_of(path) as folder:
            taken = _paths_beside(path, folder)
            chosen = other_name(path, taken | self._wanted) if name in taken else name
            with suppress(FileNotFoundError):
                os.rename(_last(path), _last(chosen), src_dir_fd=folder, dst_dir_fd=folder)
        return chosen

    def remove(self, path: str) -> None:
        """Deletes a file, a link or an empty folder, if it is as it was scanned."""
        with suppress(FileNotFoundError, NotADirectoryError), self._folder_of(path) as folder:
            status = os.stat(_last(path), dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self._remove_folder(path)
            elif self._is_as_scanned(path, status, folder):
                os.unlink(_last(path), dir_fd=folder)

    def remove_empty(self, path: str) -> None:
        """Deletes a folder if nothing is in it."""
        with suppress(FileNotFoundError, NotADirectoryError):
            self._remove_folder(path)

    def make_folder(self, path: str) -> None:
        with self._making(path) as folder, suppress(FileExistsError):
            os.mkdir(_last(path), 0o755, dir_fd=folder)

    def make_link(self, path: str, link: Link) -> None:
        self._replace(path, lambda temporary, folder: os.symlink(link.target, temporary, dir_fd=folder))

    def write(self, path: str, file: File, source: Path) -> None:
        """Writes the file, whole or not at all; `source` has its bytes. Raises `WrongBytes` if it has others."""

        def copy(temporary: str, folder: int) -> None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            target = os.open(temporary, flags, 0o600, dir_fd=folder)
            with os.fdopen(target, "wb") as stream, source.open("rb") as original:
                hashed = sha256()
                while data := original.read(CHUNK):
                    hashed.update(data)
                    stream.write(data)
                if hashed.hexdigest() != file.hash:
                    raise WrongBytes(file.hash)
                os.fchmod(target, file.mode)
                stream.flush()
                os.utime(target, ns=(file.changed, file.changed))

        status = self._replace(path, copy)
        if status.st_ctime_ns - file.changed > RACE:
            # A later change gives it another time.
            self.known[path] = known_as(status, file.hash)

    def set_mode(self, path: str, file: File) -> None:
        """The file has the right bytes; it gets the right permissions."""
        with suppress(FileNotFoundError), self._folder_of(path) as folder:
            opened = os.open(_last(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                os.fchmod(opened, file.mode)
            finally:
                os.close(opened)

    def _replace(self, path: str, make: Callable[[str, int], None]) -> os.stat_result:
        with self._making(path) as folder:
            temporary = f"{TEMPORARY}{token_hex(8)}"
            try:
                make(temporary, folder)
                self._give_way(path, folder)
                os.rename(temporary, _last(path), src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            return os.stat(_last(path), dir_fd=folder, follow_symlinks=False)

    def _give_way(self, path: str, folder: int) -> None:
        """What is in the place of the path and is not what was scanned there is kept under another name."""
        try:
            status = os.stat(_last(path), dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):
            with suppress(OSError):
                os.rmdir(_last(path), dir_fd=folder)
                return
        elif self._is_as_scanned(path, status, folder):
            return
        self._keep(path, folder)

    def _keep(self, path: str, folder: int) -> None:
        name = other_name(path, _paths_beside(path, folder) | self._wanted)
        os.rename(_last(path), _last(name), src_dir_fd=folder, dst_dir_fd=folder)
        self.kept[path] = name

    def _is_as_scanned(self, path: str, status: os.stat_result, folder: int) -> bool:
        match self._scanned.entries.get(path):
            case File(size=size, changed=changed):
                return stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns) == (size, changed)
            case Link(target=target):
                return stat.S_ISLNK(status.st_mode) and os.readlink(_last(path), dir_fd=folder) == target
            case _:
                return False

    def _folder_of(self, path: str) -> AbstractContextManager[int]:
        return _opened(self.root, path)

    def _making(self, path: str) -> AbstractContextManager[int]:
        """The folder of the path, which is made; a file or a link in its place gets another name."""
        return _opened(self.root, path, self._make_step)

    def _make_step(self, path: str, name: str, parent: int) -> None:
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=parent)
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            self._keep(path, parent)
            os.mkdir(name, 0o755, dir_fd=parent)

    def _remove_folder(self, path: str) -> None:
        with self._folder_of(path) as folder:
            try:
                os.rmdir(_last(path), dir_fd=folder)
            except FileNotFoundError:
                return
            except OSError:
                # Something is in it.
                return


@contextmanager
def _opened(root: Path, path: str, make: Callable[[str, str, int], None] | None = None) -> Iterator[int]:
    """The descriptor of the folder that a path is in, by folders without links. Before each of these is opened, `make`
    is told of its path, its name and the descriptor of its own folder. Raises `OSError`."""
    folder = os.open(root, FOLDER_FLAGS)
    try:
        parts = path.split("/")[:-1]
        for number, name in enumerate(parts, 1):
            if make is not None:
                make("/".join(parts[:number]), name, folder)
            inner = os.open(name, FOLDER_FLAGS, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _paths_beside(path: str, folder: int) -> frozenset[str]:
    """The paths of what is in the folder of the path."""
    return frozenset(f"{path[: -len(_last(path))]}{each}" for each in os.listdir(folder))


def _last(path: str) -> str:
    return path.rpartition("/")[2]
