"""`interject data`: lists, exports and deletes conversations and people's data, also beside a running gateway."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.load import Configuration
from gateway.assembly.deletion import deletion_without_gateway
from gateway.assembly.media import media_blobs
from gateway.assembly.signals import ExtraMissing
from gateway.cli.home import describe_error
from gateway.media import read_from
from gateway.outbound.export import write_export
from gateway.outbound.wording import plain, report_text
from gateway.store import offline, open_store
from gateway.store.audit import OPERATOR
from gateway.store.errors import StoreBusy, StoreError
from gateway.store.export import ListedConversation
from gateway.store.read_only import holder
from gateway.store.records import DeletionReport, DeletionRequest

WAIT = 60.0
"""Seconds to wait for a running gateway to carry out a deletion."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The key of a conversation, or a person as "channel:user id"."""

    conversation: str | None = None
    person: str | None = None


def show_conversations(configuration: Configuration, *, as_json: bool) -> int:
    try:
        found = offline.conversations(configuration.settings.store.url)
    except StoreError as error:
        return _failed(error, configuration)
    lines = [json.dumps(_json(each)) if as_json else _line(each) for each in found]
    sys.stdout.write("".join(f"{line}\n" for line in lines) or ("" if as_json else "No conversations.\n"))
    return 0


def export(configuration: Configuration, target: Path, selection: Selection, *, overwrite: bool) -> int:
    if target.exists() and not overwrite:
        sys.stderr.write(f"interject: {target} exists already. Choose another name, or overwrite it with --force\n")
        return 1
    url = configuration.settings.store.url
    try:
        found = offline.exported(url, selection.conversation, selection.person)
        if not found:
            return _not_found(selection)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            asyncio.run(write_export(found, read_from(media_blobs(configuration)), stream))
        temporary.replace(target)
    except (StoreError, ExtraMissing, OSError) as error:
        return _failed(error, configuration)
    messages = sum(len(each.messages) for each in found)
    sys.stdout.write(f"Exported to {target}: {len(found)} conversations, {messages} messages.\n")
    return 0


def delete(configuration: Configuration, selection: Selection, *, confirmed: bool) -> int:
    """Returns the exit code: 1 when nothing was deleted."""
    url = configuration.settings.store.url
    wanted = _request(selection)
    try:
        counted = offline.count_deleted(url, wanted)
        if counted == DeletionReport() and not selection.person:
            return _not_found(selection)
        if not confirmed and not _confirms(counted):
            sys.stderr.write("interject: nothing was deleted\n")
            return 1
        request_id = offline.request_deletion(url, wanted)
        if holder(url) is None:
            with suppress(StoreBusy):
                asyncio.run(_carry_out(configuration))
        report = _wait(url, request_id)
    except (StoreError, ExtraMissing, OSError) as error:
        return _failed(error, configuration)
    if report is None:
        sys.stderr.write(
            "interject: the running gateway has not carried out the deletion yet; it will as soon as it can\n"
        )
        return 1
    sys.stdout.write(f"Deleted: {report_text(report)}.\n")
    if report.quoting:
        sys.stdout.write(f"{report.quoting} answers to other people stay, which may repeat what was deleted.\n")
    return 0


async def _carry_out(configuration: Configuration) -> None:
    """Raises `StoreBusy` if a gateway runs, which carries out what is requested itself."""
    async with open_store(configuration.settings.store.url) as store:
        await deletion_without_gateway(configuration, store).catch_up()


def _wait(url: str, request_id: int) -> DeletionReport | None:
    until = time.monotonic() + WAIT
    while True:
        state, report = offline.deletion_result(url, request_id)
        if state != "requested":
            return report
        if time.monotonic() > until:
            return None
        time.sleep(0.2)


def _request(selection: Selection) -> DeletionRequest:
    if selection.conversation is not None:
        return DeletionRequest("conversation", session=selection.conversation, by=OPERATOR)
    return DeletionRequest("person", person=selection.person or "", by=OPERATOR)


def _confirms(counted: DeletionReport) -> bool:
    if not sys.stdin.isatty():
        sys.stderr.write(f"This deletes {report_text(counted)}, with answers and files. To do that, add --yes.\n")
        return False
    sys.stdout.write(f"Delete {report_text(counted)}, with answers and files? This cannot be undone. [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _not_found(selection: Selection) -> int:
    what = f"no conversation {selection.conversation}" if selection.conversation else f"nothing of {selection.person}"
    sys.stderr.write(f"interject: there is {what}; `interject data list` shows what there is\n")
    return 1


def _json(each: ListedConversation) -> dict[str, Any]:
    return {
        "conversation": each.session,
        "channel": each.address.channel,
        "kind": each.address.kind,
        "title": each.title,
        "people": [f"{each.address.channel}:{sender}" for sender, _ in each.people],
        "messages": each.messages,
        "files": each.files,
        "bytes": each.size,
        "since": each.first_at.isoformat(),
        "last": each.last_at.isoformat(),
    }


def _line(each: ListedConversation) -> str:
    channel = each.address.channel
    people = ", ".join(f"{plain(name)} ({channel}:{plain(sender)})" for sender, name in each.people[:5]) or "nobody"
    more = f" and {len(each.people) - 5} more" if len(each.people) > 5 else ""
    files = f", {each.files} files ({each.size / 1e6:.1f} MB)" if each.files else ""
    return f"{each.session}\n    {each.last_at:%Y-%m-%d}: {each.messages} messages{files}; {people}{more}"


def _failed(error: Exception, configuration: Configuration) -> int:
    sys.stderr.write(f"interject: {describe_error(error, configuration.home)}\n")
    return 1
