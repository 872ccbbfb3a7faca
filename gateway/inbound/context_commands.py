"""The command about what the model sees of a conversation: `/compact`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent.context.compaction import NoSummary
from agent.log import Entry, Notice
from channels.address import Sender
from gateway.inbound.access import AccessPolicy
from gateway.inbound.task_commands import only_beginner
from gateway.outbound.wording import escaped
from gateway.store.records import Command, Turn
from gateway.turns.agents import Agents, ModelChoices, next_choice
from gateway.turns.budgets import Budgets
from gateway.turns.history_cache import HistoryCache

FOCUS = "what to keep"
"""The argument of `/compact`, as `/help` names it."""

NOTHING_TO_SUMMARIZE = "There is nothing to summarize yet: the conversation is short."


class ContextStore(ModelChoices, Protocol):
    async def unfinished(self, session: str) -> Turn | None: ...
    async def who_began(self, session: str) -> Sender | None: ...
    async def compact(self, command_id: int, through: str, entries: Sequence[Entry]) -> str | None: ...


class ContextCommands:
    def __init__(
        self,
        store: ContextStore,
        histories: HistoryCache,
        agents: Agents,
        access: AccessPolicy,
        budgets: Budgets,
    ) -> None:
        self._store = store
        self._histories = histories
        self._agents = agents
        self._access = access
        self._budgets = budgets

    async def compact(self, command: Command) -> str:
        """Replaces the conversation so far by a summary, in what the model sees. Messages wait meanwhile, as behind any
        command."""
        if await self._store.unfinished(command.session) is not None:
            return f"A task is running. `/stop` it first, or wait for its end, then `/{command.name}`."
        if refusal := await self._refusal(command):
            return refusal
        choice = await next_choice(self._store, self._agents, command.session, command.address, command.sender)
        compactor = self._agents.of(choice.agent, command.address).compactor
        past = await self._histories.of(command.session)
        if compactor is None or not past:
            return NOTHING_TO_SUMMARIZE
        try:
            added = await compactor.summarize(past, focus=command.arguments.strip(), model=choice.model)
        except NoSummary as error:
            return f"The conversation was not summarized: {escaped(str(error))}"
        if added is None:
            return NOTHING_TO_SUMMARIZE
        text = (
            "The conversation so far is summarized for the model; what you see of it stays as it is. `/undo` takes the "
            "summary back."
        )
        if await self._store.compact(command.id, past[-1].id, (*added, Notice(text))) is None:
            return (
                f"The conversation has changed meanwhile and was not summarized. Please send `/{command.name}` again."
            )
        self._histories.forget(command.session)
        return text

    async def _refusal(self, command: Command) -> str:
        """Why they may not have it summarized, "" if they may: in groups it changes the context for everybody, and it
        costs money."""
        if not self._access.may_stop_any(command.address, command.sender):
            beginner = await self._store.who_began(command.session)
            if refusal := only_beginner(beginner, command, "it changes the context for everybody"):
                return refusal
        person_daily = self._access.roles.daily_cost(command.sender.level)
        used_up = await self._budgets.used_up_today(command.address, command.sender, person_daily)
        return "" if used_up is None else f"The conversation was not summarized: {used_up}"
