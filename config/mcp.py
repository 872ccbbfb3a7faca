"""Settings of MCP servers: where each is, which of its tools are offered, and how."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator
from pydantic.fields import FieldInfo

from config.section import PathText, Positive, Secret, Section, VariableName, WebAddress, refuse_entries, wrong

MAX_NAME = 24


def _server_name(text: str) -> str:
    # Without "_", which separates it from the tool: no two servers can have tools of the same name.
    if not re.fullmatch(rf"[a-z0-9][a-z0-9-]{{0,{MAX_NAME - 1}}}", text):
        raise wrong(f'expected a name of up to {MAX_NAME} lower-case letters, digits and "-"')
    return text


ServerName = Annotated[str, AfterValidator(_server_name)]


class McpToolRules(Section):
    """Rules for one tool of an MCP server, by the name that the server gives it. They replace what the server says."""

    effect: Literal["read", "write", "external"] | None = Field(
        default=None,
        description='What a call does: it only reads ("read"), it changes the workspace ("write"), or it can do '
        'anything outside ("external"). Default: "read" if the server says so, else "external".',
        examples=["external"],
    )
    approval: Literal["never", "once", "always"] | None = Field(
        default=None,
        description='Whether people must approve a call: not at all ("never"), until one of them allows the tool for '
        'the conversation ("once"), or each call ("always"). Default: "never" for a tool that only reads, "always" for '
        'one that says that it destroys, else "once".',
        examples=["always"],
    )
    on_steer: Literal["cancel", "finish", "background"] | None = Field(
        default=None,
        description='What an interjection does to a running call: cancels it ("cancel"), waits for it ("finish"), or '
        'moves it to the background ("background"). Default: "cancel" for a tool that only reads, else "finish".',
        examples=["cancel"],
    )
    timeout: int | None = Field(
        default=None, ge=1, description="Maximum duration of a call in seconds. Default: the server's.", examples=[300]
    )
    foreign: bool | None = Field(
        default=None,
        description="Whether results are text from outside, such as web pages (see [safety]). Default: yes, unless the "
        "server says that the tool's world is closed.",
        examples=[False],
    )


class McpSection(Section):
    """An MCP server, whose tools the agent may use under the names `<server>_<tool>`. There may be any number."""

    include: list[str] = Field(
        default_factory=list,
        description="Names of the tools that are offered, as the server calls them, or patterns like get_*. Default: "
        "all.",
        examples=[["get_*", "create_issue"]],
    )
    exclude: list[str] = Field(
        default_factory=list,
        description="Names or patterns of tools that are not offered. The tools for the server's resources are "
        "list_resources and read_resource, the one for its prompts is prompt.",
        examples=[["delete_*"]],
    )
    annotations: Literal["trust", "ignore"] = Field(
        default="trust",
        description='Whether to believe what the server says of its tools ("trust"), or to take each for one with '
        'effects outside and results from outside ("ignore").',
    )
    timeout: Positive = Field(default=60.0, description="Maximum duration of a call in seconds.")
    sampling: bool = Field(
        default=False,
        description="Whether the server may ask the model of the conversation that calls it, at the expense of that "
        "conversation's turn.",
    )
    elicitation: bool = Field(
        default=False,
        description="Whether the server may ask the person who began the task, while a call of theirs runs.",
    )
    start_timeout: Positive = Field(
        default=60.0, description="Seconds within which the server must be ready. The gateway does not wait for it."
    )
    tools: dict[str, McpToolRules] = Field(default_factory=dict, description="Rules for single tools.")

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """Its place first, without the rules of tools, which are sections of their own."""
        own = {name: field for name, field in cls.model_fields.items() if name != "tools"}
        return dict(sorted(own.items(), key=lambda field: field[0] in McpSection.model_fields))


class McpProgramSettings(McpSection):
    """An MCP server that is a program on this machine. Its tools are named `<server>_<tool>`."""

    command: list[str] = Field(
        min_length=1,
        description="The program to start, and its arguments.",
        examples=[["npx", "-y", "@modelcontextprotocol/server-github"]],
    )
    environment: list[VariableName] = Field(
        default_factory=list,
        description="Environment variables that it is given beside PATH, HOME, LANG, LC_*, TZ, TMPDIR and TERM. Never "
        "one that holds a secret of the settings.",
        examples=[["HTTPS_PROXY"]],
    )
    variables: dict[VariableName, Secret] = Field(
        default_factory=dict,
        description="Further environment variables, with their values, such as a token of its own.",
        examples=[{"GITHUB_TOKEN": "${GITHUB_TOKEN}"}],
    )
    sandbox: Literal["auto", "none"] = Field(
        default="auto",
        description="Where it runs: where bubblewrap works, in a sandbox with the network, the system's programs, "
        '`readable`, `writable` and a folder of its own ("auto"), or as the gateway\'s user, with everything that this '
        'user may read ("none").',
    )
    readable: list[PathText] = Field(
        default_factory=list,
        description="Files and folders that it may read in the sandbox, relative to this file. Files that the command "
        "itself names are readable.",
        examples=[["docs"]],
    )
    writable: list[PathText] = Field(
        default_factory=list,
        description="Folders that it may also change in the sandbox, relative to this file.",
        examples=[["notes"]],
    )

    @field_validator("command")
    @classmethod
    def _a_program(cls, command: list[str]) -> list[str]:
        refuse_entries([] if command[0].strip() else [0], "is empty")
        return command


class McpUrlSettings(McpSection):
    """An MCP server on the network. Its tools are named `<server>_<tool>`."""

    url: WebAddress = Field(
        description="URL of the server, over streamable HTTP or the older SSE.",
        examples=["https://mcp.example.com/mcp"],
    )
    headers: dict[str, Secret] = Field(
        default_factory=dict,
        description="Headers of each request.",
        examples=[{"Authorization": "Bearer ${DOCS_TOKEN}"}],
    )
    per_person: bool = Field(
        default=False,
        description="Whether each person signs in with an account of their own, which the agent uses in their turns "
        "only. By default an admin signs in, for everybody.",
    )
    client_id: str | None = Field(
        default=None,
        description="The id under which the authorization server knows this gateway, if it does not register clients "
        "by itself.",
        examples=["interject-1234"],
    )
    client_secret: Secret | None = Field(
        default=None, description="The secret for client_id, if there is one.", examples=["${MCP_CLIENT_SECRET}"]
    )
    scope: str | None = Field(
        default=None,
        description="The scopes to ask for when somebody signs in. Default: those that the server names.",
        examples=["read write"],
    )


McpSettings = McpProgramSettings | McpUrlSettings

EXAMPLES: dict[str, type[McpSettings]] = {"github": McpProgramSettings, "docs": McpUrlSettings}
"""Names under which the two kinds of servers are shown."""


def mcp_kind(table: object) -> type[McpSettings]:
    return McpUrlSettings if isinstance(table, dict) and "url" in table else McpProgramSettings


def mcp_by_place(table: object) -> object:
    """The section, validated as a server with a command or with a URL. Raises if it has neither or both."""
    if not isinstance(table, dict):
        raise wrong("expected a section, not a single value")
    if ("command" in table) == ("url" in table):
        raise wrong("needs either command or url")
    return mcp_kind(table).model_validate(table)
