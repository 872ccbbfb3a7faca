"""Everything that people see in a Discord message, as text. Pure; names are those of
https://discord.com/developers/docs/resources/message and https://discord.com/developers/docs/components/reference."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import IntEnum
from functools import partial
from mimetypes import guess_type
from typing import Any
from urllib.parse import unquote, urlsplit

from channels.discord.directory import Directory
from channels.message import FileRef
from channels.visible import clean, dicts, part, unreadable

Json = dict[str, Any]

_LOADING = 1 << 7
"""A flag of answers that an app is still thinking about."""


class _Type(IntEnum):
    """Of components: https://discord.com/developers/docs/components/reference#component-object-component-types"""

    ACTION_ROW = 1
    BUTTON = 2
    STRING_SELECT = 3
    USER_SELECT = 5
    ROLE_SELECT = 6
    MENTIONABLE_SELECT = 7
    CHANNEL_SELECT = 8
    SECTION = 9
    TEXT_DISPLAY = 10
    THUMBNAIL = 11
    MEDIA_GALLERY = 12
    FILE = 13
    SEPARATOR = 14
    CONTAINER = 17


_PREVIEWS = frozenset({"link", "article", "video", "image", "gifv"})
"""Types of embeds that Discord makes of links."""

_ENVELOPE = frozenset(
    {
        *("id", "channel_id", "channel_type", "guild_id", "author", "member", "webhook_id", "application_id", "type"),
        *("timestamp", "edited_timestamp", "tts", "pinned", "flags", "nonce", "position", "reactions", "thread"),
        *("mentions", "mention_roles", "mention_everyone", "mention_channels", "resolved", "stickers"),
        *("message_reference", "referenced_message", "message_snapshots", "interaction", "interaction_metadata"),
        *("content", "attachments", "embeds", "components", "sticker_items", "poll"),
    }
)
"""Fields that are read, or that people do not see in the message itself."""

_MARKED = re.compile(
    r"<(?:@!?(?P<user>\d+)|@&(?P<role>\d+)|#(?P<channel>\d+)|a?(?P<emoji>:\w+:)\d+|t:(?P<time>-?\d{1,12})(?::\w)?"
    r"|(?P<command>/[^:<>]+):\d+|id:(?P<place>[a-z-]+))>"
)
"""https://discord.com/developers/docs/reference#message-formatting"""


# --- messages --------------------------------------------------------------------------------------------------------


def written(message: Json) -> str:
    """What people see of the message's own words and of all else in it, in Discord's markup.

    Without messages passed on (`shared`), previews of links (`previews`) and files. What is not known is named.
    """
    own = [embed for embed in dicts(message.get("embeds")) if not _is_preview(embed, message)]
    seen = _joined(
        str(message.get("content") or ""),
        *(part(_sticker, each, unreadable("a sticker")) for each in dicts(message.get("sticker_items"))),
        *(part(_poll, each, unreadable("a poll")) for each in dicts([message.get("poll")])),
        *(part(_embed, each, unreadable("an embed")) for each in own),
        _components(message.get("components")),
        *_of_files(message),
    )
    if seen or _is_loading(message) or shared(message) or any(files_of(message)) or any(previews(message)):
        return seen
    other = [name for name, value in message.items() if value and name not in _ENVELOPE]
    return unreadable(", ".join(other) or "a message without content")


def whole(message: Json, directory: Directory) -> str:
    """All that people see in the message but its files and previews of links, with what it passes on, as readable
    text."""
    passed_on = (f'Forwarded: "{readable(written(each), each, directory)}"' for each in shared(message))
    return _joined(readable(written(message), message, directory), *passed_on, gap="\n")


def spoken(message: Json) -> str:
    """The words in which a mention notifies somebody: those of embeds do not."""
    components = _all_components(message.get("components"))
    texts = (each.get("content") for each in components if each.get("type") == _Type.TEXT_DISPLAY)
    return "\n".join(text for text in (message.get("content"), *texts) if isinstance(text, str))


def shared(message: Json) -> list[Json]:
    """The messages that it passes on; Discord does not say who wrote them."""
    return [each for one in dicts(message.get("message_snapshots")) for each in dicts([one.get("message")])]


def previews(message: Json) -> Iterator[tuple[str, str]]:
    """The pages that Discord shows previews of: where the text comes from, and the text."""
    for embed in dicts(message.get("embeds")):
        if _is_preview(embed, message) and (text := part(_preview, embed, unreadable("a preview"))):
            yield clean(f"the preview of {embed.get('url') or 'a link'}"), text


def _is_preview(embed: Json, message: Json) -> bool:
    """Whether it is of a page that the message links to, and not what its author made: people make none."""
    author = message.get("author")
    if not isinstance(author, dict):
        return False
    is_program = bool(author.get("bot") or message.get("webhook_id"))
    return not is_program or embed.get("type", "rich") in _PREVIEWS


def _is_loading(message: Json) -> bool:
    flags = message.get("flags")
    return isinstance(flags, int) and bool(flags & _LOADING)


def _sticker(sticker: Json) -> str:
    return f"[sticker: {sticker['name']}]"


def _poll(poll: Json) -> str:
    """https://discord.com/developers/docs/resources/poll"""
    counts = {each.get("id"): each.get("count") for each in dicts((poll.get("results") or {}).get("answer_counts"))}
    answers = []
    for answer in dicts(poll["answers"]):
        votes = counts.get(answer.get("answer_id"))
        answers.append(_poll_text(answer["poll_media"]) + (f" ({votes} votes)" if votes else ""))
    several = " (several answers are possible)" if poll.get("allow_multiselect") else ""
    return f"[poll: {_poll_text(poll['question'])} {' / '.join(answers)}{several}]"


def _poll_text(media: Json) -> str:
    emoji = (media.get("emoji") or {}).get("name")
    return " ".join(filter(None, (emoji, media.get("text")))) or "…"


def _joined(*texts: str | None, gap: str = "\n\n") -> str:
    return clean(gap.join(text for text in texts if text))


# --- embeds ----------------------------------------------------------------------------------------------------------


def _embed(embed: Json) -> str:
    """https://discord.com/developers/docs/resources/message#embed-object"""
    author, footer = (embed.get(name) or {} for name in ("author", "footer"))
    fields = (f"{field['name']}: {field['value']}" for field in dicts(embed.get("fields")))
    title, url = embed.get("title"), embed.get("url")
    named = f"[{title}]({url})" if title and url else title
    ended = _joined(footer.get("text"), _time(embed.get("timestamp")), gap=" • ")
    pictures = (f"![image]({each['url']})" for each in _pictures(embed) if _media(each) is None and each.get("url"))
    return _joined(author.get("name"), named, embed.get("description"), *fields, *pictures, ended, gap="\n")


def _preview(embed: Json) -> str:
    site, author = ((embed.get(name) or {}).get("name") for name in ("provider", "author"))
    fields = (f"{field['name']}: {field['value']}" for field in dicts(embed.get("fields")))
    return _joined(site, author, embed.get("title"), embed.get("description"), *fields, gap="\n")


def _time(timestamp: object) -> str:
    if not isinstance(timestamp, str):
        return ""
    return f"{datetime.fromisoformat(timestamp).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _pictures(embed: Json) -> Iterator[Json]:
    return dicts([embed.get("image"), embed.get("thumbnail")])


# --- components ------------------------------------------------------------------------------------------------------


def _components(components: object) -> str:
    return _joined(*(part(_component, each, _unknown(each)) for each in dicts(components)), gap="\n")


def _unknown(component: Json) -> str:
    return unreadable(f"component {component.get('type')}")


def _component(component: Json) -> str:
    match component.get("type"):
        case _Type.ACTION_ROW:
            row = dicts(component["components"])
            return _joined(*(part(_component, each, _unknown(each)) for each in row), gap=" ")
        case _Type.BUTTON:
            emoji = (component.get("emoji") or {}).get("name")
            label, url = _joined(emoji, component.get("label"), gap=" ") or "button", component.get("url")
            return f"[{label}]({url})" if url else f"[{label}]"
        case _Type.SECTION:
            return _joined(_components(component["components"]), _components([component.get("accessory")]), gap="\n")
        case _Type.TEXT_DISPLAY:
            return str(component["content"])
        case _Type.THUMBNAIL:
            return _picture(component)
        case _Type.MEDIA_GALLERY:
            return _joined(*map(_picture, dicts(component["items"])), gap="\n")
        case _Type.FILE | _Type.SEPARATOR:
            return ""
        case _Type.CONTAINER:
            return _components(component["components"])
        case (
            _Type.STRING_SELECT
            | _Type.USER_SELECT
            | _Type.ROLE_SELECT
            | _Type.MENTIONABLE_SELECT
            | _Type.CHANNEL_SELECT
        ):
            options = [option["label"] for option in dicts(component.get("options"))]
            return f"[{_joined(component.get('placeholder') or 'a choice', ' / '.join(options), gap=': ')}]"
    texts = [component.get(name) for name in ("content", "label", "title", "description", "placeholder")]
    inner = [component.get("component"), *(component.get("components") or ()), component.get("accessory")]
    found = _joined(*(text for text in texts if isinstance(text, str)), _components(inner), gap="\n")
    return found or _unknown(component)


def _picture(item: Json) -> str:
    description, media = item.get("description"), item["media"]
    if _media(media) is None:
        return f"![{description or 'image'}]({media['url']})"
    return f"[{_name_of(media)}: {description}]" if description else ""


def _all_components(components: object) -> Iterator[Json]:
    """With those inside of others."""
    for each in dicts(components):
        yield each
        yield from _all_components(each.get("components"))
        yield from _all_components([each.get("accessory"), each.get("component")])


# --- files -----------------------------------------------------------------------------------------------------------


def files_of(message: Json) -> Iterator[FileRef]:
    """Attachments, and the pictures and files that programs show in embeds and components."""
    attachments = [part(_attachment, each, None) for each in dicts(message.get("attachments"))]
    seen = set()
    for file in (*attachments, *(part(_media, media, None) for media in _all_media(message))):
        if file is None or (address := file.ref.partition("?")[0]) in seen:
            continue
        seen.add(address)
        yield file


def _all_media(message: Json) -> Iterator[Json]:
    for embed in dicts(message.get("embeds")):
        if not _is_preview(embed, message):
            yield from _pictures(embed)
    for component in _all_components(message.get("components")):
        for item in (component, *dicts(component.get("items"))):
            yield from dicts([item.get("media"), item.get("file")])


def _attachment(file: Json) -> FileRef:
    kind = str(file.get("content_type") or "application/octet-stream").partition(";")[0]
    size = file.get("size")
    return FileRef(str(file["url"]), clean(str(file["filename"])), kind, size if isinstance(size, int) else None)


def _of_files(message: Json) -> Iterator[str]:
    """What people are told of attachments in words."""
    for file in dicts(message.get("attachments")):
        if part(_attachment, file, None) is None:
            yield unreadable("a file")
        elif isinstance(described := file.get("description"), str) and described:
            yield f"[{file['filename']}: {described}]"


def _media(media: Json) -> FileRef | None:
    """A picture or file, if it is on Discord's own servers: a program may link to any place."""
    url = media.get("url") if media.get("attachment_id") else media.get("proxy_url")
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        return None
    name = _name_of(media)
    kind = media.get("content_type") or guess_type(name)[0] or "application/octet-stream"
    return FileRef(url, name, str(kind).partition(";")[0])


def _name_of(media: Json) -> str:
    return clean(unquote(urlsplit(str(media.get("url") or "")).path).rpartition("/")[2]) or "image"


# --- readable text ---------------------------------------------------------------------------------------------------


def readable(text: str, message: Json, directory: Directory) -> str:
    """The text with names instead of ids."""
    people = {str(user.get("id")): user for user in dicts(message.get("mentions"))}
    return clean(_MARKED.sub(lambda found: part(partial(_named, people, directory), found, found[0]), text))


def _named(people: dict[str, Json], directory: Directory, found: re.Match[str]) -> str:
    if user := found["user"]:
        return f"@{display_name(people[user], people[user].get('member')) if user in people else 'somebody'}"
    if role := found["role"]:
        return f"@{clean(directory.roles.get(role, 'a role'))}"
    if channel := found["channel"]:
        return f"#{channel_name(channel, directory) or 'a channel'}"
    if time := found["time"]:
        return f"{datetime.fromtimestamp(int(time), UTC):%Y-%m-%d %H:%M} UTC"
    if place := found["place"]:
        return f"#{place}"
    return found["emoji"] or found["command"]


def display_name(user: Json, member: Json | None = None) -> str:
    nick = member.get("nick") if isinstance(member, dict) else None
    named = nick or user.get("global_name") or user.get("username") or user["id"]
    return clean(str(named))


def channel_name(id: str, directory: Directory) -> str:
    channel = directory.channels.get(id)
    return clean(channel.name) if channel else ""
