"""Commands about a conversation's settings and usage: `/busy`, `/model`, `/usage`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from agent.model import EFFORTS, Reasoning, reasoning_from
from gateway.inbound.access import AccessPolicy
from gateway.outbound.wording import usage
from gateway.store.records import Busy, Command, ModelChoice
from gateway.turns.budgets import UsageStore, midnight, person_on

BUSY_MODES: Mapping[Busy, str] = {
    "steer": "is read by that task at once",
    "queue": "waits until that task ends, and is then read alone",
    "collect": "waits until that task ends, and is then read together with the other queued messages",
    "interrupt": "stops that task, and is read by the next",
}

DEFAULT_MODEL = "default"
"""The argument of `/model` that undoes a choice."""


class ConversationStore(UsageStore, Protocol):
    async def set_busy(self, session: str, busy: Busy) -> None: ...
    async def set_model(self, session: str, choice: ModelChoice) -> None: ...
    async def model_of(self, session: str) -> ModelChoice: ...
    async def newest_turn(self, session: str) -> str | None: ...


class ConversationCommands:
    """Each method runs one command and returns the answer to the person."""

    def __init__(
        self,
        store: ConversationStore,
        access: AccessPolicy,
        models: Sequence[str],
        default_model: Callable[[str], str],
    ) -> None:
        """`models` are the names that a conversation may choose from, `default_model` gives the name of a
        channel's default, "" if it has none."""
        self._store = store
        self._access = access
        self._models = models
        self._default_model = default_model

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
        name, reasoning = _model_and_reasoning(given, self._models)
        if not name:
            choice = replace(await self._store.model_of(command.session), reasoning=reasoning)
        elif name in (*self._choices(command), DEFAULT_MODEL):
            choice = ModelChoice("" if name == DEFAULT_MODEL else name, reasoning)
        else:
            return f"There is no model `{name}`. {await self._show_models(command)}"
        await self._store.set_model(command.session, choice)
        return f"Model from the next task on: {self._described(command, choice)}."

    async def _show_models(self, command: Command) -> str:
        chosen = self._described(command, await self._store.model_of(command.session))
        choices = "\n".join(f"- `/model {model}`" for model in (*self._choices(command), DEFAULT_MODEL))
        return (
            f"Current model: {chosen}.\n\n{choices}\n\nHow much it is to reason may follow, or stand alone: "
            f"{', '.join(f'`{effort}`' for effort in EFFORTS)}, or a number of tokens."
        )

    def _described(self, command: Command, choice: ModelChoice) -> str:
        model = f"`{choice.model}`" if choice.model else self._default(command)
        match choice.reasoning:
            case None:
                return model
            case int() as tokens:
                return f"{model}, reasoning with up to {tokens} tokens"
            case effort:
                return f"{model}, reasoning {effort}"

    def _choices(self, command: Command) -> Sequence[str]:
        return self._access.roles.models(command.sender.level, self._models)

    def _default(self, command: Command) -> str:
        name = self._default_model(command.address.channel)
        return f"`{name}` (default)" if name else "default"

    async def usage(self, command: Command) -> str:
        today, person = midnight(), person_on(command.address, command.sender)
        conversation = await self._store.spent(session=command.session)
        own = await self._store.spent(person=person, since=today)
        lines = [f"This conversation: {usage(conversation)}", f"You, today: {usage(own)}"]
        newest = await self._store.newest_turn(command.session)
        if newest is not None:
            lines.insert(0, f"The last task: {usage(await self._store.spent(turn=newest))}")
        if self._access.is_admin(command.address, command.sender):
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
