"""What the demo model reads from a conversation, and the forms of what it says next; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent.log import Call, MessagesRead, ModelAnswered, Outcome, UserMessage
from agent.media import Attachment
from agent.model import Request
from agent.transcript import Exchange, Result, Results, SystemNote

MAX_QUOTE_LENGTH = 80


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """The state of the conversation: people's new messages since the last answer, and the results of its calls.

    `interrupted`: that answer was interrupted. `background_ended`: a background task has ended since.
    """

    new_messages: tuple[UserMessage, ...]
    background_ended: bool
    last_answer: ModelAnswered | None
    interrupted: bool
    results: tuple[Result, ...]
    pages: Pages
    name: str
    tools: frozenset[str]
    calls_made: int

    @property
    def message(self) -> str:
        return "\n".join(message.text for message in self.new_messages).strip()

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """What the person has sent."""
        given = (attachment for message in self.new_messages for attachment in message.attachments)
        return tuple(attachment for attachment in given if attachment.taken_from is None)


@dataclass(frozen=True, slots=True)
class Pages:
    """The progress of the long task: the outcome of each page, by its number."""

    total: int = 0
    outcomes: tuple[tuple[int, Outcome], ...] = ()

    def with_outcome(self, *outcomes: Outcome) -> list[int]:
        return sorted(page for page, outcome in self.outcomes if outcome in outcomes)

    @property
    def remaining(self) -> list[int]:
        """The pages to read. One that may have been read, or failed, is not tried again."""
        return self.with_outcome("skipped", "cancelled")


def read_state(request: Request) -> State:
    transcript = request.transcript
    if request.text_only and isinstance(transcript[-1], SystemNote):
        # The note after the conversation only says how to answer.
        transcript = transcript[:-1]
    last = next((exchange for exchange in reversed(transcript) if isinstance(exchange, ModelAnswered)), None)
    since = _since_last_answer(transcript)
    messages = [message for exchange in since if isinstance(exchange, MessagesRead) for message in exchange.messages]
    before = transcript[-len(since) - 1] if len(since) < len(transcript) else None
    return State(
        new_messages=tuple(message for message in messages if message.source == "person"),
        background_ended=any(message.source == "work" for message in messages),
        last_answer=last,
        interrupted=isinstance(before, ModelAnswered) and before.interrupted,
        results=tuple(result for exchange in since if isinstance(exchange, Results) for result in exchange.results),
        pages=_pages(transcript),
        name=_name(transcript),
        tools=frozenset() if request.text_only else frozenset(tool.name for tool in request.tools),
        calls_made=sum(len(exchange.calls) for exchange in transcript if isinstance(exchange, ModelAnswered)),
    )


def _since_last_answer(transcript: Sequence[Exchange]) -> list[Exchange]:
    """What came after the last answer. A turn that was ended, for example by a stop, is not continued."""
    since: list[Exchange] = []
    for exchange in reversed(transcript):
        if isinstance(exchange, ModelAnswered | SystemNote):
            break
        since.append(exchange)
    return since[::-1]


def _pages(transcript: Sequence[Exchange]) -> Pages:
    total = 0
    outcomes: dict[int, Outcome] = {}
    for exchange in transcript:
        for result in exchange.results if isinstance(exchange, Results) else ():
            page = page_of(result.call)
            if page is None:
                continue
            number, total = page
            if number == 1:
                outcomes.clear()
            outcomes[number] = result.outcome
    return Pages(total, tuple(outcomes.items()))


def page_of(call: Call) -> tuple[int, int] | None:
    found = re.search(r"page (\d+) of (\d+) read", call.arguments) if call.name == "shell" else None
    return (int(found[1]), int(found[2])) if found else None


def _name(transcript: Sequence[Exchange]) -> str:
    names = [
        name
        for exchange in transcript
        if isinstance(exchange, MessagesRead)
        for message in exchange.messages
        if (name := given_name(message.text))
    ]
    return names[-1] if names else ""


def given_name(text: str) -> str:
    found = re.search(r"(?i:\bmy name is|\bmy name's|\bcall me)\s+([\w'-]+)", text) or re.search(
        r"(?i:\bi am|\bi'm)\s+([A-Z][\w'-]*)", text
    )
    return found[1][:1].upper() + found[1][1:] if found else ""


def calls(state: State, name: str, arguments: Sequence[str], *, after: int = 0) -> tuple[Call, ...]:
    """Calls of one tool, behind so many others of the same answer."""
    first = state.calls_made + after + 1
    return tuple(Call(f"demo_{number}", name, argument) for number, argument in enumerate(arguments, first))


def quote(text: str) -> str:
    line = " ".join(text.split())
    return f"“{line}”" if len(line) <= MAX_QUOTE_LENGTH else f"“{line[: MAX_QUOTE_LENGTH - 1].rstrip()}…”"


def first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def enumerated(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
