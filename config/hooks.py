"""Settings of the hooks: a section for each type, with shared settings in `HookSection`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator
from pydantic.fields import FieldInfo

from config.errors import did_you_mean
from config.section import Positive, Secret, Section, VariableName, WebAddress, refuse_entries, wrong

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

_NAME = "Unique name, used in the log and in messages. Hooks with the same priority run in the order of their names."


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
    """A hook: code of your own around messages, model calls, tool calls and replies. There may be any number."""

    name: HookName = Field(description=_NAME)
    points: list[Point] = Field(
        min_length=1,
        description="Where the hook runs: on_message, before_model, after_model, before_tool, approve_tool, "
        "after_tool, before_reply; on_event only observes.",
        examples=[["before_tool", "approve_tool"]],
    )
    priority: int = Field(
        default=100,
        description="Hooks with a lower number run first, and each sees the changes of the one before.",
    )
    timeout: Positive = Field(
        default=5.0,
        description="Seconds allowed for one answer.",
    )
    on_error: Literal["open", "closed"] | None = Field(
        default=None,
        description='After an error or a timeout: continue without the hook ("open"), or deny what it was asked '
        'about ("closed"). Default: closed at approve_tool, otherwise open.',
        examples=["closed"],
    )
    trusted: bool = Field(
        default=False,
        description="Whether a tool result supplied by the hook is accepted even if the call needs approval.",
    )

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """The name first, then the settings of its type: they are the required ones."""
        shared = HookSection.model_fields
        return dict(sorted(cls.model_fields.items(), key=lambda field: field[0] in shared and field[0] != "name"))

    @field_validator("points")
    @classmethod
    def _each_once(cls, points: list[Point]) -> list[Point]:
        refuse_entries(
            [index for index, point in enumerate(points) if point in points[:index]],
            "is already listed: each point may appear only once",
        )
        return points


class PythonHookSettings(HookSection):
    """A hook written as a Python class, with a method for each of its points."""

    name: HookName = Field(description=_NAME, examples=["tone"])
    type: Literal["python"] = Field(description="A class in the gateway's own process.", examples=["python"])
    path: Annotated[str, AfterValidator(_class_or_entry_point)] = Field(
        description='The class: "module:Class", "folder/file.py:Class", or the name of an entry point in the group '
        "interject.hooks.",
        examples=["hooks/tone.py:Tone"],
    )


class ProcessHookSettings(HookSection):
    """A hook that is a program in any language. It gets requests on standard input, one JSON object per line."""

    name: HookName = Field(description=_NAME, examples=["review"])
    type: Literal["process"] = Field(description="A program started by the gateway.", examples=["process"])
    command: list[str] = Field(
        min_length=1,
        description="The program and its arguments.",
        examples=[["python3", "hooks/review.py"]],
    )
    environment: list[VariableName] = Field(
        default_factory=list,
        description="Environment variables that it is given beside PATH, HOME, LANG, LC_*, TZ, TMPDIR and TERM. Never "
        "one that holds a secret of the settings.",
        examples=[["REVIEW_LEVEL"]],
    )

    @field_validator("command")
    @classmethod
    def _a_program(cls, command: list[str]) -> list[str]:
        refuse_entries([] if command[0].strip() else [0], "is empty")
        return command


class HttpHookSettings(HookSection):
    """A hook that is a webhook: a web server of yours that gets signed requests."""

    name: HookName = Field(description=_NAME, examples=["policy"])
    type: Literal["http"] = Field(description="An HTTP endpoint.", examples=["http"])
    url: WebAddress = Field(
        description="URL that gets the requests.",
        examples=["https://hooks.example.com/interject"],
    )
    secret: Secret = Field(
        description="Key that signs the requests, so that the server can verify the sender.",
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
    """The section, validated as the hook that its `type` names. Raises if the type is missing or unknown."""
    if not isinstance(table, dict):
        raise wrong("expected a section, not a single value")
    kind = table.get("type")
    if isinstance(kind, str) and kind in HOOKS:
        return HOOKS[kind].model_validate(table)
    reason = "unknown hook type." if "type" in table else "is missing."
    refuse_entries(["type"], f"{reason} {did_you_mean(str(kind), list(HOOKS))}")
    return table
