"""Elicitation: a server asks the person while a call of theirs runs (https://modelcontextprotocol.io, elicitation).

A form is asked field by field; its fields are texts, numbers, booleans and choices. What looks like a secret is
declined: the specification forbids servers to ask for one in a form.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitRequestURLParams, ElicitResult

from agent.decisions.approvals import visible
from agent.decisions.input_requests import CANCEL, DECLINE, chosen_option
from agent.gate import one_line
from agent.log import InputKind
from agent.mcp.errors import McpError
from agent.mcp.http import is_safe_page
from agent.mcp.schemas import BadSchema, usable_schema
from agent.tool import ToolContext, ToolError

log = logging.getLogger(__name__)

MAX_FIELDS = 20
MAX_CHOICES = 100

MAX_BUTTONS = 8
"""Choices that have buttons; more are listed."""

MAX_ATTEMPTS = 5
"""Answers to one field. After that nothing is given."""

MAX_MESSAGE = 1500
"""Characters of what the server says that are shown."""

DONE, SKIP = "Done", "Skip"
YES, NO = "Yes", "No"

SECRET = "it asks for {field}. Servers must not ask for passwords, keys or other secrets in a form, so that is declined"

_SECRET = re.compile(
    r"pass(word|wd|phrase|code)|secret|token|credential|api.?key|private.?key|\bpin\b|\bcvv\b|\bcvc\b|card.?number"
    r"|\botp\b|one.?time.?code|\bssn\b|seed.?phrase",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_MARKUP = re.compile(r"([\\`*_\[\]<>#~|])")

Action = Literal["decline", "cancel"]
Value = str | int | float | bool | list[str]


class _Ended(Exception):
    """The person does not give what is asked for."""

    def __init__(self, action: Action) -> None:
        super().__init__(action)
        self.action: Action = action


async def elicited(server: str, params: ElicitRequestParams, context: ToolContext) -> ElicitResult:
    """What the person of this call's turn answers the server. Raises `McpError` with why nobody is asked."""
    try:
        if isinstance(params, ElicitRequestURLParams):
            return await _page_opened(server, params, context)
        return await _form_filled(server, params, context)
    except _Ended as ended:
        return ElicitResult(action=ended.action)
    except ToolError as error:
        raise McpError(str(error)) from error


async def _page_opened(server: str, params: ElicitRequestURLParams, context: ToolContext) -> ElicitResult:
    """The whole address is shown, because people must see where it leads."""
    url = params.url
    if not is_safe_page(url) or re.search(r"[\s<>\x00-\x20]", url):
        raise McpError("the page that people are to open is not at an https address")
    if context.in_group:
        # Whoever opens it first would answer in the name of the one who is asked.
        log.info("MCP server %s: a page for one person is not shown in a group", server)
        return ElicitResult(action="decline")
    host = _plain(urlsplit(url).hostname or "")
    question = f"**{server}** asks you to open a page of **{host}**: <{url}>\n\n{_quoted(params.message)}"
    while True:
        said = await _ask(context, question, (DONE, DECLINE, CANCEL), "options")
        if said == DONE:
            return ElicitResult(action="accept")


async def _form_filled(server: str, params: ElicitRequestFormParams, context: ToolContext) -> ElicitResult:
    fields = _fields(params.requested_schema)
    secret = _secret(fields, params.message)
    if secret:
        reason = SECRET.format(field=one_line(secret, 60))
        log.warning("MCP server %s: %s", server, reason)
        await context.progress(reason)
        return ElicitResult(action="decline")
    begin = f"**{server}** asks:\n\n{_quoted(params.message)}"
    if not fields:
        await _ask(context, begin, (YES, DECLINE, CANCEL), "options")
        return ElicitResult(action="accept", content={})
    content: dict[str, Any] = {}
    for number, field in enumerate(fields):
        value = await _field_filled(context, field, begin if number == 0 else f"**{server}** asks:")
        if value is not None:
            content[field.name] = value
    return ElicitResult(action="accept", content=content)


def _secret(fields: Sequence[Field], message: str) -> str:
    """The first secret that people would have to write; "" if there is none."""
    named = next((field.label for field in fields if field.is_secret), "")
    found = _SECRET.search(message) if any(field.takes == "text" for field in fields) else None
    return named or ("" if found is None else found.group())


async def _field_filled(context: ToolContext, field: Field, begin: str) -> Value | None:
    """The valid value; None if the person leaves it out. Raises `_Ended`."""
    reason = ""
    for _ in range(MAX_ATTEMPTS):
        question = "\n\n".join(filter(None, (begin, field.question, reason and f"⚠️ {reason}")))
        said = await _ask(context, question, field.options, field.takes)
        if not field.required and chosen_option((SKIP,), said):
            return field.default
        try:
            return field.value(said)
        except ValueError as error:
            reason = str(error)
    raise _Ended("cancel")


async def _ask(context: ToolContext, question: str, options: Sequence[str], takes: InputKind) -> str:
    """What the person says. Raises `_Ended`."""
    ended = await context.ask_person(question, options, takes)
    match ended.outcome:
        case "expired":
            raise _Ended("decline")
        case "dropped":
            raise _Ended("cancel")
        case "given":
            chosen = chosen_option((DECLINE, CANCEL), ended.text)
            if chosen is not None:
                raise _Ended("decline" if chosen == DECLINE else "cancel")
            return ended.text.strip()


# Fields


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a form. `choices` are its values by what people see; `many`: several may be chosen."""

    name: str
    kind: Literal["string", "number", "integer", "boolean"]
    title: str
    about: str
    required: bool
    default: Value | None
    choices: Mapping[str, str]
    many: bool
    rules: Mapping[str, Any]

    @property
    def label(self) -> str:
        return self.title or self.name

    @property
    def is_secret(self) -> bool:
        if self.kind == "boolean" or self.choices:
            return False
        words = (self.name, self.title, self.about)
        return self.rules.get("format") == "password" or any(_SECRET.search(_words(each)) for each in words)

    @property
    def takes(self) -> InputKind:
        if self.kind in ("number", "integer"):
            return "number"
        return "options" if self._buttons else "text"

    @property
    def _buttons(self) -> tuple[str, ...]:
        if self.kind == "boolean":
            return (YES, NO)
        return () if self.many or len(self.choices) > MAX_BUTTONS else tuple(self.choices)

    @property
    def options(self) -> tuple[str, ...]:
        return (*self._buttons, *(() if self.required else (SKIP,)), DECLINE, CANCEL)

    @property
    def question(self) -> str:
        lines = [f"**{_plain(self.label)}**" + (f": {_plain(self.about)}" if self.about else "")]
        if self.choices and not self._buttons:
            lines.append(f"One of: {_plain(', '.join(self.choices))}" if not self.many else self._many_of)
        if not self.required:
            given = "" if self.default is None else f"; without an answer it is {_plain(str(self.default))}"
            lines.append(f"You may skip this{given}.")
        return "\n\n".join(lines)

    @property
    def _many_of(self) -> str:
        return f"One or more of these, with commas between them: {_plain(', '.join(self.choices))}"

    def value(self, said: str) -> Value:
        """Raises `ValueError` with what is expected."""
        if self.kind == "boolean":
            return chosen_option((YES, NO), said) == YES
        if self.many:
            return self._several(said)
        if self.choices:
            return self.choices[self._choice(said)]
        return self._text(said) if self.kind == "string" else self._number(said)

    def _choice(self, said: str) -> str:
        chosen = chosen_option(self.choices, said)
        if chosen is None:
            by_value = {value.casefold(): shown for shown, value in self.choices.items()}
            chosen = by_value.get(said.strip().casefold())
        if chosen is None:
            raise ValueError(f"{_plain(one_line(said, 60))} is none of the choices.")
        return chosen

    def _several(self, said: str) -> list[str]:
        found = [self.choices[self._choice(each)] for each in said.split(",") if each.strip()]
        chosen = list(dict.fromkeys(found))
        _check_size(len(chosen), self.rules.get("minItems"), self.rules.get("maxItems"), "choices")
        return chosen

    def _number(self, said: str) -> int | float:
        text = said.replace(" ", "")
        try:
            number = int(text) if self.kind == "integer" else float(text)
        except ValueError:
            expected = "a whole number" if self.kind == "integer" else "a number, like 1.5"
            raise ValueError(f"Please write {expected}.") from None
        if number != number or number in (float("inf"), float("-inf")):
            raise ValueError("Please write a number, like 1.5.")
        least, most = _bound(self.rules.get("minimum")), _bound(self.rules.get("maximum"))
        if (least is not None and number < least) or (most is not None and number > most):
            bounds = [
                f"at least {least:g}" if least is not None else "",
                f"at most {most:g}" if most is not None else "",
            ]
            raise ValueError(f"The number must be {' and '.join(filter(None, bounds))}.")
        return number

    def _text(self, said: str) -> str:
        _check_size(len(said), self.rules.get("minLength"), self.rules.get("maxLength"), "characters")
        match self.rules.get("format"):
            case "email" if not _EMAIL.fullmatch(said):
                raise ValueError("Please write an e-mail address, like ann@example.com.")
            case "uri" if not urlsplit(said).scheme or " " in said:
                raise ValueError("Please write an address, like https://example.com.")
            case "date" if not _parses(date.fromisoformat, said):
                raise ValueError("Please write a date, like 2030-12-31.")
            case "date-time" if not _parses(datetime.fromisoformat, said):
                raise ValueError("Please write a date and time, like 2030-12-31T18:00:00Z.")
            case _:
                return said


def _fields(schema: Mapping[str, Any]) -> list[Field]:
    """Raises `McpError` if people cannot be asked for that."""
    try:
        usable = usable_schema(schema)
    except BadSchema as error:
        raise McpError(f"the form cannot be shown: {error}") from error
    properties, required = usable["properties"], usable.get("required", ())
    if len(properties) > MAX_FIELDS:
        raise McpError(f"the form has {len(properties)} fields; {MAX_FIELDS} are allowed")
    return [_field(name, about, required=name in required) for name, about in properties.items()]


def _field(name: str, about: object, *, required: bool) -> Field:
    if not isinstance(about, Mapping):
        raise McpError(f"the field {name} of the form is no object")
    many = about.get("type") == "array"
    items = about.get("items") if many else about
    kind = items.get("type", "string") if isinstance(items, Mapping) else None
    if kind not in ("string", "number", "integer", "boolean"):
        raise McpError(f"the field {name} of the form is none of text, number, boolean and choices")
    choices = _choices(items) if kind == "string" and isinstance(items, Mapping) else {}
    if (many and not choices) or len(choices) > MAX_CHOICES:
        raise McpError(f"the field {name} of the form has no choices, or more than {MAX_CHOICES}")
    title, description = (one_line(about.get(key) or "", limit) for key, limit in (("title", 80), ("description", 300)))
    default = about.get("default")
    default = default if isinstance(default, str | int | float | bool | list) else None
    return Field(name, kind, title, description, required, default, choices, many, about)


def _choices(about: Mapping[str, Any]) -> dict[str, str]:
    """The values by what people see of them."""
    titled = about.get("oneOf") or about.get("anyOf")
    if isinstance(titled, list):
        pairs = [
            (each.get("title") or each.get("const"), each.get("const")) for each in titled if isinstance(each, dict)
        ]
    else:
        values = about.get("enum")
        values = values if isinstance(values, list) else []
        names = about.get("enumNames")
        names = names if isinstance(names, list) and len(names) == len(values) else values
        pairs = list(zip(names, values, strict=True))
    return {one_line(shown, 80): value for shown, value in pairs if isinstance(shown, str) and isinstance(value, str)}


def _check_size(size: int, least: object, most: object, what: str) -> None:
    if isinstance(least, int) and size < least:
        raise ValueError(f"At least {least:,} {what}, please.")
    if isinstance(most, int) and size > most:
        raise ValueError(f"At most {most:,} {what}, please.")


def _bound(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _parses(parse: Any, text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _words(name: str) -> str:
    """`userPin` and `user_pin` as words."""
    return re.sub(r"[_\-]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))


def _plain(text: str) -> str:
    """The server's words without formatting of their own."""
    return _MARKUP.sub(r"\\\1", visible(text))


def _quoted(message: str) -> str:
    text = message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}…"
    return "\n".join(f"> {_plain(line)}" for line in text.strip().splitlines()) or "> …"
