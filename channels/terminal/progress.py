"""What the person said in a terminal and what is being done about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from channels.message import MessageState
from channels.reply import Reply
from channels.terminal.parse import Said


@dataclass(slots=True)
class _Message:
    """`row` is its id in the inbox, once it is committed; `told`: a reply that may answer it was shown to its end."""

    row: int | None = None
    state: MessageState | Literal["sending"] = "sending"
    told: bool = False

    @property
    def over(self) -> bool:
        return self.state in ("withdrawn", "refused") or (self.state == "answered" and self.told)


class Progress:
    """Follows messages from their sending to the end of the reply that answers them."""

    def __init__(self) -> None:
        self._messages: dict[str, _Message] = {}
        self._early: dict[int, MessageState] = {}
        self._growing: dict[str, Reply] = {}

    def said(self, said: Said) -> None:
        self._messages[said.id] = _Message()

    def accepted(self, said: Said, row: int) -> None:
        """Its state may have been told before this."""
        message = self._messages[said.id]
        message.row = row
        message.state = self._early.pop(row, "waiting")
        self._tidy()

    def dropped(self, said: Said) -> None:
        """It will not be answered."""
        self._messages.pop(said.id, None)
        self._tidy()

    def marked(self, row: int, state: MessageState) -> None:
        message = next((message for message in self._messages.values() if message.row == row), None)
        if message is None:
            self._early[row] = state
        else:
            message.state = state
        self._tidy()

    def replied(self, reply: Reply) -> None:
        if not reply.done:
            self._growing[reply.id] = reply
            return
        self._growing.pop(reply.id, None)
        for id, message in self._messages.items():
            message.told |= id == reply.reply_to or message.state in ("read", "answered")
        self._tidy()

    @property
    def running(self) -> bool:
        """Whether something that was said is not answered yet, or something is being answered."""
        return bool(self._growing) or bool(self._messages)

    @property
    def growing(self) -> Reply | None:
        """The reply that grows now: the one that began last."""
        return next(reversed(self._growing.values()), None)

    def _tidy(self) -> None:
        self._messages = {id: message for id, message in self._messages.items() if not message.over}
        if all(message.row is not None for message in self._messages.values()):
            self._early.clear()
