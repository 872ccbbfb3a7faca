"""Reads JSON as models write it: the mistakes whose meaning is certain are mended, others are not guessed at."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from agent.gate import json_text, json_value, text

MAX_MENDED = 100_000
"""Characters of a text that is not JSON up to which mending it is tried."""

_STRICT = json.JSONDecoder()
_LINE_BREAKS_IN_STRINGS = json.JSONDecoder(strict=False)
_FENCE = "```"
_LANGUAGE = re.compile(r"\w*")
_COMMA_BEFORE_END = re.compile(r'("(?:[^"\\]|\\.)*+(?:"|\\?\Z))|,(?=\s*[}\]])', re.DOTALL)


def json_object(written: str) -> dict[str, Any] | None:
    """The object; None if it is none, or not with certainty. Trailing commas, literals of Python, line breaks in
    strings, a code fence around it and JSON within a JSON string are understood; nothing written is no arguments."""
    if not written.strip():
        return {}
    value = json_of(written)
    for _ in range(2):
        if not isinstance(value, str):
            break
        value = json_of(value)
    if isinstance(value, dict):
        return value
    return {} if _is_null(written) else None


def json_of(written: str) -> Any | None:
    """The value that the text is, alone; None if it is not one, or null."""
    stripped = written.strip()
    for decoder in (_STRICT, _LINE_BREAKS_IN_STRINGS):
        try:
            return decoder.decode(stripped)
        except RecursionError:
            return None
        except ValueError:
            pass
    return _mended(stripped) if len(stripped) <= MAX_MENDED else None


def first_json(written: str, position: int = 0) -> tuple[Any, int] | None:
    """The object or array that begins at the position, and where it ends; None if there is none."""
    if not written.startswith(("{", "["), position):
        return None
    try:
        return _LINE_BREAKS_IN_STRINGS.raw_decode(written, position)
    except (ValueError, RecursionError):
        return None


def arguments_text(written: str) -> str:
    """The arguments of a call as the text of a JSON object; as they were written if they are not one with certainty."""
    try:
        if isinstance(_STRICT.decode(written), dict):
            return json_text(written)
    except (ValueError, RecursionError):
        pass
    found = json_object(written)
    return text(written) if found is None else dumped(found)


def written_text(arguments: object) -> str:
    """Arguments as a server sends them, which may be an object in place of its text."""
    return arguments if isinstance(arguments, str) else "" if arguments is None else dumped(arguments)


def dumped(value: Any) -> str:
    return json.dumps(json_value(value), ensure_ascii=False)


def _is_null(written: str) -> bool:
    return written.strip().strip("\"'") in ("null", "None", "undefined")


def _mended(stripped: str) -> Any | None:
    if stripped.startswith(_FENCE) and stripped.endswith(_FENCE) and len(stripped) > 2 * len(_FENCE):
        return json_of(_LANGUAGE.sub("", stripped[len(_FENCE) : -len(_FENCE)], count=1))
    try:
        return _LINE_BREAKS_IN_STRINGS.decode(_COMMA_BEFORE_END.sub(lambda found: found[1] or "", stripped))
    except RecursionError:
        return None
    except ValueError:
        pass
    try:
        value = ast.literal_eval(stripped)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
    return value if isinstance(value, dict | list | str) and _has_json_keys(value) else None


def _has_json_keys(value: object) -> bool:
    """Whether a literal of Python is one that JSON has too: no sets, bytes or tuples, and texts as keys."""
    match value:
        case dict():
            return all(isinstance(key, str) and _has_json_keys(item) for key, item in value.items())
        case list():
            return all(map(_has_json_keys, value))
        case _:
            return value is None or isinstance(value, str | bool | int | float)
