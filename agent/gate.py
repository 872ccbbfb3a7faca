"""The gate before the log: makes values from outside storable, and readable again.

Models, tools, hooks, pages and files can hold what no database and no provider takes: half of a surrogate pair, NUL,
counts that are no integers, names that are no strings. What passes `storable` has none of these.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

MAX_COUNT = 10**12
"""A greater number is not a count of anything here, and sums of it would exceed the integers of databases."""

MAX_TOKENS = 10**8
"""A model call that is said to have used more is one of which nothing was said."""

MAX_DEPTH = 64
"""Levels of nested JSON; parsers give up at some hundreds."""

TOO_DEEP = '"(JSON that is nested too deeply)"'

JSON_TEXT = "JSON text"
JsonText = Annotated[str, JSON_TEXT]
"""JSON in a string, valid or not. Escapes in it count too: `"\\ud83a"` is half of a surrogate pair."""


def text(value: object) -> str:
    """The value as a text that can be stored and sent: halves of surrogate pairs and NUL become U+FFFD, two halves
    their character. "" for None; other values become their JSON."""
    if not isinstance(value, str):
        return "" if value is None else text(_as_json(value))
    if "\0" in value:
        value = value.replace("\0", REPLACEMENT)
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def one_line(text: object, limit: int = 300) -> str:
    """Untrusted text on one line of at most `limit` characters, without control characters, for logs and reasons."""
    line = "".join(character if character.isprintable() else " " for character in str(text)[: 4 * limit])
    line = " ".join(line.split())
    return line if len(line) <= limit else f"{line[:limit]}…"


def count(value: object, most: int = MAX_COUNT) -> int:
    """The value as an integer from 0 to `most`; 0 if it is none, or out of range."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return int(value) if 0 <= value <= most else 0


def tokens(value: object) -> int:
    """The value as a number of tokens; 0 if it is not a credible one."""
    return count(value, MAX_TOKENS)


def json_value(value: object, depth: int = MAX_DEPTH) -> Any:
    """The value as JSON that can be stored and sent; parts that are not JSON become null or text."""
    match value:
        case None | bool():
            return value
        case str():
            return text(value)
        case int():
            return value if abs(value) <= 2**63 else float(value) if abs(value) < 10**300 else None
        case float():
            return value if math.isfinite(value) else None
        case dict() if depth > 0:
            return {text(key): json_value(item, depth - 1) for key, item in value.items()}
        case list() | tuple() if depth > 0:
            return [json_value(item, depth - 1) for item in value]
        case dict() | list() | tuple():
            return None
        case _:
            return text(str(value))


def json_text(value: object) -> str:
    """The JSON text, also free of escaped halves of surrogate pairs and of too deep nesting. Other texts than JSON stay
    as they are."""
    cleaned = text(value)
    if "\\u" not in cleaned and cleaned.count("[") + cleaned.count("{") <= MAX_DEPTH:
        return cleaned
    try:
        parsed = json.loads(cleaned)
    except RecursionError:
        return TOO_DEEP
    except ValueError:
        return cleaned
    if _depth(parsed) > MAX_DEPTH:
        return TOO_DEEP
    wanted = _texts_of(parsed)
    return cleaned if wanted == parsed else json.dumps(wanted)


def storable(value: T) -> T:
    """The entry, or another of our dataclasses, with each field of the type that is declared; itself if it is so
    already."""
    changed = {}
    kind: Any = type(value)
    for name, convert, _ in _converters(kind):
        before = getattr(value, name)
        after = convert(before)
        if after is not before:
            changed[name] = after
    return replace(value, **changed) if changed else value  # type: ignore[type-var]


def rebuilt_by_kind(kinds: Sequence[Any], data: object) -> Any | None:
    """The dataclass among `kinds` whose `kind` parsed JSON names, without having its form: what is broken or missing is
    replaced. None if it names none of them."""
    if not isinstance(data, dict):
        return None
    kind = next((kind for kind in kinds if _kind_of(kind) == data.get("kind")), None)
    return None if kind is None else _rebuilt(kind, data)


class TextJoiner:
    """Makes a streamed text storable piece by piece: half of a surrogate pair waits for the next piece."""

    def __init__(self) -> None:
        self._half = ""

    def add(self, piece: str) -> str:
        """What can be shown now."""
        joined = self._half + piece
        self._half = joined[-1:] if "\ud800" <= joined[-1:] <= "\udbff" else ""
        return text(joined[: len(joined) - len(self._half)])

    def clear(self) -> None:
        self._half = ""


# Conversions of fields, by their declared types

_Convert = Callable[[Any], Any]


@cache
def _converters(kind: Any) -> tuple[tuple[str, _Convert, bool], ...]:
    """Of each field its name, its conversion, and whether it has no default."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        (field.name, _converter(hints[field.name]), field.default is MISSING and field.default_factory is MISSING)
        for field in fields(kind)
    )


def _converter(hint: Any) -> _Convert:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return json_text if JSON_TEXT in arguments else _converter(arguments[0])
    if origin is Literal:
        return _one_of(arguments)
    if origin in (Union, UnionType):
        return _union(arguments)
    if origin is tuple:
        return _sequence(_converter(arguments[0]))
    if origin is dict:
        return _object
    if is_dataclass(hint):
        return _dataclass((hint,))
    return {str: _text, int: _integer, float: _number, bool: _flag}[hint]


def _text(value: object) -> str:
    return REPLACEMENT if value is None else text(value)


def _integer(value: object) -> int:
    is_count = type(value) is int and 0 <= value <= MAX_COUNT
    return value if is_count else count(value)  # type: ignore[return-value]


def _number(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_COUNT:
        return value
    return 0.0


def _flag(value: object) -> bool:
    return value is True


def _object(value: object) -> dict[str, Any]:
    cleaned = json_value(value)
    if not isinstance(cleaned, dict):
        return {}
    return value if cleaned == value else cleaned


def _one_of(options: tuple[Any, ...]) -> _Convert:
    fallback = next((name for name in ("unknown", "failed", "denied") if name in options), options[0])
    return lambda value: value if isinstance(value, str) and value in options else fallback


def _union(options: tuple[Any, ...]) -> _Convert:
    others = tuple(option for option in options if option is not NoneType)
    convert = _dataclass(others) if all(map(is_dataclass, others)) else _converter(others[0])
    if len(others) == len(options):
        return convert
    return lambda value: None if value is None else convert(value)


def _dataclass(kinds: tuple[Any, ...]) -> _Convert:
    def convert(value: object) -> object:
        if isinstance(value, kinds):
            return storable(value)
        return rebuilt_by_kind(kinds, value) or _rebuilt(kinds[0], value if isinstance(value, dict) else {})

    return convert


def _rebuilt(kind: Any, data: dict[str, Any]) -> Any:
    return kind(
        **{
            name: convert(data.get(name))
            for name, convert, is_required in _converters(kind)
            if is_required or data.get(name) is not None
        }
    )


@cache
def _kind_of(kind: Any) -> object:
    return next((field.default for field in fields(kind) if field.name == "kind"), kind)


def _sequence(convert: _Convert) -> _Convert:
    def convert_all(value: object) -> tuple[Any, ...]:
        items = value if isinstance(value, tuple | list) else ()
        converted = tuple(map(convert, items))
        same = isinstance(value, tuple) and all(map(lambda a, b: a is b, value, converted))
        return value if same else converted  # type: ignore[return-value]

    return convert_all


# Parts of JSON


def _as_json(value: object) -> str:
    try:
        return json.dumps(json_value(value), ensure_ascii=False)
    except RecursionError:
        return REPLACEMENT


def _depth(value: object, limit: int = MAX_DEPTH + 1) -> int:
    """The levels of nested objects and arrays, counted up to `limit`."""
    if limit == 0 or not isinstance(value, dict | list):
        return 0
    items = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(item, limit - 1) for item in items), default=0)


def _texts_of(value: Any) -> Any:
    """The JSON value with its texts cleaned and nothing else changed."""
    match value:
        case str():
            return text(value)
        case dict():
            return {text(key): _texts_of(item) for key, item in value.items()}
        case list():
            return [_texts_of(item) for item in value]
        case _:
            return value
