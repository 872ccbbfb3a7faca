"""Prompts of MCP servers as commands: `/prompts` lists them, and `/SERVER_NAME …` begins a message with a prompt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from agent.toolset import ForPerson, Toolset
from channels.channel import CommandHelp
from channels.message import InboundMessage
from gateway.inbound.access import AccessPolicy
from gateway.outbound.wording import escaped
from gateway.store.records import Command
from gateway.turns.budgets import person_on
from gateway.turns.mcp import Mcp

if TYPE_CHECKING:
    # Loaded only where servers are configured.
    from agent.mcp.prompts import PromptCommand

MAX_SHOWN = 100
"""Prompts that one answer lists."""

NOT_AVAILABLE = "This prompt is not available to you here."
NOT_KNOWN = (
    "`{server}` has no such prompt that is known for you. Each person has their own there: after "
    "`/mcp login {server}`, `/prompts` lists them."
)


class PromptCommands:
    """Prompts of a server per person are commands of those who have used it, as they were last."""

    def __init__(self, mcp: Mcp, access: AccessPolicy, tools_of: Callable[[Command], Awaitable[Toolset]]) -> None:
        """`tools_of` gives the tools that whoever gives the command has."""
        self._mcp = mcp
        self._access = access
        self._tools_of = tools_of

    def knows(self, name: str) -> bool:
        """Also a name that may be a prompt of a server per person: whose it is is not known here."""
        name = _as_typed(name)
        return self._find(name) is not None or any(name.startswith(_prefix(server)) for server in self._mcp.personal)

    def as_message(self, message: InboundMessage, level: int) -> InboundMessage:
        """A command that is the name of a prompt, as the message that it is, with how the model reads the prompt.
        Unchanged where the sender may not use it, and without a required argument."""
        found = self._find(message.command or "", person_on(message.address, message.sender))
        arguments = None if found is None else found.prompt.filled(message.text)
        if found is None or arguments is None or not any(self._access.roles.toolset(level, (found.tool,))):
            return message
        note = "\n\n".join(filter(None, [message.note, found.note(arguments)]))
        text = f"/{found.name} {message.text}".strip()
        return replace(message, kind="new", command=None, text=text, note=note)

    def refusal(self, command: Command) -> str:
        """Why the command has not become a message."""
        found = self._find(command.name, person_on(command.address, command.sender))
        if found is None:
            name = _as_typed(command.name)
            server = next((each for each in self._mcp.personal if name.startswith(_prefix(each))), None)
            return NOT_AVAILABLE if server is None else NOT_KNOWN.format(server=server)
        if not any(self._access.roles.toolset(command.sender.level, (found.tool,))):
            return NOT_AVAILABLE
        return f"Something is missing: `{found.usage}`\n\n{escaped(found.prompt.description)}"

    def help(self) -> tuple[CommandHelp, ...]:
        """Those that everybody has."""
        return tuple(CommandHelp(each.name, each.prompt.description, each.prompt.usage) for each in self._all())

    async def list(self, command: Command) -> str:
        """Those that the conversation's agent can read for whoever asks."""
        person = person_on(command.address, command.sender)
        await self._mcp.prepare(person, lambda server: True)
        usable = {tool.name for tool in ForPerson(await self._tools_of(command), person)}
        found = [each for each in self._all(person) if each.tool.name in usable]
        lines = [f"- `{each.usage}`: {escaped(each.prompt.description)}" for each in found[:MAX_SHOWN]]
        more = [f"- and {len(found) - MAX_SHOWN:,} more"] if len(found) > MAX_SHOWN else []
        return "\n".join([*lines, *more]) or "There are no prompts here."

    def _find(self, name: str, person: str = "") -> PromptCommand | None:
        name = _as_typed(name)
        return next((each for each in self._all(person, name) if each.name == name), None)

    def _all(self, person: str = "", name: str = "") -> Iterator[PromptCommand]:
        """Those of everybody, and those of the person; with a `name`, those that may have it."""
        taken: set[str] = set()
        own = (
            server(person)
            for each, server in self._mcp.personal.items()
            if person and (not name or name.startswith(_prefix(each)))
        )
        for server in chain(self._mcp.shared, own):
            for command in server.prompt_commands(taken):
                taken.add(command.name)
                yield command


def _as_typed(name: str) -> str:
    """Some platforms have commands without hyphens, and some without capitals."""
    return name.lower().replace("-", "_")


def _prefix(server: str) -> str:
    """What the commands of a server begin with."""
    return f"{_as_typed(server)}_"
