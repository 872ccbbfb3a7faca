"""A local Slack: an app talks to it over real sockets, a test plays the people on the other side.

    async with Slack() as slack:
        ann = slack.direct("Ann")
        await ann.say("hi")                                  # an events_api envelope for the app's socket
        assert (await ann.hear("Hello")).text == "Hello"     # what the app shows, as soon as it shows it

Point an `AsyncWebClient` at `slack.api_url` with `slack.bot_token`, and Socket Mode at `slack.app_token`; or call
`slack.post_events_to(url, signing_secret)` for the HTTP mode. Call everything from the event loop that started the
server. Apps may be in the same loop, in another thread or in other processes, one after another; the state survives
them, and `stop()` / `start()` on the same port.

It knows nothing of the product. What it does and refuses follows docs.slack.dev, with the names of its errors. Some
things are harsher than there, to show mistakes: a `ts` counts per channel (so the same one occurs in several), events
that were not acknowledged come again only when a test says so, and nothing unfurls or expires by itself.
"""

import asyncio
import hashlib
import hmac
import json
import math
import mimetypes
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

import aiohttp
from aiohttp import BodyPartReader, WSMsgType, web
from markdown_it import MarkdownIt
from markdown_it.token import Token

Json = dict[str, Any]
T = TypeVar("T")
Event = dict[str, Any]

TEXT_LIMIT = 40_000  # characters, as all limits of Slack's
UPDATE_TEXT_LIMIT = 4_000
MARKDOWN_LIMIT = 12_000  # of one markdown_text, and of all markdown blocks of a message together
BLOCKS_LIMIT = 50
ALL_BLOCKS_TEXT_LIMIT = 13_200  # undocumented: https://github.com/slackapi/bolt-js/issues/2509
TASK_FIELD_LIMIT = 256
ALT_LIMIT = 1_000
METADATA_LIMIT = 8_000
MOST_SOCKETS = 10
RESPONSE_URL_USES = 5
SESSION_STATUSES = frozenset({"processing", "active", "suspended", "closed"})
TASK_STATUSES = frozenset({"pending", "in_progress", "complete", "error"})
EMOJI = frozenset(
    """+1 -1 thumbsup thumbsdown eyes white_check_mark heavy_check_mark x no_entry no_entry_sign hourglass
    hourglass_flowing_sand warning tada heart fire rocket wave pray clap raised_hands thinking_face joy smile
    grinning cry sob bulb memo robot_face stop_sign octagonal_sign question exclamation bell zzz ok_hand key lock
    arrows_counterclockwise speech_balloon large_green_circle red_circle clock1 stopwatch mag wastebasket
    writing_hand pencil pencil2 ballot_box_with_check see_no_evil 100 sparkles star muscle snail""".split()  # noqa: SIM905 - read as a list of names
)


# ---------------------------------------------------------------------------------------------------- what a test reads


class Upload(NamedTuple):
    """A file: what a person sends, or what the app uploaded."""

    name: str
    data: bytes


class File(NamedTuple):
    """A file of the app's on the screen."""

    name: str
    data: bytes
    title: str
    alt_text: str
    id: str


class Button(NamedTuple):
    """A button on the screen; the first three fields are what most tests compare."""

    action_id: str
    value: str
    label: str
    block_id: str = ""
    style: str = ""
    url: str = ""


class Task(NamedTuple):
    """A task card: of `task_update` chunks, `task_card` blocks or the tasks of a `plan` block."""

    id: str
    title: str
    status: str
    details: str = ""
    output: str = ""


class Call(NamedTuple):
    """One request of the app's; `at` is monotonic seconds.

    Uploads are called "upload", downloads "file", posts to a response_url "response_url".
    """

    method: str
    params: "Params"
    at: float


class Refusal(NamedTuple):
    """One answer that was not ok."""

    method: str
    status: int
    error: str
    at: float


class Edit(NamedTuple):
    """One change of what a message says: the new text, plain."""

    text: str
    at: float


class Status(NamedTuple):
    """One assistant.threads.setStatus ("" clears)."""

    thread_ts: str
    status: str
    at: float


class Mark(NamedTuple):
    """The app added or removed a reaction."""

    ts: str
    name: str
    added: bool
    at: float


@dataclass(slots=True)
class Session:
    """An agent session, one a thread; `history` are the statuses set."""

    status: str
    title: str = ""
    initiator: str = ""
    history: list[str] = field(default_factory=list)


TEAM = "T0TEST"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in the workspace, or in a channel that is shared with theirs."""

    id: str
    name: str  # as shown; people write it after an @
    handle: str
    is_bot: bool = False
    team: str = TEAM
    guest: bool = False

    @property
    def mention(self) -> str:
        return f"<@{self.id}>"


@dataclass(slots=True)
class Shown:
    """A message of the app's as it stands on screen; edits change it in place."""

    ts: str
    at: float  # monotonic seconds
    thread_ts: str | None = None
    text: str = ""  # plain, as one reads it: of the blocks when there are any, else of the text
    markdown: str = ""  # standard Markdown as the app sent it: streamed, markdown_text or markdown blocks
    fallback: str = ""  # the `text` argument as sent; notifications show it, the screen only when nothing else is there
    blocks: list[Json] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    plan: str = ""  # the title of the plan, if there is one
    reactions: dict[str, list[str]] = field(default_factory=dict)  # user ids by name
    metadata: Json | None = None
    is_stream_open: bool = False
    was_streamed: bool = False
    streamed: list[str] = field(default_factory=list)  # the Markdown of each start, append and stop that had some
    edits: list[Edit] = field(default_factory=list)
    links: list[str] = field(default_factory=list)  # addresses behind what one may click
    pings: list[str] = field(default_factory=list)  # whom it notifies: "here", "channel", "everyone", user ids
    to: str | None = None  # an ephemeral message: the only one who sees it
    past_buttons: list[Button] = field(default_factory=list)  # that were there once

    @property
    def buttons(self) -> list[Button]:
        """The buttons, row after row."""
        return _buttons(self.blocks)

    @property
    def labels(self) -> list[str]:
        return [button.label for button in self.buttons]


# ------------------------------------------------------------------------------------------------------------- refusals


class Refused(Exception):
    """An answer that is not ok: `error` is Slack's word for it."""

    def __init__(self, error: str, *, status: int = 200, retry_after: int | None = None, **fields: Any) -> None:
        super().__init__(error)
        self.error, self.status, self.retry_after, self.fields = error, status, retry_after, fields

    def response(self) -> web.Response:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status >= 500:  # these come from the proxy in front of the real server, and are not JSON
            return web.Response(
                status=self.status, text=f"<html><h1>{self.status}</h1></html>", content_type="text/html"
            )
        return _json_response({"ok": False, "error": self.error} | self.fields, self.status, headers)


class _NoAnswer(Exception):
    """The connection is to be closed without an answer."""


def _too_many(seconds: int) -> Refused:
    return Refused("ratelimited", status=429, retry_after=seconds)


def _invalid(error: str, problem: str, pointer: str) -> Refused:
    told = f"{problem} [json-pointer:{pointer}]"
    return Refused(error, errors=[told], response_metadata={"messages": [f"[ERROR] {told}"]})


def _invalid_blocks(problem: str, pointer: str) -> Refused:
    return _invalid("invalid_blocks", problem, pointer)


def _invalid_arguments(problem: str, name: str) -> Refused:
    return _invalid("invalid_arguments", problem, f"/{name}")


def _json_response(body: Json, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=json.dumps(body).encode(), status=status, content_type="application/json", headers=headers or {}
    )


# ----------------------------------------------------------------------------------------------------------- parameters


class Params(dict[str, Any]):
    """A request's parameters as they came (JSON values or strings), with readers that refuse like the real server."""

    def text(self, name: str) -> str:
        value = self.get(name)
        match value:
            case None:
                return ""
            case str():
                return value
            case _:
                return json.dumps(value)

    def required(self, name: str) -> str:
        if not (text := self.text(name)):
            raise _invalid_arguments(f"missing required field: {name}", name)
        return text

    def number(self, name: str, default: int) -> int:
        try:
            return int(self.text(name) or default)
        except ValueError:
            raise _invalid_arguments(f"must be an integer: {name}", name) from None

    def flag(self, name: str, default: bool = False) -> bool:
        text = self.text(name).lower()
        return text in ("true", "1") if text else default

    def json(self, name: str, kind: type[T], error: str = "invalid_arguments") -> T | None:
        value = self.get(name)
        if isinstance(value, str) and value:
            try:
                value = json.loads(value)
            except ValueError:
                raise Refused(error) from None
        if value is None or value == "":
            return None
        if not isinstance(value, kind):
            raise _invalid(error, f"must provide a {kind.__name__}", f"/{name}")
        return value


# ---------------------------------------------------------------------------------------------------------------- texts


def escape(text: str) -> str:
    """The three characters that mean something on the wire; https://docs.slack.dev/messaging/formatting-message-text"""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


_TOKEN = re.compile(
    r"<(?:@(?P<user>[UW][A-Z0-9]+)|#(?P<channel>C[A-Z0-9]+)|!(?P<special>[a-z][a-z_]*(?:\^[^|>]+)?)"
    r"|(?P<link>(?:https?://|mailto:|tel:)[^|>\s]+))(?:\|(?P<label>[^>]*))?>"
)
_ADDRESS = re.compile(r"(?:https?://)[^\s<>]+[^\s<>.,;:!?'\")\]]")
_PINGS = frozenset({"here", "channel", "everyone"})
_CODE = re.compile(r"```\n?(?P<block>.*?)\n?```|`(?P<span>[^`\n]+)`", re.DOTALL)
_STYLED = re.compile(r"(?<![\w*_~])([*_~])(\S(?:[^\n]*?\S)?)\1(?![\w*_~])")


@dataclass(slots=True)
class _Reading:
    """What one reads of some markup, what one may click there, and whom it notifies."""

    plain: str = ""
    links: list[str] = field(default_factory=list)
    pings: list[str] = field(default_factory=list)

    def add(self, other: "_Reading", gap: str = "\n") -> None:
        if other.plain:
            self.plain = f"{self.plain}{gap}{other.plain}" if self.plain else other.plain
        self.links += other.links
        self.pings += other.pings


class _Reader:
    """Reads mrkdwn, Markdown and blocks as a person does; names are looked up by id."""

    def __init__(self, name_of: Callable[[str], str]) -> None:
        self._name_of = name_of
        # Escapes and entities must stay apart from text: `\<!here>` and `&lt;!here>` notify nobody.
        self._markdown = MarkdownIt("commonmark", {"html": False, "linkify": False})
        self._markdown.enable(["table", "strikethrough"]).disable("text_join")

    def mrkdwn(self, text: str) -> _Reading:
        """Slack's own markup: <tokens>, *bold*, _italic_, ~struck~, `code`."""
        read = _Reading()
        place = 0
        parts: list[str] = []
        tokens_resolved = self._resolve(text, read)
        for code in _CODE.finditer(tokens_resolved):
            parts.append(_without_styles(tokens_resolved[place : code.start()]))
            parts.append(code["span"] if code["block"] is None else code["block"])
            place = code.end()
        parts.append(_without_styles(tokens_resolved[place:]))
        read.plain = unescape("".join(parts))
        return read

    def plain_text(self, text: str) -> _Reading:
        return _Reading(unescape(text))

    def markdown(self, source: str) -> _Reading:
        """Standard Markdown, in which Slack's tokens work outside code."""
        read = _Reading()
        lines: list[str] = []
        prefix: list[str] = []
        counters: list[int | None] = []
        row: list[str] | None = None
        for token in self._markdown.parse(source):
            match token.type:
                case "bullet_list_open":
                    counters.append(None)
                case "ordered_list_open":
                    counters.append(int(token.attrs.get("start", 1)))
                case "bullet_list_close" | "ordered_list_close":
                    counters.pop()
                case "list_item_open":
                    prefix.append(_bullet(counters))
                case "list_item_close":
                    prefix.clear()
                case "tr_open":
                    row = []
                case "tr_close":
                    lines.append(" | ".join(row or ()))
                    row = None
                case "inline":
                    text = self._inline(token.children or [], read)
                    if row is not None:
                        row.append(text)
                    else:
                        lines.append("".join(prefix) + text)
                        prefix.clear()
                case "fence" | "code_block":
                    lines.append(token.content.removesuffix("\n"))
                case "hr":
                    lines.append("---")
                case _:
                    pass
            if token.level == 0 and token.nesting <= 0 and lines and lines[-1] != "":
                lines.append("")
        read.plain = "\n".join(lines).strip("\n")
        return read

    def blocks(self, blocks: Iterable[Json]) -> _Reading:
        read = _Reading()
        for block in blocks:
            read.add(self._block(block))
        return read

    def stream(self, parts: Iterable[str | list[Json]]) -> _Reading:
        """Streamed text, with blocks where they came in between."""
        read = _Reading()
        text = ""
        for part in parts:
            if isinstance(part, str):
                text += part
            else:
                read.add(self.markdown(text))
                read.add(self.blocks(part))
                text = ""
        read.add(self.markdown(text))
        return read

    def attachment(self, attachment: Json) -> _Reading:
        read = _Reading()
        for name in ("pretext", "title", "text"):
            read.add(self.mrkdwn(str(attachment.get(name, ""))))
        read.add(self.blocks(attachment.get("blocks", [])))
        return read

    def _block(self, block: Json) -> _Reading:
        read = _Reading()
        match block.get("type"):
            case "markdown":
                return self.markdown(str(block["text"]))
            case "section":
                for text in (*filter(None, [block.get("text")]), *block.get("fields", [])):
                    read.add(self._text(text))
            case "header":
                return self._text(block["text"])
            case "context":
                for element in block["elements"]:
                    image = element["type"] == "image"
                    read.add(self.plain_text(element["alt_text"]) if image else self._text(element), " ")
            case "image" | "video":
                return self.plain_text(str(block.get("alt_text", "")))
            case "rich_text":
                for element in block["elements"]:
                    read.add(_Reading(_rich(element, self._name_of)))
            case "table":
                for row in block["rows"]:
                    cells = [self._cell(cell) for cell in row]
                    read.add(_Reading(" | ".join(cells)))
            case "divider":
                return _Reading("---")
            case _:
                pass
        return read

    def _cell(self, cell: Json) -> str:
        return str(cell["text"]) if cell.get("type") == "raw_text" else _rich(cell, self._name_of)

    def _text(self, text: Json) -> _Reading:
        return self.plain_text(text["text"]) if text["type"] == "plain_text" else self.mrkdwn(text["text"])

    def _inline(self, children: Sequence[Token], read: _Reading) -> str:
        """Tokens may reach over several text nodes, but not over escaped characters, which are kept apart here."""
        out: list[str] = []
        kept: list[str] = []
        for child in children:
            match child.type:
                case "text":
                    out.append(child.content)
                case "text_special" | "code_inline":
                    out.append(chr(0xE000 + len(kept)))
                    kept.append(child.content)
                case "softbreak" | "hardbreak":
                    out.append("\n")
                case "link_open":
                    read.links.append(str(child.attrs.get("href", "")))
                case "image":
                    read.links.append(str(child.attrs.get("src", "")))
                    out.append(child.content)
                case _:
                    pass
        text = self._resolve("".join(out), read)
        return "".join(kept[ord(c) - 0xE000] if 0 <= ord(c) - 0xE000 < len(kept) else c for c in text)

    def _resolve(self, text: str, read: _Reading) -> str:
        """Puts names and labels in the place of tokens."""

        def named(token: re.Match[str]) -> str:
            if user := token["user"]:
                read.pings.append(user)
                return f"@{self._name_of(user)}"
            if channel := token["channel"]:
                return f"#{token['label'] or self._name_of(channel)}"
            if special := token["special"]:
                kind = special.partition("^")[0]
                if kind in _PINGS or kind == "subteam":
                    read.pings.append(special)
                return token["label"] or ("" if kind == "date" else f"@{special}")
            read.links.append(unescape(token["link"]))
            return token["label"] or token["link"]

        return _TOKEN.sub(named, text)


def _bullet(counters: list[int | None]) -> str:
    indent = "  " * (len(counters) - 1)
    number = counters[-1]
    if number is None:
        return f"{indent}• "
    counters[-1] = number + 1
    return f"{indent}{number}. "


def _without_styles(text: str) -> str:
    while (bare := _STYLED.sub(r"\2", text)) != text:
        text = bare
    return text


def _rich(element: Json, name_of: Callable[[str], str]) -> str:
    match element.get("type"):
        case "text":
            return str(element["text"])
        case "link":
            return str(element.get("text") or element["url"])
        case "emoji":
            return f":{element['name']}:"
        case "user":
            return f"@{name_of(element['user_id'])}"
        case "channel":
            return f"#{name_of(element['channel_id'])}"
        case "broadcast":
            return f"@{element['range']}"
        case "rich_text_list":
            return "\n".join(f"• {_rich(item, name_of)}" for item in element["elements"])
        case _:
            gap = "\n" if element.get("type") == "rich_text" else ""
            return gap.join(_rich(item, name_of) for item in element.get("elements", []))


# --------------------------------------------------------------------------------------------------------------- blocks


_ELEMENTS = frozenset(
    {
        "button",
        "overflow",
        "datepicker",
        "timepicker",
        "datetimepicker",
        "checkboxes",
        "radio_buttons",
        "workflow_button",
    }
    | {"plain_text_input", "number_input", "email_text_input", "url_text_input", "file_input", "rich_text_input"}
    | {f"{count}{of}_select" for count in ("", "multi_") for of in ("static", "external", "users", "conversations")}
    | {"channels_select", "multi_channels_select", "feedback_buttons", "icon_button"}
)


def _check_blocks(blocks: list[Any], *, limit: int = BLOCKS_LIMIT) -> list[Json]:
    """Refuses what Slack refuses; https://docs.slack.dev/reference/block-kit/blocks"""
    if len(blocks) > limit:
        raise _invalid_blocks(f"no more than {limit} items allowed", "/blocks")
    seen: set[str] = set()
    for number, block in enumerate(blocks):
        at = f"/blocks/{number}"
        if not isinstance(block, dict):
            raise _invalid_blocks("must provide an object", at)
        check = _CHECKS.get(str(block.get("type", "")))
        if check is None:
            raise _invalid_blocks(f"unsupported type: {block.get('type')}", f"{at}/type")
        _check_block_id(block, seen, at)
        check(block, at)
    if sum(len(block["text"]) for block in blocks if block["type"] == "markdown") > MARKDOWN_LIMIT:
        raise _invalid_blocks(f"must be less than {MARKDOWN_LIMIT + 1} characters", "/blocks")
    if sum(block["type"] == "table" for block in blocks) > 1:
        raise Refused("invalid_attachments", errors=["only_one_table_allowed"])
    if sum(_text_length(block) for block in blocks) > ALL_BLOCKS_TEXT_LIMIT:
        raise Refused("msg_blocks_too_long")
    for number, block in enumerate(blocks):
        block.setdefault("block_id", f"b{number}")
    return blocks


def _check_block_id(block: Json, seen: set[str], at: str) -> None:
    if "block_id" not in block:
        return
    _check_string(block["block_id"], f"{at}/block_id", 255)
    if block["block_id"] in seen:
        raise _invalid_blocks(f"block_id already exists: {block['block_id']}", f"{at}/block_id")
    seen.add(block["block_id"])


def _check_string(value: Any, at: str, most: int, least: int = 1) -> None:
    if not isinstance(value, str):
        raise _invalid_blocks("must be a string", at)
    if len(value) < least:
        raise _invalid_blocks(f"must be more than {least - 1} characters", at)
    if len(value) > most:
        raise _invalid_blocks(f"must be less than {most + 1} characters", at)


def _check_text(text: Any, at: str, most: int, *, only_plain: bool = False) -> None:
    if not isinstance(text, dict):
        raise _invalid_blocks("missing required field: text" if text is None else "must provide an object", at)
    if text.get("type") not in (("plain_text",) if only_plain else ("plain_text", "mrkdwn")):
        raise _invalid_blocks(f"unsupported type: {text.get('type')}", f"{at}/type")
    _check_string(text.get("text"), f"{at}/text", most)


def _check_items(items: Any, at: str, most: int) -> list[Json]:
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _invalid_blocks("must provide an array of objects", at)
    if not items:
        raise _invalid_blocks("must have at least 1 items", at)
    if len(items) > most:
        raise _invalid_blocks(f"no more than {most} items allowed", at)
    return items


def _check_element(element: Json, at: str) -> None:
    kind = element.get("type")
    if kind == "image":
        return _check_image(element, at)
    if kind not in _ELEMENTS:
        raise _invalid_blocks(f"unsupported type: {kind}", f"{at}/type")
    if "action_id" not in element:
        raise _invalid_blocks("missing required field: action_id", at)
    _check_string(element["action_id"], f"{at}/action_id", 255)
    if kind == "button":
        _check_button(element, at)
    return None


def _check_button(button: Json, at: str) -> None:
    _check_text(button.get("text"), f"{at}/text", 75, only_plain=True)
    for name, most in (("value", 2000), ("url", 3000), ("accessibility_label", 75)):
        if name in button:
            _check_string(button[name], f"{at}/{name}", most)
    if button.get("style") not in (None, "primary", "danger"):
        raise _invalid_blocks("must be one of: primary, danger", f"{at}/style")


def _check_section(block: Json, at: str) -> None:
    if "text" not in block and "fields" not in block:
        raise _invalid_blocks("missing required field: text or fields", at)
    if "text" in block:
        _check_text(block["text"], f"{at}/text", 3000)
    if "fields" in block:
        for number, text in enumerate(_check_items(block["fields"], f"{at}/fields", 10)):
            _check_text(text, f"{at}/fields/{number}", 2000)
    if "accessory" in block:
        _check_element(block["accessory"], f"{at}/accessory")


def _check_header(block: Json, at: str) -> None:
    _check_text(block.get("text"), f"{at}/text", 150, only_plain=True)


def _check_context(block: Json, at: str) -> None:
    for number, element in enumerate(_check_items(block.get("elements"), f"{at}/elements", 10)):
        if element.get("type") == "image":
            _check_image(element, f"{at}/elements/{number}")
        else:
            _check_text(element, f"{at}/elements/{number}", 3000)


def _check_actions(block: Json, at: str, most: int = 25) -> None:
    seen: set[str] = set()
    for number, element in enumerate(_check_items(block.get("elements"), f"{at}/elements", most)):
        _check_element(element, f"{at}/elements/{number}")
        if element["action_id"] in seen:
            raise _invalid_blocks(f"action_id already exists: {element['action_id']}", f"{at}/elements/{number}")
        seen.add(element["action_id"])


def _check_context_actions(block: Json, at: str) -> None:
    _check_actions(block, at, 5)


def _check_image(block: Json, at: str) -> None:
    if ("image_url" in block) == ("slack_file" in block):
        raise _invalid_blocks("missing required field: either image_url or slack_file", at)
    if "image_url" in block:
        _check_string(block["image_url"], f"{at}/image_url", 3000)
    _check_string(block.get("alt_text"), f"{at}/alt_text", 2000)
    if "title" in block:
        _check_text(block["title"], f"{at}/title", 2000, only_plain=True)


def _check_markdown(block: Json, at: str) -> None:
    _check_string(block.get("text"), f"{at}/text", MARKDOWN_LIMIT)


def _check_rich_text(block: Json, at: str) -> None:
    _check_items(block.get("elements"), f"{at}/elements", 1000)


def _check_table(block: Json, at: str) -> None:
    rows = block.get("rows")
    if not isinstance(rows, list) or not 1 <= len(rows) <= 100:
        raise _invalid_blocks("must have 1 to 100 items", f"{at}/rows")
    for number, row in enumerate(rows):
        _check_items(row, f"{at}/rows/{number}", 20)


def _check_task(block: Json, at: str) -> None:
    for name in ("task_id", "title"):
        _check_string(block.get(name), f"{at}/{name}", TASK_FIELD_LIMIT)
    if block.get("status", "pending") not in TASK_STATUSES:
        raise _invalid_blocks(f"must be one of: {', '.join(sorted(TASK_STATUSES))}", f"{at}/status")


def _check_plan(block: Json, at: str) -> None:
    _check_string(block.get("title"), f"{at}/title", TASK_FIELD_LIMIT)
    for number, task in enumerate(block.get("tasks", [])):
        _check_task(task, f"{at}/tasks/{number}")


def _check_nothing(_: Json, __: str) -> None:
    """Blocks without limits that matter here."""


_CHECKS: dict[str, Callable[[Json, str], None]] = {
    "section": _check_section,
    "header": _check_header,
    "context": _check_context,
    "actions": _check_actions,
    "context_actions": _check_context_actions,
    "image": _check_image,
    "markdown": _check_markdown,
    "rich_text": _check_rich_text,
    "table": _check_table,
    "task_card": _check_task,
    "plan": _check_plan,
    "divider": _check_nothing,
    "file": _check_nothing,
    "video": _check_nothing,
}


def _text_length(value: Any) -> int:
    """Characters of everything in a block that is shown."""
    match value:
        case dict():
            own = len(value["text"]) if isinstance(value.get("text"), str) else 0
            return own + sum(_text_length(item) for item in value.values())
        case list():
            return sum(map(_text_length, value))
        case _:
            return 0


def _buttons(blocks: Iterable[Json]) -> list[Button]:
    found: list[Button] = []
    for block in blocks:
        elements = [*block.get("elements", []), *filter(None, [block.get("accessory")])]
        for element in elements:
            if isinstance(element, dict) and element.get("type") == "button":
                fields = (str(element.get(name, "")) for name in ("style", "url"))
                label = unescape(element["text"]["text"])
                value = str(element.get("value", ""))
                found.append(Button(element["action_id"], value, label, block.get("block_id", ""), *fields))
    return found


def _tasks_in(blocks: Iterable[Json]) -> list[Task]:
    cards: list[Json] = []
    for block in blocks:
        if block["type"] == "task_card":
            cards.append(block)
        elif block["type"] == "plan":
            cards += block.get("tasks", [])
    return [Task(card["task_id"], card["title"], card.get("status", "pending")) for card in cards]


# -------------------------------------------------------------------------------------------------------------- waiting


class _Bell:
    """Conditions that tests wait for, asked within each ring: no state between two calls is missed."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []

    def ring(self) -> None:
        for check, future in tuple(self._waiting):
            if future.done():
                continue
            try:
                found = check()
            except Exception as error:  # noqa: BLE001 - it belongs to the test that waits
                future.set_exception(error)
            else:
                if found:
                    future.set_result(found)

    async def wait(self, check: Callable[[], T | None], timeout: float, told: Callable[[], str]) -> T:  # noqa: ASYNC109 - the tests' side
        if found := check():
            return found
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((check, future))
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise TimeoutError(f"not within {timeout} s; {told()}") from None
        finally:
            self._waiting.remove((check, future))


# ---------------------------------------------------------------------------------------------------------------- files


@dataclass(slots=True)
class Stored:
    """A file of the workspace: its bytes and its card."""

    data: bytes
    card: Json
    is_uploaded: bool = True
    shares: list[tuple[str, str]] = field(default_factory=list)  # (channel, ts)


class _Files:
    """All files, by id: what people sent and what the app sent."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self.by_id: dict[str, Stored] = {}
        self.tickets: dict[str, Stored] = {}

    def add(self, name: str, data: bytes, owner: str, **fields: Any) -> Stored:
        """Keeps the bytes; the card has the fields that a file of a message has."""
        file_id = f"F{len(self.by_id) + 1:08d}"
        mime = mimetypes.guess_type(name)[0] or "application/octet-stream"
        kind = PurePosixPath(name).suffix.removeprefix(".").lower() or "binary"
        place = f"{self._url()}/files-pri/T0TEST-{file_id}"
        card: Json = {
            "id": file_id,
            "created": int(time.time()),
            "timestamp": int(time.time()),
            "name": name,
            "title": name,
            "mimetype": mime,
            "filetype": kind,
            "pretty_type": kind.upper(),
            "user": owner,
            "user_team": TEAM,
            "editable": False,
            "size": len(data),
            "mode": "hosted",
            "is_external": False,
            "external_type": "",
            "is_public": True,
            "file_access": "visible",
            "url_private": f"{place}/{quote(name)}",
            "url_private_download": f"{place}/download/{quote(name)}",
            "permalink": f"{self._url()}/files/{owner}/{file_id}/{quote(name)}",
        }
        stored = Stored(data, card | fields)
        self.by_id[file_id] = stored
        return stored

    def shown(self, cards: Iterable[Json]) -> list[File]:
        return [
            File(card["name"], self.by_id[card["id"]].data, card["title"], card.get("alt_txt", ""), card["id"])
            for card in cards
        ]


APP = "A0TEST"


# ----------------------------------------------------------------------------------------------------------- deliveries


Kind = Literal["events_api", "slash_commands", "interactive"]


@dataclass(slots=True)
class Delivery:
    """Something that Slack tells the app: an event, a command, an interaction; until acknowledged it may come again."""

    kind: Kind
    payload: Json
    at: float  # when it came to be; monotonic seconds, as all times here
    place: "Place | None" = None
    attempt: int = 0  # how often it was sent again
    reason: str = ""
    sent: list[float] = field(default_factory=list)
    acked: float | None = None
    statuses: list[int] = field(default_factory=list)  # of the HTTP mode; 0 is a connection that broke
    answer: Json | None = None  # what the acknowledgement carried

    @property
    def event(self) -> Json:
        """The event within, for events_api."""
        event: Json = self.payload.get("event", {})
        return event

    @property
    def event_id(self) -> str:
        return str(self.payload.get("event_id", ""))


class _Socket:
    """One open connection of Socket Mode."""

    def __init__(self, ws: web.WebSocketResponse, request: web.Request) -> None:
        self.ws = ws
        self.retired = False  # told to go: gets nothing more
        self._request = request
        self._out: asyncio.Queue[str] = asyncio.Queue()

    def put(self, text: str) -> None:
        self._out.put_nowait(text)

    async def write(self) -> None:
        while True:
            text = await self._out.get()
            with suppress(ConnectionError):
                await self.ws.send_str(text)

    def abort(self) -> None:
        if self._request.transport:
            self._request.transport.abort()


class EventsHeld:
    """A time in which nothing is delivered; `release()` delivers what came, in another order if asked."""

    def __init__(self, server: "Slack") -> None:
        self._server = server

    def release(self, *, reverse: bool = False) -> None:
        self._server.feed.resume(reverse=reverse)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class _Feed:
    """Takes deliveries to the app: to one open socket after another, or by POST."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.deliveries: list[Delivery] = []
        self.sockets: list[_Socket] = []
        self.endpoint: Endpoint | None = None
        self._waiting: deque[Delivery] = deque()
        self._open: dict[str, Delivery] = {}  # by envelope id
        self._held = False
        self._turn = 0
        self._envelopes = 0
        self._posts: set[asyncio.Task[None]] = set()

    def put(self, delivery: Delivery) -> Delivery:
        self.deliveries.append(delivery)
        self.send(delivery)
        return delivery

    def send(self, delivery: Delivery) -> None:
        self._waiting.append(delivery)
        self.flush()

    def hold(self) -> None:
        self._held = True

    def lose(self) -> int:
        lost = [self._waiting.popleft() for _ in range(len(self._waiting))]
        self.deliveries = [each for each in self.deliveries if not any(each is one for one in lost)]
        return len(lost)

    def resume(self, *, reverse: bool) -> None:
        self._held = False
        if reverse:
            self._waiting.reverse()
        self.flush()

    def flush(self) -> None:
        """Sends what waits, as soon as there is somebody to send it to."""
        while self._waiting and not self._held and (self.endpoint or self._usable()):
            delivery = self._waiting.popleft()
            delivery.sent.append(time.monotonic())
            if self.endpoint:
                self._post(self.endpoint, delivery)
            else:
                self._next_socket().put(self._envelope(delivery))

    def _usable(self) -> list[_Socket]:
        return [each for each in self.sockets if not each.retired and not each.ws.closed]

    def _next_socket(self) -> _Socket:
        usable = self._usable()
        self._turn += 1
        return usable[self._turn % len(usable)]

    def _envelope(self, delivery: Delivery) -> str:
        self._envelopes += 1
        envelope_id = f"00000000-0000-4000-8000-{self._envelopes:012d}"
        self._open[envelope_id] = delivery
        envelope: Json = {
            "envelope_id": envelope_id,
            "type": delivery.kind,
            "payload": delivery.payload,
            "accepts_response_payload": delivery.kind != "events_api",
        }
        if delivery.kind == "events_api":
            envelope |= {"retry_attempt": delivery.attempt, "retry_reason": delivery.reason}
        return json.dumps(envelope)

    def hear_ack(self, text: str) -> Delivery | None:
        """An acknowledgement from a socket; returns what it is about, the first time."""
        told = json.loads(text)
        delivery = self._open.pop(told.get("envelope_id", ""), None)
        if delivery is None or delivery.acked is not None:
            return None
        self._acknowledge(delivery, told.get("payload"))
        return delivery

    def _acknowledge(self, delivery: Delivery, answer: Json | None) -> None:
        delivery.acked = time.monotonic()
        delivery.answer = answer
        if delivery.place and answer:
            delivery.place.show_answer(delivery, answer)
        self._changed()

    def _post(self, endpoint: "Endpoint", delivery: Delivery) -> None:
        task = asyncio.create_task(self._post_and_wait(endpoint, delivery))
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)

    async def _post_and_wait(self, endpoint: "Endpoint", delivery: Delivery) -> None:
        status, answer = await endpoint.post(delivery)
        delivery.statuses.append(status)
        if 200 <= status < 300 and delivery.acked is None:
            self._acknowledge(delivery, answer)
        self._changed()

    async def close(self) -> None:
        for post in tuple(self._posts):
            post.cancel()
        await asyncio.gather(*self._posts, return_exceptions=True)
        self._open.clear()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the HTTP mode posts to, and the secret it signs with; https://docs.slack.dev/authentication/verifying-requests-from-slack"""

    url: str
    signing_secret: str

    async def post(self, delivery: Delivery) -> tuple[int, Json | None]:
        """The status (0: the connection broke) and the JSON of the answer, if any."""
        headers: dict[str, str] = {}
        if delivery.attempt:
            headers = {"X-Slack-Retry-Num": str(delivery.attempt), "X-Slack-Retry-Reason": delivery.reason}
        match delivery.kind:
            case "events_api":
                body, kind = json.dumps(delivery.payload), "application/json"
            case "slash_commands":
                body, kind = urlencode(delivery.payload), "application/x-www-form-urlencoded"
            case "interactive":
                body, kind = urlencode({"payload": json.dumps(delivery.payload)}), "application/x-www-form-urlencoded"
        status, text = await self.post_signed(body, kind, headers)
        with suppress(ValueError):
            answer = json.loads(text)
            return status, answer if isinstance(answer, dict) else None
        return status, {"text": text} if text else None

    async def post_signed(
        self,
        body: str,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
        *,
        secret: str | None = None,
        seconds_ago: int = 0,
        signed: bool = True,
    ) -> tuple[int, str]:
        """Posts with Slack's headers; another secret, an old timestamp or no signature at all are a forger's."""
        sent_at = str(int(time.time()) - seconds_ago)
        key = (self.signing_secret if secret is None else secret).encode()
        digest = hmac.new(key, f"v0:{sent_at}:{body}".encode(), hashlib.sha256).hexdigest()
        signature = {"X-Slack-Request-Timestamp": sent_at, "X-Slack-Signature": f"v0={digest}"} if signed else {}
        sent = {"Content-Type": content_type, "User-Agent": "Slackbot 1.0", **signature, **(headers or {})}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
                session.post(self.url, data=body.encode(), headers=sent) as answer,
            ):
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""


# --------------------------------------------------------------------------------------------------------------- places


Message = dict[str, Any]


def _ts_of(message: "str | Message | Shown") -> str:
    match message:
        case str():
            return message
        case Shown():
            return message.ts
        case _:
            return str(message["ts"])


@dataclass(slots=True)
class _Stream:
    """What a streamed message is made of; chunks may mix text and blocks."""

    mode: str
    is_open: bool = True
    parts: list[str | list[Json]] = field(default_factory=list)
    cards: dict[str, Json] = field(default_factory=dict)
    plan: str = ""

    @property
    def markdown(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def tasks(self) -> list[Task]:
        return [
            Task(card["id"], card["title"], card["status"], card.get("details", ""), card.get("output", ""))
            for card in self.cards.values()
        ]


@dataclass
class UserGroup:
    """https://docs.slack.dev/reference/objects/usergroup-object"""

    id: str
    handle: str
    people: list[Person]

    def card(self, *, with_users: bool) -> Json:
        card = {
            "id": self.id,
            "team_id": TEAM,
            "is_usergroup": True,
            "name": self.handle.title(),
            "handle": self.handle,
        }
        return card | ({"users": [person.id for person in self.people]} if with_users else {})


class Place:
    """One conversation, seen by its people: they say things, and look at what the app has on screen.

    `by` is by default the first person of the place; `thread` a message (its dict, its ts or its `Shown`) that a new
    one answers. Methods that say something return the message as the app will get it. `place.thread(message)` is a
    handle that does the same within one thread.
    """

    def __init__(self, server: "Slack", place_id: str, kind: str, name: str, people: Sequence[Person]) -> None:
        self.id = place_id
        self.kind = kind  # im, mpim, channel or group (a private channel): the channel_type of events
        self.name = name
        self.about = {"topic": "", "purpose": ""}  # as the Web API gives it: with & < > escaped
        self.people = list(people)
        self.log: dict[str, Message] = {}  # every message that exists, as JSON
        self.deleted: list[Shown] = []
        self.ephemerals: list[Shown] = []
        self.statuses: list[Status] = []
        self.titles: dict[str, str] = {}  # of assistant threads, by thread_ts
        self.prompts: dict[str, list[str]] = {}  # suggested, by thread_ts; "" outside of threads
        self.is_agent_view = False  # once somebody has opened the Messages tab, which only such apps have
        self.sessions: dict[str, Session] = {}  # agent sessions, by thread_ts
        self.marks: list[Mark] = []  # reactions that the app added and removed
        self.strays: list[str] = []  # thread_ts that the app wrote to and nobody knows; Slack lets it
        self.refusal: str | None = None  # the error that the app gets for everything it does here
        self.bell = _Bell()
        self._server = server
        self._screen: dict[str, Shown] = {}
        self._streams: dict[str, _Stream] = {}
        self._ticks = 0
        self._heard = ""

    @property
    def is_direct(self) -> bool:
        return self.kind == "im"

    @property
    def link(self) -> str:
        """How a message names this channel on the wire."""
        return f"<#{self.id}|{self.name}>"

    # -- what is on screen

    @property
    def messages(self) -> list[Shown]:
        """The app's messages that are on screen now, in the order sent, threads included."""
        return list(self._screen.values())

    @property
    def texts(self) -> list[str]:
        return [shown.text for shown in self.messages]

    def shown(self, message: "str | Message | Shown") -> Shown | None:
        return self._screen.get(_ts_of(message))

    def reactions(self, message: "str | Message | Shown") -> dict[str, list[str]]:
        """Who reacted to a message, anybody's: user ids by name."""
        log = self.log.get(_ts_of(message), {})
        return {each["name"]: list(each["users"]) for each in log.get("reactions", [])}

    def marks_on(self, message: "str | Message | Shown") -> list[str]:
        """The names of the reactions that the app has on a message now."""
        return [name for name, users in self.reactions(message).items() if self._server.me.id in users]

    def until(self, predicate: "Callable[[Place], T | None]", timeout: float = 60) -> Coroutine[Any, Any, T]:
        """Waits until `predicate(place)` is true, and returns what it gave; asked at each call that concerns it."""
        return self.bell.wait(lambda: predicate(self), timeout, self._transcript)

    def hear(self, match: "Match" = None, timeout: float = 60) -> Coroutine[Any, Any, Shown]:
        """The next message of the app's (newer than the last one heard) whose text contains or matches `match`.

        A reply that grows is heard as soon as it matches, not when it is complete.
        """

        def heard(_: Place) -> Shown | None:
            for shown in self.messages:
                if shown.ts > self._heard and _matches(shown, match):
                    self._heard = shown.ts
                    return shown
            return None

        return self.until(heard, timeout)

    def _transcript(self) -> str:
        lines = [f"  {shown.ts} in {shown.thread_ts}: {shown.text!r}" for shown in self._screen.values()]
        refused = [f"{each.method}: {each.error}" for each in self._server.refusals[-5:]]
        return f"on screen of {self.name}:" + "".join(f"\n{line}" for line in lines) + f"\nrefused: {refused}"

    def thread(self, message: "str | Message | Shown") -> "Thread":
        """The thread of a message, which may itself be an answer in it."""
        return Thread(self, self.root_of(_ts_of(message)))

    def root_of(self, ts: str) -> str:
        return str(self.log.get(ts, {}).get("thread_ts", ts))

    # -- what people do

    async def say(
        self,
        text: str,
        *,
        by: Person | None = None,
        thread: "str | Message | Shown | None" = None,
        raw: bool = False,
        **fields: Any,
    ) -> Message:
        """Says something, as typed (`slack.wire` makes names, channels and links of it) or, `raw`, as on the wire.

        A channel's message that mentions the app becomes two events. `fields` go into the message.
        """
        wire = text if raw else self._server.wire(text)
        words: Message = {"text": wire, "blocks": _rich_text(wire)} if wire else {"text": ""}
        return await self.send(by=by, thread=thread, **words | fields)

    async def send(
        self, *, by: Person | None = None, thread: "str | Message | Shown | None" = None, **fields: Any
    ) -> Message:
        """Any message at all: `place.send(subtype="channel_join", text=…)`."""
        author = by or self.people[0]
        root = None if thread is None else self.root_of(_ts_of(thread))
        message = self.compose(author.id, root, {"client_msg_id": f"client-{self.id}-{self._ticks}"} | fields)
        self._tell_of_new(message)
        return message

    def _tell_of_new(self, message: Message) -> None:
        self.emit({"type": "message", **message})
        by_app = message.get("user") == self._server.me.id
        if not self.is_direct and not by_app and self._server.me.mention in message.get("text", ""):
            mention = {key: value for key, value in message.items() if key not in ("subtype",)}
            self._server.emit({**mention, "type": "app_mention", "channel": self.id, "event_ts": message["ts"]}, self)

    async def broadcast(self, text: str, *, thread: "str | Message | Shown", by: Person | None = None) -> Message:
        """An answer in a thread that is also sent to the channel."""
        root = self.log[self.root_of(_ts_of(thread))]
        return await self.say(text, by=by, thread=thread, subtype="thread_broadcast", root=root)

    async def send_files(
        self,
        files: "Iterable[Upload | tuple[str, bytes]]",
        text: str = "",
        *,
        by: Person | None = None,
        thread: "str | Message | Shown | None" = None,
        **file_fields: Any,
    ) -> Message:
        """Files in one message; `file_fields` go onto the card of each (`file_access="check_file_info"`, …)."""
        author = by or self.people[0]
        stored = [self._server.files.add(name, data, author.id, **file_fields) for name, data in files]
        cards = [each.card if each.card["file_access"] == "visible" else _bare_card(each.card) for each in stored]
        message = await self.say(
            text, by=by, thread=thread, subtype="file_share", files=cards, upload=True, display_as_bot=False
        )
        for each in stored:
            each.shares.append((self.id, message["ts"]))
        return message

    async def send_file(self, name: str, data: bytes, text: str = "", **options: Any) -> Message:
        return await self.send_files([Upload(name, data)], text, **options)

    async def send_voice(self, data: bytes, *, seconds: float = 1.0, transcript: str = "", **options: Any) -> Message:
        """A recorded clip; Slack may have written down what it says."""
        preview = {"preview": {"content": transcript, "has_more": False}} if transcript else {}
        return await self.send_files(
            [Upload("audio_message.m4a", data)],
            subtype="slack_audio",
            mimetype="audio/mp4",
            duration_ms=int(seconds * 1000),
            transcription={"status": "complete" if transcript else "none", "locale": "en-US", **preview},
            **options,
        )

    async def share(
        self, original: Message, text: str = "", *, source: "Place | None" = None, **options: Any
    ) -> Message:
        """Forwards a message, with a comment."""
        origin = source or self
        author = original.get("user", "")
        forwarded = {
            "id": 1,
            "ts": original["ts"],
            "author_id": author,
            "author_name": self._server.name_of(author),
            "channel_id": origin.id,
            "channel_team": TEAM,
            "is_msg_unfurl": True,
            "is_share": True,
            "text": original["text"],
            "fallback": f"[{original['ts']}] {self._server.name_of(author)}: {original['text']}",
            "message_blocks": [{"team": TEAM, "channel": origin.id, "ts": original["ts"], "message": {}}],
            "from_url": f"https://test.slack.com/archives/{origin.id}/p{original['ts'].replace('.', '')}",
            "footer": "Posted in a thread" if "thread_ts" in original else "Slack Conversation",
            "mrkdwn_in": ["text"],
        }
        files = {"files": original["files"]} if "files" in original else {}
        return await self.say(text, attachments=[forwarded | files], **options)

    async def edit(self, message: "str | Message | Shown", text: str | None, *, raw: bool = False) -> Message:
        """Edits a person's message; None changes mere metadata, which makes the same event with the same text."""
        before = self.log[_ts_of(message)]
        author = before.get("user", self.people[0].id)
        changed = {**before, "edited": {"user": author, "ts": self.tick()}}
        if text is not None:
            wire = text if raw else self._server.wire(text)
            changed |= {"text": wire, "blocks": _rich_text(wire)}
        self._tell_of_change(before, changed)
        return changed

    async def unfurl(self, message: "str | Message | Shown", title: str = "A page") -> Message:
        """Slack adds a preview of a link: a message_changed without any edit."""
        before = self.log[_ts_of(message)]
        preview = {"id": 1, "from_url": "https://example.org/", "title": title, "fallback": title}
        changed = {**before, "attachments": [*before.get("attachments", []), preview]}
        self._tell_of_change(before, changed)
        return changed

    def _tell_of_change(self, before: Message, changed: Message) -> None:
        self.log[changed["ts"]] = changed
        self.emit(
            {
                "type": "message",
                "subtype": "message_changed",
                "hidden": True,
                "ts": self.tick(),
                "message": changed,
                "previous_message": before,
            }
        )

    async def delete(self, message: "str | Message | Shown") -> None:
        """Deletes a message, a person's or the app's; a root with answers becomes a tombstone: a message_changed."""
        self.erase(_ts_of(message))

    async def react(self, message: "str | Message | Shown", name: str, *, by: Person | None = None) -> None:
        self.add_reaction(_ts_of(message), name, (by or self.people[0]).id)

    async def unreact(self, message: "str | Message | Shown", name: str, *, by: Person | None = None) -> None:
        self.remove_reaction(_ts_of(message), name, (by or self.people[0]).id)

    async def press(
        self, message: "str | Message | Shown", which: str, *, by: Person | None = None, stale: bool = False
    ) -> Delivery:
        """Presses the button with this action id, value or label.

        It must be there, unless `stale`: pressed on a screen that has not caught up, or whose message is gone.
        """
        ts = _ts_of(message)
        shown = self._screen.get(ts) or next(
            (each for each in (*self.deleted, *self.ephemerals) if each.ts == ts), None
        )
        there = [] if shown is None else [*shown.buttons, *(shown.past_buttons if stale else ())]
        found = next((each for each in there if which in (each.action_id, each.value, each.label)), None)
        if shown is None or found is None:
            raise LookupError(f"message {ts} has no button {which!r} but {there}; {self._transcript()}")
        person = by or self.people[0]
        return self._server.tell("interactive", self._press_payload(shown, found, person), self)

    def _press_payload(self, shown: Shown, button: Button, person: Person) -> Json:
        container: Json = {
            "type": "message",
            "message_ts": shown.ts,
            "channel_id": self.id,
            "is_ephemeral": shown.to is not None,
        }
        message = self.log.get(shown.ts)
        if shown.thread_ts:
            container["thread_ts"] = shown.thread_ts
        return {
            "type": "block_actions",
            "user": {"id": person.id, "username": person.handle, "name": person.handle, "team_id": TEAM},
            "api_app_id": APP,
            "token": "verification",
            "container": container,
            "trigger_id": self._server.trigger(),
            "team": {"id": TEAM, "domain": "test"},
            "enterprise": None,
            "is_enterprise_install": False,
            "channel": {"id": self.id, "name": self.name},
            **({"message": message} if message and shown.to is None else {}),
            "state": {"values": {}},
            "response_url": self._server.response_url(self, shown.ts, person.id),
            "actions": [
                {
                    "type": "button",
                    "action_id": button.action_id,
                    "block_id": button.block_id,
                    "text": {"type": "plain_text", "text": escape(button.label), "emoji": True},
                    **({"value": button.value} if button.value else {}),
                    **({"style": button.style} if button.style else {}),
                    "action_ts": self.tick(),
                }
            ],
        }

    async def command(self, command: str, text: str = "", *, by: Person | None = None) -> Delivery:
        """A slash command: `place.command("/interject", "stop")`; there are none in threads."""
        person = by or self.people[0]
        payload = {
            "token": "verification",
            "team_id": TEAM,
            "team_domain": "test",
            "channel_id": self.id,
            "channel_name": "directmessage" if self.is_direct else self.name,
            "user_id": person.id,
            "user_name": person.handle,
            "command": command,
            "text": self._server.wire(text),
            "api_app_id": APP,
            "is_enterprise_install": "false",
            "response_url": self._server.response_url(self, None, person.id),
            "trigger_id": self._server.trigger(),
        }
        return self._server.tell("slash_commands", payload, self)

    async def stop_session(self, thread: "str | Message | Shown", *, by: Person | None = None) -> Delivery:
        """Presses Slack's own stop button of an agent session; its status stays until the app changes it."""
        root = self.root_of(_ts_of(thread))
        streaming = [ts for ts, stream in self._streams.items() if stream.is_open and self.root_of(ts) == root]
        event = {
            "type": "agent_session_stopped",
            "channel": self.id,
            "thread_ts": root,
            "user": (by or self.people[0]).id,
            "streaming_message_ts": streaming,
            "event_ts": self.tick(),
        }
        return self._server.emit(event, self)

    async def bot_says(
        self,
        text: str,
        *,
        name: str = "Deploys",
        classic: bool = True,
        thread: "str | Message | Shown | None" = None,
    ) -> Message:
        """Another program speaks: a `classic` one with subtype bot_message and no user, others with a bot user."""
        bot = self._server.other_bot(name)
        bot_id = f"B{bot.id[1:]}"
        root = None if thread is None else self.root_of(_ts_of(thread))
        if classic:
            fields: Json = {"subtype": "bot_message", "bot_id": bot_id, "username": name}
        else:
            fields = {"bot_id": bot_id, "app_id": "A0OTHER", "bot_profile": {"id": bot_id, "name": name}}
        message = self.compose("" if classic else bot.id, root, {"text": text} | fields)
        self._tell_of_new(message)
        return message

    async def open_assistant(self, *, by: Person | None = None) -> "Thread":
        """Opens a thread of the app's assistant pane, before anything is said in it."""
        person = by or self.people[0]
        root = self.compose(
            self._server.me.id, None, {"text": "New Assistant Thread", "subtype": "assistant_app_thread"}
        )
        context = {"channel_id": self.id, "team_id": TEAM, "enterprise_id": None}
        thread = {"user_id": person.id, "context": context, "channel_id": self.id, "thread_ts": root["ts"]}
        event = {"type": "assistant_thread_started", "assistant_thread": thread, "event_ts": self.tick()}
        self._server.emit(event, self)
        return Thread(self, root["ts"])

    async def open_messages_tab(self, *, by: Person | None = None) -> None:
        """Opens the app's Messages tab, where apps with an `agent_view` are written to."""
        person = by or self.people[0]
        self.is_agent_view = True
        event = {"type": "app_home_opened", "user": person.id, "channel": self.id, "tab": "messages"}
        self._server.emit(event | {"event_ts": self.tick()}, self)

    async def repeat(self, message: "str | Message | Shown") -> None:
        """Delivers the events of a message once more, acknowledged or not, with the same event ids."""
        for delivery in self._server.about(self, message):
            self._server.send_again(delivery, "http_timeout")

    async def push(self, event: Event) -> Delivery:
        """Any event of this place, malformed or not; what is missing of channel and type is not added."""
        return self._server.emit(event, self)

    # -- what the place does

    async def change_id(self) -> Delivery:
        """Slack gives the channel another id; the old one is not found any more."""
        old, self.id = self.id, f"{self.id}NEW"
        self._server.places[self.id] = self._server.places.pop(old)
        return await self.push(
            {"type": "channel_id_changed", "old_channel_id": old, "new_channel_id": self.id, "event_ts": self.tick()}
        )

    def kick(self) -> None:
        """The app is removed (in a direct conversation: disabled)."""
        self.refusal = "channel_not_found" if self.is_direct else "not_in_channel"

    def archive(self) -> None:
        self.refusal = "is_archived"

    def readmit(self) -> None:
        self.refusal = None

    def expire(self, message: "str | Message | Shown") -> None:
        """Slack itself ends a stream, as it does some five minutes after the start; the message stays as it is."""
        self.stream_of(_ts_of(message)).is_open = False
        self.paint(_ts_of(message))
        self.bell.ring()

    # -- the server's side

    def tick(self) -> str:
        """A ts of this place; other places have the same ones."""
        self._ticks += 1
        seconds, steps = divmod(self._ticks, 9_000)
        return f"{self._server.epoch + seconds}.{steps * 100:06d}"

    def emit(self, event: Event) -> Delivery:
        placed = {**event, "channel": self.id, "channel_type": self.kind}
        placed.setdefault("event_ts", placed.get("ts"))
        return self._server.emit(placed, self)

    def compose(self, user: str, root: str | None, fields: Json) -> Message:
        """A new message in the log, not yet told of."""
        message: Message = {"type": "message", "ts": self.tick(), "team": TEAM}
        if user:
            message["user"] = user
        if root is not None:
            message["thread_ts"] = root
            if parent := self.log.get(root):
                parent.setdefault("thread_ts", root)
                parent["reply_count"] = parent.get("reply_count", 0) + 1
                parent["latest_reply"] = message["ts"]
                message["parent_user_id"] = parent.get("user", "")
        message |= fields
        self.log[message["ts"]] = message
        return message

    def post(self, root: str | None, fields: Json, stream: _Stream | None = None) -> Message:
        """A message of the app's: on the screen, and echoed to the app as an event like everybody's."""
        if root is not None:
            if root not in self.log:
                self.strays.append(root)
            root = self.root_of(root)
        me = {"bot_id": self._server.bot_id, "app_id": APP, "bot_profile": self._server.profile}
        message = self.compose(self._server.me.id, root, me | fields)
        ts = message["ts"]
        if stream:
            self._streams[ts] = stream
        self._screen[ts] = Shown(ts, time.monotonic(), root, was_streamed=stream is not None)
        if root is not None and self.status_of(root):
            self.statuses.append(Status(root, "", time.monotonic()))
        self.paint(ts)
        self._tell_of_new(message)
        return message

    def change(self, ts: str, fields: Json, *, told: bool = True) -> None:
        """The app changes a message of its own."""
        before = self.log[ts]
        shown = self._screen[ts]
        old = shown.text
        changed = {**before, **fields}
        self.log[ts] = changed
        self.paint(ts)
        if shown.text != old:
            shown.edits.append(Edit(shown.text, time.monotonic()))
        if told:
            self._tell_of_change(before, changed)

    def paint(self, ts: str) -> None:
        """Makes what is shown of what is in the log."""
        shown = self._screen.get(ts)
        if shown is None:
            return
        message, stream = self.log[ts], self._streams.get(ts)
        before = shown.buttons
        shown.blocks = message.get("blocks", [])
        shown.past_buttons += [each for each in before if each not in shown.buttons]
        shown.fallback = message.get("text", "")
        shown.metadata = message.get("metadata")
        shown.files = self._server.files.shown(message.get("files", []))
        shown.is_stream_open = stream is not None and stream.is_open
        shown.reactions = self.reactions(ts)
        read = self._server.reader
        markdown = [str(block["text"]) for block in shown.blocks if block["type"] == "markdown"]
        shown.tasks = _tasks_in(shown.blocks)
        shown.plan = next((str(block["title"]) for block in shown.blocks if block["type"] == "plan"), "")
        reading = _Reading()
        if stream:
            message["streaming_state"] = "in_progress" if stream.is_open else "completed"
            reading.add(read.stream(stream.parts))
            markdown.insert(0, stream.markdown)
            shown.tasks = [*stream.tasks, *shown.tasks]
            shown.plan = stream.plan or shown.plan
        if shown.blocks:
            reading.add(read.blocks(shown.blocks))
        elif not stream:
            reading.add(read.mrkdwn(message.get("text", "")))
        for attachment in message.get("attachments", []):
            reading.add(read.attachment(attachment))
        shown.markdown = "\n\n".join(filter(None, markdown))
        shown.text, shown.links = reading.plain, reading.links
        shown.pings = reading.pings + [ping for ping in read.mrkdwn(shown.fallback).pings if ping not in reading.pings]

    def stream_of(self, ts: str) -> _Stream:
        return self._streams[ts]

    def is_streaming(self, ts: str) -> bool:
        stream = self._streams.get(ts)
        return stream is not None and stream.is_open

    def was_streamed(self, ts: str) -> bool:
        return ts in self._streams

    def forget_stream(self, ts: str) -> None:
        """An update has replaced what was streamed."""
        self._streams.pop(ts, None)
        self.log[ts].pop("streaming_state", None)

    def whisper(self, to: str, root: str | None, fields: Json) -> str:
        """A message that only one person sees, and that no history has."""
        shown = Shown(self.tick(), time.monotonic(), root, to=to)
        read = self._server.reader
        shown.fallback = fields.get("text", "")
        shown.blocks = fields.get("blocks", [])
        reading = read.blocks(shown.blocks) if shown.blocks else read.mrkdwn(shown.fallback)
        shown.text, shown.links, shown.pings = reading.plain, reading.links, reading.pings
        shown.markdown = "\n\n".join(str(each["text"]) for each in shown.blocks if each["type"] == "markdown")
        self.ephemerals.append(shown)
        return shown.ts

    def show_answer(self, delivery: Delivery, answer: Json) -> None:
        """What an acknowledgement of a command carried is shown, to the person alone unless in_channel."""
        if delivery.kind != "slash_commands" or not (answer.get("text") or answer.get("blocks")):
            return
        if answer.get("response_type") == "in_channel":
            self.post(None, {"text": answer.get("text", ""), "blocks": answer.get("blocks", [])})
        else:
            self.whisper(delivery.payload["user_id"], None, answer)
        self.bell.ring()

    def erase(self, ts: str) -> None:
        before = self.log[ts]
        if shown := self._screen.pop(ts, None):
            self.deleted.append(shown)
        root = self.log.get(before.get("thread_ts", ""))
        if before.get("reply_count"):
            tomb = {"type": "message", "subtype": "tombstone", "user": "USLACKBOT", "hidden": True, "ts": ts}
            kept = {key: before[key] for key in ("thread_ts", "reply_count", "latest_reply")}
            self._tell_of_change(before, {**tomb, **kept, "text": "This message was deleted."})
            return
        del self.log[ts]
        if root is not None and root["ts"] != ts:
            root["reply_count"] -= 1
        deleted = {"subtype": "message_deleted", "hidden": True, "deleted_ts": ts, "previous_message": before}
        self.emit({"type": "message", "ts": self.tick(), **deleted})
        self.bell.ring()

    def add_reaction(self, ts: str, name: str, user: str) -> bool:
        message = self.log[ts]
        found = next((each for each in message.setdefault("reactions", []) if each["name"] == name), None)
        if found is None:
            message["reactions"].append(found := {"name": name, "users": [], "count": 0})
        if user in found["users"]:
            return False
        found["users"].append(user)
        self._reacted("reaction_added", message, found, user)
        return True

    def remove_reaction(self, ts: str, name: str, user: str) -> bool:
        message = self.log[ts]
        found = next((each for each in message.get("reactions", []) if each["name"] == name), None)
        if found is None or user not in found["users"]:
            return False
        found["users"].remove(user)
        if not found["users"]:
            message["reactions"].remove(found)
        self._reacted("reaction_removed", message, found, user)
        return True

    def _reacted(self, kind: str, message: Message, reaction: Json, user: str) -> None:
        reaction["count"] = len(reaction["users"])
        if user == self._server.me.id:
            self.marks.append(Mark(message["ts"], reaction["name"], kind == "reaction_added", time.monotonic()))
        self.paint(message["ts"])
        item = {"type": "message", "channel": self.id, "ts": message["ts"]}
        event = {"type": kind, "user": user, "reaction": reaction["name"], "item": item}
        self._server.emit(event | {"item_user": message.get("user", ""), "event_ts": self.tick()}, self)

    def status_of(self, thread: "str | Message | Shown") -> str:
        """What the assistant's status line of a thread says now."""
        root = self.root_of(_ts_of(thread))
        return next((each.status for each in reversed(self.statuses) if each.thread_ts == root), "")

    def card(self) -> Json:
        is_channel = self.kind in ("channel", "group")
        card: Json = {
            "id": self.id,
            "created": self._server.epoch,
            "is_im": self.is_direct,
            "is_mpim": self.kind == "mpim",
            "is_channel": self.kind == "channel",
            "is_group": self.kind == "group",
            "is_private": self.kind != "channel",
            "is_archived": self.refusal == "is_archived",
            "is_member": self.refusal is None,
            "context_team_id": TEAM,
        }
        if is_channel:
            card |= {"name": self.name, "name_normalized": self.name}
            card |= {name: {"value": text, "creator": "", "last_set": 0} for name, text in self.about.items()}
        return card | ({"user": self.people[0].id} if self.is_direct else {})


def _bare_card(card: Json) -> Json:
    """All that an event tells of a file from elsewhere; files.info knows the rest."""
    return {"id": card["id"], "mode": "file_access", "file_access": card["file_access"], "created": 0, "timestamp": 0}


class Thread:
    """One thread of a place, with the same verbs; `ts` is its root's."""

    def __init__(self, place: Place, ts: str) -> None:
        self.place, self.ts = place, ts
        self._heard = ""

    @property
    def messages(self) -> list[Shown]:
        """The app's answers in this thread that are on screen now."""
        return [shown for shown in self.place.messages if shown.thread_ts == self.ts]

    @property
    def texts(self) -> list[str]:
        return [shown.text for shown in self.messages]

    @property
    def ephemerals(self) -> list[Shown]:
        return [shown for shown in self.place.ephemerals if shown.thread_ts == self.ts]

    @property
    def status(self) -> str:
        return self.place.status_of(self.ts)

    @property
    def session(self) -> Session | None:
        return self.place.sessions.get(self.ts)

    def until(self, predicate: "Callable[[Thread], T | None]", timeout: float = 60) -> Coroutine[Any, Any, T]:
        return self.place.until(lambda _: predicate(self), timeout)

    def hear(self, match: "Match" = None, timeout: float = 60) -> Coroutine[Any, Any, Shown]:
        """As `Place.hear`, of this thread only."""

        def heard(_: Thread) -> Shown | None:
            for shown in self.messages:
                if shown.ts > self._heard and _matches(shown, match):
                    self._heard = shown.ts
                    return shown
            return None

        return self.until(heard, timeout)

    async def say(self, text: str, **options: Any) -> Message:
        return await self.place.say(text, thread=self.ts, **options)

    async def send_files(
        self, files: "Iterable[Upload | tuple[str, bytes]]", text: str = "", **options: Any
    ) -> Message:
        return await self.place.send_files(files, text, thread=self.ts, **options)

    async def send_file(self, name: str, data: bytes, text: str = "", **options: Any) -> Message:
        return await self.place.send_file(name, data, text, thread=self.ts, **options)

    async def stop_session(self, *, by: Person | None = None) -> Delivery:
        return await self.place.stop_session(self.ts, by=by)


Match = str | re.Pattern[str] | Callable[[Shown], bool] | None


def _matches(shown: Shown, match: Match) -> bool:
    match match:
        case None:
            return True
        case str():
            return match in shown.text
        case re.Pattern():
            return match.search(shown.text) is not None
        case _:
            return match(shown)


def _rich_text(wire: str) -> list[Json]:
    """The blocks that Slack makes of what a person types (without the styles)."""
    section = {"type": "rich_text_section", "elements": [{"type": "text", "text": unescape(wire)}]}
    return [{"type": "rich_text", "block_id": "person", "elements": [section]}]


# --------------------------------------------------------------------------------------------------------------- faults


@dataclass(slots=True)
class _Fault:
    method: str
    channel: str | None
    error: Refused | None  # None: performed, and the answer lost
    left: int

    def hits(self, method: str, place: Place | None) -> bool:
        here = self.channel is None or (place is not None and place.id == self.channel)
        return self.left > 0 and here and self.method in (method, "*")


class Hold:
    """Calls of one method that wait at the door (or, `after`, with their work done and the answer kept back)."""

    def __init__(self, server: "Slack", method: str, after: bool) -> None:
        self.method, self.after = method, after
        self.arrived = 0
        self._server = server
        self._waiting: list[asyncio.Future[None]] = []

    def until_arrived(self, count: int = 1, timeout: float = 60) -> Coroutine[Any, Any, bool]:
        """Waits until so many calls were held."""
        return self._server.until(lambda _: self.arrived >= count, timeout)

    def release(self) -> None:
        """Lets go what is held, and holds no more."""
        if self in self._server.holds:
            self._server.holds.remove(self)
        self.end(None)

    def end(self, error: Exception | None) -> None:
        for future in self._waiting:
            if not future.done() and error:
                future.set_exception(error)
            elif not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def wait(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self.arrived += 1
        self._server.bell.ring()
        await future

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Outage:
    """A time in which connections are closed without an answer; over at `release()` or at the end of a `with`."""

    def __init__(self, server: "Slack", seconds: float | None, sockets_only: bool) -> None:
        self.sockets_only = sockets_only
        self._server = server
        self._timer = asyncio.get_running_loop().call_later(seconds, self.release) if seconds is not None else None

    def release(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._server.outage is self:
            self._server.outage = None
        self._server.bell.ring()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(slots=True)
class _Bucket:
    """A budget that refills; https://docs.slack.dev/apis/web-api/rate-limits"""

    capacity: float
    per_second: float
    level: float
    at: float

    def shortage(self, now: float) -> float:
        """Seconds until one more can be paid; 0 is now."""
        self.level = min(self.capacity, self.level + (now - self.at) * self.per_second)
        self.at = now
        return max(0.0, (1 - self.level) / self.per_second)


_TIERS = {1: 1, 2: 20, 3: 50, 4: 100}  # calls a minute
_TIER_OF = {
    "apps.connections.open": 1,
    "chat.startStream": 2,
    "chat.stopStream": 2,
    "reactions.remove": 2,
    "chat.appendStream": 4,
    "chat.postEphemeral": 4,
    "users.info": 4,
    "users.list": 2,
    "usergroups.list": 2,
    "files.getUploadURLExternal": 4,
    "files.completeUploadExternal": 4,
    "files.info": 4,
}


class _RateLimits:
    """Per method its tier; posting about 1 a second in a channel, in bursts of 5."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def check(self, method: str, place: Place | None) -> None:
        if method == "chat.postMessage":
            bucket = self._bucket(method, place.id if place else "", 5, 1.0)
        else:
            minute = _TIERS[_TIER_OF.get(method, 3)]
            bucket = self._bucket(method, "", minute, minute / 60)
        if (wait := bucket.shortage(time.monotonic())) > 0:
            raise _too_many(math.ceil(wait))
        bucket.level -= 1

    def _bucket(self, method: str, channel: str, capacity: float, per_second: float) -> _Bucket:
        fresh = _Bucket(capacity, per_second, capacity, time.monotonic())
        return self._buckets.setdefault((method, channel), fresh)


# -------------------------------------------------------------------------------------------------------------- methods


class _Methods:
    """What the app may call: a method each, from parameters to answer; raises Refused as Slack refuses."""

    def __init__(self, server: "Slack") -> None:
        self.server = server

    # -- the app itself

    def auth_test(self, _: Params) -> Json:
        server = self.server
        return {
            "url": "https://test.slack.com/",
            "team": "Test",
            "user": server.me.handle,
            "team_id": TEAM,
            "user_id": server.me.id,
            "bot_id": server.bot_id,
            "is_enterprise_install": False,
        }

    def open_connection(self, _: Params) -> Json:
        return {"url": self.server.new_socket_url()}

    def bot_info(self, params: Params) -> Json:
        bot = params.text("bot")
        if bot == self.server.bot_id:
            person = self.server.me
        else:
            found = self.server.people.get(f"U{bot[1:]}")
            if found is None or not found.is_bot:
                raise Refused("bot_not_found")
            person = found
        card = {"id": bot, "app_id": APP, "user_id": person.id, "name": person.name, "deleted": False}
        return {"bot": card}

    # -- people and places

    def user_info(self, params: Params) -> Json:
        person = self.server.people.get(params.text("user"))
        if person is None:
            raise Refused("user_not_found")
        return {"user": self._user_card(person)}

    def list_users(self, params: Params) -> Json:
        """https://docs.slack.dev/reference/methods/users.list: the people of the workspace, in pages."""
        people = [person for person in self.server.people.values() if person.team == TEAM]
        start, size = int(params.text("cursor") or 0), int(params.text("limit") or 0) or len(people)
        following = str(start + size) if start + size < len(people) else ""
        cards = [self._user_card(person) for person in people[start : start + size]]
        return {"members": cards, "response_metadata": {"next_cursor": following}}

    def list_user_groups(self, params: Params) -> Json:
        """https://docs.slack.dev/reference/methods/usergroups.list: who is in them only with include_users."""
        with_users = params.flag("include_users")
        return {"usergroups": [group.card(with_users=with_users) for group in self.server.user_groups]}

    def _user_card(self, person: Person) -> Json:
        profile = {"real_name": person.name, "display_name": person.name, "team": person.team}
        card = {"id": person.id, "team_id": person.team, "name": person.handle, "real_name": person.name}
        card |= {"deleted": False, "is_restricted": person.guest, "is_ultra_restricted": False}
        card |= {"is_stranger": True} if person.team != TEAM else {}
        return card | {"is_bot": person.is_bot, "profile": profile, "tz": "Etc/UTC", "tz_offset": 0}

    def conversation_info(self, params: Params) -> Json:
        place = self.server.places.get(params.text("channel"))
        if place is None or place.refusal == "channel_not_found":
            raise Refused("channel_not_found")
        return {"channel": place.card()}

    def list_conversations(self, params: Params) -> Json:
        names = {"public_channel": "channel", "private_channel": "group", "im": "im", "mpim": "mpim"}
        asked = (params.text("types") or "public_channel").split(",")
        kinds = {names.get(kind.strip()) for kind in asked}
        places = [place.card() for place in self.server.places.values() if place.kind in kinds]
        return {"channels": places, "response_metadata": {"next_cursor": ""}}

    def conversation_members(self, params: Params) -> Json:
        place = self._place(params)
        return {"members": [person.id for person in place.people] + [self.server.me.id]}

    def open_conversation(self, params: Params) -> Json:
        ids = [each.strip() for each in params.text("users").split(",") if each.strip()]
        people = [self.server.people[each] for each in ids if each in self.server.people]
        if not ids or len(people) != len(ids):
            raise Refused("user_not_found")
        place = self.server.direct(people[0]) if len(people) == 1 else self.server.group_direct(people)
        return {"channel": place.card() if params.flag("return_im") else {"id": place.id}}

    def history(self, params: Params) -> Json:
        place = self._place(params)
        top = [each for each in place.log.values() if each.get("thread_ts", each["ts"]) == each["ts"]]
        broadcast = [each for each in place.log.values() if each.get("subtype") == "thread_broadcast"]
        newest_first = sorted((*top, *broadcast), key=lambda each: str(each["ts"]), reverse=True)
        return self._page(params, _between(params, newest_first), 100)

    def replies(self, params: Params) -> Json:
        place = self._place(params)
        asked = params.required("ts")
        if asked not in place.log:
            raise Refused("thread_not_found")
        root = place.log[place.root_of(asked)] if place.root_of(asked) in place.log else place.log[asked]
        answers = [each for each in place.log.values() if each.get("thread_ts") == root["ts"] and each is not root]
        return self._page(params, [root, *_between(params, answers)], 1000)

    def _page(self, params: Params, messages: list[Message], usual: int) -> Json:
        limit = min(max(params.number("limit", usual), 1), 1000)
        start = int(params.text("cursor").removeprefix("page:") or 0)
        shown = [dict(message) for message in messages[start : start + limit]]
        if not params.flag("include_all_metadata"):
            for message in shown:
                message.pop("metadata", None)
        more = len(messages) > start + limit
        cursor = {"response_metadata": {"next_cursor": f"page:{start + limit}"}} if more else {}
        return {"messages": shown, "has_more": more} | cursor

    def permalink(self, params: Params) -> Json:
        place = self._place(params)
        ts = params.required("message_ts")
        if ts not in place.log:
            raise Refused("message_not_found")
        return {"channel": place.id, "permalink": f"https://test.slack.com/archives/{place.id}/p{ts.replace('.', '')}"}

    # -- messages

    def post_message(self, params: Params) -> Json:
        place = self._place(params)
        fields = self.content(params, TEXT_LIMIT)
        root = params.text("thread_ts") or None
        self._check_ts(root)
        if params.flag("reply_broadcast") and root:
            fields["subtype"] = "thread_broadcast"
        message = place.post(root, fields)
        return {"channel": place.id, "ts": message["ts"], "message": message}

    def post_ephemeral(self, params: Params) -> Json:
        place = self._place(params)
        fields = self.content(params, TEXT_LIMIT)
        user = params.required("user")
        if user not in [person.id for person in place.people]:
            raise Refused("user_not_in_channel")
        return {"message_ts": place.whisper(user, params.text("thread_ts") or None, fields)}

    def update(self, params: Params) -> Json:
        place, ts = self._own_message(params, "cant_update_message")
        if place.is_streaming(ts):
            raise Refused("streaming_state_conflict")
        fields = self.content(params, UPDATE_TEXT_LIMIT, may_be_empty=bool(place.log[ts].get("blocks")))
        if place.was_streamed(ts) and fields.get("blocks"):
            place.forget_stream(ts)
        place.change(ts, fields)
        return {"channel": place.id, "ts": ts, "text": place.log[ts].get("text", ""), "message": place.log[ts]}

    def delete(self, params: Params) -> Json:
        place, ts = self._own_message(params, "cant_delete_message")
        if place.is_streaming(ts):
            raise Refused("cant_delete_message")
        place.erase(ts)
        return {"channel": place.id, "ts": ts}

    def content(self, params: Params, text_limit: int, *, may_be_empty: bool = False) -> Json:
        """Text, blocks, attachments and metadata of a message; only those given, so that an update keeps the rest."""
        text, markdown = params.text("text"), params.text("markdown_text")
        blocks = params.json("blocks", list, "invalid_blocks_format")
        attachments = params.json("attachments", list, "invalid_attachments")
        if markdown and (text or blocks):
            raise Refused("markdown_text_conflict")
        if len(text) > text_limit or len(markdown) > MARKDOWN_LIMIT:
            raise Refused("msg_too_long")
        if not (text.strip() or markdown.strip() or blocks or attachments or may_be_empty):
            raise Refused("no_text")
        fields: Json = {"text": text} if text else {}
        if markdown:
            blocks = [{"type": "markdown", "text": markdown}]
            fields["text"] = escape(self.server.reader.markdown(markdown).plain)
        if blocks is not None:
            fields["blocks"] = _check_blocks(blocks)
            fields.setdefault("text", escape(self.server.reader.blocks(blocks).plain))
        if attachments is not None:
            fields["attachments"] = attachments
        return fields | self._metadata(params)

    def _metadata(self, params: Params) -> Json:
        metadata = params.json("metadata", dict, "invalid_metadata_format")
        if metadata is None:
            return {}
        if len(json.dumps(metadata)) > METADATA_LIMIT:
            raise Refused("metadata_too_large")
        if metadata and not (isinstance(metadata.get("event_type"), str) and "event_payload" in metadata):
            raise Refused("invalid_metadata_format")
        return {"metadata": metadata}

    # -- streams

    def start_stream(self, params: Params) -> Json:
        place = self._place(params)
        if not (root := params.text("thread_ts")):
            raise Refused("invalid_thread_ts")
        self._check_ts(root)
        if not place.is_direct:
            for name in ("recipient_team_id", "recipient_user_id"):
                if not params.text(name):
                    raise Refused(f"missing_{name}")
        mode = params.text("task_display_mode") or "timeline"
        if mode not in ("timeline", "plan", "dense"):
            raise _invalid_arguments("must be one of: timeline, plan, dense", "task_display_mode")
        stream = _Stream(mode)
        chunks = self._chunks(params)
        self._grow(stream, chunks)
        message = place.post(root, {"text": ""}, stream)
        self._streamed(place, message["ts"], chunks)
        return {"channel": place.id, "ts": message["ts"]}

    def append_stream(self, params: Params) -> Json:
        place, ts = self._open_stream(params)
        chunks = self._chunks(params)
        if not chunks:
            raise Refused("no_text")
        self._grow(place.stream_of(ts), chunks)
        self._streamed(place, ts, chunks)
        return {"channel": place.id, "ts": ts}

    def stop_stream(self, params: Params) -> Json:
        place, ts = self._open_stream(params)
        chunks = self._chunks(params)
        blocks = params.json("blocks", list, "invalid_blocks_format")
        fields: Json = {"blocks": _check_blocks(blocks)} if blocks else {}
        fields |= self._metadata(params)
        status = params.text("session_status")
        self._check_session_status(status)
        stream = place.stream_of(ts)
        self._grow(stream, chunks)
        stream.is_open = False
        self._streamed(place, ts, chunks)
        text = escape(self.server.reader.stream(stream.parts).plain)
        place.change(ts, {"text": text, **fields})
        if status:
            self._set_session(place, place.root_of(ts), status)
        return {"channel": place.id, "ts": ts, "message": place.log[ts]}

    def _open_stream(self, params: Params) -> tuple[Place, str]:
        place, ts = self._own_message(params, "message_not_owned_by_app")
        if not place.is_streaming(ts):
            raise Refused("message_not_in_streaming_state")
        return place, ts

    def _chunks(self, params: Params) -> list[Json]:
        """All that a call adds, as chunks; https://docs.slack.dev/reference/methods/chat.appendStream"""
        chunks: list[Json] = list(params.json("chunks", list, "invalid_chunks") or [])
        if markdown := params.text("markdown_text"):
            if chunks:
                raise Refused("markdown_text_conflict")
            chunks.append({"type": "markdown_text", "text": markdown})
        for number, chunk in enumerate(chunks):
            self._check_chunk(chunk, f"/chunks/{number}")
        if sum(len(chunk["blocks"]) for chunk in chunks if chunk["type"] == "blocks") > BLOCKS_LIMIT:
            raise Refused("invalid_blocks")
        return chunks

    def _check_chunk(self, chunk: Any, at: str) -> None:
        kind = chunk.get("type") if isinstance(chunk, dict) else None
        match kind:
            case "markdown_text":
                if not isinstance(chunk.get("text"), str):
                    raise _invalid("invalid_chunks", "missing required field: text", at)
                if len(chunk["text"]) > MARKDOWN_LIMIT:
                    raise Refused("msg_too_long")
            case "task_update":
                for name in ("id", "title", "status"):
                    if not chunk.get(name):
                        raise _invalid("invalid_chunks", f"missing required field: {name}", at)
                if chunk["status"] not in TASK_STATUSES:
                    raise _invalid(
                        "invalid_chunks", f"must be one of: {', '.join(sorted(TASK_STATUSES))}", f"{at}/status"
                    )
                for name in ("title", "details", "output"):
                    if len(chunk.get(name) or "") > TASK_FIELD_LIMIT:
                        raise _invalid(
                            "invalid_chunks", f"must be less than {TASK_FIELD_LIMIT + 1} characters", f"{at}/{name}"
                        )
            case "plan_update":
                if not chunk.get("title") or len(chunk["title"]) > TASK_FIELD_LIMIT:
                    raise _invalid("invalid_chunks", f"must have 1 to {TASK_FIELD_LIMIT} characters", f"{at}/title")
            case "blocks":
                _check_blocks(chunk.get("blocks") or [])
            case _:
                raise _invalid("invalid_chunks", f"unsupported type: {kind}", f"{at}/type")

    def _grow(self, stream: _Stream, chunks: list[Json]) -> None:
        for chunk in chunks:
            match chunk["type"]:
                case "markdown_text":
                    stream.parts.append(chunk["text"])
                case "blocks":
                    stream.parts.append(chunk["blocks"])
                case "plan_update":
                    stream.plan = chunk["title"]
                case _:
                    held = stream.cards.setdefault(chunk["id"], {})
                    added = {name: held.get(name, "") + (chunk.get(name) or "") for name in ("details", "output")}
                    held |= chunk | added

    def _streamed(self, place: Place, ts: str, chunks: list[Json]) -> None:
        shown = place.shown(ts)
        if shown is None:
            return
        if text := "".join(chunk["text"] for chunk in chunks if chunk["type"] == "markdown_text"):
            shown.streamed.append(text)
        place.paint(ts)

    # -- reactions

    def add_reaction(self, params: Params) -> Json:
        place, ts = self._any_message(params, "timestamp")
        name = self._emoji(params)
        if not place.add_reaction(ts, name, self.server.me.id):
            raise Refused("already_reacted")
        return {}

    def remove_reaction(self, params: Params) -> Json:
        place, ts = self._any_message(params, "timestamp")
        if not place.remove_reaction(ts, self._emoji(params), self.server.me.id):
            raise Refused("no_reaction")
        return {}

    def get_reactions(self, params: Params) -> Json:
        place, ts = self._any_message(params, "timestamp")
        return {"type": "message", "channel": place.id, "message": place.log[ts]}

    def _emoji(self, params: Params) -> str:
        name = params.required("name").strip(":")
        if name.partition("::")[0] not in EMOJI | self.server.emoji:
            raise Refused("invalid_name")
        return name

    # -- files

    def get_upload_url(self, params: Params) -> Json:
        name, length = params.required("filename"), params.number("length", 0)
        if length < 1:
            raise _invalid_arguments("must be more than 0: length", "length")
        if len(params.text("alt_txt")) > ALT_LIMIT:
            raise _invalid_arguments(f"must be less than {ALT_LIMIT + 1} characters: alt_txt", "alt_txt")
        alt = {"alt_txt": params.text("alt_txt")} if params.text("alt_txt") else {}
        stored = self.server.files.add(name, b"", self.server.me.id, **alt)
        stored.is_uploaded = False
        stored.card["size"] = length
        ticket = f"ticket-{stored.card['id']}"
        self.server.files.tickets[ticket] = stored
        return {"upload_url": f"{self.server.url}/upload/v1/{ticket}", "file_id": stored.card["id"]}

    def complete_upload(self, params: Params) -> Json:
        asked = params.json("files", list, "invalid_arguments")
        if not asked:
            raise _invalid_arguments("missing required field: files", "files")
        stored: list[Stored] = []
        for each in asked:
            found = self.server.files.by_id.get(str(each.get("id")))
            if found is None or not found.is_uploaded:
                raise Refused("file_not_found")
            found.card["title"] = each.get("title") or found.card["name"]
            stored.append(found)
        channels = [each for each in (params.text("channel_id") or params.text("channels")).split(",") if each]
        places = [self.server.places.get(channel) for channel in channels]
        for place in places:
            if place is None:
                raise Refused("invalid_channel")
            if place.refusal:
                raise Refused(place.refusal)
        root = params.text("thread_ts") or None
        self._check_ts(root)
        blocks = params.json("blocks", list, "invalid_blocks_format")
        for place in filter(None, places):
            self._share(place, root, stored, params.text("initial_comment"), blocks)
        return {"files": [dict(each.card) for each in stored]}

    def _share(
        self, place: Place, root: str | None, stored: list[Stored], comment: str, blocks: list[Json] | None
    ) -> None:
        cards = [each.card for each in stored]
        fields: Json = {"subtype": "file_share", "text": comment, "files": cards, "upload": False}
        message = place.post(root, fields | ({"blocks": _check_blocks(blocks)} if blocks else {}))
        for each in stored:
            each.shares.append((place.id, message["ts"]))

    def file_info(self, params: Params) -> Json:
        stored = self.server.files.by_id.get(params.text("file"))
        if stored is None:
            raise Refused("file_not_found")
        shares: Json = {}
        for channel, ts in stored.shares:
            place = self.server.places[channel]
            kind = "public" if place.kind == "channel" else "private"
            share = {"ts": ts, "channel_name": place.name}
            if thread := place.log.get(ts, {}).get("thread_ts"):
                share["thread_ts"] = thread
            shares.setdefault(kind, {}).setdefault(channel, []).append(share)
        card = {key: value for key, value in stored.card.items() if key != "file_access"}
        return {"file": card | {"shares": shares}, "comments": []}

    def delete_file(self, params: Params) -> Json:
        if self.server.files.by_id.pop(params.text("file"), None) is None:
            raise Refused("file_not_found")
        return {}

    # -- the agent's surface

    def set_assistant_status(self, params: Params) -> Json:
        place = self._place(params, "channel_id")
        root = params.required("thread_ts")
        self._check_ts(root)
        place.statuses.append(Status(place.root_of(root), params.text("status"), time.monotonic()))
        return {}

    def set_assistant_title(self, params: Params) -> Json:
        place = self._place(params, "channel_id")
        root = params.required("thread_ts")
        self._check_ts(root)
        place.titles[place.root_of(root)] = params.required("title")
        place.bell.ring()
        return {}

    def set_suggested_prompts(self, params: Params) -> Json:
        """Without a thread in an app with an `agent_view`; with one there, Slack does nothing and says nothing."""
        place = self._place(params, "channel_id")
        prompts = params.json("prompts", list, "invalid_arguments") or []
        if not 1 <= len(prompts) <= 4 or not all(each.get("title") and each.get("message") for each in prompts):
            raise _invalid_arguments("must be 1 to 4 prompts with title and message", "prompts")
        root = params.text("thread_ts")
        self._check_ts(root or None)
        if not (root and place.is_agent_view):
            place.prompts[root] = [str(each["message"]) for each in prompts]
            place.bell.ring()
        return {}

    def set_session_status(self, params: Params) -> Json:
        place = self._place(params, "channel_id")
        status = params.required("status")
        self._check_session_status(status)
        root = params.required("thread_ts")
        self._check_ts(root)
        if len(params.text("title")) > 200:
            raise _invalid_arguments("must be less than 201 characters: title", "title")
        session = self._set_session(place, place.root_of(root), status)
        session.title = params.text("title") or session.title
        session.initiator = params.text("initiator_user_id") or session.initiator
        if "agent_session_stopped" in self.server.unsubscribed:
            warning = "missing_agent_session_stopped_event_subscription"
            return {"warning": warning, "response_metadata": {"warnings": [warning]}}
        return {}

    def rename_session(self, params: Params) -> Json:
        place = self._place(params, "channel_id")
        session = place.sessions.get(place.root_of(params.required("thread_ts")))
        if session is None:
            raise Refused("session_not_found")
        if len(params.required("title")) > 200:
            raise _invalid_arguments("must be less than 201 characters: title", "title")
        session.title = params.required("title")
        place.bell.ring()
        return {}

    def _check_session_status(self, status: str) -> None:
        if status and status not in SESSION_STATUSES:
            raise _invalid_arguments(f"must be one of: {', '.join(sorted(SESSION_STATUSES))}", "status")

    def _set_session(self, place: Place, root: str, status: str) -> Session:
        session = place.sessions.setdefault(root, Session(status))
        session.status = status
        session.history.append(status)
        return session

    # -- shared

    def _place(self, params: Params, name: str = "channel") -> Place:
        given = params.required(name)
        place = self.server.places.get(given)
        if place is None and name == "channel" and given in self.server.people:
            place = self.server.direct(self.server.people[given])
        if place is None:
            raise Refused("channel_not_found")
        if place.refusal:
            raise Refused(place.refusal)
        return place

    def _any_message(self, params: Params, name: str = "ts") -> tuple[Place, str]:
        place = self._place(params)
        ts = params.required(name)
        if ts not in place.log or place.log[ts].get("subtype") == "tombstone":
            raise Refused("message_not_found")
        return place, ts

    def _own_message(self, params: Params, not_own: str) -> tuple[Place, str]:
        place, ts = self._any_message(params)
        if place.shown(ts) is None:
            raise Refused(not_own)
        return place, ts

    def _check_ts(self, ts: str | None) -> None:
        if ts and not re.fullmatch(r"\d+\.\d{6}", ts):
            raise Refused("invalid_thread_ts")


def _between(params: Params, messages: list[Message]) -> list[Message]:
    oldest, latest = params.text("oldest") or "0", params.text("latest") or "9999999999.999999"
    ends = {oldest, latest} if params.flag("inclusive") else set()
    return [
        message for message in messages if float(oldest) < float(message["ts"]) < float(latest) or message["ts"] in ends
    ]


_METHODS: dict[str, Callable[[_Methods, Params], Json]] = {
    "auth.test": _Methods.auth_test,
    "apps.connections.open": _Methods.open_connection,
    "bots.info": _Methods.bot_info,
    "users.info": _Methods.user_info,
    "users.list": _Methods.list_users,
    "usergroups.list": _Methods.list_user_groups,
    "conversations.info": _Methods.conversation_info,
    "conversations.list": _Methods.list_conversations,
    "conversations.members": _Methods.conversation_members,
    "conversations.open": _Methods.open_conversation,
    "conversations.history": _Methods.history,
    "conversations.replies": _Methods.replies,
    "chat.getPermalink": _Methods.permalink,
    "chat.postMessage": _Methods.post_message,
    "chat.postEphemeral": _Methods.post_ephemeral,
    "chat.update": _Methods.update,
    "chat.delete": _Methods.delete,
    "chat.startStream": _Methods.start_stream,
    "chat.appendStream": _Methods.append_stream,
    "chat.stopStream": _Methods.stop_stream,
    "reactions.add": _Methods.add_reaction,
    "reactions.remove": _Methods.remove_reaction,
    "reactions.get": _Methods.get_reactions,
    "files.getUploadURLExternal": _Methods.get_upload_url,
    "files.completeUploadExternal": _Methods.complete_upload,
    "files.info": _Methods.file_info,
    "files.delete": _Methods.delete_file,
    "assistant.threads.setStatus": _Methods.set_assistant_status,
    "assistant.threads.setTitle": _Methods.set_assistant_title,
    "assistant.threads.setSuggestedPrompts": _Methods.set_suggested_prompts,
    "agents.sessions.setStatus": _Methods.set_session_status,
    "agents.sessions.rename": _Methods.rename_session,
}


# ----------------------------------------------------------------------------------------------------------- the server


@dataclass(slots=True)
class _ResponseUrl:
    place: Place
    ts: str | None  # of the message whose button was pressed
    user: str
    left: int = RESPONSE_URL_USES


class Slack:
    """The server. `bot_token` and `app_token` are the app's; others are refused as Slack refuses them.

    `unsubscribed` are event types the app does not get (`"reaction_added"`, `"app_mention"`, `"message.channels"`, …),
    `emoji` the workspace's own, beside the common ones. With `scopes` given, a method that needs another is refused.
    """

    def __init__(
        self,
        *,
        bot_token: str = "xoxb-test-token",
        app_token: str = "xapp-test-token",
        name: str = "interject",
        port: int = 0,
        rate_limits: bool = False,
        scopes: Iterable[str] | None = None,
    ) -> None:
        self.bot_token, self.app_token = bot_token, app_token
        self.port = port  # 0 until the first start takes a free one, which is then kept
        self.epoch = int(time.time())
        self.me = Person("U0BOT", name, name, is_bot=True)
        self.bot_id = "B0BOT"
        self.profile: Json = {"id": self.bot_id, "app_id": APP, "name": name, "team_id": TEAM, "deleted": False}
        self.people: dict[str, Person] = {self.me.id: self.me}
        self.user_groups: list[UserGroup] = []
        self.places: dict[str, Place] = {}
        self.scopes = list(scopes) if scopes is not None else None
        self.calls: list[Call] = []
        self.refusals: list[Refusal] = []
        self.unsubscribed: set[str] = set()
        self.emoji: set[str] = set()
        self.files = _Files(lambda: self.url)
        self.reader = _Reader(self.name_of)
        self.bell = _Bell()
        self.feed = _Feed(self._ring_all)
        self.holds: list[Hold] = []
        self.outage: Outage | None = None
        self.crashes: list[Exception] = []  # mistakes of this server's, raised again when it closes
        self._limits = _RateLimits() if rate_limits else None
        self._methods = _Methods(self)
        self._faults: deque[_Fault] = deque()
        self._response_urls: dict[str, _ResponseUrl] = {}
        self._socket_tickets: set[str] = set()
        self._runner: web.AppRunner | None = None
        self._connections: list[web.Request] = []
        self._counter = 0

    # -- life

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/"

    async def start(self) -> None:
        """Listens, on the same port as before if there was one."""
        app = web.Application(client_max_size=256 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        listening = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.port = listening.getsockname()[1]
        await web.SockSite(self._runner, listening).start()

    async def stop(self) -> None:
        """Closes every connection and listens no more; places, events and faults are kept for the next `start()`."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        self._close_connections(sockets_only=False)
        await self.feed.close()
        await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if self.outage:
            self.outage.release()
        if self.crashes and error is None:
            raise ExceptionGroup("the test server itself failed", self.crashes)

    # -- who is there

    @property
    def mention(self) -> str:
        """How a message on the wire mentions the app; typed, it is an @ and its name."""
        return self.me.mention

    def person(self, name: str = "Ann") -> Person:
        """The person of this name, the same one each time."""
        return self._member(name, is_bot=False)

    def other_bot(self, name: str) -> Person:
        return self._member(name, is_bot=True)

    def _member(self, name: str, *, is_bot: bool) -> Person:
        for known in self.people.values():
            if known.name == name and known.is_bot is is_bot:
                return known
        handle = re.sub(r"[^a-z0-9]+", ".", name.lower()).strip(".") or "x"
        number = f"{len(self.people):03d}"
        return self._add(Person(f"U{number}{re.sub(r'[^A-Z0-9]', '', name.upper())[:6]}", name, handle, is_bot))

    def outsider(self, name: str, handle: str) -> Person:
        """Somebody of another workspace, in a channel shared with it. Handles are unique in a workspace only."""
        return self._add(Person(f"U0OUT{len(self.people)}", name, handle, team="T0OTHER"))

    def user_group(self, handle: str, people: "Sequence[Person]" = ()) -> "UserGroup":
        """A new user group of the workspace, whose people may change."""
        group = UserGroup(f"S{len(self.user_groups):03d}{re.sub(r'[^A-Z0-9]', '', handle.upper())}", handle, [*people])
        self.user_groups.append(group)
        return group

    def guest(self, name: str) -> Person:
        """A guest of this workspace."""
        return self._add(Person(f"U0GUEST{len(self.people)}", name, name.lower(), guest=True))

    def _add(self, person: Person) -> Person:
        self.people[person.id] = person
        return person

    def direct(self, person: "Person | str" = "Ann") -> Place:
        """The app's direct conversation with somebody, the same one each time."""
        known = self._member_of(person)
        return self._place(f"D{known.id[1:]}", "im", known.name, [known])

    def channel(
        self, name: str = "team", people: "Sequence[Person | str]" = ("Ann", "Bob"), *, private: bool = False
    ) -> Place:
        """The channel of this name, with the app in it, the same one each time."""
        kind = "group" if private else "channel"
        found = next((place for place in self.places.values() if place.name == name and place.kind == kind), None)
        return found or self._place(f"C{len(self.places):03d}TEAM", kind, name, self._known(people))

    def group_direct(self, people: "Sequence[Person | str]" = ("Ann", "Bob")) -> Place:
        """A direct conversation of several."""
        known = self._known(people)
        return self._place("G" + "".join(each.id[1:] for each in known), "mpim", "mpdm", known)

    def _known(self, people: "Sequence[Person | str]") -> list[Person]:
        return [self._member_of(each) for each in people]

    def _member_of(self, person: "Person | str") -> Person:
        return self.person(person) if isinstance(person, str) else self.people.setdefault(person.id, person)

    def _place(self, place_id: str, kind: str, name: str, people: list[Person]) -> Place:
        if place_id not in self.places:
            self.places[place_id] = Place(self, place_id, kind, name, people)
        return self.places[place_id]

    def name_of(self, some_id: str) -> str:
        """The name of a person or a channel, as it is shown."""
        if known := self.people.get(some_id):
            return known.name
        return self.places[some_id].name if some_id in self.places else some_id

    def wire(self, text: str) -> str:
        """What Slack makes of what a person types: @names, #channels and addresses become tokens, & < > escapes.

        Tokens that are there already (`<@U…>`, `<https://…|label>`) stay.
        """
        out: list[str] = []
        place = 0
        for token in _TOKEN.finditer(text):
            out += [self._wire_words(text[place : token.start()]), token[0]]
            place = token.end()
        return "".join([*out, self._wire_words(text[place:])])

    def _wire_words(self, text: str) -> str:
        text = _ADDRESS.sub(lambda found: f"\0{found[0]}\1", text)
        text = escape(text).replace("\0", "<").replace("\1", ">")
        for person in sorted(self.people.values(), key=lambda each: -len(each.name)):
            text = re.sub(rf"(?<![\w@<]){re.escape('@' + escape(person.name))}\b", person.mention, text)
        for place in self.places.values():
            if place.kind == "channel":
                text = re.sub(rf"(?<![\w#<]){re.escape('#' + place.name)}\b", place.link, text)
        return text

    # -- what is told to the app

    def emit(self, event: Event, place: Place | None = None) -> Delivery:
        """Tells of any event at all; one that the app does not subscribe to is not delivered."""
        self._counter += 1
        payload = {
            "token": "verification",
            "team_id": TEAM,
            "context_team_id": TEAM,
            "api_app_id": APP,
            "event": json.loads(json.dumps(event)),  # as it is now: what waits must not change with the message
            "type": "event_callback",
            "event_id": f"Ev{self._counter:09d}",
            "event_time": int(time.time()),
            "authorizations": [
                {
                    "enterprise_id": None,
                    "team_id": TEAM,
                    "user_id": self.me.id,
                    "is_bot": True,
                    "is_enterprise_install": False,
                }
            ],
            "is_ext_shared_channel": False,
        }
        delivery = Delivery("events_api", payload, time.monotonic(), place)
        kind = str(event.get("type", ""))
        if {kind, f"{kind}.{_SUBSCRIPTIONS.get(place.kind, '') if place else ''}"} & self.unsubscribed:
            return delivery
        self.feed.put(delivery)
        self._ring(place)
        return delivery

    def tell(self, kind: Kind, payload: Json, place: Place | None = None) -> Delivery:
        """Sends a command or an interaction (or anything in its envelope)."""
        return self.feed.put(Delivery(kind, payload, time.monotonic(), place))

    @property
    def deliveries(self) -> list[Delivery]:
        return self.feed.deliveries

    def about(self, place: Place, message: "str | Message | Shown") -> list[Delivery]:
        """The deliveries that told of a message when it was new: as `message` and perhaps as `app_mention`."""
        ts = _ts_of(message)
        new = [each for each in self.deliveries if each.place is place and "hidden" not in each.event]
        return [each for each in new if each.event.get("ts") == ts]

    def unacknowledged(self) -> list[Delivery]:
        return [each for each in self.deliveries if each.acked is None]

    async def settle(self, timeout: float = 60) -> None:  # noqa: ASYNC109 - the tests' side
        """Waits until all that was sent is acknowledged."""
        await self.until(lambda _: not self.unacknowledged(), timeout)

    def redeliver(self, reason: str = "timeout") -> int:
        """Sends again every event that was sent and not acknowledged, with the same event id; returns how many."""
        again = [each for each in self.unacknowledged() if each.sent and each.kind == "events_api"]
        for delivery in again:
            self.send_again(delivery, reason)
        return len(again)

    def send_again(self, delivery: Delivery, reason: str) -> None:
        delivery.attempt += 1
        delivery.reason = reason
        self.feed.send(delivery)

    def hold_events(self) -> EventsHeld:
        """Delivers nothing until `release()`, in order or in another."""
        self.feed.hold()
        return EventsHeld(self)

    def trigger(self) -> str:
        self._counter += 1
        return f"{self._counter}.{self.epoch}.trigger"

    def response_url(self, place: Place, ts: str | None, user: str) -> str:
        self._counter += 1
        key = f"response-{self._counter}"
        self._response_urls[key] = _ResponseUrl(place, ts, user)
        return f"{self.url}/response/{key}"

    # -- Socket Mode

    @property
    def sockets(self) -> int:
        """How many sockets are open."""
        return len(self.feed.sockets)

    async def connected(self, count: int = 1, timeout: float = 60) -> None:  # noqa: ASYNC109 - the tests' side
        """Waits until so many sockets are open."""
        await self.until(lambda _: self.sockets >= count, timeout)

    def new_socket_url(self) -> str:
        self._counter += 1
        ticket = f"ticket-{self._counter}"
        self._socket_tickets.add(ticket)
        return f"ws://127.0.0.1:{self.port}/link/?ticket={ticket}&app_id={APP}"

    def disconnect(self, reason: str = "refresh_requested") -> None:
        """Tells the open sockets to go ("warning", "refresh_requested", "link_disabled"); they get no more events."""
        for each in self.feed.sockets:
            each.retired = True
            each.put(json.dumps({"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-1"}}))

    def lose_events(self) -> int:
        """Slack gives up on what it could not deliver; how many events that were."""
        return self.feed.lose()

    def drop(self) -> None:
        """Breaks the open sockets' connections, without a word."""
        for each in tuple(self.feed.sockets):
            each.abort()

    def send_raw(self, text: str) -> None:
        """Sends the open sockets any text, malformed or not."""
        for each in self.feed.sockets:
            each.put(text)

    # -- HTTP mode

    def post_events_to(self, url: str, signing_secret: str) -> Endpoint:
        """From now on all is POSTed there, signed; the endpoint's `post_signed` plays forgers too."""
        self.feed.endpoint = Endpoint(url, signing_secret)
        self.feed.flush()
        return self.feed.endpoint

    async def verify_url(self, challenge: str = "a challenge") -> tuple[int, str]:
        """The url_verification that Slack sends first; the status, and what was answered."""
        if self.feed.endpoint is None:
            raise LookupError("no endpoint: call post_events_to first")
        body = json.dumps({"token": "verification", "challenge": challenge, "type": "url_verification"})
        return await self.feed.endpoint.post_signed(body)

    # -- what was asked

    def called(self, method: str) -> list[Call]:
        return [call for call in self.calls if call.method == method]

    def until(self, predicate: "Callable[[Slack], T | None]", timeout: float = 60) -> Coroutine[Any, Any, T]:
        """Waits until `predicate(slack)` is true, and returns what it gave; asked whenever something happens here."""
        return self.bell.wait(lambda: predicate(self), timeout, self._last_calls)

    def _last_calls(self) -> str:
        waiting = [(each.kind, each.event.get("type"), len(each.sent)) for each in self.unacknowledged()][-5:]
        last = [call.method for call in self.calls[-10:]]
        return f"last calls: {last}, refused: {self.refusals[-5:]}, unacknowledged: {waiting}"

    # -- faults

    def fail_next(
        self,
        method: str,
        error: str = "internal_error",
        *,
        status: int | None = None,
        retry_after: int | None = None,
        times: int = 1,
        place: Place | None = None,
    ) -> None:
        """Refuses the next calls of this method ("*": of any) without performing them.

        `error="ratelimited"` answers 429 with `retry_after` seconds; a `status` of 500 and above is not even JSON.
        """
        if error == "ratelimited" or status == 429:
            refused = _too_many(1 if retry_after is None else retry_after)
        else:
            refused = Refused(error, status=status or 200, retry_after=retry_after)
        self._faults.append(_Fault(method, place.id if place else None, refused, times))

    def drop_answer(self, method: str, *, times: int = 1, place: Place | None = None) -> None:
        """Performs the next calls of this method, and closes their connections without an answer."""
        self._faults.append(_Fault(method, place.id if place else None, None, times))

    def hold(self, method: str, *, after: bool = False) -> Hold:
        """Keeps calls of this method waiting until `release()`, before they are performed or `after`."""
        held = Hold(self, method, after)
        self.holds.append(held)
        return held

    def refuse(self, seconds: float | None = None, *, sockets_only: bool = False) -> Outage:
        """Network loss: open and further connections are closed without an answer, for so long or until released.

        `sockets_only` leaves the Web API up: apps.connections.open gives addresses that cannot be connected to.
        """
        if self.outage:
            self.outage.release()
        self.outage = Outage(self, seconds, sockets_only)
        self._close_connections(sockets_only=sockets_only)
        return self.outage

    def _close_connections(self, *, sockets_only: bool) -> None:
        self.drop()
        if sockets_only:
            return
        for held in self.holds:
            held.end(_NoAnswer())
        for request in tuple(self._connections):
            if request.transport:
                request.transport.abort()

    # -- requests

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._connections.append(request)
        try:
            if self.outage is None or (self.outage.sockets_only and not request.path.startswith("/link")):
                return await self._route(request)
        except (_NoAnswer, ConnectionError, web.RequestPayloadError):
            pass  # closed below; of the latter two the app itself is the cause, killed in mid-request
        except Exception as error:
            self.crashes.append(error)
            raise
        finally:
            self._connections.remove(request)
        if request.transport:
            request.transport.abort()
        return web.Response(status=500)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        first, _, rest = request.path.removeprefix("/").partition("/")
        match first:
            case "api":
                return await self._answer(request, rest, await _read_params(request))
            case "link":
                return await self._serve_socket(request)
            case "upload":
                data = await _read_upload(request)
                return await self._answer(request, "upload", Params(ticket=rest.removeprefix("v1/"), data=data))
            case "files-pri":
                return await self._answer(request, "file", Params(file=rest.partition("/")[0].partition("-")[2]))
            case "response":
                given = Params(await _read_params(request) | {"key": rest})
                return await self._answer(request, "response_url", given)
            case _:
                page = "<!DOCTYPE html><html><head><title>Slack</title></head><body>Sign in</body></html>"
                return web.Response(text=page, content_type="text/html")

    async def _answer(self, request: web.Request, method: str, params: Params) -> web.Response:
        token = params.pop("token", "") or request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        place = self._place_of(method, params)
        self.calls.append(Call(method, params, time.monotonic()))
        self._ring(place)
        fault = self._take_fault(method, place)
        try:
            await self._wait_held(method, after=False)
            if fault and fault.error:
                raise fault.error
            response = self._perform(method, params, str(token), place)
        except Refused as refused:
            self.refusals.append(Refusal(method, refused.status, refused.error, time.monotonic()))
            response = refused.response()
        self._ring(place)
        await self._wait_held(method, after=True)
        if fault and fault.error is None:
            raise _NoAnswer
        return response

    def _perform(self, method: str, params: Params, token: str, place: Place | None) -> web.Response:
        match method:
            case "upload":
                return self._take_upload(params)
            case "file":
                return self._download(params, token)
            case "response_url":
                return self._respond(params)
        self._check_token(method, token)
        if method not in _METHODS:
            raise Refused("unknown_method", req_method=method)
        if self._limits:
            self._limits.check(method, place)
        self._check_scope(method)
        headers = {"X-OAuth-Scopes": ",".join(self.scopes)} if self.scopes is not None else {}
        return _json_response({"ok": True} | _METHODS[method](self._methods, params), headers=headers)

    def _check_token(self, method: str, token: str) -> None:
        if not token:
            raise Refused("not_authed")
        if token not in (self.bot_token, self.app_token):
            raise Refused("invalid_auth")
        if (method == "apps.connections.open") != (token == self.app_token) and method != "auth.test":
            raise Refused("not_allowed_token_type")

    def _check_scope(self, method: str) -> None:
        needed = next((scope for prefix, scope in _SCOPES.items() if method.startswith(prefix)), None)
        if self.scopes is not None and needed and needed not in self.scopes:
            raise Refused("missing_scope", needed=needed, provided=",".join(self.scopes))

    def _take_upload(self, params: Params) -> web.Response:
        stored = self.files.tickets.pop(params.text("ticket"), None)
        if stored is None:
            return web.Response(status=404, text="no such upload", content_type="text/plain")
        stored.data = params["data"]
        if len(stored.data) != stored.card["size"]:
            return web.Response(status=400, text="wrong length", content_type="text/plain")
        stored.is_uploaded = True
        return web.Response(text=f"OK - {len(stored.data)}", content_type="text/plain")

    def _download(self, params: Params, token: str) -> web.Response:
        """Who has no token is sent to a page to sign in, which is a 200 in HTML."""
        if token != self.bot_token:
            return web.Response(status=302, headers={"Location": f"{self.url}/?redir=%2Ffiles-pri"})
        stored = self.files.by_id.get(params.text("file"))
        if stored is None:
            return web.Response(status=404, text="File not found", content_type="text/plain")
        media_type = stored.card["mimetype"]
        # The content of a canvas is a page.
        is_canvas = media_type == "application/vnd.slack-docs"
        return web.Response(body=stored.data, content_type="text/html" if is_canvas else media_type)

    def _respond(self, params: Params) -> web.Response:
        """A post to a response_url; https://docs.slack.dev/interactivity/handling-user-interaction"""
        known = self._response_urls.get(params.text("key"))
        if known is None or not known.left:
            raise Refused("used_url", status=404)
        known.left -= 1
        place, shown = known.place, known.place.shown(known.ts or "")
        if params.flag("delete_original") and shown and known.ts:
            place.erase(known.ts)
            return web.Response(text="ok")
        fields = self._methods.content(params, TEXT_LIMIT)
        if params.flag("replace_original") and shown and known.ts:
            place.change(known.ts, fields)
        elif params.text("response_type") == "in_channel":
            place.post(params.text("thread_ts") or None, fields)
        else:
            place.whisper(known.user, params.text("thread_ts") or None, fields)
        return web.Response(text="ok")

    async def _serve_socket(self, request: web.Request) -> web.StreamResponse:
        ticket = request.query.get("ticket", "")
        if ticket not in self._socket_tickets:
            return web.Response(status=403, text="the ticket was used")
        self._socket_tickets.discard(ticket)
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        served = _Socket(ws, request)
        if self.sockets >= MOST_SOCKETS:
            await ws.send_json({"type": "disconnect", "reason": "too_many_websockets"})
            return ws
        await ws.send_json({"type": "hello", "num_connections": self.sockets + 1, "connection_info": {"app_id": APP}})
        self.feed.sockets.append(served)
        writing = asyncio.create_task(served.write())
        self._ring_all()
        self.feed.flush()
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    self.feed.hear_ack(message.data)
        finally:
            self.feed.sockets.remove(served)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            self._ring_all()
        return ws

    def _place_of(self, method: str, params: Params) -> Place | None:
        if method == "response_url":
            known = self._response_urls.get(params.text("key"))
            return known.place if known else None
        named = params.text("channel") or params.text("channel_id")
        return self.places.get(named) or self.places.get(f"D{named[1:]}" if named.startswith("U") else "")

    def _take_fault(self, method: str, place: Place | None) -> _Fault | None:
        for fault in self._faults:
            if fault.hits(method, place):
                fault.left -= 1
                if not fault.left:
                    self._faults.remove(fault)
                return fault
        return None

    async def _wait_held(self, method: str, *, after: bool) -> None:
        for held in tuple(self.holds):
            if held.method in (method, "*") and held.after is after:
                await held.wait()

    def _ring(self, place: Place | None) -> None:
        self.bell.ring()
        if place:
            place.bell.ring()

    def _ring_all(self) -> None:
        self.bell.ring()
        for place in self.places.values():
            place.bell.ring()


_SCOPES = {  # by the beginning of a method's name
    "chat.": "chat:write",
    "reactions.get": "reactions:read",
    "reactions.": "reactions:write",
    "files.info": "files:read",
    "files.": "files:write",
    "users.": "users:read",
    "usergroups.": "usergroups:read",
    "conversations.open": "im:write",
    "assistant.threads.": "assistant:write",
    "agents.sessions.": "assistant:write",
}
_SUBSCRIPTIONS = {"im": "im", "mpim": "mpim", "channel": "channels", "group": "groups"}


async def _read_params(request: web.Request) -> Params:
    """Query string, form and JSON alike; the SDK uses each of them for some method."""
    params = Params(request.query)
    match request.content_type:
        case "application/json":
            given = json.loads(await request.read() or b"{}")
            params |= {key: value for key, value in given.items() if value is not None}
        case "multipart/form-data":
            async for part in await request.multipart():
                if isinstance(part, BodyPartReader) and part.name:
                    params[part.name] = bytes(await part.read()).decode()
        case _:
            params |= parse_qsl((await request.read()).decode(), keep_blank_values=True)
    return params


async def _read_upload(request: web.Request) -> bytes:
    if request.content_type != "multipart/form-data":
        return await request.read()
    async for part in await request.multipart():
        if isinstance(part, BodyPartReader):
            return bytes(await part.read())
    return b""
