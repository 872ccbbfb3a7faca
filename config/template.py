"""A complete interject.toml with a description of every setting, generated from the models."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic.fields import FieldInfo

from config.errors import Key, dotted
from config.models import ProviderSettings, provider_and_name
from config.presets import key_variables
from config.schema import KnownSection, known_sections
from config.tools import ToolRules

_HEAD = """\
# Settings of Interject. A line like "#name = value" shows a setting with its default, or with an example if it has
# no default. Remove the "#" to set it.
#
# Every setting can also be an environment variable: INTERJECT_CHANNELS__TELEGRAM__TOKEN is token in
# [channels.telegram]. Any text may be "${NAME}" (an environment variable) or "file:/run/secrets/name" (the contents
# of a file). Relative paths are relative to this file; defaults are relative to the data directory.
"""

_DEFAULT_REFERENCE: Mapping[Key, str] = {
    ("models", provider, "api_key"): f"${{{variable}}}" for provider, variable in key_variables().items()
}


@dataclass(frozen=True, slots=True)
class ChannelAnswers:
    """A bot on one platform: references to its tokens, by setting, and its allowlist."""

    platform: str
    tokens: Mapping[str, str]
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """Values to fill in; `api_key` and `base_url` are those of the model's provider.

    Keys and tokens should be references: "${NAME}" or "file:/path".
    """

    model: str | None = None
    api_key: str | None = None
    base_url: str | None = None
    channels: tuple[ChannelAnswers, ...] = ()


def template(answers: Answers) -> str:
    """The text of a file that `load` accepts: answers are set, everything else is commented out."""
    given = _given(answers)
    return "\n".join([_HEAD, *("\n".join(_section(section, given)) for section in _shown_sections(given))])


def _shown_sections(given: Mapping[Key, object]) -> Iterator[KnownSection]:
    """All sections, but one only of those that have the same settings: the shell's of the tools', and of the providers'
    the one that is given, else the first."""
    tools = [section.key for section in known_sections() if section.model is ToolRules]
    providers = [section.key for section in known_sections() if section.model is ProviderSettings]
    shown = next((key for key in providers if any(name[:2] == key for name in given)), providers[0])
    return (section for section in known_sections() if section.key not in tools + providers or section.key == shown)


def _given(answers: Answers) -> dict[Key, object]:
    provider, _ = provider_and_name(answers.model or "")
    given: dict[Key, object] = {
        ("agent", "model"): answers.model,
        ("models", provider, "api_key"): answers.api_key,
        ("models", provider, "base_url"): answers.base_url,
    }
    for channel in answers.channels:
        key = ("channels", channel.platform)
        given |= {(*key, setting): token for setting, token in channel.tokens.items()}
        given[(*key, "allow")] = list(channel.allow) or None
    return {key: value for key, value in given.items() if value is not None}


def _section(section: KnownSection, given: dict[Key, object]) -> Iterator[str]:
    # An empty section of a channel, provider or hook would be invalid: it has required settings.
    optional = len(section.key) > 1 or section.repeated
    used = not optional or any(key[: len(section.key)] == section.key for key in given)
    yield from _comment(section.model.__doc__ or "")
    header = f"[[{section.key[0]}]]" if section.repeated else f"[{dotted(section.key)}]"
    yield header if used else f"#{header}"
    for name, field in section.settings.items():
        yield from _comment(field.description or "")
        key = (*section.key, name)
        if key in given:
            yield f"{name} = {_toml(given[key])}"
        else:
            yield f"#{name} = {_toml(_DEFAULT_REFERENCE.get(key, _shown(field)))}"
    yield ""


def _comment(text: str) -> list[str]:
    text = " ".join(text.split())
    return textwrap.wrap(text, width=110, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _shown(field: FieldInfo) -> object:
    """The default, or an example if there is no default."""
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    return field.examples[0] if default in (None, [], {}) and field.examples else default


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return f"{value:g}"
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{dotted((name,))} = {_toml(inner)}' for name, inner in value.items())} }}"
        case str() | Path():
            # JSON's strings are TOML's, except that TOML wants DEL escaped as well.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
        case _:
            raise TypeError(f"no TOML for {type(value).__name__}")
