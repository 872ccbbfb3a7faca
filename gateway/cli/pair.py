"""`interject pair`: lists and approves pairing requests; works beside a running gateway."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from config.load import Configuration
from gateway.cli.access import pairing_json, pairing_line
from gateway.cli.output import json_line, write_lines
from gateway.outbound.wording import plain_person
from gateway.store import offline
from gateway.store.errors import StoreError


def approve(configuration: Configuration, code: str) -> int:
    """Returns the exit code: 1 when nobody was approved."""
    try:
        pairing = offline.approve(configuration.settings.store.url, code.strip().upper())
    except StoreError as error:
        sys.stderr.write(f"interject: {error}\n")
        return 1
    if pairing is None:
        sys.stderr.write("interject: unknown or expired pairing code; `interject pair list` shows the valid ones\n")
        return 1
    sys.stdout.write(f"Approved: {plain_person(pairing.sender)} may now write to {pairing.channel}.\n")
    return 0


def show_requests(configuration: Configuration, *, as_json: bool = False) -> int:
    """Returns the exit code."""
    try:
        pairings = offline.all_pairings(configuration.settings.store.url)
    except StoreError as error:
        sys.stderr.write(f"interject: {error}\n")
        return 1
    now = datetime.now(UTC)
    valid = [pairing for pairing in pairings if pairing.approved or pairing.expires_at > now]
    if as_json:
        write_lines(json_line(pairing_json(pairing)) for pairing in valid)
    else:
        write_lines(map(pairing_line, valid), "No pairing requests.")
    return 0
