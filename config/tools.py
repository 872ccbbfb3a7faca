"""What can be set for the tools: which there are, and how each is used."""

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
    """How one tool is used. Every tool may have such a section."""

    approval: Literal["never", "once", "always"] = Field(
        default="never",
        description='Whether people are asked before a call runs: not at all ("never"), until one of them allows it '
        'for the conversation ("once"), or each time ("always").',
    )
    on_steer: Literal["cancel", "finish", "background"] | None = Field(
        default=None,
        description='What a message does to a call that runs: ends it ("cancel"), waits for it ("finish"), or lets it '
        'go on by itself while the agent answers ("background"). Without it: the tool\'s own.',
        examples=["background"],
    )
    timeout: int | None = Field(
        default=None,
        ge=1,
        description="How many seconds a call may take. Without it: the tool's own.",
        examples=[60],
    )


class ToolSettings(Section):
    """What the agent can do."""

    model_config = ConfigDict(extra="allow")
    # Every other name is a tool's. Pydantic reads here what there may be; its own annotation is wider.
    __pydantic_extra__: dict[ToolName, ToolRules] = Field(init=False)  # type: ignore[assignment]

    enabled: list[ToolName] = Field(
        default_factory=lambda: list(TOOLS),
        description="The tools that the agent may use.",
    )
    approval_expires: int = Field(
        default=86400,
        ge=1,
        description="For how many seconds a call waits to be approved. After that it counts as denied.",
    )

    def rules(self, tool: str) -> ToolRules:
        """What is set for a tool; the defaults where nothing is."""
        return self._of_tools().get(tool, ToolRules())

    def _of_tools(self) -> Mapping[str, ToolRules]:
        return {name: rules for name, rules in self if isinstance(rules, ToolRules)}

    @model_validator(mode="after")
    def _a_question_is_no_call(self) -> Self:
        refuse(
            Fault(("tools", "ask_user", name), "means nothing here: a question to people is not run, it waits for them")
            for name in ToolRules.model_fields
            if name in self.rules("ask_user").model_fields_set
        )
        return self
