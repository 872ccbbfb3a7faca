"""The store: what the house keeps, each operation one transaction, committed when it returns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from agent.log import CallEnded, Ended, Entry, MessagesRead, Notice, Usage
from agent.media import Attachment
from channels.address import Address, Sender
from channels.channel import Sent
from channels.message import FileRef, InboundMessage
from gateway.store import (
    costs,
    cursors,
    decisions,
    external_results,
    finish_up,
    inbox,
    media_cleanup,
    outbox,
    pairs,
    questions,
    reading,
    runs,
    turns,
    undo,
)
from gateway.store.records import (
    USUAL,
    Arrival,
    Bill,
    Busy,
    Changed,
    Decision,
    InboxRow,
    Manner,
    Pair,
    PastTurn,
    Pending,
    Run,
    StoredConversation,
    Turn,
    Undone,
    Unfetched,
)
from gateway.store.sqlite import database_path, explain, locked, make_current, prepare_reading
from gateway.store.writer import Writer

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

READERS = 2

MANY_TURNS = 100
"""Past turns that are read in a thread of their own."""


@asynccontextmanager
async def open_store(url: str, *, worker: str | None = None) -> AsyncIterator[Store]:
    """The store at a url like `sqlite:////var/lib/interject/interject.db`, made or brought up to date first.

    `worker` names this process in the turns it holds; by default a name that nobody else has. Raises `StoreBusy`,
    `StoreCorrupt`, `StoreTooNew` or `StoreFailed`.
    """
    path = database_path(url)
    with locked(path):
        engine = await asyncio.to_thread(make_current, path)
        try:
            with engine.connect() as connection:
                async with Writer(connection, partial(explain, path)) as writer:
                    store = Store(path, writer, worker or uuid4().hex)
                    try:
                        yield store
                    finally:
                        await store.stop_reading()
        finally:
            engine.dispose()


class Store:
    """Made by `open_store`. Everything here raises `StoreFailed` when the disk does not do its part.

    Writes are queued before the first suspension: calls made one after another take effect in that order. A caller
    that is cancelled does not undo what it has queued.
    """

    def __init__(self, path: Path, writer: Writer, worker: str) -> None:
        self.worker = worker
        self._path = path
        self._writer = writer
        self._readers: AsyncEngine | None = None

    async def write(self, job: Callable[[Connection], T]) -> T:
        """The job's result, committed. Jobs are grouped, may run twice, and must do nothing but use the connection."""
        return await self._writer.run(job)

    # Inbox

    async def accept(
        self,
        message: InboundMessage,
        session: str,
        refused: str | None = None,
        manner: Manner = USUAL,
    ) -> Arrival | None:
        """Keeps what a person did, once per (channel, event id) for ever. `refused` is the reason not to read it.

        None: nothing was kept, because the door is closed to it and nobody needs to be told.
        """
        return await self.write(lambda connection: inbox.accept(connection, message, session, refused, manner))

    async def run(self, run_id: str) -> Run | None:
        """What has become of the message that was given this id when it was accepted."""
        return await self._read(lambda connection: runs.run(connection, run_id))

    async def wrap(self, command_id: int) -> bool:
        """A command becomes a wish, with the words behind it, that the session's turn come to its end; False if there
        is none. It is read by that turn or, if that ends without reading it, ends with it."""
        return await self.write(lambda connection: finish_up.wrap(connection, command_id))

    async def choose(self, command_id: int, question: str, option: int) -> bool:
        """A pressed button becomes a message that says what the option says; False if the question is not open."""
        return await self.write(lambda connection: questions.choose(connection, command_id, question, option))

    async def open_question(self, session: str) -> str | None:
        """What the session's turn waits to be told."""
        return await self.write(lambda connection: questions.what_is_asked(connection, session))

    async def decide(self, command_id: int, key: str, number: int, allowed: bool, extends: bool = True) -> Decision:
        """A pressed option decides what the session's parked turn has asked, and the turn can be claimed. `allowed`:
        whoever pressed it may decide there, also on what others asked for; `extends`: and let a turn go beyond a limit.
        Unless it is `decided`, the command still waits."""
        return await self.write(
            lambda connection: decisions.decide(connection, command_id, key, number, allowed, extends)
        )

    async def expire(self, now: datetime) -> tuple[str, ...]:
        """Decides what nobody has decided by its deadline, and ends calls whose results nobody supplied by theirs; the
        sessions whose turns can be claimed for that."""
        return await self.write(lambda connection: decisions.expire(connection, now))

    async def waiting_in(self, turn_id: str) -> tuple[Entry, ...]:
        """The turn's log if it is parked, and is not to stop; else nothing."""
        return await self._read(lambda connection: external_results.waiting_in(connection, turn_id))

    async def supply(self, turn_id: str, results: Sequence[CallEnded], stop: str | None = None) -> str | None:
        """The results of the calls that a parked turn waits for, and the turn can be claimed: its session. It is to end
        if there is a reason to `stop`. None, and nothing is kept, if they are not exactly those results."""
        return await self.write(lambda connection: external_results.supply(connection, turn_id, results, stop))

    async def run_of(self, row_id: int) -> Run | None:
        """What has become of the message in this row of the inbox; None if it expects no answer of its own."""
        return await self._read(lambda connection: runs.run_of(connection, row_id))

    async def next_deadline(self) -> datetime | None:
        """When the next decision expires, or results are overdue; None if nothing is waited for that long."""
        return await self.write(decisions.next_deadline)

    async def set_model(self, session: str, name: str | None) -> None:
        """The model of the turns to come there, also after `/new`; None is the usual one."""
        await self.write(lambda connection: turns.set_model(connection, session, name))

    async def model_of(self, session: str) -> str | None:
        """The model chosen there; None is the usual one."""
        return await self.write(lambda connection: turns.model_of(connection, session))

    async def set_title(self, session: str, title: str, generation: int | None = None) -> None:
        """What the conversation is called in lists until it begins anew; nothing if it has, since `generation`."""
        await self.write(lambda connection: turns.set_title(connection, session, title, generation))

    async def set_busy(self, session: str, busy: Busy) -> None:
        """What messages do to a running turn there, from the next one on."""
        await self.write(lambda connection: turns.set_busy(connection, session, busy))

    async def unfetched(self, row_id: int) -> Unfetched | None:
        """A message with the files it has by now (albums grow); None once it is ready or waits no longer."""
        return await self.write(lambda connection: inbox.unfetched(connection, row_id))

    async def ready(
        self, row_id: int, fetched: Sequence[FileRef], attachments: Sequence[Attachment], note_addition: str = ""
    ) -> bool:
        """The files are fetched and turns may read the message; `attachments` are those that could be had.

        False when the message has more files than `fetched` by now: nothing is changed, fetch those of `unfetched`.
        """
        return await self.write(lambda connection: inbox.ready(connection, row_id, fetched, attachments, note_addition))

    async def what_waits(self, session: str) -> Busy | None:
        """What the messages that a turn could read now do to a running one; None if there are none."""
        return await self.write(lambda connection: inbox.what_waits(connection, session))

    async def counts(self, session: str) -> int:
        """How many messages wait, those whose files are still being fetched included."""
        return await self.write(lambda connection: inbox.count_waiting(connection, session))

    async def stop_waiting(self, session: str, upto: int, reason: str) -> tuple[Changed, ...]:
        """Withdraws the messages that wait and came before row `upto`."""
        return await self.write(lambda connection: inbox.stop_waiting(connection, session, upto, reason))

    async def rows(self, session: str) -> tuple[InboxRow, ...]:
        """The messages since the last `/new`, oldest first, without what only changed other messages."""
        return await self._read(lambda connection: reading.rows(connection, session))

    # Turns

    async def claim(self, session: str) -> Turn | None:
        """A turn to work on: another worker's unfinished one, taken over, or a new one that reads what waits.

        None when there is nothing to read, or when this worker holds the session's turn already.
        """
        return await self.write(lambda connection: turns.claim(connection, session, self.worker))

    async def read_inbox(self, turn_id: str, epoch: int, step: int) -> MessagesRead | None:
        """Reads all that waits and logs it; None if nothing waits. Raises `TurnLost`."""
        return await self.write(lambda connection: turns.read_inbox(connection, turn_id, epoch, step))

    async def append(self, turn_id: str, epoch: int, entries: Sequence[Entry]) -> None:
        """Adds to the turn's log. Raises `TurnLost`."""
        await self.write(lambda connection: turns.append(connection, turn_id, epoch, entries))

    async def park(self, turn_id: str, epoch: int, until: datetime | None = None) -> bool:
        """The turn is let go of until words of people can be read, until its decision is made or until that expires;
        False if there are such words already. Raises `TurnLost`."""
        return await self.write(lambda connection: turns.park(connection, turn_id, epoch, until))

    async def unfinished(self, session: str) -> Turn | None:
        """The session's turn that runs or is parked, without its log."""
        return await self.write(lambda connection: turns.unfinished(connection, session))

    async def newest_turn(self, session: str) -> str | None:
        """The turn that runs there or has ended last, since the last `/new`."""
        return await self.write(lambda connection: turns.newest(connection, session))

    async def stop_parked(self, session: str, reason: str) -> bool:
        """Whether the session has a parked turn: it ends when it is claimed next."""
        return await self.write(lambda connection: turns.stop_parked(connection, session, reason))

    async def close(self, turn_id: str, epoch: int, ended: Ended, entries: Sequence[Entry] = ()) -> tuple[Entry, ...]:
        """Adds the entries and ends the turn. What it has added at the end; nothing if the turn is completed and
        something waits. Raises `TurnLost`."""
        return await self.write(lambda connection: turns.close(connection, turn_id, epoch, ended, entries))

    async def answer(self, command_id: int, text: str) -> str:
        """Answers a command, once; the id of the reply. Raises `LookupError` if the row is no command."""
        return await self.write(lambda connection: turns.answer(connection, command_id, text, self.worker))

    async def begin_side_question(self, command_id: int) -> Turn:
        """Answers a command by a turn on the side, held by this worker, that has read its words. It hears nothing else,
        is no part of the history and is never claimed. Raises `LookupError` if no such command waits."""
        return await self.write(lambda connection: turns.begin_side_question(connection, command_id, self.worker))

    async def resume_side_question(self, turn_id: str) -> Turn:
        """Goes on with a turn on the side that another worker left. Raises `LookupError` if there is no such one."""
        return await self.write(lambda connection: turns.resume_side_question(connection, turn_id, self.worker))

    async def undo(self, session: str) -> Undone | None:
        """Takes the newest ended turn since the last `/new` out of the history; None if there is none, or one runs."""
        return await self.write(lambda connection: undo.undo(connection, session))

    async def retry(self, command_id: int) -> bool:
        """Undoes the last turn; the command becomes a message that says again what people had said in it. False if
        there is no such turn, or one runs."""
        return await self.write(lambda connection: undo.retry(connection, command_id))

    async def say(self, session: str, address: Address, reply_to: str | None, told: Notice, key: str) -> str | None:
        """Something of the gateway's own, at most once per key; the id of the reply, None if it was said before."""
        return await self.write(
            lambda connection: turns.say(connection, session, address, reply_to, told, key, self.worker)
        )

    async def renew(self, session: str) -> None:
        """The session begins anew: what waits and what comes has no history, and no tool is allowed any more."""
        await self.write(lambda connection: turns.renew(connection, session))

    async def turn(self, turn_id: str) -> Turn:
        """Any turn, whatever its state. Raises `LookupError`."""
        return await self._read(lambda connection: reading.turn(connection, turn_id))

    async def turns_of(self, session: str) -> tuple[Turn, ...]:
        """All turns since the last `/new`, running ones and answered commands included, oldest first."""
        return await self._read(lambda connection: reading.turns_of(connection, session))

    async def history(self, session: str) -> tuple[PastTurn, ...]:
        """The ended turns since the last `/new`, without answered commands, oldest first."""
        unread = await self._read(lambda connection: reading.history(connection, session))
        if len(unread) < MANY_TURNS:
            return reading.past_turns(unread)
        # A conversation of years takes most of a second, in which others are answered.
        return await asyncio.to_thread(reading.past_turns, unread)

    async def conversations(self, channel: str) -> tuple[StoredConversation, ...]:
        """Those in which something was said that was not refused, the most recent first."""
        return await self._read(lambda connection: reading.conversations(connection, channel))

    async def pending(self) -> Pending:
        """What a process that starts finds to do."""
        return await self.write(reading.pending)

    # Cost

    async def spent(
        self,
        *,
        turn: str | None = None,
        session: str | None = None,
        person: str | None = None,
        since: datetime | None = None,
        task: str | None = None,
    ) -> Bill:
        """What was spent for a turn and all that it delegated, by one turn alone (`task`), in a conversation, and by
        somebody ("channel:id"): by all that are named."""
        return await self.write(lambda connection: costs.bill(connection, turn, session, person, since, task))

    async def add_spent(self, turn: str, usage: Usage, model: str, purpose: str) -> None:
        """What was spent for a turn that has ended, on a title. Raises `LookupError` if there is no such turn."""
        await self.write(lambda connection: costs.add(connection, turn, usage, model, purpose))

    # Outbox

    async def pieces(self, reply_id: str) -> tuple[Sent, ...]:
        """What was sent of a reply and not removed, in the order of its sending."""
        return await self.write(lambda connection: outbox.pieces(connection, reply_id))

    async def sending(self, reply_id: str, key: str) -> None:
        await self.write(lambda connection: outbox.sending(connection, reply_id, key))

    async def sent(self, reply_id: str, key: str, ref: str, digest: str) -> None:
        await self.write(lambda connection: outbox.sent(connection, reply_id, key, ref, digest))

    async def rename(self, reply_id: str, old: str, new: str) -> None:
        await self.write(lambda connection: outbox.rename(connection, reply_id, old, new))

    async def removed(self, reply_id: str, key: str) -> None:
        await self.write(lambda connection: outbox.removed(connection, reply_id, key))

    async def delivered(self, turn_id: str) -> None:
        """The platform shows all there is of the reply, or never will; it is pending no longer."""
        await self.write(lambda connection: turns.delivered(connection, turn_id))

    # People and places

    async def ask_to_pair(self, channel: str, sender: Sender, session: str, address: Address) -> Pair | None:
        """A new code for somebody unknown; None while an earlier one is good, or when too many wait for an admin."""
        now = datetime.now(UTC)
        return await self.write(lambda connection: pairs.ask(connection, channel, sender, session, address, now))

    async def direct_chats(self, channel: str, people: Collection[str]) -> tuple[tuple[str, Address], ...]:
        """The sessions and places in which these (ids and @names, in small letters) have spoken directly."""
        return await self._read(lambda connection: reading.direct_chats(connection, channel, people))

    async def approve_pair(self, code: str) -> Pair | None:
        """Lets in whoever was given the code; None if it is nobody's or has expired."""
        now = datetime.now(UTC)
        return await self.write(lambda connection: pairs.approve(connection, code, now))

    async def cursors(self, channel: str) -> dict[str, str]:
        return await self.write(lambda connection: cursors.load(connection, channel))

    async def keep_cursors(self, channel: str, read: Mapping[str, str]) -> None:
        await self.write(lambda connection: cursors.keep(connection, channel, read))

    # Media

    async def record_media(self, attachment: Attachment) -> None:
        """The bytes are in the media store."""
        await self.write(lambda connection: media_cleanup.record(connection, attachment))

    async def forget_unused_media(self, before: datetime) -> frozenset[str]:
        """Forgets media recorded before then and used by no message and no turn; the hashes of those that remain."""
        return await self.write(lambda connection: media_cleanup.forget_unused(connection, before))

    async def _read(self, query: Callable[[Connection], T]) -> T:
        """Runs the query beside the writer, which never waits for it."""
        if self._readers is None:
            self._readers = _open_readers(self._path)
        try:
            async with self._readers.connect() as connection:
                return await connection.run_sync(query)
        except DBAPIError as error:
            raise explain(self._path, error) from error

    async def stop_reading(self) -> None:
        if self._readers is not None:
            await self._readers.dispose()


def _open_readers(path: Path) -> AsyncEngine:
    # Loaded at the first question, because it takes as long as opening the store does.
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        pool_size=READERS,
        max_overflow=0,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
    )
    prepare_reading(engine.sync_engine)
    return engine
