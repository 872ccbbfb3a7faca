"""Telegram updates (raw JSON) to messages. Pure; field names are those of https://core.telegram.org/bots/api."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from channels.address import AccountKind, Address, Sender
from channels.message import FileRef, InboundMessage, MessageKind

Json = dict[str, Any]

STOP = "stop:"
"""Prefix of a stop button's data; the run id follows."""

ANSWER = "answer:"
"""Prefix of an option button's data; the question's key, ":" and the option's number follow."""

MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError)
"""Errors that `parse` raises for a malformed update."""

_SERVICE = "777000"
"""Telegram's own account, in whose name posts of a linked channel come."""

LIMIT = 4096
"""UTF-16 units of a message's text: https://core.telegram.org/bots/api#sendmessage. Apps cut a longer text there, or
where a line or a word ends in the half before."""

_COMMAND = re.compile(r"/([A-Za-z0-9_]{1,32})(?:@(\w+))?(?:\s+(.*))?", re.DOTALL)
_MAX_QUOTE = 1000
"""Characters of a quoted message in the note."""


@dataclass(frozen=True, slots=True)
class Bot:
    """The bot itself. `account` is its user id; `username` is None until it is known."""

    channel: str
    account: str
    username: str | None = None


def needs_username(update: Json) -> bool:
    """Whether reading the update needs the bot's username: group messages may mention it."""
    message = update.get("message") or update.get("edited_message") if isinstance(update, dict) else None
    chat = message.get("chat") if isinstance(message, dict) else None
    return isinstance(chat, dict) and chat.get("type") != "private"


def parse(update: Json, bot: Bot, now: datetime) -> InboundMessage | None:
    """The person's message, or None when it is not for the bot. `now` dates a pressed button, which has no date.

    Raises one of `MALFORMED`.
    """
    event = f"{bot.account}:{update['update_id']}"
    if message := update.get("message"):
        return _message(message, event, bot, "new")
    if message := update.get("edited_message"):
        return _message(message, event, bot, "edited")
    if query := update.get("callback_query"):
        return _button(query, event, bot, now)
    return None


def _button(query: Json, event: str, bot: Bot, now: datetime) -> InboundMessage | None:
    message, pressed = query.get("message"), _pressed(query.get("data", ""))
    if not message or not pressed:
        return None
    command, text = pressed
    # Of a message that is too old or deleted, Telegram sends only the chat and the id.
    return InboundMessage(
        event,
        _address(message, bot),
        _user(query["from"]),
        now,
        kind="command",
        message_id=str(message["message_id"]),
        command=command,
        text=text,
    )


def _pressed(data: str) -> tuple[str, str] | None:
    """The button's command and its arguments; None for a button that is not ours."""
    if data.startswith(STOP):
        return "stop", data.removeprefix(STOP)
    key, _, option = data.removeprefix(ANSWER).rpartition(":")
    return ("answer", f"{key} {option}") if data.startswith(ANSWER) and key and option.isdecimal() else None


def _message(message: Json, event: str, bot: Bot, kind: MessageKind) -> InboundMessage | None:
    if message["chat"]["type"] not in ("private", "group", "supergroup"):
        return None
    if new_chat := message.get("migrate_to_chat_id"):
        # https://core.telegram.org/bots/api#message: the group was made a supergroup.
        sent_at = datetime.fromtimestamp(message["date"], UTC)
        return InboundMessage(
            event, _address(message, bot), _sender(message), sent_at, kind="moved", text=str(new_chat)
        )
    sender = _sender(message)
    text, files = _text(message), tuple(_files(message))
    if sender.id == bot.account or not (text or files):
        return None
    address = _address(message, bot)
    sent_at = datetime.fromtimestamp(message.get("edit_date") or message["date"], UTC)
    message_id = str(message["message_id"])
    # A forwarded text is not the sender's own command.
    command = None if files or message.get("forward_origin") else _COMMAND.fullmatch(text.strip())
    if command and (kind == "edited" or not _is_for_bot(command[2], bot)):
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
            text=(command[3] or "").strip(),
        )
    mentions = _mentions(message, text, bot) if address.kind == "group" else ()
    return InboundMessage(
        event,
        address,
        sender,
        sent_at,
        kind=kind,
        message_id=message_id,
        text=_expanded(message, text, mentions) or ("" if files else text),
        files=(*files, *_quoted_files(message, bot)),
        note=_note(message, bot),
        quoted=tuple(_quoted_authors(message, bot)),
        forwarded=bool(message.get("forward_origin")),
        album=message.get("media_group_id"),
        cut=_cut_at(message) if kind == "new" else None,
        addressed=address.kind == "direct" or bool(mentions) or _replies_to_bot(message, bot),
    )


def _cut_at(message: Json) -> Literal["", "\n"] | None:
    units = len(str(message.get("text") or "").encode("utf-16-le", "replace")) // 2
    if units <= LIMIT // 2 or message.get("forward_origin"):
        return None
    # Blanks at both ends of a message are removed.
    return "" if units == LIMIT else "\n"


def _is_for_bot(username: str | None, bot: Bot) -> bool:
    return username is None or bot.username is None or username.lower() == bot.username.lower()


# --- sender and address ----------------------------------------------------------------------------------------------


def _address(message: Json, bot: Bot) -> Address:
    chat = message["chat"]
    # Replies in ordinary groups have a message_thread_id too; only topics are conversations of their own.
    thread = str(message["message_thread_id"]) if message.get("is_topic_message") else None
    kind: Literal["direct", "group"] = "direct" if chat["type"] == "private" else "group"
    return Address(bot.channel, bot.account, str(chat["id"]), thread, kind)


def _sender(message: Json) -> Sender:
    if chat := message.get("sender_chat"):
        # An anonymous administrator or a channel, in whose name several people may write; `from` is then a placeholder.
        return Sender(str(chat["id"]), _clean(_title(chat)), chat.get("username"), "system")
    return _user(message["from"])


def _user(user: Json) -> Sender:
    id = str(user["id"])
    kind: AccountKind = "bot" if user.get("is_bot") is True else "system" if id == _SERVICE else "person"
    return Sender(id, _clean(_title(user)), user.get("username"), kind)


def _title(someone: Json) -> str:
    """The name of a user or a chat."""
    names = [someone.get("title") or someone.get("first_name"), someone.get("last_name")]
    return " ".join(filter(None, names)) or someone.get("username") or str(someone["id"])


def _is_bot(user: Json | None, bot: Bot) -> bool:
    return user is not None and str(user.get("id")) == bot.account


# --- content ---------------------------------------------------------------------------------------------------------


def _clean(text: str) -> str:
    """JSON may contain half of a surrogate pair, which cannot be stored."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _text(message: Json) -> str:
    written = message.get("text") or message.get("caption")
    return _clean(written if written is not None else _described(message))


def _described(message: Json) -> str:
    """Contents that are neither text nor files, in words."""
    if sticker := message.get("sticker"):
        return str(sticker.get("emoji") or "[sticker]")
    if venue := message.get("venue"):
        return f"[place: {venue['title']}, {venue['address']} ({_coordinates(venue['location'])})]"
    if location := message.get("location"):
        return f"[location: {_coordinates(location)}]"
    if contact := message.get("contact"):
        name = " ".join(filter(None, (contact["first_name"], contact.get("last_name"))))
        return f"[contact: {name}, {contact['phone_number']}]"
    if poll := message.get("poll"):
        return f"[poll: {poll['question']} {' / '.join(option['text'] for option in poll['options'])}]"
    if dice := message.get("dice"):
        return f"{dice['emoji']} {dice['value']}"
    return ""


def _coordinates(location: Json) -> str:
    return f"{location['latitude']}, {location['longitude']}"


_FILES = {
    "animation": ("animation", ".mp4", "video/mp4"),
    "document": ("file", "", "application/octet-stream"),
    "voice": ("voice", ".ogg", "audio/ogg"),
    "audio": ("audio", ".mp3", "audio/mpeg"),
    "video": ("video", ".mp4", "video/mp4"),
    "video_note": ("video", ".mp4", "video/mp4"),
}


def _files(message: Json) -> Iterator[FileRef]:
    if sizes := message.get("photo"):
        # Telegram lists the largest last.
        yield _file(sizes[-1], "photo", ".jpg", "image/jpeg")
    for kind, (name, suffix, media_type) in _FILES.items():
        if file := message.get(kind):
            yield _file(file, name, suffix, media_type)
            # An animation is also listed as a document.
            return


def _file(file: Json, name: str, suffix: str, media_type: str) -> FileRef:
    name = file.get("file_name") or f"{name}-{file['file_unique_id']}{suffix}"
    return FileRef(file["file_id"], _clean(name), file.get("mime_type") or media_type, file.get("file_size"))


# --- mentions --------------------------------------------------------------------------------------------------------


def _mentions(message: Json, text: str, bot: Bot) -> tuple[tuple[int, int], ...]:
    """The mentions of the bot in the text, as start and end in UTF-16 units."""
    name = f"@{bot.username}".lower()
    return tuple(
        (start, end)
        for entity in _entities(message)
        if entity["type"] in ("mention", "text_mention")
        for start, end in [_span(entity)]
        if _is_bot(entity.get("user"), bot) or _cut(text, start, end).lower() == name
    )


def _entities(message: Json) -> Sequence[Json]:
    return message.get("entities") or message.get("caption_entities") or ()


def _span(entity: Json) -> tuple[int, int]:
    """Its start and end, in UTF-16 units."""
    return entity["offset"], entity["offset"] + entity["length"]


def _cut(text: str, start: int, end: int) -> str:
    return text.encode("utf-16-le")[2 * start : 2 * end].decode("utf-16-le", "replace")


def _expanded(message: Json, text: str, mentions: tuple[tuple[int, int], ...]) -> str:
    """The text without the bot's name, and with the URLs and names that are only in its formatting."""
    hidden = [(_span(entity), f" ({extra})") for entity in _entities(message) if (extra := _hidden(entity, text))]
    added = [((end, end), extra) for (start, end), extra in hidden if (start, end) not in mentions]
    for (start, end), extra in sorted([*added, *((mention, "") for mention in mentions)], reverse=True):
        before, after = _cut(text, 0, start), _cut(text, end, len(text) * 2)
        if not extra:
            # "ask @bot now" becomes "ask now"; "@bot, now" becomes "now".
            after = after.lstrip(" ,:") if not before or before[-1].isspace() else after
        text = before + extra + after
    return text.strip() if mentions else text


def _hidden(entity: Json, text: str) -> str:
    """The URL of a link or the name of a mention, if the text does not show it."""
    shown = _cut(text, *_span(entity))
    match entity["type"]:
        case "text_link":
            extra = str(entity["url"])
        case "text_mention":
            extra = _title(entity["user"])
        case _:
            return ""
    return "" if extra.strip("/") in shown or shown in extra.split() else _clean(extra)


def _replies_to_bot(message: Json, bot: Bot) -> bool:
    replied = message.get("reply_to_message")
    # Every message in a topic is a reply to the service message that created the topic.
    return replied is not None and "forum_topic_created" not in replied and _is_bot(replied.get("from"), bot)


# --- context ---------------------------------------------------------------------------------------------------------


def _note(message: Json, bot: Bot) -> str:
    return "\n".join(filter(None, (_reply_note(message, bot), _forward_note(message))))


def _reply_note(message: Json, bot: Bot) -> str:
    replied = message.get("reply_to_message") or message.get("external_reply")
    if not replied or "forum_topic_created" in replied:
        return ""
    quote = message.get("quote")
    quoted = _clean(quote["text"]) if quote else _text(replied) or _kind(replied)
    if len(quoted) > _MAX_QUOTE:
        quoted = f"{quoted[:_MAX_QUOTE]}…"
    whom = "your message" if _is_bot(replied.get("from"), bot) else _author(replied)
    return f'In reply to {whom}: "{quoted}"' if quoted else f"In reply to {whom}"


def _quoted_authors(message: Json, bot: Bot) -> Iterator[Sender]:
    """Who wrote what the note quotes; not the bot itself."""
    replied = message.get("reply_to_message") or message.get("external_reply")
    if replied and "forum_topic_created" not in replied and not _is_bot(replied.get("from"), bot):
        origin = replied.get("forward_origin") or replied.get("origin")
        has_author = replied.get("from") or replied.get("sender_chat")
        yield _sender(replied) if has_author and not origin else _origin_author(origin or {})
    if origin := message.get("forward_origin"):
        yield _origin_author(origin)


def _origin_author(origin: Json) -> Sender:
    return _user(origin["sender_user"]) if origin.get("sender_user") else Sender.unknown(_origin(origin))


def _quoted_files(message: Json, bot: Bot) -> Iterator[FileRef]:
    """Files of the message replied to; the bot's own are already in the conversation."""
    replied = message.get("reply_to_message")
    if replied is None or _is_bot(replied.get("from"), bot):
        return iter(())
    return (replace(file, is_quoted=True) for file in _files(replied))


def _author(replied: Json) -> str:
    if origin := replied.get("origin"):
        return _origin(origin)
    someone = replied.get("sender_chat") or replied.get("from")
    return _clean(_title(someone)) if someone else "a message"


def _kind(message: Json) -> str:
    names = {"photo": "photo", "voice": "voice message", "video_note": "video", "animation": "animation"}
    for kind in ("photo", *_FILES):
        if file := message.get(kind):
            named = file.get("file_name") if isinstance(file, dict) else None
            return f"[{names.get(kind, kind)}{f' {_clean(named)}' if named else ''}]"
    return ""


def _forward_note(message: Json) -> str:
    origin = message.get("forward_origin")
    return f"Forwarded from {_origin(origin)}" if origin else ""


def _origin(origin: Json) -> str:
    """https://core.telegram.org/bots/api#messageorigin"""
    if name := origin.get("sender_user_name"):
        return _clean(name)
    someone = origin.get("sender_user") or origin.get("sender_chat") or origin.get("chat")
    return _clean(_title(someone)) if someone else "somebody"
