"""Everything that people see in a Slack message, as text. Pure; names are those of
https://docs.slack.dev/reference/block-kit and https://docs.slack.dev/reference/objects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from channels.address import Sender
from channels.message import FileRef
from channels.visible import clean, dicts, part, table, unreadable

Json = dict[str, Any]

CANVAS = "application/vnd.slack-docs"
"""The media type of canvases, whose content is an HTML page."""

_PLACEHOLDERS = frozenset({"", "[no preview available]", "This content can't be displayed."})
"""What stands for blocks where no blocks can be shown."""

_TOKEN = re.compile(r"<([^<>]+)>")
_ESCAPED_TOKEN = re.compile(r"&lt;([@#!][^&<>\s]+)&gt;")
_TEXTS = ("plain_text", "mrkdwn", "raw_text", "raw_number")
_SEEN_KEYS = ("title", "text", "subtitle", "body", "label", "description", "details", "output", "alt_text", "name")
"""Fields of blocks of other types that people are shown."""

_STYLES = (("code", "`"), ("bold", "**"), ("italic", "_"), ("strike", "~~"))


# --- messages --------------------------------------------------------------------------------------------------------


def written(message: Json) -> str:
    """What people see of the message's own words, blocks and attachments, in Slack's markup.

    Without messages passed on (`shared`), previews of links (`previews`) and files. What is not known is named.
    """
    text, blocks = str(message.get("text") or ""), list(dicts(message.get("blocks")))
    is_program = bool(message.get("bot_id")) or not (message.get("user") or message.get("author_id"))
    if not is_program and text.strip():
        # The composer of Slack's clients writes the same as rich text.
        blocks = [block for block in blocks if block.get("type") != "rich_text"]
    seen = _blocks(blocks)
    if text.strip() in _PLACEHOLDERS and seen:
        text = ""
    if not seen or _words(text) not in _words(seen) or not is_program:
        seen = _joined(text, seen)
    own = (each for each in dicts(message.get("attachments")) if not is_shared(each) and not is_preview(each))
    return _joined(seen, *(part(_attachment, each, unreadable("an attachment")) for each in own))


def whole(message: Json, names: Mapping[str, Sender]) -> str:
    """All that people see in the message but its files, with what it passes on, as readable text."""
    passed_on = (quoted(each, names) for each in shared(message))
    links = (f'{source}: "{text}"' for source, text in previews(message, names))
    return _joined(readable(written(message), names), *passed_on, *links, *lost_files(message), gap="\n")


def about(channel: Json) -> str:
    """What people wrote about the channel, in Slack's markup. Slack's app calls the `purpose` its description:
    https://docs.slack.dev/reference/objects/conversation-object"""
    parts = {label: channel.get(name) or {} for label, name in (("Topic", "topic"), ("Description", "purpose"))}
    return "\n".join(f"{label}: {part['value']}" for label, part in parts.items() if part.get("value"))


def quoted(attachment: Json, names: Mapping[str, Sender]) -> str:
    text = readable(written(attachment), names)
    whom = author_name(attachment, names)
    return f'Forwarded from {whom}: "{text}"' if text else f"Forwarded from {whom}"


def shared(message: Json) -> Sequence[Json]:
    """The messages that it passes on or links to."""
    found = []
    for attachment in filter(is_shared, dicts(message.get("attachments"))):
        inner = [block for each in dicts(attachment.get("message_blocks")) for block in _inner_blocks(each)]
        found.append({**attachment, "blocks": attachment.get("blocks") or inner})
    return found


def _inner_blocks(message_blocks: Json) -> Iterator[Json]:
    message = message_blocks.get("message")
    return dicts(message.get("blocks")) if isinstance(message, dict) else iter(())


def is_shared(attachment: Json) -> bool:
    """Whether it is a forwarded or linked message."""
    return bool(attachment.get("is_share") or attachment.get("is_msg_unfurl"))


def is_preview(attachment: Json) -> bool:
    """Whether it is the preview of a page that the message links to, and not what its author made."""
    return any(attachment.get(name) for name in ("from_url", "original_url", "app_unfurl_url"))


def previews(message: Json, names: Mapping[str, Sender]) -> Iterator[tuple[str, str]]:
    """The pages that Slack shows previews of: where the text comes from, and the text."""
    for each in dicts(message.get("attachments")):
        if is_preview(each) and not is_shared(each):
            url = each.get("from_url") or each.get("original_url") or each.get("app_unfurl_url")
            text = part(_attachment, each, unreadable("a preview"))
            yield f"the preview of {readable(str(url), names)}", readable(text, names)


def author_name(attachment: Json, names: Mapping[str, Sender]) -> str:
    """Whose message is passed on."""
    known = names.get(attachment.get("author_id", ""))
    name = attachment.get("author_name") or attachment.get("author_subname") or (known.name if known else "somebody")
    return clean(str(name))


def _joined(*texts: str, gap: str = "\n\n") -> str:
    return gap.join(text for text in texts if text)


def _words(text: str) -> str:
    return "".join(re.findall(r"\w", text.casefold()))


# --- attachments and blocks ------------------------------------------------------------------------------------------


def _attachment(attachment: Json) -> str:
    """https://docs.slack.dev/legacy/legacy-messaging/legacy-secondary-message-attachments"""
    title, link = str(attachment.get("title") or ""), attachment.get("title_link")
    named = f"<{link}|{title}>" if title and isinstance(link, str) and link else title
    fields = (
        _joined(_field(each, "title"), _field(each, "value"), gap=": ") for each in dicts(attachment.get("fields"))
    )
    texts = (_field(attachment, "pretext"), _field(attachment, "author_name"), named, _field(attachment, "text"))
    blocks, footer = _blocks(list(dicts(attachment.get("blocks")))), _field(attachment, "footer")
    shown = _joined(*texts, *fields, blocks, footer, gap="\n")
    if shown:
        return shown
    fallback = _field(attachment, "fallback")
    image = attachment.get("image_url") or attachment.get("thumb_url")
    if fallback in _PLACEHOLDERS:
        return f"<{image}>" if image else unreadable("an attachment")
    return fallback


def _field(attachment: Json, name: str) -> str:
    value = attachment.get(name)
    return value if isinstance(value, str) else ""


def _blocks(blocks: Sequence[Json]) -> str:
    return _joined(*(part(_block, block, _unknown(block)) for block in blocks), gap="\n")


def _unknown(block: Json) -> str:
    return unreadable(_escaped(str(block.get("type") or "a block")))


def _block(block: Json) -> str:
    match block.get("type"):
        case "rich_text":
            return _rich(block)
        case "section":
            texts = [_text(each) for each in (block.get("text"), *(block.get("fields") or ()))]
            return _joined(*texts, _element(block.get("accessory")), gap="\n")
        case "header":
            return f"## {_text(block['text'])}"
        case "context" | "actions" | "context_actions":
            return _joined(*map(_element, block["elements"]), gap=" ")
        case "markdown":
            # Slack's tokens work in Markdown too.
            return _ESCAPED_TOKEN.sub(r"<\1>", _escaped(block["text"]))
        case "table" | "data_table":
            caption = block.get("caption")
            return _joined(_text(caption), table([[_cell(cell) for cell in row] for row in block["rows"]]), gap="\n")
        case "image":
            return _joined(_text(block.get("title")), _image(block), gap="\n")
        case "divider" | "file":
            return ""
    found = _joined(*dict.fromkeys(_texts_in(block)), gap="\n")
    return found or _unknown(block)


def _texts_in(value: object) -> Iterator[str]:
    """The texts somewhere in a block, in their order."""
    if isinstance(value, list):
        for each in value:
            yield from _texts_in(each)
    elif isinstance(value, dict):
        if value.get("type") in _TEXTS:
            yield _text(value)
        elif value.get("type") == "rich_text":
            yield _rich(value)
        else:
            for key, each in value.items():
                if isinstance(each, str) and key in _SEEN_KEYS:
                    yield _escaped(each)
                else:
                    yield from _texts_in(each)


def _text(text: object) -> str:
    """A text object: https://docs.slack.dev/reference/block-kit/composition-objects/text-object"""
    if isinstance(text, str):
        return _escaped(text)
    if not isinstance(text, dict):
        return ""
    value = text.get("text", text.get("value", ""))
    return str(value) if text.get("type") == "mrkdwn" else _escaped(str(value))


def _cell(cell: Json) -> str:
    return _rich(cell) if cell.get("type") == "rich_text" else _joined(*_texts_in(cell), gap=" ")


def _element(element: object) -> str:
    if not isinstance(element, dict):
        return ""
    match element.get("type"):
        case "image":
            return _image(element)
        case "plain_text" | "mrkdwn":
            return _text(element)
        case "button" | "workflow_button":
            return f"[{_text(element.get('text'))}]"
    return _joined(*_texts_in(element.get("placeholder")), *_texts_in(element.get("options")), gap=" / ")


def _image(image: Json) -> str:
    alt, url = _escaped(str(image.get("alt_text") or "image")), image.get("image_url")
    return f"![{alt}]({_escaped(url)})" if isinstance(url, str) and url else f"[image: {alt}]"


# --- rich text -------------------------------------------------------------------------------------------------------


def _rich(block: Json) -> str:
    """Rich text as Markdown, with Slack's tokens: https://docs.slack.dev/reference/block-kit/blocks/rich-text-block"""
    lines: list[str] = []
    numbers: dict[int, int] = {}
    for element in dicts(block.get("elements")):
        text = part(_inline, element, _unknown(element))
        match element.get("type"):
            case "rich_text_list":
                lines += part(partial(_list, numbers), element, [text])
                continue
            case "rich_text_preformatted":
                text = f"```\n{text}\n```"
            case "rich_text_quote":
                text = "\n".join(f"&gt; {line}" for line in text.split("\n"))
        numbers.clear()
        if text.strip():
            lines.append(text.rstrip("\n"))
    return "\n".join(lines)


def _list(numbers: dict[int, int], element: Json) -> list[str]:
    """A list within a list comes as one of its own, between two parts of the outer one."""
    indent = int(element.get("indent") or 0)
    lines = []
    for deeper in [level for level in numbers if level > indent]:
        del numbers[deeper]
    if "offset" in element:
        numbers[indent] = int(element["offset"] or 0)
    for item in dicts(element.get("elements")):
        numbers[indent] = numbers.get(indent, 0) + 1
        match element.get("style"):
            case "ordered":
                mark = f"{numbers[indent]}."
            case "checked":
                mark = "- [x]"
            case "unchecked":
                mark = "- [ ]"
            case _:
                mark = "-"
        lines.append(f"{'    ' * indent}{mark} {_inline(item)}")
    return lines


def _inline(element: Json) -> str:
    match element.get("type"):
        case "text":
            return _styled(_escaped(element["text"]), element.get("style"))
        case "link":
            url, label = _escaped(element["url"]).replace("|", "%7C"), _escaped(element.get("text") or "")
            return f"<{url}|{label}>" if label else f"<{url}>"
        case "emoji":
            return f":{_escaped(element['name'])}:"
        case "user":
            return f"<@{element['user_id']}>"
        case "usergroup":
            return f"<!subteam^{element['usergroup_id']}>"
        case "channel":
            return f"<#{element['channel_id']}>"
        case "broadcast":
            return f"<!{element['range']}>"
        case "date":
            return _escaped(str(element.get("fallback") or element.get("timestamp") or ""))
        case "color":
            return _escaped(str(element["value"]))
    inner = list(dicts(element.get("elements")))
    if inner or "elements" in element:
        return "".join(map(_inline, inner))
    return _joined(*_texts_in(element)) or _unknown(element)


def _styled(text: str, style: object) -> str:
    """Marks stand beside the words, not beside spaces."""
    words = text.strip()
    if not words or not isinstance(style, dict):
        return text
    before, after = text[: text.index(words)], text[text.index(words) + len(words) :]
    for name, mark in _STYLES:
        if style.get(name):
            words = f"{mark}{words}{mark}"
    return f"{before}{words}{after}"


# --- readable text ---------------------------------------------------------------------------------------------------


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def readable(text: str, names: Mapping[str, Sender]) -> str:
    """Slack's markup as readable text: https://docs.slack.dev/messaging/formatting-message-text#retrieving-messages"""
    expanded = _TOKEN.sub(lambda token: part(partial(_expanded, names), token[1], token[0]), text)
    return clean(expanded.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def _expanded(names: Mapping[str, Sender], token: str) -> str:
    target, _, label = token.partition("|")
    match target[:1]:
        case "@":
            return f"@{names[target[1:]].name if target[1:] in names else label or target[1:]}"
        case "#":
            known = names.get(target[1:])
            return f"#{label or (known.name if known else target[1:])}"
        case "!":
            word = target[1:].partition("^")[0]
            if word == "subteam" and not label:
                return f"@{target.partition('^')[2]}"
            return label if label and word in ("subteam", "date") else f"@{label.lstrip('@') or word}"
        case "":
            return f"<{token}>"
    return _link(target.removeprefix("mailto:").removeprefix("tel:"), label)


def _link(url: str, label: str) -> str:
    bare = url.removeprefix("https://").removeprefix("http://").rstrip("/")
    return url if not label or label.rstrip("/") in (url, bare) else f"{label} ({url})"


# --- files -----------------------------------------------------------------------------------------------------------


def files_of(*messages: Json) -> Iterator[FileRef]:
    """Without those that cannot be read (`lost_files`)."""
    for message in messages:
        for file in dicts(message.get("files")):
            if not _loss(file) and (found := part(_file, file, None)):
                yield found


def lost_files(message: Json) -> Iterator[str]:
    """In the place of files that people see as a mere note."""
    for file in dicts(message.get("files")):
        if loss := _loss(file):
            yield loss
        elif part(_file, file, None) is None:
            yield unreadable("a file")


def _loss(file: Json) -> str:
    match file.get("mode"):
        case "tombstone":
            return "[a file that was deleted]"
        case "hidden_by_limit":
            return "[a file that Slack hides: it is older than the workspace's plan shows]"
        case "list":
            return unreadable(f"the Slack list {file.get('title') or file.get('name') or ''}".rstrip())
    return ""


def _file(file: Json) -> FileRef:
    """`ref` is the file's id, a space and its URL; without a URL for files stored by another service."""
    elsewhere = file.get("is_external") is True or file.get("mode") == "external"
    url = "" if elsewhere else file.get("url_private_download") or file.get("url_private") or ""
    name = file.get("name") or file.get("title") or f"file-{file['id']}"
    media_type = file.get("mimetype") or "application/octet-stream"
    size = file.get("size")
    if media_type == CANVAS:
        # The size is not that of the page.
        title = file.get("title") or file.get("name") or "canvas"
        return FileRef(f"{file['id']} {file.get('url_private') or url}", f"{clean(title)}.html", CANVAS)
    return FileRef(f"{file['id']} {url}", clean(name), media_type, size if isinstance(size, int) else None)
