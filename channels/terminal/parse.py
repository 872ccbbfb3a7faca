"""Text typed in a terminal to messages. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from channels.address import Address, Sender
from channels.message import FileRef, InboundMessage
from channels.reply import QuestionSegment, Reply

OWNER = Sender("owner", "You")

_COMMAND = re.compile(r"/([A-Za-z][A-Za-z0-9_-]*)(?:\s+(.*))?", re.DOTALL)
_NUMBER = re.compile(r"\s*([0-9]{1,3})\s*")


@dataclass(frozen=True, slots=True)
class TypedMessage:
    """A message from the terminal. `id` is unique for ever; `quiet`: a key press rather than typed text. The files'
    `ref` is made by `attaching`."""

    id: str
    text: str
    quiet: bool = False
    files: tuple[FileRef, ...] = ()


def parse(
    typed: TypedMessage, address: Address, at: datetime, asked: QuestionSegment | None = None
) -> InboundMessage | None:
    """The message; None if it is blank, without files. `asked` is the open question."""
    text = expand_option(clean(typed.text).strip(), asked)
    if not text and not typed.files:
        return None
    command = _COMMAND.fullmatch(text)
    return InboundMessage(
        event_id=typed.id,
        address=address,
        sender=OWNER,
        sent_at=at,
        kind="command" if command else "new",
        message_id=typed.id,
        text=(command[2] or "") if command else text,
        command=command[1].lower() if command else None,
        files=typed.files,
    )


def expand_option(text: str, asked: QuestionSegment | None) -> str:
    """The text; for the number of an option of the open question, the command that chooses it."""
    number = _NUMBER.fullmatch(text)
    if asked is None or number is None or not 1 <= int(number[1]) <= len(asked.options):
        return text
    return f"/answer {asked.key} {int(number[1]) - 1}"


def open_question(replies: Iterable[Reply]) -> QuestionSegment | None:
    """The open question; of several, the oldest. Offers, which wait for nothing, are taken in words."""
    segments = (segment for reply in replies if not reply.done for segment in reply.segments)
    questions = (segment for segment in segments if isinstance(segment, QuestionSegment) and segment.open)
    return next((question for question in questions if not question.typed), None)


def clean(text: str) -> str:
    """The text without NUL and lone surrogates (bytes that were not UTF-8), which databases and models reject."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
