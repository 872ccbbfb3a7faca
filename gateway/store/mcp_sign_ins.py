"""Links with which people sign in at MCP servers. They are opened, and their browsers come back, at any worker; the one
that has sent the link waits for what they come back with. It lives as long as that worker."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, or_, select, update

from gateway.store.records import McpSignIn
from gateway.store.schema import AnyRow, mcp_sign_ins
from gateway.store.upsert import insert
from gateway.store.web_sessions import hash_of
from gateway.store.workers import is_alive

MAX_LINKS = 1000
"""Links that wait at once; a further one takes the place of the oldest."""

MAX_BROWSERS = 5
"""Browsers in which one link may be opened."""

_insert = insert(mcp_sign_ins).values({column.name: bindparam(column.name) for column in mcp_sign_ins.c})
_expired = delete(mcp_sign_ins).where(
    or_(mcp_sign_ins.c.expires_at <= bindparam("now"), ~is_alive(mcp_sign_ins.c.worker))
)
_of_person = (mcp_sign_ins.c.server == bindparam("of_server")) & (mcp_sign_ins.c.person == bindparam("of_person"))
_end_earlier = delete(mcp_sign_ins).where(_of_person)
_oldest = select(mcp_sign_ins.c.ticket).order_by(mcp_sign_ins.c.expires_at.desc()).offset(MAX_LINKS)
_it = mcp_sign_ins.c.ticket == bindparam("of_ticket")
_end = delete(mcp_sign_ins).where(_it)
_waits = (
    mcp_sign_ins.c.answer.is_(None)
    & (mcp_sign_ins.c.state != "")
    & (mcp_sign_ins.c.expires_at > bindparam("now"))
    & is_alive(mcp_sign_ins.c.worker)
)
_by_ticket = select(mcp_sign_ins).where(_it, _waits)
_by_state = select(mcp_sign_ins).where(mcp_sign_ins.c.state == bindparam("of_state"), _waits)
_set_browsers = update(mcp_sign_ins).where(_it).values(browsers=bindparam("new_browsers"))
_set_answer = update(mcp_sign_ins).where(_it).values(answer=bindparam("new_answer"))
_answers = select(mcp_sign_ins.c.ticket, mcp_sign_ins.c.answer).where(
    mcp_sign_ins.c.ticket.in_(bindparam("tickets", expanding=True))
)


def begin(
    connection: Connection,
    worker: str,
    ticket: str,
    server: str,
    person: str,
    who: str,
    url: str,
    state: str,
    lifetime: timedelta,
) -> None:
    """A link for this person, in the place of an earlier one. `state` is what browsers come back with, "" if none
    does."""
    now = datetime.now(UTC)
    connection.execute(_expired, {"now": now})
    connection.execute(_end_earlier, {"of_server": server, "of_person": person})
    values: dict[str, Any] = {
        "ticket": hash_of(ticket),
        "worker": worker,
        "server": server,
        "person": person,
        "who": who,
        "url": url,
        "state": hash_of(state) if state else "",
        "browsers": [],
        "answer": None,
        "expires_at": now + lifetime,
    }
    connection.execute(_insert, values)
    for old in connection.execute(_oldest).scalars().all():
        connection.execute(_end, {"of_ticket": old})


def find(connection: Connection, ticket: str) -> McpSignIn | None:
    """The link with this ticket, if it waits for a browser."""
    row = connection.execute(_by_ticket, {"of_ticket": hash_of(ticket), "now": datetime.now(UTC)}).first()
    return None if row is None else McpSignIn(row.server, row.who, row.url)


def open_in(connection: Connection, ticket: str, browser: str) -> str | None:
    """The person goes on in this browser ("": one without a secret); the secret that it is to show afterwards. None if
    no such link waits."""
    row = connection.execute(_by_ticket, {"of_ticket": hash_of(ticket), "now": datetime.now(UTC)}).first()
    if row is None:
        return None
    if hash_of(browser) in row.browsers:
        return browser
    browser = secrets.token_urlsafe(24)
    browsers = [*row.browsers[1 - MAX_BROWSERS :], hash_of(browser)]
    connection.execute(_set_browsers, {"of_ticket": row.ticket, "new_browsers": browsers})
    return browser


def answer(connection: Connection, state: str, browser: str, answer: Mapping[str, Any]) -> bool:
    """What the browser came back with. False if no link waits for that, in that browser."""
    row = connection.execute(_by_state, {"of_state": hash_of(state), "now": datetime.now(UTC)}).first()
    if row is None or hash_of(browser) not in row.browsers:
        return False
    connection.execute(_set_answer, {"of_ticket": row.ticket, "new_answer": dict(answer)})
    return True


def answers(connection: Connection, tickets: Collection[str]) -> dict[str, dict[str, Any] | None]:
    """What browsers came back with, by ticket: None as long as none did. Links that were replaced are left out."""
    hashes = {hash_of(ticket): ticket for ticket in tickets}
    rows = connection.execute(_answers, {"tickets": list(hashes)})
    return {hashes[row.ticket]: _answer(row) for row in rows}


def end(connection: Connection, ticket: str) -> None:
    connection.execute(_end, {"of_ticket": hash_of(ticket)})


def _answer(row: AnyRow) -> dict[str, Any] | None:
    found: dict[str, Any] | None = row.answer
    return found
