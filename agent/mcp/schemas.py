"""Schemas of a server's tools: checked, and in a form that every provider takes.

A provider refuses a whole request for one schema that it does not take: one bad tool would end the conversation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from agent.gate import one_line, text

MAX_SCHEMA = 32_000
"""Characters of a schema as JSON."""

MAX_DEPTH = 24

_ROOT_ONLY = ("anyOf", "oneOf", "allOf", "not", "if", "then", "else", "enum", "const", "$schema", "$id")
"""Keywords that providers refuse at the top of a schema. The server checks them itself."""

_PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
"""The name of an argument, as Anthropic takes it (https://docs.anthropic.com/en/api/errors); others take more."""


class BadSchema(ValueError):
    """The message says what is wrong."""


def usable_schema(schema: object) -> dict[str, Any]:
    """The schema for the model. Raises `BadSchema`. It takes time in proportion to the schema."""
    if not isinstance(schema, Mapping):
        raise BadSchema("its schema is not an object")
    if _depth(schema) > MAX_DEPTH:
        raise BadSchema(f"its schema is nested more than {MAX_DEPTH} levels deep")
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except (ValueError, TypeError):
        raise BadSchema("its schema is not JSON") from None
    if size > MAX_SCHEMA:
        raise BadSchema(f"its schema has {size:,} characters; the limit is {MAX_SCHEMA:,}")
    if schema.get("type", "object") != "object":
        raise BadSchema(f"its schema must have the type object, not {one_line(schema.get('type'), 40)}")
    _check(schema)
    usable = {name: value for name, value in schema.items() if name not in _ROOT_ONLY}
    usable |= {"type": "object", "properties": usable.get("properties", {})}
    for name in usable["properties"]:
        if not _PROPERTY.fullmatch(name):
            raise BadSchema(f"providers do not take the name of its argument {one_line(name, 80)!r}")
    filled: dict[str, Any] = json.loads(text(json.dumps(_with_items(usable), ensure_ascii=False)))
    return filled


def _check(schema: Mapping[str, Any]) -> None:
    """Raises `BadSchema` if it is no JSON schema, or refers to something outside of itself."""
    # Loaded with the SDK, which needs it too.
    from jsonschema import (  # type: ignore[import-untyped]  # the package has no types
        Draft202012Validator,
        SchemaError,
    )

    try:
        Draft202012Validator.check_schema({name: value for name, value in schema.items() if name != "$schema"})
    except SchemaError as error:
        where = ".".join(map(str, error.absolute_path)) or "at its top"
        raise BadSchema(f"its schema is not valid, {one_line(where, 80)}: {one_line(error.message, 120)}") from None
    for reference in _references(schema):
        if not _leads_somewhere(reference, schema):
            raise BadSchema(f"its schema refers to {one_line(reference, 80)!r}, which is not part of it")


def _references(value: object) -> Iterator[str]:
    match value:
        case Mapping():
            for name, inner in value.items():
                if name in ("$ref", "$dynamicRef") and isinstance(inner, str):
                    yield inner
                else:
                    yield from _references(inner)
        case list():
            for inner in value:
                yield from _references(inner)


def _leads_somewhere(reference: str, schema: Mapping[str, Any]) -> bool:
    if not reference.startswith("#"):
        return False
    found: object = schema
    for key in filter(None, reference.removeprefix("#").split("/")):
        found = found.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return isinstance(found, Mapping | bool)


def _with_items(value: Any) -> Any:
    """The schema with `items` in each array: OpenAI refuses arrays without."""
    match value:
        case dict():
            filled = {name: _with_items(inner) for name, inner in value.items()}
            is_array = value.get("type") == "array" or (
                isinstance(value.get("type"), list) and "array" in value["type"]
            )
            return {**filled, "items": {}} if is_array and not {"items", "prefixItems"} & value.keys() else filled
        case list():
            return [_with_items(inner) for inner in value]
        case _:
            return value


def _depth(value: object) -> int:
    """Levels of nesting, at most one more than allowed."""
    level: list[object] = [value]
    for depth in range(MAX_DEPTH + 1):
        level = [
            inner
            for each in level
            if isinstance(each, Mapping | list)
            for inner in (each.values() if isinstance(each, Mapping) else each)
        ]
        if not level:
            return depth
    return MAX_DEPTH + 1
