"""What can be set for the hooks: a section for each kind, alike in what every hook has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator
from pydantic.fields import FieldInfo

from config.errors import did_you_mean
from config.section import Positive, Secret, Section, WebAddress, refuse_entries, wrong

Point = Literal[
    "on_message",
    "before_model",
    "after_model",
    "before_tool",
    "approve_tool",
    "after_tool",
    "before_reply",
    "on_event",
]

_NAME = "What it is called in the log and to people. Of hooks with the same priority the first name is asked first."


def _plain_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise wrong('expected a name of letters, digits, "-" and "_"')
    return text


def _class_or_entry_point(text: str) -> str:
    module, colon, name = text.rpartition(":")
    known = module.endswith(".py") or all(part.isidentifier() for part in module.split("."))
    if not text.strip() or (colon and not (known and name.isidentifier())):
        raise wrong(
            'expected "module:Class", "folder/file.py:Class", or the name of an entry point in the group '
            "interject.hooks"
        )
    return text


HookName = Annotated[str, AfterValidator(_plain_name)]


class HookSection(Section):
    """Code of your own around what the agent hears, asks, does and says. There may be any number of them."""

    name: HookName = Field(description=_NAME)
    points: list[Point] = Field(
        min_length=1,
        description="Where it is asked: on_message, before_model, after_model, before_tool, approve_tool, after_tool, "
        "before_reply; at on_event it only looks on.",
        examples=[["before_tool", "approve_tool"]],
    )
    priority: int = Field(
        default=100,
        description="Hooks with a lower number are asked sooner, and each sees what the one before made of it.",
    )
    timeout: Positive = Field(
        default=5.0,
        description="How many seconds it may take for one answer.",
    )
    on_error: Literal["open", "closed"] | None = Field(
        default=None,
        description='What happens when it fails or takes too long: everything goes on without it ("open"), or what '
        'it was asked about is denied ("closed"). Without it: closed at approve_tool, open elsewhere.',
        examples=["closed"],
    )
    trusted: bool = Field(
        default=False,
        description="Whether the result that it gives for a tool is taken even where people would have to approve "
        "the call.",
    )

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """The name, then what makes it a hook of its type: they are what must be set."""
        shared = HookSection.model_fields
        return dict(sorted(cls.model_fields.items(), key=lambda field: field[0] in shared and field[0] != "name"))

    @field_validator("points")
    @classmethod
    def _each_once(cls, points: list[Point]) -> list[Point]:
        refuse_entries(
            [index for index, point in enumerate(points) if point in points[:index]],
            "stands there already: each point is named once",
        )
        return points


class PythonHookSettings(HookSection):
    """A hook that is a Python class, with a method for each of its points."""

    name: HookName = Field(description=_NAME, examples=["manners"])
    type: Literal["python"] = Field(description="A class in the gateway's own process.", examples=["python"])
    path: Annotated[str, AfterValidator(_class_or_entry_point)] = Field(
        description='The class: "module:Class", "folder/file.py:Class", or the name of an entry point in the group '
        "interject.hooks.",
        examples=["hooks/manners.py:Manners"],
    )


class ProcessHookSettings(HookSection):
    """A hook that is a program in any language. It is asked through its standard input, a JSON object on each line."""

    name: HookName = Field(description=_NAME, examples=["review"])
    type: Literal["process"] = Field(description="A program that runs beside the gateway.", examples=["process"])
    command: list[str] = Field(
        min_length=1,
        description="The program and its arguments.",
        examples=[["python3", "hooks/review.py"]],
    )

    @field_validator("command")
    @classmethod
    def _a_program(cls, command: list[str]) -> list[str]:
        refuse_entries([] if command[0].strip() else [0], "is empty")
        return command


class HttpHookSettings(HookSection):
    """A hook that is a web server of yours. It is asked by signed requests."""

    name: HookName = Field(description=_NAME, examples=["policy"])
    type: Literal["http"] = Field(description="A server that answers requests.", examples=["http"])
    url: WebAddress = Field(
        description="The address that is asked.",
        examples=["https://hooks.example.com/interject"],
    )
    secret: Secret = Field(
        description="What the requests are signed with, so that the server knows who asks.",
        examples=["${HOOK_SECRET}"],
    )


HookSettings = PythonHookSettings | ProcessHookSettings | HttpHookSettings

HOOKS: Mapping[str, type[HookSettings]] = {
    "python": PythonHookSettings,
    "process": ProcessHookSettings,
    "http": HttpHookSettings,
}
"""A hook's settings by the `type` of its [[hooks]] section."""


def hook_by_type(table: object) -> object:
    """The section as what its `type` says it is. Raises where there is none, or no such type."""
    if not isinstance(table, dict):
        raise wrong("expected a section, not a single value")
    kind = table.get("type")
    if isinstance(kind, str) and kind in HOOKS:
        return HOOKS[kind].model_validate(table)
    told = "no such type of hook." if "type" in table else "is missing."
    refuse_entries(["type"], f"{told} {did_you_mean(str(kind), list(HOOKS))}")
    return table
