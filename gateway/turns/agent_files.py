"""Files that tell an agent how to work: skills and context files, as they are when a turn begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from agent.agent import Agent
from agent.context.context_files import ContextFiles
from agent.skills.skills import FoundSkill, SkillReader, Skills
from agent.skills.tool import NAME, listing, skill_tool
from agent.toolset import Combined, Toolset


class AgentFiles:
    def __init__(
        self,
        places: Sequence[Path] = (),
        *,
        in_workspace: bool = False,
        context_files: ContextFiles = ContextFiles(),  # noqa: B008  # it is frozen
    ) -> None:
        """`places` are folders of skills; `in_workspace`: workspaces may have some too."""
        self.places = tuple(places)
        self._in_workspace = in_workspace
        self._context_files = context_files
        self._reader = SkillReader()
        self.problem = ""
        """What is wrong with the operator's skills, for people; "" if nothing is."""

    def use(self, other: AgentFiles) -> None:
        """From now on those that the other has."""
        self.places, self._in_workspace, self._context_files = other.places, other._in_workspace, other._context_files
        self.problem = other.problem

    async def skills(self, workspace: Path | None = None) -> Skills:
        """The skills as they are now, with those of a workspace."""
        if not self._in_workspace:
            workspace = None
        if not self.places and workspace is None:
            return Skills()
        skills = await asyncio.to_thread(self._reader.read, self.places, workspace)
        count = sum(not each.is_foreign for each in skills.invalid)
        self.problem = f"{count} cannot be used; `/skills` names them" if count else ""
        return skills

    def listed(self) -> Skills:
        """Those of the operator's. Blocking; files that were read before cost a look only."""
        return self._reader.read(self.places)

    def find(self, name: str) -> FoundSkill | None:
        """The operator's skill of this name, as it is now. It looks at one file in each place."""
        return self._reader.find(self.places, name)

    @property
    def offered(self) -> Toolset:
        """The tool that reads skills, if there may be some. Which ones is only known when a turn begins."""
        return (skill_tool(Skills(), with_shell=False),) if self.places or self._in_workspace else ()

    async def with_skills(self, agent: Agent, *, allowed: Callable[[Toolset], Toolset]) -> tuple[Agent, Skills]:
        """The agent with the tool that reads its skills, if there are any and it is allowed."""
        skills = (await self.skills(agent.workspace)).named(agent.skills)
        if not skills.found:
            return agent, skills
        with_shell = any(tool.name == "shell" for tool in agent.tools)
        own = allowed((skill_tool(skills, with_shell=with_shell),))
        return replace(agent, tools=Combined(own, agent.tools)), skills

    async def texts(self, agent: Agent, skills: Skills) -> list[str]:
        """Parts of the agent's instructions: its context files, and a list of the skills if it may read them."""
        texts: list[str] = []
        if self._context_files.exist(agent.workspace):
            texts += await asyncio.to_thread(lambda: list(self._context_files.texts(agent.workspace)))
        if skills.found and any(tool.name == NAME for tool in agent.tools):
            texts.append(listing(skills))
        return texts
