"""The context manager: decides what the model is shown of a conversation. Ours is `Compactor`; an operator may have
another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.context.compaction import Compactor
from agent.events import OnDelta
from agent.log import Compacted, Entry
from agent.model import Model, ToolSpec
from agent.transcript import RenderedTurn, SystemNote, last_compaction, model_view


class ContextError(Exception):
    """A context manager, or its answer, cannot be used. The message tells the operator where and why."""


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """What a context manager is created with.

    `window` is the context window of the agent's default model in tokens, `window_of` that of a model by its name in
    the settings. `model` is the one that writes summaries. The others are settings of [agent]: `reserve` is
    `context_reserve`, `full_at` is `context_full_at`, `keep` is `context_keep`, `auto` is `auto_compact`.
    """

    window: int
    window_of: Callable[[str], int]
    model: Model
    reserve: int
    full_at: float
    keep: float
    auto: bool


class ContextManager(Protocol):
    """Decides what the model is shown of a conversation. One object serves any number of conversations at a time.

    `past` are the turns before the running one, oldest first, and `entries` is the running turn's log; both are
    read-only. `model` is the conversation's model by its name, "" for the default one.
    """

    def window(self, model: str = "") -> int:
        """The context window of the model in tokens."""

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
        """Asked before each request to the model: a `Compacted` that shortens what it is shown, and a `Spent` for each
        model call; nothing if the conversation stays as it is. Can be cancelled at any time.

        `force`: the model has rejected the conversation as too long. `on_delta` takes `Waiting`, a line for people, and
        `Charged`, the cost of a model call that failed.
        """

    async def summarize(
        self, past: Sequence[RenderedTurn], *, focus: str = "", model: str = ""
    ) -> Sequence[Entry] | None:
        """Asked by `/compact`: the same for the whole past; None if it is too short for that. `focus` says what matters
        to the person. Raises `NoSummary`, whose message the person is told."""


class BaseContextManager:
    """A context manager that does what ours does, for classes that change a part of it."""

    def __init__(self, options: ContextOptions) -> None:
        self.options = options
        self.compactor = standard(options)

    def window(self, model: str = "") -> int:
        return self.compactor.window(model)

    def share(
        self,
        past: Sequence[RenderedTurn],
        entries: Sequence[Entry],
        *,
        instructions: str,
        tools: Sequence[ToolSpec],
        model: str = "",
    ) -> float:
        return self.compactor.share(past, entries, instructions=instructions, tools=tools, model=model)

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
        return await self.compactor.compact(
            past, entries, instructions=instructions, tools=tools, on_delta=on_delta, model=model, force=force
        )

    async def summarize(
        self, past: Sequence[RenderedTurn], *, focus: str = "", model: str = ""
    ) -> Sequence[Entry] | None:
        return await self.compactor.summarize(past, focus=focus, model=model)


def standard(options: ContextOptions) -> Compactor:
    """Our own context manager."""
    return Compactor(
        options.window,
        options.model,
        window_of=options.window_of,
        reserve=options.reserve,
        full_at=options.full_at,
        keep=options.keep,
        auto=options.auto,
    )


def keep_last(past: Sequence[RenderedTurn], entries: Sequence[Entry], count: int, note: str) -> tuple[Compacted, ...]:
    """Shows the model only the last `count` of the past turns, and `note` in place of the earlier ones; empty if it is
    shown no others already."""
    turns, _ = model_view(past, entries)
    earlier = turns[: max(len(turns) - count, 0)]
    exchanges = [exchange for turn in earlier for exchange in turn.exchanges]
    if all(isinstance(exchange, SystemNote) and exchange.summary for exchange in exchanges):
        return ()
    previous = last_compaction(entries)
    return (Compacted(1 if previous is None else previous.step, earlier[-1].id, note),)
