"""Slack events (raw JSON) to messages. Pure; names are those of https://docs.slack.dev/reference/events."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Literal

from channels.address import AccountKind, Address, Membership, Sender
from channels.message import ForeignText, InboundMessage, MessageKind
from channels.slack.content import (
    Json as Json,
)
from channels.slack.content import (
    author_name,
    files_of,
    lost_files,
    previews,
    quoted,
    readable,
    shared,
    written,
)
from channels.visible import clean, dicts, either, unreadable

STOP = "stop:"
"""Prefix of a stop button's data; the run id follows."""

ANSWER = "answer:"
"""Prefix of an option button's data; the question's key, ":" and the option's number follow."""

_AUTHORED = (None, "bot_message", "file_share", "me_message", "thread_broadcast")
"""Subtypes of messages by people and bots. The others are Slack's own: https://docs.slack.dev/reference/events/message"""

SLACKBOT = "USLACKBOT"
_COMMAND = re.compile(r"!([A-Za-z][A-Za-z0-9_-]{0,63})(?:\s+(.*))?", re.DOTALL)
_ID = re.compile(r"[UW][A-Z0-9]+")
_NAMED = re.compile(r"<@([UW][A-Z0-9]+)|<#([CGD][A-Z0-9]+)(?:\|)?>")
_MAX_QUOTE = 4000
"""Characters of a forwarded message in the note."""


Replies = Literal["thread", "channel"]


@dataclass(frozen=True, slots=True)
class Bot:
    """The app itself. `account` is its user id, `bot_id` identifies its own messages, `team` is its workspace.
    `replies`: whether it replies to a message of a channel in a thread or in the channel. `reaction_answers`: whether
    reactions on its messages may be answers."""

    channel: str
    account: str
    bot_id: str
    team: str
    name: str
    replies: Replies = "thread"
    reaction_answers: bool = False


def parse(body: Json, bot: Bot, names: Mapping[str, Sender], now: datetime) -> InboundMessage | None:
    """The person's message, or None when it is not for the bot.

    `names` has the known names for the ids of `people(body)`; `now` dates events without a date.
    Raises one of `channels.visible.MALFORMED`.
    """
    match body.get("type"):
        case "event_callback":
            return _event(body, bot, names, now)
        case "block_actions":
            return _button(body, bot, names, now)
        case None if "command" in body:
            return _slash(body, bot, names, now)
    return None


@dataclass(frozen=True, slots=True)
class Pane:
    """Where somebody has opened the app to write to it; only the older kind of apps has a `thread` then."""

    chat: str
    thread: str | None


def opened_pane(body: Json) -> Pane | None:
    """https://docs.slack.dev/reference/events/assistant_thread_started and, for apps with an `agent_view`,
    https://docs.slack.dev/reference/events/app_home_opened"""
    event = _dict(body.get("event"))
    match event.get("type"):
        case "assistant_thread_started":
            thread = _dict(event.get("assistant_thread"))
            chat, ts = thread.get("channel_id"), thread.get("thread_ts")
            return Pane(chat, ts) if isinstance(chat, str) and isinstance(ts, str) else None
        case "app_home_opened" if event.get("tab") == "messages" and isinstance(event.get("channel"), str):
            return Pane(event["channel"], None)
    return None


def people(body: Json) -> frozenset[str]:
    """The ids of people and channels whose names `parse` needs."""
    event = _dict(body.get("event"))
    found: set[str] = set()
    for message in (event, _dict(event.get("message")), _dict(event.get("previous_message"))):
        found |= people_in(message)
    found |= {match for match in _ids(body.get("text")) if "command" in body}
    # For buttons and slash commands, Slack sends the handle only.
    found |= {user for user in (body.get("user_id"), _dict(body.get("user")).get("id")) if isinstance(user, str)}
    return frozenset(found)


def author_id(body: Json) -> str | None:
    """The user who wrote, pressed or changed it; None for other events."""
    event = _dict(body.get("event"))
    changed = _dict(event.get("message")) or _dict(event.get("previous_message"))
    for user in (changed.get("user"), event.get("user"), body.get("user_id"), _dict(body.get("user")).get("id")):
        if isinstance(user, str):
            return user
    return None


def people_in(message: Json) -> frozenset[str]:
    """The ids of the author and of mentioned people and channels."""
    passed_on = shared(message)
    found = {id for part in (message, *passed_on) for id in _ids(written(part))}
    authors = (message.get("user"), *(part.get("author_id") for part in passed_on))
    return frozenset(found.union(id for id in authors if isinstance(id, str) and _ID.fullmatch(id)))


def chat_of(body: Json) -> str:
    """The channel of the event; "" if it has none."""
    event, container, named = _dict(body.get("event")), _dict(body.get("container")), _dict(body.get("channel"))
    for chat in (
        event.get("channel"),
        _dict(event.get("item")).get("channel"),
        container.get("channel_id"),
        named.get("id"),
        body.get("channel_id"),
    ):
        if isinstance(chat, str):
            return chat
    return ""


def time_of(body: Json, now: float) -> float:
    """When it happened, in seconds since 1970; `now` if Slack does not say."""
    event = _dict(body.get("event"))
    for action in (event, *dicts(body.get("actions"))):
        try:
            return float(action.get("event_ts") or action.get("action_ts") or action["ts"])
        except (KeyError, TypeError, ValueError):
            continue
    return now


def _dict(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _ids(text: object) -> Iterator[str]:
    if isinstance(text, str):
        yield from (user or channel for user, channel in _NAMED.findall(text))


# --- messages --------------------------------------------------------------------------------------------------------


def _event(body: Json, bot: Bot, names: Mapping[str, Sender], now: datetime) -> InboundMessage | None:
    event = body["event"]
    if event["type"] == "agent_session_stopped":
        return _stopped(event, body["event_id"], bot, names, now)
    if event["type"] == "reaction_added":
        return _reaction(event, bot, names) if bot.reaction_answers else None
    if event["type"] == "channel_id_changed":
        return _moved(event, body["event_id"], bot)
    if event["type"] not in ("message", "app_mention"):
        return None
    chat = _Chat(event["channel"], _is_direct(event["channel"], event.get("channel_type")))
    match event.get("subtype"):
        case "message_changed" if event["message"].get("subtype") == "tombstone":
            # The remains of a deleted message that had replies.
            return _withdrawn(event["previous_message"], event, chat, bot, names)
        case "message_changed":
            return _edited(event, chat, bot, names)
        case "message_deleted":
            return _withdrawn(event["previous_message"], event, chat, bot, names)
        case subtype if subtype in _AUTHORED:
            if event["type"] == "app_mention" and (edited_at := _dict(event.get("edited")).get("ts")):
                # The mention was written into an older message, which the event `message_changed` tells too.
                return _message(event, chat, bot, names, "edited", edited_at, f":edited:{edited_at}")
            return _message(event, chat, bot, names, "new", event["ts"], "")
    return None


_DIGITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_ANSWERS = {
    **dict.fromkeys(("white_check_mark", "heavy_check_mark", "ballot_box_with_check", "+1", "thumbsup"), "yes"),
    **dict.fromkeys(("x", "heavy_multiplication_x", "negative_squared_cross_mark", "-1", "thumbsdown"), "no"),
    **{name: str(number) for number, name in enumerate(_DIGITS, 1)},
}
"""What reactions answer, by Slack's names."""


def _reaction(event: Json, bot: Bot, names: Mapping[str, Sender]) -> InboundMessage | None:
    """https://docs.slack.dev/reference/events/reaction_added: it does not say in which thread the message is."""
    item, user = event["item"], event["user"]
    answer = _ANSWERS.get(event["reaction"].partition("::")[0])
    if answer is None or item.get("type") != "message" or event.get("item_user") != bot.account or user == bot.account:
        return None
    chat, ts = item["channel"], item["ts"]
    return InboundMessage(
        f"{bot.team}:{chat}:{ts}:reacted:{user}:{event['event_ts']}",
        Address(bot.channel, bot.account, chat, None, "direct" if _is_direct(chat) else "group"),
        names.get(user) or unknown(user),
        _date(event["event_ts"]),
        kind="reaction",
        message_id=ts,
        text=answer,
    )


def _moved(event: Json, event_id: str, bot: Bot) -> InboundMessage:
    """https://docs.slack.dev/reference/events/channel_id_changed"""
    address = Address(bot.channel, bot.account, event["old_channel_id"], None, "group")
    sent_at = _date(event["event_ts"])
    return InboundMessage(event_id, address, Sender.unknown(), sent_at, kind="moved", text=event["new_channel_id"])


@dataclass(frozen=True, slots=True)
class _Chat:
    id: str
    direct: bool


def _is_direct(channel: str, kind: str | None = None) -> bool:
    # An app_mention does not say what kind of channel it comes from; direct messages begin with D.
    return kind == "im" or (kind is None and channel.startswith("D"))


def _edited(event: Json, chat: _Chat, bot: Bot, names: Mapping[str, Sender]) -> InboundMessage | None:
    """An edit by its author, or an update by Slack: the preview of a link, a file that was deleted."""
    message, before = event["message"], _dict(event.get("previous_message"))
    if not is_authored(message):
        return None
    edited_at = _dict(message.get("edited")).get("ts")
    has_new_words = not before or _content(before) != _content(message)
    if has_new_words and (edited_at or not before) and edited_at != _dict(before.get("edited")).get("ts", ""):
        at = edited_at or event["event_ts"]
        return _message(message, chat, bot, names, "edited", at, f":edited:{at}")
    if not has_new_words and _added(before) == _added(message):
        # A reply count, a renamed file.
        return None
    at = event["event_ts"]
    update = _message(message, chat, bot, names, "edited", at, f":updated:{at}")
    return None if update is None else replace(update, is_update=True)


def _content(message: Json) -> tuple[str, list[str]]:
    return written(message), [str(file.get("id")) for file in dicts(message.get("files"))]


def _added(message: Json) -> tuple[list[str], list[tuple[str, str]]]:
    """What Slack adds to a message some time after it was written."""
    return [written(part) for part in shared(message)], list(previews(message, {}))


def _withdrawn(message: Json, event: Json, chat: _Chat, bot: Bot, names: Mapping[str, Sender]) -> InboundMessage | None:
    if is_own(message, bot) or not is_authored(message):
        return None
    ts = message["ts"]
    return InboundMessage(
        f"{bot.team}:{chat.id}:{ts}:deleted",
        _address(chat, message, bot),
        sender_of(message, names),
        _date(event["event_ts"]),
        kind="withdrawn",
        message_id=ts,
    )


def _message(
    message: Json, chat: _Chat, bot: Bot, names: Mapping[str, Sender], kind: MessageKind, at: str, suffix: str
) -> InboundMessage | None:
    """`at` is when it was written or edited, `suffix` distinguishes the edits of one message."""
    return either(
        partial(_read, message, chat, bot, names, kind, at, suffix),
        partial(_raw, message, chat, bot, names, kind, suffix),
    )


def _raw(
    message: Json, chat: _Chat, bot: Bot, names: Mapping[str, Sender], kind: MessageKind, suffix: str
) -> InboundMessage | None:
    """With its words only, as Slack sends them."""
    if is_own(message, bot):
        return None
    text, ts = message.get("text"), message["ts"]
    words = clean(text) if isinstance(text, str) and text else unreadable("a message")
    return InboundMessage(
        f"{bot.team}:{chat.id}:{ts}{suffix}",
        _address(chat, message, bot),
        sender_of(message, names),
        _date(ts),
        kind=kind,
        message_id=ts,
        text=words,
        addressed=chat.direct or f"<@{bot.account}" in words or message.get("type") == "app_mention",
        follows=message.get("thread_ts", ts) != ts,
    )


def _read(
    message: Json, chat: _Chat, bot: Bot, names: Mapping[str, Sender], kind: MessageKind, at: str, suffix: str
) -> InboundMessage | None:
    text, passed_on = written(message), shared(message)
    files = (*files_of(message), *(replace(file, is_quoted=True) for file in files_of(*passed_on)))
    foreign = tuple(ForeignText(source, preview) for source, preview in previews(message, names))
    lost = "\n".join(lost_files(message))
    if is_own(message, bot) or not (text or lost or files or passed_on or foreign):
        return None
    event, ts = f"{bot.team}:{chat.id}:{message['ts']}{suffix}", message["ts"]
    address, sender, sent_at = _address(chat, message, bot), sender_of(message, names), _date(at)
    unmentioned, mentioned = _without_mention(text, bot)
    readable_text = readable(unmentioned, names)
    addressed = chat.direct or mentioned or message.get("type") == "app_mention"
    in_thread = message.get("thread_ts", ts) != ts
    follows = in_thread and not addressed
    # A forwarded text is not the sender's own command.
    command = None if files or passed_on else _COMMAND.fullmatch(readable_text.strip())
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
            message_id=ts,
            command=command[1].lower(),
            text=(command[2] or "").strip(),
            addressed=addressed,
            follows=follows,
        )
    words = readable_text if text else "\n\n".join(readable(written(part), names) for part in passed_on)
    return InboundMessage(
        event,
        address,
        sender,
        sent_at,
        kind=kind,
        message_id=ts,
        text="\n".join(filter(None, (words, lost))),
        files=files,
        note="\n".join(_note(part, names, quoting=bool(text)) for part in passed_on),
        quoted=tuple(
            names.get(part.get("author_id", "")) or Sender.unknown(author_name(part, names)) for part in passed_on
        ),
        forwarded=bool(passed_on) and not text,
        foreign=foreign,
        addressed=addressed,
        follows=follows,
        thread_root=message["thread_ts"] if in_thread else None,
        has_talk=addressed and not chat.direct and (in_thread or bot.replies == "channel"),
    )


def _stopped(event: Json, event_id: str, bot: Bot, names: Mapping[str, Sender], now: datetime) -> InboundMessage:
    """Slack's own stop button: https://docs.slack.dev/reference/events/agent_session_stopped"""
    chat = _Chat(event["channel"], _is_direct(event["channel"]))
    user = event["user"]
    return InboundMessage(
        f"{bot.team}:{chat.id}:stopped:{event_id}",
        Address(bot.channel, bot.account, chat.id, event.get("thread_ts"), "direct" if chat.direct else "group"),
        names.get(user) or unknown(user),
        now,
        kind="command",
        command="stop",
    )


def _button(body: Json, bot: Bot, names: Mapping[str, Sender], now: datetime) -> InboundMessage | None:
    action, user = body["actions"][0], body["user"]
    pressed = _pressed(action.get("value", ""))
    if not pressed:
        return None
    command, text = pressed
    message, container = _dict(body.get("message")), _dict(body.get("container"))
    chat, ts = chat_of(body), container.get("message_ts") or message["ts"]
    thread = message.get("thread_ts") or container.get("thread_ts")
    press = body.get("trigger_id") or f"{user['id']}:{action['action_ts']}"
    return InboundMessage(
        f"{bot.team}:{chat}:{ts}:pressed:{press}",
        Address(bot.channel, bot.account, chat, thread, "direct" if _is_direct(chat) else "group"),
        names.get(user["id"]) or unknown(user["id"]),
        now,
        kind="command",
        message_id=ts,
        command=command,
        text=text,
    )


def _pressed(data: str) -> tuple[str, str] | None:
    """The button's command and its arguments; None for a button that is not ours."""
    if data.startswith(STOP):
        return "stop", data.removeprefix(STOP)
    key, _, option = data.removeprefix(ANSWER).rpartition(":")
    return ("answer", f"{key} {option}") if data.startswith(ANSWER) and key and option.isdecimal() else None


def _slash(body: Json, bot: Bot, names: Mapping[str, Sender], now: datetime) -> InboundMessage:
    """One slash command for all: its first word is the command. Slack has no slash commands in threads."""
    chat, user = body["channel_id"], body["user_id"]
    is_direct = body.get("channel_name") == "directmessage" or _is_direct(chat)
    command, *arguments = readable(body.get("text") or "", names).split(maxsplit=1) or ["help"]
    return InboundMessage(
        f"{bot.team}:{chat}:command:{body['trigger_id']}",
        Address(bot.channel, bot.account, chat, None, "direct" if is_direct else "group"),
        names.get(user) or unknown(user),
        now,
        kind="command",
        command=command.lstrip("/!").lower() or "help",
        text=arguments[0].strip() if arguments else "",
    )


# --- sender and address ----------------------------------------------------------------------------------------------


def _address(chat: _Chat, message: Json, bot: Bot) -> Address:
    """In channels every conversation is a thread, and a message outside of one starts its own, unless the bot replies
    in the channel itself."""
    if chat.direct:
        return Address(bot.channel, bot.account, chat.id, message.get("thread_ts"), "direct")
    thread = message.get("thread_ts") or (None if bot.replies == "channel" else message["ts"])
    return Address(bot.channel, bot.account, chat.id, thread, "group")


def is_authored(message: Json) -> bool:
    """Whether a person or bot wrote it. Slack writes messages of its own, also in place of deleted ones."""
    return message.get("subtype") in _AUTHORED


def is_own(message: Json, bot: Bot) -> bool:
    """Whether the app itself wrote it."""
    return message.get("user") == bot.account or (bool(bot.bot_id) and message.get("bot_id") == bot.bot_id)


def sender_of(message: Json, names: Mapping[str, Sender]) -> Sender:
    """The author: a person, or another program."""
    user, bot_id = message.get("user"), message.get("bot_id")
    if not user:
        profile, id = _dict(message.get("bot_profile")), message["bot_id"]
        return Sender(id, clean(message.get("username") or profile.get("name") or id), kind="bot")
    known = names.get(user) or unknown(user)
    if user == SLACKBOT:
        return replace(known, kind="system")
    # A program that posts with a person's own token has both; the person answers for it.
    return replace(known, kind="bot") if bot_id and user not in names else known


def unknown(user: str) -> Sender:
    """Somebody of whom Slack does not tell the app anything: nobody of this workspace."""
    return Sender(user, user, membership="outsider")


def user_sender(user: Json, team: str) -> Sender:
    """`team` is the app's workspace. https://docs.slack.dev/reference/objects/user-object"""
    profile = _dict(user.get("profile"))
    names = (profile.get("display_name"), profile.get("real_name"), user.get("real_name"), user.get("name"))
    name = next(filter(None, names), user["id"])
    kind: AccountKind = "bot" if user.get("is_bot") is True else "person"
    return Sender(user["id"], clean(name), user.get("name"), kind, _membership(user, team))


def _membership(user: Json, team: str) -> Membership:
    """Of an organisation with several workspaces, Slack lists those that the user is in."""
    teams = {user.get("team_id"), *(_dict(user.get("enterprise_user")).get("teams") or ())}
    if user.get("is_stranger") or (team and team not in teams):
        return "outsider"
    return "guest" if user.get("is_restricted") or user.get("is_ultra_restricted") else "member"


def _date(ts: str) -> datetime:
    return datetime.fromtimestamp(float(ts), UTC)


# --- content ---------------------------------------------------------------------------------------------------------


def _without_mention(text: str, bot: Bot) -> tuple[str, bool]:
    """The text without mentions of the bot, and whether there were any."""
    mentions = list(re.finditer(rf"<@{re.escape(bot.account)}(?:\|[^<>]*)?>", text))
    for mention in reversed(mentions):
        before, after = text[: mention.start()], text[mention.end() :]
        # "ask @bot now" becomes "ask now"; "@bot, now" becomes "now".
        text = before + (after.lstrip(" ,:") if not before or before[-1].isspace() else after)
    return (text.strip(), True) if mentions else (text, False)


def _note(passed_on: Json, names: Mapping[str, Sender], *, quoting: bool) -> str:
    if not quoting:
        return f"Forwarded from {author_name(passed_on, names)}"
    note = quoted(passed_on, names)
    return note if len(note) <= _MAX_QUOTE else f'{note[:_MAX_QUOTE]}…"'
