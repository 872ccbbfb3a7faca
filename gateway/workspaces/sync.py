"""Keeps the workspaces of this machine in step with those that are saved in the media store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar
from weakref import WeakValueDictionary

from agent.gate import one_line
from agent.interrupt import shielded
from agent.media import Attachment, MediaError, MediaMissing
from gateway.store.errors import StoreError
from gateway.store.records import SavedWorkspace, WorkspaceChange
from gateway.workspaces.folder import FolderChanges, Scanned, SyncLimits, chunks_of, opened_file, scan
from gateway.workspaces.local_state import LocalState, LocalStates, Version
from gateway.workspaces.manifest import (
    Entries,
    Entry,
    File,
    Folder,
    LeftOut,
    Link,
    Manifest,
    Merged,
    dump_manifest,
    is_same,
    load_manifest,
    merge,
    parents,
    same,
)
from gateway.workspaces.removal import delete_folder

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

STATES = "workspaces-saved"
"""The folder, within the data directory, of what this machine knows of its workspaces."""

AT_ONCE = 8
"""Files that are sent or fetched at the same time."""

ATTEMPTS = 5
"""How often a version is saved on top of another one that was saved meanwhile."""

SENT_FOR = 1800.0
"""Seconds for which a file that was sent is there although no version uses it yet: less than what
`gateway.store.media_cleanup` leaves for that."""

LOOK_PAUSE = 60.0
"""Seconds between two looks for workspaces that were deleted on other machines."""

OVERLAP = timedelta(minutes=10)
"""Clocks of machines may differ by so much."""

NAMED = 20
"""Files that one note names."""

DELETED = "The files of this workspace were deleted meanwhile, on request."
CONFLICTS = (
    "Files of the workspace were changed on two machines at the same time. The version that was saved first has kept "
    "the name, the other one is beside it; merge them if both are needed: {files}"
)
LOST = "Files of the workspace are no longer in the media store, and cannot be restored: {files}"
LEFT_OUT = (
    "Not saved with the workspace: these files are only on the machine {host}, and missing when the conversation goes "
    "on elsewhere: {files}"
)

Commit = Callable[[WorkspaceChange], Awaitable[SavedWorkspace | None]]
"""Stores a new version. None: another one was stored since. Raises `TurnLost` if whoever made it may not save any
more."""


class NotSaved(Exception):
    """The message says why."""


class SyncStore(Protocol):
    async def save_of_turn(self, turn_id: str, epoch: int, change: WorkspaceChange) -> SavedWorkspace | None: ...
    async def save_of_call(self, session: str, row: int, change: WorkspaceChange) -> SavedWorkspace | None: ...
    async def saved_workspace(self, key: str) -> SavedWorkspace | None: ...
    async def delete_workspace(self, key: str) -> frozenset[str] | None: ...
    async def deleted_workspaces(self, since: datetime) -> frozenset[str]: ...
    async def is_workspace_deleted(self, id: str) -> bool: ...


class SyncMedia(Protocol):
    async def put_unexamined(self, chunks: AsyncIterable[bytes], name: str) -> Attachment: ...
    def local_file(self, attachment: Attachment) -> AbstractAsyncContextManager[Path]: ...
    async def remove(self, hashes: Collection[str], since: datetime | None = None) -> int: ...


@dataclass(frozen=True, slots=True)
class Brought:
    """`notes` are what is to be told; `unsaved`: the folder has changes that are not saved."""

    notes: tuple[str, ...] = ()
    unsaved: bool = False


class WorkspaceSync:
    """Of one data directory. A workspace is known by its folder there, so that it has the same key on each machine.

    Unless said otherwise, methods raise `MediaError`, `OSError` and `StoreError`; what they have done by then is done
    again the next time.
    """

    def __init__(
        self, store: SyncStore, media: SyncMedia, home: Path, host: str, *, limits: SyncLimits | None = None
    ) -> None:
        """`home` is the data directory, `host` the name of this machine."""
        self.states = LocalStates(home / STATES)
        self.store = store
        self._media = media
        self._home = home
        self.host = host
        self._limits = limits or SyncLimits()
        self._sent: dict[str, dict[str, float]] = {}
        """By workspace: the hashes of files that were sent for a version that is not saved yet, and when."""
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def key(self, folder: Path) -> str | None:
        """None for a folder elsewhere, which several machines may share."""
        return folder.relative_to(self._home).as_posix() if folder.is_relative_to(self._home) else None

    async def bring(self, key: str) -> Brought:
        """Brings the folder to the newest version. What it has beside that stays."""
        async with self._lock(key):
            saved = await self.store.saved_workspace(key)
            if saved is not None and saved.files:
                await _to_the_end(self._forget_if_emptied, key)
            have = await asyncio.to_thread(self._version_here, key)
            if have is not None and (saved is None or saved.id != have.id):
                await self._forget_if_deleted(have)
            if saved is None or _is_at(have, saved):
                return Brought()
            return await self._take_over(key, saved)

    async def save(self, key: str, commit: Commit) -> tuple[str, ...]:
        """Saves what has changed since the version that the folder was brought to; what is to be told. Raises
        `NotSaved`, and what `commit` raises."""
        async with self._lock(key):
            notes: tuple[str, ...] = ()
            for _ in range(ATTEMPTS):
                saved = await self.store.saved_workspace(key)
                have = await asyncio.to_thread(self._version_here, key)
                if have is not None and (saved is None or saved.id != have.id) and await self._forget_if_deleted(have):
                    notes += (DELETED,)
                    have = None
                if saved is not None and not _is_at(have, saved):
                    notes += (await self._take_over(key, saved)).notes
                if (told := await self._save_on(key, saved, commit)) is not None:
                    return notes + told
            raise NotSaved("other machines save it all the time")

    async def is_saved(self, folder: Path) -> bool:
        """Whether a version with files is saved."""
        key = self.key(folder)
        saved = None if key is None else await self.store.saved_workspace(key)
        return saved is not None and saved.files > 0

    async def delete(self, folder: Path) -> bool:
        """Deletes the workspace here and where it is saved; other machines follow. Whether there was any."""
        key = self.key(folder)
        if key is None:
            return await asyncio.to_thread(delete_folder, folder)
        async with self._lock(key):
            since = datetime.now(UTC)
            hashes = await self.store.delete_workspace(key)
            was_here = await self._forget(key)
        if hashes:
            try:
                await self._media.remove(hashes, since)
            except MediaError as error:
                log.warning("files of a deleted workspace are removed later: %s", error)
        return was_here or hashes is not None

    async def follow_deletions(self) -> None:
        """Deletes the folders of workspaces that were deleted on other machines; never returns."""
        since = datetime.fromtimestamp(0, UTC)
        while True:
            now = datetime.now(UTC)
            deleted = await self.store.deleted_workspaces(since)
            if not deleted or await self._delete_here(deleted):
                since = now - OVERLAP
            await asyncio.sleep(LOOK_PAUSE)

    async def _delete_here(self, deleted: Collection[str]) -> bool:
        """Deletes the folders of the workspaces with these ids; whether that worked for all."""
        worked = True
        for version in await asyncio.to_thread(lambda: list(self.states.versions())):
            if version.id in deleted:
                try:
                    async with self._lock(version.key):
                        await self._forget_if_deleted(version)
                except OSError as error:
                    log.warning("a workspace that was deleted on another machine is tried again later: %s", error)
                    worked = False
        return worked

    # One workspace, with its lock

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())

    def _version_here(self, key: str) -> Version | None:
        """The version of the folder, if that is there: whoever has removed it as a whole wants nothing deleted
        elsewhere. Blocking."""
        return self.states.version(key) if (self._home / key).is_dir() else None

    def _forget_if_emptied(self, key: str) -> None:
        """Likewise for a folder in which there is nothing any more, and that by no turn. Blocking."""
        folder = self._home / key
        if folder.is_dir() and not any(folder.iterdir()) and not self.states.mark(key).unsaved:
            self.states.forget(key)

    async def _forget_if_deleted(self, have: Version) -> bool:
        if not await self.store.is_workspace_deleted(have.id):
            return False
        # Since then the folder may have been brought to a new workspace of the same key.
        now = await asyncio.to_thread(self.states.version, have.key)
        if now is not None and now.id != have.id:
            return False
        await self._forget(have.key)
        log.info("a workspace that was deleted on another machine is deleted here")
        return True

    async def _forget(self, key: str) -> bool:
        was_here = await _to_the_end(delete_folder, self._home / key)
        await _to_the_end(self.states.forget, key)
        return was_here

    async def _take_over(self, key: str, saved: SavedWorkspace) -> Brought:
        """Brings the folder to this version."""
        folder = self._home / key
        there = await self._manifest(saved)
        state = await self._state(key, saved)
        base = Manifest() if state is None else state.manifest
        scanned = await asyncio.to_thread(scan, folder, {} if state is None else state.known, self._limits)
        brought = {} if state is None else state.brought
        merged = merge(brought, scanned.entries, there.entries)
        changes = await asyncio.to_thread(FolderChanges, folder, scanned, merged.entries)
        here = await _to_the_end(_make_room, changes, scanned, merged)
        lost = await self._fetch(changes, here, merged)
        if lost and (newest := await self.store.saved_workspace(key)) is not None and newest != saved:
            # What only a replaced version has used may be deleted.
            return await self._take_over(key, newest)
        unchanged = {
            path: known for path, known in scanned.known.items() if same(here.get(path), merged.entries.get(path))
        }
        version = Version(key, saved.id, saved.version, saved.manifest)
        await _to_the_end(self.states.write, LocalState(version, there, unchanged | changes.known, frozenset(lost)))
        notes = []
        if renamed := {**merged.renamed, **changes.kept}:
            notes.append(
                CONFLICTS.format(files=_listed(f"{_shown(path)} → {_shown(name)}" for path, name in renamed.items()))
            )
        if lost and (state is None or state.lost != set(lost)):
            log.error("the workspace %s: %d files are missing in the media store", key, len(lost))
            notes.append(LOST.format(files=_listed(map(_shown, lost))))
        if saved.host != self.host and there.left_out and there.left_out != base.left_out:
            notes.append(_left_out(saved.host, there.left_out))
        unsaved = bool(changes.kept) or not is_same(Manifest(merged.entries, there.left_out), there)
        return Brought(tuple(notes), unsaved)

    async def _save_on(self, key: str, saved: SavedWorkspace | None, commit: Commit) -> tuple[str, ...] | None:
        """Saves what differs from this version, to which the folder was brought. None: another one was saved since."""
        folder = self._home / key
        state = await self._state(key, saved)
        base = Manifest() if state is None else state.manifest
        scanned = await asyncio.to_thread(scan, folder, {} if state is None else state.known, self._limits)
        lost = {} if state is None else _still_lost(state, scanned.entries)
        now = Manifest({**scanned.entries, **lost}, tuple(scanned.left_out))
        if is_same(base, now):
            if state is not None and state.known != scanned.known:
                await _to_the_end(self.states.write, replace(state, known=scanned.known))
            return ()
        now = await self._send(key, now, base.hashes)
        known = {path: each for path, each in scanned.known.items() if _has(now.entries.get(path), each.hash)}
        data = await asyncio.to_thread(dump_manifest, now)
        manifest = (await self._media.put_unexamined(_at_once(data), "the list of the files")).hash
        before = base.hashes | ({saved.manifest} if saved is not None else frozenset())
        after = now.hashes | {manifest}
        change = WorkspaceChange(
            key, saved, manifest, len(now.entries), self.host, after - before, frozenset(before - after)
        )
        stored = await commit(change)
        if stored is None:
            return None
        self._sent.pop(key, None)
        version = Version(key, stored.id, stored.version, manifest)
        await _to_the_end(self.states.write, LocalState(version, now, known, frozenset(lost)))
        if now.left_out and now.left_out != base.left_out:
            return (_left_out(self.host, now.left_out),)
        return ()

    async def _state(self, key: str, saved: SavedWorkspace | None) -> LocalState | None:
        """What is known of the folder, as far as it belongs to this workspace."""
        if saved is None or await asyncio.to_thread(self._version_here, key) is None:
            return None
        state = await asyncio.to_thread(self.states.read, key)
        return None if state is None or state.version.id != saved.id else state

    async def _manifest(self, saved: SavedWorkspace) -> Manifest:
        list_of_files = Attachment(saved.manifest, "the list of the files in the workspace", "", 0)
        async with self._media.local_file(list_of_files) as path:
            data = await asyncio.to_thread(path.read_bytes)
        if sha256(data).hexdigest() != saved.manifest:
            raise OSError("the list of the files in the workspace is damaged")
        return await asyncio.to_thread(load_manifest, data)

    async def _fetch(self, changes: FolderChanges, here: dict[str, Entry], merged: Merged) -> list[str]:
        """Writes what is not as it is to be; the files that are not in the media store."""
        lost: list[str] = []

        async def fetch(path: str, entry: Entry) -> None:
            present = here.get(path)
            match entry:
                case File(hash=hash) if isinstance(present, File) and present.hash == hash:
                    await _to_the_end(changes.set_mode, path, entry)
                case File(hash=hash, size=size):
                    try:
                        async with self._media.local_file(Attachment(hash, path, "", size)) as source:
                            await _to_the_end(changes.write, path, entry, source)
                    except MediaMissing:
                        lost.append(path)
                case Link():
                    await _to_the_end(changes.make_link, path, entry)
                case Folder():
                    await _to_the_end(changes.make_folder, path)

        wanted = [(path, entry) for path, entry in merged.entries.items() if not same(here.get(path), entry)]
        await _each(partial(fetch, path, entry) for path, entry in wanted)
        return sorted(lost)

    async def _send(self, key: str, now: Manifest, saved: Collection[str]) -> Manifest:
        """Stores the bytes of the files; the manifest of what was stored, which is what they were then. After an
        attempt that has failed it goes on with the rest."""
        folder, entries, sent_before = self._home / key, dict(now.entries), self._sent.setdefault(key, {})
        since = time.monotonic() - SENT_FOR
        stored = {*saved, *(hash for hash, at in sent_before.items() if at > since)}
        paths: dict[str, list[str]] = defaultdict(list)
        for path, entry in entries.items():
            if isinstance(entry, File) and entry.hash not in stored:
                paths[entry.hash].append(path)

        async def send(hash: str, same_bytes: list[str]) -> None:
            for path in same_bytes:
                entry = entries[path]
                assert isinstance(entry, File)
                try:
                    async with aclosing(_chunks(folder, path, entry.size)) as chunks:
                        sent = await self._media.put_unexamined(chunks, path)
                except FileNotFoundError:
                    # It was deleted since the folder was looked at.
                    del entries[path]
                    continue
                sent_before[sent.hash] = time.monotonic()
                if sent.hash == hash:
                    return
                entries[path] = replace(entry, hash=sent.hash, size=sent.size)

        await _each(partial(send, hash, same_bytes) for hash, same_bytes in paths.items())
        return replace(now, entries=entries)


def _make_room(changes: FolderChanges, scanned: Scanned, merged: Merged) -> dict[str, Entry]:
    """Renames and removes what has another name, or is not there any more; what is there then. Blocking."""
    changes.clear_leftovers()
    here = scanned.entries
    for path, name in list(merged.renamed.items()):
        chosen = changes.rename(path, name)
        merged.entries[chosen], merged.renamed[path] = merged.entries.pop(name), chosen
        scanned.known.pop(path, None)
        if path in here:
            here[chosen] = here.pop(path)
    folders = {parent for path in merged.entries for parent in parents(path)}
    gone = [path for path, entry in here.items() if _is_in_the_way(entry, merged.entries.get(path))]
    for path in gone:
        if path not in folders or not isinstance(here[path], Folder):
            changes.remove(path)
        del here[path]
    kept = folders | {path for path, entry in merged.entries.items() if isinstance(entry, Folder)}
    emptied = {parent for path in gone for parent in parents(path)} - kept
    for path in sorted(emptied, key=len, reverse=True):
        changes.remove_empty(path)
    return here


def _still_lost(state: LocalState, here: Entries) -> dict[str, Entry]:
    """The files that this machine could not fetch, as they were saved: another one may have them. Nothing else has
    their place here."""
    if not state.lost:
        return {}
    folders = {parent for path in here for parent in parents(path)}
    return {
        path: entry
        for path, entry in state.manifest.entries.items()
        if path in state.lost and path not in here and path not in folders and here.keys().isdisjoint(parents(path))
    }


def _is_in_the_way(entry: Entry, wanted: Entry | None) -> bool:
    return wanted is None or (isinstance(wanted, Folder) and not isinstance(entry, Folder))


def _is_at(have: Version | None, saved: SavedWorkspace) -> bool:
    return have is not None and (have.id, have.version, have.manifest) == (saved.id, saved.version, saved.manifest)


def _has(entry: Entry | None, hash: str) -> bool:
    return isinstance(entry, File) and entry.hash == hash


async def _to_the_end(change: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Changes files in a thread, which goes on when its caller is cancelled: the workspace's lock is kept until it has
    ended."""
    return await shielded(asyncio.to_thread(change, *args, **kwargs))


async def _each(works: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Does all of them, some at a time. After an error nothing new begins; it is raised when what has begun has ended:
    threads cannot be cancelled, and would go on without the workspace's lock."""
    left, errors = iter(works), list[Exception]()

    async def work() -> None:
        for each in left:
            if errors:
                return
            try:
                await each()
            except Exception as error:  # noqa: BLE001 - the first is raised
                errors.append(error)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    if errors:
        raise errors[0]


async def _chunks(folder: Path, path: str, size: int) -> AsyncGenerator[bytes, None]:
    """Of the bytes that the file had when it was looked at. Raises `FileNotFoundError` if it is no file any more."""
    stream = await asyncio.to_thread(opened_file, folder, path)
    try:
        chunks = chunks_of(stream, size)
        while (data := await asyncio.to_thread(next, chunks, None)) is not None:
            yield data
    finally:
        stream.close()


async def _at_once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _left_out(host: str, left_out: Iterable[LeftOut]) -> str:
    return LEFT_OUT.format(
        host=host, files=_listed(f"{_shown(each.path)} ({one_line(each.reason)})" for each in left_out)
    )


def _listed(items: Iterable[str]) -> str:
    all_items = list(items)
    more = f" and {len(all_items) - NAMED} more" if len(all_items) > NAMED else ""
    return f"{', '.join(all_items[:NAMED])}{more}."


def _shown(path: str) -> str:
    """Whoever can make files chooses their names: in a note they are only names."""
    name = one_line(path).replace("`", "'")
    return f"`{name}`"


def reason_of(error: Exception) -> str:
    """For people, without paths of this machine."""
    return one_line(error.strerror or error if isinstance(error, OSError) else error).rstrip(".")


ERRORS = (MediaError, OSError, StoreError)
"""What keeps a workspace from being brought or saved at the moment."""
