"""Compaction: keeps a conversation within the model's context window by summarizing its oldest part."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.context.digest import INSTRUCTIONS, digest
from agent.context.tokens import CHARACTERS_PER_TOKEN, IMAGE_TOKENS, estimate_tokens, estimate_transcript, tokens_of
from agent.events import Charged, Delta, OnDelta, Waiting
from agent.foreign import sources_in
from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    CallEnded,
    Compacted,
    Entry,
    MessagesRead,
    ModelAnswered,
    Spent,
    Text,
    UserMessage,
)
from agent.model import Answer, Model, ModelError, Request, ToolSpec
from agent.tools.todos import NAME as TODOS
from agent.tools.todos import parse_todos
from agent.transcript import (
    SUMMARY,
    Exchange,
    RenderedTurn,
    Results,
    SystemNote,
    conversation,
    last_compaction,
    model_view,
    transcript,
)

log = logging.getLogger(__name__)

RESERVED_TOKENS = 16_000
"""Tokens kept free for the answer, but at most a quarter of the window."""

MAX_SUMMARY_TOKENS = 2_000
"""Tokens of a summary."""

MIN_SUMMARY_TOKENS = 100
"""Tokens of the shortest useful summary; a part with less is not compacted."""

MAX_SOURCES = 50
"""Sources of foreign text that a summary names, the latest."""

MIN_GAIN = 0.05
"""Part of the window that a compaction must cover, unless the model has rejected the conversation."""

MIN_KEEP = 0.1
"""Part of the window that is never compacted, regardless of the size of instructions and tools."""

SUMMARY_TIMEOUT = 120.0
"""Seconds that a summary may take; people wait meanwhile."""

SUMMARIZING = "Summarizing the conversation so far ..."

_TODOS = "\n\nThe to-do list as it stands:\n"
_DECISIONS = "\n\nNot yet decided by people:\n"
# Summaries that are stored in logs contain these headings: do not change them.


class _NoSummary(Exception):
    """No summary is available; the message says why."""


@dataclass(frozen=True, slots=True)
class _Part:
    """The part to compact: past turns up to `through`, and the turn's own steps before `step`."""

    through: str
    step: int
    exchanges: tuple[Exchange, ...]
    kept: tuple[Exchange, ...]
    turns: int
    steps: int

    def describe(self) -> str:
        """Its size, for people: "3 earlier turns and 12 steps of this one"."""
        counts = [f"{self.turns} earlier turn{'' if self.turns == 1 else 's'}"] if self.turns else []
        if self.steps:
            counts.append(f"{self.steps} step{'' if self.steps == 1 else 's'} of this one")
        return " and ".join(counts)


class Compactor:
    """Compacts conversations. Has no state, so one serves any number of turns.

    `window` is the model's context window in tokens; `reserve` of them stay free for the answer. A conversation that
    fills more than `full_at` of the rest is summarized by the model `small`, except for its newest part: `keep` of the
    window, or half of the space that instructions and tools leave, if that is less.
    """

    def __init__(
        self, window: int, small: Model, *, reserve: int = RESERVED_TOKENS, full_at: float = 0.8, keep: float = 0.3
    ) -> None:
        self._window = window
        self._small = small
        self._full = int((window - min(reserve, window // 4)) * full_at)
        self._keep = int(window * keep)

    async def compact(
        self,
        past: Sequence[RenderedTurn],
        entries: Sequence[Entry],
        *,
        instructions: str,
        tools: Sequence[ToolSpec],
        used: int,
        on_delta: OnDelta,
        force: bool = False,
    ) -> tuple[Entry, ...]:
        """The entries to log so that the conversation fits again; none if it fits, or if nothing can be compacted.

        `used` is the token count (input and output) of the turn's last answer that was not interrupted; 0 if unknown or
        older than a compaction. `force`: the model has rejected the conversation as too long.

        If no summary is available, the same part is removed without one. Can be cancelled at any time, without effect.
        """
        size = used + _since(entries) if used else 0
        if size and size <= self._full and not force:
            return ()
        request = Request(instructions, conversation(past, entries), tuple(tools))
        estimated = estimate_tokens(request)
        size = size or estimated
        if size <= self._full and not force:
            return ()
        # The provider's count corrects our estimates for this conversation's language.
        scale = max(1.0, size / max(estimated, 1))
        # Instructions and tools are not compacted, and the kept part must leave space for growth beside them.
        fixed = scale * (estimated - estimate_transcript(request.transcript))
        keep = min(self._keep, max(self._window * MIN_KEEP, (self._full - fixed) / 2)) / scale
        if force:
            keep = min(keep, estimate_transcript(request.transcript)) / 2
        part = _part_to_compact(past, entries, int(keep), force=force)
        minimum = MIN_SUMMARY_TOKENS if force else int(self._window * MIN_GAIN / scale)
        if part is None or estimate_transcript(part.exchanges) < minimum:
            return ()
        return await self._compact(part, entries, on_delta)

    async def _compact(self, part: _Part, entries: Sequence[Entry], on_delta: OnDelta) -> tuple[Entry, ...]:
        carried = _carried_todos(part) + _open_decisions(entries)
        # Two more than both estimates are rounded up by.
        space = estimate_transcript(part.exchanges) - estimate_transcript([SystemNote(SUMMARY + carried)]) - 2
        if space < MIN_SUMMARY_TOKENS:
            return ()
        step = 1 + sum(isinstance(entry, ModelAnswered) for entry in entries)
        foreign = sources_in(part.exchanges)[-MAX_SOURCES:]
        await on_delta(Waiting(SUMMARIZING))
        try:
            answer = await self._summary(part.exchanges, on_delta)
        except _NoSummary as error:
            log.warning("%s removed from a conversation without a summary: %s", part.describe(), error)
            summary = _truncate(_removal_note(part, str(error)), min(space, MAX_SUMMARY_TOKENS)) + carried
            return (Compacted(part.step, part.through, summary, left_out=True, foreign=foreign),)
        spent = Spent(step, answer.usage, answer.model, "summary")
        summary = _truncate(_summary_text(answer), min(space, MAX_SUMMARY_TOKENS)) + carried
        return spent, Compacted(part.step, part.through, summary, foreign=foreign)

    async def _summary(self, exchanges: Sequence[Exchange], on_delta: OnDelta) -> Answer:
        """The small model's summary. Raises `_NoSummary`, also on timeout."""

        async def pass_charges(delta: Delta) -> None:
            if isinstance(delta, Charged):
                await on_delta(delta)

        try:
            async with asyncio.timeout(SUMMARY_TIMEOUT):
                answer = await self._ask(exchanges, pass_charges)
        except TimeoutError as error:
            raise _NoSummary(f"the summary timed out after {SUMMARY_TIMEOUT:g} seconds") from error
        except ModelError as error:
            raise _NoSummary(str(error)) from error
        if not _summary_text(answer):
            await on_delta(Charged(answer.usage, answer.model, "summary"))
            raise _NoSummary("the model returned an empty summary")
        return answer

    async def _ask(self, exchanges: Sequence[Exchange], on_delta: OnDelta) -> Answer:
        """Asks the small model; if its window is too small, again with half of the text. Raises `ModelError`."""
        room = self._full * CHARACTERS_PER_TOKEN
        while True:
            try:
                return await self._small.answer(_summary_request(digest(exchanges, room)), on_delta)
            except ModelError as error:
                room //= 2
                if error.kind != "too_long" or room < MIN_SUMMARY_TOKENS * CHARACTERS_PER_TOKEN:
                    raise


def _summary_request(text: str) -> Request:
    return Request(INSTRUCTIONS.format(words=MAX_SUMMARY_TOKENS // 2), [MessagesRead(1, (UserMessage(0, "", text),))])


def _since(entries: Sequence[Entry]) -> int:
    """Estimated tokens after the last answer that was not interrupted."""
    later: list[Entry] = []
    for entry in reversed(entries):
        if isinstance(entry, ModelAnswered) and not entry.interrupted:
            break
        later.append(entry)
    later.reverse()
    ends = [entry for entry in later if isinstance(entry, CallEnded)]
    results = tokens_of(sum(len(end.text) for end in ends)) + IMAGE_TOKENS * sum(len(end.images) for end in ends)
    return results + estimate_transcript(transcript(later))


def _part_to_compact(past: Sequence[RenderedTurn], entries: Sequence[Entry], keep: int, *, force: bool) -> _Part | None:
    """The oldest whole turns, so that the rest has at most `keep` tokens; if that is not enough, also the oldest steps
    of the running turn, except for its last. None if only an earlier summary would be covered."""
    turns, own = model_view(past, entries)
    notes, steps = _split_steps(own)
    room = keep - estimate_transcript(own)
    first = len(turns)
    while first > 0 and (room := room - estimate_transcript(turns[first - 1].exchanges)) >= 0:
        first -= 1
    previous = last_compaction(entries)
    covered = [exchange for turn in turns[:first] for exchange in turn.exchanges]
    done = _steps_to_compact(steps, keep - estimate_transcript(notes), entries) if first == len(turns) else 0
    if force and len(steps) == 1 and all(map(_is_summary, covered)) and _has_ended(steps[0], entries):
        done = 1
    covered += [note for note in notes if _is_summary(note)] if done else []
    covered += [exchange for step in steps[:done] for exchange in step]
    if all(map(_is_summary, covered)):
        return None
    through = turns[first - 1].id if first else "" if previous is None else previous.through
    answered = steps[done - 1][0] if done else None
    step = answered.step + 1 if isinstance(answered, ModelAnswered) else 1 if previous is None else previous.step
    kept = [exchange for turn in turns[first:] for exchange in turn.exchanges]
    kept += [exchange for step_kept in steps[done:] for exchange in step_kept]
    whole_turns = sum(not all(map(_is_summary, turn.exchanges)) for turn in turns[:first])
    return _Part(through, step, tuple(covered), tuple(kept), whole_turns, done)


def _split_steps(own: Sequence[Exchange]) -> tuple[list[Exchange], list[list[Exchange]]]:
    """The turn's messages and notes, and its steps: each answer with its results."""
    notes: list[Exchange] = []
    steps: list[list[Exchange]] = []
    for exchange in own:
        match exchange:
            case ModelAnswered():
                steps.append([exchange])
            case Results():
                steps[-1].append(exchange)
            case _:
                notes.append(exchange)
    return notes, steps


def _steps_to_compact(steps: Sequence[Sequence[Exchange]], room: int, entries: Sequence[Entry]) -> int:
    """The number of oldest steps to compact, so that the others fit; never the last, nor a step with pending calls."""
    kept = 1
    room -= estimate_transcript(steps[-1]) if steps else 0
    while kept < len(steps) and (room := room - estimate_transcript(steps[-kept - 1])) >= 0:
        kept += 1
    oldest = steps[: max(len(steps) - kept, 0)]
    return next((number for number, step in enumerate(oldest) if not _has_ended(step, entries)), len(oldest))


def _has_ended(step: Sequence[Exchange], entries: Sequence[Entry]) -> bool:
    ended = {entry.call_id for entry in entries if isinstance(entry, CallEnded)}
    return all(call.id in ended for answered in step if isinstance(answered, ModelAnswered) for call in answered.calls)


def _is_summary(exchange: Exchange) -> bool:
    return isinstance(exchange, SystemNote) and exchange.summary


def _carried_todos(part: _Part) -> str:
    """The to-do list, if its last version is in the compacted part."""
    if _todos(part.kept) is not None:
        return ""
    found = _todos(part.exchanges)
    return f"{_TODOS}{found}" if found else ""


def _todos(exchanges: Sequence[Exchange]) -> str | None:
    """The last to-do list as text; "" if it was cleared, None if there is none."""
    done: set[str] = set()
    for exchange in reversed(exchanges):
        match exchange:
            case Results():
                done = {result.call.id for result in exchange.results if result.outcome == "done"}
            case ModelAnswered():
                for call in reversed(exchange.calls):
                    if call.name == TODOS and call.id in done and (found := parse_todos(call.arguments)) is not None:
                        return found.as_text()
            case SystemNote(summary=True, text=text) if _TODOS in text:
                return text.rpartition(_TODOS)[2].partition(_DECISIONS)[0]
            case _:
                pass
    return None


def _open_decisions(entries: Iterable[Entry]) -> str:
    waiting: dict[str, str] = {}
    for entry in entries:
        if isinstance(entry, ApprovalRequested):
            waiting[entry.id] = entry.question
        elif isinstance(entry, ApprovalDecided):
            waiting.pop(entry.id, None)
    return _DECISIONS + "\n".join(waiting.values()) if waiting else ""


def _removal_note(part: _Part, reason: str) -> str:
    """A paragraph for people: the part was removed, and why; then the earlier summaries."""
    verb = "was" if part.turns + part.steps == 1 else "were"
    note = f"{part.describe()} {verb} removed here without a summary, because none was available: {reason}"
    earlier = [exchange.text for exchange in part.exchanges if isinstance(exchange, SystemNote) and exchange.summary]
    return "\n\n".join([note, *map(_without_lists, earlier)])


def _without_lists(text: str) -> str:
    return text.partition(_TODOS)[0].partition(_DECISIONS)[0]


def _summary_text(answer: Answer) -> str:
    """The text of the answer, without our headings."""
    text = "".join(part.text for part in answer.parts if isinstance(part, Text)).strip()
    return _without_lists(text)


def _truncate(text: str, tokens: int) -> str:
    limit = tokens * CHARACTERS_PER_TOKEN
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
