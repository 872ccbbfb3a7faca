"""Compaction: keeps a conversation within the model's context window by summarizing its oldest part."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from agent.context.digest import FOCUS, INSTRUCTIONS, digest
from agent.context.size import conversation_size
from agent.context.tokens import CHARACTERS_PER_TOKEN, estimate_tokens, estimate_transcript
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


class NoSummary(Exception):
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

    `window` is the context window in tokens of the default model, `window_of` that of a model by its name; `reserve`
    of them stay free for the answer. A conversation that fills more than `full_at` of the rest is summarized by the
    model `small`, except for its newest part: `keep` of the window, or half of the space that instructions and tools
    leave, if that is less. Without `auto` that is done only where people ask for it.
    """

    def __init__(
        self,
        window: int,
        small: Model,
        *,
        window_of: Callable[[str], int] | None = None,
        reserve: int = RESERVED_TOKENS,
        full_at: float = 0.8,
        keep: float = 0.3,
        auto: bool = True,
    ) -> None:
        self._window = window
        self._window_of = window_of
        self._small = small
        self._reserve = reserve
        self._full_at = full_at
        self._keep = keep
        self._auto = auto

    def window(self, model: str = "") -> int:
        """The context window of the model in tokens; "" for the default model."""
        return self._window_of(model) if model and self._window_of is not None else self._window

    def share(
        self,
        past: Sequence[RenderedTurn],
        entries: Sequence[Entry],
        *,
        instructions: str,
        tools: Sequence[ToolSpec],
        model: str = "",
    ) -> float:
        """How much of the model's window the conversation fills, 1 for all of it."""
        size = conversation_size(past, entries)
        return (size or _estimate(past, entries, instructions, tools)) / self.window(model)

    async def compact(
        self,
        past: Sequence[RenderedTurn],
        entries: Sequence[Entry],
        *,
        instructions: str,
        tools: Sequence[ToolSpec],
        on_delta: OnDelta,
        model: str = "",
        force: bool = False,
    ) -> tuple[Entry, ...]:
        """The entries to log so that the conversation fits the model's window again; none if it fits, or if nothing can
        be compacted.

        `force`: the model has rejected the conversation as too long.

        If no summary is available, the same part is removed without one. Can be cancelled at any time, without effect.
        """
        if not self._auto:
            return ()
        window, full = self.window(model), self._full(model)
        size = conversation_size(past, entries)
        if size and size <= full and not force:
            return ()
        request = Request(instructions, conversation(past, entries), tuple(tools))
        estimated = estimate_tokens(request)
        size = size or estimated
        if size <= full and not force:
            return ()
        # The provider's count corrects our estimates for this conversation's language.
        scale = max(1.0, size / max(estimated, 1))
        # Instructions and tools are not compacted, and the kept part must leave space for growth beside them.
        fixed = scale * (estimated - estimate_transcript(request.transcript))
        keep = min(int(window * self._keep), max(window * MIN_KEEP, (full - fixed) / 2)) / scale
        if force:
            keep = min(keep, estimate_transcript(request.transcript)) / 2
        part = _part_to_compact(past, entries, int(keep), force=force)
        minimum = MIN_SUMMARY_TOKENS if force else int(window * MIN_GAIN / scale)
        if part is None or estimate_transcript(part.exchanges) < minimum:
            return ()
        return await self._compact(part, entries, on_delta, full)

    async def summarize(
        self, past: Sequence[RenderedTurn], *, focus: str = "", model: str = ""
    ) -> tuple[Spent, Compacted] | None:
        """The entries that replace the whole past by a summary, as a person asks for between turns; None if it is too
        short for that. `focus` says what matters to them. Raises `NoSummary`."""
        part = _part_to_compact(past, (), 0, force=False)
        space = 0 if part is None else self._space(part, ())
        if part is None or space < MIN_SUMMARY_TOKENS:
            return None
        answer = await self._summary(part.exchanges, _ignore, self._full(model), focus)
        return self._entries(part, (), answer, space)

    def _full(self, model: str) -> int:
        window = self.window(model)
        return int((window - min(self._reserve, window // 4)) * self._full_at)

    async def _compact(self, part: _Part, entries: Sequence[Entry], on_delta: OnDelta, full: int) -> tuple[Entry, ...]:
        space = self._space(part, entries)
        if space < MIN_SUMMARY_TOKENS:
            return ()
        await on_delta(Waiting(SUMMARIZING))
        try:
            answer = await self._summary(part.exchanges, on_delta, full)
        except NoSummary as error:
            log.warning("%s removed from a conversation without a summary: %s", part.describe(), error)
            note = _truncate(_removal_note(part, str(error)), min(space, MAX_SUMMARY_TOKENS))
            return (_compacted(part, entries, note, left_out=True),)
        return self._entries(part, entries, answer, space)

    def _space(self, part: _Part, entries: Sequence[Entry]) -> int:
        """Tokens that a summary may have so that it is shorter than what it replaces; two more than both estimates are
        rounded up by."""
        note = SystemNote(SUMMARY + _carried(part, entries))
        return estimate_transcript(part.exchanges) - estimate_transcript([note]) - 2

    def _entries(self, part: _Part, entries: Sequence[Entry], answer: Answer, space: int) -> tuple[Spent, Compacted]:
        step = 1 + sum(isinstance(entry, ModelAnswered) for entry in entries)
        summary = _truncate(_summary_text(answer), min(space, MAX_SUMMARY_TOKENS))
        return Spent(step, answer.usage, answer.model, "summary"), _compacted(part, entries, summary)

    async def _summary(self, exchanges: Sequence[Exchange], on_delta: OnDelta, full: int, focus: str = "") -> Answer:
        """The small model's summary. Raises `NoSummary`, also on timeout."""

        async def pass_charges(delta: Delta) -> None:
            if isinstance(delta, Charged):
                await on_delta(delta)

        try:
            async with asyncio.timeout(SUMMARY_TIMEOUT):
                answer = await self._ask(exchanges, pass_charges, full, focus)
        except TimeoutError as error:
            raise NoSummary(f"the summary timed out after {SUMMARY_TIMEOUT:g} seconds") from error
        except ModelError as error:
            raise NoSummary(str(error)) from error
        if not _summary_text(answer):
            await on_delta(Charged(answer.usage, answer.model, "summary"))
            raise NoSummary("the model returned an empty summary")
        return answer

    async def _ask(self, exchanges: Sequence[Exchange], on_delta: OnDelta, full: int, focus: str) -> Answer:
        """Asks the small model; if its window is too small, again with half of the text. Raises `ModelError`."""
        room = full * CHARACTERS_PER_TOKEN
        while True:
            try:
                return await self._small.answer(_summary_request(digest(exchanges, room), focus), on_delta)
            except ModelError as error:
                room //= 2
                if error.kind != "too_long" or room < MIN_SUMMARY_TOKENS * CHARACTERS_PER_TOKEN:
                    raise


async def _ignore(delta: Delta) -> None:
    """Nobody watches."""


def _estimate(
    past: Sequence[RenderedTurn], entries: Sequence[Entry], instructions: str, tools: Sequence[ToolSpec]
) -> int:
    return estimate_tokens(Request(instructions, conversation(past, entries), tuple(tools)))


def _carried(part: _Part, entries: Sequence[Entry]) -> str:
    """The lists that are kept word for word behind the summary."""
    return _carried_todos(part) + _open_decisions(entries)


def _compacted(part: _Part, entries: Sequence[Entry], summary: str, *, left_out: bool = False) -> Compacted:
    foreign = sources_in(part.exchanges)[-MAX_SOURCES:]
    return Compacted(part.step, part.through, summary + _carried(part, entries), left_out=left_out, foreign=foreign)


def _summary_request(text: str, focus: str) -> Request:
    instructions = INSTRUCTIONS.format(words=MAX_SUMMARY_TOKENS // 2)
    if focus:
        instructions += FOCUS.format(focus=focus)
    return Request(instructions, [MessagesRead(1, (UserMessage(0, "", text),))])


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
    return _without_lists(answer.text.strip())


def _truncate(text: str, tokens: int) -> str:
    limit = tokens * CHARACTERS_PER_TOKEN
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
