"""The store: every operation on the database, each in one transaction that is committed when the call returns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import uuid4

from sqlalchemy import Connection

from gateway import VERSION
from gateway.store import (
    adoption,
    api_keys,
    arrivals,
    audit,
    clock,
    command_turns,
    conversation_deletion,
    conversation_files,
    conversation_pages,
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
    forks,
    health,
    history_pages,
    identities,
    inbox,
    login_links,
    mcp_accounts,
    mcp_sign_ins,
    media_cleanup,
    moves,
    notes,
    outbox,
    overview,
    pairing,
    questions,
    queue,
    reactions,
    reading,
    requests,
    reservations,
    revocation,
    runs,
    schedules,
    sessions,
    shared_secrets,
    slots,
    strangers,
    suggestions,
    traces,
    turns,
    undo,
    uploads,
    usage,
    web_sessions,
    workers,
    workspace_names,
    workspaces,
)
from gateway.store.engine import Engine, Job
from gateway.store.errors import StoreError
from gateway.store.process import place
from gateway.store.records import PastTurn
from gateway.store.scope import (
    WHOLE,
    Rule,
    Scope,
    apart,
    by_arrival,
    by_command,
    by_reply,
    by_row,
    by_session,
    by_session_in_slots,
    by_turn,
    of_identities,
    of_keys,
    of_notes,
    of_pairs,
    of_settings,
    of_sign_ins,
    of_spending,
    of_workers,
    urgent,
    whole,
)
from gateway.store.sqlite import open_sqlite
from gateway.store.urls import database_url
from gateway.store.writer import OnCommitted, untold

P = ParamSpec("P")
T = TypeVar("T")

DECODED_IN_PLACE = 100
"""Past turns; more of them are decoded in a thread."""


@asynccontextmanager
async def open_store(
    url: str, *, worker: str | None = None, committed: OnCommitted = untold, lease: float = workers.LEASE
) -> AsyncIterator[Store]:
    """The store at a URL like `sqlite:////var/lib/interject/interject.db`, created or migrated first.

    `worker` names this process in the turns that it holds; by default a unique name. It is alive for `lease` seconds
    and longer if it beats, see `gateway.store.workers`. `committed` is told of each transaction. Raises `StoreBusy`,
    `StoreCorrupt`, `StoreTooNew` or `StoreFailed`.
    """
    async with open_engine(url, committed, lease) as engine:
        store = Store(engine, worker or uuid4().hex)
        await store.enlist(place(), VERSION, lease, alone=not engine.is_shared)
        try:
            yield store
        finally:
            with suppress(StoreError):
                await store.leave()


def open_engine(
    url: str, committed: OnCommitted = untold, lease: float = workers.LEASE
) -> AbstractAsyncContextManager[Engine]:
    """The engine for a URL, see `open_store`."""
    parsed = database_url(url)
    if parsed.get_backend_name() == "sqlite":
        return open_sqlite(url, committed)
    from gateway.store.postgres import open_postgres  # loads the parts of SQLAlchemy for it

    return open_postgres(parsed, committed, lease=lease)


def writes(
    operation: Callable[Concatenate[Connection, P], T], rule: Rule = whole
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """The operation as a method of the store that a writer of the engine runs. `rule` tells what it belongs to.

    Small queries are run so too: they see the writes that were queued before them.
    """
    scope_of = rule(operation, 1)

    @wraps(operation)
    async def method(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store.write(lambda connection: operation(connection, *args, **kwargs), scope_of(args, kwargs))

    return method


def writes_as_worker(
    operation: Callable[Concatenate[Connection, str, P], T], rule: Rule = whole
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """As `writes`, for an operation that needs the name of this worker."""
    scope_of = rule(operation, 2)

    @wraps(operation)
    async def method(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store.write(
            lambda connection: operation(connection, store.worker, *args, **kwargs), scope_of(args, kwargs)
        )

    return method


def reads(
    query: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """A query that may be large or slow, as a method of the store. It runs concurrently with writes."""

    @wraps(query)
    async def method(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store.read(lambda connection: query(connection, *args, **kwargs))

    return method


def looks(
    query: Callable[Concatenate[Connection, P], T], rule: Rule
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """A small query of each turn: where this process alone has the database, on the connection that writes, which is
    open already; else on one that reads, without a transaction."""
    written, read = writes(query, rule), reads(query)

    @wraps(query)
    async def method(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await (read if store.is_shared else written)(store, *args, **kwargs)

    return method


class Store:
    """Made by `open_store`. Its methods are the operations below, without their first argument, the connection (and,
    for `writes_as_worker`, without the second, the worker). All raise `StoreFailed` when the database fails.

    Writes are queued before the first suspension: calls made one after another take effect in that order. A caller
    that is cancelled does not undo what it has queued.
    """

    def __init__(self, engine: Engine, worker: str) -> None:
        self.worker = worker
        self.is_shared = engine.is_shared
        self._engine = engine

    async def write(self, job: Job[T], scope: Scope = WHOLE) -> T:
        """The job's result, committed; see `Engine.write`."""
        return await self._engine.write(job, scope)

    async def read(self, query: Job[T]) -> T:
        """The query's result; see `Engine.read`."""
        return await self._engine.read(query)

    # Messages
    accept = writes_as_worker(arrivals.accept, by_arrival)
    accept_and_begin = writes_as_worker(arrivals.accept_and_begin, by_arrival)
    unfetched = writes(fetching.unfetched, by_row)
    mark_ready = writes(fetching.mark_ready, by_row)
    put_off = writes(fetching.put_off, by_row)
    waiting_busy = writes(inbox.waiting_busy, by_session)
    count_waiting = writes(inbox.count_waiting, by_session)
    withdraw_waiting = writes(inbox.withdraw_waiting, by_session)
    queued = writes(queue.queued, by_session)
    remove_queued = writes(queue.remove_queued, by_session)
    wrap = writes(finish_up.wrap, by_command)
    run = reads(runs.run)
    followed_runs = reads(runs.followed)
    run_of_event = reads(runs.run_of_event)
    rows = reads(reading.rows)

    # Questions and decisions
    open_question = writes(questions.open_question, by_session)
    answer_in_reaction = writes(reactions.answer_in_reaction, apart("reactions"))
    choose = writes(questions.choose, by_command)
    decide = writes(decisions.decide, by_command)
    asking_turns = reads(requests.asking_turns)
    now = writes(clock.now, apart("clock"))
    next_deadline = writes(deadlines.next_deadline, apart("deadlines"))
    expire = writes(deadlines.expire)
    parked_log = reads(external_results.parked_log)
    supply = writes(external_results.supply, by_turn)

    # Turns
    claim = writes_as_worker(turns.claim, by_session)
    claim_slot = writes_as_worker(slots.claim_slot, by_session_in_slots)
    read_inbox = writes(turns.read_inbox, by_turn)
    is_arriving = writes(turns.is_arriving, by_turn)
    append = writes(turns.append, by_turn)
    end_input = writes(turns.end_input, by_turn)
    keep = writes(turns.keep, by_turn)
    park = writes(turns.park, by_turn)
    release = writes(turns.release, by_turn)
    request_stop = writes(turns.request_stop, by_session)
    stop_parked = writes(turns.stop_parked, by_session)
    close = writes(turns.close, by_turn)
    unfinished = writes(turns.unfinished, by_session)
    newest_turn = writes(turns.newest, by_session)
    retry = writes(undo.retry, by_command)
    send_as_text = writes(command_turns.send_as_text, by_command)
    say_suggested = writes(suggestions.say_suggested, by_command)
    who_began = writes(undo.who_began, by_session)
    who_began_last_task = writes(undo.who_began_last_task, by_session)
    undo = writes(undo.undo, by_session)
    answer = writes_as_worker(command_turns.answer, by_command)
    compact = writes_as_worker(command_turns.compact, by_command)
    say = writes_as_worker(command_turns.say, by_session)
    begin_side_question = writes_as_worker(command_turns.begin_side_question, by_command)
    resume_side_question = writes_as_worker(command_turns.resume_side_question, by_turn)
    turn = reads(reading.turn)
    turns_of = reads(reading.turns_of)
    pending = writes_as_worker(adoption.pending)
    own_undelivered = writes_as_worker(adoption.undelivered_of, apart("pending"))

    # Workers
    enlist = writes_as_worker(workers.enlist, apart("workers"))
    beat = writes_as_worker(workers.beat, urgent)
    leave = writes_as_worker(workers.leave, apart("workers"))
    bury = writes_as_worker(workers.bury)
    last_ended_worker = reads(workers.last_ended)
    list_workers = writes(workers.listed, apart("workers"))
    drain_worker = writes(workers.drain_beside_others, of_workers)
    take_lease = writes_as_worker(workers.take_lease, apart("leases"))
    lease_holders = writes(workers.lease_holders, apart("leases"))
    release_lease = writes_as_worker(workers.release_lease, apart("leases"))
    save_lease_state = writes_as_worker(workers.save_lease_state, apart("leases"))
    own_stops = writes_as_worker(workers.stops, apart("workers"))
    own_unread = writes_as_worker(workers.unread, apart("workers"))

    async def history(self, session: str) -> tuple[PastTurn, ...]:
        """The ended turns since the last `/new`, without answered commands and undone turns, oldest first."""
        encoded = await self.read(lambda connection: reading.history(connection, session))
        if len(encoded) < DECODED_IN_PLACE:
            return reading.past_turns(encoded)
        # Thousands of turns take most of a second, during which the event loop must go on.
        return await asyncio.to_thread(reading.past_turns, encoded)

    # Sessions
    earlier = reads(reading.earlier)
    direct_chats = reads(reading.direct_chats)
    address_of = writes(sessions.address_of, by_session)
    session_info = writes(sessions.info, by_session)
    archive = writes(sessions.archive, by_session)
    conversation_page = reads(conversation_pages.conversation_page)
    history_page = reads(history_pages.history_page)
    fork = writes(forks.fork)
    reset_session = writes(sessions.reset_session, by_session)
    set_busy = writes(sessions.set_busy, by_session)
    set_model = writes(sessions.set_model, by_session)
    set_agent = writes(sessions.set_agent, by_session)
    open_with_agent = writes(sessions.open_with_agent, by_session)
    model_of = writes(sessions.model_of, by_session)
    set_title = writes(sessions.set_title, by_session)

    # Cost
    spent = writes(costs.spent, apart("usage"))
    add_spent = writes(costs.add_spent, apart("usage"))
    reserve_spending = writes_as_worker(reservations.reserve, of_spending)
    release_spending = writes(reservations.release, of_spending)
    reserved_spending = writes(reservations.reserved_by, apart("reservations"))

    # What goes on
    find_turn = reads(traces.find_turn)
    turn_of_message = reads(traces.turn_of_message)
    conversation_of_turn = reads(traces.conversation_of_turn)
    traced = reads(traces.traced)
    parked_turns = reads(overview.parked_turns)
    running_elsewhere = writes_as_worker(overview.running_elsewhere, apart("workers"))
    count_running_beside = reads(overview.count_running_beside)
    queues = reads(overview.queues)
    places = reads(overview.places)
    accounts = reads(overview.accounts)
    overview = reads(overview.overview)
    usage_by = reads(usage.usage_by)
    total_usage = reads(usage.total_usage)
    costs_of_turns = reads(usage.costs_of_turns)

    # Outbox
    pieces = writes(outbox.pieces, by_reply)
    is_next = writes(outbox.is_next, by_reply)
    sending = writes_as_worker(outbox.sending, by_reply)
    sent = writes(outbox.sent, by_reply)
    rename = writes(outbox.rename, by_reply)
    removed = writes(outbox.removed, by_reply)
    simplified = writes(outbox.simplified, by_reply)
    undeliverable = writes(outbox.undeliverable, by_reply)
    delivered = writes_as_worker(delivery.delivered, by_turn)
    undelivered = writes(delivery.undelivered, apart("undelivered"))
    redeliver = writes_as_worker(delivery.redeliver)

    # Channels
    request_pairing = writes(pairing.request, of_pairs)
    approve_pairing = writes(pairing.approve, of_pairs)
    revoke_pairing = writes(revocation.revoke)
    take_back_access = writes(revocation.take_back)
    active_people = writes(revocation.active_people, apart("people"))
    pairings = writes(pairing.every, apart("pairs"))
    requested_stops = writes(pairing.requested_stops, apart("pairs"))
    resolve_names = writes(identities.resolve, of_identities)
    keep_identities = writes(identities.keep_only, of_identities)
    identities = writes(identities.all_identities, apart("identities"))
    strangers = writes(strangers.newest, apart("strangers"))
    keep_cursors = writes(cursors.save, apart("cursors"))
    keep_cursor_as_holder = writes_as_worker(cursors.save_as_holder, apart("cursors"))
    cursors = writes(cursors.load, apart("cursors"))

    chat_moves = writes(moves.every, apart("moves"))
    move_address = writes(moves.move_address)
    merge_address = writes(moves.merge)

    # API keys
    create_api_key = writes(api_keys.create, of_keys)
    revoke_api_key = writes(api_keys.revoke, of_keys)
    note_key_used = writes(api_keys.used, apart("keys"))
    api_keys = writes(api_keys.every, apart("keys"))

    # People who are signed in to the web server
    begin_web_session = writes(web_sessions.begin, apart("web sessions"))
    web_session = reads(web_sessions.find)
    end_web_session = writes(web_sessions.end, apart("web sessions"))
    end_web_sessions = writes(web_sessions.end_all, apart("web sessions"))
    create_login_link = writes(login_links.create, apart("login links"))
    take_login_link = writes(login_links.take, apart("login links"))

    find_secret = writes(shared_secrets.find, apart("secrets"))
    find_or_add_secret = writes(shared_secrets.find_or_add, apart("secrets"))

    # Accounts at MCP servers
    mcp_account = writes(mcp_accounts.read, apart("mcp accounts"))
    mcp_account_changes = writes(mcp_accounts.changes, apart("mcp accounts"))
    write_mcp_account = writes(mcp_accounts.write, apart("mcp accounts"))
    add_mcp_account = writes(mcp_accounts.add, apart("mcp accounts"))
    forget_mcp_account = writes(mcp_accounts.forget, apart("mcp accounts"))
    claim_mcp_account = writes(mcp_accounts.claim, apart("mcp accounts"))
    release_mcp_account = writes(mcp_accounts.release, apart("mcp accounts"))
    mcp_servers_of = writes(mcp_accounts.servers_of, apart("mcp accounts"))
    count_mcp_accounts = writes(mcp_accounts.count, apart("mcp accounts"))
    begin_mcp_sign_in = writes_as_worker(mcp_sign_ins.begin, of_sign_ins)
    find_mcp_sign_in = writes(mcp_sign_ins.find, apart("sign-ins"))
    open_mcp_sign_in = writes(mcp_sign_ins.open_in, of_sign_ins)
    answer_mcp_sign_in = writes(mcp_sign_ins.answer, of_sign_ins)
    mcp_sign_in_answers = writes(mcp_sign_ins.answers, apart("sign-ins"))
    end_mcp_sign_in = writes(mcp_sign_ins.end, of_sign_ins)

    # Workspaces in the media store
    workspace_name = looks(workspace_names.workspace_name, apart("workspace-names"))
    name_workspace = writes(workspace_names.name_workspace, apart("workspace-names"))
    saved_workspace = writes(workspaces.saved_workspace, apart("workspaces"))
    save_of_turn = writes(workspaces.save_of_turn, by_turn)
    save_of_call = writes(workspaces.save_of_call, by_session)
    delete_workspace = writes(workspaces.delete_workspace, apart("workspaces"))
    deleted_workspaces = writes(workspaces.deleted_workspaces, apart("workspaces"))
    is_workspace_deleted = writes(workspaces.is_workspace_deleted, apart("workspaces"))

    # Scheduled tasks
    add_schedule = writes(schedules.add, by_session)
    schedules_of = writes(schedules.of_session, apart("schedules"))
    every_schedule = reads(schedules.every)
    find_schedule = reads(schedules.find)
    cancel_schedule = writes(schedules.cancel, apart("schedules"))
    due_schedules = writes(schedules.due_now, apart("schedules"))
    next_schedule = writes(schedules.next_due, apart("schedules"))
    advance_schedule = writes(schedules.advance, apart("schedules"))

    # Notes
    add_note = writes(notes.add, of_notes)
    notes_of = looks(notes.of_owner, apart("notes"))
    forget_note = writes(notes.forget, apart("notes"))
    has_notes = writes(notes.are_there, apart("notes"))

    # Audit log
    audit_since = reads(audit.since)
    record_audit = writes(audit.record, apart("audit"))
    settings_salt = writes(audit.settings_salt, apart("audit"))
    record_settings = writes(audit.record_settings, of_settings)

    # Deletion and export
    exported = reads(export.conversation)
    request_deletion = writes(deletion.request)
    unfinished_deletions = writes(deletion.unfinished, apart("deletions"))
    carry_out_deletion = writes(deletion.carry_out)
    deletion_result = writes(deletion.result, apart("deletions"))
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
    forget_costs = writes(conversation_deletion.forget_costs)
    delete_audit_before = writes(audit.delete_before)

    async def vacuum(self) -> bool:
        """See `Engine.vacuum`."""
        return await self._engine.vacuum()

    # Health
    check_writing = writes(health.check_writing, apart("health"))
    backlog = reads(health.backlog)

    # Media
    find_file = reads(conversation_files.find_file)
    add_upload = writes(uploads.add, apart("uploads"))
    record_media = writes(media_cleanup.record, apart("media"))
    newest_media = reads(media_cleanup.newest)
    claim_unused_media = writes(media_cleanup.claim_unused)
    claim_unused_media_of = writes(media_cleanup.claim_unused_of)
    claim_unknown_media = writes(media_cleanup.claim_unknown)
    end_media_claim = writes(media_cleanup.end_claim)
