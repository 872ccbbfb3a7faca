"""Servers: tokens, scopes and intents of the platforms, keys and models, MCP servers, and the clock by their dates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx

from config.load import Configuration
from gateway.cli.check import check_online
from gateway.cli.checks.mcp import check_servers
from gateway.cli.checks.media import check_media
from gateway.cli.checks.result import CheckResult
from gateway.cli.doctor.finding import Finding

OFF = timedelta(seconds=30)
FAR_OFF = timedelta(minutes=4)
"""Slack's requests are refused when they seem to be older than five minutes:
https://docs.slack.dev/authentication/verifying-requests-from-slack"""

_WHY = {
    "token": "without it the channel neither hears nor says anything",
    "scopes": "what needs them fails: messages that are not seen, files that are not sent",
    "intents": "the bot is not shown what people write",
    "groups": "the bot is not shown what people write in groups",
    "allowlist": "nobody may write to the bot",
    "model": "the agent cannot answer",
    "key": "the agent has one key fewer to answer with",
    "notes": "voice notes are not understood",
    "shared": "files of conversations are not found here",
    "media": "files that people send wait, and files of tools cannot be stored",
    "server": "its tools are not offered",
    "extra": "what the setting turns on does not work",
}
"""Why a failed check matters, by a word of what was checked."""


async def check_servers_online(configuration: Configuration) -> list[Finding]:
    """All at once; the clock is compared with the dates of the servers' answers."""
    dates: list[timedelta] = []

    async def note_date(response: httpx.Response) -> None:
        dates.extend(_difference(response.headers.get("date", "")))

    results = await check_online(configuration.settings, note_date)
    results += await check_servers(configuration)
    results.append(await check_media(configuration))
    return [*map(as_finding, results), *_clock(dates)]


def as_finding(result: CheckResult) -> Finding:
    """The result of a check of `interject check`. Its text says what to do, after a semicolon or a full stop."""
    if result.ok:
        return Finding(result.part, "ok", result.text)
    what, advice = _split(result.text)
    why = next((why for word, why in _WHY.items() if word in result.part), "")
    return Finding(result.part, "problem", what, why, advice)


def _split(text: str) -> tuple[str, str]:
    for mark in (". ", "; "):
        what, found, advice = text.partition(mark)
        if found:
            return what, advice
    return text, ""


def _difference(date: str) -> Iterator[timedelta]:
    """How far this machine's clock is ahead of the server's. The header has whole seconds."""
    try:
        there = parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return
    if there.tzinfo is not None:
        yield datetime.now(UTC) - there


def _clock(dates: Sequence[timedelta]) -> Iterator[Finding]:
    if not dates:
        return
    # Of the server that is closest: one of them may be wrong itself.
    ahead = min(dates, key=abs)
    what = f"{abs(ahead.total_seconds()):.0f} s {'ahead of' if ahead > timedelta() else 'behind'} the servers asked"
    if abs(ahead) < OFF:
        yield Finding("clock", "ok", what)
        return
    why = "signatures and approvals seem to be expired, limits by day and times in logs are wrong"
    yield Finding("clock", "problem" if abs(ahead) > FAR_OFF else "warning", what, why, "switch on NTP")
