"""`interject doctor`: looks at the whole installation, and says what is wrong, why it matters and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from config.load import Configuration
from gateway.cli import VERSION
from gateway.cli.doctor.database import check_database
from gateway.cli.doctor.finding import SIGNS, Finding, Level
from gateway.cli.doctor.machine import check_machine
from gateway.cli.doctor.settings import check_settings
from gateway.cli.output import json_line, write_lines
from gateway.cli.running import channel_troubles, published_address, running_here
from gateway.outbound.wording import plain
from gateway.store.errors import StoreError
from gateway.store.read_only import Holder, holders

WIDTH = 2000


def examine(configuration: Configuration, *, online: bool, as_json: bool) -> int:
    """`online`: servers are asked too. Returns the exit code: 1 when there is a problem."""
    findings = [*_findings(configuration), *(_online(configuration) if online else ())]
    if as_json:
        write_lines(json_line(_json(each)) for each in findings)
    else:
        write_lines(_lines(findings))
    return 1 if any(each.level == "problem" for each in findings) else 0


def _findings(configuration: Configuration) -> Iterator[Finding]:
    yield Finding("version", "ok", VERSION)
    yield from check_settings(configuration)
    running = _holders(configuration)
    yield from check_database(configuration, running)
    # One without a web server cannot be told from others on this machine; nor does it need a port.
    has_web = configuration.settings.web.enabled
    is_here = running_here(configuration.home, running) is not None if has_web else any(e.is_here for e in running)
    if is_here:
        yield from _channels(configuration)
    yield from check_machine(configuration, is_running=is_here)


def _holders(configuration: Configuration) -> tuple[Holder, ...]:
    try:
        return holders(configuration.settings.store.url)
    except StoreError:
        # A database that does not answer; its check says so.
        return ()


def _channels(configuration: Configuration) -> Iterator[Finding]:
    """What the running gateway says of its channels."""
    address = published_address(configuration.home)
    troubles = channel_troubles(configuration, address) if address else None
    if troubles is None:
        what = "the running gateway does not answer" if address else "the running gateway has no web server"
        yield Finding("channels", "warning", what, "nobody can say whether they work", "look into its log")
        return
    for name, trouble in troubles.items():
        if trouble:
            yield Finding(f"channel {name}", "problem", trouble, "it neither hears nor says anything", "see its log")
        else:
            yield Finding(f"channel {name}", "ok", "works")


def _online(configuration: Configuration) -> Sequence[Finding]:
    from gateway.cli.doctor.servers import check_servers_online

    return asyncio.run(check_servers_online(configuration))


def _json(finding: Finding) -> dict[str, Any]:
    return {
        "part": finding.part,
        "level": finding.level,
        "what": finding.what,
        "why": finding.why or None,
        "do": finding.do or None,
    }


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    for each in findings:
        yield f"  {SIGNS[each.level]}  {each.part}: {plain(each.what, WIDTH)}"
        if each.why:
            yield f"      why: {each.why}"
        if each.do:
            yield f"      do: {plain(each.do, WIDTH)}"
    yield f"{_count(findings, 'problem')}, {_count(findings, 'warning')}."


def _count(findings: Sequence[Finding], level: Level) -> str:
    count = sum(each.level == level for each in findings)
    return f"1 {level}" if count == 1 else f"{count} {level}s"
