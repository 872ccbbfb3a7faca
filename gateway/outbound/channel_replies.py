"""Reply builders with the options of each channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.outbound.reply_builder import Activity, ReplyBuilder
from gateway.store.records import Turn


@dataclass(frozen=True, slots=True)
class ReplyOptions:
    """What a channel shows besides the answers; `reasoning`: what the model thinks."""

    activity: Activity = "quiet"
    reasoning: bool = False


DEFAULT = ReplyOptions()


class ChannelReplies:
    def __init__(self, options: Mapping[str, ReplyOptions], mask: Callable[[str], str]) -> None:
        """`options` by channel, `DEFAULT` for the others. `mask` removes known secrets from a text."""
        self.options = options
        self._mask = mask

    def of(self, turn: Turn) -> ReplyBuilder:
        """The turn's reply, built from its log."""
        options = self.options.get(turn.address.channel, DEFAULT)
        return ReplyBuilder(
            turn.id,
            turn.address,
            turn.reply_to,
            turn.entries,
            parked=turn.parked,
            retryable=turn.kind == "turn",
            activity=options.activity,
            show_reasoning=options.reasoning,
            mask=self._mask,
        )
