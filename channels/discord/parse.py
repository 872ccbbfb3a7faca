"""Discord events (raw JSON) to messages. Pure; names are those of https://discord.com/developers/docs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal
from zlib import crc32

from channels.address import AccountKind, Address, Sender
from channels.discord.content import Json as Json
from channels.discord.content import (
    channel_name,
    display_name,
    files_of,
    previews,
    readable,
    shared,
    spoken,
    whole,
    written,
)
from channels.discord.directory import Directory
from channels.message import FileRef, ForeignText, InboundMessage, MessageKind
from channels.reactions import answer_of
from channels.visible import clean, either, part, unreadable

STOP = "stop:"
"""Prefix of a stop button's data; the run id follows."""

ANSWER = "answer:"
"""Prefix of an option button's data; the question's key, ":" and the option's number follow."""

ARGUMENTS = "arguments"
"""The one option of every application command."""

PING, COMMAND, BUTTON = 1, 2, 3
"""Types of interactions."""

_AUTHORED = frozenset({0, 19, 20, 23})
"""Types of messages by people and bots: ordinary ones, replies, answers to commands. The others are Discord's own."""

_PRIVATE_CHANNEL = 2
"""The context of an interaction in a private chat of others."""

_GUILD_INSTALL = "0"
"""In an interaction's owners: the server has installed the app."""

_FORWARD = 1
_COMMAND = re.compile(r"/([A-Za-z0-9_-]{1,64})(?:\s+(.*))?", re.DOTALL)
_MAX_QUOTE = 4000
"""Characters of a quoted message in the note."""

_REPLY = 19
"""The type of a message that replies: https://discord.com/developers/docs/resources/message#message-object-message-types."""

_UNREADABLE_NOTE = "In reply to a message that I cannot read"


@dataclass(frozen=True, slots=True)
class Bot:
    """The bot itself. `account` is its user id."""

    channel: str
    account: str


def parse(
    event: str, data: Json, bot: Bot, directory: Directory, authors: Mapping[str, Sender], now: datetime
) -> InboundMessage | None:
    """The person's message, or None when it is not for the bot.

    `authors` by message id: Discord does not say who wrote a deleted message. `now` dates events without a date.
    Raises one of `channels.visible.MALFORMED`.
    """
    match event:
        case "MESSAGE_CREATE":
            return _read(data, bot, directory, "new", now)
        case "MESSAGE_UPDATE" if data.get("edited_timestamp") and "author" in data:
            return _read(data, bot, directory, "edited", now)
        case "MESSAGE_UPDATE" if data.get("embeds") and "author" in data:
            # Without the time of an edit, the change is Discord's own: previews of links come after the message.
            return _updated(data, bot, directory, now)
        case "MESSAGE_DELETE":
            return _withdrawn(data, bot, authors, now)
        case "INTERACTION_CREATE":
            return _interaction(data, bot, now)
        case "MESSAGE_REACTION_ADD":
            return _reaction(data, bot, authors, now)
    return None


def _reaction(data: Json, bot: Bot, authors: Mapping[str, Sender], now: datetime) -> InboundMessage | None:
    """https://discord.com/developers/docs/events/gateway-events#message-reaction-add: in direct messages it has only
    the id of whoever reacts."""
    user, answer = str(data["user_id"]), answer_of(str(data["emoji"].get("name") or ""))
    if answer is None or user == bot.account or str(data.get("message_author_id") or bot.account) != bot.account:
        return None
    if data.get("member"):
        sender = member(data["member"])
    else:
        sender = next((each for each in authors.values() if each.id == user), Sender(user, user))
    message_id = str(data["message_id"])
    return InboundMessage(
        f"{message_id}:reacted:{user}:{answer}",
        _address(data, bot),
        sender,
        now,
        kind="reaction",
        message_id=message_id,
        text=answer,
    )


def split(event: str, data: Json) -> Iterator[tuple[str, Json]]:
    """One event per message: deletions may come in bulk."""
    if event != "MESSAGE_DELETE_BULK":
        yield event, data
        return
    for id in data["ids"]:
        yield "MESSAGE_DELETE", {**data, "id": id}


def chat_of(event: str, data: Json) -> str:
    """The channel of a message or interaction; "" for other events."""
    if event.startswith("MESSAGE_") or event == "INTERACTION_CREATE":
        return str(data["channel_id"])
    return ""


def is_said(message: Json) -> bool:
    """Whether somebody wrote it: it is not Discord's own."""
    return message.get("type", 0) in _AUTHORED


def author(message: Json) -> Sender:
    """The author, with the nickname in the guild."""
    user, webhook = message["author"], message.get("webhook_id")
    # An app may answer through a webhook of its own; the author is then the app's bot.
    kind: AccountKind = "webhook" if webhook and str(webhook) == str(user["id"]) else _kind(user)
    if webhook and kind == "person":
        kind = "bot"
    return Sender(str(user["id"]), display_name(user, message.get("member")), _handle(user), kind)


def member(data: Json) -> Sender:
    """From a member object: https://discord.com/developers/docs/resources/guild#guild-member-object"""
    user = data["user"]
    return Sender(str(user["id"]), display_name(user, data), _handle(user), _kind(user))


def _kind(user: Json) -> AccountKind:
    """https://discord.com/developers/docs/resources/user#user-object"""
    return "system" if user.get("system") else "bot" if user.get("bot") else "person"


def _handle(user: Json) -> str | None:
    """The username, if it is unique: those with a discriminator are not."""
    username: str | None = user.get("username")
    return username if str(user.get("discriminator") or "0") in ("0", "0000") else None


# --- messages --------------------------------------------------------------------------------------------------------


def _read(message: Json, bot: Bot, directory: Directory, kind: MessageKind, now: datetime) -> InboundMessage | None:
    return either(
        partial(_message, message, bot, directory, kind, now), partial(_raw, message, bot, directory, kind, now)
    )


def _updated(message: Json, bot: Bot, directory: Directory, now: datetime) -> InboundMessage | None:
    found = _read(message, bot, directory, "edited", now)
    if found is None:
        return None
    seen = "\n".join((found.text, *(each.text for each in found.foreign)))
    return replace(found, event_id=f"{message['id']}:updated:{crc32(seen.encode()):x}", is_update=True)


def _raw(message: Json, bot: Bot, directory: Directory, kind: MessageKind, now: datetime) -> InboundMessage | None:
    """With its words only, as Discord sends them."""
    sender, content, message_id = author(message), message.get("content"), str(message["id"])
    if sender.id == bot.account or not is_said(message):
        return None
    address = _address(message, bot)
    text = clean(content) if isinstance(content, str) and content else unreadable("a message")
    return InboundMessage(
        _event(message, kind),
        address,
        sender,
        _date(message, kind, now),
        kind=kind,
        message_id=message_id,
        text=text,
        addressed=address.kind == "direct" or bool(_mention_pattern(bot, directory).search(text)),
        follows=address.chat in directory.channels and directory.channels[address.chat].thread,
    )


def _event(message: Json, kind: MessageKind) -> str:
    id = str(message["id"])
    return f"{id}:edited:{message.get('edited_timestamp')}" if kind == "edited" else id


def _date(message: Json, kind: MessageKind, now: datetime) -> datetime:
    """When it was written or edited; `now` if that cannot be read."""
    return part(lambda each: datetime.fromisoformat(each).astimezone(UTC), _timestamp(message, kind), now)


def _timestamp(message: Json, kind: MessageKind) -> Any:
    return (kind == "edited" and message.get("edited_timestamp")) or message.get("timestamp")


def _message(message: Json, bot: Bot, directory: Directory, kind: MessageKind, now: datetime) -> InboundMessage | None:
    sender = author(message)
    if sender.id == bot.account or not is_said(message):
        return None
    address, mention = _address(message, bot), _mention_pattern(bot, directory)
    title, own, passed_on = _title(message, directory), written(message), shared(message)
    mentioned = bool(mention.search(spoken(message)))
    # A forwarded text is not the sender's own.
    words = own or "\n\n".join(written(each) for each in passed_on)
    quoted_files = part(_quoted_files, message, ())
    files = (*files_of(message), *quoted_files, *(file for each in passed_on for file in files_of(each)))
    foreign = part(_previews, message, ())
    if not (title or words or files or foreign):
        return None
    addressed = address.kind == "direct" or mentioned or part(partial(_replies_to_bot, bot=bot), message, False)
    text = _readable_text(_without(mention, words) if mentioned else words, message, directory)
    message_id = str(message["id"])
    event, sent_at = _event(message, kind), _date(message, kind, now)
    note = part(partial(_note, bot=bot, directory=directory), message, _UNREADABLE_NOTE)
    quoted = part(partial(_quoted_authors, bot=bot), message, (Sender.unknown(),))
    has_own_files = len(files) > len(quoted_files)
    command = _COMMAND.fullmatch(text.strip()) if addressed and not (has_own_files or passed_on) else None
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
            files=files,
            note=note,
            quoted=quoted,
            foreign=foreign,
            replies_to=part(_replies_to, message, None),
        )
    text = text or ("" if files or title or foreign else _readable_text(words, message, directory))
    channel = directory.channels.get(address.chat)
    in_thread = channel is not None and channel.thread
    return InboundMessage(
        event,
        address,
        sender,
        sent_at,
        kind=kind,
        message_id=message_id,
        text="\n\n".join(filter(None, (title, text))),
        files=files,
        note=note,
        quoted=quoted,
        forwarded=bool(passed_on) and not own,
        foreign=foreign,
        addressed=addressed,
        follows=in_thread,
        # A thread has the id of the message that started it.
        thread_root=address.chat if in_thread and message_id != address.chat else None,
        has_talk=addressed and address.kind == "group",
    )


def _title(message: Json, directory: Directory) -> str:
    """A forum's posts have a title, which is the name of the thread that they begin; it has the id of the post."""
    thread = directory.channels.get(str(message["channel_id"]))
    is_post = thread is not None and thread.thread and thread.id == str(message["id"])
    return f"# {clean(thread.name)}" if thread is not None and is_post else ""


def _previews(message: Json) -> tuple[ForeignText, ...]:
    replied = message.get("referenced_message")
    shown = (message, *([replied] if isinstance(replied, dict) else ()))
    return tuple(ForeignText(source, text) for each in shown for source, text in previews(each))


def _withdrawn(data: Json, bot: Bot, authors: Mapping[str, Sender], now: datetime) -> InboundMessage | None:
    message_id = str(data["id"])
    sender = authors.get(message_id) or Sender("", "")
    if sender.id == bot.account:
        return None
    return InboundMessage(
        f"{message_id}:deleted", _address(data, bot), sender, now, kind="withdrawn", message_id=message_id
    )


def _interaction(data: Json, bot: Bot, now: datetime) -> InboundMessage | None:
    if _is_elsewhere(data):
        return None
    member = data.get("member") or {}
    user = member.get("user") or data["user"]
    sender = Sender(str(user["id"]), display_name(user, member), _handle(user), _kind(user))
    action = (
        _pressed(data) if data["type"] == BUTTON else _application_command(data) if data["type"] == COMMAND else None
    )
    if action is None:
        return None
    command, text, message_id = action
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


def _is_elsewhere(data: Json) -> bool:
    """Whether it comes from a place without the bot: people may install an app for themselves, and use its commands in
    their private chats with others and in servers that do not have the bot.

    https://discord.com/developers/docs/interactions/receiving-and-responding#interaction-object-interaction-context-types
    """
    owners = data.get("authorizing_integration_owners")
    is_bots_guild = not data.get("guild_id") or owners is None or _GUILD_INSTALL in owners
    return data.get("context") == _PRIVATE_CHANNEL or not is_bots_guild


def _pressed(data: Json) -> tuple[str, str, str] | None:
    button, message_id = str(data["data"]["custom_id"]), str(data["message"]["id"])
    if button.startswith(STOP):
        return "stop", button.removeprefix(STOP), message_id
    if button.startswith(ANSWER):
        # The key of a question contains colons itself.
        key, _, number = button.removeprefix(ANSWER).rpartition(":")
        return "answer", f"{key} {number}", message_id
    return None


def _application_command(data: Json) -> tuple[str, str, str] | None:
    given = [str(option["value"]) for option in data["data"].get("options") or () if option["name"] == ARGUMENTS]
    # The interaction's id: the answer replies to it.
    return str(data["data"]["name"]), clean(" ".join(given)).strip(), str(data["id"])


# --- sender and address ----------------------------------------------------------------------------------------------


def _address(data: Json, bot: Bot) -> Address:
    kind: Literal["direct", "group"] = "group" if data.get("guild_id") else "direct"
    return Address(bot.channel, bot.account, str(data["channel_id"]), None, kind)


def _mention_pattern(bot: Bot, directory: Directory) -> re.Pattern[str]:
    roles = "|".join(sorted(directory.own_roles))
    return re.compile(rf"<@!?{bot.account}>" + (rf"|<@&(?:{roles})>" if roles else ""))


def _replies_to_bot(message: Json, bot: Bot) -> bool:
    return _is_bot(message.get("referenced_message"), bot) and not _is_forward(message)


def _is_bot(message: Json | None, bot: Bot) -> bool:
    return message is not None and str(message["author"]["id"]) == bot.account


# --- content ---------------------------------------------------------------------------------------------------------


def _without(mention: re.Pattern[str], text: str) -> str:
    for found in reversed(list(mention.finditer(text))):
        before, after = text[: found.start()], text[found.end() :]
        # "ask @bot now" becomes "ask now"; "@bot, now" becomes "now".
        text = before + (after.lstrip(" ,:") if not before or before[-1].isspace() else after)
    return text.strip()


def _readable_text(text: str, message: Json, directory: Directory) -> str:
    """The text with the names that the message, or what it passes on, has for its ids."""
    mentions = [user for each in (message, *shared(message)) for user in each.get("mentions") or ()]
    return readable(text, {"mentions": mentions}, directory)


# --- context ---------------------------------------------------------------------------------------------------------


def _note(message: Json, bot: Bot, directory: Directory) -> str:
    return _forward_note(message, directory) if _is_forward(message) else _reply_note(message, bot, directory)


def _replies_to(message: Json) -> str | None:
    """The id of the message that it replies to."""
    replied = message.get("message_reference") if message.get("type", 0) == _REPLY else None
    return None if replied is None else str(replied["message_id"])


def _is_forward(message: Json) -> bool:
    reference = message.get("message_reference")
    return reference is not None and reference.get("type") == _FORWARD


def _forward_note(message: Json, directory: Directory) -> str:
    """Discord does not say who wrote a forwarded message."""
    name = channel_name(str(message["message_reference"].get("channel_id")), directory)
    source = f"Forwarded from #{name}" if name else "Forwarded from another channel"
    if not written(message):
        return source
    texts = (readable(written(each), each, directory) for each in shared(message))
    return "\n".join(f'{source}: "{_shortened(text)}"' for text in texts)


def _reply_note(message: Json, bot: Bot, directory: Directory) -> str:
    if message.get("type", 0) != _REPLY:
        return ""
    replied = message.get("referenced_message")
    if not replied:
        return "In reply to a deleted message"
    text = _shortened(whole(replied, directory))
    quoted = " ".join(filter(None, (text, *(f"[file {file.name}]" for file in _all_files(replied)))))
    whom = "your message" if _is_bot(replied, bot) else author(replied).name
    return f'In reply to {whom}: "{quoted}"' if quoted else f"In reply to {whom}"


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_QUOTE else f"{text[:_MAX_QUOTE]}…"


def _quoted_authors(message: Json, bot: Bot) -> tuple[Sender, ...]:
    """Who wrote what the note quotes; not the bot itself. Discord does not say who wrote a forwarded message."""
    replied = message.get("referenced_message") if message.get("type", 0) == 19 else None
    if _is_forward(message) or (replied and _is_forward(replied)):
        return (Sender.unknown(),)
    return (author(replied),) if replied and not _is_bot(replied, bot) else ()


def _quoted_files(message: Json) -> tuple[FileRef, ...]:
    """Files of the message replied to. The bot's own may be of an earlier conversation."""
    replied = message.get("referenced_message") if message.get("type", 0) == 19 else None
    if replied is None:
        return ()
    return tuple(replace(file, is_quoted=True) for file in _all_files(replied))


def _all_files(message: Json) -> tuple[FileRef, ...]:
    return tuple(file for each in (message, *shared(message)) for file in files_of(each))


def quotable(message: Json, directory: Directory) -> tuple[str, str, tuple[FileRef, ...]]:
    """Author, text and files of a message that others refer to."""
    text = "\n\n".join(filter(None, (_title(message, directory), whole(message, directory))))
    return author(message).name, text, _all_files(message)
