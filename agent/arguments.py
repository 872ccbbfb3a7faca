"""Fits the arguments of a call to a tool's JSON schema where models write another type and mean the declared one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_INTEGER = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?\d{1,18}(?:\.\d{1,18})?(?:[eE][+-]?\d{1,2})?")
_BETWEEN_WORDS = re.compile(r"[\s_-]+")
_TRUTH = {"true": True, "false": False}

MAX_DEPTH = 16
MAX_WORK = 20_000
"""Levels of a schema, and parts of it that are looked at: it may be anything, and refer to itself."""

_Schema = Mapping[str, Any]


def fit_arguments(arguments: str, schema: _Schema) -> str:
    """The arguments, JSON text of an object, as the schema declares them: `"5"` for a number, one text for a list of
    texts, JSON in a text, null for what may be left out, `filePath` for `file_path`. What is not certain stays."""
    try:
        written = json.loads(arguments or "{}")
        if isinstance(written, str):
            written = json.loads(written)
    except (ValueError, RecursionError):
        return arguments
    if not isinstance(written, dict):
        return "{}" if written is None else arguments
    fitted = _Fitting(schema).object(written, schema, MAX_DEPTH)
    is_same = fitted == written and _types(fitted) == _types(written) and arguments.lstrip().startswith("{")
    return arguments if is_same else json.dumps(fitted, ensure_ascii=False)


class _Fitting:
    """Fits values to parts of one schema, which may refer to each other."""

    def __init__(self, schema: _Schema) -> None:
        self._root = schema
        self._work = 0

    def object(self, value: dict[str, Any], schema: _Schema, depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        if not isinstance(properties, Mapping):
            return value
        required = _list(schema.get("required"))
        is_closed = schema.get("additionalProperties") is False
        fitted = {}
        for key, item in value.items():
            name = _meant(key, properties, value) if is_closed and key not in properties else key
            declared = properties.get(name)
            if not isinstance(declared, Mapping):
                if item is not None or not is_closed:
                    fitted[name] = item
            elif item is not None or name in required or self._accepts(None, declared, depth):
                fitted[name] = self.value(item, declared, depth - 1)
        return fitted

    def value(self, value: Any, schema: _Schema, depth: int) -> Any:
        """The value, or another if that is what the schema takes and the value means."""
        self._work += 1
        if depth <= 0 or self._work > MAX_WORK:
            return value
        schema = self._resolved(schema)
        if options := self._options(schema):
            if any(self._accepts(value, option, depth) for option in options):
                option = next(option for option in options if self._accepts(value, option, depth))
                return self.value(value, option, depth - 1)
            fitted = [self.value(value, option, depth - 1) for option in options]
            taken = [each for each, option in zip(fitted, options, strict=True) if self._accepts(each, option, depth)]
            return taken[0] if len(taken) == 1 else value
        match schema.get("type"):
            case "integer":
                return _integer(value)
            case "number":
                return _number(value)
            case "boolean" if isinstance(value, str):
                return _TRUTH.get(value.strip().lower(), value)
            case "string" if isinstance(value, int | float) and not isinstance(value, bool):
                return json.dumps(value)
            case "array":
                return self._array(value, schema, depth)
            case "object":
                value = _parsed(value, dict)
                return self.object(value, schema, depth) if isinstance(value, dict) else value
            case _:
                return value

    def _array(self, value: Any, schema: _Schema, depth: int) -> Any:
        items = schema.get("items")
        items = items if isinstance(items, Mapping) else {}
        value = _parsed(value, list)
        if not isinstance(value, list):
            item = self.value(value, items, depth - 1)
            is_item = value is not None and "type" in self._resolved(items) and self._accepts(item, items, depth)
            return [item] if is_item else value
        return [self.value(item, items, depth - 1) for item in value]

    def _accepts(self, value: Any, schema: _Schema, depth: int) -> bool:
        """Whether the value is of the type that the schema names."""
        self._work += 1
        if depth <= 0 or self._work > MAX_WORK:
            return True
        schema = self._resolved(schema)
        if options := self._options(schema):
            return any(self._accepts(value, option, depth - 1) for option in options)
        if "enum" in schema:
            return value in _list(schema["enum"])
        match schema.get("type"):
            case None:
                return value is not None
            case "null":
                return value is None
            case "integer":
                return isinstance(value, int) and not isinstance(value, bool)
            case "number":
                return isinstance(value, int | float) and not isinstance(value, bool)
            case "boolean":
                return isinstance(value, bool)
            case "string":
                return isinstance(value, str)
            case "array":
                return isinstance(value, list)
            case "object":
                return isinstance(value, dict)
            case _:
                return False

    def _options(self, schema: _Schema) -> list[_Schema]:
        types = schema.get("type")
        if isinstance(types, list):
            return [{**schema, "type": each} for each in types]
        options = _list(schema.get("anyOf")) or _list(schema.get("oneOf"))
        return [option for option in options if isinstance(option, Mapping)]

    def _resolved(self, schema: _Schema) -> _Schema:
        """The schema itself, in place of a reference to it."""
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return schema
        found: Any = self._root
        for key in reference[2:].split("/"):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) and "$ref" not in found else {}


def _meant(key: str, properties: _Schema, given: Mapping[str, Any]) -> str:
    """The one property that is not given and differs from the key in capitals, `-` and `_` only; else the key."""
    wanted = letters(key)
    meant = [name for name in properties if name not in given and letters(name) == wanted]
    rivals = [other for other in given if letters(other) == wanted]
    return meant[0] if len(meant) == 1 and len(rivals) == 1 else key


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def letters(name: str) -> str:
    """The name without what models confuse: capitals, blanks, `-` and `_`."""
    return _BETWEEN_WORDS.sub("", name).casefold()


def _integer(value: Any) -> Any:
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _number(value: Any) -> Any:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return int(value) if _INTEGER.fullmatch(value.strip()) else float(value)
    return value


def _parsed(value: Any, kind: type) -> Any:
    """The value that a text is the JSON of, if that is of this kind."""
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return parsed if isinstance(parsed, kind) else value


def _types(value: Any) -> Any:
    """The types in a JSON value: `1 == True == 1.0`."""
    match value:
        case dict():
            return {key: _types(item) for key, item in value.items()}
        case list():
            return [_types(item) for item in value]
        case _:
            return type(value)
