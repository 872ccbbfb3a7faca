"""Everything that people see in a Telegram message, as Markdown and files. Pure; names are those of
https://core.telegram.org/bots/api#message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from channels.message import FileRef
from channels.telegram.formatting import Span, markdown, name_of
from channels.telegram.rich import rich_text
from channels.visible import clean, part, unreadable

Json = dict[str, Any]

_ABOUT = frozenset(
    [
        "message_id",
        "message_thread_id",
        "direct_messages_topic",
        "from",
        "sender_chat",
        "sender_boost_count",
        "sender_business_bot",
        "guest_bot_caller_user",
        "guest_bot_caller_chat",
        "date",
        "chat",
        "forward_origin",
        "reply_to_message",
        "external_reply",
        "quote",
        "reply_to_story",
        "via_bot",
        "edit_date",
        "entities",
        "caption_entities",
        "link_preview_options",
        "suggested_post_info",
        "origin",
        "reply_markup",
        "receiver_user",
    ]
)
"""Fields about a message, which are not its contents. All others that are objects or lists are."""

_SERVICE = frozenset(
    [
        "new_chat_members",
        "left_chat_member",
        "new_chat_photo",
        "message_auto_delete_timer_changed",
        "pinned_message",
        "successful_payment",
        "refunded_payment",
        "users_shared",
        "chat_shared",
        "write_access_allowed",
        "passport_data",
        "proximity_alert_triggered",
        "boost_added",
        "chat_background_set",
        "checklist_tasks_done",
        "checklist_tasks_added",
        "direct_message_price_changed",
        "forum_topic_created",
        "forum_topic_edited",
        "forum_topic_closed",
        "forum_topic_reopened",
        "general_forum_topic_hidden",
        "general_forum_topic_unhidden",
        "giveaway_created",
        "paid_message_price_changed",
        "suggested_post_approved",
        "suggested_post_approval_failed",
        "suggested_post_declined",
        "suggested_post_paid",
        "suggested_post_refunded",
        "video_chat_scheduled",
        "video_chat_started",
        "video_chat_ended",
        "video_chat_participants_invited",
        "managed_bot_created",
        "poll_option_added",
        "poll_option_deleted",
        "chat_owner_left",
        "chat_owner_changed",
        "community_chat_added",
        "community_chat_removed",
        "gift_upgrade_sent",
    ]
)
"""Messages by Telegram about a chat; nobody says anything in them."""

_FILES = {
    "animation": ("animation", ".mp4", "video/mp4"),
    "document": ("file", "", "application/octet-stream"),
    "voice": ("voice", ".ogg", "audio/ogg"),
    "audio": ("audio", ".mp3", "audio/mpeg"),
    "video": ("video", ".mp4", "video/mp4"),
    "video_note": ("video", ".mp4", "video/mp4"),
}
_KINDS = {"voice": "voice message", "video_note": "video", "document": "file"}


# --- text ------------------------------------------------------------------------------------------------------------


def visible(message: Json, names: Sequence[Span] = ()) -> str:
    """What people see of the message but its files: its text without the `names`, and its other contents in words. What
    cannot be read is named."""
    text = part(lambda message: _written(message, names), message, raw_text(message))
    return "\n".join(filter(None, (text, *_others(message), _lost_file(message)))) or _unknown(message)


def about(chat: Json) -> str:
    """What people wrote about the chat: its description and the newest message that they pinned.

    https://core.telegram.org/bots/api#chatfullinfo
    """
    description, pinned = chat.get("description"), chat.get("pinned_message")
    shown = visible(pinned) if pinned else ""
    return _lines(
        f"Description: {clean(str(description))}" if description else None, f"Pinned: {shown}" if shown else None
    )


def raw_text(message: Json) -> str:
    """The text as it was written, without its formatting."""
    written = message.get("text") or message.get("caption") or ""
    return clean(written) if isinstance(written, str) else unreadable("text")


def entities(message: Json) -> Sequence[Json]:
    return message.get("entities") or message.get("caption_entities") or ()


def _written(message: Json, names: Sequence[Span]) -> str:
    return markdown(raw_text(message), entities(message), names)


def _others(message: Json) -> Iterator[str]:
    for kind, read in _IN_WORDS.items():
        if content := message.get(kind):
            if kind == "location" and "venue" in message:
                continue
            yield clean(part(read, content, unreadable(kind.replace("_", " "))))


def _unknown(message: Json) -> str:
    """Names contents of a kind that Telegram has added since."""
    known = _ABOUT | _SERVICE | _FILES.keys() | {"photo", "live_photo"}
    kinds = (kind for kind, content in message.items() if kind not in known and isinstance(content, dict | list))
    return "\n".join(unreadable(clean(kind.replace("_", " "))) for kind in kinds)


def _sticker(sticker: Json) -> str:
    return str(sticker.get("emoji") or "[sticker]")


def _venue(venue: Json) -> str:
    return f"[place: {venue['title']}, {venue['address']} ({_coordinates(venue['location'])})]"


def _location(location: Json) -> str:
    kind = "live location" if location.get("live_period") else "location"
    return f"[{kind}: {_coordinates(location)}]"


def _coordinates(location: Json) -> str:
    return f"{location['latitude']}, {location['longitude']}"


def _contact(contact: Json) -> str:
    name = " ".join(filter(None, (contact["first_name"], contact.get("last_name"))))
    return f"[contact: {name}, {contact['phone_number']}]"


def _poll(poll: Json) -> str:
    votes = poll.get("total_voter_count")
    options = " / ".join(_option(option, bool(votes)) for option in poll["options"])
    described = _formatted(poll, "description")
    return f"[poll: {poll['question']} {options}]" + (f"\n{described}" if described else "")


def _option(option: Json, has_votes: bool) -> str:
    return f"{option['text']} ({option.get('voter_count', 0)})" if has_votes else str(option["text"])


def _dice(dice: Json) -> str:
    return f"{dice['emoji']} {dice['value']}"


def _game(game: Json) -> str:
    return _lines(f"[game: {game['title']}]", game.get("description"), _formatted(game, "text"))


def _checklist(checklist: Json) -> str:
    return _lines(_formatted(checklist, "title"), *map(_task, checklist["tasks"]))


def _task(task: Json) -> str:
    by = task.get("completed_by_user") or task.get("completed_by_chat")
    is_done = bool(by or task.get("completion_date"))
    done_by = f" (done by {name_of(by)})" if by else ""
    return f"- [{'x' if is_done else ' '}] {_formatted(task, 'text')}{done_by}"


def _paid_media(paid: Json) -> str:
    kinds = [str(item["type"]) for item in paid["paid_media"]]
    if "preview" in kinds:
        return f"{unreadable('paid media')} ({len(kinds)} for {paid['star_count']} stars)"
    return f"[paid media: {', '.join(kinds)}]"


def _giveaway(giveaway: Json) -> str:
    chosen = datetime.fromtimestamp(giveaway["winners_selection_date"], UTC)
    chats = ", ".join(map(name_of, giveaway.get("chats") or ()))
    until = f"{giveaway['winner_count']} winners on {chosen:%Y-%m-%d}"
    return f"[giveaway: {', '.join(filter(None, (_prize(giveaway), until, chats)))}]"


def _winners(giveaway: Json) -> str:
    winners = ", ".join(map(name_of, giveaway["winners"]))
    return f"[giveaway, won by {winners}: {_prize(giveaway)}]".replace(": ]", "]")


def _prize(giveaway: Json) -> str:
    months, stars = giveaway.get("premium_subscription_month_count"), giveaway.get("prize_star_count")
    premium = f"{months} months of Telegram Premium" if months else ""
    return ", ".join(filter(None, (giveaway.get("prize_description"), premium, f"{stars} stars" if stars else "")))


def _giveaway_completed(giveaway: Json) -> str:
    return f"[giveaway completed: {giveaway['winner_count']} winners]"


def _gift(info: Json) -> str:
    emoji = (info["gift"].get("sticker") or {}).get("emoji")
    gift = " ".join(filter(None, ("gift", emoji)))
    return _lines(f"[{gift}, worth {info['gift']['star_count']} stars]", _formatted(info, "text"))


def _unique_gift(info: Json) -> str:
    gift = info["gift"]
    return f"[gift: {gift.get('base_name') or gift['name']} #{gift['number']}]"


def _invoice(invoice: Json) -> str:
    price = f"{invoice['total_amount']} {invoice['currency']} (in its smallest unit)"
    return f"[invoice: {invoice['title']}, {invoice['description']}, {price}]"


def _web_app_data(data: Json) -> str:
    return f"{data['button_text']}: {data['data']}"


def _story(story: Json) -> str:
    chat = story.get("chat")
    return unreadable("story") + (f" of {name_of(chat)}" if chat else "")


_IN_WORDS = {
    "rich_message": rich_text,
    "sticker": _sticker,
    "venue": _venue,
    "location": _location,
    "contact": _contact,
    "poll": _poll,
    "dice": _dice,
    "game": _game,
    "checklist": _checklist,
    "paid_media": _paid_media,
    "giveaway": _giveaway,
    "giveaway_winners": _winners,
    "giveaway_completed": _giveaway_completed,
    "gift": _gift,
    "unique_gift": _unique_gift,
    "invoice": _invoice,
    "web_app_data": _web_app_data,
    "story": _story,
}
"""Contents that are neither text nor files."""


def _formatted(content: Json, name: str) -> str:
    """A text beside its entities, like `title` and `title_entities`; those of some texts are just `entities`."""
    text = content.get(name) or ""
    if not isinstance(text, str):
        return unreadable(name)
    marks = content.get(f"{name}_entities") or (content.get("entities") if name == "text" else None) or ()
    return part(lambda text: markdown(text, marks), clean(text), clean(text))


def _lines(*texts: str | None) -> str:
    return "\n".join(text for text in texts if text)


# --- files -----------------------------------------------------------------------------------------------------------


def files(message: Json) -> tuple[FileRef, ...]:
    return tuple(_files(message))


def _lost_file(message: Json) -> str:
    """Names a file whose description cannot be read."""
    lost = [kind for kind in ("photo", "live_photo", *_FILES) if message.get(kind)]
    return "" if files(message) or not lost else unreadable(_KINDS.get(lost[0], lost[0].replace("_", " ")))


def _files(message: Json) -> Iterator[FileRef]:
    live = message.get("live_photo")
    if sizes := message.get("photo") or (live.get("photo") if isinstance(live, dict) else None):
        yield from _photo(sizes)
    for kind, (name, suffix, media_type) in _FILES.items():
        if content := message.get(kind):
            # An animation is also listed as a document.
            yield from part(lambda content: _file(content, name, suffix, media_type), content, ())  # noqa: B023 - called at once
            return
    if paid := message.get("paid_media"):
        yield from part(_paid_files, paid, ())
    if game := message.get("game"):
        yield from part(lambda game: _photo(game["photo"]), game, ())
    if rich := message.get("rich_message"):
        yield from part(lambda rich: tuple(_rich_files(rich["blocks"])), rich, ())


def _rich_files(blocks: Sequence[Json]) -> Iterator[FileRef]:
    for block in blocks:
        if not isinstance(block, dict):
            continue
        media = {kind: content for kind, content in block.items() if kind in ("photo", *_FILES)}
        yield from _files(media | ({"voice": block["voice_note"]} if "voice_note" in block else {}))
        yield from _rich_files(block.get("blocks") or ())


def _paid_files(paid: Json) -> tuple[FileRef, ...]:
    """Its items hold photos and videos as messages do."""
    return tuple(file for item in paid["paid_media"] for file in _files(item))


def _photo(sizes: Sequence[Json]) -> tuple[FileRef, ...]:
    # Telegram lists the largest last.
    return part(lambda sizes: _file(sizes[-1], "photo", ".jpg", "image/jpeg"), sizes, ())


def _file(file: Json, name: str, suffix: str, media_type: str) -> tuple[FileRef, ...]:
    name = file.get("file_name") or f"{name}-{file['file_unique_id']}{suffix}"
    size = file.get("file_size")
    media_type = clean(str(file.get("mime_type") or media_type))
    return (FileRef(clean(str(file["file_id"])), clean(name), media_type, size if isinstance(size, int) else None),)


def kind_of_file(message: Json) -> str:
    """What file it is, for where the file itself is not shown."""
    for kind in ("photo", *_FILES):
        if file := message.get(kind):
            named = file.get("file_name") if isinstance(file, dict) else None
            return f"[{_KINDS.get(kind, kind)}{f' {clean(str(named))}' if named else ''}]"
    return ""
