"""Foreign text in a turn: where it came from, and what its calls may do after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from agent.frames import inline
from agent.log import CallEnded, Entry, MessagesRead, ModelAnswered, Native
from agent.transcript import Exchange, RenderedTurn, Results, SystemNote

ForeignRule = Literal["ask", "allow", "deny"]
"""What happens to a call with effects outside the workspace, in a turn that has read foreign text."""

MAX_NAMED = 3
"""Sources that a question names."""

SEARCH = "web search"


def foreign_sources(past: Sequence[RenderedTurn], entries: Sequence[Entry]) -> tuple[str, ...]:
    """The sources of the foreign text that the turn has read. If no person began the turn (it reads the result of
    background work), also those of the turns before it, back to the last one that a person began, and of the summary
    of that turn's first steps."""
    turns: list[Sequence[Entry | Exchange]] = [entries]
    if not _is_begun_by_person(entries):
        found = False
        for turn in reversed(past):
            if found and any(isinstance(item, MessagesRead) for item in turn.exchanges):
                break
            turns.append(turn.exchanges)
            if found:
                break
            found = _is_begun_by_person(turn.exchanges)
    return sources_in(item for turn in turns for item in turn)


def sources_in(items: Iterable[Entry | Exchange]) -> tuple[str, ...]:
    """The sources of the foreign text in these parts of a conversation, each once."""
    return tuple(dict.fromkeys(source for item in items for source in _sources_in(item)))


def name_sources(sources: Sequence[str]) -> str:
    """The sources as a list for people, as code, because they are text from outside too."""
    named = ", ".join(f"`{inline(source).replace('`', '')}`" for source in sources[:MAX_NAMED])
    return f"{named} and {len(sources) - MAX_NAMED} more" if len(sources) > MAX_NAMED else named


def _is_begun_by_person(turn: Sequence[Entry | Exchange]) -> bool:
    first = next((item for item in turn if isinstance(item, MessagesRead)), None)
    return first is not None and any(message.source != "work" for message in first.messages)


def _sources_in(item: Entry | Exchange) -> Iterable[str]:
    match item:
        case MessagesRead():
            return (foreign.source for message in item.messages for foreign in message.foreign)
        case ModelAnswered():
            return (part.summary or SEARCH for part in item.parts if isinstance(part, Native) and part.foreign)
        case CallEnded():
            return item.foreign
        case Results():
            return (source for result in item.results for source in result.foreign)
        case SystemNote():
            return item.foreign
        case _:
            return ()
