"""Reads Discord's events: raw JSON in, messages out. Pure; names are those of https://discord.com/developers/docs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from channels.address import Address, Sender
from channels.discord.directory import Directory
from channels.message import FileRef, InboundMessage, MessageKind

Json = dict[str, Any]

STOP = "stop:"
"""What a stop button carries before the run id."""

ANSWER = "answer:"
"""What an option of a question carries before the question's key and the option's number."""

ARGUMENTS = "arguments"
"""The one option of every application command."""

MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError)
"""What `parse` raises for an event that is not shaped like one."""

PING, COMMAND, BUTTON = 1, 2, 3
"""Types of interactions."""

_SPEECH = frozenset({0, 19, 20, 23})
"""Types of messages that somebody said: ordinary ones, replies, answers to commands. The others are Discord's own."""

_FORWARD = 1
_COMMAND = re.compile(r"/([A-Za-z0-9_-]{1,32})(?:\s+(.*))?", re.DOTALL)
_QUOTED = 1000
"""Characters of a quoted message that the note keeps."""


@dataclass(frozen=True, slots=True)
class Bot:
    """Who hears. `account` is the bot's own user id."""

    channel: str
    account: str


def parse(
    event: str, data: Json, bot: Bot, rooms: Directory, authors: Mapping[str, Sender], now: datetime
) -> InboundMessage | None:
    """What the person did, or None when it is nothing for us.

    `authors` says who wrote a message that is deleted, as Discord does not; `now` dates what has no date.
    Raises one of `MALFORMED`.
    """
    match event:
        case "MESSAGE_CREATE":
            return _message(data, bot, rooms, "new")
        case "MESSAGE_UPDATE" if data.get("edited_timestamp") and "author" in data:
            # Without the time of an edit it is Discord that changed something: a preview of a link, a pin.
            return _message(data, bot, rooms, "edited")
        case "MESSAGE_DELETE":
            return _withdrawn(data, bot, authors, now)
        case "INTERACTION_CREATE":
            return _interaction(data, bot, now)
    return None


def singly(event: str, data: Json) -> Iterator[tuple[str, Json]]:
    """The events of which each means one message: deletions may come many at once."""
    if event != "MESSAGE_DELETE_BULK":
        yield event, data
        return
    for id in data["ids"]:
        yield "MESSAGE_DELETE", {**data, "id": id}


def chat_of(event: str, data: Json) -> str:
    """The channel in which somebody did something; "" for events of another kind."""
    if event.startswith("MESSAGE_") or event == "INTERACTION_CREATE":
        return str(data["channel_id"])
    return ""


def author(message: Json) -> Sender:
    """Who wrote, by the name that the guild knows them by."""
    user = message["author"]
    is_bot = bool(user.get("bot") or message.get("webhook_id"))
    return Sender(str(user["id"]), _name(user, message.get("member")), user.get("username"), is_bot)


# --- what people do --------------------------------------------------------------------------------------------------


def _message(message: Json, bot: Bot, rooms: Directory, kind: MessageKind) -> InboundMessage | None:
    sender = author(message)
    if sender.id == bot.account or message.get("type", 0) not in _SPEECH:
        return None
    told = _forwarded(message) or message
    written, files = _text(told), tuple(_files(told))
    if not (written or files):
        return None
    address = _address(message, bot)
    me = _me(bot, rooms)
    mentioned = bool(me.search(told.get("content") or ""))
    text = _readable(_without(me, written), message, rooms) if mentioned else _readable(written, message, rooms)
    addressed = address.kind == "direct" or mentioned or _answers(message, bot)
    message_id = str(message["id"])
    edited = message.get("edited_timestamp")
    event = f"{message_id}:edited:{edited}" if kind == "edited" else message_id
    sent_at = datetime.fromisoformat((kind == "edited" and edited) or message["timestamp"]).astimezone(UTC)
    command = _COMMAND.fullmatch(text.strip()) if addressed and not files else None
    if command and kind == "edited":
        # A command is not run again because its message was edited.
        return None
    if command:
        return InboundMessage(
            event,
            address,
            sender,
            sent_at,
            kind="command",
            message_id=message_id,
            command=command[1].lower(),
            text=(command[2] or "").strip(),
        )
    room = rooms.known.get(address.chat)
    in_thread = room is not None and room.thread
    return InboundMessage(
        event,
        address,
        sender,
        sent_at,
        kind=kind,
        message_id=message_id,
        text=text or ("" if files else _readable(written, message, rooms)),
        files=(*files, *_quoted_files(message, bot)),
        note=_note(message, bot, rooms),
        addressed=addressed,
        follows=in_thread,
        # A thread has the id of the message that it was begun from.
        thread_root=address.chat if in_thread and message_id != address.chat else None,
    )


def _withdrawn(data: Json, bot: Bot, authors: Mapping[str, Sender], now: datetime) -> InboundMessage | None:
    message_id = str(data["id"])
    sender = authors.get(message_id) or Sender("", "")
    if sender.id == bot.account:
        return None
    return InboundMessage(
        f"{message_id}:deleted", _address(data, bot), sender, now, kind="withdrawn", message_id=message_id
    )


def _interaction(data: Json, bot: Bot, now: datetime) -> InboundMessage | None:
    member = data.get("member") or {}
    user = member.get("user") or data["user"]
    sender = Sender(str(user["id"]), _name(user, member), user.get("username"), bool(user.get("bot")))
    done = _pressed(data) if data["type"] == BUTTON else _ordered(data) if data["type"] == COMMAND else None
    if done is None:
        return None
    command, text, message_id = done
    return InboundMessage(
        str(data["id"]),
        _address(data, bot),
        sender,
        now,
        kind="command",
        message_id=message_id,
        command=command,
        text=text,
    )


def _pressed(data: Json) -> tuple[str, str, str] | None:
    carried, message_id = str(data["data"]["custom_id"]), str(data["message"]["id"])
    if carried.startswith(STOP):
        return "stop", carried.removeprefix(STOP), message_id
    if carried.startswith(ANSWER):
        # The key of a question contains colons itself.
        key, _, number = carried.removeprefix(ANSWER).rpartition(":")
        return "answer", f"{key} {number}", message_id
    return None


def _ordered(data: Json) -> tuple[str, str, str] | None:
    given = [str(option["value"]) for option in data["data"].get("options") or () if option["name"] == ARGUMENTS]
    # The answer replies to the interaction.
    return str(data["data"]["name"]), _clean(" ".join(given)).strip(), str(data["id"])


# --- who and where ---------------------------------------------------------------------------------------------------


def _address(data: Json, bot: Bot) -> Address:
    kind: Literal["direct", "group"] = "group" if data.get("guild_id") else "direct"
    return Address(bot.channel, bot.account, str(data["channel_id"]), None, kind)


def _name(user: Json, member: Json | None = None) -> str:
    return _clean((member or {}).get("nick") or user.get("global_name") or user.get("username") or str(user["id"]))


def _me(bot: Bot, rooms: Directory) -> re.Pattern[str]:
    roles = "|".join(sorted(rooms.own_roles))
    return re.compile(rf"<@!?{bot.account}>" + (rf"|<@&(?:{roles})>" if roles else ""))


def _answers(message: Json, bot: Bot) -> bool:
    return _is_bot(message.get("referenced_message"), bot) and not _is_forward(message)


def _is_bot(message: Json | None, bot: Bot) -> bool:
    return message is not None and str(message["author"]["id"]) == bot.account


# --- what ------------------------------------------------------------------------------------------------------------


def _clean(text: str) -> str:
    """JSON may escape half of a surrogate pair; nothing after us could store that."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _text(message: Json) -> str:
    return _clean(message.get("content") or "\n".join(_told(message)))


def _told(message: Json) -> Iterator[str]:
    """Things that are neither text nor files, in words."""
    for sticker in message.get("sticker_items") or ():
        yield f"[sticker: {sticker['name']}]"
    if poll := message.get("poll"):
        answers = " / ".join(answer["poll_media"].get("text") or "…" for answer in poll["answers"])
        yield f"[poll: {poll['question'].get('text') or ''} {answers}]"
    for embed in message.get("embeds") or ():
        yield from filter(None, (embed.get("title"), embed.get("description"), *_fields(embed)))


def _fields(embed: Json) -> Iterator[str]:
    return (f"{field['name']}: {field['value']}" for field in embed.get("fields") or ())


def _files(message: Json) -> Iterator[FileRef]:
    for file in message.get("attachments") or ():
        kind = str(file.get("content_type") or "application/octet-stream").partition(";")[0]
        yield FileRef(str(file["url"]), _clean(str(file["filename"])), kind, file.get("size"))


def _without(me: re.Pattern[str], text: str) -> str:
    for found in reversed(list(me.finditer(text))):
        before, after = text[: found.start()], text[found.end() :]
        # "ask @bot now" becomes "ask now"; "@bot, now" becomes "now".
        text = before + (after.lstrip(" ,:") if not before or before[-1].isspace() else after)
    return text.strip()


_MARKED = re.compile(
    r"<(?:@!?(?P<user>\d+)|@&(?P<role>\d+)|#(?P<channel>\d+)|a?(?P<emoji>:\w+:)\d+|t:(?P<time>-?\d{1,12})(?::\w)?"
    r"|(?P<command>/[^:<>]+):\d+)>"
)
"""https://discord.com/developers/docs/reference#message-formatting"""


def _readable(text: str, message: Json, rooms: Directory) -> str:
    """The text with names in the place of ids."""
    people = {str(user["id"]): _name(user, user.get("member")) for user in message.get("mentions") or ()}

    def name(found: re.Match[str]) -> str:
        if user := found["user"]:
            return f"@{people.get(user, 'somebody')}"
        if role := found["role"]:
            return f"@{_clean(rooms.roles.get(role, 'a role'))}"
        if channel := found["channel"]:
            return f"#{_room_name(channel, rooms) or 'a channel'}"
        if time := found["time"]:
            return f"{datetime.fromtimestamp(int(time), UTC):%Y-%m-%d %H:%M} UTC"
        return found["emoji"] or found["command"]

    return _MARKED.sub(name, text)


def _room_name(id: str, rooms: Directory) -> str:
    room = rooms.known.get(id)
    return _clean(room.name) if room else ""


# --- in what context -------------------------------------------------------------------------------------------------


def _note(message: Json, bot: Bot, rooms: Directory) -> str:
    return _forward_note(message, rooms) if _is_forward(message) else _reply_note(message, bot, rooms)


def _is_forward(message: Json) -> bool:
    reference = message.get("message_reference")
    return reference is not None and reference.get("type") == _FORWARD


def _forwarded(message: Json) -> Json | None:
    snapshots = message.get("message_snapshots")
    return snapshots[0]["message"] if snapshots else None


def _forward_note(message: Json, rooms: Directory) -> str:
    """Discord does not tell who wrote what is forwarded."""
    name = _room_name(str(message["message_reference"].get("channel_id")), rooms)
    return f"Forwarded from #{name}" if name else "Forwarded from another place"


def _reply_note(message: Json, bot: Bot, rooms: Directory) -> str:
    if message.get("type", 0) != 19:
        return ""
    replied = message.get("referenced_message")
    if not replied:
        return "In reply to a message that is gone"
    told = _forwarded(replied) or replied
    words = _readable(_text(told), replied, rooms)
    if len(words) > _QUOTED:
        words = f"{words[:_QUOTED]}…"
    said = " ".join(filter(None, (words, *(f"[file {file.name}]" for file in _files(told)))))
    whom = "your message" if _is_bot(replied, bot) else author(replied).name
    return f'In reply to {whom}: "{said}"' if said else f"In reply to {whom}"


def _quoted_files(message: Json, bot: Bot) -> tuple[FileRef, ...]:
    """What is asked about a picture is said in reply to it. The bot's own are in the conversation already."""
    replied = message.get("referenced_message") if message.get("type", 0) == 19 else None
    return () if replied is None or _is_bot(replied, bot) else tuple(_files(_forwarded(replied) or replied))


def quotable(message: Json, rooms: Directory) -> tuple[str, str, tuple[FileRef, ...]]:
    """Who said what with which files, for a message that others rest on."""
    told = _forwarded(message) or message
    return author(message).name, _readable(_text(told), message, rooms), tuple(_files(told))
