"""A context manager that shows the model only the last exchanges of a conversation, and no summary.

[agent]
context = "examples/context/last_exchanges.py:LastExchanges"
"""

from __future__ import annotations

from collections.abc import Sequence

from interject import BaseContextManager, Compacted, Entry, RenderedTurn, keep_last

KEPT = 5
"""Exchanges beside the running one: what somebody asked, and all that was done and answered."""

NOTE = "The exchanges before these are left out. If you need something from them, ask the person for it."


class LastExchanges(BaseContextManager):
    async def compact(self, past: Sequence[RenderedTurn], entries: Sequence[Entry], **about) -> Sequence[Entry]:
        # A conversation that is too long in spite of that is summarized.
        return keep_last(past, entries, KEPT, NOTE) or await super().compact(past, entries, **about)

    async def summarize(self, past: Sequence[RenderedTurn], *, focus: str = "", model: str = "") -> list[Compacted]:
        return list(keep_last(past, (), 0, NOTE))
