"""Skills as commands: `/skills` lists them, and `/NAME text` begins a message with the skill of that name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from agent.skills.skills import FoundSkill, Skills
from agent.skills.tool import command_note, skill_tool
from channels.channel import CommandHelp
from channels.message import InboundMessage
from gateway.inbound.access import AccessPolicy
from gateway.outbound.wording import escaped
from gateway.store.records import Command
from gateway.turns.agent_files import AgentFiles

MAX_SHOWN = 100
"""Skills and faults that one answer lists."""

MAX_DESCRIPTION = 200
"""Characters of a description in that list."""

NOT_AVAILABLE = "Skills are not available to you here."


class SkillCommands:
    """Only the operator's skills are commands; what is in a workspace is read by the agent alone."""

    def __init__(
        self, files: AgentFiles, access: AccessPolicy, workspace_of: Callable[[Command], Awaitable[Path | None]]
    ) -> None:
        """`workspace_of` gives the workspace of the agent that whoever gives the command has there, None without
        one."""
        self._files = files
        self._access = access
        self._workspace_of = workspace_of

    def find(self, name: str) -> FoundSkill | None:
        """Telegram's commands have no hyphens, and skills no underscores."""
        return self._files.find(name.replace("_", "-"))

    def knows(self, name: str) -> bool:
        return self.find(name) is not None

    def as_message(self, message: InboundMessage, level: int) -> InboundMessage:
        """A command that is the name of a skill, as the message that it is, with the skill; any other unchanged."""
        found = self.find(message.command or "")
        if found is None or not self.may_use(level):
            return message
        note = "\n\n".join(filter(None, [message.note, command_note(found)]))
        text = f"/{found.skill.name} {message.text}".strip()
        return replace(message, kind="new", command=None, text=text, note=note)

    def may_use(self, level: int) -> bool:
        tool = skill_tool(Skills(), with_shell=False)
        return any(self._access.roles.toolset(level, (tool,)))

    def refusal(self, command: Command) -> str:
        """Why the command has not become a message."""
        return NOT_AVAILABLE

    def help(self) -> tuple[CommandHelp, ...]:
        """Blocking."""
        skills = self._files.listed().found
        return tuple(CommandHelp(each.skill.name, _short(each), "what you want") for each in skills)

    async def list(self, command: Command) -> str:
        if not self.may_use(command.sender.level):
            return NOT_AVAILABLE
        skills = await self._files.skills(await self._workspace_of(command))
        lines = [_line(each) for each in skills.found[:MAX_SHOWN]] or ["There are no skills here."]
        lines += [f"- ⚠️ not usable: {escaped(each.short)}" for each in skills.invalid[:MAX_SHOWN]]
        more = max(0, len(skills.found) - MAX_SHOWN) + max(0, len(skills.invalid) - MAX_SHOWN)
        return "\n".join([*lines, *([f"- and {more:,} more"] if more else ())])


def _line(found: FoundSkill) -> str:
    if found.is_foreign:
        return f"- {escaped(found.skill.name)} (of the workspace, not a command): {escaped(_short(found))}"
    return f"- `/{found.skill.name}`: {escaped(_short(found))}"


def _short(found: FoundSkill) -> str:
    text = " ".join(found.skill.description.split())
    return text if len(text) <= MAX_DESCRIPTION else f"{text[:MAX_DESCRIPTION]}…"
