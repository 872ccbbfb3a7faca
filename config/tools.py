"""Settings of the tools: which are enabled, and the rules for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticKnownError

from config.errors import Fault
from config.models import Amount, RealModelName
from config.section import Secret, Section, VariableName, WebAddress, refuse

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
    "schedule",
    "memory",
    "run_python",
    "generate_image",
    "web_search",
]

TOOLS: tuple[ToolName, ...] = get_args(ToolName)


class ToolRules(Section):
    """Rules for one tool. Every tool may have such a section."""

    approval: Literal["never", "once", "always"] | None = Field(
        default=None,
        description='Whether people must approve a call: not at all ("never"), until one of them allows the tool '
        'for the conversation ("once"), or each call ("always"). Default: "never"; of the shell outside the sandbox '
        '"once".',
        examples=["always"],
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


class ShellSettings(ToolRules):
    """The shell: where its commands run, and what they may use."""

    sandbox: Literal["auto", "none"] = Field(
        default="auto",
        description="Where commands run: in a sandbox (bubblewrap) that shows them nothing but the system's programs "
        'and the workspace ("auto"), or as the gateway\'s user, with everything that this user may read ("none"). '
        'Where "auto" finds no working bubblewrap, the shell is not offered on chat platforms.',
    )
    network: Literal["none", "all"] = Field(
        default="none",
        description='The network of the sandbox: "none", or "all", which includes this machine\'s own services and '
        "private networks.",
    )
    environment: list[VariableName] = Field(
        default_factory=list,
        description="Environment variables that commands are given beside PATH, HOME, LANG, LC_*, TZ, TMPDIR and TERM. "
        "Never one that holds a secret of the settings.",
        examples=[["HTTPS_PROXY"]],
    )
    memory: int = Field(default=4096, ge=16, description="Memory that each process of a command may use, in MiB.")
    processes: int = Field(
        default=512,
        ge=8,
        description="Maximum number of processes and threads of a command. Only in the sandbox, and not if the gateway "
        "runs as root.",
    )
    file_size: int = Field(default=2048, ge=1, description="Maximum size of a file that a command writes, in MiB.")
    workspace_size: int = Field(
        default=8192,
        ge=1,
        description="Size of a workspace, in MiB, beyond which commands cannot write files; they can still delete. Not "
        'if all work in one workspace ([agent] workspaces = "shared").',
    )
    cpu_seconds: int = Field(default=3600, ge=1, description="Maximum CPU time of each process, in seconds.")
    output: int = Field(
        default=32000,
        ge=1000,
        le=200_000,
        description="Bytes of a command's output that the model reads: half of them from its beginning, half from its "
        "end.",
    )


class ImageToolSettings(ToolRules):
    """The tool that draws pictures: which model does."""

    model: RealModelName | None = Field(
        default=None,
        description="Image model of a provider of [models], with its key, base_url and headers. Without it the tool is "
        "not offered.",
        examples=["openai:gpt-image-1"],
    )
    protocol: Literal["openai", "gemini"] | None = Field(
        default=None,
        description='How its server is asked: over OpenAI\'s images protocol ("openai"), which compatible servers '
        'speak, or Gemini\'s ("gemini"). Default: "gemini" for the provider google, else "openai".',
        examples=["openai"],
    )
    quality: str | None = Field(
        default=None,
        min_length=1,
        max_length=40,
        description="Quality that an OpenAI server is asked for, as it names them. Default: the server's.",
        examples=["low"],
    )
    price: Amount | None = Field(
        default=None,
        description="Price of one picture in dollars. Default: by the tokens that the server counts, for known models.",
        examples=[0.04],
    )


class SearchToolSettings(ToolRules):
    """The tool that searches the web: which service does."""

    provider: Literal["brave", "tavily", "exa", "searxng"] | None = Field(
        default=None,
        description='Search service: "brave", "tavily", "exa", or a "searxng" server. Without it the tool is not '
        "offered.",
        examples=["brave"],
    )
    api_key: Secret | None = Field(
        default=None,
        description="Key of the service; SearXNG needs none.",
        examples=["${BRAVE_API_KEY}"],
    )
    url: WebAddress | None = Field(
        default=None,
        description="Address of the SearXNG server; its settings must allow the format json. Default for the others: "
        "the service's own.",
        examples=["http://127.0.0.1:8080"],
    )

    @model_validator(mode="after")
    def _service_is_complete(self) -> Self:
        at = ("tools", "web_search")
        if self.provider == "searxng" and self.url is None:
            refuse([Fault((*at, "url"), "is missing: searxng needs the address of the server")])
        if self.provider not in (None, "searxng") and self.api_key is None:
            refuse([Fault((*at, "api_key"), f"is missing: {self.provider} needs a key")])
        return self


class ToolOption:
    """The kind of a setting that only a tool of one's own knows: any value. One that a reference gives is a secret."""


class CustomToolSettings(ToolRules):
    """A tool of your own. Every other name in its section is one of its own settings, which the tool declares."""

    model_config = ConfigDict(extra="allow")

    path: str = Field(
        min_length=1,
        description='The function with `@tool`: "folder/file.py:name", relative to this file, "module:name", or the '
        "name of an entry point in the group interject.tools.",
        examples=["tools/word_count.py:word_count"],
    )
    final: bool | None = Field(
        default=None,
        description="Whether the result of a call ends the task as its answer. Default: the tool's own.",
        examples=[True],
    )

    @property
    def options(self) -> Mapping[str, Any]:
        """The tool's own settings, as given."""
        return self.__pydantic_extra__ or {}


SECTIONS: Mapping[str, type[ToolRules]] = {
    "shell": ShellSettings,
    "generate_image": ImageToolSettings,
    "web_search": SearchToolSettings,
}
"""The tools that have settings of their own."""


def is_custom(name: str, section: object) -> bool:
    """Whether that section of [tools] is a tool of the operator's own."""
    return name not in TOOLS and isinstance(section, dict) and "path" in section


class _UnknownSection:
    """Stands for a section of [tools] that is no tool."""


def _rules(section: object, handler: ValidatorFunctionWrapHandler) -> ToolRules:
    if isinstance(section, _UnknownSection):
        raise PydanticKnownError("extra_forbidden")
    if isinstance(section, dict) and "path" in section:
        return CustomToolSettings.model_validate(section)
    rules: ToolRules = handler(section)
    return rules


class ToolSettings(Section):
    """The agent's tools."""

    model_config = ConfigDict(extra="allow")
    # Every other key is the name of a tool. Pydantic takes the type of extra keys from here.
    __pydantic_extra__: dict[str, Annotated[ToolRules, WrapValidator(_rules)]] = Field(init=False)

    shell: ShellSettings = Field(default_factory=ShellSettings)
    generate_image: ImageToolSettings = Field(default_factory=ImageToolSettings)
    web_search: SearchToolSettings = Field(default_factory=SearchToolSettings)

    enabled: list[ToolName] = Field(
        default_factory=lambda: list(TOOLS),
        description="Tools that the agent may use.",
    )
    approval_expires: int = Field(
        default=86400,
        ge=1,
        description="Seconds until a pending approval expires. An expired approval counts as denied.",
    )

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """Without the tools that are sections of their own."""
        return {name: field for name, field in cls.model_fields.items() if name not in SECTIONS}

    def rules(self, tool: str) -> ToolRules:
        """The rules for a tool; the defaults if it has no section."""
        return self._by_tool().get(tool, ToolRules())

    @property
    def custom(self) -> Mapping[str, CustomToolSettings]:
        """The tools of the operator's own, by name."""
        return {name: rules for name, rules in self if isinstance(rules, CustomToolSettings)}

    def _by_tool(self) -> Mapping[str, ToolRules]:
        return {name: rules for name, rules in self if isinstance(rules, ToolRules)}

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_sections(cls, sections: object) -> object:
        if not isinstance(sections, dict):
            return sections
        known = {*cls.model_fields, *TOOLS}
        return {
            name: section if name in known or is_custom(name, section) else _UnknownSection()
            for name, section in sections.items()
        }

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
