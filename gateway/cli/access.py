"""`interject access`: shows who has access by name or pairing, and revokes it; works beside a running gateway."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from config.load import Configuration
from gateway.cli.output import fail, json_line, write_lines
from gateway.outbound.wording import plain, plain_person
from gateway.store import offline
from gateway.store.errors import StoreError
from gateway.store.records import Pairing


def show_access(configuration: Configuration, *, as_json: bool = False) -> int:
    """Returns the exit code."""
    url = configuration.settings.store.url
    try:
        lines = list(map(json_line, _as_json(url))) if as_json else [*_names(url), *_pairings(url), *_strangers(url)]
    except StoreError as error:
        return fail(configuration, error)
    write_lines(lines, "" if as_json else "Nobody but the users in the settings.")
    return 0


def _as_json(url: str) -> Iterator[dict[str, Any]]:
    """`by` is what gives access: an @name of the settings, or pairing; "nothing" for people who were refused."""
    for each in offline.all_identities(url):
        person = f"{each.channel}:{each.user_id}"
        yield {"by": "name", "person": person, "name": each.user_name, "listed": each.name, "since": each.at}
    for pairing in _valid_pairings(url):
        yield {"by": "pairing", **pairing_json(pairing)}
    for stranger in offline.all_strangers(url):
        person = f"{stranger.channel}:{stranger.sender.id}"
        refused = {"messages": stranger.messages, "last": stranger.last_at}
        yield {"by": "nothing", "person": person, "name": stranger.sender.name, **refused}


def pairing_json(pairing: Pairing) -> dict[str, Any]:
    return {
        "person": f"{pairing.channel}:{pairing.sender.id}",
        "name": pairing.sender.name,
        "state": "approved" if pairing.approved else "pending",
        "code": None if pairing.approved else pairing.code,
        "expires": None if pairing.approved else pairing.expires_at,
    }


def revoke(configuration: Configuration, channel: str, user: str) -> int:
    """Returns the exit code: 1 when nothing was revoked. A running gateway stops the user's tasks within seconds."""
    try:
        revoked = offline.revoke(configuration.settings.store.url, channel, user)
    except StoreError as error:
        sys.stderr.write(f"interject: {error}\n")
        return 1
    if revoked is None:
        sys.stderr.write(
            f"interject: nobody with the user id {plain(user)} has access to {plain(channel)} by pairing; "
            "`interject access list` shows who has\n"
        )
        return 1
    counts = (
        f"{len(revoked.stops)} running and {revoked.background} background tasks are stopped, "
        f"{len(revoked.refused)} queued messages are refused"
    )
    sys.stdout.write(f"Revoked: {plain_person(revoked.sender)} may no longer write to {channel}; {counts}.\n")
    return 0


def _names(url: str) -> Iterator[str]:
    for each in offline.all_identities(url):
        yield f"{each.channel}: {each.name} is {plain(each.user_id)} ({plain(each.user_name)}), since {each.at.date()}"


def _pairings(url: str) -> Iterator[str]:
    return map(pairing_line, _valid_pairings(url))


def _valid_pairings(url: str) -> Iterator[Pairing]:
    now = datetime.now(UTC)
    return (pairing for pairing in offline.all_pairings(url) if pairing.approved or pairing.expires_at > now)


def pairing_line(pairing: Pairing) -> str:
    state = "approved" if pairing.approved else f"pending, code {pairing.code}"
    return f"{pairing.channel}: {plain_person(pairing.sender)}, {state}"


def _strangers(url: str) -> Iterator[str]:
    for each in offline.all_strangers(url):
        count = "1 message" if each.messages == 1 else f"{each.messages:,} messages"
        yield f"{each.channel}: {plain_person(each.sender)}, refused, {count}, last on {each.last_at.date()}"
