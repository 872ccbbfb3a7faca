"""Explains why settings are invalid, with the place where each was written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import assert_never, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.errors import Fault, Key, Problem, Unknown, did_you_mean, dotted, nearest
from config.schema import Table, hook_types_with, kind_at, known_sections, known_settings, names_within
from config.written import PREFIX, Written

_EXPECTED = {
    "bool_type": "expected true or false",
    "dict_type": "expected a section, not a single value",
    "finite_number": "expected a number",
    "float_type": "expected a number",
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
    """The faults that pydantic found, without keys reported `besides` and without faults inside unknown keys."""
    reported = {fault.key for fault in besides}
    refused = [_explained(details, tree) for details in error.errors(include_url=False)]
    unknown = {fault.key for fault in refused if isinstance(fault, Unknown)}
    return [
        fault
        for fault in refused
        if fault.key not in reported
        and not any(fault.key[:depth] in unknown for depth in range(len(fault.key) + isinstance(fault, Fault)))
    ]


def located(faults: Iterable[Fault | Unknown], tree: Table, written: Written) -> list[Problem]:
    """The faults as problems with file and line or environment variable, in the order of the file."""
    lines = written.lines()
    problems: list[Problem] = []
    for fault in sorted(faults, key=lambda fault: _line(fault.key, written, lines)):
        match fault:
            case Unknown(key):
                problems += _unknown(key, tree, written, lines)
            case Fault(key, wrong):
                problems.append(_problem(key, wrong, written, lines))
            case _:
                assert_never(fault)
    return problems


def _explained(details: ErrorDetails, tree: Table) -> Fault | Unknown:
    key, context = details["loc"], details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden" if types := _types_of_hooks_with(key):
            return Fault(key, f"only available for hooks of type {' and '.join(types)}")
        case "extra_forbidden" if len(key) == 3 and key[0] == "tools" and key[2] == "path":
            return Fault(key, f"{key[1]} is a built-in tool. Give the section of your own tool another name")
        case "extra_forbidden":
            return Unknown(key)
        case "model_type" if key[0] == "models" and kind_at(key, tree) is None:
            return Unknown(key)
        case "literal_error" if kind_at(key, tree) is None:
            return Unknown(key)
        case "literal_error":
            choices = [str(choice) for choice in get_args(kind_at(key, tree))]
            return Fault(key, f"not one of the choices. {did_you_mean(str(details['input']), choices)}")
        case "missing":
            return Fault(key, "is missing")
        case "greater_than_equal":
            return Fault(key, f"expected {context['ge']:g} or more")
        case "greater_than":
            return Fault(key, f"expected more than {context['gt']:g}")
        case "less_than_equal":
            return Fault(key, f"expected {context['le']:g} or less")
        case "list_type" if key == ("hooks",):
            return Fault(key, "expected a list of sections: [[hooks]] in the file, or JSON in INTERJECT_HOOKS")
        case "wrong":
            # Pydantic's mark of a key that is wrong itself.
            own = key[:-1] if key[-1:] == ("[key]",) else key
            return Fault(context.get("at", own), context["explanation"])
        case kind:
            return Fault(key, _EXPECTED.get(kind, details["msg"]))


def _types_of_hooks_with(key: Key) -> list[str]:
    return hook_types_with(str(key[2])) if len(key) == 3 and key[0] == "hooks" else []


def _problem(key: Key, wrong: str, written: Written, lines: Mapping[Key, int]) -> Problem:
    """Its place: the variable that holds the key, else the line of the key or of the nearest table around it."""
    if (holder := _holder(key, written)) is not None:
        return Problem(wrong, dotted(key[len(holder) :]), f"environment variable {written.variables[holder]}")
    for depth in range(len(key), 0, -1):
        above = key[:depth]
        if above in lines:
            return Problem(wrong, dotted(key), f"{written.file}:{lines[above]}")
        if variables := _variables_within(above, written):
            return Problem(wrong, dotted(key), f"environment variable {variables[0]}")
    return Problem(wrong, dotted(key))


def _unknown(key: Key, tree: Table, written: Written, lines: Mapping[Key, int]) -> Iterator[Problem]:
    """One problem for each place that names the key: the file, and each environment variable."""
    variables = _variables_within(key, written)
    if key in lines or not variables:
        yield _problem(key, f"no such setting. {_nearest_setting(key, tree)}", written, lines)
    for variable in variables:
        near = nearest(variable.removeprefix(PREFIX), ["__".join(known).upper() for known in known_settings()])
        hint = f" Did you mean {PREFIX}{near}?" if near else ""
        yield Problem(f"no such setting.{hint}", place=f"environment variable {variable}")


def _nearest_setting(key: Key, tree: Table) -> str:
    """A hint: a name known in the same table, else a setting or section of that name elsewhere."""
    name, siblings = str(key[-1]), names_within(key[:-1], tree)
    elsewhere = [*known_settings(), *(section.key for section in known_sections())]
    same_name = [dotted(known) for known in elsewhere if known[-1] == name]
    if same_name and not nearest(name, siblings):
        return f'Did you mean "{same_name[0]}"?'
    return did_you_mean(name, siblings)


def _line(key: Key, written: Written, lines: Mapping[Key, int]) -> int:
    """The line of the key or of the nearest table around it; 0 if it comes from the environment."""
    if _holder(key, written) is not None or _variables_within(key, written):
        return 0
    return next((lines[key[:depth]] for depth in range(len(key), 0, -1) if key[:depth] in lines), 0)


def _variables_within(key: Key, written: Written) -> list[str]:
    return [variable for known, variable in written.variables.items() if known[: len(key)] == key]


def _holder(key: Key, written: Written) -> Key | None:
    """The key whose variable holds the value at `key`: the key itself, or the list around it."""
    return next((key[:depth] for depth in range(1, len(key) + 1) if key[:depth] in written.variables), None)
