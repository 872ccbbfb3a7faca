"""Reads calls that a model has written into its text, in the notations of the templates that models are trained on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agent.models.protocols.lenient_json import arguments_text, dumped, first_json, json_of

UNREADABLE = "unreadable_call"
"""The name of a call whose name cannot be read: it is answered as an unknown tool, and the model may call anew."""

MAX_PYTHON = 20_000
"""Characters of calls written in Python up to which they are parsed."""

# The bars in the special tokens of one family of models are full width.
_BAR = "\N{FULLWIDTH VERTICAL LINE}"
_NAME = r"[\w.:/-]{1,128}"
_TOKEN_CALL = re.compile(rf"\s*<(?:\|tool_call_begin\||{_BAR}tool▁call▁begin{_BAR})>")
_TOKEN_ARGUMENTS = re.compile(rf"<(?:\|tool_call_argument_begin\||{_BAR}tool▁sep{_BAR})>")
_TOKEN_END = re.compile(rf"\s*(?:<(?:\|tool_call_end\||{_BAR}tool▁call▁end{_BAR})>|\Z)")
_TYPE_AND_NAME = re.compile(rf"({_NAME})\s*(?:```(?:json)?\s*)?(?=\{{)")
_FENCE_END = re.compile(r"\s*```")
_NAMESPACE = rf"(?:[\w-]+:|{_BAR}DSML{_BAR})?"
_XML_CALL = re.compile(rf"""\s*<{_NAMESPACE}(?:function=|invoke\s+name=)["']?([^"'>\s]{{1,128}})["']?\s*>\s*""")
_XML_CALL_END = re.compile(rf"\s*</{_NAMESPACE}(?:function|invoke)>")
_XML_PARAMETER = re.compile(rf"""\s*<{_NAMESPACE}parameter(?:=|\s+name=)["']?([^"'>\s]{{1,128}})["']?([^>]*)>""")
_XML_PARAMETER_END = re.compile(rf"</{_NAMESPACE}parameter>")
_ARG_KEY = re.compile(r"\s*<arg_key>\s*([^<]{1,128}?)\s*</arg_key>\s*<arg_value>")
_ARG_VALUE_END = "</arg_value>"
_BLANK = re.compile(r"\s*")
_NAMED_CALL = re.compile(rf"\s*(?:call:)?({_NAME}?)\s*(?:\[CALL_ID\]\w*)?\s*(?:\[ARGS\])?\s*(?=\{{)")
_NAME_IN_JSON = re.compile(r"""["'](?:name|tool_name)["']\s*:\s*["']([^"']{1,128})["']""")
_NAME_ANYWHERE = re.compile(rf"(?:function=|invoke name=|name=)[\"']?({_NAME})|\A\s*(?:call:)?({_NAME})\s*[\[{{(<]")
_NAME_KEYS = ("name", "tool_name", "tool", "recipient_name")
_ARGUMENTS_KEYS = ("arguments", "parameters", "args", "input")
_BETWEEN = re.compile(
    rf"(?:[\s,;]|</?{_NAMESPACE}(?:tool|function)_?calls?>|\[TOOL_CALLS\]|\[TOOL_REQUEST\]|\[END_TOOL_REQUEST\])*",
    re.IGNORECASE,
)
"""What may be between two calls."""


@dataclass(frozen=True, slots=True)
class RawCall:
    """A call as it was written; `arguments` is the text of a JSON object, if they could be read."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Found:
    """The calls at the beginning of a text, and the text after them."""

    calls: tuple[RawCall, ...]
    rest: str = ""


def raw_calls(written: str) -> Found | None:
    """The calls that the text consists of, in any notation; None if they are not certain."""
    content = written[_next_call(written, 0) :].strip()
    for read in (_in_json, _in_tokens, _in_xml, _in_keys_and_values, _after_names, _in_python):
        if (found := read(content)) is not None:
            return found
    return None


def _next_call(content: str, position: int) -> int:
    """Where the next call may begin: after what may be between two."""
    between = _BETWEEN.match(content, position)
    return position if between is None else between.end()


def unreadable_call(written: str) -> RawCall:
    """The call, as far as it can be read: what runs tools says what is wrong with it."""
    content = written.strip()
    found = _NAME_IN_JSON.search(content) or _NAME_ANYWHERE.search(content)
    name = next((name for name in found.groups() if name), UNREADABLE) if found else UNREADABLE
    return RawCall(name, content)


def _in_json(content: str) -> Found | None:
    """`{"name": …, "arguments": {…}}`, several of them, or a list."""
    calls: list[RawCall] = []
    position = 0
    while (first := first_json(content, position)) is not None:
        value, end = first
        found = [_json_call(item) for item in (value if isinstance(value, list) else [value])]
        read = [call for call in found if call is not None]
        if not read or len(read) < len(found):
            return None
        calls += read
        position = _next_call(content, end)
    if calls:
        return Found(tuple(calls), content[position:])
    value = json_of(content) if content.startswith(("{", "[", "`")) else None
    found = [_json_call(item) for item in (value if isinstance(value, list) else [value])]
    read = [call for call in found if call is not None]
    return Found(tuple(read)) if read and len(read) == len(found) else None


def _json_call(value: Any) -> RawCall | None:
    if not isinstance(value, dict):
        return None
    function = value.get("function")
    if isinstance(function, dict):
        return _json_call(function)
    name = next((value[key] for key in _NAME_KEYS if isinstance(value.get(key), str)), function)
    given = next((value[key] for key in _ARGUMENTS_KEYS if key in value), None)
    if not isinstance(name, str) or not name.strip():
        return None
    if isinstance(given, str):
        return RawCall(name, arguments_text(given))
    return RawCall(name, dumped(given if given is not None else {}))


def _in_tokens(content: str) -> Found | None:
    """Special tokens around name and arguments, as Kimi and DeepSeek write them."""
    calls: list[RawCall] = []
    position = 0
    while (beginning := _TOKEN_CALL.match(content, position)) is not None:
        separator = _TOKEN_ARGUMENTS.search(content, beginning.end())
        if separator is None:
            return None
        name, position = content[beginning.end() : separator.start()].strip(), separator.end()
        if (named := _TYPE_AND_NAME.match(content, position)) is not None:
            name, position = named[1], named.end()
        arguments = _object_at(content, position)
        if arguments is None or not name:
            return None
        position = arguments[1]
        for after in (_FENCE_END, _TOKEN_END):
            position = found.end() if (found := after.match(content, position)) is not None else position
        calls.append(RawCall(name, dumped(arguments[0])))
    return Found(tuple(calls), content[position:].strip()) if calls else None


def _object_at(content: str, position: int) -> tuple[dict[str, Any], int] | None:
    """The JSON object that begins here, and where it ends."""
    blank = _BLANK.match(content, position)
    first = first_json(content, position if blank is None else blank.end())
    return None if first is None or not isinstance(first[0], dict) else first


def _in_xml(content: str) -> Found | None:
    """`<function=NAME>` or `<invoke name="NAME">` with a parameter in an element each, or with JSON."""
    calls: list[RawCall] = []
    position = 0
    while (beginning := _XML_CALL.match(content, position)) is not None:
        arguments = _xml_arguments(content, beginning.end())
        if arguments is None:
            return None
        calls.append(RawCall(beginning[1], dumped(arguments[0])))
        position = arguments[1]
        end = _XML_CALL_END.match(content, position)
        if end is None and content[position:].strip():
            return None
        position = len(content) if end is None else end.end()
    return Found(tuple(calls), content[position:].strip()) if calls else None


def _xml_arguments(content: str, position: int) -> tuple[dict[str, Any], int] | None:
    """The parameters from here, and where they end. Without its end the last one may be cut off."""
    if content.startswith("{", position):
        return _object_at(content, position)
    parameters: dict[str, Any] = {}
    while (beginning := _XML_PARAMETER.match(content, position)) is not None:
        end = _XML_PARAMETER_END.search(content, beginning.end())
        if end is None:
            return None
        parameters[beginning[1]] = _xml_value(beginning[2], content[beginning.end() : end.start()])
        position = end.end()
    return parameters, position


def _xml_value(attributes: str, value: str) -> Any:
    """The text, without the line breaks around it; JSON where the element says that it is no text."""
    shown = value.removeprefix("\n").removesuffix("\n")
    if 'string="false"' in attributes:
        parsed = json_of(shown)
        return shown if parsed is None else parsed
    return shown


def _in_keys_and_values(content: str) -> Found | None:
    """A name, then `<arg_key>` and `<arg_value>` by turns."""
    name = re.match(_NAME, content)
    if name is None:
        return None
    position, arguments = name.end(), dict[str, Any]()
    while (key := _ARG_KEY.match(content, position)) is not None:
        end = content.find(_ARG_VALUE_END, key.end())
        if end < 0:
            return None
        arguments[key[1]] = content[key.end() : end]
        position = end + len(_ARG_VALUE_END)
    return Found((RawCall(name[0], dumped(arguments)),), content[position:].strip()) if arguments else None


def _after_names(content: str) -> Found | None:
    """`NAME{…}` or `NAME[ARGS]{…}`, several of them."""
    calls: list[RawCall] = []
    position = 0
    while (found := _NAMED_CALL.match(content, position)) is not None:
        first = first_json(content, found.end())
        if first is None or not isinstance(first[0], dict):
            return None
        calls.append(RawCall(found[1], dumped(first[0])))
        position = _next_call(content, first[1])
    return Found(tuple(calls), content[position:]) if calls else None


def _in_python(content: str) -> Found | None:
    """`[name(key="value"), …]`, or statements of which each is a call; only arguments with keys and literal values."""
    if len(content) > MAX_PYTHON or "(" not in content:
        return None
    try:
        statements = ast.parse(content).body
        calls = tuple(call for statement in statements for call in _python_calls(statement))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
    return Found(calls) if calls else None


def _python_calls(statement: ast.stmt) -> Iterator[RawCall]:
    """The calls of a statement. Raises `ValueError` if it is anything else too."""
    match statement:
        case ast.Expr(value=ast.List(elts=elements)):
            expressions = elements
        case ast.Expr(value=ast.Call(func=ast.Name(id="print"), args=arguments, keywords=[])):
            expressions = arguments
        case ast.Expr(value=value) | ast.Assign(value=value):
            expressions = [value]
        case _:
            raise ValueError("not a call")
    for expression in expressions:
        if not isinstance(expression, ast.Call) or expression.args:
            raise ValueError("not a call with keys")
        values = {each.arg: ast.literal_eval(each.value) for each in expression.keywords if each.arg is not None}
        if len(values) < len(expression.keywords):
            raise ValueError("not a call with keys")
        # `name.call(…)` is how some models call the tools that they know from their training.
        yield RawCall(ast.unparse(expression.func).removesuffix(".call"), dumped(values))
