"""Why settings are refused, in the words and at the place of the person who wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import assert_never, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.errors import Fault, Key, Problem, Unknown, did_you_mean, dotted, nearest
from config.schema import Table, kind_at, known_sections, known_settings, names_within
from config.written import PREFIX, Written

_EXPECTED = {
    "bool_type": "expected true or false",
    "dict_type": "expected a section, not a single value",
    "int_from_float": "expected a whole number",
    "int_type": "expected a whole number",
    "list_type": 'expected a list, like ["…"]',
    "model_type": "expected a section, not a single value",
    "path_type": "expected a path in quotes",
    "string_too_short": "is empty",
    "string_type": "expected text in quotes",
    "too_short": "is empty",
}


def explained(error: ValidationError, tree: Table, besides: Sequence[Fault]) -> list[Fault | Unknown]:
    """What the models refuse, without what is already told `besides`."""
    told = {fault.key for fault in besides}
    refused = [_explained(details, tree) for details in error.errors(include_url=False)]
    return [fault for fault in refused if fault.key not in told]


def located(faults: Iterable[Fault | Unknown], written: Written) -> list[Problem]:
    """The faults as problems, each with the place where the operator finds it, in the order of the file."""
    lines = written.lines()
    problems: list[Problem] = []
    for fault in sorted(faults, key=lambda fault: _line(fault.key, written, lines)):
        match fault:
            case Unknown(key):
                problems += _unknown(key, written, lines)
            case Fault(key, wrong):
                problems.append(_problem(key, wrong, written, lines))
            case _:
                assert_never(fault)
    return problems


def _explained(details: ErrorDetails, tree: Table) -> Fault | Unknown:
    key, context = details["loc"], details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden":
            return Unknown(key)
        case "literal_error" if key[-1] == "[key]":
            return Unknown(key[:-1])
        case "literal_error":
            choices = [str(choice) for choice in get_args(kind_at(key, tree))]
            return Fault(key, f"not one of the choices. {did_you_mean(str(details['input']), choices)}")
        case "missing":
            return Fault(key, "is missing")
        case "greater_than_equal":
            return Fault(key, f"expected {context['ge']} or more")
        case "less_than_equal":
            return Fault(key, f"expected {context['le']} or less")
        case "wrong":
            return Fault(context.get("at", key), context["explanation"])
        case kind:
            return Fault(key, _EXPECTED.get(kind, details["msg"]))


def _problem(key: Key, wrong: str, written: Written, lines: Mapping[Key, int]) -> Problem:
    """The place is that of the key itself, else of the nearest table around it."""
    named = _named(key)
    for depth in range(len(named), 0, -1):
        above = named[:depth]
        if above == named and above in written.variables:
            return Problem(wrong, _index(key), f"environment variable {written.variables[above]}")
        if above in lines:
            return Problem(wrong, dotted(key), f"{written.file}:{lines[above]}")
        if variables := _variables_within(above, written):
            return Problem(wrong, dotted(key), f"environment variable {variables[0]}")
    return Problem(wrong, dotted(key))


def _unknown(key: Key, written: Written, lines: Mapping[Key, int]) -> Iterator[Problem]:
    """One problem for each place that speaks of the key: the file, and any number of variables."""
    if key in lines:
        hint = _nearest_setting(key, written.tree)
        yield Problem(f"no such setting. {hint}", dotted(key), f"{written.file}:{lines[key]}")
    for variable in _variables_within(key, written):
        near = nearest(variable, [PREFIX + "__".join(known).upper() for known in known_settings()])
        hint = f" Did you mean {near}?" if near else ""
        yield Problem(f"no such setting.{hint}", place=f"environment variable {variable}")


def _nearest_setting(key: Key, tree: Table) -> str:
    """A name that may stand in the same table; else a setting or section of that name elsewhere."""
    name, siblings = str(key[-1]), names_within(key[:-1], tree)
    elsewhere = [*known_settings(), *(section.key for section in known_sections())]
    namesakes = [dotted(known) for known in elsewhere if known[-1] == name]
    if namesakes and not nearest(name, siblings):
        return f'Did you mean "{namesakes[0]}"?'
    return did_you_mean(name, siblings)


def _line(key: Key, written: Written, lines: Mapping[Key, int]) -> int:
    """The line of the key or of the nearest table around it; 0 for what comes from the environment."""
    if _variables_within(_named(key), written):
        return 0
    return next((lines[key[:depth]] for depth in range(len(key), 0, -1) if key[:depth] in lines), 0)


def _variables_within(key: Key, written: Written) -> list[str]:
    return [variable for known, variable in written.variables.items() if known[: len(key)] == key]


def _named(key: Key) -> Key:
    """The key without the index in a list: the list is what stands in the file."""
    return tuple(part for part in key if isinstance(part, str))


def _index(key: Key) -> str:
    return dotted(tuple(part for part in key if isinstance(part, int)))
