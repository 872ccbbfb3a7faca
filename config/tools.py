"""Settings of the tools: which are enabled, and the rules for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self, get_args

from pydantic import ConfigDict, Field, model_validator

from config.errors import Fault
from config.section import Section, refuse

ToolName = Literal[
    "shell",
    "read_file",
    "write_file",
    "edit_file",
    "list_files",
    "fetch_url",
    "draw_chart",
    "send_file",
    "view_image",
    "ask_user",
    "todos",
    "delegate",
    "background",
]

TOOLS: tuple[ToolName, ...] = get_args(ToolName)


class ToolRules(Section):
    """Rules for one tool. Every tool may have such a section."""

    approval: Literal["never", "once", "always"] = Field(
        default="never",
        description='Whether people must approve a call: not at all ("never"), until one of them allows the tool '
        'for the conversation ("once"), or each call ("always").',
    )
    on_steer: Literal["cancel", "finish", "background"] | None = Field(
        default=None,
        description='What an interjection does to a running call: cancels it ("cancel"), waits for it ("finish"), '
        'or moves it to the background ("background"). Default: the tool\'s own.',
        examples=["background"],
    )
    timeout: int | None = Field(
        default=None,
        ge=1,
        description="Maximum duration of a call in seconds. Default: the tool's own.",
        examples=[60],
    )


class ToolSettings(Section):
    """The agent's tools."""

    model_config = ConfigDict(extra="allow")
    # Every other key is the name of a tool. Pydantic takes the type of extra keys from here.
    __pydantic_extra__: dict[ToolName, ToolRules] = Field(init=False)  # type: ignore[assignment]

    enabled: list[ToolName] = Field(
        default_factory=lambda: list(TOOLS),
        description="Tools that the agent may use.",
    )
    approval_expires: int = Field(
        default=86400,
        ge=1,
        description="Seconds until a pending approval expires. An expired approval counts as denied.",
    )

    def rules(self, tool: str) -> ToolRules:
        """The rules for a tool; the defaults if it has no section."""
        return self._by_tool().get(tool, ToolRules())

    def _by_tool(self) -> Mapping[str, ToolRules]:
        return {name: rules for name, rules in self if isinstance(rules, ToolRules)}

    @model_validator(mode="after")
    def _questions_have_no_rules(self) -> Self:
        refuse(
            Fault(
                ("tools", "ask_user", name),
                "not available for ask_user: a question is not executed, it waits for an answer",
            )
            for name in ToolRules.model_fields
            if name in self.rules("ask_user").model_fields_set
        )
        return self
