"""What people said before they called the bot, as the model is told it."""

from __future__ import annotations

from collections.abc import Sequence

from channels.message import ThreadRoot

TALK_BYTES = 16_000
"""Of all messages together; the newest are kept."""

MESSAGE_LENGTH = 4000
"""Characters of one message."""


def talk_note(messages: Sequence[ThreadRoot], *, is_again: bool) -> str:
    """The messages with their authors. `is_again`: the model knows what was said before them. "" without any."""
    lines: list[str] = []
    size = 0
    for message in reversed(messages):
        line = _line(message)
        size += len(line.encode())
        if lines and size > TALK_BYTES:
            break
        lines.insert(0, line)
    if not lines:
        return ""
    since = "since you last read here" if is_again else "here before"
    heading = f"What people wrote {since}, to each other and not to you, oldest first:"
    left_out = ["(earlier ones are left out)"] if len(lines) < len(messages) else []
    return "\n".join([heading, *left_out, *lines])


def _line(message: ThreadRoot) -> str:
    """Lines after the first are indented, so that nobody can write in another's name."""
    text = message.text if len(message.text) <= MESSAGE_LENGTH else f"{message.text[:MESSAGE_LENGTH]}…"
    files = [f"[file: {file.name}]" for file in message.files]
    words = "\n  ".join("\n".join(filter(None, (text, *files))).splitlines())
    return f"- {' '.join(message.sender.split())}: {words}"
