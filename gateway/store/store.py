"""The store: every operation on the database, each in one transaction that is committed when the call returns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import uuid4

from sqlalchemy import Connection

from gateway.store import (
    api_keys,
    arrivals,
    audit,
    command_turns,
    conversation_deletion,
    conversation_files,
    costs,
    cursors,
    deadlines,
    decisions,
    deletion,
    delivery,
    export,
    external_results,
    fetching,
    finish_up,
    health,
    identities,
    inbox,
    media_cleanup,
    moves,
    outbox,
    overview,
    pairing,
    questions,
    queue,
    reactions,
    reading,
    requests,
    revocation,
    runs,
    sessions,
    strangers,
    suggestions,
    traces,
    turns,
    undo,
    usage,
    web_sessions,
)
from gateway.store.engine import Engine, Job
from gateway.store.records import PastTurn
from gateway.store.sqlite import open_sqlite
from gateway.store.writer import OnCommitted, untold

P = ParamSpec("P")
T = TypeVar("T")

DECODED_IN_PLACE = 100
"""Past turns; more of them are decoded in a thread."""


@asynccontextmanager
async def open_store(url: str, *, worker: str | None = None, committed: OnCommitted = untold) -> AsyncIterator[Store]:
    """The store at a URL like `sqlite:////var/lib/interject/interject.db`, created or migrated first.

    `worker` names this process in the turns that it holds; by default a unique name. `committed` is told of each
    transaction. Raises `StoreBusy`,
    `StoreCorrupt`, `StoreTooNew` or `StoreFailed`.
    """
    async with open_sqlite(url, committed) as engine:
        yield Store(engine, worker or uuid4().hex)


def writes(
    operation: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """The operation as a method of the store that the engine's writer runs.

    Small queries are run by it too: they see the writes that were queued before them.
    """

    @wraps(operation)
    async def method(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store.write(lambda connection: operation(connection, *args, **kwargs))

    return method


def writes_as_worker(
    operation: Callable[Concatenate[Connection, str, P], T],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """As `writes`, for an operation that needs the name of this worker."""

    @wraps(operation)
    async def method(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store.write(lambda connection: operation(connection, store.worker, *args, **kwargs))

    return method


def reads(
    query: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """A query that may be large or slow, as a method of the store. It runs concurrently with writes."""

    @wraps(query)
    async def method(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store.read(lambda connection: query(connection, *args, **kwargs))

    return method


class Store:
    """Made by `open_store`. Its methods are the operations below, without their first argument, the connection (and,
    for `writes_as_worker`, without the second, the worker). All raise `StoreFailed` when the database fails.

    Writes are queued before the first suspension: calls made one after another take effect in that order. A caller
    that is cancelled does not undo what it has queued.
    """

    def __init__(self, engine: Engine, worker: str) -> None:
        self.worker = worker
        self._engine = engine

    async def write(self, job: Job[T]) -> T:
        """The job's result, committed; see `Engine.write`."""
        return await self._engine.write(job)

    async def read(self, query: Job[T]) -> T:
        """The query's result; see `Engine.read`."""
        return await self._engine.read(query)

    # Messages
    accept = writes(arrivals.accept)
    accept_and_begin = writes_as_worker(arrivals.accept_and_begin)
    unfetched = writes(fetching.unfetched)
    mark_ready = writes(fetching.mark_ready)
    put_off = writes(fetching.put_off)
    waiting_busy = writes(inbox.waiting_busy)
    count_waiting = writes(inbox.count_waiting)
    withdraw_waiting = writes(inbox.withdraw_waiting)
    queued = writes(queue.queued)
    remove_queued = writes(queue.remove_queued)
    wrap = writes(finish_up.wrap)
    run = reads(runs.run)
    run_of = reads(runs.run_of)
    followed_runs = reads(runs.followed)
    run_of_event = reads(runs.run_of_event)
    rows = reads(reading.rows)

    # Questions and decisions
    open_question = writes(questions.open_question)
    answer_in_reaction = writes(reactions.answer_in_reaction)
    choose = writes(questions.choose)
    decide = writes(decisions.decide)
    asking_turns = reads(requests.asking_turns)
    next_deadline = writes(deadlines.next_deadline)
    expire = writes(deadlines.expire)
    parked_log = reads(external_results.parked_log)
    supply = writes(external_results.supply)

    # Turns
    claim = writes_as_worker(turns.claim)
    read_inbox = writes(turns.read_inbox)
    is_arriving = writes(turns.is_arriving)
    append = writes(turns.append)
    end_input = writes(turns.end_input)
    keep = writes(turns.keep)
    park = writes(turns.park)
    stop_parked = writes(turns.stop_parked)
    close = writes(turns.close)
    unfinished = writes(turns.unfinished)
    newest_turn = writes(turns.newest)
    retry = writes(undo.retry)
    send_as_text = writes(command_turns.send_as_text)
    say_suggested = writes(suggestions.say_suggested)
    who_began = writes(undo.who_began)
    who_began_last_task = writes(undo.who_began_last_task)
    undo = writes(undo.undo)
    answer = writes_as_worker(command_turns.answer)
    compact = writes_as_worker(command_turns.compact)
    say = writes_as_worker(command_turns.say)
    begin_side_question = writes_as_worker(command_turns.begin_side_question)
    resume_side_question = writes_as_worker(command_turns.resume_side_question)
    turn = reads(reading.turn)
    turns_of = reads(reading.turns_of)
    pending = writes(reading.pending)

    async def history(self, session: str) -> tuple[PastTurn, ...]:
        """The ended turns since the last `/new`, without answered commands and undone turns, oldest first."""
        encoded = await self.read(lambda connection: reading.history(connection, session))
        if len(encoded) < DECODED_IN_PLACE:
            return reading.past_turns(encoded)
        # Thousands of turns take most of a second, during which the event loop must go on.
        return await asyncio.to_thread(reading.past_turns, encoded)

    # Sessions
    conversations = reads(reading.conversations)
    earlier = reads(reading.earlier)
    direct_chats = reads(reading.direct_chats)
    address_of = writes(sessions.address_of)
    session_info = writes(sessions.info)
    archive = writes(sessions.archive)
    sessions_with_words = reads(reading.sessions_with_words)
    reset_session = writes(sessions.reset_session)
    set_busy = writes(sessions.set_busy)
    set_model = writes(sessions.set_model)
    set_agent = writes(sessions.set_agent)
    open_with_agent = writes(sessions.open_with_agent)
    model_of = writes(sessions.model_of)
    set_title = writes(sessions.set_title)

    # Cost
    spent = writes(costs.spent)
    add_spent = writes(costs.add_spent)

    # What goes on
    find_turn = reads(traces.find_turn)
    turn_of_message = reads(traces.turn_of_message)
    conversation_of_turn = reads(traces.conversation_of_turn)
    traced = reads(traces.traced)
    conversation_rows = reads(overview.conversation_rows)
    parked_turns = reads(overview.parked_turns)
    queues = reads(overview.queues)
    places = reads(overview.places)
    overview = reads(overview.overview)
    usage_by = reads(usage.usage_by)
    total_usage = reads(usage.total_usage)
    costs_of_turns = reads(usage.costs_of_turns)

    # Outbox
    pieces = writes(outbox.pieces)
    sending = writes(outbox.sending)
    sent = writes(outbox.sent)
    rename = writes(outbox.rename)
    removed = writes(outbox.removed)
    simplified = writes(outbox.simplified)
    undeliverable = writes(outbox.undeliverable)
    delivered = writes(delivery.delivered)
    undelivered = writes(delivery.undelivered)
    redeliver = writes(delivery.redeliver)

    # Channels
    request_pairing = writes(pairing.request)
    approve_pairing = writes(pairing.approve)
    revoke_pairing = writes(revocation.revoke)
    take_back_access = writes(revocation.take_back)
    active_people = writes(revocation.active_people)
    pairings = writes(pairing.every)
    requested_stops = writes(pairing.requested_stops)
    resolve_names = writes(identities.resolve)
    keep_identities = writes(identities.keep_only)
    identities = writes(identities.all_identities)
    strangers = writes(strangers.newest)
    keep_cursors = writes(cursors.save)
    cursors = writes(cursors.load)

    chat_moves = writes(moves.every)
    move_address = writes(moves.move_address)
    merge_address = writes(moves.merge)

    # API keys
    create_api_key = writes(api_keys.create)
    revoke_api_key = writes(api_keys.revoke)
    note_key_used = writes(api_keys.used)
    api_keys = writes(api_keys.every)

    # People who are signed in to the web server
    begin_web_session = writes(web_sessions.begin)
    web_session = reads(web_sessions.find)
    end_web_session = writes(web_sessions.end)
    end_web_sessions = writes(web_sessions.end_all)

    # Audit log
    audit_since = reads(audit.since)
    record_audit = writes(audit.record)
    settings_salt = writes(audit.settings_salt)
    record_settings = writes(audit.record_settings)

    # Deletion and export
    exported = reads(export.conversation)
    request_deletion = writes(deletion.request)
    unfinished_deletions = writes(deletion.unfinished)
    carry_out_deletion = writes(deletion.carry_out)
    deletion_result = writes(deletion.result)
    deletions_done = writes(deletion.done)
    folders_removed = writes(deletion.folders_removed)
    old_sessions = reads(deletion.old_sessions)
    delete_older = writes(deletion.delete_older)
    count_deleted = reads(deletion.count)
    sessions_of = reads(deletion.sessions_of)
    people_named = reads(deletion.people_named)
    rows_of = reads(deletion.rows_of)
    is_deleted_whole = reads(deletion.is_deleted_whole)
    expire_media = writes(deletion.expire_media)
    forget_media = writes(deletion.forget_media)
    forget_costs = writes(conversation_deletion.forget_costs)
    delete_audit_before = writes(audit.delete_before)

    async def vacuum(self) -> bool:
        """See `Engine.vacuum`."""
        return await self._engine.vacuum()

    # Health
    check_writing = writes(health.check_writing)
    backlog = reads(health.backlog)

    # Media
    find_file = reads(conversation_files.find_file)
    record_media = writes(media_cleanup.record)
    forget_unused_media = writes(media_cleanup.forget_unused)
