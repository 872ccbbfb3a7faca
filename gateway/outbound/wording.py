"""Counts, durations, costs and quotations in words for people."""

from __future__ import annotations

from gateway.store.records import UsageTotals

MAX_QUOTE_LENGTH = 80


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


def quoted(text: str) -> str:
    """On one line, in quotation marks, shortened to `MAX_QUOTE_LENGTH`."""
    short = " ".join(text.split())
    return f"“{short if len(short) <= MAX_QUOTE_LENGTH else short[: MAX_QUOTE_LENGTH - 1] + '…'}”"
