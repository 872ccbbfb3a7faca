"""Reads the file and the environment into one tree, and remembers where each key was written."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from config.errors import ConfigurationError, Key, Problem
from config.schema import Table

PREFIX = "INTERJECT_"
RESERVED = frozenset({"INTERJECT_HOME", "INTERJECT_CONFIG", "INTERJECT_TOKEN"})

_TYPOGRAPHIC_QUOTE = re.compile("[\u2018-\u201f\u00ab\u00bb]")

_MAY_BEGIN = re.compile(r"""\s*($|\#|\[|["'].*=|[\w-]+\s*[=.])""")
"""A line that may begin a header or a setting. Most lines inside a long value cannot, and need not be tried."""


@dataclass(frozen=True, slots=True)
class Written:
    """`variables` maps keys to their environment variable; every other key is from the file."""

    tree: Table
    file: Path | None
    text: str
    variables: Mapping[Key, str]
    problems: tuple[Problem, ...]

    def base(self, key: Key) -> Path:
        """The directory that a relative path at `key` is relative to."""
        return self.file.parent.absolute() if self.file and key not in self.variables else Path.cwd()

    def lines(self) -> Mapping[Key, int]:
        """The line of each table and setting in the file. Parses the file again: call it only after an error."""
        return _lines(self.text)


def read(file: Path | None, environ: Mapping[str, str]) -> Written:
    """Reads the file, then applies environment variables. Raises ConfigurationError if the file is not TOML."""
    text = _text(file) if file else ""
    tree = _parsed(text, file)
    variables: dict[Key, str] = {}
    problems: list[Problem] = []
    for variable in sorted(name for name in environ if name.startswith(PREFIX) and name not in RESERVED):
        key = _set(tree, variable.removeprefix(PREFIX).lower().split("__"), environ[variable])
        if key is None:
            problems.append(Problem("its parent is not a section", place=f"environment variable {variable}"))
        else:
            variables[key] = variable
    return Written(tree, file, text, variables, tuple(problems))


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError([Problem("not UTF-8 text. Save the file as UTF-8", place=f"{file}:{line}")]) from None
    except OSError as error:
        raise ConfigurationError([Problem(f"cannot be read: {error.strerror}", place=str(file))]) from None


def _parsed(text: str, file: Path | None) -> Table:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigurationError([Problem("nested too deeply", place=str(file))]) from None
    except ValueError as error:
        # The parser's error contains the whole document with its secrets: it must not be shown as the cause.
        raise ConfigurationError([_syntax_problem(str(error), text, file)]) from None


def _syntax_problem(message: str, text: str, file: Path | None) -> Problem:
    error = re.fullmatch(
        r"(?P<wrong>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", message, re.DOTALL
    )
    if error is None:
        return Problem(f"not TOML: {message}", place=str(file))
    line = int(error["line"] or text.rstrip("\n").count("\n") + 1)
    rest = text.split("\n")[line - 1][int(error["column"]) - 1 :] if error["column"] else ""
    return Problem(f"not TOML: {_explained_syntax(error['wrong'], rest.strip())}", place=f"{file}:{line}")


def _explained_syntax(wrong: str, rest: str) -> str:
    """The parser's words, and what to write instead. `rest` is the line from where it is wrong, which is not repeated:
    it may be a secret."""
    if twice := re.fullmatch(r"Cannot declare \((?P<names>.*)\) twice", wrong):
        section = ".".join(re.findall(r"[^',\s]+", twice["names"]))
        return f"the section [{section}] is there twice. Put its settings together"
    if wrong == "Cannot overwrite a value":
        return f"{wrong}: a setting is there twice"
    if wrong == "Expected '=' after a key in a key/value pair":
        return f"{wrong}. A setting is written name = value"
    if wrong in ("Invalid hex value", "Unescaped '\\' in a string"):
        return f"{wrong}. For a backslash in the text, put the text in single quotes: '…'"
    if wrong != "Invalid value" or not rest:
        return wrong
    if _TYPOGRAPHIC_QUOTE.match(rest):
        return f'{wrong}. These quotes are typographic ones: write "…"'
    if re.match(r"(true|false)\b", rest, re.IGNORECASE):
        return f"{wrong}. Write true or false, in small letters"
    return f'{wrong}. Text is written in quotes: "…"' if rest[0] not in "#=]," else wrong


def _set(tree: Table, path: list[str], text: str) -> Key | None:
    """Sets one value and creates the tables around it. None if a value is in the place of such a table."""
    table, key = tree, []
    for name in path[:-1]:
        key.append(_same_name(table, name))
        inner = table.setdefault(key[-1], {})
        if not isinstance(inner, dict):
            return None
        table = inner
    key.append(_same_name(table, path[-1]))
    table[key[-1]] = text
    return tuple(key)


def _same_name(table: Table, name: str) -> str:
    """The name as spelled in the file: a variable cannot tell Work-Slack from work_slack."""
    return next((known for known in table if known.lower().replace("-", "_") == name), name)


def _lines(text: str) -> dict[Key, int]:
    lines: dict[Key, int] = {}
    header: Key = ()
    newest: dict[Key, int] = {}
    for number, statement in _statements(text):
        tree = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            header = _opened(tree, newest)
            keys = [header[:depth] for depth in range(1, len(header) + 1)]
        else:
            keys = [header + key for key in _keys(tree)]
        for key in keys:
            lines.setdefault(key, number)
    return lines


def _opened(tree: object, newest: dict[Key, int]) -> Key:
    """The key of the table that a header opens. `newest` is the index of the newest table of each [[list]] of them.

    A header is read as a tree of one branch: [a.b] as {"a": {"b": {}}}, [[a]] as {"a": [{}]}.
    """
    key: Key = ()
    while isinstance(tree, dict) and tree:
        ((name, tree),) = tree.items()
        key += (name,)
        if isinstance(tree, list):
            newest[key] = newest.get(key, -1) + 1
        if key in newest:
            key += (newest[key],)
    return key


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The document in pieces of one header or setting each: lines are joined until they are valid TOML."""
    lines = [*text.split("\n"), ""]
    statement, start = "", 1
    for number, (line, following) in enumerate(pairwise(lines), start=1):
        statement += line + "\n"
        if _MAY_BEGIN.match(following) and _is_toml(statement):
            yield start, statement
            statement, start = "", number + 1


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _keys(value: object, above: Key = ()) -> Iterator[Key]:
    match value:
        case dict():
            inside = [*value.items()]
        case list():
            inside = [*enumerate(value)]
        case _:
            return
    for name, inner in inside:
        yield (*above, name)
        yield from _keys(inner, (*above, name))
