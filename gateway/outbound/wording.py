"""Wording: counts, times, money and other people's words, as they are said to people."""

from __future__ import annotations

from gateway.store.records import Bill

LONGEST_QUOTE = 80


def bill(spent: Bill) -> str:
    """What was spent, and on how much."""
    calls = "1 model call" if spent.calls == 1 else f"{spent.calls:,} model calls"
    cached = f" ({spent.cache_read:,} of them cached)" if spent.cache_read else ""
    return f"{dollars(spent.cost)} for {calls}: {spent.input:,} tokens read{cached}, {spent.output:,} written."


def dollars(cost: float) -> str:
    return f"${cost:.2f}" if cost >= 0.01 or cost == 0 else f"${cost:.4f}"


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def were(count: int) -> str:
    return "was" if count == 1 else "were"


def quoted(words: str) -> str:
    """On one line, in quotation marks, and not too long."""
    short = " ".join(words.split())
    return f"“{short if len(short) <= LONGEST_QUOTE else short[: LONGEST_QUOTE - 1] + '…'}”"
