"""`interject pair`: lets in people who asked a channel for it, also while the gateway runs."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from config.load import Configuration
from gateway.store import offline
from gateway.store.errors import StoreError
from gateway.store.records import Pair


def approve(configuration: Configuration, code: str) -> int:
    """The exit code: 1 when nobody was let in."""
    try:
        pair = offline.approve(configuration.settings.store.url, code.strip().upper())
    except StoreError as error:
        sys.stderr.write(f"interject: {error}\n")
        return 1
    if pair is None:
        sys.stderr.write(
            "interject: that is nobody's code, or it has expired; `interject pair list` shows the others\n"
        )
        return 1
    sys.stdout.write(f"{_name(pair)} may talk to {pair.channel} now.\n")
    return 0


def listed(configuration: Configuration) -> int:
    try:
        pairs = offline.every_pair(configuration.settings.store.url)
    except StoreError as error:
        sys.stderr.write(f"interject: {error}\n")
        return 1
    now = datetime.now(UTC)
    lines = [_line(pair) for pair in pairs if pair.approved or pair.expires_at > now]
    sys.stdout.write("".join(lines) or "Nobody has asked to be let in.\n")
    return 0


def _line(pair: Pair) -> str:
    state = "let in" if pair.approved else f"waits, code {pair.code}"
    return f"{pair.channel}: {_name(pair)}, {state}\n"


def _name(pair: Pair) -> str:
    return f"{pair.sender.name} ({pair.sender.id})" if pair.sender.name else pair.sender.id
