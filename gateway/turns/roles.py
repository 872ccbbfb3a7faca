"""Roles: what people may have the agent do in the turns that they begin."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from agent.tool import Tool
from agent.toolset import Filtered, Toolset, matches, may_match
from channels.address import FULL

Role = Literal["admin", "member", "guest"]

GUEST, MEMBER = 0, 1


@dataclass(frozen=True, slots=True)
class Rights:
    """`tools` are names or patterns of names, `models` are names, None for all; `daily_cost` is what one person's turns
    may cost in a day, in dollars, None for the limit of everybody. `agents` are those that they may choose, by name or
    pattern."""

    tools: frozenset[str] | None = None
    models: tuple[str, ...] | None = None
    daily_cost: float | None = None
    agents: tuple[str, ...] = ()

    @property
    def is_restricted(self) -> bool:
        return (self.tools, self.models, self.daily_cost) != (None, None, None)


class Roles:
    """The rights of the roles. A turn has the rights of the person who began it, by that person's level
    (`channels.address.Sender`): roles with the same rights have the same level, so that their people steer each other's
    turns."""

    def __init__(self, member: Rights = Rights(), guest: Rights = Rights()) -> None:
        """Guests without `tools` have those that can have no effect outside the workspace, but none that runs code or
        uses an account of the operator's."""
        self._member = member
        self._guest = guest

    def level(self, role: Role) -> int:
        if role == "guest":
            return GUEST
        return MEMBER if role == "member" and self._member.is_restricted else FULL

    def toolset(self, level: int, toolset: Toolset) -> Toolset:
        """Those of the tools that turns of this level may use."""
        if level > GUEST and self._rights(level).tools is None:
            return toolset
        return Filtered(toolset, partial(self._may_use, level))

    def may_use_server(self, level: int, name: str) -> bool:
        """Whether turns of this level may use some tool of this MCP server."""
        allowed = self._rights(level).tools
        return level > GUEST if allowed is None else may_match(f"{name}_", allowed)

    def models(self, level: int, models: Iterable[str]) -> tuple[str, ...]:
        """Those of the models that people of this level may choose from."""
        allowed = self._rights(level).models
        return tuple(models) if allowed is None else tuple(name for name in models if name in allowed)

    def model(self, level: int, chosen: str, default: str) -> str:
        """The model of a turn of this level: the one that was chosen for its conversation ("": the default), or the
        first one that it may use."""
        allowed = self._rights(level).models
        return chosen if not allowed or (chosen or default) in allowed else allowed[0]

    def may_choose_agent(self, role: Role, name: str) -> bool:
        """Whether people with this role may choose that agent for a conversation."""
        if role == "admin":
            return True
        return matches(name, (self._guest if role == "guest" else self._member).agents)

    def daily_cost(self, level: int) -> float | None:
        return self._rights(level).daily_cost

    def _may_use(self, level: int, tool: Tool) -> bool:
        allowed = self._rights(level).tools
        if allowed is not None:
            return matches(tool.name, allowed)
        return level > GUEST or tool.asks or not (tool.effect == "external" or tool.runs_code or tool.uses_account)

    def _rights(self, level: int) -> Rights:
        if level >= FULL:
            return Rights()
        return self._member if level == MEMBER else self._guest
