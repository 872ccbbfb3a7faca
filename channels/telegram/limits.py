"""Telegram's limits on what a bot sends, each with its source. Texts are counted in UTF-16 units, after entities
parsing; rich messages in characters."""

from __future__ import annotations

TEXT = 4096
"""https://core.telegram.org/bots/api#sendmessage. Apps cut a longer text of a person there, too."""

CAPTION = 1024
"""https://core.telegram.org/bots/api#sendphoto"""

ENTITIES = 100
"""https://core.telegram.org/api/entities: the others lose their formatting, and their addresses, without an error."""

ENTITIES_BYTES = 9500
"""https://github.com/tdlib/telegram-bot-api/issues/165: about as many bytes for all entities of a message together,
which are mostly links; beyond it ENTITIES_TOO_LONG."""

ENTITY_BYTES = 24
"""What an entity takes of these without its link, at most."""

ALBUM = 10
"""https://core.telegram.org/bots/api#sendmediagroup: 2 to 10 items."""

PHOTO_BYTES = 10_000_000
PHOTO_EDGES = 10_000
"""Width and height together, in pixels."""
PHOTO_RATIO = 20
"""Of the longer edge to the shorter. https://core.telegram.org/bots/api#sendphoto has all three."""

FILE_BYTES = 50_000_000
"""https://core.telegram.org/bots/api#senddocument"""

BUTTONS = 100
"""Of one message, as reported: https://github.com/yagop/node-telegram-bot-api/issues/200"""

KEYBOARD_BYTES = 10_000
"""Of all buttons of one message, as reported: https://github.com/tginfo/Telegram-Limits/issues/187"""

BUTTON_DATA_BYTES = 64
"""https://core.telegram.org/bots/api#inlinekeyboardbutton"""

COMMAND_NAME = 32
COMMANDS = 100
"""https://core.telegram.org/bots/api#setmycommands"""

COMMAND_DESCRIPTION = 256
"""https://core.telegram.org/bots/api#botcommand"""

PRESS_NOTICE = 200
"""https://core.telegram.org/bots/api#answercallbackquery"""
