"""Fetches the files of a message from its platform, and the first message of its thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol, TypeVar

from pydantic import TypeAdapter

from agent.media import Attachment, MediaError, MediaStore, MediaUnavailable
from channels.address import Address, Sender
from channels.channel import Channel, ChannelError, FileUnavailable, RetryLater, TalkReader, Unreachable
from channels.message import STORED, FileRef, ForeignText, ThreadRoot
from gateway.inbound.talk import talk_note
from gateway.lifecycle.fair_slots import FairSlots
from gateway.lifecycle.retry import retry_until_stored
from gateway.outbound.moved_chats import MovedChats
from gateway.sessions import person_key
from gateway.store import records

log = logging.getLogger(__name__)

T = TypeVar("T")

ALBUM_DELAY = 0.5
"""Seconds without another part until an album, or a text in parts, is taken to be complete."""

WAIT = 10.0
"""Seconds after which a message is read without the files that are not here yet."""

ATTEMPTS = 5
TIMEOUT = 120.0
"""Seconds for one attempt at one file."""

MAX_PAUSE = 60.0
CONCURRENCY = 8
PERSON_CONCURRENCY = 6
"""Files that are fetched at the same time, and how many of them may be one person's."""

READ_CONCURRENCY = 8
PERSON_READ_CONCURRENCY = 1
"""Files whose text is read at the same time, and how many of them may be one person's."""

TALK_TIMEOUT = 10.0
"""Seconds to get what was said before a message, which waits for it."""

THREAD_ROOT_LENGTH = 4000
"""Characters of a thread's first message that the model is shown."""


@dataclass(frozen=True, slots=True)
class FileText:
    """What the model is told of a file. `taken` are files made of it for the model: its text, smaller pictures.
    `is_unreadable`: the person is told so too."""

    note: str = ""
    taken: tuple[Attachment, ...] = ()
    is_unreadable: bool = False


ReadFile = Callable[[Attachment], Awaitable[FileText]]
"""What is in a file; no note if there is nothing to say. Never raises."""


class FetchStore(Protocol):
    async def unfetched(self, row_id: int) -> records.Unfetched | None: ...
    async def mark_ready(
        self,
        row_id: int,
        fetched: Sequence[FileRef],
        attachments: Sequence[Attachment],
        note: str,
        foreign: Sequence[ForeignText],
    ) -> bool: ...
    async def put_off(self, row_id: int, late: Sequence[FileRef], note: str) -> int | None: ...


@dataclass(frozen=True, slots=True)
class FetchedMessage:
    """A message that turns may read now. `missing` says of each file that is not available, or that no model can be
    shown, why."""

    row: records.Unfetched
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A stored file and what is in it; or no file, and the reason, or only text, in `note`."""

    attachment: Attachment | None
    note: str
    foreign: ForeignText | None = None
    taken: tuple[Attachment, ...] = ()
    is_unreadable: bool = False

    @property
    def text(self) -> str:
        return self.note if self.foreign is None else self.foreign.text

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        return () if self.attachment is None else (self.attachment, *self.taken)

    def from_outside(self, source: str) -> _Fetched:
        """The same, with its note as foreign text."""
        return replace(self, note="", foreign=ForeignText(source, self.note) if self.note else None)


def _fetched_message(row: records.Unfetched, files: Mapping[FileRef, asyncio.Task[_Fetched]]) -> FetchedMessage:
    found = (files[file].result() for file in row.files)
    return FetchedMessage(row, tuple(each.text for each in found if each.attachment is None or each.is_unreadable))


def _kind(file: FileRef) -> str:
    """What people call it."""
    match file.media_type.partition("/")[0]:
        case "image":
            return "picture"
        case "audio":
            return "voice note"
        case "video":
            return "video"
        case _:
            return f"file {file.name}"


class _NotAvailable(Exception):
    """The message is the reason."""


class AttachmentFetcher:
    def __init__(
        self,
        store: FetchStore,
        channels: Mapping[str, Channel],
        media: MediaStore,
        read_file: ReadFile,
        is_foreign: Callable[[str, Sender], bool],
        chats: MovedChats,
        *,
        wait: float = WAIT,
    ) -> None:
        """`is_foreign`: whether a text of this author, on this channel, is text from outside. `wait`: the seconds that
        a message waits for its files, and the messages behind it with it."""
        self._wait = wait
        self._store = store
        self._is_foreign = is_foreign
        self._chats = chats
        self._channels = channels
        self._media = media
        self.read_file = read_file
        self._slots = FairSlots(CONCURRENCY, PERSON_CONCURRENCY)
        self._reading = FairSlots(READ_CONCURRENCY, PERSON_READ_CONCURRENCY)

    async def fetch(self, row_id: int, fetched: Callable[[FetchedMessage], Awaitable[None]]) -> None:
        """Fetches the message's files and lets turns read it, at the latest `wait` seconds after all of it has arrived:
        files that are not there by then follow it in a message of their own. A note names those that are not available.

        `fetched` is called with each message that can be read now; not if it no longer waits for files.
        """
        row = await self._complete(row_id)
        if row is None:
            return
        async with asyncio.TaskGroup() as group:
            files = {file: group.create_task(self._file(row, file)) for file in row.files}
            followers = [] if row.follows is not None else await self._read_in_time(row, files, group, fetched)
            for follower in followers if row.follows is None else [row_id]:
                await self._read_when_complete(follower, files, fetched)
            for task in files.values():
                task.cancel()

    async def _read_in_time(
        self,
        row: records.Unfetched,
        files: dict[FileRef, asyncio.Task[_Fetched]],
        group: asyncio.TaskGroup,
        fetched: Callable[[FetchedMessage], Awaitable[None]],
    ) -> list[int]:
        """Lets turns read the message in time; the rows of the files that follow it."""
        clock = asyncio.get_running_loop().time
        end, followers = clock() + self._wait, list[int]()
        before = await self._before(row)
        while (found := await self._unfetched(row.id)) is not None:
            for file in found.files:
                if file not in files:
                    # An album got another file meanwhile.
                    files[file] = group.create_task(self._file(found, file))
            if found.files:
                await asyncio.wait({files[file] for file in found.files}, timeout=max(0.0, end - clock()))
            if late := [file for file in found.files if not files[file].done()]:
                follower = await self._put_off(found, late)
                followers += [] if follower is None else [follower]
            elif await self._mark_ready(found, before, files):
                await fetched(_fetched_message(found, files))
                break
        return followers

    async def _read_when_complete(
        self,
        row_id: int,
        files: Mapping[FileRef, asyncio.Task[_Fetched]],
        fetched: Callable[[FetchedMessage], Awaitable[None]],
    ) -> None:
        """Lets turns read late files."""
        row = await self._unfetched(row_id)
        if row is None:
            return
        await asyncio.wait({files[file] for file in row.files})
        if await self._mark_ready(row, (), files):
            await fetched(_fetched_message(row, files))

    async def _before(self, row: records.Unfetched) -> tuple[_Fetched, ...]:
        """What was said before the message."""
        if row.thread_root is None and not row.reads_talk:
            return ()
        thread_root, talk = await asyncio.gather(self._thread_root_in_time(row), self._talk(row))
        return (*thread_root, *talk)

    async def _complete(self, row_id: int) -> records.Unfetched | None:
        """The message with all parts of its album."""
        row, parts = await self._unfetched(row_id), 0
        while row is not None and row.album is not None and row.parts > parts:
            parts = row.parts
            await asyncio.sleep(ALBUM_DELAY)
            row = await self._unfetched(row_id)
        return row

    async def _unfetched(self, row_id: int) -> records.Unfetched | None:
        return await retry_until_stored(lambda: self._store.unfetched(row_id), "the inbox cannot be read")

    async def _put_off(self, row: records.Unfetched, late: Sequence[FileRef]) -> int | None:
        note = "\n".join(f"[{_kind(file)} still on its way]" for file in late)
        return await retry_until_stored(
            lambda: self._store.put_off(row.id, late, note), "a message cannot be read before its files are here"
        )

    async def _mark_ready(
        self, row: records.Unfetched, before: Sequence[_Fetched], files: Mapping[FileRef, asyncio.Task[_Fetched]]
    ) -> bool:
        """False: the message has more files by now."""
        found = [*before, *(files[file].result() for file in row.files)]
        attachments = tuple(file for each in found for file in each.attachments)
        note = "\n".join(each.note for each in found if each.note)
        foreign = [each.foreign for each in found if each.foreign is not None]
        return await retry_until_stored(
            lambda: self._store.mark_ready(row.id, row.files, attachments, note, foreign),
            "fetched files cannot be stored",
        )

    async def _thread_root_in_time(self, row: records.Unfetched) -> tuple[_Fetched, ...]:
        if row.thread_root is None:
            return ()
        try:
            async with asyncio.timeout(self._wait):
                return await self._thread_root(row, row.thread_root)
        except TimeoutError:
            return (_Fetched(None, "The first message of this thread is not available: the platform is too slow."),)

    async def _thread_root(self, row: records.Unfetched, message_id: str) -> tuple[_Fetched, ...]:
        """The first message of the thread: its text, then its files."""
        address = self._chats.current(row.address)
        try:
            root = await self._retry(address, lambda channel: channel.thread_root(address, message_id))
        except _NotAvailable as error:
            return (_Fetched(None, f"The first message of this thread is not available: {error}."),)
        if root is None:
            return ()
        text = root.text if len(root.text) <= THREAD_ROOT_LENGTH else f"{root.text[:THREAD_ROOT_LENGTH]}…"
        note = f'The first message of this thread, from {root.sender}: "{text}"'
        fetched = (_Fetched(None, note), *[await self._file(row, file) for file in root.files])
        if root.author is not None and (
            root.author.id == address.account or not self._is_foreign(address.channel, root.author)
        ):
            return fetched
        return tuple(each.from_outside(f"a message of {root.sender}") for each in fetched)

    async def _talk(self, row: records.Unfetched) -> tuple[_Fetched, ...]:
        """What was said before the message, after the first message of the thread or what was read last."""
        address = self._chats.current(row.address)
        channel = self._channels.get(address.channel)
        if not (row.reads_talk and row.message_id and isinstance(channel, TalkReader)):
            return ()
        try:
            said = await _said(channel, address, after=row.seen or row.thread_root, before=row.message_id)
        except _NotAvailable as error:
            return (_Fetched(None, f"What was written here before is not available: {error}."),)
        note = talk_note(said, is_again=row.seen is not None)
        strangers = [each.sender for each in said if not each.author or self._is_foreign(address.channel, each.author)]
        if not note:
            return ()
        fetched = _Fetched(None, note)
        if not strangers:
            return (fetched,)
        return (fetched.from_outside(f"earlier messages here, of {', '.join(dict.fromkeys(strangers))} and others"),)

    async def _file(self, row: records.Unfetched, file: FileRef) -> _Fetched:
        """Never raises: a failure here affects only this file."""
        person = person_key(row.address.channel, row.sender)
        try:
            attachment = _stored(file)
            if attachment is None:
                async with self._slots.hold(person):
                    data = await self._retry(row.address, lambda channel: channel.fetch(file))
                    attachment = await self._store_file(data, file.name)
        except (_NotAvailable, MediaError) as error:
            return _Fetched(None, f"The file {file.name} is not available: {error}.")
        except Exception as error:
            log.exception("a file could not be stored")
            return _Fetched(None, f"The file {file.name} is not available: {type(error).__name__}.")
        async with self._reading.hold(person):
            read = await self.read_file(attachment)
        found = _Fetched(attachment, read.note, taken=read.taken, is_unreadable=read.is_unreadable)
        return found.from_outside(file.foreign) if file.foreign else found

    async def _store_file(self, data: bytes, name: str) -> Attachment:
        """Waits until the media store works: what people have sent is not lost."""
        pause = 1.0
        while True:
            try:
                return await self._media.put(data, name)
            except MediaUnavailable as error:
                log.error("a file cannot be stored, trying again: %s", error)
                await asyncio.sleep(pause)
                pause = min(MAX_PAUSE, 2 * pause)

    async def _retry(self, address: Address, get: Callable[[Channel], Awaitable[T]]) -> T:
        """Raises `_NotAvailable`, after some minutes at most."""
        channel = self._channels.get(address.channel)
        if channel is None:
            raise _NotAvailable(f"the channel {address.channel} is not configured")
        pause, reason = 1.0, ""
        for _ in range(ATTEMPTS):
            try:
                async with asyncio.timeout(TIMEOUT):
                    return await get(channel)
            except FileUnavailable as error:
                raise _NotAvailable(str(error)) from error
            except (RetryLater, Unreachable, TimeoutError) as error:
                reason = str(error) or "timeout"
                await asyncio.sleep(min(MAX_PAUSE, error.after if isinstance(error, RetryLater) else pause))
                pause *= 2
            except Exception as error:
                log.exception("%s: fetching failed", channel.name)
                raise _NotAvailable(type(error).__name__) from error
        raise _NotAvailable(reason)


def _stored(file: FileRef) -> Attachment | None:
    """The attachment of a file that needs no fetching."""
    return _attachments().validate_json(file.ref.removeprefix(STORED)) if file.ref.startswith(STORED) else None


@cache
def _attachments() -> TypeAdapter[Attachment]:
    return TypeAdapter(Attachment)


async def _said(channel: TalkReader, address: Address, *, after: str | None, before: str) -> tuple[ThreadRoot, ...]:
    """Raises `_NotAvailable`."""
    try:
        async with asyncio.timeout(TALK_TIMEOUT):
            return await channel.talk(address, after=after, before=before)
    except (ChannelError, TimeoutError) as error:
        log.info("%s: the messages before one are not available: %r", address.channel, error)
        raise _NotAvailable(str(error) or "the platform does not answer") from error
    except Exception as error:
        log.exception("%s: the messages before one cannot be read", address.channel)
        raise _NotAvailable(type(error).__name__) from error
