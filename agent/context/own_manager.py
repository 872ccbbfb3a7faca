"""A context manager of the operator's: loaded from Python code, and kept from breaking turns."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from agent.context.compaction import MAX_SOURCES, NoSummary
from agent.context.manager import ContextError, ContextManager, ContextOptions, standard
from agent.events import Charged, Delta, OnDelta, Waiting
from agent.foreign import sources_in
from agent.gate import one_line, storable
from agent.log import CallEnded, Compacted, Entry, MessagesRead, ModelAnswered, Spent
from agent.model import ToolSpec
from agent.python_objects import LoadError, answer_of, create_object, load_class, load_error, place_of
from agent.transcript import Exchange, RenderedTurn, SystemNote, last_compaction, transcript

log = logging.getLogger(__name__)

TIMEOUT = 30.0
"""Seconds for one answer of the context manager; people wait meanwhile."""

MAX_ENTRIES = 20
"""Entries of one answer."""

MAX_SUMMARY = 100_000
"""Characters of a summary; the rest is cut."""

METHODS = {"window": False, "share": False, "compact": True, "summarize": True}
"""What the class must have, and whether that is async."""


class OwnManagers:
    """Creates context managers of the operator's class at "module:Class" or "folder/file.py:Class"."""

    def __init__(self, path: str, mask: Callable[[str], str], *, timeout: float = TIMEOUT) -> None:
        """Loads the class. `mask` removes known secrets from a text; `timeout` is in seconds. Blocking; raises
        `ContextError`."""
        self._path = path
        self._mask = mask
        self._timeout = timeout
        with self._errors():
            self._kind = load_class(path)
            for name, is_async in METHODS.items():
                _check_method(self._kind, name, is_async=is_async)

    def create(self, options: ContextOptions) -> ContextManager:
        """Raises `ContextError`."""
        with self._errors():
            return _Guarded(create_object(self._kind, options), options, self._mask, self._timeout)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except LoadError as error:
            place = f"{error.place}: " if error.place else ""
            raise ContextError(
                self._mask(f"{place}the context manager {self._path!r} cannot be used: {error}")
            ) from error


def _check_method(kind: type, name: str, *, is_async: bool) -> None:
    method = getattr(kind, name, None)
    if not callable(method):
        raise LoadError(f"it has no method {name}", *place_of(kind))
    if is_async and not inspect.iscoroutinefunction(method):
        raise LoadError(f"{name} must be an async method: async def {name}(self, …)", *place_of(method))
    if not is_async and inspect.iscoroutinefunction(method):
        raise LoadError(f"{name} must not be an async method", *place_of(method))


class _Guarded:
    """The operator's context manager, bounded in time and checked. If it fails, the conversation stays as it is."""

    def __init__(
        self, manager: ContextManager, options: ContextOptions, mask: Callable[[str], str], timeout: float
    ) -> None:
        self._manager = manager
        self._standard = standard(options)
        self._mask = mask
        self._timeout = timeout

    def window(self, model: str = "") -> int:
        try:
            window: object = self._manager.window(model)
            if isinstance(window, bool) or not isinstance(window, int) or window < 1:
                raise ContextError(f"it returned {one_line(repr(window))}, not a number of tokens")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the operator's code
            self._report("window", error)
            return self._standard.window(model)
        return window

    def share(
        self,
        past: Sequence[RenderedTurn],
        entries: Sequence[Entry],
        *,
        instructions: str,
        tools: Sequence[ToolSpec],
        model: str = "",
    ) -> float:
        try:
            share: object = self._manager.share(
                past, tuple(entries), instructions=instructions, tools=tools, model=model
            )
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < math.inf:
                raise ContextError(f"it returned {one_line(repr(share))}, not a share of the window")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the operator's code
            self._report("share", error)
            return self._standard.share(past, entries, instructions=instructions, tools=tools, model=model)
        return float(share)

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
    ) -> Sequence[Entry]:
        shown = tuple(entries)
        deltas = _Deltas(on_delta, self._mask)
        try:
            work = self._manager.compact(
                past, shown, instructions=instructions, tools=tools, on_delta=deltas, model=model, force=force
            )
            found = await answer_of(work, ContextError, self._timeout)
            return self._checked(found, past, shown)
        except Exception as error:  # noqa: BLE001 - the operator's code
            self._report("compact", error)
            return ()
        finally:
            deltas.is_open = False

    async def summarize(
        self, past: Sequence[RenderedTurn], *, focus: str = "", model: str = ""
    ) -> Sequence[Entry] | None:
        try:
            work = self._manager.summarize(past, focus=focus, model=model)
            found = await answer_of(work, ContextError, self._timeout)
            entries = () if found is None else self._checked(found, past, ())
            return entries if last_compaction(entries) else None
        except NoSummary as error:
            raise NoSummary(self._mask(one_line(error))) from error
        except Exception as error:
            self._report("summarize", error)
            raise NoSummary("the context manager failed; the log says why") from error

    def _checked(self, found: object, past: Sequence[RenderedTurn], entries: Sequence[Entry]) -> tuple[Entry, ...]:
        """The entries as they may be logged. Raises `ContextError`."""
        if not isinstance(found, list | tuple) or not all(isinstance(entry, Compacted | Spent) for entry in found):
            raise ContextError(f"it returned {one_line(repr(found), 100)}, not a list of Compacted and Spent")
        if len(found) > MAX_ENTRIES or sum(isinstance(entry, Compacted) for entry in found) > 1:
            raise ContextError(f"it returned more than one Compacted, or more than {MAX_ENTRIES} entries")
        return tuple(
            self._compacted(entry, past, entries) if isinstance(entry, Compacted) else storable(entry)
            for entry in found
            if not (isinstance(entry, Compacted) and _is_the_same(entry, last_compaction(entries)))
        )

    def _compacted(self, entry: Compacted, past: Sequence[RenderedTurn], entries: Sequence[Entry]) -> Compacted:
        entry = storable(entry)
        covered = next((number for number, turn in enumerate(past, 1) if turn.id == entry.through), 0)
        if entry.through and not covered:
            raise ContextError(f"there is no past turn {one_line(entry.through, 50)}")
        answers = [answer for answer in entries if isinstance(answer, ModelAnswered)]
        ended = {end.call_id for end in entries if isinstance(end, CallEnded)}
        hidden = [answer for answer in answers if answer.step < entry.step]
        if entry.step < 1 or entry.step > len(answers) + 1:
            raise ContextError(f"the turn has no step {entry.step}")
        if any(call.id not in ended for answer in hidden for call in answer.calls):
            raise ContextError(f"calls before step {entry.step} have no result yet")
        parts: list[Exchange] = [exchange for turn in past[:covered] for exchange in turn.exchanges]
        parts += [each for each in transcript(entries) if _is_replaced(each, steps=bool(hidden))]
        summary = self._mask(entry.summary)[:MAX_SUMMARY]
        # Its sources are ours to say: what was read from outside stays known.
        return Compacted(
            entry.step, entry.through, summary, left_out=entry.left_out, foreign=sources_in(parts)[-MAX_SOURCES:]
        )

    def _report(self, method: str, error: BaseException) -> None:
        """Says in the log what failed, and where in the operator's code."""
        found = load_error(error, type(self._manager).__module__)
        place = f"{found.place}: " if found.place else ""
        wrong = one_line(error) if isinstance(error, ContextError) else str(found)
        log.error("%s", self._mask(f"{place}context manager, {method}: {wrong}. The conversation stays as it is"))


class _Deltas:
    """Passes on what a context manager may tell while it is asked: that people wait, and what it cost."""

    def __init__(self, on_delta: OnDelta, mask: Callable[[str], str]) -> None:
        self._on_delta = on_delta
        self._mask = mask
        self.is_open = True

    async def __call__(self, delta: Delta) -> None:
        if not self.is_open:
            return
        match delta:
            case Waiting(reason=reason):
                await self._on_delta(Waiting(self._mask(one_line(reason))))
            case Charged():
                await self._on_delta(storable(delta))
            case _:
                raise ContextError(f"on_delta takes Waiting and Charged, not {type(delta).__name__}")


def _is_the_same(entry: Compacted, previous: Compacted | None) -> bool:
    """Whether the model is shown the same as before: logged at each step, it would only make the log longer."""
    if previous is None:
        return False
    return (entry.step, entry.through, entry.summary) == (previous.step, previous.through, previous.summary)


def _is_replaced(exchange: Exchange, *, steps: bool) -> bool:
    """Whether the summary may have been made of this part of the running turn. Messages of people are always shown."""
    return isinstance(exchange, SystemNote) or (steps and not isinstance(exchange, MessagesRead))
