"""Tracks the messages sent from a terminal until they are answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from channels.message import ENDED_STATES, MessageState
from channels.reply import Reply
from channels.terminal.parse import TypedMessage, open_question


@dataclass(slots=True)
class _Message:
    """`row` is its id in the inbox, once it is committed; `replied`: a reply that may answer it was shown to its end.

    `is_text`: it is no command. `answers` is the key of the question that was open when it was sent. `begins`: a task
    begins with it, as its reply says, or because it was sent to wait for the end of what runs.
    """

    is_text: bool
    answers: str = ""
    row: int | None = None
    state: MessageState | Literal["sending"] = "sending"
    replied: bool = False
    begins: bool = False

    @property
    def is_pending(self) -> bool:
        return self.state in ("sending", "waiting")

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED_STATES

    @property
    def is_finished(self) -> bool:
        return self.state in ("withdrawn", "refused") or (self.has_ended and self.replied)


class MessageTracker:
    """Follows messages from their sending to the end of the reply that answers them."""

    def __init__(self) -> None:
        self._messages: dict[str, _Message] = {}
        self._early_states: dict[int, MessageState] = {}
        self._open_replies: dict[str, Reply] = {}
        self._open_question = ""
        self._answered_question = ""
        self._ends: set[MessageState] = set()

    @property
    def ends(self) -> frozenset[MessageState]:
        """How the tasks of the messages have ended so far."""
        return frozenset(self._ends)

    def sent(self, typed: TypedMessage) -> None:
        self._messages[typed.id] = _Message(is_text=not typed.text.lstrip().startswith("/"))
        self._update_answer()

    def queued(self, typed: TypedMessage) -> None:
        """It is sent to wait for the end of what runs."""
        message = self._messages[typed.id]
        message.begins, message.is_text = True, False

    @property
    def has_steered(self) -> bool:
        """Whether a message was read, perhaps by a task that began with another message: its reply answers this one."""
        return any(
            not message.begins and (message.state == "read" or message.has_ended) for message in self._messages.values()
        )

    def accepted(self, typed: TypedMessage, row: int) -> None:
        """Its state may have been reported before this."""
        message = self._messages[typed.id]
        message.row = row
        self._set_state(message, self._early_states.pop(row, "waiting"))
        self._tidy()

    def failed(self, typed: TypedMessage) -> None:
        """It was not sent, so it will not be answered."""
        message = self._messages.pop(typed.id, None)
        if message is not None:
            self._take_back(message)
        self._tidy()

    def status_changed(self, row: int, state: MessageState) -> None:
        message = next((message for message in self._messages.values() if message.row == row), None)
        if message is None:
            self._early_states[row] = state
        else:
            self._set_state(message, state)
            if state in ("refused", "withdrawn"):
                self._take_back(message)
        self._tidy()

    def _set_state(self, message: _Message, state: MessageState) -> None:
        message.state = state
        if message.has_ended:
            self._ends.add(state)

    def reply_changed(self, reply: Reply) -> None:
        begun = self._messages.get(reply.reply_to or "")
        if begun is not None:
            begun.begins = True
        if not reply.done:
            self._open_replies[reply.id] = reply
            self._update_question()
            self._update_answer()
            self._tidy()
            return
        self._open_replies.pop(reply.id, None)
        for id, message in self._messages.items():
            message.replied |= id == reply.reply_to or message.state == "read" or message.has_ended
        self._tidy()

    @property
    def running(self) -> bool:
        """Whether a message is not answered yet, or a reply is growing."""
        return bool(self._open_replies) or bool(self._messages)

    @property
    def parked(self) -> bool:
        """Whether the turn waits for the person's answer, and no answer was sent."""
        reply = self.current_reply
        return (
            reply is not None
            and reply.parked
            and self._open_question != self._answered_question
            and all(message.state == "read" for message in self._messages.values())
        )

    @property
    def current_reply(self) -> Reply | None:
        """The newest growing reply."""
        return next(reversed(self._open_replies.values()), None)

    def _update_question(self) -> None:
        """A new question means that the messages that answered the previous one are dealt with."""
        question = open_question(self._open_replies.values())
        key = question.key if question else ""
        if key and key != self._open_question:
            for message in self._messages.values():
                message.replied |= message.has_ended or message.answers != ""
        self._open_question = key

    def _update_answer(self) -> None:
        """A text that was sent answers the open question, which may be displayed as open for a while.

        Not so the message that a reply began with: its acceptance may be reported after its reply.
        """
        began = {reply.reply_to for reply in self._open_replies.values()}
        for id, message in self._messages.items():
            if (
                self._open_question
                and message.is_text
                and message.is_pending
                and not message.answers
                and id not in began
            ):
                message.answers = self._answered_question = self._open_question

    def _take_back(self, message: _Message) -> None:
        if message.answers == self._answered_question:
            self._answered_question = ""

    def _tidy(self) -> None:
        self._messages = {id: message for id, message in self._messages.items() if not message.is_finished}
        if all(message.row is not None for message in self._messages.values()):
            self._early_states.clear()
