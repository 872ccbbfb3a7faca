"""A local Discord: a bot talks to its API and gateway over real sockets, a test plays the people on the other side.

    async with Discord() as discord:
        ann = discord.direct(Person(7, "Ann"))
        await discord.connected()                            # a client has identified or resumed
        await ann.say("hi")                                  # MESSAGE_CREATE
        assert (await ann.hear("Hello")).content == "Hello"  # what the bot shows, as soon as it shows it

Point a bot at `discord.api_url` and `discord.gateway_url`; its token is `discord.token`. Call everything from the event
loop that started the server. Bots may be in the same loop, in another thread or in other processes, one after another;
the state survives them, and `stop()` / `start()` on the same port.

It knows nothing of the product. What it does and refuses follows discord.com/developers/docs (API version 10). Harsher
than there, to show mistakes: a message in an archived thread comes before the THREAD_UPDATE that opens the thread, and
`resume_gateway_url` is another address than the first. Milder: buckets are wide unless `limit()` or `rate_limits=True`,
and clients may identify as fast as they like unless `identify_seconds` says otherwise; Discord's five.
"""

import argparse
import asyncio
import base64
import hashlib
import io
import json
import mimetypes
import re
import socket
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote, unquote

from aiohttp import BodyPartReader, StreamReader, WSMsgType, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

Json = dict[str, Any]
T = TypeVar("T")

CONTENT_LIMIT = 2000
FILE_LIMIT = 10 * 1024 * 1024
REQUEST_LIMIT = 25 * 1024 * 1024
SENT_PER_MINUTE = 120  # payloads of a client's on one gateway connection
EPOCH = 1_420_070_400_000  # Discord's, in milliseconds

GUILDS, GUILD_MEMBERS, PRESENCES = 1 << 0, 1 << 1, 1 << 8
GUILD_MESSAGES, GUILD_REACTIONS, GUILD_TYPING = 1 << 9, 1 << 10, 1 << 11
DIRECT_MESSAGES, DIRECT_REACTIONS, DIRECT_TYPING = 1 << 12, 1 << 13, 1 << 14
MESSAGE_CONTENT = 1 << 15
PRIVILEGED = GUILD_MEMBERS | PRESENCES | MESSAGE_CONTENT

EPHEMERAL, LOADING, HAS_THREAD, VOICE, COMPONENTS_V2 = 1 << 6, 1 << 7, 1 << 5, 1 << 13, 1 << 15
TEXT, DIRECT, THREAD, FORUM = 0, 1, 11, 15  # types of channels
PINNED, JOINED, THREAD_CREATED, REPLY, COMMAND, THREAD_STARTER = 6, 7, 18, 19, 20, 21  # types of messages


# ---------------------------------------------------------------------------------------------------- what a test reads


class Upload(NamedTuple):
    """A file, the bot's or a person's; `description` is its alt text."""

    name: str
    data: bytes
    description: str | None = None


class Call(NamedTuple):
    """One request of the bot's; `path` begins behind /api/v10, `at` is monotonic seconds. Downloads are called too."""

    method: str
    path: str
    query: dict[str, str]
    body: Any  # the JSON, or the payload_json of a multipart request
    files: dict[int, Upload]  # by their n in files[n]
    at: float

    @property
    def route(self) -> str:
        return f"{self.method} {self.path}"


class Refusal(NamedTuple):
    """One answer that was not ok."""

    route: str
    status: int
    code: int
    at: float


class Edit(NamedTuple):
    """One edit that changed the content of a message."""

    content: str
    at: float


class Button(NamedTuple):
    """A button on screen; a link has a `url` and no custom id."""

    custom_id: str | None
    label: str
    style: int
    disabled: bool = False
    url: str | None = None


class Reaction(NamedTuple):
    """One reaction that the bot put on a message or took away."""

    message_id: int
    emoji: str
    added: bool
    at: float


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who writes to the bot; `bot` marks another program."""

    id: int
    name: str
    username: str | None = None
    bot: bool = False

    @property
    def card(self) -> Json:
        return {
            "id": str(self.id),
            "username": self.username or re.sub(r"\W", "", self.name.lower()) or "somebody",
            "global_name": self.name,
            "discriminator": "0",
            "avatar": None,
            "bot": self.bot,
            "public_flags": 0,
        }


ANN = Person(7, "Ann")
BOB = Person(8, "Bob")


@dataclass(slots=True)
class Shown:
    """A message of the bot's as it stands on screen; edits change it in place."""

    id: int
    at: float  # monotonic seconds
    content: str = ""
    reply_to: int | None = None
    files: list[Upload] = field(default_factory=list)
    components: list[Json] = field(default_factory=list)  # as the bot sent them
    embeds: list[Json] = field(default_factory=list)
    flags: int = 0
    nonce: str | None = None
    allowed_mentions: Json | None = None  # of the last request that had some
    pings: frozenset[str] = frozenset()  # whom it notified: ids of people and roles, "everyone"
    edits: list[Edit] = field(default_factory=list)
    interaction: "Interaction | None" = None

    @property
    def ephemeral(self) -> bool:
        return bool(self.flags & EPHEMERAL)

    @property
    def loading(self) -> bool:
        """A deferred answer that says "thinking…" still."""
        return bool(self.flags & LOADING)

    @property
    def words(self) -> str:
        """The content, and the texts of components, in order."""
        texts = [part["content"] for part in _flat(self.components) if part.get("type") == 10]
        return "\n".join(([self.content] if self.content else []) + texts)

    @property
    def buttons(self) -> list[Button]:
        return [
            Button(
                part.get("custom_id"),
                part.get("label") or (part.get("emoji") or {}).get("name", ""),
                part["style"],
                bool(part.get("disabled")),
                part.get("url"),
            )
            for part in _flat(self.components)
            if part.get("type") == 2
        ]


def _flat(components: Iterable[Json]) -> list[Json]:
    """Every component, those inside of others behind the one they are in."""
    found: list[Json] = []
    for component in components:
        found.append(component)
        found += _flat(component.get("components") or ())
        if accessory := component.get("accessory"):
            found.append(accessory)
    return found


# ------------------------------------------------------------------------------------------------------------- refusals


_MESSAGES = {
    0: "401: Unauthorized",
    10003: "Unknown Channel",
    10004: "Unknown Guild",
    10008: "Unknown Message",
    10013: "Unknown User",
    10014: "Unknown Emoji",
    10015: "Unknown Webhook",
    10062: "Unknown interaction",
    20028: "The write action you are performing on the channel has hit the write rate limit",
    40005: "Request entity too large",
    40060: "Interaction has already been acknowledged.",
    50001: "Missing Access",
    50003: "Cannot execute action on a DM channel",
    50005: "Cannot edit a message authored by another user",
    50006: "Cannot send an empty message",
    50007: "Cannot send messages to this user",
    50013: "Missing Permissions",
    50024: "Cannot execute action on this channel type",
    50027: "Invalid Webhook Token",
    50033: "Invalid Recipient(s)",
    50035: "Invalid Form Body",
    50109: "The request body contains invalid JSON.",
    50083: "Thread is archived",
    160004: "A thread has already been created for this message",
}
_STATUS_CODES = {401: 0, 403: 50013, 404: 10008, 413: 40005, 400: 50035}


class Refused(Exception):
    """An answer that is not ok; a 429 has `retry_after` and a scope: user, shared or global."""

    def __init__(
        self,
        status: int,
        code: int = 0,
        *,
        errors: Json | None = None,
        retry_after: float | None = None,
        scope: str = "user",
    ) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code, self.errors = status, code, errors
        self.retry_after, self.scope = retry_after, scope

    def response(self) -> web.Response:
        if self.status in (502, 503, 504):  # these come from the proxy in front, and are not JSON
            text = f"<html><h1>{self.status}</h1></html>"
            return web.Response(status=self.status, text=text, content_type="text/html")
        if self.status == 429:
            return self._rate_limited()
        body: Json = {"message": _MESSAGES.get(self.code, f"{self.status}: refused"), "code": self.code}
        return _json_response(body | ({"errors": self.errors} if self.errors else {}), self.status)

    def _rate_limited(self) -> web.Response:
        seconds = self.retry_after or 0.0
        text = "You are being rate limited."
        response = _json_response({"message": text, "retry_after": seconds, "global": self.scope == "global"}, 429)
        response.headers["Retry-After"] = str(max(1, round(seconds)))
        response.headers["X-RateLimit-Scope"] = self.scope
        if self.scope == "global":
            response.headers["X-RateLimit-Global"] = "true"
        return response


class _NoAnswer(Exception):
    """The connection is to be closed without an answer."""


def _invalid(place: str, code: str, text: str) -> Refused:
    """50035 with the tree of errors that Discord gives: `place` is the path to the field, with dots."""
    errors: Json = {"_errors": [{"code": code, "message": text}]}
    for part in reversed(place.split(".")):
        errors = {part: errors}
    return Refused(400, 50035, errors=errors)


def _json_response(body: Any, status: int = 200) -> web.Response:
    # The SDK decodes JSON only when this is the whole content type.
    response = web.Response(body=json.dumps(body).encode(), status=status)
    response.headers["Content-Type"] = "application/json"
    return response


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


# ------------------------------------------------------------------------------------------------------- ids and files


class _Snowflakes:
    """Ids that grow, with the time in them as Discord's have it."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last = max(self._last + 1, (int(time.time() * 1000) - EPOCH) << 22)
        return self._last

    def next_of(self, shard: int, count: int) -> int:
        """For a guild whose events this one of so many shards gets."""
        after = (self.next() >> 22) + 1
        self._last = after + (shard - after) % count << 22
        return self._last


def _now() -> str:
    return datetime.now(UTC).isoformat()


@dataclass(frozen=True, slots=True)
class _Stored:
    channel_id: int
    file: Upload


class _Files:
    """Every attachment, by id. A link carries the generation of links it belongs to, and dies with it."""

    def __init__(self, server: "Discord") -> None:
        self._server = server
        self._by_id: dict[int, _Stored] = {}
        self.generation = 1

    def add(self, channel_id: int, file: Upload, **fields: Any) -> Json:
        """Keeps the bytes; returns the attachment without its links, which are made when somebody looks."""
        number = self._server.new_id()
        self._by_id[number] = _Stored(channel_id, file)
        kind = mimetypes.guess_type(file.name)[0]
        card: Json = {"id": str(number), "filename": file.name, "size": len(file.data)}
        if kind:
            card["content_type"] = kind
        if kind and kind.startswith("image/") and (size := _image_size(file.data)):
            card |= {"width": size[0], "height": size[1]}
        if file.description:
            card["description"] = file.description
        return card | fields

    def linked(self, card: Json) -> Json:
        stored = self._by_id[int(card["id"])]
        path = f"/attachments/{stored.channel_id}/{card['id']}/{quote(card['filename'])}?ex={self.generation:x}&hm=0f"
        return card | {"url": self._server.url + path, "proxy_url": self._server.url + path}

    def upload(self, attachment_id: int) -> Upload:
        return self._by_id[attachment_id].file

    def at(self, path: str, generation: str) -> bytes | None:
        parts = path.strip("/").split("/")
        if len(parts) != 3 or not parts[1].isdigit() or generation != f"{self.generation:x}":
            return None
        stored = self._by_id.get(int(parts[1]))
        return stored.file.data if stored else None


def _image_size(data: bytes) -> tuple[int, int] | None:
    from PIL import Image, UnidentifiedImageError  # heavy, and most servers never see a picture

    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except UnidentifiedImageError:
        return None


# -------------------------------------------------------------------------------------------------------------- guilds


_EVERYTHING = str((1 << 50) - 1)  # permissions


class Guild:
    """A guild ("server") with its roles, people and channels."""

    def __init__(self, server: "Discord", guild_id: int, name: str) -> None:
        self.id, self.name = guild_id, name
        self.roles: dict[int, str] = {guild_id: "@everyone"}
        self.people: dict[int, Person] = {}
        self.roles_of: dict[int, list[int]] = {}
        self.permissions: dict[int, int] = {}  # of roles; of others, everything
        self.nicks: dict[int, str] = {}  # what a person is called in this guild, by id
        self.channels: list[Place] = []
        self.threads: list[Place] = []
        self.commands: list[Json] = []
        self._server = server

    def role(self, name: str, people: Iterable[Person] = ()) -> int:
        """The id of a new role."""
        role_id = self._server.new_id()
        self.roles[role_id] = name
        for person in people:
            self.roles_of.setdefault(person.id, []).append(role_id)
        self._server.gateway.dispatch("GUILD_ROLE_CREATE", {"guild_id": str(self.id), "role": self._role(role_id)})
        return role_id

    def _role(self, role_id: int) -> Json:
        return {
            "id": str(role_id),
            "name": self.roles[role_id],
            "color": 0,
            "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
            "hoist": False,
            "position": list(self.roles).index(role_id),
            "permissions": str(self.permissions.get(role_id, _EVERYTHING)),
            "managed": False,
            "mentionable": True,
            "flags": 0,
        }

    def member(self, person_id: int) -> Json:
        """A member as it stands beside a message: without the user."""
        return {
            "roles": [str(role) for role in self.roles_of.get(person_id, [])],
            "nick": self.nicks.get(person_id),
            "joined_at": "2026-01-01T00:00:00+00:00",
            "flags": 0,
            "deaf": False,
            "mute": False,
        }

    def members(self) -> list[Json]:
        cards = [self._server.me, *(person.card for person in self.people.values())]
        return [self.member(int(card["id"])) | {"user": card} for card in cards]

    def card(self) -> Json:
        return {
            "id": str(self.id),
            "name": self.name,
            "icon": None,
            "owner_id": str(next(iter(self.people), self.id)),
            "roles": [self._role(role_id) for role_id in self.roles],
            "emojis": [],
            "stickers": [],
            "features": [],
            "afk_timeout": 300,
            "preferred_locale": "en-US",
            "verification_level": 0,
            "default_message_notifications": 0,
            "explicit_content_filter": 0,
            "mfa_level": 0,
            "nsfw_level": 0,
            "premium_tier": 0,
            "system_channel_flags": 0,
        }

    def arrival(self, intents: int) -> Json:
        """What GUILD_CREATE says; people other than the bot are listed only with the GUILD_MEMBERS intent."""
        members = self.members()
        return self.card() | {
            "unavailable": False,
            "large": False,
            "joined_at": "2026-01-01T00:00:00+00:00",
            "member_count": len(members),
            "members": members if intents & GUILD_MEMBERS else members[:1],
            "channels": [channel.card for channel in self.channels],
            "threads": [thread.card for thread in self.threads if not thread.archived],
            "voice_states": [],
            "presences": [],
            "stage_instances": [],
            "guild_scheduled_events": [],
            "soundboard_sounds": [],
        }


# --------------------------------------------------------------------------------------------------------------- places


def _id_of(message: "int | str | Json | Shown") -> int:
    match message:
        case int() | str():
            return int(message)
        case Shown():
            return message.id
        case _:
            return int(message["id"])


class Place:
    """A direct channel, a channel of a guild or a thread, seen by its people: they say things, and look at the screen.

    `by` is by default the first person of the place. Methods that say something return the message as the bot gets it
    from the REST API; where a message is asked for, its id, its JSON or its `Shown` will do.
    """

    def __init__(
        self,
        server: "Discord",
        place_id: int,
        kind: int,
        people: Sequence[Person],
        *,
        name: str = "",
        guild: Guild | None = None,
        parent: "Place | None" = None,
        owner_id: int = 0,
        archived: bool = False,
    ) -> None:
        self.id, self.kind, self.name = place_id, kind, name
        self.people = list(people)
        self.overwrites: list[Json] = []
        self.guild, self.parent = guild, parent
        self.owner_id, self.archived = owner_id, archived
        self.topic: str | None = None  # of a channel, or the guidelines of a forum; threads have none
        self.log: dict[int, Json] = {}  # every message that exists, attachments without links
        self.deleted: list[Shown] = []
        self.typing: list[float] = []  # monotonic seconds
        self.reactions: dict[int, list[str]] = {}  # the bot's that stand now, by message id
        self.reacted: list[Reaction] = []  # what the bot did, in order
        self.refusal: Refused | None = None  # what the bot gets for everything it writes here
        self.hidden = False  # the bot may not even look: 50001
        self.without_bot = False  # a private chat or guild of others, where a person uses an app of their own
        self.bell = _Bell()
        self._server = server
        self._screen: dict[int, Shown] = {}
        self._heard = 0
        self._others: dict[int, dict[str, set[int]]] = {}  # who reacted, by message and emoji
        self.nonces: dict[str, int] = {}

    # -- what is on screen

    @property
    def messages(self) -> list[Shown]:
        """The bot's messages that are on screen now, in the order sent."""
        return list(self._screen.values())

    @property
    def texts(self) -> list[str]:
        """The words of what is on screen now."""
        return [shown.words for shown in self._screen.values()]

    def until(self, predicate: "Callable[[Place], T | None]", timeout: float = 60) -> Coroutine[Any, Any, T]:
        """Waits until `predicate(place)` is true, returns what it gave; asked at each call that concerns this place."""
        return self.bell.wait(lambda: predicate(self), timeout, self._transcript)

    def hear(
        self, match: str | re.Pattern[str] | Callable[[Shown], bool] | None = None, timeout: float = 60
    ) -> Coroutine[Any, Any, Shown]:
        """The next message of the bot's (newer than the last one heard) whose words contain or match `match`.

        A reply that is streamed by edits is heard as soon as it matches, not when it is complete.
        """

        def heard(_: Place) -> Shown | None:
            for shown in self._screen.values():
                if shown.id > self._heard and _matches(shown, match):
                    self._heard = shown.id
                    return shown
            return None

        return self.until(heard, timeout)

    def reactions_on(self, message: "int | str | Json | Shown") -> list[str]:
        """The bot's reactions on a message, now."""
        return self.reactions.get(_id_of(message), [])

    def _transcript(self) -> str:
        lines = [f"  {shown.id}: {shown.words!r}" for shown in self._screen.values()]
        return "on screen:" + "".join(f"\n{line}" for line in lines) if lines else "nothing on screen"

    # -- what people do

    async def say(
        self,
        text: str = "",
        *,
        by: Person | None = None,
        reply_to: "int | str | Json | Shown | None" = None,
        files: Iterable[Upload] = (),
        ping: bool = True,
        **fields: Any,
    ) -> Json:
        """Says something; mentions in the text are found, a reply pings who is replied to unless `ping` is false."""
        author = self._person(by)
        if reply_to is not None:
            fields = self._reply(_id_of(reply_to), ping) | fields
        attachments = [self._server.files.add(self.id, file) for file in files]
        return self.post(author.card, text, {"attachments": attachments} | fields)

    async def voice(self, data: bytes, *, seconds: float = 1.0, by: Person | None = None) -> Json:
        """A voice message: one file, no text."""
        waveform = base64.b64encode(bytes(range(0, 256, 16))).decode()
        attachment = self._server.files.add(
            self.id, Upload("voice-message.ogg", data), duration_secs=seconds, waveform=waveform
        )
        voice = {"attachments": [attachment | {"content_type": "audio/ogg"}], "flags": VOICE}
        return self.post(self._person(by).card, "", voice)

    async def sticker(self, name: str, *, by: Person | None = None) -> Json:
        item = {"id": str(self._server.new_id()), "name": name, "format_type": 1}
        return self.post(self._person(by).card, "", {"sticker_items": [item]})

    async def forward(self, message: Json, *, by: Person | None = None) -> Json:
        """Forwards a message of this or another place here: no content of its own, a snapshot of that one."""
        original = self._server.message(int(message["channel_id"]), int(message["id"]))
        names = ("type", "content", "embeds", "attachments", "timestamp", "edited_timestamp", "flags", "mentions")
        snapshot = {name: original[name] for name in (*names, "mention_roles", "components")}
        reference = {"type": 1, "message_id": message["id"], "channel_id": message["channel_id"]}
        fields = {"message_reference": reference, "message_snapshots": [{"message": snapshot}], "flags": 1 << 14}
        return self.post(self._person(by).card, "", fields)

    async def webhook(self, name: str, text: str, *, webhook_id: int = 5150, application: int | None = None) -> Json:
        """A message of a webhook, which may be of an application: its author is nobody's account, and no member."""
        author = Person(webhook_id, name, bot=True).card | {"discriminator": "0000", "username": name}
        owned = {} if application is None else {"application_id": str(application)}
        return self.post(author, text, {"webhook_id": str(webhook_id)} | owned)

    async def join(self, person: Person) -> Json:
        """Somebody joins the guild: a system message."""
        self.people.append(person)
        self._server.knows(person, self.guild)
        if self.guild:
            member = self.guild.member(person.id) | {"user": person.card, "guild_id": str(self.guild.id)}
            self._server.gateway.dispatch("GUILD_MEMBER_ADD", member, self)
        return self.post(person.card, "", {"type": JOINED})

    async def pin(self, message: "int | str | Json | Shown", *, by: Person | None = None) -> Json:
        """Pins a message, which changes it without an edit, and says so in a system message."""
        pinned = self.log[_id_of(message)]
        pinned["pinned"] = True
        self.tell("MESSAGE_UPDATE", pinned)
        update = {"channel_id": str(self.id), "last_pin_timestamp": _now()}
        self._server.gateway.dispatch("CHANNEL_PINS_UPDATE", update | self._guild_id(), self)
        reference = {"type": 0, "message_id": pinned["id"], "channel_id": str(self.id)} | self._guild_id()
        return self.post(self._person(by).card, "", {"type": PINNED, "message_reference": reference})

    async def edit(self, message: "int | str | Json | Shown", text: str) -> Json:
        """A person edits their message."""
        edited = self.log[_id_of(message)]
        edited |= {"content": text, "edited_timestamp": _now()} | self._mentions(text)
        return self.tell("MESSAGE_UPDATE", edited)

    async def unfurl(self, message: "int | str | Json | Shown", embed: Json | None = None) -> Json:
        """Discord adds a link's preview: an update of the same text, with no edit time."""
        changed = self.log[_id_of(message)]
        changed["embeds"] = [embed or {"type": "link", "title": "A page", "url": "https://example.org/"}]
        return self.tell("MESSAGE_UPDATE", changed)

    async def delete(self, message: "int | str | Json | Shown") -> None:
        """A person deletes a message, theirs or the bot's."""
        self.erase(_id_of(message))

    async def delete_bulk(self, messages: "Iterable[int | str | Json | Shown]") -> None:
        """A moderator deletes several at once: one event."""
        ids = [_id_of(message) for message in messages]
        for message_id in ids:
            self._forget(message_id)
        told = {"ids": [str(message_id) for message_id in ids], "channel_id": str(self.id)} | self._guild_id()
        self._server.gateway.dispatch("MESSAGE_DELETE_BULK", told, self)
        self.ring()

    async def react(self, message: "int | str | Json | Shown", emoji: str, *, by: Person | None = None) -> None:
        self.reaction(_id_of(message), emoji, self._person(by).card, add=True)

    async def unreact(self, message: "int | str | Json | Shown", emoji: str, *, by: Person | None = None) -> None:
        self.reaction(_id_of(message), emoji, self._person(by).card, add=False)

    async def type(self, *, by: Person | None = None) -> None:
        """A person types."""
        person = self._person(by)
        started = {"channel_id": str(self.id), "user_id": str(person.id), "timestamp": int(time.time())}
        self._server.gateway.dispatch("TYPING_START", started | self._as_member(person.card), self)

    async def press(
        self,
        message: "int | str | Json | Shown",
        custom_id: str,
        *,
        by: Person | None = None,
        stale: bool = False,
    ) -> "Interaction":
        """Presses a button, which must be there and enabled, unless `stale`: on a screen that has not caught up."""
        message_id = _id_of(message)
        shown = self._screen.get(message_id)
        buttons = shown.buttons if shown else []
        if not stale and not any(button.custom_id == custom_id and not button.disabled for button in buttons):
            raise LookupError(f"message {message_id} has no button {custom_id!r}; {self._transcript()}")
        data = {"custom_id": custom_id, "component_type": 2, "id": 1}
        target = self.log.get(message_id) or self._server.private.get(message_id)
        target = target or self.compose(self._server.me, "", {"id": str(message_id)})
        return self._interact(3, data, by, target)

    async def command(
        self, name: str, *, by: Person | None = None, stale: bool = False, **options: str | int | bool
    ) -> "Interaction":
        """Uses a slash command, which must have been registered, unless `stale`: from a list that has not caught up."""
        known = [*self._server.commands, *(self.guild.commands if self.guild else [])]
        found = next((command for command in known if command["name"] == name), None)
        if found is None and not stale:
            raise LookupError(f"no command {name!r} is registered, only {[command['name'] for command in known]}")
        data: Json = {"id": found["id"] if found else str(self._server.new_id()), "name": name, "type": 1}
        if options:
            data["options"] = [
                {"name": key, "type": _OPTION_TYPES[type(value)], "value": value} for key, value in options.items()
            ]
        return self._interact(2, data, by, None)

    async def repeat(self, message: "int | str | Json") -> None:
        """Delivers a message again, as a gateway may do."""
        self.tell("MESSAGE_CREATE", self.log[_id_of(message)])

    async def thread(
        self,
        name: str,
        *,
        from_message: "int | str | Json | Shown | None" = None,
        by: Person | None = None,
        text: str = "",
        archived: bool = False,
    ) -> "Place":
        """Opens a thread; one made from a message has that message's id. The client is not told of an `archived` one.

        In a forum the first message says `text`, and has the id of the thread.
        """
        starter = None if from_message is None else _id_of(from_message)
        thread = self.open_thread(name, self._person(by).card, starter, archived=archived)
        if self.kind == FORUM:
            await thread.say(text or name, by=by, id=str(thread.id))
        return thread

    # -- what the place does

    def block(self) -> None:
        """The bot may not write here: 50013, in a direct channel 50007."""
        self.refusal = Refused(403, 50007 if self.kind == DIRECT else 50013)

    def unblock(self) -> None:
        self.refusal = None
        self.hidden = False

    def hide(self) -> None:
        """The bot may not see this place any more: 50001 for everything."""
        self.hidden = True

    async def archive(self) -> None:
        """The thread is archived."""
        self.archived = True
        self._server.gateway.dispatch("THREAD_UPDATE", self.card, self)

    async def remove(self) -> None:
        """The channel or thread is deleted with all that is in it; for the bot it is unknown (10003) from now on."""
        for place in [*(self.guild.threads if self.guild else []), self]:
            if place is self or place.parent is self:
                self._server.places.pop(place.id, None)
        if self.guild:
            siblings = self.guild.threads if self.parent else self.guild.channels
            siblings.remove(self)
        self._server.gateway.dispatch("THREAD_DELETE" if self.parent else "CHANNEL_DELETE", self.card, self)

    # -- the server's side

    @property
    def card(self) -> Json:
        """The channel as the REST API and events give it."""
        last = str(max(self.log)) if self.log else None
        card: Json = {"id": str(self.id), "type": self.kind, "last_message_id": last, "flags": 0}
        if self.guild is None:
            return card | {"recipients": [person.card for person in self.people]}
        card |= {"guild_id": str(self.guild.id), "name": self.name, "rate_limit_per_user": 0}
        if self.parent is None:
            position = self.guild.channels.index(self) if self in self.guild.channels else 0
            fields = {"position": position, "topic": self.topic, "nsfw": False, "parent_id": None}
            forum = {"available_tags": [], "default_auto_archive_duration": 1440} if self.kind == FORUM else {}
            return card | fields | forum | {"permission_overwrites": self.overwrites}
        return card | self._thread_card(self.parent)

    def _thread_card(self, parent: "Place") -> Json:
        metadata = {"archived": self.archived, "auto_archive_duration": 1440, "archive_timestamp": _now()}
        return {
            "parent_id": str(parent.id),
            "owner_id": str(self.owner_id),
            "message_count": len(self.log),
            "total_message_sent": len(self.log),
            "member_count": len(self.people),
            "thread_metadata": metadata | {"locked": False, "create_timestamp": _now()},
        }

    def post(self, author: Json, text: str, fields: Json) -> Json:
        """A message comes to stand here: it is logged and told."""
        message = self.compose(author, text, fields)
        self.log[int(message["id"])] = message
        view = self.tell("MESSAGE_CREATE", message)
        if self.archived:
            self.archived = False
            self._server.gateway.dispatch("THREAD_UPDATE", self.card, self)
        return view

    def compose(self, author: Json, text: str, fields: Json) -> Json:
        message: Json = {
            "id": str(self._server.new_id()),
            "type": 0,
            "channel_id": str(self.id),
            "author": author,
            "content": text,
            "timestamp": _now(),
            "edited_timestamp": None,
            "tts": False,
            "pinned": False,
            "flags": 0,
            "attachments": [],
            "embeds": [],
            "components": [],
        }
        pinged = fields.get("mentions", [])
        found = self._mentions(text)
        found["mentions"] = found["mentions"] + [user for user in pinged if user not in found["mentions"]]
        return message | fields | found

    def _mentions(self, text: str) -> Json:
        ids = dict.fromkeys(int(number) for number in re.findall(r"<@!?(\d+)>", text))
        roles = self.guild.roles if self.guild else {}
        return {
            "mentions": [card for number in ids if (card := self._server.user(number))],
            "mention_roles": [number for number in re.findall(r"<@&(\d+)>", text) if int(number) in roles],
            "mention_everyone": bool(self.guild and re.search(r"@(everyone|here)\b", text)),
        }

    def _reply(self, message_id: int, ping: bool) -> Json:
        fields: Json = {"type": REPLY, "message_reference": self.reference(message_id)}
        if ping and message_id in self.log:
            fields["mentions"] = [self.log[message_id]["author"]]
        return fields

    def reference(self, message_id: int) -> Json:
        return {"type": 0, "message_id": str(message_id), "channel_id": str(self.id)} | self._guild_id()

    def _guild_id(self) -> Json:
        return {"guild_id": str(self.guild.id)} if self.guild else {}

    def _as_member(self, author: Json) -> Json:
        """The fields of an event that say in which guild it was, and as what."""
        if self.guild is None:
            return {}
        return {"guild_id": str(self.guild.id), "member": self.guild.member(int(author["id"])) | {"user": author}}

    def view(self, message: Json) -> Json:
        """A message as the REST API gives it: with fresh links, reactions and what it refers to."""
        view = self._server.with_links(message)
        if reactions := self._reaction_counts(int(message["id"])):
            view["reactions"] = reactions
        reference = message.get("message_reference")
        if reference and reference.get("type", 0) == 0 and message["type"] in (REPLY, THREAD_STARTER):
            place = self._server.places.get(int(reference["channel_id"]))
            found = place.log.get(int(reference["message_id"])) if place else None
            view["referenced_message"] = self._server.with_links(found) if found else None
        return view

    def tell(self, event: str, message: Json) -> Json:
        """Tells of a message; returns it as the REST API gives it."""
        view = self.view(message)
        extra = self._guild_id()
        if self.guild and "webhook_id" not in message:
            extra["member"] = self.guild.member(int(message["author"]["id"]))
        self._server.gateway.dispatch(event, view | extra, self)
        self.ring()
        return view

    def open_thread(self, name: str, owner: Json, starter: int | None, *, archived: bool = False) -> "Place":
        if self.guild is None:
            raise Refused(400, 50024)
        if starter is not None and starter in self._server.places:
            raise Refused(400, 160004)
        thread = Place(
            self._server,
            starter or self._server.new_id(),
            THREAD,
            self.people,
            name=name,
            guild=self.guild,
            parent=self,
            owner_id=int(owner["id"]),
        )
        self._server.places[thread.id] = thread
        self.guild.threads.append(thread)
        if not archived:
            joined = {"member": {"join_timestamp": _now(), "flags": 0}} if owner is self._server.me else {}
            self._server.gateway.dispatch("THREAD_CREATE", thread.card | {"newly_created": True} | joined, self)
        self._announce(thread, owner, starter)
        thread.archived = archived
        return thread

    def _announce(self, thread: "Place", owner: Json, starter: int | None) -> None:
        if starter is None:
            if self.kind != FORUM:
                reference = {"type": 0, "channel_id": str(thread.id)} | self._guild_id()
                self.post(owner, thread.name, {"type": THREAD_CREATED, "message_reference": reference})
            return
        original = self.log[starter]
        original |= {"flags": original["flags"] | HAS_THREAD, "thread": thread.card}
        self.tell("MESSAGE_UPDATE", original)
        first = {"type": THREAD_STARTER, "message_reference": self.reference(starter)}
        thread.post(owner, "", first)

    def _interact(self, kind: int, data: Json, by: Person | None, message: Json | None) -> "Interaction":
        person = self._person(by)
        interaction = Interaction(self._server, self, self._server.new_id(), kind, person, data, message)
        self._server.interactions[interaction.token] = interaction
        payload: Json = {
            "id": str(interaction.id),
            "application_id": self._server.me["id"],
            "type": kind,
            "token": interaction.token,
            "version": 1,
            "data": data,
            "channel_id": str(self.id),
            "channel": self.card | {"permissions": _EVERYTHING},
            "attachment_size_limit": FILE_LIMIT,
            "app_permissions": _EVERYTHING,
            "locale": "en-US",
            "entitlements": [],
            "authorizing_integration_owners": {"0": str(self.guild.id) if self.guild else "0"},
            "context": 0 if self.guild else 1,
        }
        if self.without_bot:
            payload |= {"authorizing_integration_owners": {"1": str(person.id)}}
            payload |= {} if self.guild else {"context": 2}
        if self.guild:
            member = self.guild.member(person.id) | {"user": person.card, "permissions": _EVERYTHING}
            payload |= {"guild_id": str(self.guild.id), "member": member, "guild_locale": "en-US"}
            payload["guild"] = {"id": str(self.guild.id), "locale": "en-US", "features": []}
        else:
            payload["user"] = person.card
        if message:
            payload["message"] = self.view(message)
        self._server.gateway.dispatch("INTERACTION_CREATE", payload, self)
        return interaction

    def show(self, shown: Shown) -> None:
        """Puts a message of the bot's on screen."""
        self._screen[shown.id] = shown

    def shown(self, message_id: int) -> Shown | None:
        return self._screen.get(message_id)

    def reaction(self, message_id: int, emoji: str, user: Json, *, add: bool) -> None:
        if message_id not in self.log:
            raise Refused(404, 10008)
        people = self._others.setdefault(message_id, {}).setdefault(emoji, set())
        user_id = int(user["id"])
        if (user_id in people) is add:
            return
        (people.add if add else people.discard)(user_id)
        name, _, number = emoji.partition(":")
        told: Json = {
            "user_id": str(user_id),
            "channel_id": str(self.id),
            "message_id": str(message_id),
            "message_author_id": self.log[message_id]["author"]["id"],
            "emoji": {"id": number or None, "name": name},
            "burst": False,
            "type": 0,
        }
        told |= self._as_member(user) if add else self._guild_id()
        self._server.gateway.dispatch("MESSAGE_REACTION_ADD" if add else "MESSAGE_REACTION_REMOVE", told, self)
        self.ring()

    def _reaction_counts(self, message_id: int) -> list[Json]:
        me = int(self._server.me["id"])
        counts = []
        for emoji, people in self._others.get(message_id, {}).items():
            name, _, number = emoji.partition(":")
            card = {"id": number or None, "name": name}
            if people:
                details = {"burst": 0, "normal": len(people)}
                counts.append({"emoji": card, "count": len(people), "me": me in people, "count_details": details})
        return [count | {"me_burst": False, "burst_colors": []} for count in counts]

    def erase(self, message_id: int) -> None:
        ephemeral = (shown := self._screen.get(message_id)) is not None and shown.ephemeral
        self._forget(message_id)
        if not ephemeral:
            told = {"id": str(message_id), "channel_id": str(self.id)} | self._guild_id()
            self._server.gateway.dispatch("MESSAGE_DELETE", told, self)
        self.ring()

    def _forget(self, message_id: int) -> None:
        self.log.pop(message_id, None)
        self.reactions.pop(message_id, None)
        self._others.pop(message_id, None)
        if shown := self._screen.pop(message_id, None):
            self.deleted.append(shown)

    def _person(self, by: Person | None) -> Person:
        person = by or self.people[0]
        self._server.knows(person, self.guild)
        return person

    def ring(self) -> None:
        self.bell.ring()
        self._server.bell.ring()


_OPTION_TYPES = {str: 3, int: 4, bool: 5}


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


# --------------------------------------------------------------------------------------------------------- interactions


class Interaction:
    """A button pressed or a command used, and what the bot answered."""

    def __init__(
        self,
        server: "Discord",
        place: Place,
        interaction_id: int,
        kind: int,
        person: Person,
        data: Json,
        message: Json | None,
    ) -> None:
        self.id, self.kind, self.person, self.data = interaction_id, kind, person, data
        self.place, self.message = place, message
        self.token = f"aW50ZXJhY3Rpb24-{interaction_id}"
        self.answer: int | None = None  # the type of the first answer: 4 message, 5 and 6 deferred, 7 update, 9 modal
        self.original: int | None = None  # id of the message that @original is
        self.followups: list[int] = []
        self.expired = False
        self._server = server
        self._since = time.monotonic()

    @property
    def shown(self) -> Shown | None:
        """What @original shows now."""
        return self.place.shown(self.original) if self.original else None

    def expire(self) -> None:
        """The token dies: unanswered it is unknown (10062), answered it takes no more (50027)."""
        self.expired = True

    def until_answered(self, timeout: float = 60) -> Coroutine[Any, Any, int]:
        """Waits for the first answer, returns its type."""
        return self._server.until(lambda _: self.answer, timeout)

    def accept(self, answer: int) -> None:
        late = time.monotonic() - self._since > self._server.interaction_seconds
        if self.answer is not None:
            raise Refused(400, 40060)
        if self.expired or late:
            raise Refused(404, 10062)
        self.answer = answer


# --------------------------------------------------------------------------------------------------------------- faults


def _route(pattern: str) -> re.Pattern[str]:
    """A pattern like "POST /channels/*/messages" ("*": a part of the path), "PATCH **" (the rest) or "*" (any)."""
    if pattern in ("*", "**"):
        return re.compile(".*")
    parts = {"**": ".*", "*": "[^/]+"}
    return re.compile("".join(parts.get(part) or re.escape(part) for part in re.split(r"(\*\*|\*)", pattern)))


@dataclass(slots=True)
class _Fault:
    route: re.Pattern[str]
    place: Place | None
    error: Refused | None  # None: performed, and the answer lost
    left: int
    only_files: bool = False

    def hits(self, call: Call) -> bool:
        here = self.place is None or call.path.startswith(f"/channels/{self.place.id}/")
        meant = here and (call.files or not self.only_files)
        return self.left > 0 and bool(meant) and self.route.fullmatch(call.route) is not None


class Hold:
    """Calls of one route that wait at the door (or, `after`, with their work done and the answer kept back)."""

    def __init__(self, server: "Discord", pattern: str, after: bool) -> None:
        self.route, self.after = _route(pattern), after
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

    def __init__(self, ended: Callable[["Outage"], None], seconds: float | None) -> None:
        self._ended = ended
        self._timer = asyncio.get_running_loop().call_later(seconds, self.release) if seconds is not None else None

    def release(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._ended(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(slots=True)
class _Window:
    """A bucket's budget, which is whole again at `until`."""

    left: int
    until: float


class _Limit:
    """One bucket per channel (or one for all): so many calls within so many seconds, as the headers tell."""

    def __init__(
        self, pattern: str, count: int, seconds: float, *, enforced: bool = True, everywhere: bool = False
    ) -> None:
        self.route, self.count, self.seconds = _route(pattern), count, seconds
        self.enforced, self.everywhere = enforced, everywhere
        self._name = hashlib.sha256(pattern.encode()).hexdigest()[:16]
        self._windows: dict[str, _Window] = {}

    def take(self, call: Call) -> dict[str, str]:
        """Pays for a call and returns the headers; raises Refused when nothing is left."""
        now = time.monotonic()
        major = "" if self.everywhere else "/".join(call.path.split("/")[:3])
        window = self._windows.get(major)
        if window is None or window.until <= now:
            window = self._windows[major] = _Window(self.count, now + self.seconds)
        window.left -= 1
        if window.left < 0 and self.enforced:
            scope = "global" if self.everywhere else "user"
            raise Refused(429, retry_after=round(window.until - now, 3), scope=scope)
        after = window.until - now
        return {
            "X-RateLimit-Limit": str(self.count),
            "X-RateLimit-Remaining": str(max(0, window.left)),
            "X-RateLimit-Reset": f"{time.time() + after:.3f}",
            "X-RateLimit-Reset-After": f"{after:.3f}",
            "X-RateLimit-Bucket": self._name,
        }


_USUAL_LIMITS = (  # as bots see them in the headers; Discord promises none of these figures
    ("POST /channels/*/messages", 5, 5.0),
    ("PATCH /channels/*/messages/*", 5, 5.0),
    ("DELETE /channels/*/messages/*", 5, 1.0),
    ("PUT /channels/*/messages/*/reactions/**", 1, 0.25),
    ("DELETE /channels/*/messages/*/reactions/**", 1, 0.25),
    ("POST /channels/*/typing", 5, 5.0),
)


# -------------------------------------------------------------------------------------------------------------- gateway


class _Zlib:
    """zlib-stream: one context for the connection, each message ended by a sync flush."""

    def __init__(self) -> None:
        self._context = zlib.compressobj()

    def pack(self, text: str) -> bytes:
        return self._context.compress(text.encode()) + self._context.flush(zlib.Z_SYNC_FLUSH)


class _Zstd:
    """zstd-stream: one endless frame of blocks that are stored as they are, which every decoder takes.

    https://datatracker.ietf.org/doc/html/rfc8878#section-3.1.1
    """

    BLOCK = 64 * 1024

    def __init__(self) -> None:
        # Magic number, a descriptor with no flags, and a window of 1 MiB.
        self._head = b"\x28\xb5\x2f\xfd\x00" + bytes([(20 - 10) << 3])

    def pack(self, text: str) -> bytes:
        data = text.encode()
        blocks = [data[start : start + self.BLOCK] for start in range(0, len(data), self.BLOCK)]
        head, self._head = self._head, b""
        return head + b"".join((len(block) << 3).to_bytes(3, "little") + block for block in blocks)


class _Plain:
    """No compression: frames of text."""

    def pack(self, text: str) -> str:
        return text


_CODECS: dict[str, type[_Plain | _Zlib | _Zstd]] = {"": _Plain, "zlib-stream": _Zlib, "zstd-stream": _Zstd}


class _Close(NamedTuple):
    code: int


class _Connection:
    """One websocket: what is to be sent waits in order, and one writer sends it."""

    def __init__(self, request: web.BaseRequest, ws: web.WebSocketResponse, compression: str) -> None:
        self.session: _Session | None = None
        self.closing = False  # by the server, so that the session lives on
        self._request, self._ws = request, ws
        self._codec = _CODECS[compression]()
        self._queue: asyncio.Queue[str | _Close] = asyncio.Queue()
        self._received: deque[float] = deque(maxlen=SENT_PER_MINUTE)

    def is_flooded(self) -> bool:
        """Counts one more payload of the client's; true when it is one too many within a minute."""
        now = time.monotonic()
        full = len(self._received) == SENT_PER_MINUTE and now - self._received[0] < 60
        self._received.append(now)
        return full

    def send(self, op: int, data: Any = None) -> None:
        self.send_text(json.dumps({"op": op, "d": data, "s": None, "t": None}))

    def send_text(self, text: str) -> None:
        self._queue.put_nowait(text)

    def close(self, code: int) -> None:
        self.closing = True
        self._queue.put_nowait(_Close(code))

    def drop(self) -> None:
        self.closing = True
        if self._request.transport:
            self._request.transport.abort()

    async def write(self) -> None:
        with suppress(ConnectionError):  # the reader sees the end as well, and acts on it
            while not isinstance(item := await self._queue.get(), _Close):
                packed = self._codec.pack(item)
                await (self._ws.send_str(packed) if isinstance(packed, str) else self._ws.send_bytes(packed))
            await self._ws.close(code=item.code)


@dataclass(slots=True)
class _Session:
    id: str
    intents: int
    events: list[tuple[int, str]] = field(default_factory=list)
    connection: _Connection | None = None
    shard: tuple[int, int] = (0, 1)

    def gets(self, guild_id: int | None) -> bool:
        """https://discord.com/developers/docs/events/gateway#sharding-formula; None: of a direct channel."""
        number, count = self.shard
        return ((guild_id or 0) >> 22) % count == number

    @property
    def sequence(self) -> int:
        return len(self.events)

    def emit(self, event: str, data: Any) -> None:
        sequence = len(self.events) + 1
        text = json.dumps({"op": 0, "s": sequence, "t": event, "d": data})
        self.events.append((sequence, text))
        if self.connection:
            self.connection.send_text(text)


_EVENT_INTENTS = {  # in a guild, in a direct channel; 0: never there; not named: always
    "MESSAGE_CREATE": (GUILD_MESSAGES, DIRECT_MESSAGES),
    "MESSAGE_UPDATE": (GUILD_MESSAGES, DIRECT_MESSAGES),
    "MESSAGE_DELETE": (GUILD_MESSAGES, DIRECT_MESSAGES),
    "MESSAGE_DELETE_BULK": (GUILD_MESSAGES, 0),
    "MESSAGE_REACTION_ADD": (GUILD_REACTIONS, DIRECT_REACTIONS),
    "MESSAGE_REACTION_REMOVE": (GUILD_REACTIONS, DIRECT_REACTIONS),
    "TYPING_START": (GUILD_TYPING, DIRECT_TYPING),
    "CHANNEL_PINS_UPDATE": (GUILDS, DIRECT_MESSAGES),
    "CHANNEL_CREATE": (GUILDS, 0),
    "THREAD_CREATE": (GUILDS, 0),
    "THREAD_UPDATE": (GUILDS, 0),
    "THREAD_DELETE": (GUILDS, 0),
    "CHANNEL_DELETE": (GUILDS, 0),
    "GUILD_MEMBER_ADD": (GUILD_MEMBERS, 0),
}


class Gateway:
    """The websocket side: sessions with their events, and what can go wrong with them.

    A session outlives its connection until the client closes with 1000 or 1001, `invalidate()` or `forget()`.
    """

    def __init__(self, server: "Discord") -> None:
        self.identifies: list[Json] = []  # what each IDENTIFY asked for, the token apart
        self.resumes: list[Json] = []
        self.heartbeats = 0
        self.acking = True  # false: heartbeats get no answer
        self.close_codes: list[int] = []  # with which clients closed
        self.outage: Outage | None = None
        self.connections: list[_Connection] = []
        self.sessions: dict[str, _Session] = {}
        self.early: list[Json] = []  # of the identifies those that came before their bucket's time
        self._server = server
        self._identify_code: int | None = None
        self._identified: dict[int, float] = {}  # when somebody last did so, by bucket

    # -- what a test sees and does

    @property
    def connected(self) -> bool:
        """A client is there, with a session."""
        return bool(self.connected_shards)

    @property
    def connected_shards(self) -> list[tuple[int, int]]:
        """Number and count of each shard with which a client is there, sorted."""
        there = (each.session for each in self.connections if each.session and not each.closing)
        return sorted(session.shard for session in there)

    def reconnect(self) -> None:
        """Op 7: the client is asked to come again and resume."""
        self._send_all(7)

    def invalidate(self, *, resumable: bool = False) -> None:
        """Op 9; sessions that are not resumable are gone, with all that happened meanwhile."""
        if not resumable:
            self.sessions.clear()
        self._send_all(9, resumable)

    def forget(self) -> None:
        """Sessions have run out without a word: the next RESUME is answered by op 9 with d false."""
        self.sessions.clear()

    def close(self, code: int = 4000) -> None:
        """Closes every connection with this code; the sessions live on."""
        for connection in tuple(self.connections):
            connection.close(code)

    def drop(self) -> None:
        """Cuts every connection, without a close frame; the sessions live on."""
        for connection in tuple(self.connections):
            connection.drop()

    def refuse(self, seconds: float | None = None) -> Outage:
        """Cuts every connection and lets nobody in, for so long or until released; the REST API lives."""
        if self.outage:
            self.outage.release()
        self.outage = Outage(self._end_outage, seconds)
        self.drop()
        return self.outage

    def refuse_identify(self, code: int) -> None:
        """The next IDENTIFY is answered by closing with this code: 4004, 4014, …"""
        self._identify_code = code

    def heartbeat(self) -> None:
        """Op 1: asks the client for a heartbeat at once."""
        self._send_all(1)

    def push_raw(self, event: str, data: Any) -> None:
        """An event exactly as given, malformed or not, to every session."""
        for session in self.sessions.values():
            session.emit(event, data)

    def dispatch(self, event: str, data: Json, place: Place | None = None) -> None:
        """An event to every session that asked for its kind, whether its client is there or will resume."""
        in_guild, in_direct = _EVENT_INTENTS.get(event, (None, None)) if place else (GUILDS, GUILDS)
        wanted = in_guild if place is None or place.guild else in_direct
        guild_id = int(data.get("guild_id") or data["id"]) if place is None else place.guild and place.guild.id
        for session in self.sessions.values():
            if not session.gets(guild_id):
                continue
            if wanted is not None and not session.intents & wanted:
                continue
            readable = data
            if event in ("MESSAGE_CREATE", "MESSAGE_UPDATE") and place and place.guild:
                readable = self._server.readable(data, session.intents)
            session.emit(event, readable)

    # -- the protocol

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.outage:
            raise _NoAnswer
        ws = web.WebSocketResponse(max_msg_size=1024 * 1024)
        await ws.prepare(request)
        connection = _Connection(request, ws, request.query.get("compress", ""))
        if (request.query.get("v"), request.query.get("encoding")) != ("10", "json"):
            connection.close(4012)
        self.connections.append(connection)
        connection.send(10, {"heartbeat_interval": self._server.heartbeat_ms, "_trace": []})
        writer = asyncio.get_running_loop().create_task(connection.write())
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    self._receive(connection, message.data)
        finally:
            self._leave(connection, ws.close_code)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return ws

    def _leave(self, connection: _Connection, code: int | None) -> None:
        self.connections.remove(connection)
        session = connection.session
        if session and session.connection is connection:
            session.connection = None
        if not connection.closing and code is not None:
            self.close_codes.append(code)
            if session and code in (1000, 1001):
                self.sessions.pop(session.id, None)
        self._server.bell.ring()

    def _receive(self, connection: _Connection, text: str) -> None:
        try:
            payload = json.loads(text)
            op, data = payload["op"], payload.get("d")
        except (ValueError, KeyError, TypeError):
            return connection.close(4002)
        if len(text.encode()) > 4096:
            return connection.close(4002)
        if op != 1 and connection.is_flooded():
            return connection.close(4008)
        match op:
            case 1:
                self.heartbeats += 1
                if self.acking:
                    connection.send(11)
            case 2 if connection.session:
                connection.close(4005)
            case 2:
                self._identify(connection, data)
            case 6:
                self._resume(connection, data)
            case _ if not connection.session:
                connection.close(4003)
            case 8:
                self._request_members(connection.session, data)
            case 3 | 4:
                pass
            case _:
                connection.close(4001)
        self._server.bell.ring()
        return None

    def _identify(self, connection: _Connection, data: Json) -> None:
        self.identifies.append({key: value for key, value in data.items() if key != "token"})
        code, self._identify_code = self._identify_code, None
        if code:
            return connection.close(code)
        if data.get("token") != self._server.token:
            return connection.close(4004)
        if data["intents"] & PRIVILEGED & ~self._server.allowed_intents:
            return connection.close(4014)
        number, count = shard = tuple(data.get("shard", (0, 1)))
        if not 0 <= number < count:
            return connection.close(4010)
        if count < self._server.least_shards:
            return connection.close(4011)
        if not self._may_identify(number) or self._server.starts_left <= 0:
            self.early.append(self.identifies[-1])
            return connection.send(9, False)
        self._server.starts_left -= 1
        session = _Session(f"session-{len(self.identifies)}", data["intents"], connection=connection, shard=shard)
        connection.session = self.sessions[session.id] = session
        guilds = [
            guild for guild in self._server.guilds.values() if session.intents & GUILDS and session.gets(guild.id)
        ]
        session.emit(
            "READY",
            {
                "v": 10,
                "user": self._server.me | {"verified": True, "mfa_enabled": True},
                "session_id": session.id,
                "session_type": "normal",
                "shard": list(shard),
                "resume_gateway_url": f"{self._server.gateway_url}/resume",
                "guilds": [{"id": str(guild.id), "unavailable": True} for guild in guilds],
                "private_channels": [],
                "application": {
                    "id": self._server.me["id"],
                    "flags": _application_flags(self._server.allowed_intents),
                },
                "_trace": [],
            },
        )
        for guild in guilds:
            session.emit("GUILD_CREATE", guild.arrival(session.intents))
        return None

    def _may_identify(self, number: int) -> bool:
        """One in each bucket within the interval.

        https://discord.com/developers/docs/events/gateway#sharding-max-concurrency
        """
        bucket, now = number % self._server.max_concurrency, time.monotonic()
        since = self._identified.get(bucket)
        if since is not None and now - since < self._server.identify_seconds:
            return False
        self._identified[bucket] = now
        return True

    def _resume(self, connection: _Connection, data: Json) -> None:
        self.resumes.append({key: value for key, value in data.items() if key != "token"})
        if data.get("token") != self._server.token:
            return connection.close(4004)
        session = self.sessions.get(data["session_id"])
        if session is None or not isinstance(data["seq"], int) or data["seq"] > session.sequence:
            return connection.send(9, False)
        if session.shard[1] < self._server.least_shards:
            return connection.close(4011)
        if session.connection:  # its old connection is not known to be dead yet
            session.connection.close(4000)
        connection.session, session.connection = session, connection
        for _, text in session.events[data["seq"] :]:
            connection.send_text(text)
        session.emit("RESUMED", {"_trace": []})
        return None

    def _request_members(self, session: _Session, data: Json) -> None:
        guild = self._server.guilds.get(int(data["guild_id"]))
        if guild is None:
            return
        members, wanted = guild.members(), data.get("user_ids")
        if wanted is not None:
            ids = {str(number) for number in (wanted if isinstance(wanted, list) else [wanted])}
            members = [member for member in members if member["user"]["id"] in ids]
        chunk = {"guild_id": str(guild.id), "members": members, "chunk_index": 0, "chunk_count": 1, "not_found": []}
        session.emit("GUILD_MEMBERS_CHUNK", chunk | ({"nonce": data["nonce"]} if "nonce" in data else {}))

    def _send_all(self, op: int, data: Any = None) -> None:
        for connection in self.connections:
            connection.send(op, data)

    def _end_outage(self, outage: Outage) -> None:
        if self.outage is outage:
            self.outage = None
        self._server.bell.ring()


# --------------------------------------------------------------------------------------------------------- what is sent


@dataclass(frozen=True, slots=True)
class _Draft:
    """What a request wants to show, checked."""

    content: str
    embeds: list[Json]
    components: list[Json]
    attachments: list[Json]  # as kept, without links
    flags: int


def _checked_content(body: Json, flags: int) -> str:
    content = body.get("content") or ""
    if not isinstance(content, str):
        raise _invalid("content", "STRING_TYPE_CONVERT", "Could not interpret as string.")
    content = content.strip()
    if len(content) > CONTENT_LIMIT:
        raise _invalid("content", "BASE_TYPE_MAX_LENGTH", f"Must be {CONTENT_LIMIT} or fewer in length.")
    if flags & COMPONENTS_V2 and (content or body.get("embeds")):
        text = "The 'content' field cannot be used when using MessageFlags.IS_COMPONENTS_V2"
        raise _invalid("content", "MESSAGE_CANNOT_USE_LEGACY_FIELDS_WITH_COMPONENTS_V2", text)
    return content


def _checked_embeds(embeds: list[Json]) -> list[Json]:
    if len(embeds) > 10:
        raise _invalid("embeds", "BASE_TYPE_MAX_LENGTH", "Must be 10 or fewer in length.")
    texts = []
    for embed in embeds:
        fields = [field[key] for field in embed.get("fields", []) for key in ("name", "value")]
        rest = [(embed.get("footer") or {}).get("text"), (embed.get("author") or {}).get("name")]
        texts += [embed.get("title"), embed.get("description"), *fields, *rest]
        if len(embed.get("description") or "") > 4096:
            raise _invalid("embeds.0.description", "BASE_TYPE_MAX_LENGTH", "Must be 4096 or fewer in length.")
    if sum(len(text) for text in texts if text) > 6000:
        raise _invalid("embeds", "MAX_EMBED_SIZE_EXCEEDED", "Embed size exceeds maximum size of 6000")
    return [{"type": "rich"} | embed for embed in embeds]


def _checked_components(components: list[Json], flags: int) -> list[Json]:
    flat = _flat(components)
    if flags & COMPONENTS_V2:
        if len(flat) > 40:
            raise _invalid("components", "COMPONENT_MAX_TOTAL_COMPONENTS_EXCEEDED", "Must be 40 or fewer in total.")
        texts = [part.get("content") or "" for part in flat if part.get("type") == 10]
        if sum(map(len, texts)) > 4000:
            raise _invalid("components", "COMPONENT_DISPLAYABLE_TEXT_SIZE_EXCEEDED", "Must be 4000 or fewer.")
        if not all(text.strip() for text in texts):
            raise _invalid("components.content", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 4000 in length.")
    elif len(components) > 5:
        raise _invalid("components", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 5 in length.")
    seen: set[str] = set()
    for number, row in enumerate(components):
        if row.get("type") != 1 and not flags & COMPONENTS_V2:
            raise _invalid(f"components.{number}.type", "BASE_TYPE_CHOICES", "Value must be one of {1}.")
        if row.get("type") == 1 and not 1 <= len(row.get("components", [])) <= 5:
            raise _invalid(
                f"components.{number}.components", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 5 in length."
            )
    for part in flat:
        if part.get("type") == 2:
            _check_button(part, seen)
    return components


def _check_button(button: Json, seen: set[str]) -> None:
    custom_id, link = button.get("custom_id"), button.get("style") == 5
    if link:
        if not button.get("url"):
            raise _invalid("components.url", "BASE_TYPE_REQUIRED", "This field is required")
    elif not custom_id or len(custom_id) > 100:
        raise _invalid("components.custom_id", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 100 in length.")
    elif custom_id in seen:
        raise _invalid(
            "components.custom_id", "COMPONENT_CUSTOM_ID_DUPLICATED", "Component custom id cannot be duplicated"
        )
    else:
        seen.add(custom_id)
    if len(button.get("label") or "") > 80:
        raise _invalid("components.label", "BASE_TYPE_MAX_LENGTH", "Must be 80 or fewer in length.")
    if not button.get("label") and not button.get("emoji"):
        raise _invalid("components", "BUTTON_COMPONENT_MUST_HAVE_LABEL_OR_EMOJI", "A button needs a label or emoji.")


def _pings(content: str, allowed: Json | None, replied: str | None) -> frozenset[str]:
    """Whom a message notifies; https://docs.discord.com/developers/resources/message#allowed-mentions-object"""
    users, roles = re.findall(r"<@!?(\d+)>", content), re.findall(r"<@&(\d+)>", content)
    everyone = re.findall(r"@(everyone|here)\b", content)
    if allowed is None:
        return frozenset(users + roles + everyone + ([replied] if replied else []))
    parse, named = allowed.get("parse", []), {str(one) for key in ("users", "roles") for one in allowed.get(key, [])}
    pinged = [user for user in users if "users" in parse or user in named]
    pinged += [role for role in roles if "roles" in parse or role in named]
    pinged += everyone if "everyone" in parse else []
    return frozenset(pinged + ([replied] if replied and allowed.get("replied_user") else []))


# ----------------------------------------------------------------------------------------------------------------- REST


class _Rest:
    """What the bot may call: a method each, from a call and the parts of its path to the answer's JSON (None: 204)."""

    def __init__(self, server: "Discord") -> None:
        self.server = server

    # -- the bot itself, people, guilds

    def me(self, _: Call) -> Json:
        return self.server.me

    def application(self, _: Call) -> Json:
        return {
            "id": self.server.me["id"],
            "name": self.server.me["username"],
            "icon": None,
            "description": "",
            "bot_public": False,
            "bot_require_code_grant": False,
            "verify_key": "00",
            "owner": ANN.card,
            "flags": _application_flags(self.server.allowed_intents),
            "interactions_endpoint_url": None,
            "approximate_guild_count": len(self.server.guilds),
        }

    def gateway(self, _: Call) -> Json:
        return {"url": self.server.gateway_url}

    def gateway_bot(self, _: Call) -> Json:
        starts = {
            "total": 1000,
            "remaining": self.server.starts_left,
            "reset_after": self.server.starts_reset_ms,
            "max_concurrency": self.server.max_concurrency,
        }
        return {"url": self.server.gateway_url, "shards": self.server.shards, "session_start_limit": starts}

    def get_user(self, _: Call, user: str) -> Json:
        card = self.server.user(int(user))
        if card is None:
            raise Refused(404, 10013)
        return card

    def open_direct(self, call: Call) -> Json:
        person = self.server.people.get(int(call.body["recipient_id"]))
        if person is None:
            raise Refused(400, 50033)
        return self.server.direct(person).card

    def get_guilds(self, _: Call) -> list[Json]:
        return [guild.card() for guild in self.server.guilds.values()]

    def get_guild(self, _: Call, guild: str) -> Json:
        return self._guild(guild).card()

    def get_guild_channels(self, _: Call, guild: str) -> list[Json]:
        return [channel.card for channel in self._guild(guild).channels]

    def get_guild_roles(self, _: Call, guild: str) -> list[Json]:
        return list(self._guild(guild).card()["roles"])

    def search_members(self, call: Call, guild: str) -> list[Json]:
        """Members whose username or nickname begins so; needs no privileged intent."""
        wanted = call.query.get("query", "").lower()
        names = [(m, (m["user"]["username"], m.get("nick") or "")) for m in self._guild(guild).members()]
        found = [m for m, both in names if any(name.lower().startswith(wanted) for name in both)]
        return found[: int(call.query.get("limit", "1"))]

    def get_members(self, _: Call, guild: str) -> list[Json]:
        return self._guild(guild).members()

    def get_member(self, _: Call, guild: str, user: str) -> Json:
        for member in self._guild(guild).members():
            if member["user"]["id"] == (self.server.me["id"] if user == "@me" else user):
                return member
        raise Refused(404, 10007)

    def get_active_threads(self, _: Call, guild: str) -> Json:
        threads = [thread.card for thread in self._guild(guild).threads if not thread.archived]
        return {"threads": threads, "members": []}

    # -- channels

    def get_channel(self, _: Call, channel: str) -> Json:
        return self._place(channel).card

    def change_channel(self, call: Call, channel: str) -> Json:
        place = self._writable(channel)
        place.name = call.body.get("name", place.name)
        place.archived = call.body.get("archived", place.archived)
        self.server.gateway.dispatch("THREAD_UPDATE" if place.parent else "CHANNEL_UPDATE", place.card, place)
        return place.card

    def type(self, _: Call, channel: str) -> None:
        place = self._writable(channel)
        place.typing.append(time.monotonic())
        place.ring()

    def get_archived_threads(self, _: Call, channel: str) -> Json:
        place = self._place(channel)
        threads = [thread for thread in place.guild.threads if thread.parent is place] if place.guild else []
        archived = [thread.card for thread in threads if thread.archived]
        return {"threads": archived, "members": [], "has_more": False}

    def start_thread(self, call: Call, channel: str, message: str | None = None) -> Json:
        place = self._writable(channel)
        if message is not None:
            self._message(place, message)
        name = call.body.get("name") or ""
        if not 1 <= len(name) <= 100:
            raise _invalid("name", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 100 in length.")
        thread = place.open_thread(name, self.server.me, int(message) if message else None)
        answer = thread.card | {"member": {"join_timestamp": _now(), "flags": 0}}
        if place.kind == FORUM:
            first = call._replace(body=call.body.get("message") or {})
            self._post(thread, first, first.body, message_id=thread.id)
        return answer

    def get_thread_member(self, _: Call, channel: str, user: str) -> Json:
        """Those who are in the thread."""
        if user not in [str(person.id) for person in self.server.places[int(channel)].people]:
            raise Refused(404, 10013)
        return {"id": channel, "user_id": user, "join_timestamp": "2026-01-01T00:00:00+00:00", "flags": 0}

    def join_thread(self, _: Call, channel: str) -> None:
        self._place(channel)

    # -- messages

    def get_messages(self, call: Call, channel: str) -> list[Json]:
        place = self._place(channel)
        limit = int(call.query.get("limit", 50))
        if not 1 <= limit <= 100:
            raise _invalid("limit", "NUMBER_TYPE_MAX", "int value should be between 1 and 100.")
        ids = sorted(place.log)
        if after := call.query.get("after"):
            found = [number for number in ids if number > int(after)][:limit]
        elif around := call.query.get("around"):
            earlier = [number for number in ids if number < int(around)]
            later = [number for number in ids if number >= int(around)]
            found = [*earlier[max(0, len(earlier) - limit // 2) :], *later][:limit]
        else:
            before = int(call.query.get("before", 1 << 63))
            found = [number for number in ids if number < before][-limit:]
        return [self._seen(place, place.log[number]) for number in reversed(found)]

    def get_message(self, _: Call, channel: str, message: str) -> Json:
        place = self._place(channel)
        return self._seen(place, self._message(place, message))

    def post_message(self, call: Call, channel: str) -> Json:
        place = self._writable(channel)
        if place.kind == FORUM:
            raise Refused(400, 50024)
        body = call.body
        nonce = body.get("nonce")
        if nonce is not None and len(str(nonce)) > 25:
            raise _invalid("nonce", "NONCE_TYPE_TOO_LONG", "Nonce must be 25 or fewer in length.")
        if nonce is not None and body.get("enforce_nonce") and str(nonce) in place.nonces:
            return self._seen(place, self._message(place, str(place.nonces[str(nonce)])))
        return self._post(place, call, body)

    def change_message(self, call: Call, channel: str, message: str) -> Json:
        place = self._writable(channel)
        found = self._message(place, message)
        shown = place.shown(int(message))
        if shown is None or found["author"] != self.server.me:
            raise Refused(403, 50005)
        return self._change(place, found, shown, call)

    def delete_message(self, _: Call, channel: str, message: str) -> None:
        place = self._place(channel)
        found = self._message(place, message)
        if found["author"] != self.server.me:
            if place.kind == DIRECT:
                raise Refused(403, 50003)
            if place.refusal:
                raise place.refusal
        place.erase(int(message))

    def get_pins(self, _: Call, channel: str) -> Json:
        place = self._place(channel)
        pinned = [place.view(message) for message in place.log.values() if message["pinned"]]
        return {"items": [{"pinned_at": _now(), "message": message} for message in pinned], "has_more": False}

    def add_reaction(self, _: Call, channel: str, message: str, emoji: str) -> None:
        self._react(channel, message, emoji, add=True)

    def remove_reaction(self, _: Call, channel: str, message: str, emoji: str) -> None:
        self._react(channel, message, emoji, add=False)

    # -- commands

    def get_commands(self, _: Call, application: str, guild: str | None = None) -> list[Json]:
        return self._commands(application, guild)

    def put_commands(self, call: Call, application: str, guild: str | None = None) -> list[Json]:
        commands = self._commands(application, guild)
        if len(call.body) > 100:
            raise _invalid("_", "APPLICATION_COMMAND_TOO_MANY", "Maximum number of application commands reached (100).")
        for number, command in enumerate(call.body):
            _check_command(command, str(number))
        known = {command["name"]: command["id"] for command in commands}
        commands[:] = [
            {"type": 1, "options": [], "default_member_permissions": None, "nsfw": False}
            | command
            | {
                "id": known.get(command["name"]) or str(self.server.new_id()),
                "application_id": application,
                "version": str(self.server.new_id()),
            }
            for command in call.body
        ]
        return commands

    def _commands(self, application: str, guild: str | None) -> list[Json]:
        if application != self.server.me["id"]:
            raise Refused(403, 20012)
        return self.server.commands if guild is None else self._guild(guild).commands

    # -- interactions

    def answer_interaction(self, call: Call, interaction: str, token: str) -> Json | None:
        found = self.server.interactions.get(token)
        if found is None or str(found.id) != interaction:
            raise Refused(404, 10062)
        kind, data = call.body["type"], call.body.get("data") or {}
        if kind not in (4, 5, 6, 7, 9) or (kind in (6, 7) and found.message is None):
            raise _invalid("type", "BASE_TYPE_CHOICES", "Value must be one of {4, 5, 6, 7, 9, 10, 12}.")
        message = self._answer_kind(found, kind, call, data)
        if call.query.get("with_response", "").lower() not in ("1", "true"):
            return None
        resource = {"type": kind} | ({"message": message} if message else {})
        card = {"id": interaction, "type": found.kind, "response_message_loading": kind == 5}
        return {"interaction": card, "resource": resource}

    def _answer_kind(self, found: Interaction, kind: int, call: Call, data: Json) -> Json | None:
        if found.answer is None and kind == 4:
            self._draft(found.place, call, data)  # what is refused as a message is no answer yet
        found.accept(kind)
        match kind:
            case 4 | 5:
                content = {"content": "", "flags": data.get("flags", 0) | LOADING} if kind == 5 else {}
                message = self._post(found.place, call, data | content, interaction=found)
                found.original = int(message["id"])
                return message
            case 6 | 7:
                found.original = int(found.message["id"]) if found.message else None
                if kind == 6 or found.message is None:
                    return None
                shown = found.place.shown(int(found.message["id"]))
                if shown is None:
                    raise Refused(404, 10008)
                return self._change(found.place, found.message, shown, call._replace(body=data))
            case _:
                return None

    def get_original(self, _: Call, application: str, token: str, message: str = "@original") -> Json:
        found, number = self._webhook(token, message)
        return found.place.view(self._answer_log(found, number))

    def change_original(self, call: Call, application: str, token: str, message: str = "@original") -> Json:
        found, number = self._webhook(token, message)
        shown = found.place.shown(number)
        if shown is None:
            raise Refused(404, 10008)
        return self._change(found.place, self._answer_log(found, number), shown, call)

    def delete_original(self, _: Call, application: str, token: str, message: str = "@original") -> None:
        found, number = self._webhook(token, message)
        self._answer_log(found, number)
        self.server.private.pop(number, None)
        found.place.erase(number)

    def follow_up(self, call: Call, application: str, token: str) -> Json:
        found, _ = self._webhook(token, "")
        if found.shown and found.shown.loading:  # the first one fills a deferred answer
            return self._change(found.place, self._answer_log(found, found.shown.id), found.shown, call)
        message = self._post(found.place, call, call.body, interaction=found)
        found.followups.append(int(message["id"]))
        return message

    def _webhook(self, token: str, message: str) -> tuple[Interaction, int]:
        found = self.server.interactions.get(token)
        if found is None or found.answer is None:
            raise Refused(404, 10015)
        if found.expired:
            raise Refused(401, 50027)
        if message == "@original":
            if found.original is None:
                raise Refused(404, 10008)
            return found, found.original
        return found, int(message or 0)

    def _answer_log(self, found: Interaction, number: int) -> Json:
        message = found.place.log.get(number) or self.server.private.get(number)
        if message is None:
            raise Refused(404, 10008)
        return message

    # -- shared by them

    def _guild(self, guild: str) -> Guild:
        found = self.server.guilds.get(int(guild)) if guild.isdigit() else None
        if found is None:
            raise Refused(404, 10004)
        return found

    def _place(self, channel: str) -> Place:
        place = self.server.places.get(int(channel)) if channel.isdigit() else None
        if place is None:
            raise Refused(404, 10003)
        if place.hidden or (place.parent and place.parent.hidden):
            raise Refused(403, 50001)
        return place

    def _writable(self, channel: str) -> Place:
        place = self._place(channel)
        if refusal := place.refusal or (place.parent and place.parent.refusal):
            raise refusal
        return place

    def _message(self, place: Place, message: str) -> Json:
        found = place.log.get(int(message)) if message.isdigit() else None
        if found is None:
            raise Refused(404, 10008)
        return found

    def _seen(self, place: Place, message: Json) -> Json:
        view = place.view(message)
        return self.server.readable(view, self.server.allowed_intents) if place.guild else view

    def _react(self, channel: str, message: str, emoji: str, *, add: bool) -> None:
        place = self._writable(channel)
        self._message(place, message)
        name, number = unquote(emoji), int(message)
        if name.isascii() and ":" not in name:
            raise Refused(400, 10014)
        standing = place.reactions.setdefault(number, [])
        if add and name not in standing:
            standing.append(name)
        if not add and name in standing:
            standing.remove(name)
        place.reacted.append(Reaction(number, name, add, time.monotonic()))
        place.reaction(number, name, self.server.me, add=add)

    def _draft(self, place: Place, call: Call, body: Json, before: Json | None = None) -> _Draft:
        """What the request makes of a message (of nothing, or of the one that stands); what it leaves out stays."""
        before = before or {"content": "", "embeds": [], "components": [], "attachments": [], "flags": 0}
        flags = body.get("flags") if body.get("flags") is not None else before["flags"] & ~LOADING
        flags |= before["flags"] & (EPHEMERAL | COMPONENTS_V2 | HAS_THREAD)
        content = _checked_content(body, flags) if "content" in body else before["content"]
        embeds = _checked_embeds(body["embeds"] or []) if "embeds" in body else before["embeds"]
        components = before["components"]
        if "components" in body:
            components = _checked_components(body["components"] or [], flags)
        attachments = self._attachments(place, call, body, before["attachments"])
        empty = not (content or embeds or attachments or body.get("sticker_ids") or body.get("poll"))
        if empty and not (components and flags & COMPONENTS_V2) and not flags & LOADING:
            raise Refused(400, 50006)
        return _Draft(content, embeds, components, attachments, flags)

    def _attachments(self, place: Place, call: Call, body: Json, before: list[Json]) -> list[Json]:
        if sum(len(file.data) for file in call.files.values()) > REQUEST_LIMIT:
            raise Refused(413, 40005)
        if any(len(file.data) > FILE_LIMIT for file in call.files.values()):
            raise Refused(413, 40005)
        told = body.get("attachments")
        kept, described = before, {}
        if told is not None:
            ids = {str(card["id"]) for card in told}
            kept = [card for card in before if card["id"] in ids]
            described = {int(card["id"]): card for card in told}
            lost = [card for card in told if int(card["id"]) not in call.files]
            if len(lost) > len(kept):
                raise _invalid("attachments.0", "ATTACHMENT_NOT_FOUND", "Attachment data was not found")
        if len(kept) + len(call.files) > 10:
            raise _invalid("attachments", "BASE_TYPE_MAX_LENGTH", "Must be 10 or fewer in length.")
        new = []
        for number, file in sorted(call.files.items()):
            card = described.get(number, {})
            description = card.get("description")
            if description and len(description) > 1024:
                raise _invalid("attachments.0.description", "BASE_TYPE_MAX_LENGTH", "Must be 1024 or fewer in length.")
            name = re.sub(r"[^\w.\-]", "_", card.get("filename") or file.name)
            new.append(self.server.files.add(place.id, Upload(name, file.data, description)))
        return kept + new

    def _post(
        self,
        place: Place,
        call: Call,
        body: Json,
        *,
        interaction: Interaction | None = None,
        message_id: int | None = None,
    ) -> Json:
        draft = self._draft(place, call, body)
        fields: Json = {
            "embeds": draft.embeds,
            "components": draft.components,
            "attachments": draft.attachments,
            "flags": draft.flags,
        }
        reference, replied = self._reference(place, body), None
        if reference:
            fields |= {"message_reference": reference, "type": REPLY}
            replied = place.log[int(reference["message_id"])]["author"]["id"]
        nonce = body.get("nonce")
        if nonce is not None:
            fields["nonce"] = nonce
        if interaction:
            fields |= {"application_id": self.server.me["id"], "webhook_id": self.server.me["id"]}
            if interaction.kind == 2:
                fields["type"] = COMMAND
        if message_id:
            fields["id"] = str(message_id)
        shown = Shown(
            id=0,
            at=time.monotonic(),
            content=draft.content,
            reply_to=int(reference["message_id"]) if reference else None,
            files=self._uploads(draft),
            components=draft.components,
            embeds=draft.embeds,
            flags=draft.flags,
            nonce=None if nonce is None else str(nonce),
            allowed_mentions=body.get("allowed_mentions"),
            pings=_pings(draft.content, body.get("allowed_mentions"), replied),
            interaction=interaction,
        )
        return self._put(place, shown, draft.content, fields)

    def _put(self, place: Place, shown: Shown, content: str, fields: Json) -> Json:
        number = int(fields.get("id") or self.server.new_id())
        shown.id = number
        if shown.nonce is not None:
            place.nonces[shown.nonce] = number
        place.show(shown)
        fields = fields | {"id": str(number)}
        if shown.ephemeral:  # one person sees it, and the gateway tells of it to nobody
            return self.server.hold_private(place, content, fields)
        return place.post(self.server.me, content, fields)

    def _reference(self, place: Place, body: Json) -> Json | None:
        reference = body.get("message_reference")
        if reference is None:
            return None
        number = int(reference["message_id"])
        if number in place.log:
            return place.reference(number)
        if reference.get("fail_if_not_exists", True):
            raise _invalid("message_reference", "REPLIES_UNKNOWN_MESSAGE", "Unknown message")
        return None

    def _change(self, place: Place, message: Json, shown: Shown, call: Call) -> Json:
        body = call.body
        draft = self._draft(place, call, body, message)
        if draft.content != shown.content:
            shown.edits.append(Edit(draft.content, time.monotonic()))
        shown.content, shown.embeds, shown.components = draft.content, draft.embeds, draft.components
        shown.flags, shown.files = draft.flags, self._uploads(draft)
        if "allowed_mentions" in body:
            shown.allowed_mentions = body["allowed_mentions"]
        message |= {
            "content": draft.content,
            "embeds": draft.embeds,
            "components": draft.components,
            "attachments": draft.attachments,
            "flags": draft.flags,
            "edited_timestamp": _now(),
        }
        if shown.ephemeral:
            place.ring()
            return place.view(message)
        return place.tell("MESSAGE_UPDATE", message)

    def _uploads(self, draft: _Draft) -> list[Upload]:
        return [self.server.files.upload(int(card["id"])) for card in draft.attachments]


def _application_flags(intents: int) -> int:
    """The flags of an application with fewer than a hundred guilds that was granted these privileged intents."""
    flags = {PRESENCES: 1 << 13, GUILD_MEMBERS: 1 << 15, MESSAGE_CONTENT: 1 << 19}
    return sum(flag for intent, flag in flags.items() if intents & intent)


def _check_command(command: Json, place: str) -> None:
    if not re.fullmatch(r"[-_'\w]{1,32}", command.get("name", "")) or command["name"] != command["name"].lower():
        raise _invalid(f"{place}.name", "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid")
    if command.get("type", 1) == 1 and not 1 <= len(command.get("description", "")) <= 100:
        raise _invalid(f"{place}.description", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 100 in length.")
    options = command.get("options") or []
    if len(options) > 25:
        raise _invalid(f"{place}.options", "BASE_TYPE_MAX_LENGTH", "Must be 25 or fewer in length.")
    required = [bool(option.get("required")) for option in options]
    if required != sorted(required, reverse=True):
        text = "Required options must be placed before non-required options"
        raise _invalid(f"{place}.options", "APPLICATION_COMMAND_OPTIONS_REQUIRED_INVALID", text)
    for number, option in enumerate(options):
        if option.get("type") not in (1, 2):
            _check_command({"description": option.get("description", ""), "name": option["name"]}, f"{place}.{number}")
        if len(option.get("choices") or []) > 25:
            raise _invalid(f"{place}.options.{number}", "BASE_TYPE_MAX_LENGTH", "Must be 25 or fewer in length.")


_Method = Callable[..., Any]
_ROUTES: tuple[tuple[str, _Method], ...] = (
    ("GET /users/@me", _Rest.me),
    ("GET /users/@me/guilds", _Rest.get_guilds),
    ("POST /users/@me/channels", _Rest.open_direct),
    ("GET /users/*", _Rest.get_user),
    ("GET /oauth2/applications/@me", _Rest.application),
    ("GET /applications/@me", _Rest.application),
    ("GET /gateway", _Rest.gateway),
    ("GET /gateway/bot", _Rest.gateway_bot),
    ("GET /guilds/*", _Rest.get_guild),
    ("GET /guilds/*/channels", _Rest.get_guild_channels),
    ("GET /guilds/*/roles", _Rest.get_guild_roles),
    ("GET /guilds/*/members", _Rest.get_members),
    ("GET /guilds/*/members/search", _Rest.search_members),
    ("GET /guilds/*/members/*", _Rest.get_member),
    ("GET /guilds/*/threads/active", _Rest.get_active_threads),
    ("GET /channels/*", _Rest.get_channel),
    ("PATCH /channels/*", _Rest.change_channel),
    ("POST /channels/*/typing", _Rest.type),
    ("POST /channels/*/threads", _Rest.start_thread),
    ("POST /channels/*/messages/*/threads", _Rest.start_thread),
    ("GET /channels/*/threads/archived/public", _Rest.get_archived_threads),
    ("PUT /channels/*/thread-members/@me", _Rest.join_thread),
    ("GET /channels/*/thread-members/*", _Rest.get_thread_member),
    ("GET /channels/*/messages", _Rest.get_messages),
    ("POST /channels/*/messages", _Rest.post_message),
    ("GET /channels/*/messages/pins", _Rest.get_pins),
    ("GET /channels/*/messages/*", _Rest.get_message),
    ("PATCH /channels/*/messages/*", _Rest.change_message),
    ("DELETE /channels/*/messages/*", _Rest.delete_message),
    ("PUT /channels/*/messages/*/reactions/*/@me", _Rest.add_reaction),
    ("DELETE /channels/*/messages/*/reactions/*/@me", _Rest.remove_reaction),
    ("GET /applications/*/commands", _Rest.get_commands),
    ("PUT /applications/*/commands", _Rest.put_commands),
    ("GET /applications/*/guilds/*/commands", _Rest.get_commands),
    ("PUT /applications/*/guilds/*/commands", _Rest.put_commands),
    ("POST /interactions/*/*/callback", _Rest.answer_interaction),
    ("POST /webhooks/*/*", _Rest.follow_up),
    ("GET /webhooks/*/*/messages/*", _Rest.get_original),
    ("PATCH /webhooks/*/*/messages/*", _Rest.change_original),
    ("DELETE /webhooks/*/*/messages/*", _Rest.delete_original),
)
_TABLE = tuple(
    (re.compile(re.escape(template).replace(r"\*", "([^/]+)")), template, method) for template, method in _ROUTES
)


# --------------------------------------------------------------------------------------------------------------- server


class Discord:
    """The server, its guilds, its places and its faults; see the module's first lines."""

    def __init__(
        self,
        *,
        token: str = "MTA5.test.token",
        username: str = "interject",
        port: int = 0,
        allowed_intents: int = PRIVILEGED,
        rate_limits: bool = False,
        interaction_seconds: float = 3.0,
        heartbeat_ms: int = 41_250,
        shards: int = 1,
        max_concurrency: int = 1,
        identify_seconds: float = 0.0,
    ) -> None:
        self.token = token
        self.port = port  # 0 until the first start takes a free one, which is then kept
        self.me: Json = Person(4242, "Interject", username, bot=True).card  # its id is the application's, too
        self.allowed_intents = allowed_intents  # of the privileged ones
        self.interaction_seconds = interaction_seconds  # within which an interaction must be answered
        self.heartbeat_ms = heartbeat_ms
        self.shards = shards  # that a bot is told to have
        self.least_shards = 1  # with fewer, it is not let in (4011)
        self.max_concurrency = max_concurrency
        self.identify_seconds = identify_seconds  # between two in one bucket
        self.starts_left = 1000
        self.starts_reset_ms = 86_400_000
        self.calls: list[Call] = []
        self.refusals: list[Refusal] = []
        self.commands: list[Json] = []  # the application's own, as registered
        self.guilds: dict[int, Guild] = {}
        self.places: dict[int, Place] = {}
        self.people: dict[int, Person] = {}
        self.interactions: dict[str, Interaction] = {}  # by token
        self.private: dict[int, Json] = {}  # ephemeral messages, which no channel has
        self.files = _Files(self)
        self.bell = _Bell()
        self.gateway = Gateway(self)
        self.holds: list[Hold] = []
        self.crashes: list[Exception] = []  # mistakes of this server's, raised again when it closes
        self._outage: Outage | None = None
        self._ids = _Snowflakes()
        self._rest = _Rest(self)
        self._limits = [_Limit(*usual) for usual in _USUAL_LIMITS] if rate_limits else []
        self._overall = _Limit("*", 50, 1.0, enforced=rate_limits, everywhere=True)
        self._wide = {template: _Limit(template, 1000, 1.0, enforced=False) for template, _ in _ROUTES}
        self._faults: deque[_Fault] = deque()
        self._server: web.Server | None = None
        self._runner: web.ServerRunner | None = None

    # -- life

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/v10"

    @property
    def gateway_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/gateway"

    async def start(self) -> None:
        """Listens, on the same port as before if there was one."""
        self._server = web.Server(self._handle, request_factory=_big_request, access_log=None)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=0.5)
        await self._runner.setup()
        listening = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.port = listening.getsockname()[1]
        await web.SockSite(self._runner, listening).start()

    async def stop(self) -> None:
        """Closes every connection and listens no more; places, sessions and faults are kept for the next `start()`."""
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
        for outage in (self._outage, self.gateway.outage):
            if outage:
                outage.release()
        if self.crashes and error is None:
            raise ExceptionGroup("the test server itself failed", self.crashes)

    # -- who is there

    def direct(self, person: Person = ANN) -> Place:
        """The direct channel of this person with the bot, the same one for the same id."""
        self.knows(person, None)
        for place in self.places.values():
            if place.kind == DIRECT and place.people[0].id == person.id:
                return place
        return self._add(Place(self, self.new_id(), DIRECT, [person]))

    def guild(self, name: str = "Team", *, people: Sequence[Person] = (), shard: int | None = None) -> Guild:
        """The guild of this name; a new one is told to clients that are connected, as one of this shard."""
        for guild in self.guilds.values():
            if guild.name == name:
                return guild
        number = self.new_id() if shard is None else self._ids.next_of(shard, self.shards)
        guild = Guild(self, number, name)
        self.guilds[guild.id] = guild
        for person in people:
            self.knows(person, guild)
        joined = {key: value for key, value in guild.arrival(0).items() if key != "unavailable"}
        self.gateway.dispatch("GUILD_CREATE", joined)
        return guild

    def channel(
        self, name: str = "general", people: Sequence[Person] = (ANN, BOB), *, guild: str = "Team", kind: int = TEXT
    ) -> Place:
        """The text channel of this name in a guild; a new one is told to clients that are connected."""
        home = self.guild(guild)
        for channel in home.channels:
            if channel.name == name:
                return channel
        for person in people:
            self.knows(person, home)
        place = self._add(Place(self, self.new_id(), kind, people, name=name, guild=home))
        home.channels.append(place)
        self.gateway.dispatch("CHANNEL_CREATE", place.card, place)
        return place

    def forum(self, name: str = "ideas", people: Sequence[Person] = (ANN, BOB), *, guild: str = "Team") -> Place:
        """A channel that holds only threads."""
        return self.channel(name, people, guild=guild, kind=FORUM)

    def _add(self, place: Place) -> Place:
        self.places[place.id] = place
        return place

    def knows(self, person: Person, guild: Guild | None) -> None:
        self.people.setdefault(person.id, person)
        if guild:
            guild.people.setdefault(person.id, person)

    def user(self, user_id: int) -> Json | None:
        if str(user_id) == self.me["id"]:
            return self.me
        person = self.people.get(user_id)
        return person.card if person else None

    def new_id(self) -> int:
        return self._ids.next()

    def message(self, channel_id: int, message_id: int) -> Json:
        return self.places[channel_id].log[message_id]

    def hold_private(self, place: Place, content: str, fields: Json) -> Json:
        """Keeps an ephemeral message, which stands on one screen and in no channel; returns it as the bot gets it."""
        message = place.compose(self.me, content, fields)
        self.private[int(message["id"])] = message
        place.ring()
        return place.view(message)

    def readable(self, message: Json, intents: int) -> Json:
        """A message of a guild as a bot with these intents may read it.

        https://docs.discord.com/developers/events/gateway#message-content-intent
        """
        view = message
        if (referenced := message.get("referenced_message")) is not None:
            view = view | {"referenced_message": self.readable(referenced, intents)}
        mine = message["author"]["id"] == self.me["id"]
        if intents & MESSAGE_CONTENT or mine or any(user["id"] == self.me["id"] for user in message["mentions"]):
            return view
        return view | {"content": "", "embeds": [], "attachments": [], "components": []} | _no_snapshots(view)

    def with_links(self, message: Json) -> Json:
        """A copy with links that are good now, in the message and in what it forwards."""
        view = message | {"attachments": [self.files.linked(card) for card in message["attachments"]]}
        if snapshots := message.get("message_snapshots"):
            view["message_snapshots"] = [{"message": self.with_links(snapshot["message"])} for snapshot in snapshots]
        return view

    # -- what was asked

    def called(self, pattern: str) -> list[Call]:
        """The calls of a route, such as "POST /channels/*/messages"; "GET /attachments/**" are downloads."""
        route = _route(pattern)
        return [call for call in self.calls if route.fullmatch(call.route)]

    def until(self, predicate: "Callable[[Discord], T | None]", timeout: float = 60) -> Coroutine[Any, Any, T]:
        """Waits until `predicate(discord)` is true, and returns what it gave; asked whenever something happens."""
        return self.bell.wait(lambda: predicate(self), timeout, self._last_calls)

    def connected(self, timeout: float = 60) -> Coroutine[Any, Any, bool]:
        """Waits until a client has identified or resumed."""
        return self.until(lambda _: self.gateway.connected, timeout)

    def _last_calls(self) -> str:
        return f"last calls: {[call.route for call in self.calls[-10:]]}, refused: {self.refusals[-5:]}"

    # -- faults

    def fail_next(
        self,
        pattern: str,
        status: int,
        *,
        code: int | None = None,
        retry_after: float | None = None,
        scope: str = "user",
        times: int = 1,
        place: Place | None = None,
        only_files: bool = False,
    ) -> None:
        """Refuses the next calls of this route ("*": of any) without performing them; a 429 has a scope.

        `only_files`: of those that upload files.
        """
        if status == 429:
            error = Refused(429, retry_after=1.0 if retry_after is None else retry_after, scope=scope)
        else:
            error = Refused(status, _STATUS_CODES.get(status, 0) if code is None else code)
        self._faults.append(_Fault(_route(pattern), place, error, times, only_files))

    def drop_answer(
        self, pattern: str, *, times: int = 1, place: Place | None = None, only_files: bool = False
    ) -> None:
        """Performs the next calls of this route, and closes their connections without an answer."""
        self._faults.append(_Fault(_route(pattern), place, None, times, only_files))

    def hold(self, pattern: str, *, after: bool = False) -> Hold:
        """Keeps calls of this route waiting until `release()`, before they are performed or `after`."""
        held = Hold(self, pattern, after)
        self.holds.append(held)
        return held

    def limit(self, pattern: str, count: int, seconds: float) -> None:
        """Makes a bucket per channel of so many calls, told in the headers and enforced."""
        self._limits.insert(0, _Limit(pattern, count, seconds))

    def refuse(self, seconds: float | None = None) -> Outage:
        """Network loss: open and further connections are closed, requests and gateway alike."""
        if self._outage:
            self._outage.release()
        self._outage = Outage(self._end_outage, seconds)
        self._close_connections()
        return self._outage

    def expire_links(self) -> None:
        """Every attachment's link given out so far is dead (404); reading the message again gives a fresh one."""
        self.files.generation += 1

    def _end_outage(self, outage: Outage) -> None:
        if self._outage is outage:
            self._outage = None
        self.bell.ring()

    def _close_connections(self) -> None:
        self.gateway.drop()
        for held in self.holds:
            held.end(_NoAnswer())
        for connection in self._server.connections if self._server else ():
            if connection.transport:
                connection.transport.abort()

    # -- requests

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if self._outage is None:
                return await self._route(request)
        except (_NoAnswer, ConnectionError, web.RequestPayloadError):
            pass  # closed below; of the latter two the bot itself is the cause, killed in mid-request
        except Exception as error:
            self.crashes.append(error)
            raise
        if request.transport:
            request.transport.abort()
        return web.Response(status=500)

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if path in ("/gateway", "/gateway/", "/gateway/resume"):
            return await self.gateway.serve(request)
        if path.startswith("/attachments/"):
            return await self._answer(request, Call("GET", path, dict(request.query), None, {}, time.monotonic()))
        prefix, _, rest = path.partition("/api/v10/")
        if prefix or not rest:
            return web.Response(status=404, text="404: Not Found")
        if int(request.headers.get("Content-Length", 0)) > REQUEST_LIMIT + 1024 * 1024:
            return Refused(413, 40005).response()
        try:
            body, files = await _read_body(request)
        except ValueError:
            return Refused(400, 50109).response()
        call = Call(request.method, f"/{rest}", dict(request.query), body, files, time.monotonic())
        return await self._answer(request, call)

    async def _answer(self, request: web.BaseRequest, call: Call) -> web.Response:
        self.calls.append(call)
        self._ring(call)
        fault = self._take_fault(call)
        try:
            await self._wait_held(call, after=False)
            if fault and fault.error:
                raise fault.error
            response = self._perform(request, call)
        except Refused as refused:
            self.refusals.append(Refusal(call.route, refused.status, refused.code, time.monotonic()))
            response = refused.response()
        response.headers["Via"] = "1.1 google"  # without it the SDK takes a 429 for a ban
        self._ring(call)
        await self._wait_held(call, after=True)
        if fault and fault.error is None:
            raise _NoAnswer
        return response

    def _perform(self, request: web.BaseRequest, call: Call) -> web.Response:
        if call.path.startswith("/attachments/"):
            return self._download(call)
        by_token = call.path.startswith(("/interactions/", "/webhooks/"))  # it is in their paths
        if not by_token and request.headers.get("Authorization") != f"Bot {self.token}":
            raise Refused(401, 0)
        if not by_token:
            self._overall.take(call)
        for route, template, method in _TABLE:
            if match := route.fullmatch(call.route):
                limit = next((limit for limit in self._limits if limit.route.fullmatch(call.route)), None)
                headers = (limit or self._wide[template]).take(call)
                result = method(self._rest, call, *match.groups())
                response = web.Response(status=204) if result is None else _json_response(result)
                response.headers.update(headers)
                return response
        raise Refused(404, 0)

    def _download(self, call: Call) -> web.Response:
        data = self.files.at(call.path.removeprefix("/attachments"), call.query.get("ex", ""))
        if data is None:
            self.refusals.append(Refusal(call.route, 404, 0, time.monotonic()))
            return web.Response(status=404, text="This content is no longer available.")
        kind = mimetypes.guess_type(call.path)[0] or "application/octet-stream"
        return web.Response(body=data, content_type=kind)

    def _take_fault(self, call: Call) -> _Fault | None:
        for fault in self._faults:
            if fault.hits(call):
                fault.left -= 1
                if not fault.left:
                    self._faults.remove(fault)
                return fault
        return None

    async def _wait_held(self, call: Call, *, after: bool) -> None:
        for held in tuple(self.holds):
            if held.after is after and held.route.fullmatch(call.route):
                await held.wait()

    def _ring(self, call: Call) -> None:
        self.bell.ring()
        parts = call.path.split("/")
        if parts[1] == "channels" and parts[2].isdigit() and (place := self.places.get(int(parts[2]))):
            place.bell.ring()


def _no_snapshots(view: Json) -> Json:
    return {"message_snapshots": []} if "message_snapshots" in view else {}


def _big_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=2 * REQUEST_LIMIT)


async def _read_body(request: web.BaseRequest) -> tuple[Any, dict[int, Upload]]:
    files: dict[int, Upload] = {}
    if request.content_type != "multipart/form-data":
        data = await request.read()
        return (json.loads(data) if data else {}), files
    body: Any = {}
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or not part.name:
            continue
        data = bytes(await part.read())
        if part.name == "payload_json":
            body = json.loads(data)
        elif number := re.fullmatch(r"files\[(\d+)\]", part.name):
            files[int(number[1])] = Upload(part.filename or "file", data)
    return body, files


async def _serve(port: int, token: str) -> None:
    """Serves one direct channel: a line typed is said, what the bot shows is written."""
    async with Discord(port=port, token=token) as discord:
        place = discord.direct()
        sys.stdout.write(f"{discord.api_url} {discord.gateway_url} token {discord.token}\n")
        sys.stdout.flush()
        while line := await asyncio.to_thread(sys.stdin.readline):
            await place.say(line.strip())
            shown = await place.hear(timeout=3600)
            sys.stdout.write(f"{shown.words}\n")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--token", default="MTA5.test.token")
    given = arguments.parse_args()
    asyncio.run(_serve(given.port, given.token))
