"""Settings of the roles: what members and guests may have the agent do. Admins may have it do everything."""

from __future__ import annotations

from pydantic import Field

from config.agents import Pattern
from config.models import ModelName
from config.section import Positive, Section


class RoleSettings(Section):
    """What people with this role may have the agent do, in tasks that they begin."""

    tools: list[Pattern] | None = Field(
        default=None,
        description="Tools, by name or pattern, of those that are enabled or configured. Default: for members all of "
        "them; for guests those without effects outside the workspace that run no code and belong to no MCP "
        "server.",
        examples=[["read_file", "ask_user", "github_*"]],
    )
    agents: list[str] = Field(
        default_factory=list,
        description="Agents of [agents] that they may choose with `/agent`, by name or pattern. Admins may choose "
        "any. Default: none; routes lead to agents without a choice.",
        examples=[["research"]],
    )
    models: list[ModelName] | None = Field(
        default=None,
        description="Models, of those that are configured; the first one is used where another is chosen. Default: "
        "all of them. Fallback models are not affected.",
        examples=[["openai:gpt-5-mini"]],
    )
    daily_cost: Positive | None = Field(
        default=None,
        description="Maximum cost of one person's turns per day, in dollars, instead of [limits] person_daily_cost.",
        examples=[0.5],
    )

    @property
    def is_restricted(self) -> bool:
        """Whether it differs from the rights of admins."""
        return (self.tools, self.models, self.daily_cost) != (None, None, None)


class RolesSettings(Section):
    """The roles of people (see `members` and `guests` of the channels)."""

    member: RoleSettings = Field(default_factory=RoleSettings)
    guest: RoleSettings = Field(default_factory=RoleSettings)
