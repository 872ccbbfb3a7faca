"""Commands about a conversation's settings and usage: `/busy`, `/model`, `/agent`, `/usage`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from agent.model import EFFORTS, Reasoning, reasoning_from
from gateway.inbound.access import AccessPolicy
from gateway.outbound.call_lines import code, one_line
from gateway.outbound.wording import escaped, usage
from gateway.store.records import Busy, Command, ModelChoice
from gateway.turns.agents import Agents, ModelChoices, next_choice
from gateway.turns.budgets import UsageStore, midnight, person_on

BUSY_MODES: Mapping[Busy, str] = {
    "steer": "is read by that task at once",
    "queue": "waits until that task ends, and is then read alone",
    "collect": "waits until that task ends, and is then read together with the other queued messages",
    "interrupt": "stops that task, and is read by the next",
}

DEFAULT = "default"
"""The argument of `/model` and `/agent` that undoes a choice."""


class ConversationStore(UsageStore, ModelChoices, Protocol):
    async def set_busy(self, session: str, busy: Busy) -> None: ...
    async def set_agent(self, session: str, agent: str) -> None: ...
    async def set_model(self, session: str, choice: ModelChoice) -> None: ...
    async def newest_turn(self, session: str) -> str | None: ...


class ConversationCommands:
    """Each method runs one command and returns the answer to the person."""

    def __init__(
        self,
        store: ConversationStore,
        access: AccessPolicy,
        models: Sequence[str],
        agents: Agents,
    ) -> None:
        """`models` are the names that a conversation may choose from."""
        self._store = store
        self._access = access
        self.models = models
        self._agents = agents

    async def busy(self, command: Command) -> str:
        chosen = command.arguments.strip().lower()
        for busy, effect in BUSY_MODES.items():
            if busy == chosen:
                await self._store.set_busy(command.session, busy)
                return f"From now on, a message sent while a task runs {effect}."
        modes = "\n".join(f"- `/busy {busy}`: it {effect}" for busy, effect in BUSY_MODES.items())
        return f"What should a message do that is sent while a task runs?\n\n{modes}"

    async def model(self, command: Command) -> str:
        given = command.arguments.strip()
        if not given:
            return await self._show_models(command)
        name, reasoning = _model_and_reasoning(given, self.models)
        if not name:
            choice = replace(await self._store.model_of(command.session), reasoning=reasoning)
        elif name in (*self._choices(command), DEFAULT):
            choice = ModelChoice("" if name == DEFAULT else name, reasoning)
        else:
            return f"There is no model `{name}`. {await self._show_models(command)}"
        await self._store.set_model(command.session, choice)
        return f"Model from the next task on: {await self._described(command, choice)}."

    async def agent(self, command: Command) -> str:
        chosen, choosable = command.arguments.strip().lower(), self._choosable(command)
        if not chosen:
            return await self._show_agents(command)
        # Whoever may choose none may not undo the choice of others either.
        if chosen not in choosable and not (chosen == DEFAULT and choosable):
            unknown = code(one_line(chosen, 64))
            return f"There is no agent {unknown} that you may choose. {await self._show_agents(command)}"
        await self._store.set_agent(command.session, "" if chosen == DEFAULT else chosen)
        return f"Agent from the next task on: `{await self._agent_of(command)}`."

    async def _show_agents(self, command: Command) -> str:
        choices = [
            f"- `/agent {name}`: {info}" if info else f"- `/agent {name}`"
            for name, info in self._described_agents(command)
        ]
        current = f"Current agent: `{await self._agent_of(command)}`."
        return f"{current}\n\n" + "\n".join([*choices, f"- `/agent {DEFAULT}`"]) if choices else current

    def _described_agents(self, command: Command) -> Iterator[tuple[str, str]]:
        for name in self._choosable(command):
            yield name, escaped(self._agents.named[name].description)

    def _choosable(self, command: Command) -> Sequence[str]:
        role = self._access.role_of(command.address.channel, command.sender)
        return [name for name in self._agents.named if self._access.roles.may_choose_agent(role, name)]

    async def _agent_of(self, command: Command) -> str:
        choice = await next_choice(self._store, self._agents, command.session, command.address, command.sender)
        return choice.agent

    async def _show_models(self, command: Command) -> str:
        chosen = await self._described(command, await self._store.model_of(command.session))
        choices = "\n".join(f"- `/model {model}`" for model in (*self._choices(command), DEFAULT))
        return (
            f"Current model: {chosen}.\n\n{choices}\n\nHow much it is to reason may follow, or stand alone: "
            f"{', '.join(f'`{effort}`' for effort in EFFORTS)}, or a number of tokens."
        )

    async def _described(self, command: Command, choice: ModelChoice) -> str:
        model = f"`{choice.model}`" if choice.model else await self._default(command)
        match choice.reasoning:
            case None:
                return model
            case int() as tokens:
                return f"{model}, reasoning with up to {tokens} tokens"
            case effort:
                return f"{model}, reasoning {effort}"

    def _choices(self, command: Command) -> Sequence[str]:
        return self._access.roles.models(command.sender.level, self.models)

    async def _default(self, command: Command) -> str:
        name = self._agents.default_model(await self._agent_of(command), command.address.channel)
        return f"`{name}` (default)" if name else "default"

    async def usage(self, command: Command) -> str:
        today, person = midnight(), person_on(command.address, command.sender)
        conversation = await self._store.spent(session=command.session)
        own = await self._store.spent(person=person, since=today)
        lines = [f"This conversation: {usage(conversation)}", f"You, today: {usage(own)}"]
        newest = await self._store.newest_turn(command.session)
        if newest is not None:
            lines.insert(0, f"The last task: {usage(await self._store.spent(turn=newest))}")
        if self._access.oversees(command.address, command.sender):
            lines.append(f"Everybody, today: {usage(await self._store.spent(since=today))}")
        if conversation.estimated or own.estimated:
            lines.append("_Partly estimated: providers do not report the usage of failed and stopped calls._")
        if conversation.unpriced or own.unpriced:
            lines.append("_Models without a known price are counted as free._")
        return "\n\n".join(lines)


def _model_and_reasoning(given: str, models: Sequence[str]) -> tuple[str, Reasoning | None]:
    """The name, "" if there is none, and the word after it, if that says how much to reason."""
    *words, last = given.split()
    reasoning = None if given in models else reasoning_from(last.lower())
    return (given, None) if reasoning is None else (" ".join(words), reasoning)
