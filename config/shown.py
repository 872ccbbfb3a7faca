"""Settings for people to read: each with its value, without secrets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from config.section import Section
from config.settings import Settings

HIDDEN = "[hidden]"


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """`key` is like `agent.model`; `value` is as in the settings file, "" for none, and `HIDDEN` for a secret."""

    key: str
    value: str
    is_default: bool


def shown(settings: Settings) -> tuple[ShownSetting, ...]:
    """Every effective setting, in the order of the sections."""
    return tuple(_of_section((), settings))


def _of_section(at: tuple[str, ...], section: Section) -> Iterator[ShownSetting]:
    fields = type(section).model_fields
    hidden = sorted((secret.get_secret_value() for secret in section.credentials), key=len, reverse=True)
    for name, value in section:
        shown_value = _without(hidden, value) if isinstance(value, str) else value
        yield from _of((*at, name), shown_value, is_default=_is_default(fields[name], value))


def _without(secrets: Sequence[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def _of(at: tuple[str, ...], value: object, *, is_default: bool) -> Iterator[ShownSetting]:
    match value:
        case Section():
            yield from _of_section(at, value)
        case dict() if value:
            for name, inner in value.items():
                yield from _of((*at, str(name)), inner, is_default=is_default)
        case list() if any(isinstance(inner, Section) for inner in value):
            for number, inner in enumerate(value):
                yield from _of((*at, str(number)), inner, is_default=is_default)
        case _:
            yield ShownSetting(".".join(at), _text(value), is_default)


def _is_default(field: FieldInfo, value: object) -> bool:
    return not field.is_required() and value == field.get_default(call_default_factory=True)


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case SecretStr():
            return HIDDEN
        case bool():
            return str(value).lower()
        case list() | tuple() if any(isinstance(inner, SecretStr) for inner in value):
            return HIDDEN
        case list() | tuple():
            return f"[{', '.join(map(_text, value))}]"
        case dict():
            return "{}"
        case Path() | timedelta():
            return str(value)
        case _:
            return str(value)
