"""Counts, durations, costs, quotations and people's names in words for people."""

from __future__ import annotations

import re
import unicodedata

from channels.address import Sender
from gateway.store.records import DeletionReport, UsageTotals

MAX_QUOTE_LENGTH = 80
MAX_NAME_LENGTH = 64

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#!|~:&@$])")
"""Characters that may have a meaning in Markdown or for a platform."""


def usage(totals: UsageTotals) -> str:
    """Cost, model calls and tokens."""
    calls = "1 model call" if totals.calls == 1 else f"{totals.calls:,} model calls"
    cached = f" ({totals.cache_read:,} cached)" if totals.cache_read else ""
    return (
        f"{dollars(totals.cost)} for {calls}: {totals.input:,} input tokens{cached}, {totals.output:,} output tokens."
    )


def dollars(cost: float) -> str:
    return f"${cost:.2f}" if cost >= 0.01 or cost == 0 else f"${cost:.4f}"


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def queued_messages(count: int) -> str:
    return "1 queued message" if count == 1 else f"{count} queued messages"


def report_text(report: DeletionReport) -> str:
    """What is or was deleted."""
    counts = {
        "conversation": report.conversations,
        "message": report.messages,
        "turn": report.turns,
        "file": report.files,
        "summar": report.summaries,
        "workspace": report.folders,
        "access by pairing": report.accesses,
    }
    parts = [_counted(what, number) for what, number in counts.items() if number]
    return ", ".join(parts) or "nothing"


def _counted(what: str, number: int) -> str:
    match what:
        case "summar":
            return "1 summary" if number == 1 else f"{number:,} summaries"
        case "access by pairing":
            return what
        case _:
            return f"1 {what}" if number == 1 else f"{number:,} {what}s"


def quoted(text: str) -> str:
    """On one line, in quotation marks, shortened to `MAX_QUOTE_LENGTH`."""
    short = " ".join(text.split())
    return f"“{short if len(short) <= MAX_QUOTE_LENGTH else short[: MAX_QUOTE_LENGTH - 1] + '…'}”"


def plain(name: str, limit: int = MAX_NAME_LENGTH) -> str:
    """A name from outside for a terminal or a log: one line of up to `limit` characters, with whatever could change the
    display (control and direction characters, invisible ones) as a visible escape."""
    line = " ".join(name.split())
    short = line if len(line) <= limit else f"{line[: limit - 1]}…"
    return "".join(map(_visible, short))


def escaped(name: str, limit: int = MAX_NAME_LENGTH) -> str:
    """A name from outside for a message of the gateway, which is Markdown: as `plain`, and without any markup. Not for
    the beginning of a line, where more characters have a meaning."""
    return _MARKUP.sub(literal, plain(name, limit))


def literal(found: re.Match[str]) -> str:
    """A character as Markdown that displays it. Behind a backslash, brackets are those of a formula."""
    return f"&#{ord(found[0])};" if found[0] in "[(" else f"\\{found[0]}"


def person(sender: Sender) -> str:
    """Name and id for a message of the gateway. Only the id says who it is."""
    id = f"`{plain(sender.id).replace('`', '')}`"
    return f"{escaped(sender.name)} ({id})" if sender.name else id


def plain_person(sender: Sender) -> str:
    """Name and id for a terminal."""
    return f"{plain(sender.name)} ({plain(sender.id)})" if sender.name else plain(sender.id)


def _visible(character: str) -> str:
    """Categories Cc, Cf, Cs, Co, Zl and Zp: control and format characters, and those without a shape."""
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"):
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
