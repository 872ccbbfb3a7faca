"""Telegram updates (raw JSON) to messages. Pure; field names are those of https://core.telegram.org/bots/api."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from channels.address import AccountKind, Address, Sender
from channels.message import FileRef, InboundMessage, MessageKind
from channels.reactions import answer_of
from channels.telegram import limits
from channels.telegram.content import entities, files, kind_of_file, raw_text, visible
from channels.telegram.formatting import Span, cut, markdown, name_of, span_of
from channels.visible import clean, part, unreadable

Json = dict[str, Any]

STOP = "stop:"
"""Prefix of a stop button's data; the run id follows."""

ANSWER = "answer:"
"""Prefix of an option button's data; the question's key, ":" and the option's number follow."""

MESSAGES = ("message", "edited_message", "channel_post", "edited_channel_post")
"""Updates that are messages: https://core.telegram.org/bots/api#update."""

_SERVICE = "777000"
"""Telegram's own account, in whose name posts of a linked channel come."""

_COMMAND = re.compile(r"/([A-Za-z0-9_][A-Za-z0-9_-]{0,63})(?:@(\w+))?(?:\s+(.*))?", re.DOTALL)
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
    messages = (update.get(kind) for kind in MESSAGES) if isinstance(update, dict) else ()
    message = next(filter(None, messages), None)
    chat = message.get("chat") if isinstance(message, dict) else None
    return isinstance(chat, dict) and chat.get("type") != "private"


def parse(update: Json, bot: Bot, now: datetime) -> InboundMessage | None:
    """The person's message, or None when it is not for the bot. `now` dates what has no date, like a pressed button.

    Raises one of `channels.visible.MALFORMED` if it does not say who did what where.
    """
    event = f"{bot.account}:{update['update_id']}"
    if message := update.get("message") or update.get("channel_post"):
        return _message(message, event, bot, "new", now)
    if message := update.get("edited_message") or update.get("edited_channel_post"):
        return _message(message, event, bot, "edited", now)
    if query := update.get("callback_query"):
        return _button(query, event, bot, now)
    if reaction := update.get("message_reaction"):
        return _reaction(reaction, event, bot)
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


def _reaction(reaction: Json, event: str, bot: Bot) -> InboundMessage | None:
    """https://core.telegram.org/bots/api#messagereactionupdated: it says neither whose message it is nor the topic."""
    before = [each.get("emoji") for each in reaction.get("old_reaction") or ()]
    new = (each.get("emoji") for each in reaction.get("new_reaction") or () if each.get("emoji") not in before)
    answer = next(filter(None, map(answer_of, filter(None, new))), None)
    if answer is None or not reaction.get("user"):
        return None
    return InboundMessage(
        event,
        _address(reaction, bot),
        _user(reaction["user"]),
        _date(reaction),
        kind="reaction",
        message_id=str(reaction["message_id"]),
        text=answer,
    )


def _pressed(data: str) -> tuple[str, str] | None:
    """The button's command and its arguments; None for a button that is not ours."""
    if data.startswith(STOP):
        return "stop", data.removeprefix(STOP)
    key, _, option = data.removeprefix(ANSWER).rpartition(":")
    return ("answer", f"{key} {option}") if data.startswith(ANSWER) and key and option.isdecimal() else None


def _message(message: Json, event: str, bot: Bot, kind: MessageKind, now: datetime) -> InboundMessage | None:
    """What cannot be read in it is named; the rest is read. Only whose message it is, and where, must be known."""
    if message["chat"]["type"] not in ("private", "group", "supergroup", "channel"):
        return None
    sent_at = part(_date, message, now)
    sender, address = _sender(message), _address(message, bot)
    if new_chat := message.get("migrate_to_chat_id"):
        # https://core.telegram.org/bots/api#message: the group was made a supergroup.
        return InboundMessage(event, address, sender, sent_at, kind="moved", text=str(new_chat))
    if sender.id == bot.account:
        return None
    mentions: Sequence[Span] = (
        part(lambda message: _mentions(message, bot), message, ()) if address.kind == "group" else ()
    )
    text, attached = visible(message, mentions), files(message)
    if not (text or attached or mentions):
        return None
    message_id = str(message["message_id"])
    # A forwarded text is not the sender's own command.
    command = None if attached or message.get("forward_origin") else _command(message, text)
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
            files=tuple(_quoted_files(message)),
            note=_note(message, bot),
            quoted=_quoted_authors(message, bot),
            replies_to=part(_replies_to, message, None),
        )
    is_addressed = address.kind == "direct" or bool(mentions) or _replies_to_bot(message, bot)
    return InboundMessage(
        event,
        address,
        sender,
        sent_at,
        kind=kind,
        message_id=message_id,
        text=(text.strip() if mentions else text) or ("" if attached else raw_text(message)),
        files=(*attached, *_quoted_files(message)),
        note=_note(message, bot),
        quoted=_quoted_authors(message, bot),
        forwarded=bool(message.get("forward_origin")),
        album=_id(message["media_group_id"]) if message.get("media_group_id") else None,
        # A live location is edited by the app as the person moves.
        is_update=kind == "edited" and "location" in message,
        cut=_cut_at(message) if kind == "new" else None,
        addressed=is_addressed,
        has_talk=is_addressed and address.kind == "group",
    )


def _command(message: Json, text: str) -> re.Match[str] | None:
    """Its name may be formatted; its arguments come with their formatting."""
    return _COMMAND.fullmatch(text.strip()) or _COMMAND.fullmatch(raw_text(message).strip())


def _date(message: Json) -> datetime:
    return datetime.fromtimestamp(message.get("edit_date") or message["date"], UTC)


def _id(value: object) -> str:
    return clean(str(value))


def _is_for_bot(username: str | None, bot: Bot) -> bool:
    return username is None or bot.username is None or username.lower() == bot.username.lower()


def _cut_at(message: Json) -> Literal["", "\n"] | None:
    units = len(str(message.get("text") or "").encode("utf-16-le", "replace")) // 2
    # Apps cut a text at the limit, or where a line or a word ends in the half before.
    if units <= limits.TEXT // 2 or message.get("forward_origin"):
        return None
    # Blanks at both ends of a message are removed.
    return "" if units == limits.TEXT else "\n"


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
        return Sender(str(chat["id"]), clean(name_of(chat)), chat.get("username"), "system")
    return _user(message["from"])


def _user(user: Json) -> Sender:
    id = str(user["id"])
    kind: AccountKind = "bot" if user.get("is_bot") is True else "system" if id == _SERVICE else "person"
    return Sender(id, clean(name_of(user)), user.get("username"), kind)


def _is_bot(user: object, bot: Bot) -> bool:
    return isinstance(user, dict) and str(user.get("id")) == bot.account


# --- mentions --------------------------------------------------------------------------------------------------------


def _mentions(message: Json, bot: Bot) -> tuple[Span, ...]:
    """Where the bot is mentioned in the text."""
    name, text = f"@{bot.username}".lower(), raw_text(message)
    return tuple(
        span_of(entity)
        for entity in entities(message)
        if entity["type"] in ("mention", "text_mention")
        and (_is_bot(entity.get("user"), bot) or cut(text, span_of(entity)).lower() == name)
    )


def _replies_to_bot(message: Json, bot: Bot) -> bool:
    replied = message.get("reply_to_message")
    if not isinstance(replied, dict) or "forum_topic_created" in replied:
        # Every message in a topic is a reply to the service message that created the topic.
        return False
    return _is_bot(replied.get("from"), bot)


def _replies_to(message: Json) -> str | None:
    """The id of the message of this chat that it replies to."""
    replied = message.get("reply_to_message")
    # Every message in a topic is a reply to the service message that created the topic.
    return None if not replied or "forum_topic_created" in replied else str(replied["message_id"])


# --- context ---------------------------------------------------------------------------------------------------------


def _note(message: Json, bot: Bot) -> str:
    replied = part(lambda message: _reply_note(message, bot), message, unreadable("the message replied to"))
    forwarded = part(_forward_note, message, "Forwarded from somebody")
    return "\n".join(filter(None, (replied, forwarded)))


def _reply_note(message: Json, bot: Bot) -> str:
    replied = _replied(message)
    if replied is None:
        story = message.get("reply_to_story")
        return f"In reply to a story of {clean(name_of(story['chat']))}" if story else ""
    quote = message.get("quote")
    quoted = _quote(quote) if quote else visible(replied) or kind_of_file(replied)
    if len(quoted) > _MAX_QUOTE:
        quoted = f"{quoted[:_MAX_QUOTE]}…"
    whom = "your message" if _is_bot(replied.get("from"), bot) else _author(replied)
    return f'In reply to {whom}: "{quoted}"' if quoted else f"In reply to {whom}"


def _quote(quote: Json) -> str:
    text = clean(str(quote["text"]))
    return part(lambda text: markdown(text, quote.get("entities") or ()), text, text)


def _replied(message: Json) -> Json | None:
    """The message that it replies to, of this chat or of another."""
    replied = message.get("reply_to_message") or message.get("external_reply")
    return None if not replied or "forum_topic_created" in replied else replied


def _quoted_authors(message: Json, bot: Bot) -> tuple[Sender, ...]:
    """Who wrote what the note quotes; not the bot itself."""
    replied = part(lambda message: _replied_author(message, bot), message, Sender.unknown())
    forwarded = part(_forwarded_author, message, Sender.unknown())
    return tuple(author for author in (replied, forwarded) if author is not None)


def _replied_author(message: Json, bot: Bot) -> Sender | None:
    replied = _replied(message)
    if replied is None or _is_bot(replied.get("from"), bot):
        return None
    origin = replied.get("forward_origin") or replied.get("origin")
    has_author = replied.get("from") or replied.get("sender_chat")
    return _sender(replied) if has_author and not origin else _origin_author(origin or {})


def _forwarded_author(message: Json) -> Sender | None:
    origin = message.get("forward_origin")
    return _origin_author(origin) if origin else None


def _origin_author(origin: Json) -> Sender:
    return _user(origin["sender_user"]) if origin.get("sender_user") else Sender.unknown(_origin(origin))


def _quoted_files(message: Json) -> Sequence[FileRef]:
    """Files of the message replied to. The bot's own may be in a conversation before the current one."""
    return part(lambda message: [replace(file, is_quoted=True) for file in files(_replied(message) or {})], message, ())


def _author(replied: Json) -> str:
    if origin := replied.get("origin"):
        return _origin(origin)
    someone = replied.get("sender_chat") or replied.get("from")
    return clean(name_of(someone)) if someone else "a message"


def _forward_note(message: Json) -> str:
    origin = message.get("forward_origin")
    return f"Forwarded from {_origin(origin)}" if origin else ""


def _origin(origin: Json) -> str:
    """https://core.telegram.org/bots/api#messageorigin"""
    if name := origin.get("sender_user_name"):
        return clean(name)
    someone = origin.get("sender_user") or origin.get("sender_chat") or origin.get("chat")
    return clean(name_of(someone)) if someone else "somebody"
