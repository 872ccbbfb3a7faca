"""Telegram's rich messages as Markdown. Pure; names are those of https://core.telegram.org/bots/api#richmessage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from channels.visible import clean, part, table, unreadable

Json = dict[str, Any]

_STYLES = {"bold": "**", "italic": "_", "strikethrough": "~~", "spoiler": "||", "code": "`"}
_MEDIA = ("photo", "video", "animation", "audio", "voice_note", "document", "map")


def rich_text(message: Json) -> str:
    return _blocks(message["blocks"])


def _blocks(blocks: object, gap: str = "\n\n") -> str:
    """They are read one by one: a block that cannot be read costs only itself."""
    if not isinstance(blocks, list):
        return ""
    return gap.join(filter(None, (part(_block, block, _unknown(block)) for block in blocks)))


def _unknown(block: object) -> str:
    kind = block.get("type") if isinstance(block, dict) else None
    return unreadable(clean(str(kind or "a block")).replace("_", " "))


def _block(block: Json) -> str:
    kind = block["type"]
    match kind:
        case "divider":
            return "---"
        case "anchor" | "thinking":
            return ""
        case "heading":
            return f"{'#' * int(block.get('size') or 2)} {_text(block['text'])}"
        case "pre":
            return f"```{block.get('language') or ''}\n{_plain(block['text'])}\n```"
        case "mathematical_expression":
            return f"$$\n{block['expression']}\n$$"
        case "list":
            return "\n".join(map(_item, block["items"]))
        case "blockquote" | "expandable_blockquote" | "pullquote":
            return _quoted("\n\n".join(filter(None, _inside(block))))
        case "table":
            rows = [[_text(cell.get("text")) for cell in row] for row in block["cells"]]
            return "\n\n".join(filter(None, (_text(block.get("caption")), table(rows))))
    inside = list(filter(None, _inside(block)))
    if not inside:
        return f"[{kind.replace('_', ' ')}]" if kind in _MEDIA else _unknown(block)
    return "\n\n".join([f"[{kind.replace('_', ' ')}]", *inside] if kind in _MEDIA else inside)


def _inside(block: Json) -> Iterator[str]:
    yield _text(block.get("summary"))
    yield _text(block.get("text"))
    yield _blocks(block.get("blocks"))
    caption = block.get("caption")
    if isinstance(caption, dict) and "type" not in caption:
        yield _text(caption.get("text"))
        yield _text(caption.get("credit"))
    else:
        yield _text(caption)
    yield _text(block.get("credit"))


def _item(item: Json) -> str:
    label = str(item.get("label") or "-")
    mark = f"{label} " if label[:1] not in "•◦▪" else "- "
    box = ("[x] " if item.get("is_checked") else "[ ] ") if item.get("has_checkbox") else ""
    first, *more = _blocks(item["blocks"], "\n").split("\n")
    return "\n".join([mark + box + first, *(f"  {line}" for line in more)])


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def _text(text: object) -> str:
    """A rich text is a string, a list of rich texts, or an object around one."""
    match text:
        case str():
            return clean(text)
        case list():
            return "".join(map(_text, text))
        case {"type": "url", "url": str(url), "text": inner}:
            shown = _text(inner)
            return shown if url.strip("/") in shown else f"[{shown}]({clean(url)})"
        case {"type": "mathematical_expression", "expression": str(expression)}:
            return f"\\({clean(expression)}\\)"
        case {"type": "custom_emoji", "alternative_text": str(emoji)}:
            return clean(emoji)
        case {"type": str(kind), "text": inner}:
            style, shown = _STYLES.get(kind, ""), _text(inner)
            return f"{style}{shown}{style}" if shown.strip() else shown
        case {"text": inner}:
            return _text(inner)
        case _:
            return ""


def _plain(text: object) -> str:
    match text:
        case str():
            return clean(text)
        case list():
            return "".join(map(_plain, text))
        case {"text": inner}:
            return _plain(inner)
        case _:
            return ""
