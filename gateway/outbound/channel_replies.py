"""Drafts: replies made as each channel is to show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.outbound.reply_builder import Activity, ReplyBuilder
from gateway.store.records import Turn


@dataclass(frozen=True, slots=True)
class ReplyOptions:
    """What people see on a channel besides the answers."""

    activity: Activity = "quiet"
    reasoning: bool = False


USUAL = ReplyOptions()


class ChannelReplies:
    def __init__(self, shows: Mapping[str, ReplyOptions], mask: Callable[[str], str]) -> None:
        """By channel; the others are shown the usual. `mask` takes known secrets out of a text."""
        self._shows = shows
        self._mask = mask

    def of(self, turn: Turn) -> ReplyBuilder:
        """The turn's reply as far as its log tells it."""
        shows = self._shows.get(turn.address.channel, USUAL)
        return ReplyBuilder(
            turn.id,
            turn.address,
            turn.reply_to,
            turn.entries,
            parked=turn.parked,
            activity=shows.activity,
            show_reasoning=shows.reasoning,
            mask=self._mask,
        )
