"""What the person said in a terminal and what is being done about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from channels.message import MessageState
from channels.reply import Reply
from channels.terminal.parse import Said, open_question


@dataclass(slots=True)
class _Message:
    """`row` is its id in the inbox, once it is committed; `told`: a reply that may answer it was shown to its end.

    `speaks`: it is no command. `answers` is the key of the question that was open when it came.
    """

    speaks: bool
    answers: str = ""
    row: int | None = None
    state: MessageState | Literal["sending"] = "sending"
    told: bool = False

    @property
    def on_its_way(self) -> bool:
        return self.state in ("sending", "waiting")

    @property
    def over(self) -> bool:
        return self.state in ("withdrawn", "refused") or (self.state == "answered" and self.told)


class Progress:
    """Follows messages from their sending to the end of the reply that answers them."""

    def __init__(self) -> None:
        self._messages: dict[str, _Message] = {}
        self._early: dict[int, MessageState] = {}
        self._growing: dict[str, Reply] = {}
        self._asked = ""
        self._given = ""

    def said(self, said: Said) -> None:
        self._messages[said.id] = _Message(speaks=not said.text.lstrip().startswith("/"))
        self._note_answer()

    def accepted(self, said: Said, row: int) -> None:
        """Its state may have been told before this."""
        message = self._messages[said.id]
        message.row = row
        message.state = self._early.pop(row, "waiting")
        self._tidy()

    def dropped(self, said: Said) -> None:
        """It will not be answered."""
        message = self._messages.pop(said.id, None)
        if message is not None:
            self._take_back(message)
        self._tidy()

    def marked(self, row: int, state: MessageState) -> None:
        message = next((message for message in self._messages.values() if message.row == row), None)
        if message is None:
            self._early[row] = state
        else:
            message.state = state
            if state in ("refused", "withdrawn"):
                self._take_back(message)
        self._tidy()

    def replied(self, reply: Reply) -> None:
        if not reply.done:
            self._growing[reply.id] = reply
            self._note_question()
            self._note_answer()
            self._tidy()
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
    def parked(self) -> bool:
        """Whether nothing goes on until the person answers a question, and no answer is on its way."""
        reply = self.growing
        return (
            reply is not None
            and reply.parked
            and self._asked != self._given
            and all(message.state == "read" for message in self._messages.values())
        )

    @property
    def growing(self) -> Reply | None:
        """The reply that grows now: the one that began last."""
        return next(reversed(self._growing.values()), None)

    def _note_question(self) -> None:
        """With a new question a reply has said all that it had to say to those that answered the one before."""
        question = open_question(self._growing.values())
        key = question.key if question else ""
        if key and key != self._asked:
            for message in self._messages.values():
                message.told |= message.state == "answered" or message.answers != ""
        self._asked = key

    def _note_answer(self) -> None:
        """Words on their way answer the question that is open, which may be shown as open for a while yet.

        Not so those that a reply began with, whose acceptance may be told after all that came of them.
        """
        began = {reply.reply_to for reply in self._growing.values()}
        for id, message in self._messages.items():
            if self._asked and message.speaks and message.on_its_way and not message.answers and id not in began:
                message.answers = self._given = self._asked

    def _take_back(self, message: _Message) -> None:
        if message.answers == self._given:
            self._given = ""

    def _tidy(self) -> None:
        self._messages = {id: message for id, message in self._messages.items() if not message.over}
        if all(message.row is not None for message in self._messages.values()):
            self._early.clear()
