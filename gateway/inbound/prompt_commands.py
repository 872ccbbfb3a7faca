"""Prompts of MCP servers as commands: `/prompts` lists them, and `/SERVER_NAME …` begins a message with a prompt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.toolset import Toolset
from channels.channel import CommandHelp
from channels.message import InboundMessage
from gateway.inbound.access import AccessPolicy
from gateway.outbound.wording import escaped
from gateway.store.records import Command

if TYPE_CHECKING:
    # Loaded only where servers are configured.
    from agent.mcp.prompts import PromptCommand
    from agent.mcp.server import McpServer

MAX_SHOWN = 100
"""Prompts that one answer lists."""

NOT_AVAILABLE = "This prompt is not available to you here."


class PromptCommands:
    def __init__(
        self,
        servers: Callable[[], Sequence[McpServer]],
        access: AccessPolicy,
        tools_of: Callable[[Command], Awaitable[Toolset]],
    ) -> None:
        """`servers` gives those that everybody shares, `tools_of` the tools that whoever gives the command has."""
        self._servers = servers
        self._access = access
        self._tools_of = tools_of

    def knows(self, name: str) -> bool:
        return self._find(name) is not None

    def as_message(self, message: InboundMessage, level: int) -> InboundMessage:
        """A command that is the name of a prompt, as the message that it is, with how the model reads the prompt.
        Unchanged where the sender may not use it, and without a required argument."""
        found = self._find(message.command or "")
        arguments = None if found is None else found.prompt.filled(message.text)
        if found is None or arguments is None or not any(self._access.roles.toolset(level, (found.tool,))):
            return message
        note = "\n\n".join(filter(None, [message.note, found.note(arguments)]))
        text = f"/{found.name} {message.text}".strip()
        return replace(message, kind="new", command=None, text=text, note=note)

    def refusal(self, command: Command) -> str:
        """Why the command has not become a message."""
        found = self._find(command.name)
        if found is None or not any(self._access.roles.toolset(command.sender.level, (found.tool,))):
            return NOT_AVAILABLE
        return f"Something is missing: `{found.usage}`\n\n{escaped(found.prompt.description)}"

    def help(self) -> tuple[CommandHelp, ...]:
        return tuple(CommandHelp(each.name, each.prompt.description, each.prompt.usage) for each in self._all())

    async def list(self, command: Command) -> str:
        """Those that the conversation's agent can read for whoever asks."""
        usable = {tool.name for tool in await self._tools_of(command)}
        found = [each for each in self._all() if each.tool.name in usable]
        lines = [f"- `{each.usage}`: {escaped(each.prompt.description)}" for each in found[:MAX_SHOWN]]
        more = [f"- and {len(found) - MAX_SHOWN:,} more"] if len(found) > MAX_SHOWN else []
        return "\n".join([*lines, *more]) or "There are no prompts here."

    def _find(self, name: str) -> PromptCommand | None:
        """Some platforms have commands without hyphens, and some without capitals."""
        name = name.lower().replace("-", "_")
        return next((each for each in self._all() if each.name == name), None)

    def _all(self) -> Iterator[PromptCommand]:
        taken: set[str] = set()
        for server in self._servers():
            for command in server.prompt_commands(taken):
                taken.add(command.name)
                yield command
