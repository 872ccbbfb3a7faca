"""The settings as a tree of names: which tables and settings exist, and their types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeGuard, get_args, get_origin

from pydantic import JsonValue
from pydantic.fields import FieldInfo

from config.agents import NamedAgentSettings, RouteSettings
from config.channels import CHANNELS
from config.errors import Key
from config.hooks import HOOKS, HookSection
from config.mcp import EXAMPLES, McpToolRules, mcp_kind
from config.media import S3Settings
from config.models import ModelSettings, ProviderSettings
from config.presets import PRESETS
from config.roles import RoleSettings, RolesSettings
from config.section import Section
from config.settings import Settings
from config.tools import SECTIONS, TOOLS, CustomToolSettings, ToolOption, ToolRules, ToolSettings, is_custom
from config.webhooks import WebhookSettings

Table = dict[str, object]

REPEATED: Mapping[str, type[Section]] = {"routes": RouteSettings, "webhooks": WebhookSettings}
"""Sections of which there may be any number, all of one kind."""


@dataclass(frozen=True, slots=True)
class KnownSection:
    """A table that an operator may write: its key and its model.

    `repeated`: there may be any number, each with a header in double brackets.
    """

    key: tuple[str, ...]
    model: type[Section]
    repeated: bool = False

    @property
    def settings(self) -> Mapping[str, FieldInfo]:
        return self.model.fields()


def known_sections() -> Iterator[KnownSection]:
    """Every table, in the order of the models; each channel under the name of its type, a hook once for each type, and
    one of all models of providers."""
    for name, field in Settings.model_fields.items():
        if name == "models":
            yield from (KnownSection((name, provider), ProviderSettings) for provider in PRESETS)
            yield KnownSection((name, "openai", "gpt-5"), ModelSettings)
        elif name == "channels":
            yield from (KnownSection((name, kind), model) for kind, model in CHANNELS.items())
        elif name == "agents":
            yield KnownSection((name, "research"), NamedAgentSettings)
        elif name in REPEATED:
            yield KnownSection((name,), REPEATED[name], repeated=True)
        elif name == "roles":
            yield from (KnownSection((name, role), RoleSettings) for role in RolesSettings.model_fields)
        elif name == "hooks":
            yield from (KnownSection((name,), model, repeated=True) for model in HOOKS.values())
        elif name == "mcp":
            yield from (KnownSection((name, server), model) for server, model in EXAMPLES.items())
            yield KnownSection((name, next(iter(EXAMPLES)), "tools", "create_issue"), McpToolRules)
        elif _is_section(field.annotation):
            yield KnownSection((name,), field.annotation)
        if name == "media":
            yield KnownSection((name, "s3"), S3Settings)
        if name == "tools":
            yield from (KnownSection((name, tool), _tool(tool)) for tool in TOOLS)
            yield KnownSection((name, "word_count"), CustomToolSettings)


def known_settings() -> list[tuple[str, ...]]:
    """The keys of all settings, except in repeated sections, whose keys contain indexes."""
    return [(*section.key, name) for section in known_sections() if not section.repeated for name in section.settings]


def names_within(key: Key, tree: Table) -> list[str]:
    """The names known in the table at `key`."""
    if key == ("models",):
        return list(PRESETS)
    kind = kind_at(key, tree)
    if kind is ToolSettings:
        return [*ToolSettings.fields(), *TOOLS]
    return list(kind.fields()) if _is_section(kind) else []


def hook_types_with(setting: str) -> list[str]:
    """The types of hooks that have such a setting."""
    return [kind for kind, model in HOOKS.items() if setting in model.model_fields]


def kind_at(key: Key, tree: Table) -> object:
    """The expected type at `key`; None if unknown. `tree` gives the types of channels and hooks."""
    kind: object = Settings
    value: object = tree
    for depth, name in enumerate(key):
        value = _within(value, name)
        if depth == 1 and key[0] == "channels":
            kind = _channel(name, value)
        elif depth == 1 and key[0] == "hooks":
            kind = _hook(value)
        elif depth == 1 and key[0] == "mcp":
            kind = mcp_kind(value)
        elif kind is ProviderSettings and name not in ProviderSettings.model_fields:
            kind = ModelSettings if isinstance(value, dict) else None
        elif kind is ToolSettings and is_custom(str(name), value):
            kind = CustomToolSettings
        else:
            kind = _kind_within(kind, name)
    return kind


def _within(value: object, name: str | int) -> object:
    match value, name:
        case dict(), _:
            return value.get(name)
        case list(), int(index) if index < len(value):
            return value[index]
        case _:
            return None


def _kind_within(kind: object, name: str | int) -> object:
    if _is_section(kind):
        field = kind.model_fields.get(str(name))
        if kind is ToolSettings and name in TOOLS:
            return _tool(str(name))
        if kind is CustomToolSettings and field is None:
            return ToolOption
        return field and _plain(field.annotation)
    if kind in (JsonValue, ToolOption):
        return kind
    if get_origin(kind) in (dict, list):
        return _plain(get_args(kind)[-1])
    return None


def _tool(name: str) -> type[ToolRules]:
    return SECTIONS.get(name, ToolRules)


def _channel(name: str | int, table: object) -> object:
    kind = table.get("type", name) if isinstance(table, dict) else name
    return CHANNELS.get(kind) if isinstance(kind, str) else None


def _hook(table: object) -> object:
    kind = table.get("type") if isinstance(table, dict) else None
    return HOOKS.get(kind, HookSection) if isinstance(kind, str) else HookSection


def _plain(kind: object) -> object:
    """The type without its annotations, and without None: `Annotated[Path, …] | None` is a Path."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    choices = [choice for choice in get_args(kind) if choice is not type(None)]
    return _plain(choices[0]) if type(None) in get_args(kind) and len(choices) == 1 else kind


def _is_section(kind: object) -> TypeGuard[type[Section]]:
    return isinstance(kind, type) and issubclass(kind, Section)
