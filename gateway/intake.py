"""Intake: from a channel's message to a committed inbox row, and on to whoever deals with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from agent.log import Ended, Told
from agent.media import Attachment, MediaError, MediaStore
from agent.racing import surely
from channels.address import Address
from channels.channel import Channel, FileUnavailable, NotKept, RetryLater, Unreachable
from channels.message import Accepted, FileRef, InboundMessage, Mark
from gateway.commands import Commands
from gateway.delivery import Delivery
from gateway.dispatch import Dispatch
from gateway.gate import Gate, Verdict
from gateway.patience import until_kept
from gateway.replies import Draft
from gateway.sessions import session_key
from gateway.store import records
from gateway.store.errors import StoreError

log = logging.getLogger(__name__)

ALBUM_SETTLES = 0.5
"""Seconds after which an album's files, which come one by one, are taken to be complete."""

FETCH_ATTEMPTS = 5
FETCH_WITHIN = 120.0
"""Seconds for one attempt at one file."""

LONGEST_PAUSE = 60.0
MOST_FETCHES = 8
NOT_ALLOWED = "Sorry, I only answer people my operator has allowed. (Your id here is `{id}`.)"


class IntakeStore(Protocol):
    async def accept(self, message: InboundMessage, session: str, refused: str | None) -> records.Arrival: ...
    async def unfetched(self, row_id: int) -> records.Unfetched | None: ...
    async def ready(
        self, row_id: int, fetched: Sequence[FileRef], attachments: Sequence[Attachment], note_addition: str
    ) -> bool: ...
    async def answer(self, command_id: int, text: str) -> str: ...
    async def has_waiting(self, session: str) -> bool: ...
    async def say(self, session: str, address: Address, reply_to: str | None, text: str, key: str) -> str | None: ...


class Intake:
    """Use as `async with`. `deliver` is what channels are given."""

    def __init__(
        self,
        store: IntakeStore,
        gate: Gate,
        dispatch: Dispatch,
        commands: Commands,
        delivery: Delivery,
        channels: Mapping[str, Channel],
        media: MediaStore,
    ) -> None:
        self._store = store
        self._gate = gate
        self._dispatch = dispatch
        self._commands = commands
        self._delivery = delivery
        self._channels = channels
        self._media = media
        self._fetching = asyncio.Semaphore(MOST_FETCHES)
        self._tasks = asyncio.TaskGroup()
        self._own: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Intake:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._own:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def deliver(self, message: InboundMessage) -> Accepted | None:
        """Keeps the message; see `channels.message.Deliver`. Raises `NotKept`."""
        verdict = self._gate.judge(message)
        if verdict is Verdict.NOT_OURS:
            return None
        refused = "not on the allow list" if verdict is Verdict.REFUSED else None
        # A caller that is cancelled has kept the message all the same, and will be told of a duplicate the next time.
        arrival = await surely(self._accept(message, refused))
        return Accepted(arrival.id, arrival.duplicate, arrival.reason if arrival.state == "refused" else None)

    async def _accept(self, message: InboundMessage, refused: str | None) -> records.Arrival:
        try:
            arrival = await self._store.accept(message, session_key(message.address), refused)
        except StoreError as error:
            raise NotKept(f"The gateway cannot keep messages just now: {error}") from error
        if not arrival.duplicate:
            self._go_on(message, arrival)
        return arrival

    def take_up(self, pending: records.Pending) -> None:
        """Goes on with what an earlier process left: commands first, so that a stop is still in time."""
        for command in pending.commands:
            self._spawn(self._answer(command))
        for unfetched in pending.unfetched:
            self._spawn(self._fetch(unfetched.id))

    def _go_on(self, message: InboundMessage, arrival: records.Arrival) -> None:
        if arrival.command:
            self._spawn(self._answer(_command(message, arrival)))
        elif arrival.to_fetch is not None:
            self._spawn(self._fetch(arrival.to_fetch))
        elif arrival.wakes:
            self._dispatch.wake(arrival.session)
        elif arrival.first_refusal and message.address.kind == "direct":
            self._spawn(self._refuse(message, arrival))
        changed = arrival.changed
        if changed is not None:
            mark = Mark(message.address, changed.id, changed.message_id, changed.state, None, changed.reason)
            self._delivery.mark(mark)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.create_task(self._guarded(work))
        self._own.add(task)
        task.add_done_callback(self._own.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """The edge at which a broken command or download costs itself only."""
        try:
            await work
        except Exception:
            log.exception("intake: handling a message broke; it is taken up again at the next start")

    async def _answer(self, command: records.Command) -> None:
        """Carries a command out and keeps its answer, before which nothing that was said later is read."""
        text = await self._carry_out(command)
        turn_id = await until_kept(lambda: self._store.answer(command.id, text), "a command's answer cannot be kept")
        self._delivery.mark(Mark(command.address, command.id, command.message_id, "answered"))
        self._show(turn_id, command.address, command.message_id, text)
        if await until_kept(lambda: self._store.has_waiting(command.session), "the inbox cannot be read"):
            self._dispatch.wake(command.session)

    async def _carry_out(self, command: records.Command) -> str:
        """What to tell the person. This is the edge at which a broken command costs itself only."""
        try:
            return await self._commands.answer(command)
        except StoreError as error:
            return f"⚠️ `/{command.name}` did not work: {error}"
        except Exception:
            log.exception("command /%s broke", command.name)
            return f"⚠️ `/{command.name}` did not work: something broke inside the gateway; its log has the details"

    async def _refuse(self, message: InboundMessage, arrival: records.Arrival) -> None:
        text = NOT_ALLOWED.format(id=message.sender.id.replace("`", ""))
        key = f"refused:{arrival.id}"
        turn_id = await self._store.say(arrival.session, message.address, message.message_id, text, key)
        if turn_id is not None:
            self._show(turn_id, message.address, message.message_id, text)

    def _show(self, turn_id: str, address: Address, reply_to: str | None, text: str) -> None:
        self._delivery.show(Draft(turn_id, address, reply_to, (Told(text), Ended("completed"))))

    async def _fetch(self, row_id: int) -> None:
        """Fetches a message's files, lets turns read it, and names the files that could not be had."""
        row = await self._unfetched(row_id)
        if row is not None and row.album is not None:
            await asyncio.sleep(ALBUM_SETTLES)
        fetched: dict[FileRef, Attachment | str] = {}
        while (row := await self._unfetched(row_id)) is not None:
            await self._fetch_missing(row, fetched)
            if await until_kept(partial(self._ready, row, fetched), "fetched files cannot be kept"):
                self._dispatch.wake(row.session)
                return

    async def _unfetched(self, row_id: int) -> records.Unfetched | None:
        return await until_kept(lambda: self._store.unfetched(row_id), "the inbox cannot be read")

    async def _ready(self, row: records.Unfetched, fetched: Mapping[FileRef, Attachment | str]) -> bool:
        found = [fetched[file] for file in row.files]
        attachments = tuple(item for item in found if isinstance(item, Attachment))
        note = " ".join(item for item in found if isinstance(item, str))
        return await self._store.ready(row.id, row.files, attachments, note)

    async def _fetch_missing(self, row: records.Unfetched, fetched: dict[FileRef, Attachment | str]) -> None:
        async with self._fetching:
            for file in row.files:
                if file not in fetched:
                    fetched[file] = await self._fetch_one(row.address, file)

    async def _fetch_one(self, address: Address, file: FileRef) -> Attachment | str:
        """The stored file, or why it could not be had: whatever breaks here must not hold the conversation up."""
        channel = self._channels.get(address.channel)
        if channel is None:
            return f"The file {file.name} could not be had: {address.channel} is not connected any more."
        pause = 1.0
        for _ in range(FETCH_ATTEMPTS):
            try:
                async with asyncio.timeout(FETCH_WITHIN):
                    data = await channel.fetch(file)
                return await self._media.put(data, file.name)
            except (FileUnavailable, MediaError) as error:
                return f"The file {file.name} could not be had: {error}."
            except (RetryLater, Unreachable, TimeoutError) as error:
                trouble = str(error) or "it took too long"
                await asyncio.sleep(min(LONGEST_PAUSE, error.after if isinstance(error, RetryLater) else pause))
                pause *= 2
            except Exception as error:
                log.exception("%s: fetching a file broke", channel.name)
                return f"The file {file.name} could not be had: {type(error).__name__}."
        return f"The file {file.name} could not be had: {trouble}."


def _command(message: InboundMessage, arrival: records.Arrival) -> records.Command:
    return records.Command(
        id=arrival.id,
        session=arrival.session,
        address=message.address,
        sender=message.sender,
        message_id=message.message_id,
        name=message.command or "",
        arguments=message.text,
    )
