"""Context: keeps a conversation within the model's window, by summing up its oldest part before it hurts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.context.digest import INSTRUCTIONS, digest
from agent.context.tokens import CHARACTERS_PER_TOKEN, PICTURE, estimate_tokens, estimate_transcript, tokens_of
from agent.events import Charged, Delta, OnDelta, Waiting
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

RESERVE = 16_000
"""Tokens kept free for the answer; of a small window, a quarter at most."""

LONGEST = 2_000
"""Tokens of a summary."""

SHORTEST = 100
"""Tokens of the least that a summary can be said in; where there is no more to win, nothing is summed up."""

WORTH = 0.05
"""Part of the window that summing up has to cover. Less is done only when the model has refused the conversation."""

LEAST = 0.1
"""Part of the window that is kept as it is in any case, however much instructions and tools take."""

PATIENCE = 120.0
"""Seconds a summary may take; people wait meanwhile."""

SUMMING_UP = "Summarizing the conversation so far ..."

_TODOS = "\n\nThe to-do list as it stands:\n"
_DECISIONS = "\n\nNot yet decided by people:\n"


class _NoSummary(Exception):
    """There is none; the message says why."""


@dataclass(frozen=True, slots=True)
class _Covering:
    """What is to be covered: past turns up to `through`, and the turn's own steps before `step`."""

    through: str
    step: int
    exchanges: tuple[Exchange, ...]
    kept: tuple[Exchange, ...]
    turns: int
    steps: int

    def words(self) -> str:
        """How much it is, for people: "3 earlier turns and 12 steps"."""
        counts = [f"{self.turns} earlier turn{'' if self.turns == 1 else 's'}"] if self.turns else []
        if self.steps:
            counts.append(f"{self.steps} step{'' if self.steps == 1 else 's'} of this one")
        return " and ".join(counts)


class Compactor:
    """Works for any number of turns at once, and remembers none of them.

    `window` is what the model can be shown, in tokens; `reserve` of them stay free for the answer. A conversation that
    fills more than `full_at` of the rest is summed up by `small`, except for its newest part: `keep` of the window, or
    half of what instructions and tools leave of that room, where that is less.
    """

    def __init__(
        self, window: int, small: Model, *, reserve: int = RESERVE, full_at: float = 0.8, keep: float = 0.3
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
        """What to log so that the conversation has room again; nothing while it has, or when nothing can be covered.

        `used` is how many tokens the turn's last answer that was not interrupted counted, read and written; 0 if that
        is not known, or was before a summary. `force`: the model has refused the conversation as too long.

        Where no summary can be had, the same part is left out without one. It can be cancelled at any time; nothing
        has happened then.
        """
        size = used + _since(entries) if used else 0
        if size and size <= self._full and not force:
            return ()
        request = Request(instructions, conversation(past, entries), tuple(tools))
        estimated = estimate_tokens(request)
        size = size or estimated
        if size <= self._full and not force:
            return ()
        # The provider's count says how far our estimates are off for this conversation's language.
        scale = max(1.0, size / max(estimated, 1))
        # Instructions and tools stay whatever is covered, and what is kept must leave room to grow beside them.
        fixed = scale * (estimated - estimate_transcript(request.transcript))
        keep = min(self._keep, max(self._window * LEAST, (self._full - fixed) / 2)) / scale
        if force:
            keep = min(keep, estimate_transcript(request.transcript)) / 2
        covering = _covering(past, entries, int(keep), force=force)
        least = SHORTEST if force else int(self._window * WORTH / scale)
        if covering is None or estimate_transcript(covering.exchanges) < least:
            return ()
        return await self._cover(covering, entries, on_delta)

    async def _cover(self, covering: _Covering, entries: Sequence[Entry], on_delta: OnDelta) -> tuple[Entry, ...]:
        carried = _carried_todos(covering) + _open_decisions(entries)
        room = estimate_transcript(covering.exchanges) - estimate_transcript([SystemNote(SUMMARY + carried)]) - 1
        if room < SHORTEST:
            return ()
        step = 1 + sum(isinstance(entry, ModelAnswered) for entry in entries)
        await on_delta(Waiting(SUMMING_UP))
        try:
            answer = await self._summary(covering.exchanges, on_delta)
        except _NoSummary as error:
            log.warning("%s left out of a conversation without a summary: %s", covering.words(), error)
            summary = _cut(_left_out(covering, str(error)), min(room, LONGEST)) + carried
            return (Compacted(covering.step, covering.through, summary, left_out=True),)
        spent = Spent(step, answer.usage, answer.model, "summary")
        summary = _cut(_words(answer), min(room, LONGEST)) + carried
        return spent, Compacted(covering.step, covering.through, summary)

    async def _summary(self, exchanges: Sequence[Exchange], on_delta: OnDelta) -> Answer:
        """The small model's. Raises `_NoSummary`, also when it takes too long."""

        async def overhear(delta: Delta) -> None:
            if isinstance(delta, Charged):
                await on_delta(delta)

        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._ask(exchanges, overhear)
        except TimeoutError as error:
            raise _NoSummary(f"the summary timed out after {PATIENCE:g} seconds") from error
        except ModelError as error:
            raise _NoSummary(str(error)) from error
        if not _words(answer):
            await on_delta(Charged(answer.usage, answer.model, "summary"))
            raise _NoSummary("the model returned an empty summary")
        return answer

    async def _ask(self, exchanges: Sequence[Exchange], on_delta: OnDelta) -> Answer:
        """Asks again with half of it where the small model's window is smaller than this one. Raises `ModelError`."""
        room = self._full * CHARACTERS_PER_TOKEN
        while True:
            try:
                return await self._small.answer(_question(digest(exchanges, room)), on_delta)
            except ModelError as error:
                room //= 2
                if error.kind != "too_long" or room < SHORTEST * CHARACTERS_PER_TOKEN:
                    raise


def _question(text: str) -> Request:
    return Request(INSTRUCTIONS.format(words=LONGEST // 2), [MessagesRead(1, (UserMessage(0, "", text),))])


def _since(entries: Sequence[Entry]) -> int:
    """About how many tokens came after the last answer that was not interrupted."""
    later: list[Entry] = []
    for entry in reversed(entries):
        if isinstance(entry, ModelAnswered) and not entry.interrupted:
            break
        later.append(entry)
    later.reverse()
    ends = [entry for entry in later if isinstance(entry, CallEnded)]
    results = tokens_of(sum(len(end.text) for end in ends)) + PICTURE * sum(len(end.images) for end in ends)
    return results + estimate_transcript(transcript(later))


def _covering(past: Sequence[RenderedTurn], entries: Sequence[Entry], keep: int, *, force: bool) -> _Covering | None:
    """The oldest whole turns, so that what stays has no more than `keep` tokens; if that is not enough, the oldest
    steps of the turn that runs, except for its last. None where nothing but an earlier summary would be covered."""
    turns, own = model_view(past, entries)
    words, steps = _parted(own)
    room = keep - estimate_transcript(own)
    first = len(turns)
    while first > 0 and (room := room - estimate_transcript(turns[first - 1].exchanges)) >= 0:
        first -= 1
    previous = last_compaction(entries)
    covered = [exchange for turn in turns[:first] for exchange in turn.exchanges]
    done = _steps_to_cover(steps, keep - estimate_transcript(words), entries) if first == len(turns) else 0
    if force and len(steps) == 1 and all(map(_is_summary, covered)) and _is_over(steps[0], entries):
        done = 1
    covered += [word for word in words if _is_summary(word)] if done else []
    covered += [exchange for step in steps[:done] for exchange in step]
    if all(map(_is_summary, covered)):
        return None
    through = turns[first - 1].id if first else "" if previous is None else previous.through
    answered = steps[done - 1][0] if done else None
    step = answered.step + 1 if isinstance(answered, ModelAnswered) else 1 if previous is None else previous.step
    kept = [exchange for turn in turns[first:] for exchange in turn.exchanges]
    kept += [exchange for step_kept in steps[done:] for exchange in step_kept]
    whole_turns = sum(not all(map(_is_summary, turn.exchanges)) for turn in turns[:first])
    return _Covering(through, step, tuple(covered), tuple(kept), whole_turns, done)


def _parted(own: Sequence[Exchange]) -> tuple[list[Exchange], list[list[Exchange]]]:
    """The turn's words and notices, and its steps: each answer with its results."""
    words: list[Exchange] = []
    steps: list[list[Exchange]] = []
    for exchange in own:
        match exchange:
            case ModelAnswered():
                steps.append([exchange])
            case Results():
                steps[-1].append(exchange)
            case _:
                words.append(exchange)
    return words, steps


def _steps_to_cover(steps: Sequence[Sequence[Exchange]], room: int, entries: Sequence[Entry]) -> int:
    """How many of the oldest, so that the others have room; never the last, nor one with calls that are not over."""
    kept = 1
    room -= estimate_transcript(steps[-1]) if steps else 0
    while kept < len(steps) and (room := room - estimate_transcript(steps[-kept - 1])) >= 0:
        kept += 1
    oldest = steps[: max(len(steps) - kept, 0)]
    return next((number for number, step in enumerate(oldest) if not _is_over(step, entries)), len(oldest))


def _is_over(step: Sequence[Exchange], entries: Sequence[Entry]) -> bool:
    ended = {entry.call_id for entry in entries if isinstance(entry, CallEnded)}
    return all(call.id in ended for answered in step if isinstance(answered, ModelAnswered) for call in answered.calls)


def _is_summary(exchange: Exchange) -> bool:
    return isinstance(exchange, SystemNote) and exchange.summary


def _carried_todos(covering: _Covering) -> str:
    """The to-do list, if what is covered has the last one, as the model wrote it."""
    if _todos(covering.kept) is not None:
        return ""
    found = _todos(covering.exchanges)
    return f"{_TODOS}{found}" if found else ""


def _todos(exchanges: Sequence[Exchange]) -> str | None:
    """The last list in these, written out; "" if it was cleared, None if there is none."""
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


def _left_out(covering: _Covering, reason: str) -> str:
    """That it is gone, and why, in a paragraph that people are shown; then what is known of the time before."""
    were = "was" if covering.turns + covering.steps == 1 else "were"
    what = f"{covering.words()} {were} left out here without a summary, because none could be had: {reason}"
    earlier = [
        exchange.text for exchange in covering.exchanges if isinstance(exchange, SystemNote) and exchange.summary
    ]
    return "\n\n".join([what, *map(_without_lists, earlier)])


def _without_lists(text: str) -> str:
    return text.partition(_TODOS)[0].partition(_DECISIONS)[0]


def _words(answer: Answer) -> str:
    """What was said, without headings that are ours."""
    text = "".join(part.text for part in answer.parts if isinstance(part, Text)).strip()
    return _without_lists(text)


def _cut(text: str, tokens: int) -> str:
    most = tokens * CHARACTERS_PER_TOKEN
    return text if len(text) <= most else f"{text[: most - 1]}…"
