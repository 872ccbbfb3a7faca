"""A local Telegram Bot API server: a bot talks to it over real sockets, a test plays the people on the other side.

    async with BotApi() as api:
        ann = api.private(user_id=7, name="Ann")
        await ann.say("hi")                                  # queues the update for getUpdates
        assert (await ann.hear("Hello")).text == "Hello"     # what the bot shows, as soon as it shows it

Point a bot at `api.base_url` and `api.base_file_url` (the names python-telegram-bot uses), or at `api.url`; its token
is `api.token`. Call everything from the event loop that started the server. Bots may be in the same loop, in another
thread or in other processes, one after another; the state survives them, and `stop()` / `start()` on the same port.

It knows nothing of the product. What it does and refuses follows core.telegram.org/bots/api and the wording of the
public server; HTML is the only parse mode it speaks. Two things are harsher than there, to show mistakes: message ids
count per chat (so they collide across chats), and the small size of a photo has other bytes than the full one.
"""

import argparse
import asyncio
import html
import io
import json
import math
import re
import socket
import sys
import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

Json = dict[str, Any]
T = TypeVar("T")

TEXT_LIMIT = 4096  # UTF-16 units after entities parsing, as all limits on text
# https://github.com/tdlib/telegram-bot-api/issues/165: about 9,500 bytes for all entities of a message together.
ENTITIES_LIMIT, ENTITY_SIZE = 9500, 16
MOST_ENTITIES = 100  # https://core.telegram.org/api/entities: the others are ignored
# https://github.com/tginfo/Telegram-Limits/issues/187, https://github.com/yagop/node-telegram-bot-api/issues/200
MOST_BUTTONS, MOST_BUTTONS_IN_ROW, KEYBOARD_LIMIT = 100, 8, 10_000
CAPTION_LIMIT = 1024
PHOTO_LIMIT = 10 * 1024 * 1024
UPLOAD_LIMIT = 50 * 1024 * 1024
DOWNLOAD_LIMIT = 20 * 1024 * 1024
_OTHER_POLL = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
LONGEST_POLL = 50.0  # seconds; the public server cuts longer timeouts
GENERAL_TOPIC = 1
NOT_BY_DEFAULT = frozenset({"chat_member", "message_reaction", "message_reaction_count"})
CHAT_ACTIONS = frozenset(
    {"typing", "upload_photo", "record_video", "upload_video", "record_voice", "upload_voice", "upload_document"}
    | {"choose_sticker", "find_location", "record_video_note", "upload_video_note"}
)
REACTIONS = frozenset(
    "👍👎❤🔥🥰👏😁🤔🤯😱🤬😢🎉🤩🤮💩🙏👌🕊🤡🥱🥴😍🐳🌚🌭💯🤣⚡🍌🏆💔🤨😐🍓🍾💋🖕😈😴😭🤓👻👀🎃🙈😇😨🤝✍🤗🫡🎅🎄☃💅🤪"
)
REACTIONS |= frozenset("🗿🆒💘🙉🦄😘💊🙊😎👾🤷😡") | {"❤\u200d🔥", "👨\u200d💻", "🤷\u200d♂", "🤷\u200d♀"}


# ---------------------------------------------------------------------------------------------------- what a test reads


class Upload(NamedTuple):
    """A file that the bot sent in a multipart request."""

    name: str
    data: bytes


class Call(NamedTuple):
    """One request of the bot's; `at` is monotonic seconds. Downloads are called "file"."""

    method: str
    params: "Params"
    at: float


class Refusal(NamedTuple):
    """One answer that was not ok."""

    method: str
    status: int
    description: str
    at: float


class Action(NamedTuple):
    """One sendChatAction."""

    action: str
    at: float
    thread_id: int | None


class Edit(NamedTuple):
    """One edit that changed a message: the new text or caption, plain."""

    text: str
    at: float


class Draft(NamedTuple):
    """One sendMessageDraft; only with `BotApi(drafts=True)`."""

    draft_id: int
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who writes to the bot."""

    id: int
    name: str
    username: str | None = None

    @property
    def card(self) -> Json:
        card = {"id": self.id, "is_bot": False, "first_name": self.name, "language_code": "en"}
        return card | {"username": self.username} if self.username else card


@dataclass(slots=True)
class Shown:
    """A message of the bot's as it stands on screen; edits change it in place."""

    message_id: int
    kind: str  # text, photo, document, voice, audio, video, animation
    at: float  # monotonic seconds
    text: str = ""  # plain; of a text message
    caption: str = ""  # plain; of a file
    html: str | None = None  # text or caption as the bot sent it, when it sent HTML
    entities: list[Json] = field(default_factory=list)
    data: bytes = b""
    file_name: str = ""
    reply_to: int | None = None
    thread_id: int | None = None
    media_group_id: str | None = None
    markup: Json | None = None
    edits: list[Edit] = field(default_factory=list)

    @property
    def words(self) -> str:
        return self.text if self.kind == "text" else self.caption

    @property
    def photo(self) -> bytes | None:
        return self.data if self.kind == "photo" else None

    @property
    def document(self) -> bytes | None:
        return self.data if self.kind == "document" else None

    @property
    def buttons(self) -> list[Json]:
        """The inline buttons, row after row."""
        rows = (self.markup or {}).get("inline_keyboard", [])
        return [button for row in rows for button in row]


# ------------------------------------------------------------------------------------------------------------- refusals


class Refused(Exception):
    """An answer that is not ok."""

    def __init__(self, status: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.status, self.description, self.parameters = status, description, parameters

    def response(self) -> web.Response:
        if self.status in (502, 504):  # these come from the proxy in front of the real server, and are not JSON
            return web.Response(
                status=self.status, text=f"<html><h1>{self.status}</h1></html>", content_type="text/html"
            )
        body: Json = {"ok": False, "error_code": self.status, "description": self.description}
        if self.parameters:
            body["parameters"] = self.parameters
        return _json_response(body, self.status)


class _NoAnswer(Exception):
    """The connection is to be closed without an answer."""


def _bad(description: str) -> Refused:
    return Refused(400, f"Bad Request: {description}")


def _too_many(seconds: int) -> Refused:
    return Refused(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds)


def _json_response(body: Json, status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(body).encode(), status=status, content_type="application/json")


# ----------------------------------------------------------------------------------------------------------- parameters


class Params(dict[str, "str | Upload"]):
    """A request's parameters as they came (strings, uploads), with readers that refuse like the real server."""

    def text(self, name: str) -> str:
        value = self.get(name, "")
        return value if isinstance(value, str) else value.data.decode(errors="replace")

    def number(self, name: str, default: int | None = None) -> int | None:
        if not (text := self.text(name).strip()):
            return default
        try:
            return int(text)
        except ValueError:
            raise _bad(f"{name.replace('_', ' ')} must be an integer") from None

    def message_id(self) -> int:
        if (found := self.number("message_id")) is None:
            raise _bad("message identifier is not specified")
        return found

    def flag(self, name: str) -> bool:
        return self.text(name).lower() in ("true", "1", "yes")

    def json(self, name: str, kind: type[T]) -> T | None:
        if not (text := self.text(name)):
            return None
        try:
            value = json.loads(text)
        except ValueError:
            raise _bad(f"can't parse {name.replace('_', ' ')} JSON object") from None
        if not isinstance(value, kind):
            raise _bad(f"object expected as {name.replace('_', ' ')}")
        return value


# ---------------------------------------------------------------------------------------------------------------- texts


def utf16(text: str) -> int:
    """Length in UTF-16 units, in which Telegram counts."""
    return len(text) + sum(character > "\uffff" for character in text)


_TAG_TYPES = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "span": "spoiler",
    "tg-spoiler": "spoiler",
    "a": "text_link",
    "code": "code",
    "pre": "pre",
    "blockquote": "blockquote",
    "tg-emoji": "custom_emoji",
}
_MARK = re.compile(r"<(?P<close>/)?|&(?P<code>#[0-9]{1,8}|#x[0-9a-fA-F]{1,7}|lt|gt|amp|quot)(?![a-z]);?")
_ATTRIBUTE = re.compile(r"\s*(?P<name>[^\s=>/]+)\s*(?:=\s*(?P<value>\"[^\"]*\"|'[^']*'|[A-Za-z0-9.\-]+))?")


@dataclass(slots=True)
class _OpenTag:
    name: str
    attributes: dict[str, str]
    at: int  # UTF-16 offset in the plain text


class _HtmlReader:
    """Reads Telegram's HTML strictly: only its tags, each closed, properly nested.

    https://core.telegram.org/bots/api#html-style
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.place = 0
        self.plain: list[str] = []
        self.length = 0
        self.open: list[_OpenTag] = []
        self.entities: list[Json] = []

    def read(self) -> tuple[str, list[Json]]:
        while mark := _MARK.search(self.source, self.place):
            self._write(self.source[self.place : mark.start()])
            self.place = mark.end()
            if code := mark["code"]:
                self._write(html.unescape(f"&{code};"))
            elif mark["close"]:
                self._close_tag(mark.start())
            else:
                self._open_tag(mark.start())
        self._write(self.source[self.place :])
        if self.open:
            raise self._error(f'Can\'t find end tag corresponding to start tag "{self.open[-1].name}"')
        return "".join(self.plain), self.entities

    def _write(self, text: str) -> None:
        self.plain.append(text)
        self.length += utf16(text)

    def _error(self, what: str) -> Refused:
        return _bad(f"can't parse entities: {what}")

    def _offset(self, place: int) -> int:
        return len(self.source[:place].encode(errors="surrogatepass"))

    def _open_tag(self, start: int) -> None:
        name_match = re.compile(r"[^\s>]*").match(self.source, self.place)
        name = name_match[0].lower() if name_match else ""
        self.place += len(name)
        if name not in _TAG_TYPES:
            raise self._error(f'Unsupported start tag "{name}" at byte offset {self._offset(start)}')
        attributes = self._attributes(name, start)
        if name == "span" and attributes.get("class") != "tg-spoiler":
            raise self._error(f'Tag "span" must have class "tg-spoiler" at byte offset {self._offset(start)}')
        if name == "tg-emoji" and not attributes.get("emoji-id", "").isdigit():
            raise self._error(f"Invalid custom emoji identifier specified at byte offset {self._offset(start)}")
        self.open.append(_OpenTag(name, attributes, self.length))

    def _attributes(self, tag: str, start: int) -> dict[str, str]:
        found: dict[str, str] = {}
        while True:
            rest = self.source[self.place :].lstrip()
            if not rest:
                raise self._error(f"Unclosed start tag at byte offset {self._offset(start)}")
            if rest[0] == ">":
                self.place = len(self.source) - len(rest) + 1
                return found
            attribute = _ATTRIBUTE.match(self.source, self.place)
            if attribute is None:
                raise self._error(f'Empty attribute name in the tag "{tag}" at byte offset {self._offset(start)}')
            if attribute["value"] is None and attribute["name"] != "expandable":
                at = self._offset(start)
                raise self._error(
                    f'Expected equal sign in declaration of an attribute of the tag "{tag}" at byte offset {at}'
                )
            self.place = attribute.end()
            found[attribute["name"].lower()] = html.unescape((attribute["value"] or "").strip("\"'"))

    def _close_tag(self, start: int) -> None:
        end = self.source.find(">", self.place)
        if end < 0:
            raise self._error(f"Unclosed end tag at byte offset {self._offset(start)}")
        name = self.source[self.place : end].strip().lower()
        self.place = end + 1
        if not self.open:
            raise self._error(f"Unexpected end tag at byte offset {self._offset(start)}")
        tag = self.open.pop()
        if name != tag.name:
            raise self._error(
                f'Unmatched end tag at byte offset {self._offset(start)}, expected "</{tag.name}>", found "</{name}>"'
            )
        self._add_entity(tag)

    def _add_entity(self, tag: _OpenTag) -> None:
        length = self.length - tag.at
        entity: Json = {"type": _TAG_TYPES[tag.name], "offset": tag.at, "length": length}
        match tag.name:
            case "a":
                url = tag.attributes.get("href", "")
                if not re.match(r"(https?|tg|mailto|tel):|[^\s/:]+\.[^\s/]+", url):
                    return  # the real server drops links that are none, without a word
                entity["url"] = url
            case "blockquote" if "expandable" in tag.attributes:
                entity["type"] = "expandable_blockquote"
            case "tg-emoji":
                entity["custom_emoji_id"] = tag.attributes["emoji-id"]
            case "code" if self.open and self.open[-1].name == "pre":
                if (language := tag.attributes.get("class", "")).startswith("language-"):
                    self.open[-1].attributes["language"] = language.removeprefix("language-")
                return
            case "pre" if "language" in tag.attributes:
                entity["language"] = tag.attributes["language"]
        if length:
            self.entities.append(entity)


def parse_html(source: str) -> tuple[str, list[Json]]:
    """Plain text and entities of Telegram's HTML; raises Refused where Telegram can't parse it."""
    return _HtmlReader(source).read()


def _tidy(text: str, entities: list[Json]) -> tuple[str, list[Json]]:
    """As the server stores it: no control characters, no white space at the ends, entities in order."""
    text = re.sub(r"[\x00-\x09\x0b-\x1f]", " ", text)
    lead = utf16(text[: len(text) - len(text.lstrip())])
    text = text.strip()
    end = utf16(text)
    kept = []
    for entity in entities:
        start = max(entity["offset"] - lead, 0)
        stop = min(entity["offset"] + entity["length"] - lead, end)
        if start < stop:
            kept.append(entity | {"offset": start, "length": stop - start})
    return text, sorted(kept, key=lambda entity: (entity["offset"], -entity["length"]))


class _Words(NamedTuple):
    plain: str
    entities: list[Json]
    html: str | None


def _words(params: Json | Params, name: str, entities_name: str) -> _Words:
    """A text or caption with its formatting, from request parameters or from one item of an album."""
    read = params if isinstance(params, Params) else Params({key: _as_text(value) for key, value in params.items()})
    source = read.text(name).replace("\r", "")
    mode = read.text("parse_mode").lower()
    given = read.json(entities_name, list) or []
    if mode not in ("", "html"):
        raise _bad(f"unsupported parse_mode (this test server speaks only HTML, not {mode!r})")
    plain, entities = parse_html(source) if mode else (source, _checked_entities(source, given))
    plain, entities = _tidy(plain, entities)
    if sum(ENTITY_SIZE + len(entity.get("url", "").encode()) for entity in entities) > ENTITIES_LIMIT:
        raise _bad("ENTITIES_TOO_LONG")
    return _Words(plain, entities[:MOST_ENTITIES], source if mode else None)


def _checked_entities(text: str, entities: list[Any]) -> list[Json]:
    for entity in entities:
        if not isinstance(entity, dict) or not {"type", "offset", "length"} <= entity.keys():
            raise _bad("can't parse entities: entity must have type, offset and length")
    return [entity for entity in entities if 0 <= entity["offset"] < utf16(text)]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_PERSON_MARKS = re.compile(
    r"(?P<url>https?://\S+)"
    r"|(?<![\w/])(?P<bot_command>/[A-Za-z0-9_]{1,64}(?:@[A-Za-z]\w{3,31})?)(?![\w/])"
    r"|(?<![\w@/])(?P<mention>@[A-Za-z]\w{3,31})\b"
    r"|(?<!\w)(?P<hashtag>#\w*[^\W\d]\w*)"
)


def find_entities(text: str) -> list[Json]:
    """The entities that Telegram finds by itself in what a person types."""
    return [
        {"type": match.lastgroup, "offset": utf16(text[: match.start()]), "length": utf16(match[0])}
        for match in _PERSON_MARKS.finditer(text)
    ]


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


# -------------------------------------------------------------------------------------------------------------- updates


def _finish(poll: asyncio.Future[None]) -> None:
    if not poll.done():
        poll.set_result(None)


@dataclass(slots=True, order=True)
class _Queued:
    id: int
    update: Json = field(compare=False)
    again: bool = field(default=False, compare=False)  # shown once more although its id is confirmed already


class _Updates:
    """The queue behind getUpdates: an update stays until an offset above its id is asked for."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.queue: list[_Queued] = []
        self.next_id = 700_000_001
        self.confirmed_offset = 0
        self.polls = 0
        self.allowed: frozenset[str] | None = None
        self._poll: asyncio.Future[None] | None = None

    def put(self, kind: str, content: Json) -> Json:
        """Queues an update; one of a kind that the bot did not ask for is dropped, as the real server does."""
        update = {"update_id": self.next_id, kind: content}
        if kind in self.allowed if self.allowed is not None else kind not in NOT_BY_DEFAULT:
            self.put_raw(update)
        return update

    def put_raw(self, update: Json, *, again: bool = False) -> None:
        update = {"update_id": self.next_id} | update
        place = update["update_id"] if isinstance(update["update_id"], int) else self.next_id
        self.next_id = max(self.next_id, place + 1)
        insort(self.queue, _Queued(place, update, again))
        if self._poll:
            _finish(self._poll)

    async def take(self, offset: int, limit: int, seconds: float) -> list[Json]:
        self.polls += 1
        self.end_poll(Refused(409, _OTHER_POLL))
        self._confirm(offset)
        self._changed()
        if not self.queue and seconds > 0:
            await self._wait(seconds)
        batch = self.queue[:limit]
        for queued in batch:
            queued.again = False
        return [queued.update for queued in batch]

    def end_poll(self, error: Exception) -> None:
        """Ends the poll that waits, if one does."""
        if self._poll and not self._poll.done():
            self._poll.set_exception(error)

    def _confirm(self, offset: int) -> None:
        if offset < 0:
            self.queue = self.queue[offset:]
            offset = self.queue[0].id if self.queue else 0
        self.queue = [queued for queued in self.queue if queued.id >= offset or queued.again]
        self.confirmed_offset = max(self.confirmed_offset, offset)

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        poll: asyncio.Future[None] = loop.create_future()
        self._poll = poll
        timer = loop.call_later(seconds, _finish, poll)
        try:
            await poll
        finally:
            timer.cancel()
            if self._poll is poll:
                self._poll = None


# ---------------------------------------------------------------------------------------------------------------- files


@dataclass(frozen=True, slots=True)
class _Stored:
    id: str
    path: str
    data: bytes


_FOLDERS = {
    "photo": ("photos", ".jpg"),
    "voice": ("voice", ".oga"),
    "audio": ("music", ".mp3"),
    "video": ("videos", ".mp4"),
}


class _Files:
    """All files, by id: what people sent and what the bot sent."""

    def __init__(self) -> None:
        self._by_id: dict[str, _Stored] = {}
        self._by_path: dict[str, _Stored] = {}

    def add(self, kind: str, data: bytes, name: str = "") -> Json:
        """Keeps the bytes; returns the fields that every file object has."""
        number = len(self._by_id) + 1
        folder, suffix = _FOLDERS.get(kind, ("documents", ""))
        stored = _Stored(f"BQACAgIAA-{number}", f"{folder}/file_{number}{PurePosixPath(name).suffix or suffix}", data)
        self._by_id[stored.id] = self._by_path[stored.path] = stored
        return {"file_id": stored.id, "file_unique_id": f"AgAD{number}", "file_size": len(data)}

    def find(self, file_id: str) -> _Stored | None:
        return self._by_id.get(file_id)

    def at(self, path: str) -> _Stored | None:
        return self._by_path.get(path)

    def photo(self, data: bytes) -> list[Json]:
        width, height = _image_size(data) or (640, 480)
        small = self.add("photo", b"the small size of a photo") | {"width": 90, "height": 67}
        return [small, self.add("photo", data) | {"width": width, "height": height}]


def _image_size(data: bytes) -> tuple[int, int] | None:
    from PIL import Image, UnidentifiedImageError  # heavy, and most servers never see a picture

    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except UnidentifiedImageError:
        return None


def _check_file(kind: str, data: bytes) -> None:
    if not data:
        raise _bad("file must be non-empty")
    if kind != "photo":
        return
    if len(data) > PHOTO_LIMIT:
        raise _bad(f"file of size {len(data)} bytes is too big for a photo; the maximum size is {PHOTO_LIMIT} bytes")
    if (size := _image_size(data)) is None:
        raise _bad("IMAGE_PROCESS_FAILED")
    if sum(size) > 10_000 or max(size) > 20 * min(size):
        raise _bad("PHOTO_INVALID_DIMENSIONS")


# ---------------------------------------------------------------------------------------------------------------- chats


def _id_of(message: "int | Json | Shown") -> int:
    match message:
        case int():
            return message
        case Shown():
            return message.message_id
        case _:
            return int(message["message_id"])


class Chat:
    """One chat, seen by its people: they say things, and look at what the bot has on screen.

    `sender` is by default the first person of the chat, `topic` a thread id (none: the General topic of a forum).
    Methods that say something return the Message as the bot will get it; where a message is asked for, its id, its dict
    or its `Shown` will do.
    """

    def __init__(self, api: "BotApi", chat_id: int, kind: str, people: Sequence[Person], **card: Any) -> None:
        self.id = chat_id
        self.people = list(people)
        self.card: Json = {"id": chat_id, "type": kind} | card
        self.topics: dict[int, str] = {}
        self.description = ""  # of a group or channel, at most 255 characters
        self.pinned: Json | None = None  # the newest pinned message
        self.log: dict[int, Json] = {}  # every message that exists, as JSON
        self.deleted: list[Shown] = []
        self.actions: list[Action] = []
        self.reactions: dict[int, list[Json]] = {}  # the bot's, by message id
        self.drafts: list[Draft] = []
        self.refusal: Refused | None = None  # what the bot gets for everything it does here
        self.bell = _Bell()
        self._api = api
        self._screen: dict[int, Shown] = {}
        self._updates: dict[int, Json] = {}
        self._next_id = 2  # 1 is the General topic, or the message that the chat was created
        self._heard = 0

    # -- what is on screen

    @property
    def messages(self) -> list[Shown]:
        """The bot's messages that are on screen now, in the order sent."""
        return list(self._screen.values())

    @property
    def texts(self) -> list[str]:
        """Text or caption of what is on screen now."""
        return [shown.words for shown in self._screen.values()]

    def until(self, predicate: "Callable[[Chat], T | None]", timeout: float = 60) -> Coroutine[Any, Any, T]:
        """Waits until `predicate(chat)` is true, returns what it gave; asked at each call that concerns this chat."""
        return self.bell.wait(lambda: predicate(self), timeout, self._transcript)

    def hear(
        self, match: str | re.Pattern[str] | Callable[[Shown], bool] | None = None, timeout: float = 60
    ) -> Coroutine[Any, Any, Shown]:
        """The next message of the bot's (newer than the last one heard) whose words contain or match `match`.

        A reply that is streamed by edits is heard as soon as it matches, not when it is complete.
        """

        def heard(_: Chat) -> Shown | None:
            for shown in self._screen.values():
                if shown.message_id > self._heard and _matches(shown, match):
                    self._heard = shown.message_id
                    return shown
            return None

        return self.until(heard, timeout)

    def _transcript(self) -> str:
        lines = [f"  {shown.message_id} {shown.kind}: {shown.words!r}" for shown in self._screen.values()]
        return "on screen:" + "".join(f"\n{line}" for line in lines) if lines else "nothing on screen"

    # -- what people do

    async def say(
        self,
        text: str,
        *,
        reply_to: "int | Json | Shown | None" = None,
        topic: int | None = None,
        sender: Person | None = None,
        **fields: Any,
    ) -> Json:
        """Says something; commands, mentions, links and hashtags become entities, `fields` go into the Message."""
        message: Json = {"text": text}
        if entities := find_entities(text):
            message["entities"] = entities
        return await self.send(reply_to=reply_to, topic=topic, sender=sender, **message | fields)

    async def send_photo(self, data: bytes, caption: str = "", **options: Any) -> Json:
        return await self.send(photo=self._api.files.photo(data), **_caption(caption), **options)

    async def send_document(
        self, data: bytes, caption: str = "", *, name: str = "file.bin", mime: str | None = None, **options: Any
    ) -> Json:
        return await self.send(document=self._document(data, name, mime), **_caption(caption), **options)

    async def send_voice(self, data: bytes, caption: str = "", *, seconds: int = 1, **options: Any) -> Json:
        voice = self._api.files.add("voice", data) | {"duration": seconds, "mime_type": "audio/ogg"}
        return await self.send(voice=voice, **_caption(caption), **options)

    async def send_album(self, items: Iterable[bytes | Upload], caption: str = "", **options: Any) -> list[Json]:
        """An album of photos (bytes) or documents (`Upload(name, data)`): an update each, the caption on the first."""
        group = self._api.new_group_id()
        messages: list[Json] = []
        for item in items:
            match item:
                case Upload(name, data):
                    fields: Json = {"document": self._document(data, name, None)}
                case _:
                    fields = {"photo": self._api.files.photo(item)}
            words = _caption(caption) if not messages else {}
            messages.append(await self.send(media_group_id=group, **fields, **words, **options))
        return messages

    async def send(
        self,
        *,
        reply_to: "int | Json | Shown | None" = None,
        topic: int | None = None,
        sender: Person | None = None,
        **fields: Any,
    ) -> Json:
        """Any message at all: `chat.send(sticker={...})`."""
        author = (sender or self.people[0]).card
        message = self.compose(author, topic, None if reply_to is None else _id_of(reply_to), fields)
        self._remember(message, "message")
        return message

    async def pin(self, message: "int | Json | Shown") -> Json:
        """Pins a message; the bot is sent the service message about it."""
        self.pinned = self.log[_id_of(message)]
        return await self.send(pinned_message=self.pinned)

    async def edit(self, message: "int | Json | Shown", text: str | None) -> Json:
        """Edits a person's message (without text: its caption); None changes mere metadata, which makes updates too."""
        edited = dict(self.log[_id_of(message)])
        edited["edit_date"] = int(time.time())
        if text is not None:
            words, entities = ("text", "entities") if "text" in edited else ("caption", "caption_entities")
            edited |= {words: text, entities: find_entities(text)}
        self.log[edited["message_id"]] = edited
        self._remember(edited, "edited_message")
        return edited

    async def delete(self, message: "int | Json | Shown") -> None:
        """A person deletes a message, theirs or the bot's; Telegram does not tell bots."""
        self.erase(_id_of(message))

    async def press(
        self,
        message: "int | Json | Shown",
        data: str,
        *,
        sender: Person | None = None,
        stale: bool = False,
    ) -> Json:
        """Presses the inline button with this data; returns the CallbackQuery, whose answer comes to `api.answers[id]`.

        The button must be there, unless `stale`: pressed on a screen that has not caught up.
        """
        message_id = _id_of(message)
        shown = self._screen.get(message_id)
        if not stale and not (shown and any(button.get("callback_data") == data for button in shown.buttons)):
            raise LookupError(f"message {message_id} has no button {data!r}; {self._transcript()}")
        gone = {"chat": self.card, "message_id": message_id, "date": 0}
        query = {
            "id": self._api.new_query_id(self),
            "from": (sender or self.people[0]).card,
            "chat_instance": str(self.id),
            "message": self.log.get(message_id, gone),
            "data": data,
        }
        self._api.updates.put("callback_query", query)
        return query

    async def react(self, message: "int | Json | Shown", emoji: str, *, sender: Person | None = None) -> None:
        """Reacts to a message; bots hear of it only when they asked for message_reaction."""
        reaction = {
            "chat": self.card,
            "message_id": _id_of(message),
            "user": (sender or self.people[0]).card,
            "date": int(time.time()),
            "old_reaction": [],
            "new_reaction": [{"type": "emoji", "emoji": emoji}],
        }
        self._api.updates.put("message_reaction", reaction)

    async def push_raw(self, update: Json) -> None:
        """Queues an update exactly as given, malformed or not; without update_id it gets the next one."""
        self._api.updates.put_raw(update)

    async def repeat(self, message: Json | int) -> None:
        """Delivers again: an Update as it is, or the update of a message (dict or id), with the same update_id."""
        update = message if isinstance(message, dict) and "update_id" in message else self._updates[_id_of(message)]
        self._api.updates.put_raw(update, again=True)

    # -- what the chat does

    def topic(self, name: str) -> int:
        """The thread id of the forum topic of this name, opened if there is none yet."""
        for thread_id, known in self.topics.items():
            if known == name:
                return thread_id
        fields = {"forum_topic_created": {"name": name, "icon_color": 7322096}}
        message = self.compose(self.people[0].card, None, None, fields)
        thread_id = int(message["message_id"])
        message |= {"message_thread_id": thread_id, "is_topic_message": True}
        self.log[thread_id] = message
        self.topics[thread_id] = name
        return thread_id

    def block(self) -> None:
        """The person blocks the bot (in a group: removes it)."""
        private = self.card["type"] == "private"
        what = "bot was blocked by the user" if private else f"bot was kicked from the {self.card['type']} chat"
        self.refusal = Refused(403, f"Forbidden: {what}")

    def unblock(self) -> None:
        self.refusal = None

    async def migrate(self, *, told: bool = True) -> "Chat":
        """A group becomes a supergroup with another id; what is sent to the old one is refused with the new id.

        Unless the bot is `told`, the updates about it are lost.
        """
        new = self._api.group(self.card["title"], people=self.people, supergroup=True)
        if told:
            await self.send(migrate_to_chat_id=new.id)
            await new.send(migrate_from_chat_id=self.id)
        self.refusal = Refused(
            400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=new.id
        )
        return new

    # -- the server's side

    def compose(self, author: Json, topic: int | None, reply_to: int | None, fields: Json) -> Json:
        """A Message with the fields that place it: reply, topic, thread."""
        message: Json = {"message_id": self._next_id, "from": author, "chat": self.card, "date": int(time.time())}
        self._next_id += 1
        replied = self.log.get(reply_to) if reply_to is not None else None
        if topic is None and replied:
            topic = self._thread_of(replied)
        if topic is not None and topic != GENERAL_TOPIC:
            message["message_thread_id"] = topic
        if topic in self.topics:
            message["is_topic_message"] = True
            replied = replied or self.log.get(topic)
        if replied:
            message["reply_to_message"] = {key: value for key, value in replied.items() if key != "reply_to_message"}
        return message | fields

    def _thread_of(self, replied: Json) -> int | None:
        if self.card["type"] == "supergroup" and not self.card.get("is_forum"):
            # In plain supergroups a reply belongs to a thread of replies: an id, but no topic.
            return int(replied.get("message_thread_id") or replied["message_id"])
        thread_id: int | None = replied.get("message_thread_id")
        return thread_id

    def knows_thread(self, thread_id: int) -> bool:
        if self.card["type"] == "supergroup" and not self.card.get("is_forum"):
            return thread_id in self.log
        return thread_id in self.topics

    def show(self, message: Json, shown: Shown) -> None:
        self.log[shown.message_id] = message
        self._screen[shown.message_id] = shown

    def shown(self, message_id: int) -> Shown | None:
        return self._screen.get(message_id)

    def erase(self, message_id: int) -> None:
        del self.log[message_id]
        if shown := self._screen.pop(message_id, None):
            self.deleted.append(shown)

    def _remember(self, message: Json, kind: str) -> None:
        self.log[message["message_id"]] = message
        self._updates[message["message_id"]] = self._api.updates.put(kind, message)

    def _document(self, data: bytes, name: str, mime: str | None) -> Json:
        return self._api.files.add("document", data, name) | {"file_name": name} | ({"mime_type": mime} if mime else {})


def _caption(caption: str) -> Json:
    if not caption:
        return {}
    return {"caption": caption, "caption_entities": find_entities(caption)}


def _matches(shown: Shown, match: str | re.Pattern[str] | Callable[[Shown], bool] | None) -> bool:
    match match:
        case None:
            return True
        case str():
            return match in shown.words
        case re.Pattern():
            return match.search(shown.words) is not None
        case _:
            return match(shown)


# --------------------------------------------------------------------------------------------------------------- faults


@dataclass(slots=True)
class _Fault:
    method: str
    chat_id: int | None
    error: Refused | None  # None: performed, and the answer lost
    left: int

    def hits(self, method: str, params: Params) -> bool:
        here = self.chat_id is None or params.text("chat_id") == str(self.chat_id)
        return self.left > 0 and here and self.method in (method, "*")


class Hold:
    """Calls of one method that wait at the door (or, `after`, with their work done and the answer kept back)."""

    def __init__(self, api: "BotApi", method: str, after: bool) -> None:
        self.method, self.after = method, after
        self.arrived = 0
        self._api = api
        self._waiting: list[asyncio.Future[None]] = []

    def until_arrived(self, count: int = 1, timeout: float = 60) -> Coroutine[Any, Any, bool]:
        """Waits until so many calls were held."""
        return self._api.until(lambda _: self.arrived >= count, timeout)

    def release(self) -> None:
        """Lets go what is held, and holds no more."""
        if self in self._api.holds:
            self._api.holds.remove(self)
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
        self._api.bell.ring()
        await future

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Outage:
    """A time in which every connection is closed without an answer; over at `release()` or at the end of a `with`."""

    def __init__(self, api: "BotApi", seconds: float | None) -> None:
        self._api = api
        self._timer = asyncio.get_running_loop().call_later(seconds, self.release) if seconds is not None else None

    def release(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._api.outage is self:
            self._api.outage = None
        self._api.bell.ring()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(slots=True)
class _Bucket:
    """A budget that refills; https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this"""

    capacity: float
    per_second: float
    level: float
    at: float

    def shortage(self, cost: float, now: float) -> float:
        """Seconds until `cost` can be paid; 0 is now."""
        self.level = min(self.capacity, self.level + (now - self.at) * self.per_second)
        self.at = now
        return max(0.0, (cost - self.level) / self.per_second)


class _RateLimits:
    """About 1 a second in a chat (in bursts of 5), 20 a minute in a group, 30 a second overall; edits count."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, int], _Bucket] = {}
        self._silenced: dict[int, float] = {}

    def check(self, chat: Chat, cost: int) -> None:
        now = time.monotonic()
        if (left := self._silenced.get(chat.id, 0) - now) > 0:
            raise _too_many(math.ceil(left))
        buckets = [self._bucket("all", 0, 30, 30.0), self._bucket("chat", chat.id, 5, 1.0)]
        if chat.card["type"] != "private":
            buckets.append(self._bucket("group", chat.id, 20, 20 / 60))
        wait = max(bucket.shortage(cost, now) for bucket in buckets)
        if wait > 0:
            seconds = math.ceil(wait)
            self._silenced[chat.id] = now + seconds
            raise _too_many(seconds)
        for bucket in buckets:
            bucket.level -= cost

    def _bucket(self, kind: str, chat_id: int, capacity: float, per_second: float) -> _Bucket:
        fresh = _Bucket(capacity, per_second, capacity, time.monotonic())
        return self._buckets.setdefault((kind, chat_id), fresh)


# -------------------------------------------------------------------------------------------------------------- methods


class _Methods:
    """What the bot may call: a method each, from parameters to result; raises Refused as Telegram refuses."""

    def __init__(self, api: "BotApi") -> None:
        self.api = api

    # -- the bot itself

    def get_me(self, _: Params) -> Json:
        return self.api.me | {
            "can_join_groups": True,
            "can_read_all_group_messages": True,
            "supports_inline_queries": False,
            "has_topics_enabled": False,
        }

    def set_my_commands(self, params: Params) -> bool:
        commands = params.json("commands", list) or []
        if len(commands) > 100:
            raise _bad("BOT_COMMANDS_TOO_MUCH")
        for command in commands:
            if not re.fullmatch(r"[a-z0-9_]{1,32}", str(command.get("command", ""))):
                raise _bad("BOT_COMMAND_INVALID")
            if not 1 <= len(str(command.get("description", ""))) <= 256:
                raise _bad("BOT_COMMAND_DESCRIPTION_INVALID")
        self.api.commands[params.text("scope")] = commands
        return True

    def get_my_commands(self, params: Params) -> list[Json]:
        return self.api.commands.get(params.text("scope"), [])

    def delete_my_commands(self, params: Params) -> bool:
        self.api.commands.pop(params.text("scope"), None)
        return True

    def set_webhook(self, params: Params) -> bool:
        self.api.webhook = params.text("url")
        return True

    def delete_webhook(self, params: Params) -> bool:
        self.api.webhook = ""
        if params.flag("drop_pending_updates"):
            self.api.updates.queue.clear()
        return True

    def get_webhook_info(self, _: Params) -> Json:
        pending = len(self.api.updates.queue)
        return {"url": self.api.webhook, "has_custom_certificate": False, "pending_update_count": pending}

    # -- chats and files

    def get_chat(self, params: Params) -> Json:
        chat = self._chat(params)
        about: Json = {"description": chat.description} if chat.description else {}
        if chat.pinned is not None:
            about["pinned_message"] = {key: value for key, value in chat.pinned.items() if key != "reply_to_message"}
        return chat.card | about | {"accent_color_id": 0, "max_reaction_count": 11, "accepted_gift_types": _NO_GIFTS}

    def get_chat_member(self, params: Params) -> Json:
        chat, user_id = self._chat(params), params.number("user_id")
        cards = [person.card for person in chat.people] + [self.api.me]
        for card in cards:
            if card["id"] == user_id:
                return {"status": "member", "user": card}
        raise _bad("user not found")

    def get_file(self, params: Params) -> Json:
        stored = self.api.files.find(params.text("file_id"))
        if stored is None:
            raise _bad("wrong file_id or the file is temporarily unavailable")
        if len(stored.data) > DOWNLOAD_LIMIT:
            raise _bad("file is too big")
        number = stored.id.rpartition("-")[2]
        size = len(stored.data)
        return {"file_id": stored.id, "file_unique_id": f"AgAD{number}", "file_size": size, "file_path": stored.path}

    # -- sending

    def send_message(self, params: Params) -> Json:
        chat = self._chat(params)
        words = _words(params, "text", "entities")
        if not params.text("text"):
            raise _bad("message text is empty")
        if not words.plain:
            raise _bad("text must be non-empty")
        if utf16(words.plain) > TEXT_LIMIT:
            raise _bad("message is too long")
        return self._show(chat, params, "text", words, {"text": words.plain} | _with("entities", words.entities))

    def send_photo(self, params: Params) -> Json:
        return self._send_file(params, "photo")

    def send_document(self, params: Params) -> Json:
        return self._send_file(params, "document")

    def send_voice(self, params: Params) -> Json:
        return self._send_file(params, "voice")

    def send_audio(self, params: Params) -> Json:
        return self._send_file(params, "audio")

    def send_video(self, params: Params) -> Json:
        return self._send_file(params, "video")

    def send_animation(self, params: Params) -> Json:
        return self._send_file(params, "animation")

    def send_media_group(self, params: Params) -> list[Json]:
        chat = self._chat(params)
        items = params.json("media", list) or []
        if not 2 <= len(items) <= 10:
            raise _bad("media group must include 2-10 items")
        kinds = {str(item.get("type")) for item in items}
        if not (kinds <= {"photo", "video"} or kinds in ({"document"}, {"audio"})):
            raise _bad("media of these types can't be mixed in one album")
        group = self.api.new_group_id()
        ready = []
        for item in items:  # all or nothing: the whole album is checked before the first of it is shown
            words = _caption_words(item)
            ready.append((item["type"], words, self._file(params, item["type"], str(item.get("media", "")))))
        return [self._show_file(chat, params, kind, words, file, group) for kind, words, file in ready]

    def send_chat_action(self, params: Params) -> bool:
        chat = self._chat(params)
        if params.text("action") not in CHAT_ACTIONS:
            raise _bad("wrong parameter action in request")
        thread_id = params.number("message_thread_id")
        general = thread_id == GENERAL_TOPIC and chat.card.get("is_forum")
        if thread_id is not None and not general and not chat.knows_thread(thread_id):
            raise _bad("message thread not found")
        chat.actions.append(Action(params.text("action"), time.monotonic(), thread_id))
        return True

    def send_message_draft(self, params: Params) -> bool:
        chat = self._chat(params)
        if not self.api.drafts:
            raise Refused(404, "Not Found")
        words = _words(params, "text", "entities")
        draft_id = params.number("draft_id", 0) or 0
        if chat.card["type"] != "private":
            raise _bad("TEXTDRAFT_PEER_INVALID")
        if draft_id == 0:
            raise _bad("draft_id must be non-zero")
        if utf16(words.plain) > TEXT_LIMIT:
            raise _bad("message is too long")
        chat.drafts.append(Draft(draft_id, words.plain, time.monotonic()))
        return True

    # -- changing

    def edit_message_text(self, params: Params) -> Json:
        chat, shown = self._own(params, "edit")
        words = _words(params, "text", "entities")
        if shown.kind != "text":
            raise _bad("there is no text in the message to edit")
        if not params.text("text"):
            raise _bad("message text is empty")
        if not words.plain:
            raise _bad("text must be non-empty")
        if utf16(words.plain) > TEXT_LIMIT:
            raise _bad("MESSAGE_TOO_LONG")
        return self._change(chat, shown, params, words)

    def edit_message_caption(self, params: Params) -> Json:
        chat, shown = self._own(params, "edit")
        if shown.kind == "text":
            raise _bad("there is no caption in the message to edit")
        return self._change(chat, shown, params, _caption_words(params))

    def edit_message_reply_markup(self, params: Params) -> Json:
        chat, shown = self._own(params, "edit")
        return self._change(chat, shown, params, _Words(shown.words, shown.entities, shown.html))

    def delete_message(self, params: Params) -> bool:
        chat, message_id = self._chat(params), params.message_id()
        if message_id not in chat.log:
            raise _bad("message to delete not found")
        if chat.shown(message_id) is None and chat.card["type"] != "private":
            raise _bad("message can't be deleted")
        chat.erase(message_id)
        return True

    def set_message_reaction(self, params: Params) -> bool:
        chat, message_id = self._chat(params), params.message_id()
        reactions = params.json("reaction", list) or []
        if message_id not in chat.log:
            raise _bad("message to react not found")
        if len(reactions) > 1:
            raise _bad("REACTIONS_TOO_MANY")
        if any(reaction.get("emoji") not in REACTIONS for reaction in reactions):
            raise _bad("REACTION_INVALID")
        chat.reactions[message_id] = reactions
        return True

    def answer_callback_query(self, params: Params) -> bool:
        query_id = params.text("callback_query_id")
        chat = self.api.open_queries.pop(query_id, None)
        if chat is None:
            raise _bad("query is too old and response timeout expired or query ID is invalid")
        if utf16(params.text("text")) > 200:
            raise _bad("MESSAGE_TOO_LONG")
        self.api.answers[query_id] = params
        chat.bell.ring()
        return True

    # -- shared by them

    def _chat(self, params: Params) -> Chat:
        if not params.text("chat_id"):
            raise _bad("chat_id is empty")
        chat = self.api.chat_of(params)
        if chat is None:
            raise _bad("chat not found")
        if chat.refusal:
            raise chat.refusal
        return chat

    def _own(self, params: Params, verb: str) -> tuple[Chat, Shown]:
        chat, message_id = self._chat(params), params.message_id()
        shown = chat.shown(message_id)
        if shown:
            return chat, shown
        if message_id in chat.log:
            raise _bad(f"message can't be {verb}ed")
        raise _bad(f"message to {verb} not found")

    def _send_file(self, params: Params, kind: str) -> Json:
        chat = self._chat(params)
        given = params.get(kind, "")
        file = given if isinstance(given, Upload) else self._file(params, kind, given)
        _check_file(kind, file.data)
        return self._show_file(chat, params, kind, _caption_words(params), file, None)

    def _file(self, params: Params, kind: str, reference: str) -> Upload:
        """What `attach://part` or a file id stands for."""
        if reference.startswith("attach://"):
            part = params.get(reference.removeprefix("attach://"))
            if not isinstance(part, Upload):
                raise _bad(f"there is no {kind} in the request")
            _check_file(kind, part.data)
            return part
        if stored := self.api.files.find(reference):
            return Upload(PurePosixPath(stored.path).name, stored.data)
        if not reference:
            raise _bad(f"there is no {kind} in the request")
        raise _bad("wrong remote file identifier specified: this test server fetches no URLs")

    def _show_file(self, chat: Chat, params: Params, kind: str, words: _Words, file: Upload, group: str | None) -> Json:
        files = self.api.files
        if kind == "photo":
            body: Any = files.photo(file.data)
        else:
            body = files.add(kind, file.data, file.name) | {"file_name": file.name} | _EXTRA.get(kind, {})
        fields = {kind: body} | _with("caption", words.plain) | _with("caption_entities", words.entities)
        return self._show(chat, params, kind, words, fields | _with("media_group_id", group), file, group)

    def _show(
        self,
        chat: Chat,
        params: Params,
        kind: str,
        words: _Words,
        fields: Json,
        file: Upload = Upload("", b""),  # noqa: B008 - immutable
        group: str | None = None,
    ) -> Json:
        thread_id = params.number("message_thread_id")
        if thread_id is not None and not chat.knows_thread(thread_id):
            raise _bad("message thread not found")
        reply_to = self._reply_to(chat, params)
        markup = _markup(params)
        message = chat.compose(self.api.me, thread_id, reply_to, fields | _with("reply_markup", _inline(markup)))
        shown = Shown(
            message_id=message["message_id"],
            kind=kind,
            at=time.monotonic(),
            text=words.plain if kind == "text" else "",
            caption="" if kind == "text" else words.plain,
            html=words.html,
            entities=words.entities,
            data=file.data,
            file_name=file.name,
            reply_to=reply_to,
            thread_id=message.get("message_thread_id"),
            media_group_id=group,
            markup=markup,
        )
        chat.show(message, shown)
        return message

    def _reply_to(self, chat: Chat, params: Params) -> int | None:
        reply = params.json("reply_parameters", dict) or {}
        message_id = reply.get("message_id", params.number("reply_to_message_id"))
        if message_id is None or message_id in chat.log:
            return message_id
        if reply.get("allow_sending_without_reply") or params.flag("allow_sending_without_reply"):
            return None
        raise _bad("message to be replied not found")

    def _change(self, chat: Chat, shown: Shown, params: Params, words: _Words) -> Json:
        markup = _markup(params)  # an edit without a keyboard takes the old one away
        if (words.plain, words.entities, markup) == (shown.words, shown.entities, shown.markup):
            raise _bad(
                "message is not modified: specified new message content and reply markup are exactly the same as a "
                "current content and reply markup of the message"
            )
        is_text = shown.kind == "text"
        if words.plain != shown.words or words.entities != shown.entities:
            shown.edits.append(Edit(words.plain, time.monotonic()))
        shown.text, shown.caption = (words.plain, "") if is_text else ("", words.plain)
        shown.html, shown.entities, shown.markup = words.html, words.entities, markup
        names = ("text", "entities") if is_text else ("caption", "caption_entities")
        kept = {key: value for key, value in chat.log[shown.message_id].items() if key not in (*names, "reply_markup")}
        changed = (
            _with(names[0], words.plain) | _with(names[1], words.entities) | _with("reply_markup", _inline(markup))
        )
        chat.log[shown.message_id] = kept | changed | {"edit_date": int(time.time())}
        return chat.log[shown.message_id]


_NO_GIFTS = dict.fromkeys(
    ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription", "gifts_from_channels"), False
)
_EXTRA: dict[str, Json] = {
    "voice": {"duration": 1},
    "audio": {"duration": 1},
    "video": {"duration": 1, "width": 640, "height": 480},
    "animation": {"duration": 1, "width": 640, "height": 480},
}


def _with(name: str, value: Any) -> Json:
    return {name: value} if value else {}


def _caption_words(params: Json | Params) -> _Words:
    words = _words(params, "caption", "caption_entities")
    if utf16(words.plain) > CAPTION_LIMIT:
        raise _bad("message caption is too long")
    return words


def _markup(params: Params) -> Json | None:
    markup = params.json("reply_markup", dict)
    rows = (markup or {}).get("inline_keyboard", [])
    length = len(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode())
    if sum(map(len, rows)) > MOST_BUTTONS or length > KEYBOARD_LIMIT:
        raise _bad("reply markup is too long")
    for row in rows:
        if len(row) > MOST_BUTTONS_IN_ROW:
            raise _bad("BUTTON_ROW_TOO_LONG")
        for button in row:
            if not button.get("text"):
                raise _bad("can't parse inline keyboard button: text must be non-empty")
            if "callback_data" in button and not 1 <= len(button["callback_data"].encode()) <= 64:
                raise _bad("BUTTON_DATA_INVALID")
    return markup if markup and markup != {"inline_keyboard": []} else None


def _inline(markup: Json | None) -> Json | None:
    """Only inline keyboards are told back in a Message."""
    return markup if markup and "inline_keyboard" in markup else None


_Method = Callable[[_Methods, Params], Any]
_ALL: dict[str, _Method] = {
    "getMe": _Methods.get_me,
    "setMyCommands": _Methods.set_my_commands,
    "getMyCommands": _Methods.get_my_commands,
    "deleteMyCommands": _Methods.delete_my_commands,
    "setWebhook": _Methods.set_webhook,
    "deleteWebhook": _Methods.delete_webhook,
    "getWebhookInfo": _Methods.get_webhook_info,
    "getChat": _Methods.get_chat,
    "getChatMember": _Methods.get_chat_member,
    "getFile": _Methods.get_file,
    "sendMessage": _Methods.send_message,
    "sendPhoto": _Methods.send_photo,
    "sendDocument": _Methods.send_document,
    "sendVoice": _Methods.send_voice,
    "sendAudio": _Methods.send_audio,
    "sendVideo": _Methods.send_video,
    "sendAnimation": _Methods.send_animation,
    "sendMediaGroup": _Methods.send_media_group,
    "sendChatAction": _Methods.send_chat_action,
    "sendMessageDraft": _Methods.send_message_draft,
    "editMessageText": _Methods.edit_message_text,
    "editMessageCaption": _Methods.edit_message_caption,
    "editMessageReplyMarkup": _Methods.edit_message_reply_markup,
    "deleteMessage": _Methods.delete_message,
    "setMessageReaction": _Methods.set_message_reaction,
    "answerCallbackQuery": _Methods.answer_callback_query,
}
_BY_LOWER_NAME = {name.lower(): name for name in (*_ALL, "getUpdates")}  # method names are case-insensitive
_COSTS_NOTHING = frozenset(_ALL) - {
    name for name in _ALL if name.startswith(("sendM", "sendP", "sendD", "sendV", "sendA", "edit"))
}


# --------------------------------------------------------------------------------------------------------------- server


class BotApi:
    """The server, its chats and its faults; see the module's first lines."""

    def __init__(
        self,
        *,
        token: str = "123456:test-token",
        username: str = "interject_test_bot",
        port: int = 0,
        rate_limits: bool = False,
        drafts: bool = False,
    ) -> None:
        self.token = token
        self.port = port  # 0 until the first start takes a free one, which is then kept
        self.me: Json = {"id": 123456, "is_bot": True, "first_name": "Interject", "username": username}
        self.drafts = drafts
        self.calls: list[Call] = []
        self.refusals: list[Refusal] = []
        self.answers: dict[str, Params] = {}  # to callback queries, by query id
        self.commands: dict[str, list[Json]] = {}  # of setMyCommands, by scope as sent
        self.webhook = ""
        self.chats: dict[int, Chat] = {}
        self.files = _Files()
        self.bell = _Bell()
        self.updates = _Updates(self.bell.ring)
        self.holds: list[Hold] = []
        self.outage: Outage | None = None
        self.open_queries: dict[str, Chat] = {}
        self.crashes: list[Exception] = []  # mistakes of this server's, raised again when it closes
        self._limits = _RateLimits() if rate_limits else None
        self._methods = _Methods(self)
        self._faults: deque[_Fault] = deque()
        self._server: web.Server | None = None
        self._runner: web.ServerRunner | None = None
        self._groups = 0
        self._queries = 0

    # -- life

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/bot"

    @property
    def base_file_url(self) -> str:
        return f"{self.url}/file/bot"

    async def start(self) -> None:
        """Listens, on the same port as before if there was one."""
        self._server = web.Server(self._handle, request_factory=_big_request, access_log=None)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=0.5)
        await self._runner.setup()
        listening = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.port = listening.getsockname()[1]
        await web.SockSite(self._runner, listening).start()

    async def stop(self) -> None:
        """Closes every connection and listens no more; chats, updates and faults are kept for the next `start()`."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        self._close_connections()
        await runner.cleanup()
        self._server = None

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

    def private(self, user_id: int = 7, name: str = "Ann", username: str | None = None) -> Chat:
        """The private chat of this person, the same one for the same id."""
        person = Person(user_id, name, username)
        return self._chat(user_id, "private", [person], first_name=name, **_with("username", username))

    def group(
        self,
        title: str = "Team",
        *,
        chat_id: int | None = None,
        people: Sequence[Person] = (Person(7, "Ann"), Person(8, "Bob")),
        supergroup: bool = False,
    ) -> Chat:
        number = len(self.chats) + 1
        kind, default = ("supergroup", -1001000000000 - number) if supergroup else ("group", -1000 - number)
        return self._chat(default if chat_id is None else chat_id, kind, people, title=title)

    def forum(
        self,
        title: str = "Forum",
        *,
        chat_id: int | None = None,
        people: Sequence[Person] = (Person(7, "Ann"), Person(8, "Bob")),
        topics: Iterable[str] = (),
    ) -> Chat:
        """A supergroup with topics; `forum.topic("Name")` gives the thread id of one."""
        default = -1001000000000 - len(self.chats) - 1
        chat = self._chat(default if chat_id is None else chat_id, "supergroup", people, title=title, is_forum=True)
        for name in topics:
            chat.topic(name)
        return chat

    def _chat(self, chat_id: int, kind: str, people: Sequence[Person], **card: Any) -> Chat:
        return self.chats.setdefault(chat_id, Chat(self, chat_id, kind, people, **card))

    def chat_of(self, params: Params) -> Chat | None:
        """The chat that a request names, by id or @username."""
        name = params.text("chat_id")
        if name.startswith("@"):
            return next((chat for chat in self.chats.values() if f"@{chat.card.get('username')}" == name), None)
        with suppress(ValueError):
            return self.chats.get(int(name))
        return None

    def new_group_id(self) -> str:
        self._groups += 1
        return str(13_000_000 + self._groups)

    def new_query_id(self, chat: Chat) -> str:
        self._queries += 1
        query_id = str(4_000_000_000 + self._queries)
        self.open_queries[query_id] = chat
        return query_id

    # -- what was asked

    @property
    def confirmed_offset(self) -> int:
        """The highest offset a getUpdates asked from: all updates below are confirmed."""
        return self.updates.confirmed_offset

    @property
    def polls(self) -> int:
        """How many getUpdates there were."""
        return self.updates.polls

    def called(self, method: str) -> list[Call]:
        return [call for call in self.calls if call.method == method]

    def until(self, predicate: "Callable[[BotApi], T | None]", timeout: float = 60) -> Coroutine[Any, Any, T]:
        """Waits until `predicate(api)` is true, and returns what it gave; asked at arrival and end of each call."""
        return self.bell.wait(lambda: predicate(self), timeout, self._last_calls)

    def _last_calls(self) -> str:
        return f"last calls: {[call.method for call in self.calls[-10:]]}, refused: {self.refusals[-5:]}"

    # -- faults

    def fail_next(
        self,
        method: str,
        status: int,
        *,
        retry_after: int | None = None,
        description: str | None = None,
        times: int = 1,
        chat_id: int | None = None,
    ) -> None:
        """Refuses the next calls of this method ("*": of any, "file": downloads) without performing them."""
        if status == 429:
            error = _too_many(1 if retry_after is None else retry_after)
        else:
            error = Refused(status, description or _STATUS_TEXTS.get(status, "Bad Request: refused by the test"))
        self._faults.append(_Fault(method, chat_id, error, times))

    def drop_answer(self, method: str, *, times: int = 1, chat_id: int | None = None) -> None:
        """Performs the next calls of this method, and closes their connections without an answer."""
        self._faults.append(_Fault(method, chat_id, None, times))

    def hold(self, method: str, *, after: bool = False) -> Hold:
        """Keeps calls of this method waiting until `release()`, before they are performed or `after`."""
        held = Hold(self, method, after)
        self.holds.append(held)
        return held

    def refuse(self, seconds: float | None = None) -> Outage:
        """Network loss: open and further requests are closed without an answer, for so long or until released."""
        if self.outage:
            self.outage.release()
        self.outage = Outage(self, seconds)
        self._close_connections()
        return self.outage

    def _close_connections(self) -> None:
        self.updates.end_poll(_NoAnswer())
        for held in self.holds:
            held.end(_NoAnswer())
        for connection in self._server.connections if self._server else ():
            if connection.transport:
                connection.transport.abort()

    # -- requests

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        outage = self.outage
        try:
            if outage is None:
                return await self._route(request)
        except (_NoAnswer, ConnectionError, web.RequestPayloadError):
            pass  # closed below; of the latter two the bot itself is the cause, killed in mid-request
        except Exception as error:
            self.crashes.append(error)
            raise
        if request.transport:
            request.transport.abort()
        return web.Response(status=500)

    async def _route(self, request: web.BaseRequest) -> web.Response:
        prefix, _, rest = request.path.partition("/bot")
        token, _, target = rest.partition("/")
        if prefix not in ("", "/file") or ":" not in token or not target:
            return Refused(404, "Not Found").response()
        if token != self.token:
            return Refused(401, "Unauthorized").response()
        if prefix == "/file":
            return await self._answer(request, "file", Params(path=target))
        if int(request.headers.get("Content-Length", 0)) > UPLOAD_LIMIT + 1024 * 1024:
            return Refused(413, "Request Entity Too Large").response()
        name = _BY_LOWER_NAME.get(target.lower(), target)
        try:
            params = await _read_params(request)
        except ValueError:
            return _bad("can't parse the request: strings must be encoded in UTF-8").response()
        return await self._answer(request, name, params)

    async def _answer(self, request: web.BaseRequest, method: str, params: Params) -> web.Response:
        chat = self.chat_of(params)
        self.calls.append(Call(method, params, time.monotonic()))
        self._ring(chat)
        fault = self._take_fault(method, params)
        try:
            await self._wait_held(method, after=False)
            if fault and fault.error:
                raise fault.error
            response = await self._perform(method, params, chat)
        except Refused as refused:
            self.refusals.append(Refusal(method, refused.status, refused.description, time.monotonic()))
            response = refused.response()
        self._ring(chat)
        await self._wait_held(method, after=True)
        if fault and fault.error is None:
            raise _NoAnswer
        return response

    async def _perform(self, method: str, params: Params, chat: Chat | None) -> web.Response:
        if method == "file":
            return self._download(params.text("path"))
        if method == "getUpdates":
            return _json_response({"ok": True, "result": await self._get_updates(params)})
        if method not in _ALL:
            raise Refused(404, "Not Found")
        if self._limits and chat and (method not in _COSTS_NOTHING or method == "sendChatAction"):
            self._limits.check(chat, _cost(method, params))
        return _json_response({"ok": True, "result": _ALL[method](self._methods, params)})

    async def _get_updates(self, params: Params) -> list[Json]:
        if self.webhook:
            raise Refused(409, f"{_WEBHOOK_ACTIVE}; use deleteWebhook to delete the webhook first")
        if (allowed := params.json("allowed_updates", list)) is not None:
            self.updates.allowed = frozenset(allowed) or None
        limit = min(max(params.number("limit", 100) or 100, 1), 100)
        timeout = min(max(float(params.number("timeout", 0) or 0), 0.0), LONGEST_POLL)
        updates = self.updates.take(params.number("offset", 0) or 0, limit, timeout)
        return await updates

    def _download(self, path: str) -> web.Response:
        stored = self.files.at(path)
        if stored is None:
            raise Refused(404, "Not Found")
        return web.Response(body=stored.data, content_type="application/octet-stream")

    def _take_fault(self, method: str, params: Params) -> _Fault | None:
        for fault in self._faults:
            if fault.hits(method, params):
                fault.left -= 1
                if not fault.left:
                    self._faults.remove(fault)
                return fault
        return None

    async def _wait_held(self, method: str, *, after: bool) -> None:
        for held in tuple(self.holds):
            if held.method in (method, "*") and held.after is after:
                await held.wait()

    def _ring(self, chat: Chat | None) -> None:
        self.bell.ring()
        if chat:
            chat.bell.ring()


_WEBHOOK_ACTIVE = "Conflict: can't use getUpdates method while webhook is active"
_STATUS_TEXTS = {
    401: "Unauthorized",
    403: "Forbidden: bot was blocked by the user",
    404: "Not Found",
    409: _OTHER_POLL,
    500: "Internal Server Error",
    502: "Bad Gateway",
}


def _cost(method: str, params: Params) -> int:
    match method:
        case "sendChatAction":
            return 0
        case "sendMediaGroup":
            return len(params.json("media", list) or [])
        case _:
            return 1


def _big_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=2 * UPLOAD_LIMIT)


async def _read_params(request: web.BaseRequest) -> Params:
    params = Params(request.query)
    match request.content_type:
        case "application/json":
            given = json.loads(await request.read() or b"{}")
            params |= {key: _as_text(value) for key, value in given.items() if value is not None}
        case "multipart/form-data":
            async for part in await request.multipart():
                if isinstance(part, BodyPartReader) and part.name:
                    data = bytes(await part.read())
                    params[part.name] = data.decode() if part.filename is None else Upload(part.filename, data)
        case _:
            params |= parse_qsl((await request.read()).decode(), keep_blank_values=True)
    return params


async def _serve(port: int, token: str) -> None:
    """Serves one private chat: a line typed is said, what the bot shows is written."""
    async with BotApi(port=port, token=token) as api:
        chat = api.private()
        sys.stdout.write(f"{api.url} token {api.token}\n")
        sys.stdout.flush()
        while line := await asyncio.to_thread(sys.stdin.readline):
            await chat.say(line.strip())
            shown = await chat.hear(timeout=3600)
            sys.stdout.write(f"{shown.words}\n")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--token", default="123456:test-token")
    given = arguments.parse_args()
    asyncio.run(_serve(given.port, given.token))
