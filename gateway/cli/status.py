"""`interject status`: whether a gateway runs, and what goes on; reads the database, also beside a running gateway."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.load import Configuration
from gateway.cli import VERSION
from gateway.cli.output import age, json_line, size, table, write_lines
from gateway.cli.running import Trouble, channel_troubles, published_address, running_here
from gateway.cli.usage import totals_json
from gateway.outbound.wording import dollars, plain, plain_person
from gateway.store.errors import StoreError
from gateway.store.overview import OpenTurn, Overview, overview
from gateway.store.read_only import Holder, holders, reading
from gateway.store.schema import REVISION
from gateway.store.server_health import database_size
from gateway.turns.budgets import midnight

SHOWN_TURNS = 20

_WAITS = {"approval": "approval of {}", "answer": "an answer to {}", "results": "results of {}"}


@dataclass(frozen=True, slots=True)
class Disk:
    """In bytes: the database with its journal, and what is free and in all where it is."""

    database: int
    journal: int
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Status:
    """`running`: the gateways, the oldest first; None: the database, which knows them, cannot be asked. `here` is that
    of this data directory, with its `address`. `troubles` is by channel, "" for one that works; None: nobody can say.
    `overview` None: the database cannot be read, for the reason `problem`."""

    running: tuple[Holder, ...] | None
    here: Holder | None
    address: str
    troubles: Mapping[str, Trouble] | None
    overview: Overview | None
    problem: str
    disk: Disk | None


def show_status(configuration: Configuration, *, as_json: bool) -> int:
    """Returns the exit code: 1 when no gateway runs or the database cannot be read."""
    status = find_status(configuration)
    if as_json:
        write_lines([json_line(_json(configuration, status))])
    else:
        write_lines(_lines(configuration, status))
    return 0 if status.running and status.overview is not None else 1


def find_status(configuration: Configuration) -> Status:
    store = configuration.settings.store
    running: tuple[Holder, ...] | None = None
    found = on_server = None
    problem = ""
    try:
        running = holders(store.url)
        with reading(store.url) as connection:
            found = overview(connection, midnight())
            on_server = database_size(connection) if store.file is None else None
    except StoreError as error:
        problem = str(error)
    here = running_here(configuration.home, running or ())
    address = published_address(configuration.home) if here else ""
    troubles = channel_troubles(configuration, address) if address else None
    return Status(running, here, address, troubles, found, problem, _disk(configuration, on_server))


def _disk(configuration: Configuration, on_server: int | None) -> Disk | None:
    """`on_server`: the size of a database there."""
    path = configuration.settings.store.file
    place = configuration.home / "files" if path is None else path
    try:
        free = shutil.disk_usage(next(parent for parent in place.parents if parent.exists()))
    except OSError:
        return None
    if path is None:
        return None if on_server is None else Disk(on_server, 0, free.free, free.total)
    return Disk(_bytes(path), _bytes(path.with_name(f"{path.name}-wal")), free.free, free.total)


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


# JSON


def _json(configuration: Configuration, status: Status) -> dict[str, Any]:
    running, disk = status.running or (), status.disk
    first = status.here or next(iter(running), None)
    fields: dict[str, Any] = {
        "version": VERSION,
        "running": None if status.running is None else first is not None,
        "pid": first.pid if first else None,
        "since": first.since if first else None,
        "gateways": [{"pid": each.pid, "host": each.host or None, "since": each.since} for each in running],
        "address": status.address or None,
        "data": str(configuration.home),
        "settings": str(configuration.file) if configuration.file else None,
        "channels": _channels_json(configuration, status),
        "schema": REVISION if status.overview else None,
        "problem": status.problem or None,
        "disk": None
        if disk is None
        else {"database": disk.database, "journal": disk.journal, "free": disk.free, "total": disk.total},
    }
    return fields if status.overview is None else fields | _overview_json(status.overview)


def _channels_json(configuration: Configuration, status: Status) -> list[dict[str, Any]]:
    names = dict.fromkeys((*configuration.settings.channels, *(status.troubles or ())))
    return [
        {"channel": name, "trouble": None if status.troubles is None else status.troubles.get(name, "")}
        for name in names
    ]


def _overview_json(found: Overview) -> dict[str, Any]:
    return {
        "turns": [_turn_json(turn) for turn in found.turns],
        "open_turns": found.open,
        "inbox": {
            "messages": found.inbox.messages,
            "conversations": found.inbox.conversations,
            "oldest": found.inbox.oldest,
        },
        "background": found.background,
        "delivering": found.pending,
        "undeliverable": [
            {"turn": reply.turn, "conversation": reply.session, "reason": reply.reason, "since": reply.at}
            for reply in found.undelivered
        ],
        "today": totals_json(found.today),
    }


def _turn_json(turn: OpenTurn) -> dict[str, Any]:
    return {
        "turn": turn.id,
        "conversation": turn.session,
        "kind": turn.kind,
        "channel": turn.address.channel,
        "person": f"{turn.address.channel}:{turn.person.id}",
        "name": turn.person.name,
        "agent": turn.agent or None,
        "state": "parked" if turn.waits_for else "running",
        "step": turn.step,
        "calls": list(turn.calls),
        "waits_for": turn.waits_for or None,
        "asked_by": turn.asked_by or None,
        "deadline": turn.deadline,
        "since": turn.started_at,
        "cost": round(turn.cost, 6),
    }


# For people


def _lines(configuration: Configuration, status: Status) -> Iterator[str]:
    rows = [("gateway", _gateway(status)), ("data", str(configuration.home)), *_channels(configuration, status)]
    if status.overview is not None:
        rows += _overview(status.overview)
    if status.problem:
        rows.append(("problem", status.problem))
    rows += _storage(status)
    yield from (f"{label:<12}{text}".rstrip() for label, text in rows)
    if status.overview is not None and status.overview.turns:
        yield ""
        yield from _turns(status.overview)


def _gateway(status: Status) -> str:
    if status.running is None:
        return "nobody can say whether it runs: the database knows that"
    if not status.running:
        return f"not running (version {VERSION}); `interject run` starts it"
    first = status.here or status.running[0]
    where = f", {status.address}" if status.address else ""
    host = f" on {plain(first.host)}" if first.host else ""
    pid = "" if first.pid is None else f", process {first.pid}{host}"
    others = len(status.running) - 1
    more = f"; and {others} more (`interject workers` lists them)" if others else ""
    return f"running for {age(first.since)}, since {first.since:%Y-%m-%d %H:%M:%S} UTC{pid}{where}{more}"


def _channels(configuration: Configuration, status: Status) -> list[tuple[str, str]]:
    if status.troubles is None:
        names = ", ".join(configuration.settings.channels) or "none but the web chat"
        return [("channels", f"{names} (whether they work, only a running gateway with its web chat can say)")]
    rows = [f"{name}: {plain(trouble, 300) or 'works'}" for name, trouble in status.troubles.items()]
    return [("" if number else "channels", row) for number, row in enumerate(rows)]


def _overview(found: Overview) -> list[tuple[str, str]]:
    parked = Counter(turn.waits_for for turn in found.turns if turn.waits_for)
    waits = ", ".join(f"{count} for {what}" for what, count in parked.items())
    inbox = found.inbox
    unread = f"{inbox.messages} unread"
    if inbox.oldest is not None:
        places = "1 conversation" if inbox.conversations == 1 else f"{inbox.conversations} conversations"
        unread += f" in {places}, the oldest for {age(inbox.oldest)}"
    replies = f"{found.pending} being delivered, {len(found.undelivered)} undeliverable"
    if found.undelivered:
        replies += f" (the last: {plain(found.undelivered[-1].reason, 200)}); /redeliver tries again"
    return [
        ("tasks", f"{found.open - parked.total()} running, {parked.total()} parked{f' ({waits})' if waits else ''}"),
        ("background", f"{found.background} running"),
        ("inbox", unread),
        ("replies", replies),
        ("cost today", f"{dollars(found.today.cost)} for {found.today.calls:,} model calls (since midnight UTC)"),
    ]


def _storage(status: Status) -> list[tuple[str, str]]:
    disk = status.disk
    if disk is None:
        return []
    schema = f", schema {REVISION}" if status.overview else ""
    return [
        ("database", f"{size(disk.database)}, journal {size(disk.journal)}{schema}"),
        ("disk", f"{size(disk.free)} free of {size(disk.total)}"),
    ]


def _turns(found: Overview) -> list[str]:
    header = ("task", "since", "step", "does", "cost", "by", "conversation")
    lines = table(header, [_turn_cells(turn) for turn in found.turns[:SHOWN_TURNS]], right=(1, 2, 4))
    more = found.open - SHOWN_TURNS
    return [*lines, f"and {more} more"] if more > 0 else lines


def _turn_cells(turn: OpenTurn) -> tuple[str, ...]:
    return (
        turn.id[:12],
        age(turn.started_at),
        str(turn.step),
        plain(_doing(turn), 50),
        dollars(turn.cost),
        plain_person(turn.person),
        plain(turn.session, 200),
    )


def _doing(turn: OpenTurn) -> str:
    if turn.waits_for:
        return f"waits for {_WAITS[turn.waits_for].format(turn.asked_by or 'people')}"
    return ", ".join(turn.calls) or "the model is answering"
