"""Resolves references in strings ("${NAME}", "file:/path") and converts text from variables to the setting's type."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import get_origin
from urllib.parse import quote

from pydantic import SecretStr

from config.errors import Fault, Key
from config.media import FILE, MediaUrl
from config.schema import Table, kind_at
from config.section import Secret
from config.store import DatabaseUrl
from config.tools import ToolOption
from config.written import Written

_REFERENCE = re.compile(r"\$(?P<escaped>\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<broken>\$\{)")
_MISSPELLED = re.compile(r"\$[A-Z_][A-Z0-9_]*|\$\([A-Z_][A-Z0-9_]*\)|%[A-Z_][A-Z0-9_]*%")
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class _Unresolved(Exception):
    """A reference cannot be resolved; the message says why."""


def expand(written: Written, environ: Mapping[str, str]) -> tuple[Table, list[Fault]]:
    """The tree with every reference resolved, and a fault for each that could not be.

    Text from the environment or from a reference is converted to the number, boolean or list that its setting
    expects, if possible; an own setting of a tool becomes a secret instead. Unknown keys are left as they are:
    validation reports them later.
    """
    faults: list[Fault] = []

    def value_at(key: Key, value: object) -> object:
        match value:
            case dict():
                return {name: value_at((*key, name), inner) for name, inner in value.items()}
            case list():
                return [value_at((*key, index), inner) for index, inner in enumerate(value)]
            case str() if kind := kind_at(key, written.tree):
                return text_at(key, value, kind)
            case _:
                return value

    def text_at(key: Key, text: str, kind: object) -> object:
        if _is_misspelled_reference(text, kind):
            faults.append(Fault(key, 'an environment variable is written "${NAME}"'))
            return text
        try:
            given = _with_encoded_user(text, environ) if kind is DatabaseUrl else text
            resolved = _resolved(given, environ, written.base(key), is_url=kind is MediaUrl)
        except _Unresolved as error:
            faults.append(Fault(key, str(error)))
            return text
        if kind is ToolOption:
            # Nobody but the tool knows what it is.
            return text if resolved == text else SecretStr(resolved)
        return _converted(resolved, kind) if resolved != text or key in written.variables else text

    return {name: value_at((name,), value) for name, value in written.tree.items()}, faults


def variables_read(written: Written) -> frozenset[str]:
    """The names of the environment variables that references in the settings read."""

    def names(value: object) -> Iterator[str]:
        match value:
            case dict():
                for inner in value.values():
                    yield from names(inner)
            case list():
                for inner in value:
                    yield from names(inner)
            case str():
                yield from (found["name"] for found in _REFERENCE.finditer(value) if found["name"])

    return frozenset(names(written.tree))


def anchored(path: Path, base: Path) -> Path:
    """`path` as an absolute path, relative to `base`; a leading ~ is the home directory."""
    return Path(os.path.normpath(base / os.path.expanduser(path)))


def _is_misspelled_reference(text: str, kind: object) -> bool:
    """Whether a secret is no secret but the name of a variable, as a shell or Windows would write it."""
    return kind in (SecretStr, list[Secret]) and _MISSPELLED.fullmatch(text) is not None


def _with_encoded_user(url: str, environ: Mapping[str, str]) -> str:
    """The URL with the references in its user and its password replaced by values that cannot end these, whatever
    characters they have."""
    user, at, place = url.rpartition("@")
    encoded = _REFERENCE.sub(lambda reference: quote(_variable_value(reference, environ), safe=""), user)
    return f"{encoded}{at}{place}"


def _resolved(text: str, environ: Mapping[str, str], base: Path, *, is_url: bool) -> str:
    """`is_url`: what begins with file:// is the URL of a folder, and no reference to a file."""
    resolved = _REFERENCE.sub(lambda reference: _variable_value(reference, environ), text)
    if not text.startswith("file:") or (is_url and text.startswith(FILE)):
        return resolved
    try:
        return anchored(Path(resolved.removeprefix("file:")), base).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise _Unresolved(f"{text} is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise _Unresolved(f"{text} cannot be read: {reason}") from None


def _variable_value(reference: re.Match[str], environ: Mapping[str, str]) -> str:
    if reference["escaped"]:
        return "${"
    if reference["broken"]:
        raise _Unresolved('"${" needs the name of an environment variable and "}". A literal "${" is written "$${"')
    name = reference["name"]
    if name not in environ:
        raise _Unresolved(f"the environment variable {name} is not set")
    return environ[name]


def _converted(text: str, kind: object) -> object:
    """The text converted to `kind`; the text itself if that is not possible."""
    if kind is bool:
        return _BOOLEANS.get(text.strip().lower(), text)
    if kind is int or kind is float:
        return _or_text(kind, text)
    if get_origin(kind) is list:
        return _or_text(json.loads, text) if text.lstrip().startswith("[") else _items(text.split(","))
    return text


def _or_text(read: Callable[[str], object], text: str) -> object:
    try:
        return read(text)
    except (ValueError, RecursionError):
        return text


def _items(parts: Iterable[str]) -> list[str]:
    return [item for part in parts if (item := part.strip())]
